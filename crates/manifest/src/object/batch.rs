//! Job and CronJob of batch/v1.

use serde_json::Value;

use super::macros::objects;
use super::meta::{LabelSelector, ObjectMeta};
use super::pod::PodTemplateSpec;

objects! {
    /// A Job (batch/v1).
    pub struct Job {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: JobSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a Job.
    pub struct JobSpec {
        /// `parallelism`; 1 after defaulting.
        parallelism: Option<i32>,
        /// `completions`; 1 after defaulting when `parallelism` is not given either.
        completions: Option<i32>,
        /// `activeDeadlineSeconds`.
        active_deadline_seconds: Option<i64>,
        /// `podFailurePolicy`.
        pod_failure_policy: Option<PodFailurePolicy>,
        /// `successPolicy`.
        success_policy: Option<SuccessPolicy>,
        /// `backoffLimit`; 6 after defaulting (2147483647 with `backoffLimitPerIndex`).
        backoff_limit: Option<i32>,
        /// `backoffLimitPerIndex`.
        backoff_limit_per_index: Option<i32>,
        /// `maxFailedIndexes`.
        max_failed_indexes: Option<i32>,
        /// `selector`.
        selector: Option<LabelSelector>,
        /// `manualSelector`.
        manual_selector: Option<bool>,
        /// `template`.
        template: PodTemplateSpec,
        /// `ttlSecondsAfterFinished`.
        ttl_seconds_after_finished: Option<i32>,
        /// `completionMode`: `NonIndexed` or `Indexed`.
        completion_mode: Option<String>,
        /// `suspend`.
        suspend: Option<bool>,
        /// `podReplacementPolicy`: `TerminatingOrFailed` or `Failed`.
        pod_replacement_policy: Option<String>,
        /// `managedBy`.
        managed_by: Option<String>,
    }

    /// `podFailurePolicy`.
    pub struct PodFailurePolicy {
        /// `rules`; the first that matches decides.
        rules: Vec<PodFailurePolicyRule>,
    }

    /// One rule of a pod failure policy; exactly one of `onExitCodes` and `onPodConditions` is set.
    pub struct PodFailurePolicyRule {
        /// `action`: `FailJob`, `FailIndex`, `Ignore` or `Count`.
        action: String,
        /// `onExitCodes`.
        on_exit_codes: Option<OnExitCodes>,
        /// `onPodConditions`.
        on_pod_conditions: Vec<OnPodCondition>,
    }

    /// `onExitCodes`.
    pub struct OnExitCodes {
        /// `containerName`; any container if `None`.
        container_name: Option<String>,
        /// `operator`: `In` or `NotIn`.
        operator: String,
        /// `values`.
        values: Vec<i32>,
    }

    /// One entry of `onPodConditions`.
    pub struct OnPodCondition {
        /// `type`.
        kind = "type": String,
        /// `status`; `True` after defaulting.
        status: String,
    }

    /// `successPolicy`.
    pub struct SuccessPolicy {
        /// `rules`; any that holds makes the Job succeed.
        rules: Vec<SuccessPolicyRule>,
    }

    /// One rule of a success policy.
    pub struct SuccessPolicyRule {
        /// `succeededIndexes`, such as `0,2-5`.
        succeeded_indexes: Option<String>,
        /// `succeededCount`.
        succeeded_count: Option<i32>,
    }

    /// A CronJob (batch/v1).
    pub struct CronJob {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: CronJobSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a CronJob.
    pub struct CronJobSpec {
        /// `schedule`.
        schedule: String,
        /// `timeZone`, a name of the tz database.
        time_zone: Option<String>,
        /// `startingDeadlineSeconds`.
        starting_deadline_seconds: Option<i64>,
        /// `concurrencyPolicy`: `Allow`, `Forbid` or `Replace`.
        concurrency_policy: String,
        /// `suspend`; false after defaulting.
        suspend: Option<bool>,
        /// `jobTemplate`.
        job_template: JobTemplateSpec,
        /// `successfulJobsHistoryLimit`; 3 after defaulting.
        successful_jobs_history_limit: Option<i32>,
        /// `failedJobsHistoryLimit`; 1 after defaulting.
        failed_jobs_history_limit: Option<i32>,
    }

    /// `jobTemplate`.
    pub struct JobTemplateSpec {
        /// `metadata`: labels and annotations of the Jobs.
        metadata: ObjectMeta,
        /// `spec`.
        spec: JobSpec,
    }
}
