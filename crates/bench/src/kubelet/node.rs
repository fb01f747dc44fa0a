//! A cluster with one node, on which kubelet and holdfast take turns.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_e2e::cluster::api::Client;
use holdfast_e2e::cluster::{self, Cluster, Layout, Node, Options};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::manifests::file;
use crate::run::Holdfast;

/// Who has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Kubelet,
    Holdfast,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a program has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// Processor time in a turn, in the kernel and outside.
    pub(super) cpu: Duration,
    /// Resident memory at its end.
    pub(super) rss_kib: u64,
}

/// Pods that all became Ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) took: Duration,
    pub(super) used: Used,
}

/// The cluster, and what runs in it.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    holdfast: &'a Holdfast,
    reactor: Runtime,
    cluster: Cluster,
    client: Client,
    kubelet: u32,
}

/// How long pods may take.
const PATIENCE: Duration = Duration::from_secs(300);
const PODS: &str = "/api/v1/namespaces/default/pods";
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

impl<'a> Bench<'a> {
    /// Brings the cluster up; it goes with the value.
    pub(super) fn up(holdfast: &'a Holdfast) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("holdfast-e2e");
        ensure!(
            program.is_file(),
            "there is no {}: build it with `cargo build --release -p holdfast-e2e`",
            program.display()
        );
        let dir = cluster::default_dir().with_file_name(format!("bench-{}", std::process::id()));
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { program: Some(program), ..Options::default() };
        let cluster = reactor.block_on(Cluster::up(&dir, &options))?;
        let client = cluster.client()?;
        let mut this = Self { holdfast, reactor, cluster, client, kubelet: 0 };
        let place = this.layout().dir().display().to_string();
        this.kubelet = process_of(|words| {
            words.iter().any(|word| word == "kubelet") && words.iter().any(|w| w.contains(&place))
        })
        .context("there is no process of the kubelet")?;
        Ok(this)
    }

    fn layout(&self) -> &Layout {
        self.cluster.layout()
    }

    fn node(&self) -> Result<Node<'_>> {
        self.cluster.node(1)
    }

    /// A directory that containers see under the same path.
    pub(super) fn shared(&self, name: &str) -> Result<PathBuf> {
        let dir = self.layout().dir().join("shared").join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    pub(super) fn containerd_log(&self) -> PathBuf {
        self.layout().log("node-1", "containerd")
    }

    /// Runs pods on one side until all are Ready, then takes them down.
    pub(super) fn turn(&self, side: Side, pods: &[Value]) -> Result<Turn> {
        match side {
            Side::Kubelet => self.reactor.block_on(self.on_kubelet(pods)),
            Side::Holdfast => {
                // It would end the pods that it does not know.
                self.signal_kubelet(SIGSTOP)?;
                let turn = self.on_holdfast(pods);
                self.signal_kubelet(SIGCONT)?;
                turn
            }
        }
    }

    fn signal_kubelet(&self, signal: i32) -> Result<()> {
        self.reactor.block_on(self.node()?.signal("kubelet", signal))
    }

    async fn on_kubelet(&self, pods: &[Value]) -> Result<Turn> {
        let list = self.client.get(PODS).await?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let mut watch = self.client.watch(PODS, &version).await?;
        let before = cpu_of(self.kubelet)?;
        let begin = Instant::now();
        let bound = pods.iter().cloned().map(|mut pod| {
            pod["metadata"]["namespace"] = "default".into();
            pod["spec"]["nodeName"] = "node-1".into();
            pod
        });
        let bound: Vec<Value> = bound.collect();
        let made = futures_util::future::try_join_all(bound.iter().map(|p| self.client.create(p)));
        let all_ready = async {
            let mut waiting: Vec<&str> = pods.iter().filter_map(name_of).collect();
            while !waiting.is_empty() {
                let event = watch.next().await?.context("the API server has ended the watch")?;
                if is_ready(&event.object) {
                    waiting.retain(|name| Some(*name) != name_of(&event.object));
                }
            }
            anyhow::Ok(begin.elapsed())
        };
        let (made, took) = tokio::join!(made, tokio::time::timeout(PATIENCE, all_ready));
        made?;
        let took = took.context("the kubelet's pods do not become Ready")??;
        let cpu = cpu_of(self.kubelet)?.saturating_sub(before);
        let used = Used { cpu, rss_kib: rss_of(self.kubelet)? };
        for pod in pods.iter().filter_map(name_of) {
            self.client.delete(&format!("{PODS}/{pod}"), Some(1)).await?;
        }
        for pod in pods.iter().filter_map(name_of) {
            let gone = |found: Option<&Value>| found.is_none().then_some(());
            self.client.wait(&format!("{PODS}/{pod}"), PATIENCE, gone).await?;
        }
        Ok(Turn { took, used })
    }

    fn on_holdfast(&self, pods: &[Value]) -> Result<Turn> {
        let dir = self.shared("holdfast")?;
        let manifest = dir.join("pods.yaml");
        std::fs::write(&manifest, file(pods))?;
        let stderr = std::fs::File::create(dir.join("stderr"))?;
        let mut command = self.node()?.command(self.holdfast.binary());
        command
            .args(["run", "--runtime", "cri", "-o", "jsonl", "--endpoint"])
            .arg(format!("unix://{}", self.node()?.containerd().display()))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg(&manifest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let begin = Instant::now();
        let mut child = Killed(command.spawn().context("cannot enter the node")?);
        let out = child.0.stdout.take().context("a child without its stdout")?;
        let mut lines = BufReader::new(out).lines();
        let mut waiting: Vec<&str> = pods.iter().filter_map(name_of).collect();
        while !waiting.is_empty() {
            let Some(line) = lines.next().transpose()? else {
                let said = std::fs::read_to_string(dir.join("stderr"))?;
                bail!("holdfast has ended before its pods were Ready:\n{said}");
            };
            let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if is_ready(&event["object"]) {
                waiting.retain(|name| Some(*name) != name_of(&event["object"]));
            }
        }
        let took = begin.elapsed();
        let path = manifest.display().to_string();
        let pid = process_of(|words| {
            let runs = words.first().is_some_and(|w| w.as_str() == self.holdfast.binary());
            runs && words.contains(&path)
        });
        let pid = pid.context("there is no process of holdfast")?;
        let used = Used { cpu: cpu_of(pid)?, rss_kib: rss_of(pid)? };
        let enter = rustix::process::Pid::from_child(&child.0);
        rustix::process::kill_process(enter, rustix::process::Signal::TERM)?;
        // Its output must go somewhere until it has ended.
        lines.for_each(drop);
        child.0.wait()?;
        Ok(Turn { took, used })
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Err(error) = cluster::down(self.layout()) {
            eprintln!("the cluster stays up: {error:#}");
        }
        let _ = std::fs::remove_dir_all(self.layout().dir());
    }
}

/// A child that does not outlive its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn name_of(pod: &Value) -> Option<&str> {
    pod["metadata"]["name"].as_str()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// The process whose words are these.
fn process_of(is_it: impl Fn(&[String]) -> bool) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<String> = words
            .split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        is_it(&words).then_some(pid)
    })
}

/// Processor time of a process since its start.
fn cpu_of(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // What comes after the name, which may have spaces.
    let (_, rest) = text.rsplit_once(')').context("not a stat file")?;
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn rss_of(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .context("no VmRSS")
}
