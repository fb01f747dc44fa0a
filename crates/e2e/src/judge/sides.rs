//! Running a pod on each side: the kubelet, and `holdfast run` with each of its runtimes.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::bench::{self, Bench, HOLDFASTS};
use super::outcome::{self, Outcome};
use super::pod::{Act, Deed, IMAGE, Pod};
use super::record;
use super::watch::{self, CRI_NAMESPACE, Watch, now};
use super::yaml;

/// How long a pod may take in all.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often the containers' trace is looked at for the moment of an act.
const LOOK: Duration = Duration::from_millis(50);

/// Who runs a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(super) enum Side {
    /// The real kubelet
    Kubelet,
    /// `holdfast run --runtime process`
    Process,
    /// `holdfast run --runtime cri`, on the kubelet's containerd
    Cri,
}

impl Side {
    /// Whether a pod can be held against the kubelet here. Not one whose sandbox is lost with everything
    /// in it on a CRI runtime: whether a container is found dead before the sandbox is then a race, of
    /// milliseconds there and of a relist in the kubelet.
    pub(super) fn can_run(self, pod: &Pod) -> bool {
        self != Self::Cri || pod.acts.iter().all(|act| act.what != Deed::LoseSandbox)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubelet => "kubelet",
            Self::Process => "process",
            Self::Cri => "cri",
        })
    }
}

/// Everything that it takes to run pods.
pub(super) struct Sides {
    pub(super) bench: Bench,
    watch: Watch,
    holdfast: PathBuf,
    /// What `holdfast run` keeps, from one run to the next.
    state: PathBuf,
}

impl Sides {
    pub(super) fn new() -> Result<Self> {
        let holdfast = bench::build("holdfast-cli", "holdfast")?;
        let bench = Bench::up()?;
        let watch = Watch::start(&bench)?;
        let state = bench.shared("state")?;
        Ok(Self { bench, watch, holdfast, state })
    }

    /// Runs a pod on a side. No two pods that run there at a time may have the same slot.
    pub(super) fn run(&self, side: Side, pod: &Pod, slot: u16) -> Result<Outcome> {
        let dir = self.bench.shared(&format!("{side}-{}", pod.name))?;
        let result = match side {
            Side::Kubelet => self.kubelet(pod, &dir, slot),
            Side::Process | Side::Cri => self.holdfast(side, pod, &dir, slot),
        };
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        result.with_context(|| format!("{} on {side}", pod.name))
    }

    fn kubelet(&self, pod: &Pod, dir: &Path, slot: u16) -> Result<Outcome> {
        let (sights, _) = record::on_kubelet(&self.bench, &self.watch, pod, dir, slot)?;
        Ok(Outcome::of_kubelet(&sights, dir))
    }

    fn holdfast(&self, side: Side, pod: &Pod, dir: &Path, slot: u16) -> Result<Outcome> {
        let manifest = dir.join("pod.yaml");
        let mut object = pod.manifest(dir, slot);
        let mut command = match side {
            Side::Cri => {
                object["metadata"]["namespace"] = CRI_NAMESPACE.into();
                // Where containerd runs, so that its processes can be seen.
                let mut command = self.bench.on_node(HOLDFASTS, &self.holdfast)?;
                let socket = format!("unix://{}", self.bench.containerd(HOLDFASTS)?.display());
                command.args(["run", "--runtime", "cri", "--endpoint", &socket]);
                command
            }
            Side::Process | Side::Kubelet => {
                let image = format!("{IMAGE}=archive:{}", self.bench.image.display());
                // Not to outlive a judge that is killed.
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "INT", "--"]).arg(&self.holdfast);
                command.args(["run", "--image", &image]);
                // It has no sandbox that could be taken away.
                for act in &pod.acts {
                    let kind = match act.what {
                        Deed::LoseSandbox => "sandbox-lost",
                        Deed::KillPause => "pause-killed",
                        Deed::Delete(_) | Deed::RestartKubelet => continue,
                    };
                    let since = act.since.as_ref().map(|(name, _)| format!("{name}+"));
                    let since = since.unwrap_or_default();
                    command.arg("--fault").arg(format!("{kind}@{since}{}ms", act.millis));
                }
                command
            }
        };
        std::fs::write(&manifest, yaml::text(&object))?;
        command.args(["--output", "jsonl"]).arg(&manifest);
        // Images are unpacked once.
        command.arg("--state-dir").arg(self.state.join(side.to_string()));
        let log = std::fs::File::create(dir.join("stderr"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.holdfast.display()))?;
        let out = child.stdout.take().context("a child without its stdout")?;
        let (send, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send((now(), line)).is_err() {
                    return;
                }
            }
        });
        let played = self.play(side, &mut child, pod, dir);
        if played.is_err() {
            let _ = child.kill();
        }
        let status = child.wait()?;
        let _ = reader.join();
        let stderr = || std::fs::read_to_string(dir.join("stderr")).unwrap_or_default();
        played.with_context(stderr)?;
        self.watch.forget(&watch::cri(&pod.name));
        if status.code() == Some(2) || status.signal().is_some() {
            bail!("holdfast run ended with {status}:\n{}", stderr());
        }
        let mut outcome = Outcome { states: Vec::new(), trace: outcome::trace(dir) };
        for (at, line) in lines.try_iter() {
            let mut event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            let object = event["object"].take();
            if object["kind"] == "Pod" {
                outcome.push(at, &object);
            }
        }
        if outcome.states.is_empty() {
            bail!("holdfast run printed nothing about the pod:\n{}", stderr());
        }
        Ok(outcome)
    }

    /// Does to the pod of a `holdfast run` what is to be done, until it ends.
    fn play(&self, side: Side, child: &mut Child, pod: &Pod, dir: &Path) -> Result<()> {
        let begin = Instant::now();
        let start = now();
        let mine = |a: &&Act| match a.what {
            Deed::Delete(_) => true,
            Deed::KillPause => side == Side::Cri,
            Deed::LoseSandbox | Deed::RestartKubelet => false,
        };
        let mut acts = pod.acts.iter().filter(mine).peekable();
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        while child.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                bail!("the pod is not over after {} s", PATIENCE.as_secs());
            }
            match acts.next_if(|act| is_due(act, start, dir)).map(|act| act.what) {
                // As a delete does, with the pod's own grace period.
                Some(Deed::Delete(_)) => kill(pid, Signal::SIGINT)?,
                Some(_) => {
                    let sights = self.watch.of(&watch::cri(&pod.name));
                    Bench::kill_tasks(&record::pause(&sights))?;
                }
                None => thread::sleep(LOOK),
            }
        }
        Ok(())
    }
}

fn is_due(act: &Act, start: i128, dir: &Path) -> bool {
    let since = match &act.since {
        None => Some(start),
        Some((name, run)) => outcome::trace(dir)
            .iter()
            .find(|t| t.container == *name && t.run == *run && t.what == "start")
            .map(|t| t.at),
    };
    since.is_some_and(|at| now() >= at + i128::from(act.millis) * 1_000_000)
}
