//! Real agents, each with its ports on the loopback and its files in a directory of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::sockets;

/// Waits for what other programs do at their own pace.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > limit => panic!("{what}: not within {limit:?}: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    rpc: SocketAddr,
    process: Child,
    directory: tempfile::TempDir,
}

impl Agent {
    /// Starts an agent; `more` are further arguments.
    pub(crate) fn start(name: &str, more: &[&str]) -> Self {
        // Another process may take a port between these lines and the agent's own bind: then another try.
        for _ in 0..5 {
            if let Some(agent) = Self::try_start(name, more) {
                return agent;
            }
        }
        panic!(
            "serf agent does not start; it is Debian's package serf, which `cargo xtask test` installs"
        );
    }

    fn try_start(name: &str, more: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let ((udp, tcp), rpc) = (sockets(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, rpc_address) = (tcp.local_addr().unwrap(), rpc.local_addr().unwrap());
        drop((udp, tcp, rpc));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        // So that no agent outlives a test that is killed.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "serf"])
            .args(["agent", "-node", name, "-bind", &address.to_string()])
            .args(["-rpc-addr", &rpc_address.to_string(), "-profile", "lan", "-log-level", "debug"])
            .args(more)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv is in every Debian (util-linux)");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            let agent = serf(rpc_address, &["members"]);
            if agent.is_ok() {
                let name = name.to_owned();
                return Some(Self { name, address, rpc: rpc_address, process, directory });
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        let _ = process.kill();
        let _ = process.wait();
        None
    }

    /// What a command of `serf` prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String, String> {
        serf(self.rpc, words)
    }

    /// A member's status and tags as this agent lists them.
    pub(crate) fn sees(&self, name: &str) -> Option<(String, serde_json::Value)> {
        let members = self.ask(&["members", "-format", "json"]).ok()?;
        let members: serde_json::Value = serde_json::from_str(&members).ok()?;
        let member = members["members"].as_array()?.iter().find(|m| m["name"] == name)?.clone();
        Some((member["status"].as_str()?.to_owned(), member["tags"].clone()))
    }

    /// Waits until this agent lists a member so.
    pub(crate) fn wait_to_see(&self, name: &str, status: &str, limit: Duration) {
        eventually(&format!("{} sees {name} {status}", self.name), limit, || {
            match self.sees(name) {
                Some((seen, _)) if seen == status => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        });
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What it says is wrong with what it heard. That something took too long may be the machine's fault, and what
    /// is for another name may be of another test, whose ports were given again.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let excused = ["timeout", "connection refused", "unexpected node", "Failed fallback"];
        let wrong =
            |line: &&str| line.contains("[ERR]") && !excused.iter().any(|e| line.contains(e));
        log.lines().filter(wrong).map(str::to_owned).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serf(rpc: SocketAddr, words: &[&str]) -> Result<String, String> {
    let (command, rest) = words.split_first().unwrap();
    let output = Command::new("serf")
        .arg(command)
        .args(["-rpc-addr", &rpc.to_string()])
        .args(rest)
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text + &String::from_utf8_lossy(&output.stderr))
    }
}
