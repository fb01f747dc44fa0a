//! What `holdfast` and its launcher say to each other: one JSON document a packet, with descriptors
//! beside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::caps::Caps;
use crate::cgroup::Limits;

/// A message with the number of the request it belongs to; 0 for news nobody asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packet<T> {
    /// Which request.
    pub id: u64,
    /// The message.
    pub body: T,
}

/// What the launcher is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Once, first: get ready. Answered by [`Reply::Ready`].
    Init(Init),
    /// Make a sandbox; with the descriptor of its network namespace if it has one of its own.
    /// Answered by [`Reply::Done`].
    Sandbox(Sandbox),
    /// Kill what runs in a sandbox and forget it. Answered by [`Reply::Done`] when it is empty.
    DropSandbox {
        /// Which.
        sandbox: u64,
    },
    /// Forget the memory file systems of a pod that has ended. Not answered.
    DropMemory {
        /// Which ([`Spec::pod`]).
        pod: String,
    },
    /// Start a container; with the descriptors of its stdout and stderr. Answered by [`Reply::Done`]
    /// when its program is exec'ed.
    Start(Box<Spec>),
    /// Run a command in a container; with the descriptor of its output. Answered by [`Reply::Done`]
    /// when its program is exec'ed.
    Exec(Exec),
    /// Send a signal to the main process of a container. Not answered.
    Signal {
        /// Which.
        instance: u64,
        /// Its number.
        signal: i32,
    },
    /// Kill everything in a container. Not answered; [`Reply::Exited`] follows.
    Kill {
        /// Which.
        instance: u64,
    },
    /// Kill a command and its process group. Not answered; [`Reply::ExecEnded`] follows.
    KillExec {
        /// Which.
        exec: u64,
    },
    /// Kill everything, clean up and exit. The closed socket is the answer.
    Shutdown,
}

/// What the launcher says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Init`].
    Ready(Ready),
    /// The request is carried out; the texts are warnings for the user.
    Done {
        /// Such as a limit that cannot be kept here.
        warnings: Vec<String>,
    },
    /// It is not, and nothing is left of it.
    Failed(Failure),
    /// A container's main process ended, and everything else in it is gone.
    Exited {
        /// Which.
        instance: u64,
        /// Exit code, 128 + n for signal n.
        code: i32,
        /// Whether the kernel killed it for memory.
        oom: bool,
    },
    /// A command ended.
    ExecEnded {
        /// Which.
        exec: u64,
        /// Exit code, 128 + n for signal n.
        code: i32,
    },
    /// The process that held a sandbox's shared PID namespace is gone, and with it the sandbox.
    SandboxLost {
        /// Which.
        sandbox: u64,
    },
}

/// How far a start got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// What it asks for cannot be had.
    Config,
    /// It was refused before there was a process.
    Create,
    /// The process was made, but its root or its program was wrong.
    Run,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How far it got.
    pub stage: Stage,
    /// In words.
    pub message: String,
}

impl Failure {
    /// A configuration that cannot be carried out.
    pub fn config(message: impl Into<String>) -> Self {
        Self { stage: Stage::Config, message: message.into() }
    }

    /// A refusal.
    pub fn create(message: impl Into<String>) -> Self {
        Self { stage: Stage::Create, message: message.into() }
    }

    /// A process that did not come to its program.
    pub fn run(message: impl Into<String>) -> Self {
        Self { stage: Stage::Run, message: message.into() }
    }
}

/// How much containers are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Namespaces where the machine allows them, plain processes otherwise.
    #[default]
    Auto,
    /// Namespaces, or an error.
    Namespaces,
    /// Plain processes.
    None,
}

/// What [`Isolation`] came out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Namespaces made as root.
    Root,
    /// Namespaces inside a user namespace that maps the caller to root.
    Rootless,
    /// Plain processes.
    Plain,
}

/// Body of [`Request::Init`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Init {
    /// Where the run directory is made.
    pub state: PathBuf,
    /// The run's name, unique on this machine.
    pub run: String,
    /// How much to keep apart.
    pub isolation: Isolation,
}

/// Body of [`Reply::Ready`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// The run directory; everything in it is removed at the end, however that comes.
    pub dir: PathBuf,
    /// What became of the wish for isolation.
    pub mode: Mode,
    /// The run's cgroup.
    pub cgroup: Option<PathBuf>,
    /// What the user should know, a line each.
    pub notices: Vec<String>,
}

/// Body of [`Request::Sandbox`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its number, chosen by the caller.
    pub sandbox: u64,
    /// A name for its cgroup.
    pub name: String,
    /// What its containers request in all, in thousandths of a core.
    pub cpu_request_milli: u64,
    /// The host name inside; `None` keeps the host's UTS namespace.
    pub hostname: Option<String>,
    /// Whether a descriptor of a network namespace comes with the request.
    pub network: bool,
    /// Whether it has an IPC namespace of its own.
    pub ipc: bool,
    /// Who shares PIDs.
    pub pids: Pids,
    /// How many containers are going to be started in it one after the other.
    pub starts: usize,
}

/// How PID namespaces are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pids {
    /// Each container has its own.
    Container,
    /// The containers of a pod share one (`shareProcessNamespace`).
    Pod,
    /// They see the host's (`hostPID`).
    Host,
}

/// What `/` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// The host's files, copied on write.
    Host,
    /// These directories, lowest first, copied on write.
    Layers(Vec<PathBuf>),
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is shown.
    pub source: Source,
    /// Where, inside the container.
    pub target: PathBuf,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether what is mounted below it is read-only too.
    pub read_only_below: bool,
    /// How mounts made later pass through it.
    pub propagation: Propagation,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file or directory of the host.
    Host(PathBuf),
    /// A memory file system of the pod.
    Memory(Memory),
}

/// A memory file system that the containers of a pod share. The first container that names it makes
/// it; it stays until [`Request::DropMemory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its name within the pod.
    pub name: String,
    /// How many bytes it holds; the kernel's default (half of the memory) if `None`.
    pub size: Option<u64>,
    /// The group that it and all files in it belong to. Left out where there is only one group.
    pub gid: Option<u32>,
    /// The part of it that is shown, relative to it and never outside; a directory is made if there is
    /// nothing.
    pub sub_path: Option<PathBuf>,
}

/// How mounts made later below a bind are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host into the container.
    FromHost,
    /// Both ways.
    Both,
}

/// One container, with everything decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its number.
    pub instance: u64,
    /// Its sandbox.
    pub sandbox: u64,
    /// Its pod, which may have several sandboxes one after the other.
    pub pod: String,
    /// Its name, for messages.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The working directory, made if missing.
    pub cwd: PathBuf,
    /// What `/` is.
    pub root: Root,
    /// Whether `/` is read-only.
    pub read_only_root: bool,
    /// What is mounted, in order.
    pub mounts: Vec<MountSpec>,
    /// The user; `None` keeps the caller's.
    pub uid: Option<u32>,
    /// The group; `None` keeps the caller's.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The host's devices, nothing masked.
    pub privileged: bool,
    /// Its capabilities; `None` for all the launcher has.
    pub caps: Option<Caps>,
    /// Whether no program may raise its privileges.
    pub no_new_privs: bool,
    /// Its limits.
    pub limits: Limits,
}

impl Spec {
    /// A container like any other, with the host's files and nothing that is its own.
    pub(crate) fn any() -> Self {
        Self {
            instance: 0,
            sandbox: 0,
            pod: String::new(),
            name: String::new(),
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            root: Root::Host,
            read_only_root: false,
            mounts: Vec::new(),
            uid: None,
            gid: None,
            groups: Vec::new(),
            privileged: false,
            caps: Some(Caps::defaults()),
            no_new_privs: false,
            limits: Limits::default(),
        }
    }
}

/// Body of [`Request::Exec`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Its number, chosen by the caller.
    pub exec: u64,
    /// In which container.
    pub instance: u64,
    /// The program and its arguments.
    pub argv: Vec<String>,
}
