//! What the rules must know of a Job.

use std::sync::Arc;
use std::time::Duration;

use crate::plan::RestartPolicy;
use crate::status::ConditionKind;

/// `spec` of a Job with its defaults filled in, without its template: the caller keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`: the first part of the names of its pods.
    pub name: Arc<str>,
    /// `parallelism`.
    pub parallelism: u32,
    /// `completions`; `None` is a work queue: done when a pod succeeded and none is left.
    pub completions: Option<u32>,
    /// `completionMode`.
    pub mode: CompletionMode,
    /// `backoffLimit`; Kubernetes' default is 6, or no limit with `backoffLimitPerIndex`.
    pub backoff_limit: u32,
    /// `backoffLimitPerIndex`.
    pub backoff_limit_per_index: Option<u32>,
    /// `maxFailedIndexes`.
    pub max_failed_indexes: Option<u32>,
    /// `podFailurePolicy.rules`; `None` is not the same as an empty list.
    pub failure_policy: Option<Vec<FailureRule>>,
    /// `successPolicy.rules`.
    pub success_policy: Option<Vec<SuccessRule>>,
    /// `suspend`.
    pub suspend: bool,
    /// `activeDeadlineSeconds`, counted from `status.startTime`.
    pub active_deadline: Option<Duration>,
    /// `ttlSecondsAfterFinished`.
    pub ttl_after_finished: Option<Duration>,
    /// `podReplacementPolicy`; Kubernetes' default is `Failed` with a `podFailurePolicy`, else
    /// `TerminatingOrFailed`.
    pub replacement: PodReplacement,
    /// `template.spec.restartPolicy`: `Never` or `OnFailure`.
    pub restart_policy: RestartPolicy,
}

impl JobSpec {
    /// A Job with Kubernetes' defaults: one pod, which is not restarted in place.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            parallelism: 1,
            completions: Some(1),
            mode: CompletionMode::NonIndexed,
            backoff_limit: 6,
            backoff_limit_per_index: None,
            max_failed_indexes: None,
            failure_policy: None,
            success_policy: None,
            suspend: false,
            active_deadline: None,
            ttl_after_finished: None,
            replacement: PodReplacement::TerminatingOrFailed,
            restart_policy: RestartPolicy::Never,
        }
    }

    /// The number of indexes, if the Job is indexed.
    pub(super) fn indexed(&self) -> Option<u32> {
        match self.mode {
            CompletionMode::Indexed => Some(self.completions.unwrap_or(0)),
            CompletionMode::NonIndexed => None,
        }
    }

    /// The limit per index, which only an indexed Job can have.
    pub(super) fn per_index(&self) -> Option<u32> {
        self.indexed().and(self.backoff_limit_per_index)
    }

    /// Whether a pod that is being deleted must have ended before it counts as failed and is
    /// replaced (onlyReplaceFailedPods).
    pub(super) fn only_replace_failed(&self) -> bool {
        self.replacement == PodReplacement::Failed || self.failure_policy.is_some()
    }
}

/// `completionMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CompletionMode {
    /// Any `completions` pods must succeed.
    #[default]
    NonIndexed,
    /// One pod of each index from 0 to `completions` - 1 must succeed.
    Indexed,
}

/// `podReplacementPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PodReplacement {
    /// A pod is replaced as soon as it is being deleted.
    #[default]
    TerminatingOrFailed,
    /// A pod is replaced once it has ended.
    Failed,
}

/// One entry of `podFailurePolicy.rules`; the first that matches a failed pod decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRule {
    /// What to do with the failure.
    pub action: Action,
    /// What it looks at.
    pub on: On,
}

/// `action` of a [`FailureRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The Job fails.
    FailJob,
    /// The pod's index fails at once. Counts as [`Action::Count`] without `backoffLimitPerIndex`.
    FailIndex,
    /// The failure does not count towards any limit.
    Ignore,
    /// The failure counts, as it does without a rule.
    Count,
}

impl Action {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailJob => "FailJob",
            Self::FailIndex => "FailIndex",
            Self::Ignore => "Ignore",
            Self::Count => "Count",
        }
    }
}

/// What a [`FailureRule`] looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// `onExitCodes`.
    ExitCodes(ExitCodes),
    /// `onPodConditions`: one of them suffices.
    PodConditions(Vec<PodCondition>),
}

/// `onExitCodes`: matches if one container of the pod, init containers and sidecars included, ended
/// with such a code. A container that ended with 0 never matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCodes {
    /// `containerName`; `None` looks at all.
    pub container: Option<Arc<str>>,
    /// `operator: NotIn` rather than `In`.
    pub negated: bool,
    /// `values`.
    pub values: Vec<i32>,
}

/// One entry of `onPodConditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCondition {
    /// `type`.
    pub kind: ConditionKind,
    /// `status`: `True` or `False`.
    pub status: bool,
}

/// One entry of `successPolicy.rules`; the first that is met decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuccessRule {
    /// `succeededIndexes`, as written.
    pub indexes: Option<Arc<str>>,
    /// `succeededCount`: how many of the indexes; `None` is all.
    pub count: Option<u32>,
}
