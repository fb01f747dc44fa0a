//! The conditions of a pod (spec A13; kubelet: `status/generate.go`).

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Message, Waiting};
use crate::options::Features;
use crate::phase::{RESTARTING_ALL, pairs};
use crate::plan::{Container, ContainerId, Kind, Plan, RuleAction};
use crate::restart::{self, Verdict};
use crate::set::ContainerSet;
use crate::status::{ContainerStatus, Phase, PodStatus, Reason, State};

/// A condition without its type and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `status`.
    pub status: bool,
    /// `reason`, empty if none.
    pub reason: Reason,
    /// `message`, empty if none.
    pub message: Message,
}

/// The state of a readiness gate's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nobody has set it.
    Absent,
    /// It is `False`.
    False,
    /// It is `True`.
    True,
    /// It is `Unknown`.
    Unknown,
}

impl Finding {
    const TRUE: Self = Self::is(true, "");

    /// Without a message.
    pub(crate) const fn is(status: bool, reason: &'static str) -> Self {
        Self { status, reason: Cow::Borrowed(reason), message: Message::NONE }
    }

    fn no(reason: &'static str, message: Message) -> Self {
        Self { status: false, reason: Cow::Borrowed(reason), message }
    }

    /// `True`, unless somebody is waited for.
    fn unless_waiting(reason: &'static str, waiting: &Arc<Waiting>) -> Self {
        if waiting.is_over() {
            return Self::TRUE;
        }
        Self::no(reason, Message::waiting_for(waiting))
    }
}

/// `ContainersReady`; `statuses` is `None` before the first status.
pub fn containers_ready(plan: &Plan, statuses: Option<&PodStatus>, phase: Phase) -> Finding {
    match statuses {
        None => Finding::is(false, "UnknownContainerStatuses"),
        Some(statuses) => Standing::of(plan, statuses).containers_ready(phase),
    }
}

/// `Ready`: `ContainersReady` and every readiness gate.
pub fn ready(plan: &Plan, containers: &Finding, gate: impl Fn(&str) -> Gate) -> Finding {
    if !containers.status {
        return containers.clone();
    }
    let missing: Vec<String> = plan
        .readiness_gates
        .iter()
        .filter_map(|name| {
            let value = match gate(name) {
                Gate::True => return None,
                Gate::Absent => {
                    return Some(format!(
                        "corresponding condition of pod readiness gate \"{name}\" does not exist."
                    ));
                }
                Gate::False => "False",
                Gate::Unknown => "Unknown",
            };
            Some(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but {value}"
            ))
        })
        .collect();
    if missing.is_empty() {
        Finding::TRUE
    } else {
        Finding::no("ReadinessGatesNotReady", missing.join(", ").into())
    }
}

/// `Initialized`; `statuses` is `None` before the first status.
pub fn initialized(plan: &Plan, statuses: Option<&PodStatus>, phase: Phase) -> Finding {
    match statuses {
        None if plan.inits().next().is_none() => Finding::TRUE,
        None => Finding::is(false, "UnknownContainerStatuses"),
        Some(statuses) => Standing::of(plan, statuses).initialized(phase),
    }
}

/// Whom the conditions wait for: all that `ContainersReady` and `Initialized` depend on. The engine
/// notes each container as it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Sidecars and regular containers that are not ready.
    unready: Arc<Waiting>,
    /// Entries of the init list that are not done.
    incomplete: Arc<Waiting>,
    /// Regular containers that run or ended.
    seen: ContainerSet,
}

impl Standing {
    /// Nothing is noted yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let names: Arc<[Arc<str>]> = plan.containers.iter().map(|c| Arc::clone(&c.name)).collect();
        Self {
            unready: Arc::new(Waiting::new(Arc::clone(&names), "unready")),
            incomplete: Arc::new(Waiting::new(names, "incomplete")),
            seen: ContainerSet::default(),
        }
    }

    /// What these statuses say.
    fn of(plan: &Plan, statuses: &PodStatus) -> Self {
        let mut standing = Self::new(plan);
        for (id, status) in pairs(plan, statuses) {
            standing.note(id, plan.container(id), status);
        }
        standing
    }

    /// Notes the status of a container.
    pub(crate) fn note(
        &mut self,
        id: ContainerId,
        c: &Container,
        status: Option<&ContainerStatus>,
    ) {
        let ready = status.map(|s| s.ready);
        let started = status.map(|s| s.started == Some(true));
        match c.kind {
            Kind::Init => Waiting::note(&mut self.incomplete, id, ready),
            Kind::Sidecar => {
                Waiting::note(&mut self.incomplete, id, started);
                Waiting::note(&mut self.unready, id, ready);
            }
            Kind::Regular => {
                Waiting::note(&mut self.unready, id, ready);
                let seen = status.is_some_and(|s| !matches!(s.state, State::Waiting { .. }));
                self.seen.set(id, seen);
            }
            Kind::Ephemeral => {}
        }
    }

    /// `ContainersReady`.
    pub(crate) fn containers_ready(&self, phase: Phase) -> Finding {
        if phase == Phase::Failed {
            return Finding::is(false, "PodFailed");
        }
        if phase == Phase::Succeeded && !self.unready.has_unknown() {
            return Finding::is(false, "PodCompleted");
        }
        Finding::unless_waiting("ContainersNotReady", &self.unready)
    }

    /// `Initialized`.
    pub(crate) fn initialized(&self, phase: Phase) -> Finding {
        if phase == Phase::Succeeded && !self.incomplete.has_unknown() {
            return Finding::is(true, "PodCompleted");
        }
        if !self.seen.is_empty() {
            return Finding::TRUE;
        }
        Finding::unless_waiting("ContainersNotInitialized", &self.incomplete)
    }
}

/// `AllContainersRestarting`, for pods with a rule of that action; `before` is its last status.
pub fn all_restarting(
    plan: &Plan,
    statuses: &PodStatus,
    phase: Phase,
    before: bool,
    records_left: bool,
    features: &Features,
) -> Finding {
    let mut all = pairs(plan, statuses);
    let fired = all.any(|(id, s)| restarts_all(plan, plan.container(id), s, features));
    all_restarting_if(fired, phase, before, records_left)
}

/// `AllContainersRestarting`, if it is known whether some container [asks for it](restarts_all).
pub(crate) fn all_restarting_if(
    fired: bool,
    phase: Phase,
    before: bool,
    records_left: bool,
) -> Finding {
    match phase {
        Phase::Failed => return Finding::is(false, "PodFailed"),
        Phase::Succeeded => return Finding::is(false, "PodCompleted"),
        Phase::Pending | Phase::Running => {}
    }
    if fired || (before && records_left) {
        Finding {
            status: true,
            reason: Cow::Borrowed("RestartAllContainersStarted"),
            message: "container exited with restart policy rule".into(),
        }
    } else {
        Finding::is(false, "")
    }
}

/// Whether a container ended in a way that restarts all containers of the pod.
pub(crate) fn restarts_all(
    plan: &Plan,
    c: &Container,
    status: Option<&ContainerStatus>,
    features: &Features,
) -> bool {
    status.and_then(|s| s.state.terminated()).is_some_and(|t| {
        t.reason != RESTARTING_ALL
            && restart::on_exit(plan, c, t.exit_code, features) == Verdict::RestartAll
    })
}

/// Whether some rule of the pod restarts all containers.
pub fn has_restart_all_rule(plan: &Plan) -> bool {
    plan.containers
        .iter()
        .flat_map(|c| &c.restart_rules)
        .any(|r| r.action == RuleAction::RestartAllContainers)
}
