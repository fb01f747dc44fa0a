//! What the engine must know of a pod: the parts of its spec that decide order and restarts.
//!
//! A [`Plan`] is made by the `manifest` crate from a defaulted and validated Pod, or by a test.
//! Handlers (the command of an exec probe, the URL of a hook) stay with the driver: the engine only
//! says *when* one runs and takes its answer.

use std::sync::Arc;
use std::time::Duration;

/// A pod as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`; part of the back-off key and of messages.
    pub uid: Arc<str>,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds` (Kubernetes' default is 30 s).
    pub termination_grace: Duration,
    /// `spec.activeDeadlineSeconds`, counted from `status.startTime`.
    pub active_deadline: Option<Duration>,
    /// `spec.hostNetwork`: such a pod needs no address of its own to be usable.
    pub host_network: bool,
    /// `spec.readinessGates[].conditionType`, in order.
    pub readiness_gates: Vec<Arc<str>>,
    /// All containers: first `spec.initContainers` in order, then `spec.containers` in order, then
    /// ephemeral containers. [`ContainerId`] is an index into this list.
    pub containers: Vec<Container>,
}

/// The index of a container in [`Plan::containers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub u32);

impl ContainerId {
    /// The index as a `usize`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// `spec.restartPolicy` of a pod, or `restartPolicy` of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// Restart whatever the exit code.
    #[default]
    Always,
    /// Restart unless the exit code is 0.
    OnFailure,
    /// Do not restart.
    Never,
}

/// Which list a container comes from, and how it takes part in the pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An entry of `spec.initContainers` without `restartPolicy: Always`: runs to completion.
    Init,
    /// An entry of `spec.initContainers` with `restartPolicy: Always`: a native sidecar.
    Sidecar,
    /// An entry of `spec.containers`.
    Regular,
    /// An entry of `spec.ephemeralContainers`: started once, never counted.
    Ephemeral,
}

/// One container of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// `name`, unique in the pod.
    pub name: Arc<str>,
    /// How it takes part in the pod's life.
    pub kind: Kind,
    /// `image`; a changed image restarts the container and resets its back-off.
    pub image: Arc<str>,
    /// A digest of `resources`: part of the back-off key (A7), nothing else reads it.
    pub resources: u64,
    /// The container's own `restartPolicy`; a sidecar's `Always` is *not* repeated here.
    pub restart_policy: Option<RestartPolicy>,
    /// `restartPolicyRules`, in order; only looked at when `restart_policy` is set.
    pub restart_rules: Vec<RestartRule>,
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `readinessProbe`.
    pub readiness: Option<Probe>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// Whether there is a `lifecycle.postStart`.
    pub post_start: bool,
    /// Whether there is a `lifecycle.preStop`.
    pub pre_stop: bool,
}

/// One entry of `restartPolicyRules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// What to do when the rule matches.
    pub action: RuleAction,
    /// Whether `values` must contain the exit code (`In`) or must not (`NotIn`).
    pub negated: bool,
    /// `exitCodes.values`.
    pub values: Vec<i32>,
}

/// `action` of a [`RestartRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// Restart this container.
    Restart,
    /// Restart every container of the pod in place, init containers included.
    RestartAllContainers,
}

/// The numbers of a probe, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// `initialDelaySeconds`.
    pub initial_delay: Duration,
    /// `periodSeconds`.
    pub period: Duration,
    /// `timeoutSeconds`; the driver keeps it, the engine hands it on.
    pub timeout: Duration,
    /// `successThreshold`.
    pub success_threshold: u32,
    /// `failureThreshold`.
    pub failure_threshold: u32,
    /// The probe's own `terminationGracePeriodSeconds`.
    pub termination_grace: Option<Duration>,
}

/// Which probe of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `readinessProbe`.
    Readiness,
    /// `livenessProbe`.
    Liveness,
}

/// Which hook of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

impl Plan {
    /// The container with this id.
    ///
    /// # Panics
    /// If the id is not of this plan.
    pub fn container(&self, id: ContainerId) -> &Container {
        &self.containers[id.index()]
    }

    /// The id of the container called `name`.
    pub fn find(&self, name: &str) -> Option<ContainerId> {
        self.ids().find(|&id| &*self.container(id).name == name)
    }

    /// Every container, in plan order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ContainerId> + ExactSizeIterator + use<> {
        (0..self.containers.len() as u32).map(ContainerId)
    }

    /// The entries of `spec.initContainers` (sidecars included), in order.
    pub fn inits(&self) -> impl DoubleEndedIterator<Item = ContainerId> + '_ {
        self.ids().filter(|&id| self.container(id).kind.in_init_list())
    }

    /// The entries of `spec.containers`, in order.
    pub fn regulars(&self) -> impl DoubleEndedIterator<Item = ContainerId> + '_ {
        self.ids().filter(|&id| self.container(id).kind == Kind::Regular)
    }

    /// Whether there is a native sidecar.
    pub fn has_sidecars(&self) -> bool {
        self.containers.iter().any(|c| c.kind == Kind::Sidecar)
    }
}

impl Kind {
    /// Whether the container is an entry of `spec.initContainers`.
    pub const fn in_init_list(self) -> bool {
        matches!(self, Self::Init | Self::Sidecar)
    }
}

impl Container {
    /// A container with nothing but a name, a kind and an image.
    pub fn new(name: &str, kind: Kind, image: &str) -> Self {
        Self {
            name: name.into(),
            kind,
            image: image.into(),
            resources: 0,
            restart_policy: None,
            restart_rules: Vec::new(),
            startup: None,
            readiness: None,
            liveness: None,
            post_start: false,
            pre_stop: false,
        }
    }

    /// The probe of this kind, if there is one.
    pub const fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }
}

impl RestartRule {
    /// Whether the rule is about this exit code.
    pub fn matches(&self, code: i32) -> bool {
        self.values.contains(&code) != self.negated
    }
}

impl Default for Probe {
    /// Kubernetes' defaults: every 10 s, 1 s timeout, one success, three failures.
    fn default() -> Self {
        Self {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
            termination_grace: None,
        }
    }
}
