//! What appears, and what else waits for it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Something to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    File,
    Port,
    Page,
}

impl Thing {
    pub(super) const ALL: [Self; 3] = [Self::File, Self::Port, Self::Page];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::File => "a file appears",
            Self::Port => "a port opens",
            Self::Page => "a server answers",
        }
    }

    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::File => "file:",
            Self::Port => "tcp:",
            Self::Page => "http:",
        }
    }
}

/// One of them, before it is there.
pub(super) struct Appearance {
    thing: Thing,
    path: PathBuf,
    address: SocketAddr,
}

impl Appearance {
    /// It will be at this path, or at a port that was free a moment ago.
    pub(super) fn new(thing: Thing, path: PathBuf) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { thing, path, address })
    }

    /// What `holdfast wait` calls it.
    pub(super) fn target(&self) -> String {
        match self.thing {
            Thing::File => format!("file:{}", self.path.display()),
            Thing::Port => format!("tcp://{}", self.address),
            Thing::Page => format!("http://{}/", self.address),
        }
    }

    /// It is there until the result is dropped; a file stays.
    pub(super) fn appear(&self) -> Result<There> {
        if self.thing == Thing::File {
            fs::write(&self.path, "")?;
            return Ok(There::File);
        }
        let listener = TcpListener::bind(self.address)?;
        if self.thing == Thing::Port {
            return Ok(There::Port { _listener: listener });
        }
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let answers = std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
        });
        Ok(There::Page { over, address: self.address, answers: Some(answers) })
    }
}

pub(super) enum There {
    File,
    Port { _listener: TcpListener },
    Page { over: Arc<AtomicBool>, address: SocketAddr, answers: Option<JoinHandle<()>> },
}

impl Drop for There {
    fn drop(&mut self) {
        if let Self::Page { over, address, answers } = self {
            over.store(true, Ordering::SeqCst);
            // One more connection, so that it looks.
            if TcpStream::connect(*address).is_ok()
                && let Some(answers) = answers.take()
            {
                let _ = answers.join();
            }
        }
    }
}

/// A program that waits.
pub(super) struct Peer {
    pub(super) name: &'static str,
    things: &'static [Thing],
    program: &'static str,
    /// How long it takes until it waits.
    startup: Duration,
}

/// wait4x and dockerize are in no registry that could be reached: no Debian package, and Go's proxy does not
/// serve them.
pub(super) const PEERS: [Peer; 2] = [
    Peer {
        name: "`wait-for-it` of Debian",
        things: &[Thing::Port],
        program: "wait-for-it",
        startup: Duration::from_millis(300),
    },
    Peer {
        name: "`wait-on` of npm",
        things: &Thing::ALL,
        program: "wait-on",
        startup: Duration::from_millis(1500),
    },
];

/// The version of wait-on.
const WAIT_ON: &str = "wait-on@8.0.5";

/// Installs what comes from npm, into a directory that goes with the result.
pub(super) fn install() -> Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("holdfast-npm-").tempdir()?;
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(directory.path())
        .arg(WAIT_ON)
        .output()
        .context("there is no npm (apt-get install npm)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm cannot install {WAIT_ON}: {said}");
    Ok(directory)
}

impl Peer {
    pub(super) fn can(&self, thing: Thing) -> bool {
        self.things.contains(&thing)
    }

    /// Starts it, as its documentation says; the result ends when it has.
    pub(super) fn start(
        &self,
        npm: &tempfile::TempDir,
        what: &Appearance,
    ) -> Result<impl FnOnce() -> Result<Instant> + use<>> {
        let name = self.name;
        let mut command = match self.program {
            "wait-on" => {
                let mut command = Command::new(npm.path().join("node_modules/.bin/wait-on"));
                command.args(["--timeout", "20000", &resource(what)]);
                command
            }
            program => {
                let mut command = Command::new(program);
                command.args(["--quiet", "--timeout=20", &what.address.to_string()]);
                command
            }
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("cannot run {name}"))?;
        std::thread::sleep(self.startup);
        ensure!(child.try_wait()?.is_none(), "{name} does not wait");
        Ok(move || {
            ensure!(child.wait()?.success(), "{name} failed");
            Ok(Instant::now())
        })
    }
}

/// What wait-on calls it.
fn resource(what: &Appearance) -> String {
    match what.thing {
        Thing::File => format!("file:{}", what.path.display()),
        Thing::Port => format!("tcp:{}", what.address),
        Thing::Page => format!("http-get://{}/", what.address),
    }
}
