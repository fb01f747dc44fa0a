//! Stopping containers: preStop, turn, stop signal, and the grace period that covers all three
//! (spec A10; kubelet: `killContainer`, `terminationOrdering`).

use std::time::Duration;

use super::stops::{StopState, Stopping};
use super::{Lifecycle, MIN_STOP_GRACE};
use crate::actions::{Kill, KillReason};
use crate::event::Output;
use crate::plan::{ContainerId, HookKind};
use crate::status::InstanceId;

impl Lifecycle {
    /// Stops one run by itself.
    pub(super) fn stop_one(&mut self, kill: Kill) {
        self.stop(kill, false);
        self.settle();
    }

    /// Stops every running container at once, sidecars in their turn.
    pub(super) fn stop_all(&mut self) {
        let ordered = self.index.has_sidecars;
        let running: Vec<Kill> = self
            .view
            .all()
            .filter(|i| i.is_running())
            .map(|i| Kill {
                instance: i.id,
                container: i.container,
                reason: KillReason::Pod,
                restart: false,
            })
            .collect();
        for kill in running {
            self.stop(kill, ordered);
        }
        self.settle();
    }

    fn stop(&mut self, kill: Kill, ordered: bool) {
        let mut runs = self.view.runs(kill.container).iter();
        let known = runs.any(|i| i.id == kill.instance && i.exit().is_none());
        if !known || self.stopping.find(kill.container, kill.instance).is_some() {
            return;
        }
        let c = self.plan.container(kill.container);
        let (name, kind, pre_stop) = (c.name.clone(), c.kind, c.pre_stop);
        let grace = self.grace(&kill);
        let again = if kill.restart { ", will be restarted" } else { "" };
        let text = match kill.reason {
            KillReason::Pod => format!("Stopping container {name}"),
            KillReason::Changed => format!("Container {name} definition changed{again}"),
            KillReason::Liveness => format!("Container {name} failed liveness probe{again}"),
            KillReason::Startup => format!("Container {name} failed startup probe{again}"),
            KillReason::PostStart => "FailedPostStartHook".into(),
            KillReason::RestartAll => {
                format!("Container {name} is removed because RestartAllContainers in place")
            }
            KillReason::Unknown => {
                format!("Container {name} is in \"unknown\" state, try killing it before restart")
            }
        };
        self.event(false, "Killing", Some(kill.container), text);
        let mut stopping = Stopping::new(&kill, kind, self.now, grace, ordered);
        if pre_stop && grace > 0 && kill.reason != KillReason::RestartAll {
            stopping.state = StopState::pre_stop(self.now, grace);
            self.out.push_back(Output::RunHook {
                container: kill.container,
                instance: kill.instance,
                hook: HookKind::PreStop,
            });
        }
        self.stopping.push(stopping);
    }

    /// The grace period of a kill, in seconds.
    fn grace(&self, kill: &Kill) -> u64 {
        if kill.reason == KillReason::RestartAll {
            return 0;
        }
        if let Some(grace) = self.override_grace.or(self.deletion) {
            return whole(grace);
        }
        let c = self.plan.container(kill.container);
        let probe = match kill.reason {
            KillReason::Liveness => c.liveness.and_then(|p| p.termination_grace),
            KillReason::Startup => c.startup.and_then(|p| p.termination_grace),
            _ => None,
        };
        whole(probe.unwrap_or(self.plan.termination_grace))
    }

    /// Lets everyone go on whose wait is over, until nothing changes.
    fn settle(&mut self) {
        while let Some(at) = self.stopping.next_ready(self.now, &self.index) {
            self.next_state(at);
        }
    }

    /// A wait is over: after the hook comes the turn, after the turn the stop signal.
    fn next_state(&mut self, at: usize) {
        let now = self.now;
        let s = self.stopping.get(at);
        let (container, instance, exited) = (s.container, s.instance, s.exited);
        let rest = |since| s.grace.saturating_sub(whole(now.since(since)));
        let (grace, state) = match s.state {
            StopState::PreStop { since, .. } => (rest(since), StopState::turn(now, rest(since))),
            StopState::Turn { since, .. } => {
                let state = if exited { StopState::Done } else { StopState::Signalled };
                (rest(since).max(MIN_STOP_GRACE), state)
            }
            StopState::Signalled | StopState::Done | StopState::Down => return,
        };
        self.stopping.change(at, |s| (s.grace, s.state) = (grace, state));
        if state == StopState::Signalled {
            let grace = Duration::from_secs(grace);
            self.out.push_back(Output::Stop { container, instance, grace });
        }
    }

    /// The preStop hook of a run ended.
    pub(super) fn pre_stop_done(&mut self, id: ContainerId, instance: InstanceId) {
        let now = self.now;
        if let Some(at) = self.stopping.find(id, instance)
            && matches!(self.stopping.get(at).state, StopState::PreStop { .. })
        {
            self.stopping.change(at, |s| s.state = s.state.shorten(now));
        }
        self.settle();
    }

    /// A run ended.
    pub(super) fn kill_exited(&mut self, id: ContainerId, instance: InstanceId) {
        if let Some(at) = self.stopping.find(id, instance) {
            self.stopping.change(at, |s| {
                s.exited = true;
                if s.state == StopState::Signalled {
                    s.state = StopState::Done;
                }
            });
        }
        self.settle();
    }

    /// Grace periods that are over.
    pub(super) fn stop_timers(&mut self) {
        if self.stopping.deadline().is_some_and(|at| at <= self.now) {
            self.settle();
        }
    }
}

/// Whole seconds: the kubelet truncates.
const fn whole(d: Duration) -> u64 {
    d.as_secs()
}
