//! A manager that runs, and what can be asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::tls::Tls;
use super::{HOLDFAST, PATIENCE, until};

/// A manager's process; killed at the end if it still runs.
pub(crate) struct Manager {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) dir: TempDir,
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the manager's log:\n{}", self.log());
        }
    }
}

/// A manager with these flags (`-…`) and variables (`NAME=value`), and nothing else but a directory for
/// its status.
pub(crate) fn command(words: &[&str], dir: &TempDir) -> Command {
    let mut command = Command::new(HOLDFAST);
    command.arg("manager").env_clear().env("STATUS_FILE", dir.path().join("status.json"));
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !word.starts_with('-') => command.env(name, value),
            _ => command.arg(word),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Manager {
    pub(crate) fn start(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(words, dir)
    }

    pub(crate) fn start_in(words: &[&str], dir: TempDir) -> Self {
        let mut child = command(words, &dir).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (written, stderr) = (Arc::clone(&lines), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Self { child, lines, dir }
    }

    /// One with a proxy, and an API server that says yes to everything.
    pub(crate) fn with_proxy(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(dir.path());
        let server = tls.serve(|_| answer(200, "ok"));
        let kubeconfig = tls.kubeconfig(server);
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        Self::start_in(&[&["PROXY_MODE=auth", &kubeconfig], words].concat(), dir)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn status_file(&self) -> PathBuf {
        self.dir.path().join("status.json")
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line with these words, and has it.
    pub(crate) fn says(&self, words: &str) -> String {
        let mut found = None;
        until(words, || {
            let lines = self.lines.lock().unwrap();
            found = lines.iter().find(|line| line.contains(words)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// How many lines have these words.
    pub(crate) fn said(&self, words: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    /// Waits until `/readyz` answers so.
    pub(crate) fn ready(&self, is: bool) -> Duration {
        let status = if is { 200 } else { 500 };
        let health = SocketAddr::from(([127, 0, 0, 1], 8081));
        until(if is { "ready" } else { "not ready" }, || {
            get(health, "/readyz").is_some_and(|(code, _)| code == status)
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended; its status, and how long it took.
    pub(crate) fn ends(&mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, begin.elapsed());
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Status and body of a plain GET; `None` if nobody answers.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let (head, body) = exchange(address, path)?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

/// Head and body.
pub(crate) fn exchange(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// An answer for [`Tls::serve`].
pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
