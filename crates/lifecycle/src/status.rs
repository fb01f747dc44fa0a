//! The status of a pod as the API server would hold it (`PodStatus` of core/v1).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::time::Time;

pub use crate::message::Message;

/// A reason: nearly always one of Kubernetes' fixed words, so usually borrowed.
pub type Reason = Cow<'static, str>;

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatus {
    /// `phase`.
    pub phase: Phase,
    /// `reason` (`Evicted`, `DeadlineExceeded`), empty if none.
    pub reason: Reason,
    /// `message`, empty if none.
    pub message: Reason,
    /// `conditions`, in the order the kubelet writes them.
    pub conditions: Vec<Condition>,
    /// `startTime`: when the pod was first seen here.
    pub start_time: Option<Time>,
    /// `podIP`.
    pub pod_ip: Option<IpAddr>,
    /// `initContainerStatuses`, in spec order.
    pub init: Vec<ContainerStatus>,
    /// `containerStatuses`, sorted by name as the kubelet does.
    pub regular: Vec<ContainerStatus>,
    /// `ephemeralContainerStatuses`.
    pub ephemeral: Vec<ContainerStatus>,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Accepted; not every container has been started yet.
    #[default]
    Pending,
    /// Initialized, and at least one container runs or is being restarted.
    Running,
    /// Every regular container ended with exit code 0 and none will be restarted.
    Succeeded,
    /// Every regular container ended, at least one of them in failure.
    Failed,
}

/// One entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: ConditionKind,
    /// `status`.
    pub status: bool,
    /// `reason`, empty if none.
    pub reason: Reason,
    /// `message`, empty if none.
    pub message: Message,
    /// `lastTransitionTime`: when `status` last changed.
    pub last_transition: Time,
}

/// `type` of a [`Condition`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConditionKind {
    /// `PodReadyToStartContainers`.
    PodReadyToStartContainers,
    /// `Initialized`.
    Initialized,
    /// `Ready`.
    Ready,
    /// `ContainersReady`.
    ContainersReady,
    /// `PodScheduled`.
    PodScheduled,
    /// `AllContainersRestarting` (a rule with action `RestartAllContainers` is at work).
    AllContainersRestarting,
    /// A readiness gate's condition, set by someone else.
    Other(Arc<str>),
}

/// One entry of `containerStatuses` or its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// `name`.
    pub name: Arc<str>,
    /// `state`.
    pub state: State,
    /// `lastState`; `None` is the empty object.
    pub last_state: Option<Terminated>,
    /// `ready`.
    pub ready: bool,
    /// `started`; `None` where the kubelet leaves the field out.
    pub started: Option<bool>,
    /// `restartCount`.
    pub restart_count: u32,
    /// `image`, as the spec names it.
    pub image: Arc<str>,
    /// `imageID`, empty if unknown.
    pub image_id: Arc<str>,
    /// `containerID` without its scheme, `None` before the first start.
    pub instance: Option<InstanceId>,
}

/// The identity of one run of one container; a restart has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// `state` of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started (again) yet.
    Waiting {
        /// Why (`PodInitializing`, `CrashLoopBackOff`, …), empty if the kubelet leaves it out.
        reason: Reason,
        /// Details, empty if none.
        message: Reason,
    },
    /// Its process runs.
    Running {
        /// Since when.
        started_at: Time,
    },
    /// Its process ended.
    Terminated(Terminated),
}

/// `terminated` of a state or a last state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    /// `exitCode`; 128 + n for a process ended by signal n.
    pub exit_code: i32,
    /// `reason` (`Completed`, `Error`, `OOMKilled`, `StartError`, …), empty if none.
    pub reason: Reason,
    /// `message`: the termination message, empty if none.
    pub message: Reason,
    /// `startedAt`, if it ever started.
    pub started_at: Option<Time>,
    /// `finishedAt`.
    pub finished_at: Option<Time>,
    /// The run that ended, `None` if the runtime lost it.
    pub instance: Option<InstanceId>,
}

impl Phase {
    /// Whether nothing comes after this phase.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

impl ConditionKind {
    /// The word in the API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::PodReadyToStartContainers => "PodReadyToStartContainers",
            Self::Initialized => "Initialized",
            Self::Ready => "Ready",
            Self::ContainersReady => "ContainersReady",
            Self::PodScheduled => "PodScheduled",
            Self::AllContainersRestarting => "AllContainersRestarting",
            Self::Other(name) => name,
        }
    }
}

impl PodStatus {
    /// The condition of this kind, if it is there.
    pub fn condition(&self, kind: &ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == *kind)
    }

    /// Whether the condition of this kind is there and `True`.
    pub fn is_true(&self, kind: &ConditionKind) -> bool {
        self.condition(kind).is_some_and(|c| c.status)
    }

    /// The statuses of all containers: init list, regular, ephemeral.
    pub fn all(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.init.iter().chain(&self.regular).chain(&self.ephemeral)
    }
}

impl State {
    /// Whether the container's process runs.
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// The termination, if this is one.
    pub const fn terminated(&self) -> Option<&Terminated> {
        match self {
            Self::Terminated(t) => Some(t),
            _ => None,
        }
    }
}
