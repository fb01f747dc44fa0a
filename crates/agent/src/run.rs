//! The loop: what happens comes in, what follows from it goes out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::status::{ContainerStatus, State};
use holdfast_lifecycle::{Options, Time};
use holdfast_runtime::clock::{Clock, sleep_until};
use holdfast_runtime::config::{self, Objects};
use holdfast_runtime::config_file::ConfigFile;
use holdfast_runtime::image::{ImageStore, MapError};
use holdfast_runtime::node::{Node, NodeCommand, NodeOptions, NodeParts};
use holdfast_runtime::notice::{ChangeKind, Notice, PodChange};
use holdfast_runtime::process::{self, Begun, Mode, ProcessOptions, ProcessRuntime};
use holdfast_runtime::{Images, Site};
use holdfast_sys::launcher::Launcher;
use rustix::fs::FlockOperation;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::control::{
    self, Answer, Asked, ContainerState, Fault, PodState, Question, Reply, Status,
};
use crate::init;
use crate::logs::{self, Limits, Logs};
use crate::manifests::Directory;
use crate::services::{Order, Services};
use crate::watch::Watch;

/// After the first change of a directory: an editor makes several.
const SETTLE: Duration = Duration::from_millis(50);
/// How far behind a reader of a log may be, in lines; then it is cut off.
const BEHIND: usize = 4096;

/// How an agent works.
#[derive(Debug)]
pub struct Settings {
    /// The directory of manifests; made if it is missing.
    pub manifests: PathBuf,
    /// Where logs, volumes, images and the socket are; made if it is missing.
    pub state_dir: PathBuf,
    /// How long stopping everything may take before what is left is killed.
    pub grace: Duration,
    /// The minor version of Kubernetes 1.x whose rules hold.
    pub minor: u32,
    /// Images and the node's name and labels.
    pub config: ConfigFile,
    /// How logs are rotated.
    pub logs: Limits,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file.
    #[error("cannot use {}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is one already.
    #[error("another agent runs with the state directory {}; choose another with --state-dir", .0.display())]
    Taken(PathBuf),
    /// Containers cannot be made here.
    #[error(transparent)]
    Runtime(#[from] process::Error),
    /// An image of the configuration.
    #[error(transparent)]
    Images(#[from] MapError),
    /// The system has no more of something.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Path { path, source }
}

/// Runs until it is told to stop, and everything has stopped.
///
/// `tell` gets messages for people. The caller has forked the launcher before any thread, and runs this on a `LocalSet`.
///
/// # Errors
/// Why it cannot begin; once it runs, it goes on.
pub async fn run(settings: Settings, launcher: Launcher, tell: impl Fn(&str)) -> Result<(), Error> {
    for dir in [&settings.state_dir, &settings.manifests] {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(at(dir))?;
    }
    let _lock = lock(&settings.state_dir)?;
    let socket = control::socket(&settings.state_dir);
    let listener = control::listen(&socket).map_err(at(&socket))?;
    let watch = Watch::new(&settings.manifests).map_err(at(&settings.manifests))?;
    let signals = Signals::new().map_err(Error::Signals)?;

    let (warnings, runtime_warnings) = mpsc::unbounded_channel();
    let own_child = launcher.pid();
    let options = ProcessOptions { warnings: Some(warnings), ..ProcessOptions::default() };
    let begun = Begun::new(launcher, options)?;
    let (events, runtime_events) = mpsc::unbounded_channel();
    let (runtime, notices) = ProcessRuntime::of(begun, events).await?;
    notices.iter().for_each(|notice| tell(&format!("note: {notice}")));
    // What used these is gone by now.
    if let Err(e) = holdfast_runtime::volume::remove_stale(&settings.state_dir) {
        tell(&format!(
            "note: what a killed agent left in {} stays: {e}",
            settings.state_dir.display()
        ));
    }

    let clock = Clock::start();
    let site = site(&settings, runtime.mode())?;
    let (watcher, reports) = mpsc::unbounded_channel();
    let (commands, inbox) = mpsc::unbounded_channel();
    let parts = NodeParts {
        runtime: runtime.clone(),
        runtime_events,
        engine: Options { minor: settings.minor, ..Options::default() },
        site,
        watcher,
        commands: inbox,
        clock,
    };
    let options = NodeOptions { stays: true, ..NodeOptions::default() };
    let node = tokio::task::spawn_local(Node::new(parts, options).run(Vec::new()));
    let (asked, questions) = mpsc::channel(16);
    let server = tokio::task::spawn_local(control::serve(listener, asked));
    let logs = Logs::new(settings.state_dir.join("logs"), settings.logs);
    let agent = Agent {
        settings,
        clock,
        commands,
        services: Services::default(),
        directory: Directory::default(),
        pods: BTreeMap::new(),
        logs,
        followers: Vec::new(),
        waiting: Vec::new(),
        deadline: None,
        own_child,
        log_is_broken: false,
        tell,
    };
    agent.work(Sources { reports, runtime_warnings, questions, watch, signals, node }).await;
    server.abort();
    runtime.shutdown().await;
    let _ = fs::remove_file(&socket);
    Ok(())
}

/// Nobody else may use the state directory.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("agent.lock");
    let file = File::create(&path).map_err(at(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Taken(dir.to_owned())),
        Err(e) => Err(at(&path)(e.into())),
    }
}

fn site(settings: &Settings, mode: Mode) -> Result<Site, Error> {
    let config = &settings.config;
    let images = ImageStore::new(&settings.state_dir, config.images.clone())?;
    let (name, labels) = (config.node_name.clone(), config.node_labels.clone());
    Ok(Site {
        images: Images::Here(Arc::new(images)),
        objects: Objects::new(&[]),
        node: config::Node::of_this_machine(name, labels, &settings.state_dir),
        state_dir: settings.state_dir.clone(),
        keep_sub_paths: false,
        minor: settings.minor,
        can_set_groups: rustix::process::geteuid().is_root() && mode == Mode::Root,
        host_network: true,
    })
}

struct Signals {
    stop: [Signal; 2],
    again: Signal,
    child: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            stop: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?],
            again: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }
}

/// Where everything comes from.
struct Sources {
    reports: mpsc::UnboundedReceiver<Notice>,
    runtime_warnings: mpsc::UnboundedReceiver<String>,
    questions: mpsc::Receiver<Asked>,
    watch: Watch,
    signals: Signals,
    node: tokio::task::JoinHandle<holdfast_runtime::node::Outcome>,
}

/// What a person waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Gone,
    Started,
}

struct Follower {
    pod: String,
    container: String,
    lines: mpsc::Sender<Vec<u8>>,
}

struct Agent<T> {
    settings: Settings,
    clock: Clock,
    commands: mpsc::UnboundedSender<NodeCommand>,
    services: Services,
    directory: Directory,
    /// As they were last seen.
    pods: BTreeMap<String, PodChange>,
    logs: Logs,
    followers: Vec<Follower>,
    waiting: Vec<(String, Awaited, oneshot::Sender<Reply>)>,
    /// When what is left is killed.
    deadline: Option<Instant>,
    own_child: i32,
    log_is_broken: bool,
    tell: T,
}

impl<T: Fn(&str)> Agent<T> {
    async fn work(mut self, mut from: Sources) {
        self.read_manifests();
        (self.tell)(&format!("agent: serving {}", self.settings.manifests.display()));
        let mut settled = None;
        loop {
            let [interrupt, terminate] = &mut from.signals.stop;
            tokio::select! {
                biased;
                _ = interrupt.recv() => self.stop(),
                _ = terminate.recv() => self.stop(),
                _ = from.signals.child.recv(), if init::is_pid_1() => {
                    init::reap_orphans(self.own_child);
                }
                Some(notice) = from.reports.recv() => self.take(notice),
                Some(warning) = from.runtime_warnings.recv() => (self.tell)(&format!("note: {warning}")),
                Some(asked) = from.questions.recv() => self.answer(asked),
                _ = from.signals.again.recv() => self.read_manifests(),
                () = from.watch.changed(), if settled.is_none() => {
                    settled = Some(Instant::now() + SETTLE);
                }
                () = sleep_until(settled) => {
                    settled = None;
                    self.read_manifests();
                }
                () = sleep_until(self.deadline) => {
                    self.deadline = None;
                    (self.tell)("agent: the grace period is over; killing what is left");
                    let _ = self.commands.send(NodeCommand::Kill);
                }
                // A driver that panicked is a defect; there is nothing to go on with.
                _ = &mut from.node => break,
            }
        }
        while let Ok(notice) = from.reports.try_recv() {
            self.take(notice);
        }
        (self.tell)("agent: stopped");
    }

    fn read_manifests(&mut self) {
        let old = self.directory.faults.clone();
        match self.directory.read(&self.settings.manifests, self.settings.minor) {
            Ok(wanted) => {
                let orders = self.services.want(wanted);
                self.carry_out(orders);
            }
            Err(e) => {
                let dir = self.settings.manifests.display();
                (self.tell)(&format!("agent: cannot read {dir}: {e}; what runs goes on"));
            }
        }
        for (file, fault) in &self.directory.faults {
            if old.get(file) != Some(fault) {
                (self.tell)(&format!(
                    "{fault}\nagent: {} is not used as it is now",
                    file.display()
                ));
            }
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            let _ = self.commands.send(match order {
                Order::Start(pod) => NodeCommand::Start(pod),
                Order::Delete(name) => NodeCommand::Delete(name),
            });
        }
        if self.services.is_over() {
            // Nothing is left; this ends the node.
            let _ = self.commands.send(NodeCommand::Stop);
        }
    }

    /// The second time it is meant.
    fn stop(&mut self) {
        if self.deadline.is_some() {
            self.deadline = Some(Instant::now());
            return;
        }
        (self.tell)("agent: stopping, the last started first");
        self.deadline = Instant::now().checked_add(self.settings.grace);
        let orders = self.services.end();
        self.carry_out(orders);
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Pod(change) => self.pod(change),
            Notice::Output { pod, container, stderr, line, receipt } => {
                self.output(&pod, &container, stderr, &line);
                drop(receipt);
            }
            Notice::Event { pod, event, .. } if event.warning => {
                (self.tell)(&format!("{pod}: {}: {}", event.reason, event.message));
            }
            Notice::Message(text) => (self.tell)(&text),
            Notice::Job(_)
            | Notice::Event { .. }
            | Notice::WorkloadEvent { .. }
            | Notice::Mark(_) => {}
        }
    }

    fn pod(&mut self, change: PodChange) {
        let name = change.pod.metadata.name.clone();
        let shown = |c: &PodChange| (c.row.ready_text(), c.row.status.clone());
        let kind = change.kind;
        if kind == ChangeKind::Deleted {
            self.pods.remove(&name);
            self.logs.close(&name);
            (self.tell)(&format!("{name}: gone"));
            self.settle(&name, Awaited::Gone, Answer::Done);
            let orders = self.services.gone(&name);
            if orders.is_empty() {
                let why = format!(
                    "{name:?} is gone and does not come again: its manifest is gone, or it was stopped"
                );
                self.settle(&name, Awaited::Started, Answer::Error(why));
            }
            self.carry_out(orders);
            return;
        }
        let (ready, status) = shown(&change);
        if self.pods.get(&name).map(&shown) != Some(shown(&change)) {
            (self.tell)(&format!("{name}: {ready} {status}"));
        }
        self.pods.insert(name.clone(), change);
        if kind == ChangeKind::Added {
            self.settle(&name, Awaited::Started, Answer::Done);
        }
    }

    /// Answers who waited for this.
    fn settle(&mut self, name: &str, what: Awaited, answer: Answer) {
        let is_it = |(n, awaited, _): &mut (String, Awaited, _)| n == name && *awaited == what;
        for (_, _, reply) in self.waiting.extract_if(.., is_it) {
            let _ = reply.send(Reply::Answer(answer.clone()));
        }
    }

    fn output(&mut self, pod: &str, container: &str, stderr: bool, line: &[u8]) {
        let written = self.logs.line(pod, container, stderr, line);
        match (&written, self.log_is_broken) {
            (Err(e), false) => {
                let path = self.logs.path(pod, container);
                (self.tell)(&format!(
                    "agent: cannot write {}: {e}; lines are lost",
                    path.display()
                ));
            }
            (Ok(_), true) => (self.tell)("agent: logs can be written again"),
            _ => {}
        }
        self.log_is_broken = written.is_err();
        if let Ok(line) = written {
            self.followers.retain(|f| {
                f.pod != pod || f.container != container || f.lines.try_send(line.clone()).is_ok()
            });
        }
    }

    fn answer(&mut self, Asked { question, reply }: Asked) {
        let result = match question {
            Question::Status => Ok(Answer::Status(Box::new(self.status()))),
            Question::Logs { pod, container, lines, follow } => {
                match self.read_log(pod, container, lines, follow) {
                    Ok(lines) => return drop(reply.send(lines)),
                    Err(why) => Err(why),
                }
            }
            Question::Stop { pod } => match self.services.stop(&pod) {
                Ok(orders) => {
                    if self.pods.contains_key(&pod) || !orders.is_empty() {
                        self.waiting.push((pod, Awaited::Gone, reply));
                        return self.carry_out(orders);
                    }
                    Ok(Answer::Done)
                }
                Err(refusal) => Err(refusal.to_string()),
            },
            Question::Restart { pod } => match self.services.restart(&pod) {
                Ok(orders) => {
                    self.waiting.push((pod, Awaited::Started, reply));
                    return self.carry_out(orders);
                }
                Err(refusal) => Err(refusal.to_string()),
            },
            Question::Shutdown => {
                let _ = reply.send(Reply::Answer(Answer::Done));
                if self.deadline.is_none() {
                    self.stop();
                }
                return;
            }
        };
        let _ = reply.send(Reply::Answer(result.unwrap_or_else(Answer::Error)));
    }

    fn read_log(
        &mut self,
        pod: String,
        container: Option<String>,
        lines: Option<usize>,
        follow: bool,
    ) -> Result<Reply, String> {
        let Some(change) = self.pods.get(&pod) else {
            let names: Vec<&str> = self.pods.keys().map(String::as_str).collect();
            return Err(format!("there is no pod {pod:?}; there are: {}", or_none(&names)));
        };
        let spec = &change.pod.spec;
        let all = spec.init_containers.iter().chain(&spec.containers);
        let names: Vec<&str> = all.map(|c| c.name.as_str()).collect();
        let container = match container {
            Some(name) if names.contains(&name.as_str()) => name,
            Some(name) => {
                return Err(format!(
                    "{pod:?} has no container {name:?}; it has: {}",
                    or_none(&names)
                ));
            }
            None if names.len() == 1 => names[0].to_owned(),
            None => {
                return Err(format!(
                    "{pod:?} has several containers, choose one of: {}",
                    names.join(", ")
                ));
            }
        };
        let path = self.logs.path(&pod, &container);
        let now = logs::tail(&path, lines.unwrap_or(usize::MAX), self.settings.logs)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let later = follow.then(|| {
            let (lines, later) = mpsc::channel(BEHIND);
            self.followers.push(Follower { pod, container, lines });
            later
        });
        Ok(Reply::Lines { now, later })
    }

    fn status(&self) -> Status {
        let seconds = |time: Time| time.since(Time::ZERO).as_secs();
        let pods = self.pods.iter().map(|(name, change)| PodState {
            name: name.clone(),
            file: self.services.file(name).map(Path::to_owned),
            created: change
                .pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |t| seconds(t.to_unix())),
            phase: change.status.phase.as_str().to_owned(),
            ready: change.row.ready,
            total: change.row.total,
            status: change.row.status.clone(),
            restarts: change.row.restarts,
            last_restart: change.row.last_restart.map(seconds),
            containers: {
                let init = change.status.init.iter().map(|c| (c, true));
                let all = init.chain(change.status.regular.iter().map(|c| (c, false)));
                all.map(|(c, init)| self.container(name, c, init)).collect()
            },
        });
        let faults = self.directory.faults.iter();
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: seconds(self.clock.origin()),
            now: seconds(self.clock.now()),
            stopping: self.deadline.is_some(),
            manifests: self.settings.manifests.clone(),
            pods: pods.collect(),
            stopped: self.services.resting().map(str::to_owned).collect(),
            faults: faults.map(|(f, m)| Fault { file: f.clone(), message: m.clone() }).collect(),
        }
    }

    fn container(&self, pod: &str, container: &ContainerStatus, init: bool) -> ContainerState {
        ContainerState {
            name: container.name.to_string(),
            init,
            state: match &container.state {
                State::Waiting { reason, .. } => format!("waiting: {reason}"),
                State::Running { .. } => "running".to_owned(),
                State::Terminated(ended) => format!("exited: {}", ended.exit_code),
            },
            ready: container.ready,
            restarts: container.restart_count,
            log: self.logs.path(pod, &container.name),
        }
    }
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
