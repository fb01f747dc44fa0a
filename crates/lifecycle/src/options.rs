//! Which Kubernetes the engine imitates, and the few numbers an administrator may set.

use std::time::Duration;

/// Settings of one [`Lifecycle`](crate::Lifecycle).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The minor version of Kubernetes 1.x to imitate; [`Options::MINORS`] are known.
    pub minor: u32,
    /// How long a started container may stay unpublished. The kubelet learns of it by its relist
    /// (1 s); until then a container that ends at once is never seen running.
    pub relist: Duration,
    /// The identity of the pod's first run; later ones count up from it. A driver of many pods gives
    /// each a range of its own, so that one runtime can tell all runs apart.
    pub first_instance: u64,
    /// Limits of the crash-loop back-off (kubelet: `crashLoopBackOff.maxContainerRestartPeriod`).
    pub back_off: BackOffLimits,
    /// The feature gate `RestartAllContainersOnContainerExits`; `None` is the version's default.
    pub restart_all_containers: Option<bool>,
    /// The feature gate `ChangeContainerStatusOnKubeletRestart`; `None` is the version's default.
    pub change_status_on_restart: Option<bool>,
}

/// First and last value of an exponential back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffLimits {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// What differs between the versions, derived once from [`Options`].
///
/// Not imitated, since they are races, or sooner is as good: the requeue of a crash loop after
/// 10 s rather than when its back-off is over (up to 1.34), and the probe workers of a sidecar that a
/// kubelet up to 1.32 may lose when the sidecar ends under `restartPolicy: Never` (kubernetes#132826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `ContainerRestartRules`: a container's own `restartPolicy` and rules count (1.35).
    pub container_restart_rules: bool,
    /// `RestartAllContainersOnContainerExits` (1.36).
    pub restart_all_containers: bool,
    /// A restarted kubelet reseeds probe results, so that Ready pods flap (up to 1.34).
    pub change_status_on_restart: bool,
    /// `kubectl` shows an error rather than `Completed` (1.35).
    pub error_over_completed: bool,
    /// The phase looks at containers of the current sandbox only (1.33).
    pub sandbox_aware_phase: bool,
    /// An exited regular container no longer counts as proof of initialization (1.31).
    pub exited_is_not_initialized: bool,
    /// A sidecar that does not run counts as stopped for those that stop after it; before, they waited
    /// for it until their grace period was over (1.31, kubernetes#125935).
    pub absent_sidecars_are_stopped: bool,
    /// An init container killed for memory with exit code 0 counts as failed (1.34).
    pub oom_killed_init_fails: bool,
}

impl Options {
    /// The minor versions that the engine knows.
    pub const MINORS: std::ops::RangeInclusive<u32> = 29..=36;

    /// The features of the version, with the gates that were set.
    pub fn features(&self) -> Features {
        let minor = self.minor;
        Features {
            container_restart_rules: minor >= 35,
            restart_all_containers: self.restart_all_containers.unwrap_or(minor >= 36),
            change_status_on_restart: self.change_status_on_restart.unwrap_or(minor < 35),
            error_over_completed: minor >= 35,
            sandbox_aware_phase: minor >= 33,
            exited_is_not_initialized: minor >= 31,
            absent_sidecars_are_stopped: minor >= 31,
            oom_killed_init_fails: minor >= 34,
        }
    }
}

impl Default for Options {
    /// Kubernetes 1.35, with a relist of 100 ms instead of the kubelet's second.
    fn default() -> Self {
        Self {
            minor: 35,
            relist: Duration::from_millis(100),
            first_instance: 1,
            back_off: BackOffLimits::default(),
            restart_all_containers: None,
            change_status_on_restart: None,
        }
    }
}

impl Default for BackOffLimits {
    /// The kubelet's 10 s to 300 s.
    fn default() -> Self {
        Self { initial: Duration::from_secs(10), max: Duration::from_secs(300) }
    }
}
