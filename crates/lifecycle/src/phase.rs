//! The phase of a pod from its container statuses (spec A11; kubelet: `getPhase`).

use std::sync::Arc;

use crate::options::Features;
use crate::plan::{Container, Kind, Plan};
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
    for (at, id) in plan.inits().enumerate() {
        let c = plan.container(id);
        let status = find(&statuses.init, at, c);
        if c.kind == Kind::Sidecar {
            count.sidecar(status);
        } else if count.init(plan, c, status, features) {
            return Phase::Failed;
        }
    }
    for (at, id) in plan.regulars().enumerate() {
        let c = plan.container(id);
        count.regular(plan, c, find(&statuses.regular, at, c), features);
    }
    count.phase(terminal, initialized)
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

#[derive(Default)]
struct Count {
    pending_init: usize,
    pending_sidecar: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
    restartable: usize,
}

impl Count {
    /// Counts an init container; true if it failed for good.
    fn init(
        &mut self,
        plan: &Plan,
        c: &Container,
        status: Option<&ContainerStatus>,
        features: &Features,
    ) -> bool {
        match status.map(|s| (&s.state, &s.last_state)) {
            Some((State::Terminated(t), _)) | Some((State::Waiting { .. }, Some(t))) => {
                return t.exit_code != 0 && !restartable(plan, c, t, features);
            }
            _ => self.pending_init += 1,
        }
        false
    }

    /// Counts a sidecar: only one that was never up can hold the pod back.
    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        match status.map(|s| (&s.state, s)) {
            Some((State::Running { .. }, s)) => {
                self.running += 1;
                if s.started != Some(true) {
                    self.pending_sidecar += 1;
                }
            }
            Some((State::Terminated(_), _)) => {}
            Some((State::Waiting { .. }, s)) => {
                if s.last_state.is_none() {
                    self.pending_sidecar += 1;
                    self.waiting += 1;
                }
            }
            None => {
                self.pending_sidecar += 1;
                self.unknown += 1;
            }
        }
    }

    fn regular(
        &mut self,
        plan: &Plan,
        c: &Container,
        status: Option<&ContainerStatus>,
        features: &Features,
    ) {
        match status.map(|s| (&s.state, &s.last_state)) {
            Some((State::Running { .. }, _)) => self.running += 1,
            Some((State::Terminated(t), _)) => {
                self.stopped += 1;
                self.succeeded += usize::from(t.exit_code == 0);
                self.restartable += usize::from(restartable(plan, c, t, features));
            }
            Some((State::Waiting { .. }, Some(t))) => {
                self.stopped += 1;
                self.restartable += usize::from(restartable(plan, c, t, features));
            }
            Some((State::Waiting { .. }, None)) => self.waiting += 1,
            None => self.unknown += 1,
        }
    }

    const fn phase(&self, terminal: bool, initialized: bool) -> Phase {
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
