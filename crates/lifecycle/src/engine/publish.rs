//! Building and publishing the status (kubelet: `generateAPIPodStatus`, `mergePodStatus`,
//! `TerminatePod`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::index::{List, Work};
use super::{Lifecycle, Stage};
use crate::conditions::{self, Finding, Gate};
use crate::event::Output;
use crate::phase::{find, phase};
use crate::plan::{ContainerId, Kind, Plan};
use crate::status::{
    Condition, ConditionKind, ContainerStatus, Phase, PodStatus, Reason, State, Terminated,
};
use crate::statuses::{LOST, STATUS_UNKNOWN, Sources};
use crate::view::InstanceState;

impl Lifecycle {
    /// The status before this node has looked at the pod: scheduled, nothing else known.
    pub(super) fn publish_scheduled(&mut self) {
        self.status.conditions.push(Condition {
            kind: ConditionKind::PodScheduled,
            status: true,
            reason: "".into(),
            message: "".into(),
            last_transition: self.now,
        });
        self.out.push_back(Output::StatusChanged);
    }

    /// Whether all containers are being restarted in place.
    pub(super) fn restarting_all(&self) -> bool {
        self.features.restart_all_containers
            && self.status.is_true(&ConditionKind::AllContainersRestarting)
    }

    /// Builds the status and publishes it if it differs. `last` says that nothing runs any more.
    pub(super) fn publish(&mut self, last: bool) {
        let mut changed = self.refresh();
        if last {
            changed |= terminate_containers(&self.plan, &mut self.status);
            self.index.touch_all();
        }
        let now = self.decide_phase(last);
        let conditions = self.conditions(now);
        let status = &mut self.status;
        if !same_conditions(&status.conditions, &conditions) {
            status.conditions = conditions;
            changed = true;
        }
        let start = status.start_time.or(Some(self.now));
        changed |= set(&mut status.start_time, start);
        if let Some(ip) = self.view.sandbox().filter(|s| s.ready).and_then(|s| s.ip) {
            changed |= set(&mut status.pod_ip, Some(ip));
        }
        let (phase, reason, message) = &self.decided;
        // Nothing is called over while it may still run.
        if !phase.is_terminal() || last {
            changed |= set(&mut status.phase, *phase);
            for (field, value) in [(&mut status.reason, reason), (&mut status.message, message)] {
                if !same_text(field, value) {
                    field.clone_from(value);
                    changed = true;
                }
            }
        }
        if changed {
            self.out.push_back(Output::StatusChanged);
        }
        if self.stage != Stage::Finished {
            for &id in &self.index.eager {
                self.probes.trigger_readiness(id, self.now);
            }
        }
    }

    /// Makes the container statuses anew whose sources have changed; true if one is different now.
    ///
    /// A status depends on the one before it. So one that changed counts as stale once more, until
    /// making it anew changes nothing.
    fn refresh(&mut self) -> bool {
        let common = self.sources().common();
        if self.common != common {
            self.common = common;
            self.index.touch_all();
        }
        let changed = match self.index.take() {
            Work::Everything => self.refresh_all(),
            Work::These(ids) => ids.into_iter().fold(false, |changed, id| {
                let one = self.refresh_one(id);
                if one {
                    self.index.touch(id);
                }
                changed | one
            }),
        };
        debug_assert!(self.is_fresh(), "a change of {} was overlooked", self.plan.name);
        changed
    }

    /// Makes all container statuses anew; true if one is different now.
    fn refresh_all(&mut self) -> bool {
        let sources = self.sources();
        let (mut eager, mut changed) = (BTreeSet::new(), Vec::new());
        let [init, regular, ephemeral] = [List::Init, List::Regular, List::Ephemeral].map(|list| {
            let old = list.of(&self.status);
            let ids = self.index.list(list).iter().enumerate();
            ids.map(|(at, &id)| {
                let old = find(old, at, self.plan.container(id));
                let (new, is_eager) = sources.one(id, old, self.common);
                eager.extend(is_eager.then_some(id));
                changed.extend((old != Some(&new)).then_some(id));
                new
            })
            .collect()
        });
        self.index.eager = eager;
        changed.into_iter().for_each(|id| self.index.touch(id));
        let status = &mut self.status;
        set(&mut status.init, init)
            | set(&mut status.regular, regular)
            | set(&mut status.ephemeral, ephemeral)
    }

    /// Makes one container status anew; true if it is different now.
    fn refresh_one(&mut self, id: ContainerId) -> bool {
        let (new, eager) = self.sources().one(id, self.status_of(id), self.common);
        if eager {
            self.index.eager.insert(id);
        } else {
            self.index.eager.remove(&id);
        }
        self.replace(id, new)
    }

    /// Whether no status but those known to be stale would change if it were made anew.
    fn is_fresh(&self) -> bool {
        self.plan.ids().filter(|&id| !self.index.is_stale(id)).all(|id| {
            let old = self.status_of(id);
            let (new, eager) = self.sources().one(id, old, self.common);
            old == Some(&new) && eager == self.index.eager.contains(&id)
        })
    }

    fn status_of(&self, id: ContainerId) -> Option<&ContainerStatus> {
        let (list, at) = self.index.place(id);
        find(list.of(&self.status), at, self.plan.container(id))
    }

    /// Sets the status of a container; true if it was another.
    fn replace(&mut self, id: ContainerId, new: ContainerStatus) -> bool {
        let (list, at) = self.index.place(id);
        let list = list.of_mut(&mut self.status);
        // Before the first status of a changed plan, places are those of the old plan.
        let at = if list.get(at).is_some_and(|s| s.name == new.name) {
            Some(at)
        } else {
            list.iter().position(|s| s.name == new.name)
        };
        at.is_some_and(|at| set(&mut list[at], new))
    }

    /// Publishes what a probe says of one container while the worker is busy with something else
    /// (kubelet: `SetContainerReadiness`, `SetContainerStartup`).
    pub(super) fn publish_probe(&mut self, id: ContainerId) {
        let Some(old) = self.status_of(id).cloned() else { return };
        let mut new = ContainerStatus { ready: false, ..old.clone() };
        self.sources().mark(id, self.plan.container(id), Some(&old), &mut new);
        let mut changed = self.replace(id, new);
        for fresh in self.conditions(self.status.phase) {
            if matches!(fresh.kind, ConditionKind::Ready | ConditionKind::ContainersReady)
                && let Some(c) = self.status.conditions.iter_mut().find(|c| c.kind == fresh.kind)
            {
                changed |= set(c, fresh);
            }
        }
        if changed {
            self.index.touch(id);
            self.out.push_back(Output::StatusChanged);
        }
    }

    const fn sources(&self) -> Sources<'_> {
        Sources {
            plan: &self.plan,
            view: &self.view,
            probes: &self.probes,
            reasons: self.reasons.as_slice(),
            reset: self.reset.as_slice(),
            features: &self.features,
            deleted: self.deletion.is_some(),
        }
    }

    /// Decides on the phase; a terminal one is never left.
    fn decide_phase(&mut self, last: bool) -> Phase {
        let before = self.decided.0;
        if before.is_terminal() {
            return before;
        }
        if let Some((reason, message)) = &self.eviction {
            self.decided = (Phase::Failed, reason.clone(), Cow::Owned(message.clone()));
        } else {
            let mut now =
                phase(&self.plan, &self.status, last, self.has_initialized(), &self.features);
            if last && !now.is_terminal() {
                now = Phase::Failed;
            }
            if now != before {
                self.decided = (now, "".into(), "".into());
            }
        }
        self.decided.0
    }

    /// Whether some regular container has a run in the current sandbox (kubelet:
    /// `HasAnyActiveRegularContainerStarted`); older versions look at any sandbox.
    fn has_initialized(&self) -> bool {
        let attempt = self.view.sandbox().filter(|s| s.ready).map(|s| s.attempt);
        self.plan.regulars().any(|id| {
            self.view.newest(id).is_some_and(|run| {
                !self.features.sandbox_aware_phase || Some(run.sandbox) == attempt
            })
        })
    }

    /// The conditions that follow from the container statuses in this phase.
    fn conditions(&self, phase: Phase) -> Vec<Condition> {
        let (plan, new) = (&self.plan, &self.status);
        let containers = conditions::containers_ready(plan, Some(new), phase);
        let ready = conditions::ready(plan, &containers, |gate| self.gate(gate));
        let mut initialized = conditions::initialized(plan, Some(new), phase);
        if self.features.restart_all_containers
            && !initialized.status
            && self.status.is_true(&ConditionKind::Initialized)
        {
            initialized = Finding { status: true, reason: "".into(), message: "".into() };
        }
        let yes = |status| Finding { status, reason: "".into(), message: "".into() };
        let sandbox = !self.view.sandbox_changed(plan).0;
        let mut found = Vec::with_capacity(6 + self.gates.len());
        let other = self
            .gates
            .iter()
            .map(|(name, value)| (ConditionKind::Other(name.as_str().into()), yes(*value)));
        found.extend(other);
        if self.features.restart_all_containers && conditions::has_restart_all_rule(plan) {
            let before = self.status.is_true(&ConditionKind::AllContainersRestarting);
            let left = self.view.all().any(|i| plan.container(i.container).kind != Kind::Ephemeral);
            let finding =
                conditions::all_restarting(plan, new, phase, before, left, &self.features);
            found.push((ConditionKind::AllContainersRestarting, finding));
        }
        found.push((ConditionKind::PodReadyToStartContainers, yes(sandbox)));
        found.push((ConditionKind::Initialized, initialized));
        found.push((ConditionKind::Ready, ready));
        found.push((ConditionKind::ContainersReady, containers));
        found.push((ConditionKind::PodScheduled, yes(true)));
        found
            .into_iter()
            .map(|(kind, f)| {
                let since = self
                    .status
                    .condition(&kind)
                    .filter(|c| c.status == f.status)
                    .map_or(self.now, |c| c.last_transition);
                Condition {
                    kind,
                    status: f.status,
                    reason: f.reason,
                    message: f.message,
                    last_transition: since,
                }
            })
            .collect()
    }

    fn gate(&self, gate: &str) -> Gate {
        match self.gates.iter().find(|(name, _)| name == gate) {
            None => Gate::Absent,
            Some((_, true)) => Gate::True,
            Some((_, false)) => Gate::False,
        }
    }

    /// Containers whose newest run is up, for drivers that have to stop them at once.
    pub fn running(&self) -> impl Iterator<Item = ContainerId> + '_ {
        self.plan.ids().filter(|&id| {
            self.view.newest(id).is_some_and(|i| matches!(i.state, InstanceState::Running { .. }))
        })
    }
}

/// Nothing runs any more: what has no exit code gets one (kubelet: `TerminatePod`).
/// True if something did.
fn terminate_containers(plan: &Plan, status: &mut PodStatus) -> bool {
    let mut changed = false;
    if has_pod_initialized(plan, status) {
        status.regular.iter_mut().for_each(|s| changed |= give_exit_code(s));
    }
    // All but the tail of init containers that were never started; always at least the first.
    let tried = status.init.iter().rposition(has_run).map_or(1, |at| at + 1);
    status.init.iter_mut().take(tried).for_each(|s| changed |= give_exit_code(s));
    changed
}

/// Whether the pod ever got past its init containers (kubelet: `hasPodInitialized`).
fn has_pod_initialized(plan: &Plan, status: &PodStatus) -> bool {
    if status.init.is_empty() || status.regular.iter().any(has_run) {
        return true;
    }
    let (Some(last), Some(id)) = (status.init.last(), plan.inits().next_back()) else {
        return false;
    };
    if plan.container(id).kind == Kind::Sidecar {
        return last.state.is_running() && last.started == Some(true);
    }
    last.state.terminated().into_iter().chain(&last.last_state).any(|t| t.exit_code == 0)
}

/// Whether the status shows that the container was ever started.
fn has_run(s: &ContainerStatus) -> bool {
    !matches!(s.state, State::Waiting { .. }) || s.last_state.is_some()
}

fn give_exit_code(s: &mut ContainerStatus) -> bool {
    if s.state.terminated().is_some() {
        return false;
    }
    s.state = State::Terminated(Terminated {
        exit_code: LOST,
        reason: Reason::Borrowed(STATUS_UNKNOWN),
        message: Cow::Borrowed("The container could not be located when the pod was terminated"),
        ..Terminated::default()
    });
    s.ready = false;
    s.started = Some(false);
    true
}

/// Sets a field; true if it was something else.
fn set<T: PartialEq>(field: &mut T, value: T) -> bool {
    let changed = *field != value;
    if changed {
        *field = value;
    }
    changed
}

/// Whether the conditions are equal, times and all.
fn same_conditions(a: &[Condition], b: &[Condition]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            (a.kind == b.kind && a.status == b.status && a.last_transition == b.last_transition)
                && same_text(&a.reason, &b.reason)
                && same_text(&a.message, &b.message)
        })
}

/// Whether two texts are equal. Most are empty, and comparing no bytes at no address is slow: the
/// masked loads of `memcmp` trap into microcode there.
fn same_text(a: &Reason, b: &Reason) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
