//! The phase of a pod from its container statuses (spec A11; kubelet: `getPhase`).

use std::sync::Arc;

use crate::options::Features;
use crate::plan::{Container, ContainerId, Kind, Plan};
use crate::restart::{self, Verdict};
use crate::status::{ContainerStatus, Phase, PodStatus, State, Terminated};

/// Reason of a termination that belongs to an in-place restart of all containers (A16).
pub const RESTARTING_ALL: &str = "RestartingAllContainers";

/// The phase of a pod.
///
/// `terminal` says that the pod is over and nothing of it runs any more; `initialized` that some
/// regular container has a run in the current sandbox. Statuses that are missing count as unknown.
pub fn phase(
    plan: &Plan,
    statuses: &PodStatus,
    terminal: bool,
    initialized: bool,
    features: &Features,
) -> Phase {
    let mut count = Count::default();
    for (id, status) in pairs(plan, statuses) {
        count.add(plan, plan.container(id), status, features, 1);
    }
    count.phase(terminal, initialized)
}

/// Containers that count (no ephemeral ones) with their statuses, in plan order.
pub(crate) fn pairs<'a>(
    plan: &'a Plan,
    statuses: &'a PodStatus,
) -> impl Iterator<Item = (ContainerId, Option<&'a ContainerStatus>)> {
    let list =
        |list: &'a [ContainerStatus]| move |(at, id)| (id, find(list, at, plan.container(id)));
    let inits = plan.inits().enumerate().map(list(&statuses.init));
    inits.chain(plan.regulars().enumerate().map(list(&statuses.regular)))
}

/// The status of a container, most likely at the index it has in the plan.
pub(crate) fn find<'a>(
    statuses: &'a [ContainerStatus],
    likely: usize,
    c: &Container,
) -> Option<&'a ContainerStatus> {
    statuses
        .get(likely)
        .filter(|s| is_of(s, c))
        .or_else(|| {
            // Regular statuses are sorted by name.
            let at = statuses.binary_search_by(|s| s.name.cmp(&c.name)).ok()?;
            statuses.get(at)
        })
        .or_else(|| statuses.iter().find(|s| s.name == c.name))
}

/// Whether it is the status of this container. Names are nearly always the same string in memory.
fn is_of(s: &ContainerStatus, c: &Container) -> bool {
    Arc::ptr_eq(&s.name, &c.name) || s.name == c.name
}

/// How many containers are in which state: all that the phase depends on. The engine does not count
/// anew at each change: it takes away what a container was and adds what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Init containers that failed for good.
    failed_init: i32,
    pending_init: i32,
    pending_sidecar: i32,
    unknown: i32,
    running: i32,
    waiting: i32,
    stopped: i32,
    succeeded: i32,
    restartable: i32,
}

impl Count {
    /// Counts a container, `by` 1, or takes it away again, `by` -1.
    pub(crate) fn add(
        &mut self,
        plan: &Plan,
        c: &Container,
        status: Option<&ContainerStatus>,
        features: &Features,
        by: i32,
    ) {
        let restartable = |t: &Terminated| restartable(plan, c, t, features);
        match c.kind {
            Kind::Init => self.init(status, restartable, by),
            Kind::Sidecar => self.sidecar(status, by),
            Kind::Regular => self.regular(status, restartable, by),
            Kind::Ephemeral => {}
        }
    }

    fn init(
        &mut self,
        status: Option<&ContainerStatus>,
        restartable: impl Fn(&Terminated) -> bool,
        by: i32,
    ) {
        match status.map(|s| (&s.state, &s.last_state)) {
            Some((State::Terminated(t), _) | (State::Waiting { .. }, Some(t))) => {
                if t.exit_code != 0 && !restartable(t) {
                    self.failed_init += by;
                }
            }
            _ => self.pending_init += by,
        }
    }

    /// Only a sidecar that was never up can hold the pod back.
    fn sidecar(&mut self, status: Option<&ContainerStatus>, by: i32) {
        match status.map(|s| (&s.state, s)) {
            Some((State::Running { .. }, s)) => {
                self.running += by;
                if s.started != Some(true) {
                    self.pending_sidecar += by;
                }
            }
            Some((State::Terminated(_), _)) => {}
            Some((State::Waiting { .. }, s)) => {
                if s.last_state.is_none() {
                    self.pending_sidecar += by;
                    self.waiting += by;
                }
            }
            None => {
                self.pending_sidecar += by;
                self.unknown += by;
            }
        }
    }

    fn regular(
        &mut self,
        status: Option<&ContainerStatus>,
        restartable: impl Fn(&Terminated) -> bool,
        by: i32,
    ) {
        match status.map(|s| (&s.state, &s.last_state)) {
            Some((State::Running { .. }, _)) => self.running += by,
            Some((State::Terminated(t), _)) => {
                self.stopped += by;
                self.succeeded += if t.exit_code == 0 { by } else { 0 };
                self.restartable += if restartable(t) { by } else { 0 };
            }
            Some((State::Waiting { .. }, Some(t))) => {
                self.stopped += by;
                self.restartable += if restartable(t) { by } else { 0 };
            }
            Some((State::Waiting { .. }, None)) => self.waiting += by,
            None => self.unknown += by,
        }
    }

    /// Whether a sidecar or regular container runs.
    pub(crate) const fn has_running(&self) -> bool {
        self.running > 0
    }

    pub(crate) const fn phase(&self, terminal: bool, initialized: bool) -> Phase {
        if self.failed_init > 0 {
            return Phase::Failed;
        }
        if self.pending_init > 0 || (!initialized && self.pending_sidecar > 0) || self.waiting > 0 {
            return Phase::Pending;
        }
        if self.unknown > 0 {
            return Phase::Pending;
        }
        if self.running > 0 {
            return Phase::Running;
        }
        if self.stopped == 0 {
            return Phase::Pending;
        }
        if !terminal && self.restartable > 0 {
            return Phase::Running;
        }
        if self.stopped == self.succeeded { Phase::Succeeded } else { Phase::Failed }
    }
}

/// Whether a container that ended like this will be started again.
fn restartable(plan: &Plan, c: &Container, t: &Terminated, features: &Features) -> bool {
    t.reason == RESTARTING_ALL || restart::on_exit(plan, c, t.exit_code, features) != Verdict::Stay
}
