//! The servers that probes and hooks talk to, and the signal that ends them all.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::grpc;
use crate::moment::Clock;
use crate::script::{Answer, Script};
use crate::trace::Trace;

/// How often it is looked whether a port has to be opened or closed, in milliseconds.
const LOOK: u8 = 100;

/// SIGTERM as something to wait for.
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn block() -> Result<Self, String> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().map_err(|e| format!("cannot block SIGTERM: {e}"))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map(Self)
            .map_err(|e| format!("cannot listen for SIGTERM: {e}"))
    }

    /// Waits for the signal; false if the time was over first.
    pub(crate) fn wait(&self, time: Option<Duration>) -> Result<bool, String> {
        // Rounded up: waking a moment early would only wait again.
        let timeout = time.map(|t| t + Duration::from_micros(999));
        let timeout = timeout
            .map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX));
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(format!("poll: {e}")),
        }
        self.0.read_signal().map(|s| s.is_some()).map_err(|e| format!("signalfd: {e}"))
    }
}

/// What all servers answer from.
pub(crate) struct Answering {
    trace: Trace,
    script: Script,
    clock: Clock,
}

impl Answering {
    fn now(&self, probe: &str) -> Answer {
        self.script.answers(probe).at(Clock::now(), |at| self.clock.when(at))
    }

    /// The answer to a probe now, written down.
    pub(crate) fn answer(&self, probe: &str) -> Answer {
        let answer = self.now(probe);
        self.trace.write(&format!("probe {probe} {}", answer.text()));
        answer
    }
}

/// Starts a server for each port of the script.
pub(crate) fn start(trace: &Trace, clock: &Clock, script: &Script) -> Result<(), String> {
    let (trace, clock) = (trace.clone(), clock.clone());
    let common = Arc::new(Answering { trace, script: script.clone(), clock });
    if let Some(port) = script.ports.http {
        listen(port, &common, http)?;
    }
    if let Some(port) = script.ports.grpc {
        listen(port, &common, grpc::serve)?;
    }
    for (probe, port) in script.ports.tcp.clone() {
        let common = Arc::clone(&common);
        thread::spawn(move || tcp(&common, &probe, port));
    }
    Ok(())
}

fn listen(
    port: u16,
    common: &Arc<Answering>,
    serve: fn(&Answering, TcpStream) -> std::io::Result<()>,
) -> Result<(), String> {
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|e| format!("port {port}: {e}"))?;
    let common = Arc::clone(common);
    thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let common = Arc::clone(&common);
            // A caller that goes away in the middle is the caller's affair.
            thread::spawn(move || serve(&common, stream));
        }
    });
    Ok(())
}

/// `GET /PROBE` answers as the script says; `GET /HOOK` of a hook is written down and passes.
fn http(common: &Answering, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let answer = match path {
        "startup" | "readiness" | "liveness" => common.answer(path),
        hook => {
            common.trace.write(&format!("{hook} begin"));
            common.trace.write(&format!("{hook} end 0"));
            Answer::Ok
        }
    };
    let status = match answer {
        Answer::Ok => "200 OK",
        Answer::Bad => "500 Internal Server Error",
        Answer::Hang => {
            thread::sleep(Duration::from_secs(3600));
            return Ok(());
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A port that is open while the answer to its probe is `ok`. Who connects is let go again.
fn tcp(common: &Answering, probe: &str, port: u16) {
    let constant = common.script.answers(probe).is_constant();
    loop {
        let listener = match common.now(probe) {
            Answer::Ok => TcpListener::bind(("0.0.0.0", port)).ok(),
            Answer::Bad | Answer::Hang => None,
        };
        let timeout = if constant && listener.is_some() { PollTimeout::NONE } else { LOOK.into() };
        let Some(listener) = listener else {
            thread::sleep(Duration::from_millis(LOOK.into()));
            continue;
        };
        while constant || common.now(probe) == Answer::Ok {
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, timeout).is_ok_and(|n| n > 0) && listener.accept().is_ok() {
                common.trace.write(&format!("probe {probe} ok"));
            }
        }
    }
}
