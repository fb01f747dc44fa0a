//! One sync: publish, compute, carry out.

use super::{Lifecycle, Snapshot, Stage, Step, Wait};
use crate::actions::{self, Context, KillReason};
use crate::event::Output;
use crate::plan::ContainerId;
use crate::scope::Scope;
use crate::view::Instance;

impl Lifecycle {
    /// Does the next piece of work; false if there is none that can be done now.
    pub(super) fn advance(&mut self) -> bool {
        if self.wait == Some(Wait::Kills) && self.stopping.is_empty() {
            self.wait = None;
        }
        if self.wait.is_some() || self.stage == Stage::Finished {
            return false;
        }
        match self.steps.pop_front() {
            Some(step) => self.carry_out(step),
            None => match self.stage {
                Stage::Syncing => self.stage = Stage::Idle,
                Stage::Idle if self.dirty => self.begin_sync(),
                Stage::Idle | Stage::Terminating | Stage::Finished => return false,
            },
        }
        true
    }

    /// Gives up what is left of the current sync.
    pub(super) fn abort_sync(&mut self) {
        if self.stage != Stage::Terminating {
            self.steps.clear();
            self.wait = None;
        }
    }

    fn begin_sync(&mut self) {
        self.dirty = false;
        self.stage = Stage::Syncing;
        if self.deletion.is_some() || self.decided.0.is_terminal() {
            self.begin_termination();
            return;
        }
        self.steps.extend([Step::Publish, Step::Volumes, Step::Compute]);
    }

    /// Everything is stopped, and then the pod is over (kubelet: `SyncTerminatingPod`,
    /// `SyncTerminatedPod`).
    fn begin_termination(&mut self) {
        self.stage = Stage::Terminating;
        self.note_initialized();
        self.retry = None;
        self.relist = None;
        self.probes.stop_liveness_and_startup(&self.plan);
        self.index.make_all_stale();
        self.steps.clear();
        self.steps.extend([
            Step::Publish,
            Step::KillPod,
            Step::StopSandbox,
            Step::StopProbing,
            Step::PublishLast,
            Step::Terminate,
            Step::Finish,
        ]);
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Publish => {
                let outlived = self.has_outlived();
                self.publish(false);
                if self.stage == Stage::Syncing && self.decided.0.is_terminal() {
                    self.begin_termination();
                    if !outlived {
                        // Published just now, and nothing has changed since.
                        self.steps.pop_front();
                    }
                }
            }
            Step::Volumes => {
                if std::mem::take(&mut self.workers_wanted) {
                    self.probes.add_pod(&self.plan);
                    self.index.make_all_stale();
                }
                if !self.volumes_mounted {
                    self.wait = Some(Wait::Volumes);
                    self.out.push_back(Output::MountVolumes);
                }
            }
            Step::Compute => self.compute(),
            Step::Kill(kill) => {
                self.stop_one(kill);
                self.wait = Some(Wait::Kills);
            }
            Step::Reset(reset) => {
                self.reset[reset.container.index()] = true;
                self.probes.forget(reset.container);
                self.index.touch(reset.container);
                self.steps.push_front(Step::Remove(reset.container, reset.instance));
                if reset.kill {
                    let kill = actions::Kill {
                        instance: reset.instance,
                        container: reset.container,
                        reason: KillReason::RestartAll,
                        restart: true,
                    };
                    self.stop_one(kill);
                    self.wait = Some(Wait::Kills);
                }
            }
            Step::Remove(container, instance) => {
                if self.view.remove(instance).is_some() {
                    self.index.touch(container);
                    self.out.push_back(Output::Remove { container, instance });
                }
                self.dirty = true;
            }
            Step::KillPod => {
                self.stop_all();
                self.wait = Some(Wait::Kills);
            }
            Step::StopSandbox => self.stop_sandbox(),
            Step::PurgeInits => self.purge_inits(),
            Step::CreateSandbox(attempt) => {
                self.wait = Some(Wait::Sandbox(attempt));
                self.out.push_back(Output::CreateSandbox { attempt });
            }
            Step::Start(id, before) => self.start(id, before),
            Step::StopProbing => {
                self.probes.clear();
                self.index.make_all_stale();
            }
            Step::PublishLast => self.publish(true),
            Step::Terminate => self.terminate(),
            Step::Finish => {
                self.stage = Stage::Finished;
                self.out.push_back(Output::Finished);
            }
        }
    }

    /// Decides what this sync does, and queues it in the order of spec A3.
    fn compute(&mut self) {
        if self.deletion.is_some() {
            return;
        }
        self.survey();
        let cx = self.context();
        let actions = actions::compute_in(&cx, Scope::Of(&self.index.account.survey));
        debug_assert_eq!(
            actions,
            actions::compute(&cx),
            "the survey of {} is wrong",
            self.plan.name
        );
        let counted = |id: &ContainerId| Step::Start(*id, self.snapshot(*id));
        let starts: Vec<Step> =
            [&actions.start_ephemeral, &actions.start_init, &actions.start_regular]
                .into_iter()
                .flatten()
                .map(counted)
                .collect();
        if actions.kill_pod {
            let had_sandbox = !self.view.sandboxes.is_empty();
            if actions.create_sandbox && had_sandbox {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                self.event(false, "SandboxChanged", None, text.into());
            }
            self.steps.extend([Step::KillPod, Step::StopSandbox]);
            if actions.create_sandbox {
                self.steps.push_back(Step::PurgeInits);
            }
            // What was stopped shows in the next sync. If there was nothing to stop, nothing new
            // would come of it: a pod with policy Never that lost its sandbox half-way hangs here, as
            // in the kubelet (kubernetes/kubernetes#118321), until it is deleted.
            let stops =
                self.view.sandbox().is_some_and(|s| s.ready) || self.running().next().is_some();
            self.dirty |= !actions.create_sandbox && stops;
        }
        self.steps.extend(actions.reset.into_iter().map(Step::Reset));
        if !actions.kill_pod {
            self.steps.extend(actions.kill.into_iter().map(Step::Kill));
        }
        if actions.create_sandbox {
            self.steps.push_back(Step::CreateSandbox(actions.attempt));
        }
        self.steps.extend(starts);
    }

    /// What actions are decided on.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            plan: &self.plan,
            view: &self.view,
            results: self.probes.results(),
            features: &self.features,
            deleted: false,
            restarting_all: self.restarting_all(),
        }
    }

    /// Brings the survey of the containers up to date.
    pub(super) fn survey(&mut self) {
        let cx = Context {
            plan: &self.plan,
            view: &self.view,
            results: self.probes.results(),
            features: &self.features,
            deleted: false,
            restarting_all: false,
        };
        self.index.survey(&cx);
    }

    fn stop_sandbox(&mut self) {
        let ready: Vec<u32> = self
            .view
            .sandboxes
            .iter_mut()
            .filter(|s| s.ready)
            .map(|s| {
                s.ready = false;
                s.attempt
            })
            .collect();
        let lost = self.view.sandbox().map(|s| s.attempt).filter(|_| ready.is_empty());
        for attempt in ready.into_iter().chain(lost) {
            self.out.push_back(Output::StopSandbox { attempt });
        }
    }

    /// Forgets the runs of the init list and their logs.
    fn purge_inits(&mut self) {
        for id in self.plan.inits().collect::<Vec<_>>() {
            for instance in self.view.runs(id).iter().map(|i| i.id).collect::<Vec<_>>() {
                self.view.remove(instance);
                self.out.push_back(Output::Remove { container: id, instance });
            }
            self.per[id.index()].next_count = None;
            self.index.touch(id);
        }
    }

    fn snapshot(&self, id: ContainerId) -> Snapshot {
        let count = match self.view.newest(id) {
            Some(run) => run.restart_count + 1,
            None => self.per[id.index()].next_count.unwrap_or(0),
        };
        let ended = self.view.runs(id).iter().rev().find_map(Instance::exit);
        Snapshot { count, finished: ended.and_then(|t| t.finished_at) }
    }
}
