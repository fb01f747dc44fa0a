//! Building and publishing the status (kubelet: `generateAPIPodStatus`, `mergePodStatus`,
//! `TerminatePod`).

use std::borrow::Cow;

use super::{Lifecycle, Stage};
use crate::conditions::{self, Finding, Gate};
use crate::event::Output;
use crate::phase::phase;
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
        let mut new = PodStatus {
            start_time: self.status.start_time.or(Some(self.now)),
            pod_ip: self
                .view
                .sandbox()
                .filter(|s| s.ready)
                .and_then(|s| s.ip)
                .or(self.status.pod_ip),
            ..PodStatus::default()
        };
        let eager = self.sources().fill(&mut new);
        if last {
            terminate_containers(&self.plan, &mut new);
        }
        self.decide_phase(&mut new, last);
        new.conditions = self.conditions(&new);
        let (phase, reason, message) = &self.decided;
        if !phase.is_terminal() || last {
            new.phase = *phase;
            new.reason.clone_from(reason);
            new.message.clone_from(message);
        } else {
            // Nothing is called over while it may still run.
            new.phase = self.status.phase;
            new.reason.clone_from(&self.status.reason);
            new.message.clone_from(&self.status.message);
        }
        if new != self.status {
            self.status = new;
            self.out.push_back(Output::StatusChanged);
        }
        if self.stage != Stage::Finished {
            for id in eager {
                self.probes.trigger_readiness(id, self.now);
            }
        }
    }

    /// Publishes what a probe says of one container while the worker is busy with something else
    /// (kubelet: `SetContainerReadiness`, `SetContainerStartup`).
    pub(super) fn publish_probe(&mut self, id: ContainerId) {
        let mut new = self.status.clone();
        let name = &self.plan.container(id).name;
        let Some(s) = new.init.iter_mut().chain(&mut new.regular).find(|s| s.name == *name) else {
            return;
        };
        let old = s.clone();
        s.ready = false;
        self.sources().mark(id, self.plan.container(id), Some(&old), s);
        let fresh = self.conditions(&new);
        for c in &mut new.conditions {
            if matches!(c.kind, ConditionKind::Ready | ConditionKind::ContainersReady)
                && let Some(f) = fresh.iter().find(|f| f.kind == c.kind)
            {
                c.clone_from(f);
            }
        }
        if new != self.status {
            self.status = new;
            self.out.push_back(Output::StatusChanged);
        }
    }

    const fn sources(&self) -> Sources<'_> {
        Sources {
            plan: &self.plan,
            view: &self.view,
            probes: &self.probes,
            reasons: self.reasons.as_slice(),
            old: &self.status,
            by_name: self.by_name.as_slice(),
            reset: self.reset.as_slice(),
            features: &self.features,
            deleted: self.deletion.is_some(),
        }
    }

    /// Decides on the phase; a terminal one is never left.
    fn decide_phase(&mut self, new: &mut PodStatus, last: bool) {
        let before = self.decided.0;
        if before.is_terminal() {
            new.phase = before;
            return;
        }
        if let Some((reason, message)) = &self.eviction {
            self.decided = (Phase::Failed, reason.clone(), Cow::Owned(message.clone()));
        } else {
            let mut now = phase(&self.plan, new, last, self.has_initialized(), &self.features);
            if last && !now.is_terminal() {
                now = Phase::Failed;
            }
            if now != before {
                self.decided = (now, "".into(), "".into());
            }
        }
        new.phase = self.decided.0;
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

    fn conditions(&self, new: &PodStatus) -> Vec<Condition> {
        let plan = &self.plan;
        let containers = conditions::containers_ready(plan, Some(new), new.phase);
        let ready = conditions::ready(plan, &containers, |gate| self.gate(gate));
        let mut initialized = conditions::initialized(plan, Some(new), new.phase);
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
                conditions::all_restarting(plan, new, new.phase, before, left, &self.features);
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
fn terminate_containers(plan: &Plan, status: &mut PodStatus) {
    if has_pod_initialized(plan, status) {
        status.regular.iter_mut().for_each(give_exit_code);
    }
    // All but the tail of init containers that were never started; always at least the first.
    let tried = status.init.iter().rposition(has_run).map_or(1, |at| at + 1);
    status.init.iter_mut().take(tried).for_each(give_exit_code);
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

fn give_exit_code(s: &mut ContainerStatus) {
    if s.state.terminated().is_some() {
        return;
    }
    s.state = State::Terminated(Terminated {
        exit_code: LOST,
        reason: Reason::Borrowed(STATUS_UNKNOWN),
        message: Cow::Borrowed("The container could not be located when the pod was terminated"),
        ..Terminated::default()
    });
    s.ready = false;
    s.started = Some(false);
}
