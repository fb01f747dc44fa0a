//! The engine's door: what goes in ([`Input`]) and what comes out ([`Output`]).

use std::net::IpAddr;
use std::time::Duration;

use crate::plan::{ContainerId, HookKind, Plan, ProbeKind};
use crate::status::{InstanceId, Reason};

/// Something that happened outside, told to the engine with the time it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The volumes of the pod are mounted (answer to [`Output::MountVolumes`]).
    VolumesMounted,
    /// The volumes could not be mounted; the engine asks again after the kubelet's error back-off.
    VolumesFailed {
        /// What is missing, for the event.
        message: String,
    },
    /// The sandbox asked for by [`Output::CreateSandbox`] is ready.
    SandboxCreated {
        /// The attempt it was asked for with.
        attempt: u32,
        /// The pod's address; `None` for a pod on the host network.
        ip: Option<IpAddr>,
    },
    /// The sandbox could not be made.
    SandboxFailed {
        /// The attempt it was asked for with.
        attempt: u32,
        /// Why, for the event.
        message: String,
    },
    /// The current sandbox is gone or not ready any more (its pause process died, a node reboot).
    SandboxLost,
    /// The image is there (answer to [`Output::Pull`]).
    Pulled {
        /// The container it was asked for.
        container: ContainerId,
        /// `imageID` of the status.
        image_id: String,
    },
    /// The image could not be had.
    PullFailed {
        /// The container it was asked for.
        container: ContainerId,
        /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, ….
        reason: Reason,
        /// The runtime's words.
        message: String,
    },
    /// The process runs (answer to [`Output::Start`]).
    Started {
        /// The run that was asked for.
        instance: InstanceId,
    },
    /// The container could not be created or started (answer to [`Output::Start`]).
    StartFailed {
        /// The run that was asked for.
        instance: InstanceId,
        /// How far it got: decides what the status says.
        stage: StartStage,
        /// The runtime's words.
        message: String,
    },
    /// The process of a run ended, whatever the cause.
    Exited {
        /// The run.
        instance: InstanceId,
        /// Exit code, 128 + n for signal n.
        code: i32,
        /// The runtime's word if it is not `Completed` or `Error` (`OOMKilled`).
        reason: Option<Reason>,
        /// The termination message, empty if none.
        message: String,
    },
    /// A run is there that nobody here asked for: an old Docker daemon starts the containers of a pod
    /// by itself, all at once and in no order, when it is restarted.
    Found {
        /// The container it is a run of.
        container: ContainerId,
        /// Its identity; larger than any identity that the engine gives.
        instance: InstanceId,
    },
    /// A run that the engine asked to remove, or that someone pruned, is no longer known to the
    /// runtime.
    Removed {
        /// The run.
        instance: InstanceId,
    },
    /// The runtime cannot say what a run does (its shim died).
    Unknown {
        /// The run.
        instance: InstanceId,
    },
    /// A hook ended (answer to [`Output::RunHook`]).
    HookDone {
        /// The run the hook belongs to.
        instance: InstanceId,
        /// Which hook.
        hook: HookKind,
        /// `Err` with the message of the event if it failed.
        result: Result<(), String>,
    },
    /// A probe answered (answer to [`Output::RunProbe`]).
    ProbeDone {
        /// The run that was probed.
        instance: InstanceId,
        /// Which probe.
        probe: ProbeKind,
        /// What it said.
        result: ProbeResult,
    },
    /// Someone deletes the pod; `grace` is `deletionGracePeriodSeconds` (at least 1 s is used, and a
    /// later delete can only shorten it).
    Delete {
        /// The grace period asked for; `None` takes the pod's own.
        grace: Option<Duration>,
    },
    /// The spec was updated (an image, a deadline, an ephemeral container more).
    PlanChanged(Box<Plan>),
    /// The pod is evicted: it fails with this reason and message.
    Evict {
        /// `status.reason`.
        reason: Reason,
        /// `status.message`.
        message: String,
        /// The grace period of its containers, whatever the pod says; `None` takes the pod's own.
        grace: Option<Duration>,
    },
    /// Someone set the condition of a readiness gate.
    GateSet {
        /// The condition type.
        gate: String,
        /// Whether it is `True`.
        value: bool,
    },
    /// The driver restarted and kept the runtime (a kubelet restart): hooks and pulls that ran are
    /// forgotten, containers go on.
    DriverRestarted,
    /// Nothing but time passed.
    Tick,
}

/// How far the start of a container got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartStage {
    /// The configuration could not be made (a missing ConfigMap key): `CreateContainerConfigError`.
    Config,
    /// The runtime refused to create it: `CreateContainerError`.
    Create,
    /// It was created but its process did not start (command not found): `RunContainerError`, and
    /// the run counts as exited with code 128, `StartError`.
    Run,
}

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It passed.
    Success,
    /// It passed, but with a warning for an event (a redirect to another host).
    Warning(String),
    /// It failed; the text goes into the event.
    Failure(String),
    /// It could not be run; such an answer is not counted.
    Error(String),
}

/// Something the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Mount the pod's volumes; answer with [`Input::VolumesMounted`] or [`Input::VolumesFailed`].
    MountVolumes,
    /// Make the pod's sandbox (namespaces, address); answer with [`Input::SandboxCreated`] or
    /// [`Input::SandboxFailed`].
    CreateSandbox {
        /// Which attempt this is, from 0.
        attempt: u32,
    },
    /// Take the sandbox down. All its containers have ended.
    StopSandbox {
        /// Which attempt's sandbox.
        attempt: u32,
    },
    /// Make sure that the image is there; answer with [`Input::Pulled`] or [`Input::PullFailed`].
    Pull {
        /// For which container.
        container: ContainerId,
    },
    /// Create and start the container; answer with [`Input::Started`] or [`Input::StartFailed`].
    Start {
        /// Which container.
        container: ContainerId,
        /// The identity of this run.
        instance: InstanceId,
        /// Its `restartCount`.
        restart_count: u32,
    },
    /// Send the stop signal, and SIGKILL after `grace` if the process still runs (as
    /// `StopContainer` of the CRI does). The answer is [`Input::Exited`].
    Stop {
        /// Which container.
        container: ContainerId,
        /// Which run.
        instance: InstanceId,
        /// Time from the stop signal to SIGKILL.
        grace: Duration,
    },
    /// Forget an ended run and its files; answer with [`Input::Removed`].
    Remove {
        /// Which container.
        container: ContainerId,
        /// Which run.
        instance: InstanceId,
    },
    /// Run a hook; answer with [`Input::HookDone`].
    RunHook {
        /// Which container.
        container: ContainerId,
        /// Which run.
        instance: InstanceId,
        /// Which hook.
        hook: HookKind,
    },
    /// Run a probe once; answer with [`Input::ProbeDone`]. A later answer for a run that has ended is
    /// ignored.
    RunProbe {
        /// Which container.
        container: ContainerId,
        /// Which run.
        instance: InstanceId,
        /// Which probe.
        probe: ProbeKind,
    },
    /// A new status was published: read it with `Lifecycle::status`.
    StatusChanged,
    /// An event, as `kubectl get events` shows it.
    Event(Event),
    /// The pod is over and everything of it has been taken down; its object may be removed.
    Finished,
}

/// A Kubernetes Event about the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether `type` is `Warning` rather than `Normal`.
    pub warning: bool,
    /// `reason` (`Started`, `Killing`, `BackOff`, `Unhealthy`, …).
    pub reason: &'static str,
    /// `message`.
    pub message: String,
    /// The container it is about, if it is about one.
    pub container: Option<ContainerId>,
}
