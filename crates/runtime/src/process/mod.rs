//! The process runtime: containers are host processes in namespaces of their own.
//!
//! The work is done by the launcher of [`holdfast_sys::launcher`], a process of one thread; this is the
//! side of it that lives in the reactor. Exits, output and answers are events, nothing is polled.
//!
//! ```no_run
//! # fn events() -> tokio::sync::mpsc::UnboundedSender<holdfast_runtime::RuntimeEvent> { todo!() }
//! use holdfast_runtime::process::{ProcessOptions, ProcessRuntime};
//!
//! let launcher = holdfast_sys::launcher::fork()?; // first thing in main, before any thread
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let (runtime, notices) = ProcessRuntime::new(launcher, ProcessOptions::default(), events()).await?;
//! # runtime.shutdown().await;
//! # Ok::<(), holdfast_runtime::process::Error>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod container;
mod exec;
mod link;
mod network;
pub(crate) mod output;
mod sandbox;
mod spec;
pub(crate) mod termination;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_sys::launcher::Launcher;
use holdfast_sys::launcher::protocol::{Failure, Init, Ready, Reply, Request, Stage};
pub use holdfast_sys::launcher::protocol::{Isolation, Mode};
pub use network::NetworkError;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::contract::{
    ContainerConfig, ExecOutcome, PodUid, Runtime, RuntimeEvent, SandboxConfig, StartError,
};
use crate::room::Room;
use link::{Link, lock};
use network::PodNetwork;
use sandbox::Known;

/// Why there is no process runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The launcher could not get ready.
    #[error("{0}")]
    Launcher(#[from] Failure),
    /// The reactor could not take the launcher's socket.
    #[error("cannot talk to the launcher: {0}")]
    Io(#[from] std::io::Error),
    /// `--network pod` is not possible here.
    #[error(
        "a network for each pod needs root and namespaces; use --network host (the default), or run as root"
    )]
    Network,
    /// The pods' network could not be made.
    #[error(transparent)]
    PodNetwork(#[from] network::NetworkError),
}

/// What network the pods have that do not ask for the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// One of their own, with an address that this machine and the other pods reach.
    Pod,
}

/// How the runtime works.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// How much containers are kept apart.
    pub isolation: Isolation,
    /// The network of the pods.
    pub network: Network,
    /// Where run directories are made: `/run/holdfast` for root, else in `$XDG_RUNTIME_DIR`.
    pub state_dir: PathBuf,
    /// Gets warnings that come up later, such as a limit that cannot be kept; each once.
    pub warnings: Option<UnboundedSender<String>>,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::Auto,
            network: Network::Host,
            state_dir: default_state_dir(),
            warnings: None,
        }
    }
}

/// `/run/holdfast` for root; `$XDG_RUNTIME_DIR/holdfast`, else a directory of the user's in the
/// temporary directory, for others.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/holdfast");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("holdfast"),
        None => {
            std::env::temp_dir().join(format!("holdfast-{}", rustix::process::geteuid().as_raw()))
        }
    }
}

/// Runs containers as host processes. Cheap to clone; all clones are one runtime.
#[derive(Clone, Debug)]
pub struct ProcessRuntime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    launcher: holdfast_sys::clone::Pid,
    ready: Ready,
    network: Option<PodNetwork>,
    events: UnboundedSender<RuntimeEvent>,
    warnings: Option<UnboundedSender<String>>,
    room: Room,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: HashMap<PodUid, Known>,
    next: u64,
    containers: HashMap<u64, Running>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    /// The pods that the launcher keeps memory file systems for.
    in_memory: HashSet<PodUid>,
    warned: HashSet<String>,
}

/// A container that has been started.
#[derive(Debug)]
struct Running {
    /// Tells its task of the exit.
    exit: Option<oneshot::Sender<Exit>>,
    stop_signal: i32,
    /// Whether [`Runtime::kill`] was asked to make it look like the kernel's doing.
    oom: bool,
}

/// How a main process ended.
#[derive(Clone, Copy, Debug)]
struct Exit {
    code: i32,
    oom: bool,
}

/// A runtime whose launcher has been told to get ready, while there is no reactor yet.
#[derive(Debug)]
pub struct Begun {
    launcher: Launcher,
    options: ProcessOptions,
    run: String,
}

impl Begun {
    /// Tells the launcher to get ready.
    ///
    /// # Errors
    /// If it cannot be told.
    pub fn new(launcher: Launcher, options: ProcessOptions) -> Result<Self, Error> {
        let run = run_name();
        let (state, isolation) = (options.state_dir.clone(), options.isolation);
        link::ask_early(&launcher, Request::Init(Init { state, run: run.clone(), isolation }))?;
        Ok(Self { launcher, options, run })
    }
}

impl ProcessRuntime {
    /// Connects to the launcher and finds out what this machine allows. The texts are for the user, a
    /// line each: what is not isolated here.
    ///
    /// # Errors
    /// If the run directory cannot be made, or the wanted isolation or network is not to be had.
    pub async fn new(
        launcher: Launcher,
        options: ProcessOptions,
        events: UnboundedSender<RuntimeEvent>,
    ) -> Result<(Self, Vec<String>), Error> {
        Self::of(Begun::new(launcher, options)?, events).await
    }

    /// As [`new`](Self::new), of a launcher that has been at it since before there was a reactor.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn of(
        begun: Begun,
        events: UnboundedSender<RuntimeEvent>,
    ) -> Result<(Self, Vec<String>), Error> {
        let Begun { launcher, options, run } = begun;
        holdfast_sys::limits::raise_open_files();
        let state = Arc::new(Mutex::new(State::default()));
        let pid = launcher.pid();
        let (link, ready) = Link::new(launcher, news(Arc::clone(&state), events.clone()))?;
        let dir = options.state_dir.join(&run);
        let ready = match ready.await {
            Ok(Reply::Ready(ready)) => ready,
            Ok(_) => return Err(Failure::create("the launcher answered another question").into()),
            Err(failure) => {
                // Nothing, unless the launcher was killed halfway through.
                let _ = holdfast_sys::rundir::cleanup_dead(&dir);
                return Err(failure.into());
            }
        };
        let prepared = prepare(&options, &run, &ready).await;
        let network = match prepared {
            Ok(network) => network,
            Err(error) => {
                let _ = link.ask(Request::Shutdown, Vec::new()).await;
                Launcher::wait(pid);
                return Err(error);
            }
        };
        let mut notices = ready.notices.clone();
        if network.is_some() {
            notices.push(
                "the pods' network reaches this machine and the other pods; beyond it only what this \
                 machine forwards and translates"
                    .to_owned(),
            );
        }
        let inner = Inner {
            link,
            launcher: pid,
            ready,
            network,
            events,
            warnings: options.warnings,
            room: Room::default(),
            state,
        };
        Ok((Self { inner: Arc::new(inner) }, notices))
    }

    /// How containers are kept apart here.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.inner.ready.mode
    }

    /// A directory of this run. Whatever is put there is removed at the end, also when `holdfast` is
    /// killed: the place for volumes.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.inner.ready.dir
    }

    /// Kills everything, removes what the run has made and waits until that is done.
    pub async fn shutdown(&self) {
        // Fails at once if the launcher is gone already; else its end drops the answer's sender.
        let _ = self.inner.link.ask(Request::Shutdown, Vec::new()).await;
        Launcher::wait(self.inner.launcher);
        // Nothing, unless the launcher was killed before it could do so itself.
        let _ = holdfast_sys::rundir::cleanup_dead(self.run_dir());
    }

    fn warn(&self, warnings: Vec<String>) {
        let Some(sender) = &self.inner.warnings else { return };
        for warning in warnings {
            if lock(&self.inner.state).warned.insert(warning.clone()) {
                let _ = sender.send(warning);
            }
        }
    }
}

/// Makes what is this side's business.
async fn prepare(
    options: &ProcessOptions,
    run: &str,
    ready: &Ready,
) -> Result<Option<PodNetwork>, Error> {
    match options.network {
        Network::Host => Ok(None),
        Network::Pod if ready.mode == Mode::Root => {
            Ok(Some(PodNetwork::create(run, &options.state_dir).await?))
        }
        Network::Pod => Err(Error::Network),
    }
}

/// A name that no other run on this machine has, short enough for a network interface.
fn run_name() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{:08x}", random as u32)
}

/// Passes the launcher's news on.
fn news(
    state: Arc<Mutex<State>>,
    events: UnboundedSender<RuntimeEvent>,
) -> impl FnMut(Option<Reply>) + Send {
    move |reply| {
        let mut state = lock(&state);
        match reply {
            Some(Reply::Exited { instance, code, oom }) => {
                if let Some(running) = state.containers.get_mut(&instance)
                    && let Some(exit) = running.exit.take()
                {
                    let _ = exit.send(Exit { code, oom: oom || running.oom });
                }
            }
            Some(Reply::ExecEnded { exec, code }) => {
                if let Some(waiter) = state.execs.remove(&exec) {
                    let _ = waiter.send(code);
                }
            }
            Some(Reply::SandboxLost { sandbox }) => {
                let lost = state.sandboxes.iter().find(|(_, known)| known.number == sandbox);
                if let Some((pod, known)) = lost {
                    let lost =
                        RuntimeEvent::SandboxLost { pod: pod.clone(), attempt: known.attempt };
                    let _ = events.send(lost);
                }
            }
            Some(_) => {}
            // The launcher is gone: its children got SIGKILL from the kernel.
            None => {
                for running in state.containers.values_mut() {
                    if let Some(exit) = running.exit.take() {
                        let _ = exit.send(Exit { code: 137, oom: running.oom });
                    }
                }
                state.execs.clear();
                let lost: Vec<_> = state.sandboxes.drain().collect();
                for (pod, known) in lost {
                    let _ = events.send(RuntimeEvent::SandboxLost { pod, attempt: known.attempt });
                }
            }
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        let stage = match failure.stage {
            Stage::Config => StartStage::Config,
            Stage::Create => StartStage::Create,
            Stage::Run => StartStage::Run,
        };
        Self { stage, message: failure.message }
    }
}

impl Runtime for ProcessRuntime {
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Option<IpAddr>, String> {
        self.make_sandbox(config).await
    }

    async fn stop_sandbox(&self, pod: &PodUid, attempt: u32) {
        self.drop_sandbox(pod, Some(attempt)).await;
    }

    async fn remove_pod(&self, pod: &PodUid) {
        if lock(&self.inner.state).in_memory.remove(pod) {
            self.inner.link.tell(Request::DropMemory { pod: pod.to_string() });
        }
    }

    async fn start(&self, config: ContainerConfig) -> Result<(), StartError> {
        self.start_container(config).await
    }

    async fn stop(&self, instance: InstanceId, grace: Duration) {
        let signal = lock(&self.inner.state)
            .containers
            .get(&instance.0)
            .filter(|running| running.exit.is_some())
            .map(|running| running.stop_signal);
        let Some(signal) = signal else { return };
        if grace.is_zero() {
            return self.inner.link.tell(Request::Kill { instance: instance.0 });
        }
        self.inner.link.tell(Request::Signal { instance: instance.0, signal });
        let link = self.inner.link.clone();
        // The launcher forgets the number when the container has ended, so this then hits nothing.
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            link.tell(Request::Kill { instance: instance.0 });
        });
    }

    async fn kill(&self, instance: InstanceId, oom: bool) {
        if let Some(running) = lock(&self.inner.state).containers.get_mut(&instance.0) {
            running.oom |= oom;
        }
        self.inner.link.tell(Request::Kill { instance: instance.0 });
    }

    async fn remove(&self, instance: InstanceId) {
        lock(&self.inner.state).containers.remove(&instance.0);
    }

    async fn exec(
        &self,
        instance: InstanceId,
        argv: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, String> {
        self.run_exec(instance, argv, timeout).await
    }
}

/// Answers of the launcher that carry warnings only.
fn warnings_of(reply: Reply) -> Vec<String> {
    match reply {
        Reply::Done { warnings } => warnings,
        _ => Vec::new(),
    }
}
