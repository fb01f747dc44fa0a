//! The status of a Job (`JobStatus` of batch/v1).

use super::indexes::Indexes;
use crate::status::Reason;
use crate::time::Time;

/// `status` of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobStatus {
    /// `conditions`, in the order they came.
    pub conditions: Vec<JobCondition>,
    /// `startTime`: when the Job was first started, or last resumed.
    pub start_time: Option<Time>,
    /// `completionTime`, only of a Job that is complete.
    pub completion_time: Option<Time>,
    /// `active`: pods that are pending or running and not being deleted.
    pub active: u32,
    /// `ready`: active pods with condition Ready.
    pub ready: u32,
    /// `terminating`: pods that are being deleted and have not ended.
    pub terminating: u32,
    /// `succeeded`: pods that succeeded, or indexes if the Job is indexed.
    pub succeeded: u32,
    /// `failed`: pods that failed.
    pub failed: u32,
    /// `completedIndexes`, empty if the Job is not indexed.
    pub completed_indexes: Indexes,
    /// `failedIndexes`, only with `backoffLimitPerIndex`.
    pub failed_indexes: Option<Indexes>,
}

impl JobStatus {
    /// The condition of this kind.
    pub fn condition(&self, kind: JobConditionKind) -> Option<&JobCondition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// Whether the condition of this kind is there and `True`.
    pub fn is_true(&self, kind: JobConditionKind) -> bool {
        self.condition(kind).is_some_and(|c| c.status)
    }

    /// The condition that ended the Job: `Complete` or `Failed`.
    pub fn finished(&self) -> Option<&JobCondition> {
        let last = [JobConditionKind::Complete, JobConditionKind::Failed];
        self.conditions.iter().find(|c| c.status && last.contains(&c.kind))
    }

    /// Adds or changes a condition and says whether that changed anything. A `False` is not added
    /// where there was nothing (ensureJobConditionStatus).
    pub(super) fn ensure(&mut self, new: JobCondition) -> bool {
        if let Some(old) = self.conditions.iter_mut().find(|c| c.kind == new.kind) {
            let same = (old.status, old.reason, &old.message);
            if same == (new.status, new.reason, &new.message) {
                return false;
            }
            *old = new;
            return true;
        }
        if new.status {
            self.conditions.push(new.clone());
        }
        new.status
    }
}

/// One entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCondition {
    /// `type`.
    pub kind: JobConditionKind,
    /// `status`.
    pub status: bool,
    /// `reason`.
    pub reason: JobReason,
    /// `message`, empty if none.
    pub message: Reason,
    /// `lastTransitionTime` (and `lastProbeTime`, which is always the same).
    pub last_transition: Time,
}

/// `type` of a [`JobCondition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobConditionKind {
    /// `Suspended`.
    Suspended,
    /// `SuccessCriteriaMet`: it will be complete when its pods have ended.
    SuccessCriteriaMet,
    /// `FailureTarget`: it will be failed when its pods have ended.
    FailureTarget,
    /// `Complete`.
    Complete,
    /// `Failed`.
    Failed,
}

impl JobConditionKind {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "Suspended",
            Self::SuccessCriteriaMet => "SuccessCriteriaMet",
            Self::FailureTarget => "FailureTarget",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
        }
    }
}

/// `reason` of a [`JobCondition`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JobReason {
    /// None is given (a complete Job before 1.31).
    #[default]
    None,
    /// More pods failed, or containers were restarted more often, than `backoffLimit` allows.
    BackoffLimitExceeded,
    /// It has all the completions it needs.
    CompletionsReached,
    /// `activeDeadlineSeconds` are over.
    DeadlineExceeded,
    /// All indexes have ended, some in failure.
    FailedIndexes,
    /// It was resumed.
    JobResumed,
    /// It was suspended.
    JobSuspended,
    /// More indexes failed than `maxFailedIndexes`.
    MaxFailedIndexesExceeded,
    /// A rule of `podFailurePolicy` failed it.
    PodFailurePolicy,
    /// A rule of `successPolicy` is met.
    SuccessPolicy,
}

impl JobReason {
    /// The word in the API, empty for [`JobReason::None`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::BackoffLimitExceeded => "BackoffLimitExceeded",
            Self::CompletionsReached => "CompletionsReached",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::FailedIndexes => "FailedIndexes",
            Self::JobResumed => "JobResumed",
            Self::JobSuspended => "JobSuspended",
            Self::MaxFailedIndexesExceeded => "MaxFailedIndexesExceeded",
            Self::PodFailurePolicy => "PodFailurePolicy",
            Self::SuccessPolicy => "SuccessPolicy",
        }
    }
}
