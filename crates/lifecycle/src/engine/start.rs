//! Starting one container: back-off, pull, create, start, postStart (spec A3, A7, A9; kubelet:
//! `startContainer`).

use std::borrow::Cow;
use std::sync::Arc;

use super::{Lifecycle, Snapshot, Step, Wait};
use crate::actions::{Kill, KillReason};
use crate::backoff::go_duration;
use crate::event::Output;
use crate::plan::{ContainerId, Kind};
use crate::status::{InstanceId, Reason};
use crate::statuses::StartReason;
use crate::view::{Instance, InstanceState};

/// Ended runs kept of each container: the last one, and the one before it for `lastState`.
const KEPT_RUNS: usize = 2;

impl Lifecycle {
    /// Begins to start a container, unless a back-off forbids it. A delete does not: the kubelet does
    /// not interrupt a sync that is under way (`SyncPod`: `context.WithoutCancel`).
    pub(super) fn start(&mut self, id: ContainerId, before: Snapshot) {
        let now = self.now;
        let c = self.plan.container(id);
        let per = &mut self.per[id.index()];
        if let Some(finished) = before.finished {
            let limits = self.options.back_off;
            if let Err(wait) = per.back_off.start(now, finished, &c.image, c.resources, limits) {
                let name = Arc::clone(&c.name);
                let pod = self.pod_text();
                let message = format!(
                    "back-off {} restarting failed container={name} pod={pod}",
                    go_duration(wait)
                );
                self.retry_at(finished + wait);
                let text = format!("Back-off restarting failed container {name} in pod {pod}");
                self.event(true, "BackOff", Some(id), text);
                let reason = Cow::Borrowed("CrashLoopBackOff");
                self.start_refused(id, StartReason { reason, message });
                return;
            }
        }
        if let Some(at) = per.pull.pull_allowed_at(&c.image).filter(|&at| now < at) {
            let image = Arc::clone(&c.image);
            let error = per.pull_error.clone();
            self.retry_at(at);
            let text = format!("Back-off pulling image \"{image}\"");
            self.event(false, "BackOff", Some(id), text.clone());
            let message = if error.is_empty() { text } else { format!("{text}: {error}") };
            self.start_refused(
                id,
                StartReason { reason: Cow::Borrowed("ImagePullBackOff"), message },
            );
            return;
        }
        self.wait = Some(Wait::Pull(id, before.count));
        self.out.push_back(Output::Pull { container: id });
    }

    pub(super) fn pulled(&mut self, id: ContainerId, image_id: &str) {
        let Some(Wait::Pull(expected, count)) = self.wait else { return };
        if expected != id {
            return;
        }
        self.wait = None;
        self.per[id.index()].pull.reset();
        self.create(id, count, image_id);
    }

    fn create(&mut self, id: ContainerId, count: u32, image_id: &str) {
        let name = Arc::clone(&self.plan.container(id).name);
        let instance = InstanceId(self.next_instance);
        self.next_instance += 1;
        self.add_run(id, instance, count, image_id.into(), InstanceState::Created);
        self.wait = Some(Wait::Start(id, instance));
        self.event(false, "Created", Some(id), format!("Created container: {name}"));
        self.out.push_back(Output::Start { container: id, instance, restart_count: count });
    }

    /// Someone else started a run.
    pub(super) fn found(&mut self, id: ContainerId, instance: InstanceId) {
        if id.index() >= self.plan.containers.len() || self.container_of(instance).is_some() {
            return;
        }
        let newest = self.view.newest(id);
        let count = newest.map_or(0, |run| run.restart_count + 1);
        let image_id = newest.map_or_else(|| "".into(), |run| Arc::clone(&run.image_id));
        let state = InstanceState::Running { started_at: self.now };
        self.add_run(id, instance, count, image_id, state);
        self.unwatched.push(id);
        self.index.touch(id);
        self.dirty = true;
    }

    /// Records a new run, and forgets the oldest if there are too many.
    fn add_run(
        &mut self,
        id: ContainerId,
        instance: InstanceId,
        restart_count: u32,
        image_id: Arc<str>,
        state: InstanceState,
    ) {
        self.view.push(Instance {
            id: instance,
            container: id,
            sandbox: self.view.sandbox().map_or(0, |s| s.attempt),
            state,
            image: Arc::clone(&self.plan.container(id).image),
            image_id,
            created_at: self.now,
            restart_count,
        });
        let runs = self.view.runs(id);
        if runs.len() > KEPT_RUNS {
            let old = runs[0].id;
            self.view.remove(old);
            self.out.push_back(Output::Remove { container: id, instance: old });
        }
        self.per[id.index()].next_count = Some(restart_count + 1);
        self.probes.forget(id);
        self.index.touch(id);
        self.reset[id.index()] = false;
    }

    pub(super) fn pull_failed(&mut self, id: ContainerId, reason: Reason, message: String) {
        let Some(Wait::Pull(expected, _)) = self.wait else { return };
        if expected != id {
            return;
        }
        self.wait = None;
        let image = Arc::clone(&self.plan.container(id).image);
        let limits = crate::options::BackOffLimits::default();
        let per = &mut self.per[id.index()];
        let text = format!("Error: {reason}");
        if reason == "ErrImagePull" {
            per.pull.pull_failed(self.now, &image, limits);
            per.pull_error = format!("{reason}: {message}");
            let event = format!("Failed to pull image \"{image}\": {message}");
            self.event(true, "Failed", Some(id), event);
            if let Some(at) = self.per[id.index()].pull.pull_allowed_at(&image) {
                self.retry_at(at);
            }
        } else {
            // kubelet: `EnsureImageExists`.
            let word = match &*reason {
                "ErrImageNeverPull" => Some("ErrImageNeverPull"),
                "InvalidImageName" | "ImageInspectError" => Some("InspectFailed"),
                _ => None,
            };
            if let Some(word) = word {
                self.event(true, word, Some(id), message.clone());
            }
            self.retry_at(self.now + super::SYNC_RETRY);
        }
        self.event(true, "Failed", Some(id), text);
        self.start_refused(id, StartReason { reason, message });
    }

    /// A container did not start, and why. An init container ends the sync; others are passed over.
    pub(super) fn start_refused(&mut self, id: ContainerId, why: StartReason) {
        if self.reasons[id.index()].as_ref() != Some(&why) {
            self.reasons[id.index()] = Some(why);
            self.index.touch(id);
            self.relist_soon();
        }
        if self.plan.container(id).kind == Kind::Init {
            self.steps.retain(|s| !matches!(s, Step::Start(..)));
        }
    }

    /// The postStart hook failed: the container is killed, its preStop hook included.
    pub(super) fn post_start_failed(
        &mut self,
        id: ContainerId,
        instance: InstanceId,
        text: String,
    ) {
        self.event(true, "FailedPostStartHook", Some(id), "PostStartHook failed".into());
        let kill = Kill { instance, container: id, reason: KillReason::PostStart, restart: false };
        self.stop_one(kill);
        self.wait = Some(Wait::Kills);
        let reason = Cow::Borrowed("PostStartHookError");
        self.start_refused(id, StartReason { reason, message: text });
        self.dirty = true;
    }
}
