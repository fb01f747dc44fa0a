//! Building and publishing the status (kubelet: `generateAPIPodStatus`, `mergePodStatus`,
//! `TerminatePod`).

use std::borrow::Cow;

use super::index::List;
use super::{Lifecycle, Stage};
use crate::conditions::{self, Finding, Gate};
use crate::event::Output;
use crate::phase::{find, phase};
use crate::plan::{ContainerId, Kind, Plan};
use crate::set::ContainerSet;
use crate::status::{
    Condition, ConditionKind, ContainerStatus, Message, Phase, PodStatus, Reason, State, Terminated,
};
use crate::statuses::{Common, LOST, STATUS_UNKNOWN, Sources};
use crate::view::InstanceState;

impl Lifecycle {
    /// The status before this node has looked at the pod: scheduled, nothing else known.
    pub(super) fn publish_scheduled(&mut self) {
        self.status.conditions.push(Condition {
            kind: ConditionKind::PodScheduled,
            status: true,
            reason: "".into(),
            message: Message::NONE,
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
        self.sidecar_started = false;
        let mut changed = self.refresh();
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
        self.remove_outlived();
        self.watch_published();
        if self.stage != Stage::Finished {
            for id in self.index.eager.iter() {
                self.probes.trigger_readiness(id, self.now);
            }
        }
    }

    /// The end of a pod that nothing runs of any more (kubelet: `TerminatePod`): the phase is terminal,
    /// and what was tried has an exit code. The conditions stay as they are.
    pub(super) fn terminate(&mut self) {
        // The status is built once more before (`SyncTerminatedPod`), without runs that were removed
        // since.
        self.publish(true);
        let mut changed = terminate_containers(&mut self.status, self.was_initialized);
        if changed {
            self.recount();
        }
        if !self.decided.0.is_terminal() {
            self.decided.0 = Phase::Failed;
            self.status.phase = Phase::Failed;
            changed = true;
        }
        if changed {
            self.index.make_all_stale();
            self.out.push_back(Output::StatusChanged);
        }
    }

    /// Remembers, as the pod begins to stop, whether it got past its init containers. The kubelet asks
    /// when it has stopped, but looks at the status of the object it was told to stop (`TerminatePod`,
    /// `hasPodInitialized`).
    pub(super) fn note_initialized(&mut self) {
        self.was_initialized = has_pod_initialized(&self.plan, &self.status);
    }

    /// Whether a container has an ended run more than it will keep.
    pub(super) fn has_outlived(&self) -> bool {
        self.outlived.iter().any(|&id| self.view.runs(id).len() > 1)
    }

    /// Of the ended runs of a container only the newest is kept once its end has been published
    /// (kubelet: `podContainerDeletor`, `MaxPerPodContainer` 1). So `lastState` is there again only
    /// when the container runs again, or waits to.
    fn remove_outlived(&mut self) {
        for container in std::mem::take(&mut self.outlived) {
            let ended = self.view.runs(container).iter().rev().filter(|i| i.exit().is_some());
            for instance in ended.skip(1).map(|i| i.id).collect::<Vec<_>>() {
                self.view.remove(instance);
                self.index.touch(container);
                self.out.push_back(Output::Remove { container, instance });
            }
        }
    }

    /// Lets probes of a run begin: it is published as running now. The kubelet's workers know of a run by
    /// the published status alone (`doProbe`), and that is not made anew before the sync that started the
    /// run is over: nothing is probed while its postStart hook runs, or while that sync starts others.
    fn watch_published(&mut self) {
        for id in std::mem::take(&mut self.unwatched) {
            let Some(run) = self.view.newest(id) else { continue };
            if let InstanceState::Running { started_at } = run.state {
                let instance = run.id;
                self.probes.started(id, instance, started_at, self.now);
                self.index.touch(id);
            }
        }
    }

    /// Makes the container statuses anew whose sources have changed; true if one is different now.
    ///
    /// A status depends on the one before it. So one that changed counts as stale once more, until
    /// making it anew changes nothing.
    fn refresh(&mut self) -> bool {
        self.survey();
        let common = Common {
            has_inits: self.plan.containers.first().is_some_and(|c| c.kind.in_init_list()),
            regular_created: self.index.account.survey.has_created(false),
        };
        if self.common != common {
            self.common = common;
            self.index.make_all_stale();
        }
        let stale = self.index.take_stale();
        let changed = if stale.all {
            self.refresh_all()
        } else {
            stale.these.iter().fold(false, |changed, id| {
                let one = self.refresh_one(id);
                if one {
                    self.index.make_stale(id);
                }
                changed | one
            })
        };
        debug_assert!(self.is_fresh(), "a change of {} was overlooked", self.plan.name);
        changed
    }

    /// Makes all container statuses anew; true if one is different now.
    fn refresh_all(&mut self) -> bool {
        let sources = self.sources();
        let (mut eager, mut changed) = (ContainerSet::EMPTY, Vec::new());
        let mut sidecar_started = false;
        let [init, regular, ephemeral] = [List::Init, List::Regular, List::Ephemeral].map(|list| {
            let old = list.of(&self.status);
            let ids = self.index.list(list).iter().enumerate();
            ids.map(|(at, &id)| {
                let old = find(old, at, self.plan.container(id));
                let (new, is_eager) = sources.one(id, old, self.common);
                eager.set(id, is_eager);
                changed.extend((old != Some(&new)).then_some(id));
                sidecar_started |= self.is_sidecar(id) && starts(old, &new);
                new
            })
            .collect()
        });
        self.index.eager = eager;
        self.sidecar_started |= sidecar_started;
        changed.into_iter().for_each(|id| self.index.make_stale(id));
        let status = &mut self.status;
        let changed = set(&mut status.init, init)
            | set(&mut status.regular, regular)
            | set(&mut status.ephemeral, ephemeral);
        if changed {
            self.recount();
        }
        changed
    }

    /// Counts all statuses from scratch.
    pub(super) fn recount(&mut self) {
        self.index.recount(&self.plan, &self.features, &self.status);
    }

    /// Makes one container status anew; true if it is different now.
    fn refresh_one(&mut self, id: ContainerId) -> bool {
        let (new, eager) = self.sources().one(id, self.status_of(id), self.common);
        self.index.eager.set(id, eager);
        self.replace(id, new)
    }

    /// Whether no status but those known to be stale would change if it were made anew.
    fn is_fresh(&self) -> bool {
        self.index.account.is_surveyed(&self.context())
            && self.plan.ids().filter(|&id| !self.index.is_stale(id)).all(|id| {
                let old = self.status_of(id);
                let (new, eager) = self.sources().one(id, old, self.common);
                old == Some(&new) && eager == self.index.eager.contains(id)
            })
    }

    pub(super) fn status_of(&self, id: ContainerId) -> Option<&ContainerStatus> {
        self.index.status(&self.plan, &self.status, id)
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
        let Some(old) = at.map(|at| &mut list[at]).filter(|old| **old != new) else { return false };
        let is_sidecar = self.plan.container(id).kind == Kind::Sidecar;
        self.sidecar_started |= is_sidecar && starts(Some(old), &new);
        let (plan, features) = (&self.plan, &self.features);
        self.index.account.replace(plan, features, id, Some(old), Some(&new));
        *old = new;
        true
    }

    /// Publishes what a probe says of one container while the worker is busy with something else
    /// (kubelet: `SetContainerReadiness`, `SetContainerStartup`).
    pub(super) fn publish_probe(&mut self, id: ContainerId) {
        let Some(old) = self.status_of(id).cloned() else { return };
        let mut new = ContainerStatus { ready: false, ..old.clone() };
        self.sources().mark(id, self.plan.container(id), Some(&old), &mut new);
        let mut changed = self.replace(id, new);
        let (containers, ready) = self.readiness(self.status.phase);
        for (kind, finding) in
            [(ConditionKind::Ready, ready), (ConditionKind::ContainersReady, containers)]
        {
            let fresh = self.condition(kind, finding);
            if let Some(c) = self.status.conditions.iter_mut().find(|c| c.kind == fresh.kind) {
                changed |= set(c, fresh);
            }
        }
        if changed {
            self.index.make_stale(id);
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
            let initialized = self.has_initialized();
            let count = &self.index.account.count;
            let mut now = count.phase(last, initialized);
            debug_assert_eq!(
                now,
                phase(&self.plan, &self.status, last, initialized, &self.features),
                "the count of {} is wrong",
                self.plan.name
            );
            // The kubelet decides on the phase before it asks its probe workers who has started, so a
            // sidecar counts as started only if the status before said so; up to 1.34 not even then
            // (kubelet: `generateAPIPodStatus`). It holds a pod back that is not initialized.
            let new_sidecar = self.features.change_status_on_restart || self.sidecar_started;
            if now == Phase::Running && !initialized && count.has_running() && new_sidecar {
                now = Phase::Pending;
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
        let survey = &self.index.account.survey;
        if self.features.sandbox_aware_phase {
            self.view.sandbox().is_some_and(|s| s.ready) && survey.has_created(true)
        } else {
            survey.has_created(false)
        }
    }

    /// `ContainersReady` and `Ready` in this phase.
    fn readiness(&self, phase: Phase) -> (Finding, Finding) {
        let containers = self.index.account.standing.containers_ready(phase);
        debug_assert_eq!(
            containers,
            conditions::containers_ready(&self.plan, Some(&self.status), phase),
            "the account of {} is wrong",
            self.plan.name
        );
        let ready = conditions::ready(&self.plan, &containers, |gate| self.gate(gate));
        (containers, ready)
    }

    /// `Initialized` in this phase.
    fn initialized(&self, phase: Phase) -> Finding {
        let initialized = self.index.account.standing.initialized(phase);
        debug_assert_eq!(
            initialized,
            conditions::initialized(&self.plan, Some(&self.status), phase),
            "the account of {} is wrong",
            self.plan.name
        );
        let keep = self.features.restart_all_containers
            && !initialized.status
            && self.status.is_true(&ConditionKind::Initialized);
        if keep { Finding::is(true, "") } else { initialized }
    }

    /// `AllContainersRestarting` in this phase, for a pod that may have it.
    fn all_restarting(&self, phase: Phase) -> Option<Finding> {
        let fired = self.index.account.has_fired()?;
        let before = self.status.is_true(&ConditionKind::AllContainersRestarting);
        let left = self.index.account.survey.has_records();
        let finding = conditions::all_restarting_if(fired, phase, before, left);
        debug_assert_eq!(
            finding,
            conditions::all_restarting(
                &self.plan,
                &self.status,
                phase,
                before,
                left,
                &self.features
            ),
            "the account of {} is wrong",
            self.plan.name
        );
        Some(finding)
    }

    /// The conditions that follow from the container statuses in this phase.
    fn conditions(&self, phase: Phase) -> Vec<Condition> {
        let (containers, ready) = self.readiness(phase);
        let sandbox = !self.view.sandbox_changed(&self.plan).0;
        let mut all = Vec::with_capacity(6 + self.gates.len());
        for (name, value) in &self.gates {
            let kind = ConditionKind::Other(name.as_str().into());
            all.push(self.condition(kind, Finding::is(*value, "")));
        }
        if let Some(restarting) = self.all_restarting(phase) {
            all.push(self.condition(ConditionKind::AllContainersRestarting, restarting));
        }
        all.extend(
            [
                (ConditionKind::PodReadyToStartContainers, Finding::is(sandbox, "")),
                (ConditionKind::Initialized, self.initialized(phase)),
                (ConditionKind::Ready, ready),
                (ConditionKind::ContainersReady, containers),
                (ConditionKind::PodScheduled, Finding::is(true, "")),
            ]
            .map(|(kind, finding)| self.condition(kind, finding)),
        );
        all
    }

    /// A condition with its time: that of the published one, unless its status changes now.
    fn condition(&self, kind: ConditionKind, finding: Finding) -> Condition {
        let same = self.status.condition(&kind).filter(|c| c.status == finding.status);
        let last_transition = same.map_or(self.now, |c| c.last_transition);
        let Finding { status, reason, message } = finding;
        Condition { kind, status, reason, message, last_transition }
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

/// Nothing runs any more: what has no exit code gets one. True if something did.
fn terminate_containers(status: &mut PodStatus, was_initialized: bool) -> bool {
    let mut changed = false;
    if was_initialized {
        status.regular.iter_mut().for_each(|s| changed |= give_exit_code(s));
    }
    // All but the tail of init containers that were never started; always at least the first.
    let tried = status.init.iter().rposition(has_run).map_or(1, |at| at + 1);
    status.init.iter_mut().take(tried).for_each(|s| changed |= give_exit_code(s));
    changed
}

/// Whether a container that did not count as started does now.
fn starts(old: Option<&ContainerStatus>, new: &ContainerStatus) -> bool {
    new.started == Some(true) && old.is_none_or(|old| old.started != Some(true))
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
                && a.message == b.message
        })
}

/// Whether two texts are equal. Most are empty, and comparing no bytes at no address is slow: the
/// masked loads of `memcmp` trap into microcode there.
fn same_text(a: &Reason, b: &Reason) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
