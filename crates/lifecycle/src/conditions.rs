//! The conditions of a pod (spec A13; kubelet: `status/generate.go`).

use std::borrow::Cow;

use crate::options::Features;
use crate::phase::{RESTARTING_ALL, find};
use crate::plan::{Container, Kind, Plan, RuleAction};
use crate::restart::{self, Verdict};
use crate::status::{ContainerStatus, Phase, PodStatus, Reason, State};

/// A condition without its type and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `status`.
    pub status: bool,
    /// `reason`, empty if none.
    pub reason: Reason,
    /// `message`, empty if none.
    pub message: Reason,
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
    const TRUE: Self = Self { status: true, reason: Cow::Borrowed(""), message: Cow::Borrowed("") };

    const fn is(status: bool, reason: &'static str) -> Self {
        Self { status, reason: Cow::Borrowed(reason), message: Cow::Borrowed("") }
    }

    const fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason: Cow::Borrowed(reason), message: Cow::Owned(message) }
    }
}

/// `ContainersReady`; `statuses` is `None` before the first status.
pub fn containers_ready(plan: &Plan, statuses: Option<&PodStatus>, phase: Phase) -> Finding {
    let Some(statuses) = statuses else { return Finding::is(false, "UnknownContainerStatuses") };
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    for (c, status) in pairs(plan, statuses).filter(|(c, _)| c.kind != Kind::Init) {
        match status {
            None => unknown.push(&*c.name),
            Some(s) if !s.ready => unready.push(&*c.name),
            Some(_) => {}
        }
    }
    if phase == Phase::Failed {
        return Finding::is(false, "PodFailed");
    }
    if phase == Phase::Succeeded && unknown.is_empty() {
        return Finding::is(false, "PodCompleted");
    }
    match message(&unknown, "unready", &unready) {
        Some(text) => Finding::no("ContainersNotReady", text),
        None => Finding::TRUE,
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
        Finding::no("ReadinessGatesNotReady", missing.join(", "))
    }
}

/// `Initialized`; `statuses` is `None` before the first status.
pub fn initialized(plan: &Plan, statuses: Option<&PodStatus>, phase: Phase) -> Finding {
    if plan.inits().next().is_none() {
        return Finding::TRUE;
    }
    let Some(statuses) = statuses else { return Finding::is(false, "UnknownContainerStatuses") };
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for (c, status) in pairs(plan, statuses).filter(|(c, _)| c.kind.in_init_list()) {
        let done = match (c.kind, status) {
            (_, None) => {
                unknown.push(&*c.name);
                continue;
            }
            (Kind::Sidecar, Some(s)) => s.started == Some(true),
            (_, Some(s)) => s.ready,
        };
        if !done {
            incomplete.push(&*c.name);
        }
    }
    if phase == Phase::Succeeded && unknown.is_empty() {
        return Finding::is(true, "PodCompleted");
    }
    let seen_regular = pairs(plan, statuses)
        .filter(|(c, _)| c.kind == Kind::Regular)
        .any(|(_, s)| s.is_some_and(|s| !matches!(s.state, State::Waiting { .. })));
    if seen_regular {
        return Finding::TRUE;
    }
    match message(&unknown, "incomplete", &incomplete) {
        Some(text) => Finding::no("ContainersNotInitialized", text),
        None => Finding::TRUE,
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
    match phase {
        Phase::Failed => return Finding::is(false, "PodFailed"),
        Phase::Succeeded => return Finding::is(false, "PodCompleted"),
        Phase::Pending | Phase::Running => {}
    }
    let fired = pairs(plan, statuses).any(|(c, s)| {
        s.and_then(|s| s.state.terminated()).is_some_and(|t| {
            t.reason != RESTARTING_ALL
                && restart::on_exit(plan, c, t.exit_code, features) == Verdict::RestartAll
        })
    });
    if fired || (before && records_left) {
        Finding {
            status: true,
            reason: Cow::Borrowed("RestartAllContainersStarted"),
            message: Cow::Borrowed("container exited with restart policy rule"),
        }
    } else {
        Finding::is(false, "")
    }
}

/// Whether some rule of the pod restarts all containers.
pub fn has_restart_all_rule(plan: &Plan) -> bool {
    plan.containers
        .iter()
        .flat_map(|c| &c.restart_rules)
        .any(|r| r.action == RuleAction::RestartAllContainers)
}

/// Containers that count (no ephemeral ones) with their statuses, in plan order.
fn pairs<'a>(
    plan: &'a Plan,
    statuses: &'a PodStatus,
) -> impl Iterator<Item = (&'a Container, Option<&'a ContainerStatus>)> {
    let inits = plan.inits().enumerate().map(|(at, id)| {
        let c = plan.container(id);
        (c, find(&statuses.init, at, c))
    });
    let regulars = plan.regulars().enumerate().map(|(at, id)| {
        let c = plan.container(id);
        (c, find(&statuses.regular, at, c))
    });
    inits.chain(regulars)
}

/// `containers with unknown status: [a b], containers with <what> status: [c]`.
fn message(unknown: &[&str], what: &str, listed: &[&str]) -> Option<String> {
    let part = |what: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
    };
    match (part("unknown", unknown), part(what, listed)) {
        (Some(a), Some(b)) => Some(format!("{a}, {b}")),
        (a, b) => a.or(b),
    }
}
