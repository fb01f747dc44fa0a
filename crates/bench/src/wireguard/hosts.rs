//! Hosts: threads with a network and a /run/wireguard of their own, and the programs on them. All of it
//! ends with them.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A machine of its own, as far as networks are concerned.
pub(super) struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    network: String,
}

/// A program that ends with this value.
pub(super) struct Program(Child);

impl Program {
    /// A number, for which it is asked by a line.
    pub(super) fn ask(&mut self) -> Result<f64> {
        self.0.stdin.as_mut().context("it was started without a pipe")?.write_all(b"\n")?;
        Ok(self.line()?.parse()?)
    }

    /// The next line that it prints.
    pub(super) fn line(&mut self) -> Result<String> {
        let stdout = self.0.stdout.as_mut().context("it was started without a pipe")?;
        let mut line = Vec::new();
        let mut byte = [0];
        // Byte by byte: what follows is somebody else's.
        while std::io::Read::read(stdout, &mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        ensure!(!line.is_empty(), "it ended without a word");
        Ok(String::from_utf8(line)?)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn settle() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    fs::create_dir_all("/run/wireguard")?;
    mount(Some("none"), "/run/wireguard", Some("tmpfs"), MsFlags::empty(), none)?;
    for which in ["all", "default"] {
        // A hundred peers share a machine.
        fs::write(format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"), "0")?;
    }
    Ok(())
}

impl Host {
    pub(super) fn new() -> Result<Self> {
        let (jobs, receiver) = channel::<Job>();
        let (ready, settled) = channel();
        let thread = thread::spawn(move || {
            let result = settle().map(|()| nix::unistd::gettid());
            let failed = result.is_err();
            let _ = ready.send(result);
            if !failed {
                receiver.into_iter().for_each(|job| job());
            }
        });
        let id = settled.recv()?.context("a network namespace takes root")?;
        let network = format!("/proc/{}/task/{id}/ns/net", std::process::id());
        let host = Self { jobs: Some(jobs), thread: Some(thread), network };
        host.must("ip link set lo up", "")?;
        Ok(host)
    }

    /// Joins two hosts: 192.0.2.1 and .2.
    pub(super) fn wire(one: &Self, two: &Self) -> Result<()> {
        one.must(&format!("ip link add wire type veth peer name wire netns {}", two.network), "")?;
        for (host, number) in [(one, 1), (two, 2)] {
            host.must(&format!("ip addr add 192.0.2.{number}/24 dev wire"), "")?;
            host.must("ip link set wire up", "")?;
        }
        Ok(())
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = channel();
        let jobs = self.jobs.as_ref().context("a host without a thread")?;
        let job = move || drop(sender.send(job()));
        jobs.send(Box::new(job)).map_err(|_| anyhow!("the host is gone"))?;
        Ok(receiver.recv()?)
    }

    /// Starts a program there.
    pub(super) fn start(&self, words: &[&str]) -> Result<Program> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let named = words.join(" ");
        let spawn = move || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).args(words);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        };
        Ok(Program(self.run(spawn)?.with_context(|| named)?))
    }

    /// Runs a program there that must succeed, and returns what it prints.
    pub(super) fn must(&self, words: &str, input: &str) -> Result<String> {
        let (named, input) = (words.to_owned(), input.to_owned());
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let run = move || -> Result<Output> {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        };
        let output = self.run(run)?.with_context(|| named.clone())?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{named}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
