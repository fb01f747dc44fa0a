//! Container statuses from what the runtime holds (spec A12; kubelet:
//! `convertToAPIContainerStatuses`, prober: `UpdatePodStatus`).

use std::borrow::Cow;
use std::sync::Arc;

use crate::options::Features;
use crate::phase::RESTARTING_ALL;
use crate::plan::{Container, ContainerId, Kind, Plan, ProbeKind};
use crate::probe::{Outcome, ProbeManager};
use crate::restart::should_restart;
use crate::status::{ContainerStatus, Reason, State, Terminated};
use crate::view::{Instance, InstanceState, RuntimeView};

/// Exit code of a run whose real one is lost.
pub const LOST: i32 = 137;
/// Reason of such a termination.
pub const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

/// Why a container could not be started the last time it was tried (kubelet: `reasonCache`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReason {
    /// `CrashLoopBackOff`, `ErrImagePull`, ….
    pub reason: Reason,
    /// Details.
    pub message: String,
}

/// Everything that container statuses are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) view: &'a RuntimeView,
    pub(crate) probes: &'a ProbeManager,
    pub(crate) reasons: &'a [Option<StartReason>],
    /// Containers whose runs were removed for an in-place restart.
    pub(crate) reset: &'a [bool],
    pub(crate) features: &'a Features,
    pub(crate) deleted: bool,
}

/// What the statuses of all containers depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Common {
    /// Whether the init list has an entry.
    pub(crate) has_inits: bool,
    /// Whether some regular container has a run.
    pub(crate) regular_created: bool,
}

impl Sources<'_> {
    /// The status of one container, whose last published one is `old`, and whether it is started but
    /// not ready: then its readiness probe runs at once.
    pub(crate) fn one(
        &self,
        id: ContainerId,
        old: Option<&ContainerStatus>,
        common: Common,
    ) -> (ContainerStatus, bool) {
        let c = self.plan.container(id);
        let mut s = self.status(id, c, old, common);
        let eager = self.mark(id, c, old, &mut s);
        (s, eager)
    }

    fn status(
        &self,
        id: ContainerId,
        c: &Container,
        old: Option<&ContainerStatus>,
        common: Common,
    ) -> ContainerStatus {
        let newest = self.view.newest(id);
        let mut s = match newest {
            Some(run) => self.of_run(id, c, run, old),
            None => self.of_nothing(id, c, old, common),
        };
        let completed_init = c.kind == Kind::Init
            && newest.and_then(Instance::exit).is_some_and(|t| t.exit_code == 0);
        if !completed_init
            && let Some(why) = &self.reasons[id.index()]
            && should_restart(self.plan, c, newest, self.deleted, self.features)
        {
            let state = State::Waiting {
                reason: why.reason.clone(),
                message: Cow::Owned(why.message.clone()),
            };
            if let State::Terminated(t) = std::mem::replace(&mut s.state, state) {
                s.last_state = Some(t);
            }
        }
        s
    }

    /// The status of a container that the runtime has a run of.
    fn of_run(
        &self,
        id: ContainerId,
        c: &Container,
        run: &Instance,
        old: Option<&ContainerStatus>,
    ) -> ContainerStatus {
        let state = match &run.state {
            InstanceState::Running { started_at } => State::Running { started_at: *started_at },
            InstanceState::Exited(t) => State::Terminated(t.clone()),
            InstanceState::Unknown if old.is_some_and(|o| o.state.is_running()) => {
                State::Terminated(lost(
                    "The container could not be located when the pod was terminated",
                ))
            }
            InstanceState::Created | InstanceState::Unknown => waiting(""),
        };
        let mut restart_count = run.restart_count;
        if self.features.restart_all_containers
            && let Some(old) = old
        {
            let again = old.state.terminated().is_some() && run.is_running();
            let least =
                old.restart_count + u32::from(again && run.restart_count <= old.restart_count);
            restart_count = restart_count.max(least);
        }
        ContainerStatus {
            name: Arc::clone(&c.name),
            state,
            last_state: self.view.previous(id).and_then(Instance::exit).cloned(),
            ready: false,
            started: None,
            restart_count,
            image: Arc::clone(&run.image),
            image_id: Arc::clone(&run.image_id),
            instance: Some(run.id),
        }
    }

    /// The status of a container that the runtime knows nothing of.
    fn of_nothing(
        &self,
        id: ContainerId,
        c: &Container,
        old: Option<&ContainerStatus>,
        common: Common,
    ) -> ContainerStatus {
        let mut s = ContainerStatus {
            name: Arc::clone(&c.name),
            state: waiting(if common.has_inits { "PodInitializing" } else { "ContainerCreating" }),
            last_state: None,
            ready: false,
            started: None,
            restart_count: 0,
            image: Arc::clone(&c.image),
            image_id: "".into(),
            instance: None,
        };
        if self.reset[id.index()]
            && let Some(old) = old
        {
            s.last_state = Some(match (&old.state, &old.last_state) {
                (State::Waiting { reason, .. }, Some(last)) if reason == RESTARTING_ALL => {
                    last.clone()
                }
                _ => Terminated {
                    exit_code: LOST,
                    reason: Cow::Borrowed(RESTARTING_ALL),
                    message: Cow::Borrowed(
                        "The container is removed because RestartAllContainers in place",
                    ),
                    ..Terminated::default()
                },
            });
            let counted =
                matches!(&old.state, State::Waiting { reason, .. } if reason == RESTARTING_ALL);
            s.restart_count = old.restart_count + u32::from(!counted);
            s.state = waiting(RESTARTING_ALL);
            return s;
        }
        let Some(old) = old else { return s };
        if old.state.terminated().is_some() {
            return old.clone();
        }
        s.restart_count = old.restart_count;
        s.last_state.clone_from(&old.last_state);
        if c.kind == Kind::Init && common.regular_created {
            s.state = State::Terminated(Terminated {
                exit_code: 0,
                reason: Cow::Borrowed("Completed"),
                message: Cow::Borrowed(
                    "Unable to get init container status from container runtime and pod has been \
                     initialized, but Kubernetes will not re-run it",
                ),
                ..Terminated::default()
            });
        } else if old.state.is_running() && s.last_state.is_none() {
            s.last_state = Some(lost(
                "The container could not be located when the pod was deleted.  The container used to be Running",
            ));
            s.restart_count += u32::from(!self.deleted);
        }
        s
    }

    /// Sets `started` and `ready`; true if a readiness probe should run at once.
    pub(crate) fn mark(
        &self,
        id: ContainerId,
        c: &Container,
        old: Option<&ContainerStatus>,
        s: &mut ContainerStatus,
    ) -> bool {
        let results = self.probes.results();
        let same_run = old.filter(|o| o.instance == s.instance && o.state.is_running());
        let keep = !self.features.change_status_on_restart;
        if c.kind == Kind::Ephemeral {
            return false;
        }
        let running = s.state.is_running();
        let started = running
            && match results.get(id, ProbeKind::Startup) {
                Some(outcome) => outcome == Outcome::Success,
                None => {
                    (keep && same_run.is_some_and(|o| o.started == Some(true)))
                        || !self.probes.has_worker(id, ProbeKind::Startup)
                }
            };
        s.started = Some(started);
        if c.kind == Kind::Init {
            s.ready = s.state.terminated().is_some_and(|t| t.exit_code == 0);
            return false;
        }
        if !started {
            return false;
        }
        let watched = self.probes.has_worker(id, ProbeKind::Readiness);
        s.ready = match results.get(id, ProbeKind::Readiness) {
            Some(outcome) => outcome == Outcome::Success,
            None => !watched || (keep && same_run.is_some_and(|o| o.ready)),
        };
        watched && results.get(id, ProbeKind::Readiness) != Some(Outcome::Success)
    }
}

/// `Waiting` without a message.
pub(crate) const fn waiting(reason: &'static str) -> State {
    State::Waiting { reason: Cow::Borrowed(reason), message: Cow::Borrowed("") }
}

/// The termination of a run whose end nobody saw.
pub(crate) fn lost(message: &'static str) -> Terminated {
    Terminated {
        exit_code: LOST,
        reason: Cow::Borrowed(STATUS_UNKNOWN),
        message: Cow::Borrowed(message),
        ..Terminated::default()
    }
}
