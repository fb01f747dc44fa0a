//! `holdfast agent` with real processes, also as PID 1 of a namespace, and the commands that talk to it.
//!
//! Some tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test program")]

mod doctor;
mod pid1;
mod services;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The binary under test.
const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is the case.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An agent with directories of its own.
struct Agent {
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// What comes before `holdfast` on its command line.
    wrapper: &'static [&'static str],
}

impl Agent {
    fn new(wrapper: &'static [&'static str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        Self { dir, child: None, wrapper }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A manifest, written as an editor writes it: elsewhere, and moved.
    fn manifest(&self, file: &str, text: &str) {
        let part = self.path("manifests").join(".part");
        fs::write(&part, text).unwrap();
        fs::rename(part, self.path("manifests").join(file)).unwrap();
    }

    /// A pod of one container that runs a script of sh.
    fn pod(&self, file: &str, name: &str, script: &str) {
        self.manifest(file, &pod(name, script, self.dir.path()));
    }

    fn start(&mut self, more: &[&str]) {
        let words = [self.wrapper, &[HOLDFAST, "agent"]].concat();
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["--manifests", self.path("manifests").to_str().unwrap()])
            .args(["--state-dir", self.path("state").to_str().unwrap()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Runs `holdfast WORDS` on this agent: exit code, stdout, stderr.
    fn holdfast(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(HOLDFAST)
            .args(words)
            .env("HOLDFAST_STATE_DIR", self.path("state"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn status(&self) -> Option<serde_json::Value> {
        let (_, out, _) = self.holdfast(&["status", "-o", "json"]);
        serde_json::from_str(&out).ok()
    }

    /// STATUS of a pod.
    fn sees(&self, pod: &str) -> Option<String> {
        let status = self.status()?;
        let pod = status["pods"].as_array()?.iter().find(|p| p["name"] == pod)?.clone();
        Some(pod["status"].as_str()?.to_owned())
    }

    fn wait_for(&self, pod: &str, status: &str) {
        let what = format!("{pod} is {status}; the log has\n{}", self.log());
        until(&what, || self.sees(pod).as_deref() == Some(status));
    }

    /// What there still is of pods' volumes.
    fn pods_left(&self) -> usize {
        let entries = fs::read_dir(self.path("state/pods")).into_iter().flatten().flatten();
        entries.filter(|e| !e.file_name().to_string_lossy().starts_with('.')).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The agent's own process, as this test sees it.
    fn pid(&self) -> Pid {
        let child = self.child.as_ref().unwrap().id();
        let pid = if self.wrapper.is_empty() { child } else { only_child(child) };
        Pid::from_raw(pid.cast_signed())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Its exit code.
    fn wait(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        until("the agent ends", || child.try_wait().unwrap().is_some());
        self.child.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Its containers go with it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The child of a wrapper that has become nothing else.
fn only_child(parent: u32) -> u32 {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    list.split_whitespace().next().unwrap().parse().unwrap()
}

/// A pod that sees `dir` where it is: /tmp is its own.
fn pod(name: &str, script: &str, dir: &Path) -> String {
    let script: String = script.lines().map(|line| format!("      {line}\n")).collect();
    let dir = dir.display();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  volumes: [{{name: here, hostPath: {{path: {dir}}}}}]
  containers:
  - name: main
    image: host
    volumeMounts: [{{name: here, mountPath: {dir}}}]
    command:
    - sh
    - -c
    - |
{script}"
    )
}

/// A script that ends at once when it is asked to, and says so in a file.
fn obedient(file: &Path, name: &str) -> String {
    format!(
        "trap 'echo {name} >> {}; exit 0' TERM\necho {name} is up\nwhile :; do sleep 0.05; done",
        file.display()
    )
}
