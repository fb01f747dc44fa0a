//! One look at a Job (pkg/controller/job/job_controller.go: syncJob and
//! trackJobStatusAndRemoveFinalizers).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::condition::{JobCondition, JobConditionKind, JobReason};
use super::engine::{Job, PodId};
use super::failure_policy::{FailureMatch, match_failure_policy};
use super::indexes::Indexes;
use super::pod::{Pod, PodSummary, finish_time};
use super::spec::Action;
use super::success_policy::match_success_policy;
use crate::plan::RestartPolicy;
use crate::status::Phase;
use crate::time::Time;

/// The first version that puts an interim condition before the last one and waits with the last
/// one until no pod is terminating; the first with `successPolicy`, too.
const INTERIM_CONDITIONS: u32 = 31;
/// The first version that clears `startTime` while a Job is suspended.
const SUSPENDED_HAS_NO_START: u32 = 36;

/// What is known at one look (syncJobCtx).
pub(super) struct Look {
    pub(super) now: Time,
    /// In the order of their ids.
    pub(super) active: Vec<PodId>,
    pub(super) ready: u32,
    pub(super) terminating: u32,
    pub(super) succeeded: u32,
    pub(super) succeeded_indexes: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// Failed pods whose counts the pod that replaces them must inherit, by index: until then they
    /// stay uncounted.
    pub(super) unreplaced: BTreeMap<u32, PodId>,
    /// Pods that are stopped because the Job ends: they do not count as failed for that alone.
    stopped: Vec<PodId>,
    failed: u32,
    finish: Option<Finish>,
}

/// The condition a Job is about to get.
#[derive(Clone)]
struct Finish {
    kind: JobConditionKind,
    reason: JobReason,
    message: Cow<'static, str>,
}

impl Finish {
    fn condition(&self, now: Time) -> JobCondition {
        JobCondition {
            kind: self.kind,
            status: true,
            reason: self.reason,
            message: self.message.clone(),
            last_transition: now,
        }
    }
}

impl Job {
    /// Looks at the pods, creates and deletes some, counts, and finishes the Job if it is time.
    pub(super) fn reconcile(&mut self, now: Time) {
        self.start(now);
        let mut look = self.look(now);
        self.find_end(&mut look);
        let active = if look.finish.is_some() {
            look.stopped = std::mem::take(&mut look.active);
            look.terminating += count(&look.stopped);
            for id in &look.stopped {
                self.delete_pod(*id, now);
            }
            look.ready = 0;
            0
        } else {
            self.carry_on(&mut look)
        };
        self.status.active = active;
        self.status.ready = look.ready;
        self.status.terminating = look.terminating;
        self.count(&look);
        self.finish(look);
    }

    fn start(&mut self, now: Time) {
        if self.spec.suspend {
            return;
        }
        // A resumed Job starts anew. (The controller resets the time only after it has looked at
        // the deadline; its documentation promises that the deadline starts anew as well.)
        let resumed = self.status.is_true(JobConditionKind::Suspended);
        if resumed || self.status.start_time.is_none() {
            self.status.start_time = Some(now);
        }
    }

    fn look(&mut self, now: Time) -> Look {
        let is_active = |p: &&Pod| p.summary.is_active();
        let mut look = Look {
            now,
            active: self.pods.values().filter(is_active).map(|p| p.id).collect(),
            ready: count(self.pods.values().filter(is_active).filter(|p| p.summary.is_ready())),
            terminating: count(self.pods.values().filter(|p| p.summary.is_terminating())),
            succeeded: 0,
            failed: 0,
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            unreplaced: BTreeMap::new(),
            stopped: Vec::new(),
            finish: None,
        };
        let done = |p: &&PodSummary| p.status.phase == Phase::Succeeded;
        let new_succeeded: Vec<&PodSummary> = self.uncounted().filter(done).collect();
        let failed = |p: &&PodSummary| p.is_failed(&self.spec);
        let new_failed: Vec<&PodSummary> = self.uncounted().filter(failed).collect();
        look.succeeded = self.status.succeeded + count(&new_succeeded);
        look.failed =
            self.status.failed + count(new_failed.iter().filter(|p| self.policy(p).counts()));
        let ends =
            |pods: &[&PodSummary]| -> Vec<Time> { pods.iter().map(|p| finish_time(p)).collect() };
        let backoff = self.backoff.after(&ends(&new_succeeded), &ends(&new_failed));
        if let Some(completions) = self.spec.indexed() {
            let fresh = new_succeeded.iter().filter_map(|p| p.valid_index(completions)).collect();
            let before = self.status.completed_indexes.below(completions);
            look.succeeded_indexes = before.union(&fresh);
            look.succeeded = look.succeeded_indexes.len();
            if let Some(limit) = self.spec.per_index() {
                look.failed_indexes = Some(self.failed_indexes(completions, limit));
                look.unreplaced = self.unreplaced(&look);
            }
        }
        self.backoff = backoff;
        look
    }

    /// The pods that are not counted yet, in an indexed Job only those of its indexes
    /// (getValidPodsWithFilter).
    fn uncounted(&self) -> impl Iterator<Item = &PodSummary> {
        let valid = |p: &&Pod| {
            self.spec.indexed().is_none_or(|count| p.summary.valid_index(count).is_some())
        };
        self.pods.values().filter(|p| !p.counted).filter(valid).map(|p| &p.summary)
    }

    /// What `podFailurePolicy` says about a failed pod.
    pub(super) fn policy(&self, pod: &PodSummary) -> FailureMatch {
        let rules = self.spec.failure_policy.as_deref().unwrap_or_default();
        match_failure_policy(rules, &self.spec.namespace, pod)
    }

    /// calculateFailedIndexes, isIndexFailed.
    fn failed_indexes(&self, completions: u32, limit: u32) -> Indexes {
        let is_over = |pod: &&PodSummary| {
            pod.is_failed(&self.spec) && {
                let policy = self.policy(pod);
                policy.action == Some(Action::FailIndex)
                    || (policy.counts() && pod.failures >= limit)
            }
        };
        let fresh = self.uncounted().filter(is_over).filter_map(|p| p.valid_index(completions));
        let before = self.status.failed_indexes.clone().unwrap_or_default();
        before.below(completions).union(&fresh.collect())
    }

    /// getPodsWithDelayedDeletionPerIndex: of each index that is neither done nor active, the last
    /// failed pod.
    fn unreplaced(&self, look: &Look) -> BTreeMap<u32, PodId> {
        let active: Indexes =
            look.active.iter().filter_map(|id| self.pods.get(id)?.summary.index).collect();
        let failed = look.failed_indexes.clone().unwrap_or_default();
        let settled = look.succeeded_indexes.union(&failed).union(&active);
        let completions = self.spec.completions.unwrap_or(0);
        let mut last: BTreeMap<u32, &Pod> = BTreeMap::new();
        for pod in self.pods.values().filter(|p| !p.counted && p.summary.is_failed(&self.spec)) {
            let Some(index) = pod.summary.valid_index(completions) else { continue };
            if settled.contains(index) {
                continue;
            }
            let all = |p: &Pod| p.summary.failures.saturating_add(p.summary.ignored_failures);
            let newer = last.get(&index).is_none_or(|old| {
                all(old) <= all(pod) && finish_time(&old.summary) <= finish_time(&pod.summary)
            });
            if newer {
                last.insert(index, pod);
            }
        }
        last.into_iter().map(|(index, pod)| (index, pod.id)).collect()
    }

    /// Whether the Job ends now, whatever its pods do: the first reason wins.
    fn find_end(&mut self, look: &mut Look) {
        let interim = self.minor >= INTERIM_CONDITIONS;
        let met = self.status.condition(JobConditionKind::SuccessCriteriaMet);
        if let Some(met) = met.filter(|c| c.status && interim) {
            look.finish =
                Some(Finish { kind: met.kind, reason: met.reason, message: met.message.clone() });
            return;
        }
        let target = self.status.condition(JobConditionKind::FailureTarget).filter(|c| c.status);
        look.finish = if let Some(target) = target {
            Some(Finish {
                kind: JobConditionKind::Failed,
                reason: target.reason,
                message: target.message.clone(),
            })
        } else if let Some(message) = self.fail_job_message() {
            // This one had its interim condition before 1.31 already.
            Some(Finish {
                kind: JobConditionKind::FailureTarget,
                reason: JobReason::PodFailurePolicy,
                message: message.into(),
            })
        } else {
            let kind =
                if interim { JobConditionKind::FailureTarget } else { JobConditionKind::Failed };
            self.failure(look).map(|(reason, message)| Finish {
                kind,
                reason,
                message: message.into(),
            })
        };
        if look.finish.is_none()
            && interim
            && let Some(completions) = self.spec.indexed()
            && let Some(rules) = &self.spec.success_policy
            && let Some(message) = match_success_policy(rules, completions, &look.succeeded_indexes)
        {
            look.finish = Some(Finish {
                kind: JobConditionKind::SuccessCriteriaMet,
                reason: JobReason::SuccessPolicy,
                message: message.into(),
            });
        }
    }

    /// getFailJobMessage.
    fn fail_job_message(&self) -> Option<String> {
        self.spec.failure_policy.as_ref()?;
        let failed = self.pods.values().filter(|p| p.summary.is_failed(&self.spec));
        failed.filter_map(|p| self.policy(&p.summary).message).next()
    }

    fn failure(&mut self, look: &Look) -> Option<(JobReason, &'static str)> {
        if look.failed > self.spec.backoff_limit || self.too_many_restarts() {
            let message = "Job has reached the specified backoff limit";
            return Some((JobReason::BackoffLimitExceeded, message));
        }
        if let Some(deadline) = self.deadline() {
            if look.now >= deadline {
                let message = "Job was active longer than specified deadline";
                return Some((JobReason::DeadlineExceeded, message));
            }
            self.wake_at(deadline);
        }
        let failed = look.failed_indexes.as_ref()?.len();
        if self.spec.max_failed_indexes.is_some_and(|max| failed > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some((JobReason::MaxFailedIndexesExceeded, message));
        }
        let all = self.spec.completions.unwrap_or(0);
        (failed > 0 && failed + look.succeeded_indexes.len() >= all)
            .then_some((JobReason::FailedIndexes, "Job has failed indexes"))
    }

    /// pastBackoffLimitOnFailure: containers that are restarted in place count one by one.
    fn too_many_restarts(&self) -> bool {
        if self.spec.restart_policy != RestartPolicy::OnFailure {
            return false;
        }
        let alive = self.pods.values().filter(|p| !p.summary.status.phase.is_terminal());
        let restarts: u64 = alive.map(|p| p.summary.restarts()).sum();
        // A limit of 0 still allows none, rather than failing the Job at once.
        restarts >= u64::from(self.spec.backoff_limit.max(1))
    }

    /// When the Job has been active for too long; a suspended Job has no such time.
    fn deadline(&self) -> Option<Time> {
        let start = self.status.start_time.filter(|_| !self.spec.suspend)?;
        Some(start + self.spec.active_deadline?)
    }

    /// The Job goes on: creates and deletes pods, and sees whether that is all. Gives the number of
    /// active pods.
    fn carry_on(&mut self, look: &mut Look) -> u32 {
        let active = if self.deleting { count(&look.active) } else { self.manage(look) };
        let complete = match self.spec.completions {
            None => look.succeeded > 0 && active == 0,
            Some(completions) => look.succeeded >= completions && active == 0,
        };
        if complete {
            look.finish = Some(self.success());
        } else if !self.deleting {
            self.note_suspension(look.now);
        }
        active
    }

    fn success(&self) -> Finish {
        if self.minor < INTERIM_CONDITIONS {
            let (kind, reason) = (JobConditionKind::Complete, JobReason::None);
            return Finish { kind, reason, message: "".into() };
        }
        Finish {
            kind: JobConditionKind::SuccessCriteriaMet,
            reason: JobReason::CompletionsReached,
            message: "Reached expected number of succeeded pods".into(),
        }
    }

    fn note_suspension(&mut self, now: Time) {
        let status = self.spec.suspend;
        let (reason, message, event) = match status {
            true => (JobReason::JobSuspended, "Job suspended", "Suspended"),
            false => (JobReason::JobResumed, "Job resumed", "Resumed"),
        };
        let (kind, last_transition) = (JobConditionKind::Suspended, now);
        let condition =
            JobCondition { kind, status, reason, message: message.into(), last_transition };
        if self.status.ensure(condition) {
            self.normal(event, message.to_owned());
        }
        if status && self.minor >= SUSPENDED_HAS_NO_START {
            self.status.start_time = None;
        }
    }

    /// Counts the pods that have ended, each once. If the Job ends, all others count as well: as
    /// failed, unless it ends well.
    fn count(&mut self, look: &Look) {
        let completions = self.spec.indexed();
        let (ends, ends_well) = match &look.finish {
            Some(finish) => (true, finish.kind == JobConditionKind::SuccessCriteriaMet),
            None => (false, false),
        };
        let mut failed = 0;
        let mut succeeded = 0;
        let mut counted = Vec::new();
        for pod in self.pods.values().filter(|p| !p.counted) {
            let done = pod.summary.status.phase == Phase::Succeeded;
            let stopped = look.stopped.binary_search(&pod.id).is_ok();
            let considered_failed = pod.summary.is_failed(&self.spec) && !stopped;
            let last = pod.summary.index.and_then(|index| look.unreplaced.get(&index));
            let waits = last == Some(&pod.id);
            // canRemoveFinalizer
            if !(self.deleting || ends || done || (considered_failed && !waits)) {
                continue;
            }
            counted.push(pod.id);
            if completions.is_some_and(|c| pod.summary.valid_index(c).is_none()) {
                continue;
            }
            if done {
                succeeded += 1;
            } else if considered_failed || (ends && !ends_well) {
                failed += u32::from(self.policy(&pod.summary).counts());
            }
        }
        for id in counted {
            if let Some(pod) = self.pods.get_mut(&id) {
                pod.counted = true;
            }
        }
        self.status.failed += failed;
        self.status.succeeded += succeeded;
        if completions.is_some() {
            self.status.succeeded = look.succeeded_indexes.len();
            self.status.completed_indexes = look.succeeded_indexes.clone();
        }
        self.status.failed_indexes = look.failed_indexes.clone();
    }

    /// Adds the conditions of the end. The last one waits for the pods that are still terminating
    /// (enactJobFinished).
    fn finish(&mut self, look: Look) {
        let Some(mut finish) = look.finish else { return };
        let now = look.now;
        let last = match finish.kind {
            JobConditionKind::FailureTarget => JobConditionKind::Failed,
            JobConditionKind::SuccessCriteriaMet => JobConditionKind::Complete,
            other => other,
        };
        if last != finish.kind {
            if !self.status.is_true(finish.kind) {
                self.status.conditions.push(finish.condition(now));
            }
            finish.kind = last;
        }
        if self.minor >= INTERIM_CONDITIONS && look.terminating > 0 {
            return;
        }
        let condition = finish.condition(now);
        self.status.ensure(condition.clone());
        if last == JobConditionKind::Complete {
            self.status.completion_time = Some(now);
        }
        self.announce_end(&condition);
    }
}

/// How many there are; more than fit do not exist.
pub(super) fn count(of: impl IntoIterator) -> u32 {
    u32::try_from(of.into_iter().count()).unwrap_or(u32::MAX)
}
