//! What the Job controller looks at of a pod.

use std::cmp::Reverse;
use std::sync::Arc;

use super::engine::PodId;
use super::spec::JobSpec;
use crate::status::{ConditionKind, Phase, PodStatus, State};
use crate::time::Time;

/// A pod of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSummary {
    /// `metadata.name`, empty until the pod is there.
    pub name: Arc<str>,
    /// Annotation `batch.kubernetes.io/job-completion-index`.
    pub index: Option<u32>,
    /// Annotation `batch.kubernetes.io/job-index-failure-count`.
    pub failures: u32,
    /// Annotation `batch.kubernetes.io/job-index-ignored-failure-count`.
    pub ignored_failures: u32,
    /// `metadata.creationTimestamp`.
    pub created: Time,
    /// When its deletion was asked for: `metadata.deletionTimestamp` without the grace period that
    /// is added to it.
    pub deleted: Option<Time>,
    /// `status`.
    pub status: PodStatus,
}

/// A pod and where the rules stand with it.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) id: PodId,
    pub(super) summary: PodSummary,
    /// Whether it needs no more counting: it ended and was counted, or it was deleted as surplus.
    /// Upstream: it has no tracking finalizer any more.
    pub(super) counted: bool,
    /// Whether the object is gone; it is only kept to be counted.
    pub(super) gone: bool,
}

impl PodSummary {
    /// Whether it is active: not ended and not being deleted (FilterActivePods).
    pub(super) fn is_active(&self) -> bool {
        !self.status.phase.is_terminal() && self.deleted.is_none()
    }

    /// Whether it is being deleted and has not ended (IsPodTerminating).
    pub(super) fn is_terminating(&self) -> bool {
        !self.status.phase.is_terminal() && self.deleted.is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.status.is_true(&ConditionKind::Ready)
    }

    /// Whether it counts as failed (isPodFailed). Where pods are replaced as soon as they are being
    /// deleted, being deleted is enough.
    pub(super) fn is_failed(&self, spec: &JobSpec) -> bool {
        match self.status.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => !spec.only_replace_failed() && self.deleted.is_some(),
        }
    }

    /// The index, if it is one of the Job's.
    pub(super) fn valid_index(&self, completions: u32) -> Option<u32> {
        self.index.filter(|i| *i < completions)
    }

    /// Restarts of all its containers but the ephemeral ones.
    pub(super) fn restarts(&self) -> u64 {
        let listed = self.status.init.iter().chain(&self.status.regular);
        listed.map(|c| u64::from(c.restart_count)).sum()
    }

    /// What makes a pod a better choice for removal: smaller goes first (controller.ActivePods).
    fn removal_order(&self) -> impl Ord + use<> {
        let running = self.status.phase == Phase::Running;
        let ready = self.status.condition(&ConditionKind::Ready).filter(|c| c.status);
        let listed = self.status.init.iter().chain(&self.status.regular);
        let restarts = listed.map(|c| c.restart_count).max().unwrap_or(0);
        (
            running,
            ready.is_some(),
            ready.map(|c| Reverse(c.last_transition)),
            Reverse(restarts),
            Reverse(self.created),
        )
    }
}

/// Sorts pods so that the best choices for removal come first: pending before running, not ready
/// before ready, often restarted before seldom, young before old.
pub(super) fn sort_for_removal(pods: &mut [&Pod]) {
    pods.sort_by_cached_key(|p| p.summary.removal_order());
}

/// When a pod ended (getFinishedTime): the end of its last container if all have ended; else the
/// time its Ready condition became `False`; else the time its deletion was asked for; else its
/// creation.
pub fn finish_time(pod: &PodSummary) -> Time {
    let not_ready = || {
        let ready = pod.status.condition(&ConditionKind::Ready)?;
        (!ready.status && ready.last_transition > Time::ZERO).then_some(ready.last_transition)
    };
    last_exit(&pod.status).or_else(not_ready).or(pod.deleted).unwrap_or(pod.created)
}

fn last_exit(status: &PodStatus) -> Option<Time> {
    let mut last = None;
    for container in status.regular.iter().chain(&status.init) {
        let State::Terminated(end) = &container.state else { return None };
        last = last.max(Some(end.finished_at?));
    }
    last
}
