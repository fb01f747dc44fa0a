//! Inputs: each changes what is known, answers what the worker waits for, and asks for a sync where
//! the kubelet would start one.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::stops::Stops;
use super::{Lifecycle, SYNC_RETRY, Stage, Wait};
use crate::event::{Input, Output, ProbeResult, StartStage};
use crate::plan::{ContainerId, HookKind, Kind, ProbeKind};
use crate::probe::Outcome;
use crate::status::{InstanceId, Phase, Reason, Terminated};
use crate::statuses::StartReason;
use crate::time::Time;
use crate::view::{InstanceState, Sandbox};

impl Lifecycle {
    /// Tells the engine what happened, and that it is `now`. Time never goes back: an earlier `now`
    /// counts as the latest one seen.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => {}
            Input::VolumesMounted => self.volumes(Ok(())),
            Input::VolumesFailed { message } => self.volumes(Err(message)),
            Input::SandboxCreated { attempt, ip } => {
                self.view.sandboxes.insert(0, Sandbox { attempt, ready: true, ip });
                self.view.sandboxes.truncate(2);
                self.index.touch_created();
                if self.answered(Wait::Sandbox(attempt)) && ip.is_none() && !self.plan.host_network
                {
                    self.dirty = true;
                }
            }
            Input::SandboxFailed { attempt, message } => {
                if self.answered(Wait::Sandbox(attempt)) {
                    let text = format!("Failed to create pod sandbox: {message}");
                    self.event(true, "FailedCreatePodSandBox", None, text);
                    self.abort_sync();
                    self.retry_at(self.now + SYNC_RETRY);
                }
            }
            Input::SandboxLost => {
                for s in &mut self.view.sandboxes {
                    s.ready = false;
                }
                self.dirty = true;
            }
            Input::Pulled { container, image_id } => self.pulled(container, &image_id),
            Input::PullFailed { container, reason, message } => {
                self.pull_failed(container, reason, message);
            }
            Input::Started { instance } => self.started(instance),
            Input::StartFailed { instance, stage, message } => {
                self.start_failed(instance, stage, message);
            }
            Input::Exited { instance, code, reason, message } => {
                self.exited(instance, code, reason, message);
            }
            Input::Found { container, instance } => self.found(container, instance),
            Input::Removed { instance } => {
                let running = self
                    .container_of(instance)
                    .and_then(|id| self.view.get_mut(id, instance))
                    .is_some_and(|run| run.is_running());
                if let Some(id) = self.view.remove(instance) {
                    if running {
                        self.probes.stopped(id);
                    }
                    self.index.touch(id);
                    // Whoever waits for its end waits for nothing.
                    self.kill_exited(id, instance);
                    self.dirty = true;
                }
            }
            Input::Unknown { instance } => {
                if let Some(id) = self.container_of(instance)
                    && let Some(run) = self.view.get_mut(id, instance)
                {
                    run.state = InstanceState::Unknown;
                    self.probes.stopped(id);
                    self.index.touch(id);
                    self.dirty = true;
                }
            }
            Input::HookDone { instance, hook, result } => self.hook_done(instance, hook, result),
            Input::ProbeDone { instance, probe, result } => {
                self.probe_done(instance, probe, result);
            }
            Input::Delete { grace } => self.delete(grace),
            Input::PlanChanged(plan) => {
                self.plan = *plan;
                self.plan_changed();
                self.dirty = true;
            }
            Input::Evict { reason, message, grace } => self.evict(reason, message, grace),
            Input::GateSet { gate, value } => {
                self.gates.retain(|(name, _)| *name != gate);
                self.gates.push((gate, value));
                self.dirty = true;
            }
            Input::DriverRestarted => self.driver_restarted(),
        }
        self.fire_timers();
    }

    /// Carries out every timer that is due.
    fn fire_timers(&mut self) {
        let now = self.now;
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.dirty = true;
        }
        if self.relist.is_some_and(|at| at <= now) {
            self.relist = None;
            self.dirty = true;
        }
        if self.deadline().is_some_and(|at| at <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.event(false, "DeadlineExceeded", None, message.into());
            self.evict(Cow::Borrowed("DeadlineExceeded"), message.into(), None);
        }
        self.stop_timers();
        for (container, instance, probe) in self.probes.take_due(now) {
            self.out.push_back(Output::RunProbe { container, instance, probe });
        }
    }

    /// Clears the wait if it is this one.
    pub(super) fn answered(&mut self, wait: Wait) -> bool {
        let hit = self.wait == Some(wait);
        if hit {
            self.wait = None;
        }
        hit
    }

    /// Asks for a sync at `at` at the latest.
    pub(super) fn retry_at(&mut self, at: Time) {
        self.retry = Some(self.retry.map_or(at, |r| r.min(at)));
    }

    /// Asks for a status to be published soon.
    pub(super) fn relist_soon(&mut self) {
        let at = self.now + self.options.relist;
        self.relist = Some(self.relist.map_or(at, |r| r.min(at)));
    }

    /// The container that a run belongs to, if the run is known.
    pub(super) fn container_of(&self, instance: InstanceId) -> Option<ContainerId> {
        self.view.container_of(instance)
    }

    fn volumes(&mut self, result: Result<(), String>) {
        self.volumes_mounted = result.is_ok();
        if let Err(message) = result
            && self.wait == Some(Wait::Volumes)
        {
            self.event(true, "FailedMount", None, message);
            self.abort_sync();
            self.retry_at(self.now + SYNC_RETRY);
        }
        self.answered(Wait::Volumes);
        self.dirty |= self.volumes_mounted && self.stage == Stage::Idle;
    }

    fn started(&mut self, instance: InstanceId) {
        let Some(Wait::Start(id, expected)) = self.wait else { return };
        if expected != instance {
            return;
        }
        self.wait = None;
        let now = self.now;
        if let Some(run) = self.view.get_mut(id, instance) {
            run.state = InstanceState::Running { started_at: now };
        }
        self.unwatched.push(id);
        self.reasons[id.index()] = None;
        self.index.touch(id);
        let name = Arc::clone(&self.plan.container(id).name);
        self.event(false, "Started", Some(id), format!("Started container {name}"));
        if self.plan.container(id).post_start {
            self.wait = Some(Wait::PostStart(id, instance));
            let hook = HookKind::PostStart;
            self.out.push_back(Output::RunHook { container: id, instance, hook });
        } else {
            self.start_done(id);
        }
    }

    /// A container is up, its postStart hook included.
    fn start_done(&mut self, id: ContainerId) {
        if self.is_sidecar(id) {
            // The next entry of the init list waits for this one.
            self.dirty = true;
        } else {
            self.relist_soon();
        }
    }

    fn start_failed(&mut self, instance: InstanceId, stage: StartStage, message: String) {
        let Some(Wait::Start(id, expected)) = self.wait else { return };
        if expected != instance {
            return;
        }
        self.wait = None;
        let reason = match stage {
            StartStage::Config => "CreateContainerConfigError",
            StartStage::Create => "CreateContainerError",
            StartStage::Run => "RunContainerError",
        };
        self.event(true, "Failed", Some(id), format!("Error: {message}"));
        self.index.touch(id);
        if stage == StartStage::Run {
            let now = self.now;
            if let Some(run) = self.view.get_mut(id, instance) {
                run.state = InstanceState::Exited(Terminated {
                    exit_code: 128,
                    reason: Cow::Borrowed("StartError"),
                    message: Cow::Owned(message.clone()),
                    started_at: None,
                    finished_at: Some(now),
                    instance: Some(instance),
                });
            }
            self.outlived.push(id);
            self.dirty = true;
        } else {
            self.view.remove(instance);
            self.retry_at(self.now + SYNC_RETRY);
        }
        self.start_refused(id, StartReason { reason: Cow::Borrowed(reason), message });
    }

    fn exited(&mut self, instance: InstanceId, code: i32, reason: Option<Reason>, message: String) {
        let Some(id) = self.container_of(instance) else { return };
        let now = self.now;
        let Some(run) = self.view.get_mut(id, instance) else { return };
        let started_at = match run.state {
            InstanceState::Running { started_at } => Some(started_at),
            InstanceState::Created | InstanceState::Unknown => None,
            InstanceState::Exited(_) => return,
        };
        let usual = if code == 0 { "Completed" } else { "Error" };
        run.state = InstanceState::Exited(Terminated {
            exit_code: code,
            reason: reason.unwrap_or(Cow::Borrowed(usual)),
            message: Cow::Owned(message),
            started_at,
            finished_at: Some(now),
            instance: Some(instance),
        });
        self.probes.stopped(id);
        self.index.touch(id);
        self.outlived.push(id);
        self.kill_exited(id, instance);
        self.dirty = true;
    }

    fn hook_done(&mut self, instance: InstanceId, hook: HookKind, result: Result<(), String>) {
        let Some(id) = self.container_of(instance) else { return };
        match hook {
            HookKind::PreStop => {
                if result.is_err() {
                    // The text may hold secrets, so the event does not have it.
                    self.event(true, "FailedPreStopHook", Some(id), "PreStopHook failed".into());
                }
                self.pre_stop_done(id, instance);
            }
            HookKind::PostStart => {
                if !self.answered(Wait::PostStart(id, instance)) {
                    return;
                }
                match result {
                    Ok(()) => self.start_done(id),
                    Err(text) => self.post_start_failed(id, instance, text),
                }
            }
        }
    }

    fn probe_done(&mut self, instance: InstanceId, kind: ProbeKind, result: ProbeResult) {
        let Some(id) = self.container_of(instance) else { return };
        let word = match kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        };
        let passed = match result {
            ProbeResult::Success => Some(true),
            ProbeResult::Warning(text) => {
                self.event(true, "ProbeWarning", Some(id), format!("{word} probe warning: {text}"));
                Some(true)
            }
            ProbeResult::Failure(text) => {
                self.event(true, "Unhealthy", Some(id), format!("{word} probe failed: {text}"));
                Some(false)
            }
            ProbeResult::Error(text) => {
                self.event(true, "Unhealthy", Some(id), format!("{word} probe errored: {text}"));
                None
            }
        };
        self.index.touch(id);
        match self.probes.answer(id, instance, kind, self.now, passed) {
            None => {}
            // A liveness probe that passes again changes nothing that anyone waits for.
            Some(Outcome::Success) if kind == ProbeKind::Liveness => {}
            Some(_) => {
                self.dirty = true;
                // The status says so before the sync that comes of it, so that the phase of that sync
                // counts a sidecar as started (kubelet: `syncLoopIteration`).
                let startup = kind == ProbeKind::Startup && self.is_sidecar(id);
                if startup || self.wait.is_some() && kind != ProbeKind::Liveness {
                    self.publish_probe(id);
                }
            }
        }
    }

    fn delete(&mut self, grace: Option<Duration>) {
        if self.stage == Stage::Finished {
            return;
        }
        // At least one second, and a later request can only shorten it. That counts for what is not
        // being stopped yet: the call to the runtime is under way with the grace period that it was
        // made with.
        let wanted = grace.unwrap_or(self.plan.termination_grace).max(Duration::from_secs(1));
        let before = self.deletion;
        let grace = before.map_or(wanted, |g| g.min(wanted));
        if before == Some(grace) {
            return;
        }
        self.deletion = Some(grace);
        self.index.make_all_stale();
        self.dirty = true;
        self.out.push_back(Output::StatusChanged);
        if self.wait == Some(Wait::Volumes) {
            self.abort_sync();
        }
    }

    fn evict(&mut self, reason: Reason, message: String, grace: Option<Duration>) {
        if self.eviction.is_none() && !self.decided.0.is_terminal() {
            self.eviction = Some((reason, message));
            self.override_grace = grace;
            self.dirty = true;
        }
    }

    fn driver_restarted(&mut self) {
        self.wait = None;
        self.steps.clear();
        self.stopping = Stops::default();
        self.retry = None;
        self.relist = None;
        if self.stage != Stage::Finished {
            self.stage = Stage::Idle;
        }
        self.reasons.iter_mut().for_each(|r| *r = None);
        self.probes.reset();
        self.unwatched.clear();
        self.index.touch_all();
        self.dirty = true;
        if self.decided.0.is_terminal() && self.status.phase != self.decided.0 {
            // Only what was published survives.
            self.decided =
                (self.status.phase, self.status.reason.clone(), self.status.message.clone());
        }
        self.probes.add_pod(&self.plan);
        for id in self.plan.ids().filter(|&id| self.plan.container(id).kind != Kind::Ephemeral) {
            let Some(run) = self.view.newest(id).filter(|i| i.is_running()) else { continue };
            let instance = run.id;
            if self.features.change_status_on_restart {
                self.probes.started(id, instance, self.now, self.now);
            } else {
                let passed = self
                    .status_of(id)
                    .filter(|s| s.instance == Some(instance))
                    .is_some_and(|s| s.started == Some(true));
                self.probes.adopt(id, instance, self.now, passed);
            }
        }
        if self.decided.0 == Phase::Pending && self.status.phase != Phase::Pending {
            self.decided.0 = self.status.phase;
        }
    }
}
