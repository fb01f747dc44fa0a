//! The contract between the driver and a runtime, in the terms of the CRI.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;

use crate::image::{Image, PullError, PullPolicy};

/// Identifies one pod in a runtime: its UID.
pub type PodUid = std::sync::Arc<str>;

/// Something that can hold sandboxes and run containers in them.
///
/// All calls are made from one thread. What happens without being asked for (an exit, a line of
/// output, a lost sandbox) is sent as a [`RuntimeEvent`] on the channel the runtime was made with.
#[allow(async_fn_in_trait, reason = "all drivers run on one thread; no Send bound is wanted")]
pub trait Runtime {
    /// Makes the sandbox of a pod: namespaces, host name, address.
    ///
    /// # Errors
    /// The runtime's words if it cannot be made; nothing is left of it then.
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Option<IpAddr>, String>;

    /// Takes a sandbox down; whatever still runs in it is killed.
    async fn stop_sandbox(&self, pod: &PodUid, attempt: u32);

    /// Makes sure that an image is there, in a runtime that has images of its own
    /// ([`crate::Images::OfRuntime`]). Dropping the future ends the pull.
    ///
    /// # Errors
    /// [`PullError`], with the runtime's words.
    async fn pull(&self, request: &PullRequest) -> Result<Image, PullError> {
        let image = &request.image;
        Err(PullError {
            reason: "ErrImagePull".into(),
            message: format!("image {image:?}: this runtime has no images"),
        })
    }

    /// Forgets a pod that is over: what it had in memory ([`MountSource::PodTmpfs`]) is gone.
    async fn remove_pod(&self, pod: &PodUid);

    /// Waits until all that the containers of a pod had written has been told, after the pod was removed:
    /// where output outlives its container, an end does not wait for whoever takes the output.
    async fn written(&self, _pod: &PodUid) {}

    /// Creates and starts a container in the newest sandbox of its pod. When this returns `Ok` the
    /// process has been exec'ed.
    ///
    /// # Errors
    /// How far it got and the runtime's words.
    async fn start(&self, config: ContainerConfig) -> Result<(), StartError>;

    /// What a run is called in a status, `RUNTIME://ID`; none if there is no container of it. Asked when
    /// [`Runtime::start`] has returned.
    fn container_id(&self, instance: InstanceId) -> Option<String> {
        Some(format!("holdfast://{:016x}", instance.0))
    }

    /// Sends the stop signal, and SIGKILL to the whole container after `grace`. Returns when the stop
    /// signal is sent; the exit comes as [`RuntimeEvent::Exited`].
    async fn stop(&self, instance: InstanceId, grace: Duration);

    /// Sends SIGKILL to the whole container (faults `kill` and `oom`, a second Ctrl-C).
    async fn kill(&self, instance: InstanceId, oom: bool);

    /// Forgets an ended container and removes its files.
    async fn remove(&self, instance: InstanceId);

    /// Runs a command inside a running container, as `ExecSync` does.
    ///
    /// # Errors
    /// If the command could not be run at all.
    async fn exec(
        &self,
        instance: InstanceId,
        argv: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, String>;
}

/// An image that a pod wants.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The pod. It has a sandbox.
    pub pod: PodUid,
    /// The image as the container names it.
    pub image: String,
    /// `imagePullPolicy`.
    pub policy: PullPolicy,
    /// The pod's `imagePullSecrets` that are there: `type` and `data`.
    pub secrets: Vec<(String, BTreeMap<String, Vec<u8>>)>,
}

/// What a sandbox is made of.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// The pod.
    pub pod: PodUid,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Which attempt this is, from 0.
    pub attempt: u32,
    /// The host name inside (`spec.hostname`, else the pod's name); `None` keeps the host's
    /// (`hostNetwork`).
    pub hostname: Option<String>,
    /// Whether the pod shares the host's network.
    pub host_network: bool,
    /// `hostPID`.
    pub host_pid: bool,
    /// `hostIPC`.
    pub host_ipc: bool,
    /// `shareProcessNamespace`.
    pub share_process_namespace: bool,
    /// Ports of the host that lead to the pod (`hostPort`), when it has a network of its own.
    pub host_ports: Vec<HostPort>,
    /// What its containers request of processors at once, in thousandths of a core.
    pub cpu_request_milli: u64,
    /// Its resolvers.
    pub dns: Dns,
    /// `securityContext.sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// `runtimeClassName`, taken for the name of a runtime's handler.
    pub runtime_handler: String,
    /// Whether one of its containers is privileged.
    pub privileged: bool,
    /// Who runs what the runtime itself runs in it.
    pub user: User,
    /// How that is confined.
    pub confinement: Confinement,
    /// A directory of this machine that is the pod's own and goes with it.
    pub directory: PathBuf,
    /// How many containers it is going to have when all goes well, so that a runtime may prepare them.
    pub containers: usize,
}

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `nameserver`.
    pub servers: Vec<String>,
    /// `search`.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// How a container is confined by profiles and labels. Only a CRI runtime can do that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// `seccompProfile`; `Unconfined` if the pod names none (kubelet: `getSeccompProfile`).
    pub seccomp: Profile,
    /// `appArmorProfile`; `None` leaves it to the runtime.
    pub app_armor: Option<Profile>,
    /// `seLinuxOptions`: user, role, type, level.
    pub se_linux: Option<[String; 4]>,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
    /// `supplementalGroupsPolicy: Strict`.
    pub strict_groups: bool,
}

/// A `seccompProfile` or `appArmorProfile`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// `RuntimeDefault`.
    RuntimeDefault,
    /// `Unconfined`.
    #[default]
    Unconfined,
    /// `Localhost`: `localhostProfile`.
    Localhost(String),
}

/// One `hostPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host's port.
    pub host: u16,
    /// The pod's port.
    pub container: u16,
    /// Whether it is UDP rather than TCP.
    pub udp: bool,
    /// `hostIP`, all addresses if `None`.
    pub ip: Option<IpAddr>,
}

/// Everything a runtime needs to start one container: a Pod's container with image, environment and
/// volumes resolved.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// The pod.
    pub pod: PodUid,
    /// The container's name, for messages and the output prefix.
    pub name: String,
    /// This run.
    pub instance: InstanceId,
    /// Its restart count.
    pub restart_count: u32,
    /// The image as the Pod names it.
    pub image: String,
    /// The program and its arguments; never empty. With an image of the runtime's own only what
    /// replaces its entrypoint, or nothing.
    pub argv: Vec<String>,
    /// With an image of the runtime's own, what replaces its `Cmd`.
    pub args: Vec<String>,
    /// The whole environment, in order, each name once.
    pub env: Vec<(String, String)>,
    /// `workingDir` or the image's; `None` is `/`.
    pub cwd: Option<PathBuf>,
    /// What `/` is.
    pub root: RootFs,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// What is mounted on top, in order.
    pub mounts: Vec<Mount>,
    /// Who runs it.
    pub user: User,
    /// `privileged`.
    pub privileged: bool,
    /// The capabilities it has (without `CAP_`), `None` for everything the caller has.
    pub capabilities: Option<Vec<String>>,
    /// `capabilities.add` and `capabilities.drop` as written, for a runtime with a set of its own.
    pub changed_capabilities: (Vec<String>, Vec<String>),
    /// Whether `no_new_privs` is set (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// Profiles and labels.
    pub confinement: Confinement,
    /// Limits, where the machine has the controllers.
    pub limits: Limits,
    /// Where the container writes its termination message (`terminationMessagePath`).
    pub termination_message_path: String,
    /// Whether the tail of the output serves as the message of a failure
    /// (`terminationMessagePolicy: FallbackToLogsOnError`).
    pub termination_message_from_logs: bool,
    /// The signal that asks it to stop (SIGTERM unless the image or `lifecycle.stopSignal` says
    /// otherwise), as a number.
    pub stop_signal: i32,
    /// Whether `lifecycle.stopSignal` names it: an image of the runtime's own has one that only the
    /// runtime knows.
    pub own_stop_signal: bool,
    /// `tty`.
    pub tty: bool,
    /// `stdin`.
    pub stdin: bool,
}

/// The root file system of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFs {
    /// The host's files; what the container writes outside its mounts is its own and goes with it.
    Host,
    /// A directory, or the layers of an image with the lowest first; never written to.
    Layers(Vec<PathBuf>),
    /// An image of the runtime's own ([`Runtime::pull`]), by the runtime's reference.
    Image(String),
}

/// One mount inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, as an absolute path inside the container.
    pub target: PathBuf,
    /// Whether it is read-only.
    pub read_only: bool,
    /// What becomes of mounts below it, if it is read-only (`recursiveReadOnly`).
    pub below: Below,
    /// `mountPropagation`.
    pub propagation: Propagation,
}

/// What becomes of mounts below a read-only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Below {
    /// They stay as they are.
    #[default]
    AsTheyAre,
    /// They are read-only too, where the runtime can do it.
    ReadOnlyIfPossible,
    /// They are read-only too, or the container does not start.
    ReadOnly,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory of the host, bound by its inode. The path has no symbolic links: one that
    /// appears in it before the mount is made is refused.
    Bind(PathBuf),
    /// The same, of a part of a volume (`subPath`): a container may put a symbolic link there at any
    /// time.
    BindPart(PathBuf),
    /// A memory file system that all containers of the pod share. It is made when the first of them
    /// starts and stays, also when the sandbox is replaced, until [`Runtime::remove_pod`].
    PodTmpfs(PodTmpfs),
}

/// A memory file system of a pod. All mounts of one name have the same size and group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTmpfs {
    /// Its name within the pod.
    pub name: String,
    /// How many bytes it holds; `None` for the kernel's default, half of the memory.
    pub size: Option<u64>,
    /// The group it is given to (`fsGroup`).
    pub gid: Option<u32>,
    /// The part of it that is mounted (`subPath`): a relative path without `..`, looked up inside when
    /// the container starts; a directory is made if there is nothing.
    pub sub_path: Option<PathBuf>,
}

/// `mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// `None`.
    #[default]
    Private,
    /// `HostToContainer`.
    HostToContainer,
    /// `Bidirectional`.
    Bidirectional,
}

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id; `None` keeps the caller's.
    pub uid: Option<u32>,
    /// Group id; `None` keeps the caller's.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// With an image of the runtime's own: the user it names, which only the runtime can look up.
    pub name: Option<String>,
}

/// Resource limits and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPU limit in thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// CPU request in thousandths of a core.
    pub cpu_request_milli: Option<u64>,
    /// How early the kernel kills it when memory runs out, -1000 to 1000 (`oom_score_adj`).
    pub oom_score: i32,
}

/// A container that did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// How far it got.
    pub stage: StartStage,
    /// The runtime's words.
    pub message: String,
}

/// The end of a command run by [`Runtime::exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// It ended by itself.
    Ended {
        /// Its exit code.
        code: i32,
        /// What it wrote to stdout and stderr, at most 10 KiB.
        output: Vec<u8>,
    },
    /// It was killed because its time was over.
    TimedOut,
}

/// Room that a line of output takes as long as nobody has shown it: a source that can wait does so when
/// there is none left. `None` from a source that cannot.
pub type Receipt = Option<std::sync::Arc<tokio::sync::OwnedSemaphorePermit>>;

/// Something that happened in a runtime.
#[derive(Clone, Debug)]
pub enum RuntimeEvent {
    /// A container's main process ended, and with it everything in it.
    Exited {
        /// The pod.
        pod: PodUid,
        /// The run.
        instance: InstanceId,
        /// Exit code, 128 + n for signal n.
        code: i32,
        /// Whether the kernel killed it for memory.
        oom: bool,
        /// The termination message.
        message: String,
    },
    /// A container wrote a line.
    Output {
        /// The pod.
        pod: PodUid,
        /// The container's name.
        container: String,
        /// Whether it went to stderr.
        stderr: bool,
        /// The line without its end; a line over 16 KiB comes in pieces.
        line: Vec<u8>,
        /// Dropped when the line has been taken.
        receipt: Receipt,
    },
    /// A container that had been started is not known to the runtime any more: someone else has removed
    /// it.
    Removed {
        /// The pod.
        pod: PodUid,
        /// The run.
        instance: InstanceId,
    },
    /// The runtime cannot say any more what a container does.
    Unknown {
        /// The pod.
        pod: PodUid,
        /// The run.
        instance: InstanceId,
    },
    /// The sandbox of a pod is gone.
    SandboxLost {
        /// The pod.
        pod: PodUid,
        /// Which attempt.
        attempt: u32,
    },
}
