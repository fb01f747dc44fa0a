//! Stopping containers: preStop, turn, stop signal, and the grace period that covers all three
//! (spec A10; kubelet: `killContainer`, `terminationOrdering`).

use std::time::Duration;

use super::{Lifecycle, MIN_STOP_GRACE};
use crate::actions::{Kill, KillReason};
use crate::event::Output;
use crate::plan::{ContainerId, HookKind, Kind, Plan};
use crate::status::InstanceId;
use crate::time::Time;

/// A run on its way down.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    pub(super) container: ContainerId,
    instance: InstanceId,
    /// What is left of the grace period, in whole seconds as the kubelet counts.
    grace: u64,
    /// Whether it waits for its turn (the whole pod goes) or stops alone.
    ordered: bool,
    /// The process has ended, but a hook still has to.
    exited: bool,
    state: StopState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopState {
    /// The preStop hook runs.
    PreStop { since: Time, until: Time },
    /// Others have to stop first.
    Turn { since: Time, until: Time },
    /// The stop signal was sent.
    Signalled,
    /// Nothing is left to do.
    Done,
}

/// Who is still on the way down.
struct Left {
    regular: usize,
    /// Runs of each container.
    of: Vec<u32>,
}

impl Left {
    fn count(stopping: &[Stopping], plan: &Plan) -> Self {
        let mut left = Self { regular: 0, of: Vec::new() };
        if !stopping.is_empty() {
            left.of.resize(plan.containers.len(), 0);
        }
        for s in stopping {
            left.of[s.container.index()] += 1;
            left.regular += usize::from(plan.container(s.container).kind == Kind::Regular);
        }
        left
    }

    fn remove(&mut self, id: ContainerId, plan: &Plan) {
        self.of[id.index()] -= 1;
        self.regular -= usize::from(plan.container(id).kind == Kind::Regular);
    }
}

impl Stopping {
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.state {
            StopState::PreStop { until, .. } | StopState::Turn { until, .. } => Some(until),
            StopState::Signalled | StopState::Done => None,
        }
    }
}

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
        let known = self
            .view
            .runs(kill.container)
            .iter()
            .any(|i| i.id == kill.instance && i.exit().is_none());
        if !known || self.stopping.iter().any(|s| s.instance == kill.instance) {
            return;
        }
        let c = self.plan.container(kill.container);
        let (name, pre_stop) = (c.name.clone(), c.pre_stop);
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
        let mut stopping = Stopping {
            container: kill.container,
            instance: kill.instance,
            grace,
            ordered,
            exited: false,
            state: StopState::Done,
        };
        if pre_stop && grace > 0 && kill.reason != KillReason::RestartAll {
            stopping.state = StopState::PreStop {
                since: self.now,
                until: self.now + Duration::from_secs(grace),
            };
            self.out.push_back(Output::RunHook {
                container: kill.container,
                instance: kill.instance,
                hook: HookKind::PreStop,
            });
        } else {
            stopping.state = self.turn(grace);
        }
        self.stopping.push(stopping);
    }

    /// The grace period of a kill, in seconds.
    fn grace(&self, kill: &Kill) -> u64 {
        if kill.reason == KillReason::RestartAll {
            return 0;
        }
        if let Some(grace) = self.deletion {
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

    /// Waiting for one's turn, for as long as the grace period lasts.
    fn turn(&self, grace: u64) -> StopState {
        StopState::Turn { since: self.now, until: self.now + Duration::from_secs(grace) }
    }

    /// Whether everything that must stop before this run has stopped.
    fn is_turn(&self, s: &Stopping, left: &Left) -> bool {
        if !s.ordered || self.plan.container(s.container).kind != Kind::Sidecar {
            return true;
        }
        let next = self.index.next_sidecar(s.container);
        left.regular == 0 && next.is_none_or(|next| left.of[next.index()] == 0)
    }

    /// Lets everyone go on whose wait is over, until nothing changes.
    fn settle(&mut self) {
        let mut left = Left::count(&self.stopping, &self.plan);
        let now = self.now;
        let mut at = 0;
        while let Some(s) = self.stopping.get(at) {
            let ready = match s.state {
                StopState::PreStop { until, .. } => until <= now,
                StopState::Turn { until, .. } => until <= now || self.is_turn(s, &left),
                StopState::Signalled => false,
                StopState::Done => true,
            };
            if !ready {
                at += 1;
            } else if s.state == StopState::Done {
                left.remove(s.container, &self.plan);
                self.stopping.remove(at);
                // Someone before may have waited for this one.
                at = 0;
            } else {
                self.next_state(at);
            }
        }
    }

    fn next_state(&mut self, at: usize) {
        let now = self.now;
        let s = &self.stopping[at];
        match s.state {
            StopState::PreStop { since, .. } => {
                let grace = s.grace.saturating_sub(whole(now.since(since)));
                let state = self.turn(grace);
                self.stopping[at].grace = grace;
                self.stopping[at].state = state;
            }
            StopState::Turn { since, .. } => {
                let grace = s.grace.saturating_sub(whole(now.since(since))).max(MIN_STOP_GRACE);
                let (container, instance, exited) = (s.container, s.instance, s.exited);
                self.stopping[at].grace = grace;
                self.stopping[at].state =
                    if exited { StopState::Done } else { StopState::Signalled };
                if !exited {
                    let grace = Duration::from_secs(grace);
                    self.out.push_back(Output::Stop { container, instance, grace });
                }
            }
            StopState::Signalled | StopState::Done => {}
        }
    }

    /// The preStop hook of a run ended.
    pub(super) fn pre_stop_done(&mut self, instance: InstanceId) {
        let now = self.now;
        for s in self.stopping.iter_mut().filter(|s| s.instance == instance) {
            if let StopState::PreStop { until, .. } = &mut s.state {
                *until = (*until).min(now);
            }
        }
        self.settle();
    }

    /// A run ended.
    pub(super) fn kill_exited(&mut self, instance: InstanceId) {
        for s in self.stopping.iter_mut().filter(|s| s.instance == instance) {
            s.exited = true;
            if s.state == StopState::Signalled {
                s.state = StopState::Done;
            }
        }
        self.settle();
    }

    /// Someone asked for a shorter deletion: what waits, waits less; what was signalled is told the
    /// new time to SIGKILL.
    pub(super) fn shorten_grace(&mut self, grace: Duration) {
        let grace = whole(grace);
        let end = self.now + Duration::from_secs(grace);
        for s in self.stopping.iter_mut().filter(|s| grace < s.grace) {
            s.grace = grace;
            match &mut s.state {
                StopState::PreStop { until, .. } | StopState::Turn { until, .. } => {
                    *until = (*until).min(end);
                }
                StopState::Signalled => self.out.push_back(Output::Stop {
                    container: s.container,
                    instance: s.instance,
                    grace: Duration::from_secs(grace.max(MIN_STOP_GRACE)),
                }),
                StopState::Done => {}
            }
        }
        self.settle();
    }

    /// Grace periods that are over.
    pub(super) fn stop_timers(&mut self) {
        if self.stopping.iter().any(|s| s.deadline().is_some_and(|at| at <= self.now)) {
            self.settle();
        }
    }
}

/// Whole seconds: the kubelet truncates.
const fn whole(d: Duration) -> u64 {
    d.as_secs()
}
