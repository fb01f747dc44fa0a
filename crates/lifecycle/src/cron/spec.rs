//! What the rules must know of a CronJob, and what they keep of it.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Time;

/// `spec` of a CronJob, without its template: the caller keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronJobSpec {
    /// `metadata.name`: the first part of the names of its Jobs.
    pub name: Arc<str>,
    /// `schedule`, as written.
    pub schedule: Arc<str>,
    /// `timeZone`; `None` is UTC, the zone of a controller manager in a container.
    pub time_zone: Option<Arc<str>>,
    /// `suspend`.
    pub suspend: bool,
    /// `concurrencyPolicy`.
    pub concurrency: ConcurrencyPolicy,
    /// `startingDeadlineSeconds`.
    pub starting_deadline: Option<Duration>,
    /// `successfulJobsHistoryLimit`; Kubernetes' default is 3, `None` keeps all.
    pub keep_succeeded: Option<u32>,
    /// `failedJobsHistoryLimit`; Kubernetes' default is 1, `None` keeps all.
    pub keep_failed: Option<u32>,
}

impl CronJobSpec {
    /// A CronJob with Kubernetes' defaults.
    pub fn new(name: impl Into<Arc<str>>, schedule: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            schedule: schedule.into(),
            time_zone: None,
            suspend: false,
            concurrency: ConcurrencyPolicy::Allow,
            starting_deadline: None,
            keep_succeeded: Some(3),
            keep_failed: Some(1),
        }
    }
}

/// `concurrencyPolicy`: what to do when a Job is due while one still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConcurrencyPolicy {
    /// Start it as well.
    #[default]
    Allow,
    /// Skip it.
    Forbid,
    /// Delete the running one first.
    Replace,
}

/// `status` of a CronJob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CronJobStatus {
    /// `active`: the names of the Jobs that run, oldest first.
    pub active: Vec<Arc<str>>,
    /// `lastScheduleTime`: the time for which a Job was last created, not when that happened.
    pub last_schedule: Option<Time>,
    /// `lastSuccessfulTime`: when a Job last completed.
    pub last_successful: Option<Time>,
}

/// A Job that belongs to the CronJob. Its name stands for its identity: the name of a Job made here
/// is unique for its minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildJob {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `status.startTime`; the history is cleaned up in its order.
    pub start: Option<Time>,
    /// How it ended, if it has.
    pub finished: Option<Finished>,
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Condition `Complete`.
    Complete {
        /// `status.completionTime`.
        at: Option<Time>,
    },
    /// Condition `Failed`.
    Failed,
}

impl Finished {
    /// The type of the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete { .. } => "Complete",
            Self::Failed => "Failed",
        }
    }
}

/// The name of the Job for a scheduled time: the CronJob's name and the minutes since the Unix
/// epoch. It doubles as a lock, since the same time always gives the same name (getJobName).
pub fn job_name(cron_job: &str, scheduled: Time) -> String {
    format!("{cron_job}-{}", scheduled.as_secs() / 60)
}
