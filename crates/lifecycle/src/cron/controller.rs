//! What the CronJob controller does (pkg/controller/cronjob/cronjob_controllerv2.go).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::missed::{Missed, next_schedule_time, requeue_time};
use super::schedule::Schedule;
use super::spec::{ChildJob, ConcurrencyPolicy, CronJobSpec, CronJobStatus, Finished, job_name};
use super::zone::zone;
use crate::event::Event;
use crate::time::Time;

/// A CronJob and what the controller knows of it.
///
/// Call [`CronJob::sync`] when it is created, when one of its Jobs is added, changes or is gone,
/// and at the time that the last [`Decision`] named; do what the actions say, in their order.
#[derive(Clone, Debug)]
pub struct CronJob {
    spec: CronJobSpec,
    created: Time,
    status: CronJobStatus,
    deleting: bool,
    /// The Job that was started last and the `lastScheduleTime` before it, should that fail.
    undo: Option<(Arc<str>, Option<Time>)>,
}

/// What to do, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// When to call [`CronJob::sync`] again if nothing happens before; `None` if only a change of
    /// the spec or of a Job can lead to anything.
    pub wake: Option<Time>,
    /// Whether the status differs from before.
    pub status_changed: bool,
}

/// Something the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a Job from the template. If that fails, say so with [`CronJob::create_failed`].
    CreateJob {
        /// Its name.
        name: Arc<str>,
        /// The time it is for.
        scheduled: Time,
        /// The value of its annotation `batch.kubernetes.io/cronjob-scheduled-timestamp`.
        timestamp: String,
    },
    /// Delete a Job and its pods. It is no longer one of the CronJob's Jobs, even if its pods take
    /// a while to stop.
    DeleteJob {
        /// Its name.
        name: Arc<str>,
    },
    /// Record an event about the CronJob.
    Event(Event),
}

/// Why a Job could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// A Job of that name is there and belongs to someone else.
    AlreadyExists,
    /// Anything else, in the words for the event.
    Other(String),
}

impl CronJob {
    /// A CronJob that was created at this time and has not run yet.
    pub fn new(spec: CronJobSpec, created: Time) -> Self {
        Self::with_status(spec, created, CronJobStatus::default())
    }

    /// A CronJob that already has a status, as after a restart of the program.
    pub fn with_status(spec: CronJobSpec, created: Time, status: CronJobStatus) -> Self {
        Self { spec, created, status, deleting: false, undo: None }
    }

    /// Deletes the CronJob: from now on only its status is kept up to date. (Its Jobs are deleted
    /// by whoever collects the objects it owns.)
    pub fn delete(&mut self) {
        self.deleting = true;
    }

    /// Takes a changed spec and says when to call [`CronJob::sync`]: at the next scheduled time if
    /// the schedule or the time zone changed, else now (updateCronJob).
    pub fn spec_changed(&mut self, now: Time, spec: CronJobSpec) -> Decision {
        let old = std::mem::replace(&mut self.spec, spec);
        let mut out = Decision::default();
        if old.schedule == self.spec.schedule && old.time_zone == self.spec.time_zone {
            out.wake = Some(now);
            return out;
        }
        let zone = self.spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), zone);
        match Schedule::parse_in(&self.spec.schedule, zone.unwrap_or(TimeZone::UTC)) {
            Ok(schedule) => out.wake = requeue_time(&schedule, self.since(), now),
            Err(_) => out.warn(
                "UnParseableCronJobSchedule",
                format!("unparseable schedule for cronjob: {}", self.spec.schedule),
            ),
        }
        out
    }

    /// Brings the CronJob up to date. `jobs` are all Jobs that it owns (cleanupFinishedJobs, then
    /// syncCronJob).
    pub fn sync(&mut self, now: Time, jobs: &[ChildJob]) -> Decision {
        let mut out = Decision::default();
        self.clean_up(jobs, &mut out);
        self.look_at_jobs(jobs, &mut out);
        if !self.deleting {
            self.start(now, jobs, &mut out);
        }
        out
    }

    /// Takes back what [`Action::CreateJob`] promised: the Job was not created. The scheduled time
    /// stays due, so that the next [`CronJob::sync`] tries again; how long to wait before it is up
    /// to the caller (Kubernetes: 5 ms, doubled with every failure).
    pub fn create_failed(&mut self, name: &str, error: &CreateError) -> Decision {
        let mut out = Decision::default();
        if let Some((_, before)) = self.undo.take_if(|(started, _)| &**started == name) {
            self.forget(name);
            self.status.last_schedule = before;
            out.status_changed = true;
        }
        if let CreateError::Other(message) = error {
            out.warn("FailedCreate", format!("Error creating job: {message}"));
        }
        out
    }

    /// The spec.
    pub fn spec(&self) -> &CronJobSpec {
        &self.spec
    }

    /// The status.
    pub fn status(&self) -> &CronJobStatus {
        &self.status
    }

    /// `metadata.creationTimestamp`.
    pub fn created(&self) -> Time {
        self.created
    }

    fn since(&self) -> Time {
        self.status.last_schedule.unwrap_or(self.created)
    }

    /// Deletes the oldest finished Jobs beyond the history limits (cleanupFinishedJobs).
    fn clean_up(&mut self, jobs: &[ChildJob], out: &mut Decision) {
        let complete = |j: &&ChildJob| matches!(j.finished, Some(Finished::Complete { .. }));
        let failed = |j: &&ChildJob| matches!(j.finished, Some(Finished::Failed));
        let (keep_succeeded, keep_failed) = (self.spec.keep_succeeded, self.spec.keep_failed);
        self.delete_oldest(jobs.iter().filter(complete).collect(), keep_succeeded, out);
        self.delete_oldest(jobs.iter().filter(failed).collect(), keep_failed, out);
    }

    fn delete_oldest(&mut self, mut jobs: Vec<&ChildJob>, keep: Option<u32>, out: &mut Decision) {
        let Some(keep) = keep else { return };
        let surplus = jobs.len().saturating_sub(keep as usize);
        // Jobs that never started come last; the name breaks ties (byJobStartTime).
        jobs.sort_by_key(|j| (j.start.is_none(), j.start, Arc::clone(&j.name)));
        for job in jobs.into_iter().take(surplus) {
            self.delete_job(&job.name, out);
        }
    }

    fn delete_job(&mut self, name: &Arc<str>, out: &mut Decision) {
        out.actions.push(Action::DeleteJob { name: Arc::clone(name) });
        self.forget(name);
        out.normal("SuccessfulDelete", format!("Deleted job {name}"));
        out.status_changed = true;
    }

    /// Takes a Job off the active list; says whether it was on it.
    fn forget(&mut self, name: &str) -> bool {
        let before = self.status.active.len();
        self.status.active.retain(|a| &**a != name);
        self.status.active.len() != before
    }

    fn is_active(&self, name: &str) -> bool {
        self.status.active.iter().any(|a| &**a == name)
    }

    /// The first half of syncCronJob: what the Jobs say.
    fn look_at_jobs(&mut self, jobs: &[ChildJob], out: &mut Decision) {
        for job in jobs {
            let Some(finished) = job.finished else {
                if !self.is_active(&job.name) {
                    out.warn(
                        "UnexpectedJob",
                        format!(
                            "Saw a job that the controller did not create or forgot: {}",
                            job.name
                        ),
                    );
                }
                continue;
            };
            if self.forget(&job.name) {
                out.normal(
                    "SawCompletedJob",
                    format!("Saw completed job: {}, condition: {}", job.name, finished.as_str()),
                );
                out.status_changed = true;
            }
            if let Finished::Complete { at } = finished
                && at > self.status.last_successful
            {
                self.status.last_successful = at;
                out.status_changed = true;
            }
        }
        let there: BTreeSet<&str> = jobs.iter().map(|j| &*j.name).collect();
        self.status.active.retain(|name| {
            let found = there.contains(&**name);
            if !found {
                out.normal("MissingJob", format!("Active job went missing: {name}"));
                out.status_changed = true;
            }
            found
        });
    }

    /// The second half of syncCronJob: whether to start a Job.
    fn start(&mut self, now: Time, jobs: &[ChildJob], out: &mut Decision) {
        let own_zone = match self.spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), zone) {
            Ok(zone) => zone,
            Err(error) => {
                let name = self.spec.time_zone.as_deref().unwrap_or_default();
                out.warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                return;
            }
        };
        if self.spec.suspend {
            return;
        }
        let text = Arc::clone(&self.spec.schedule);
        if text.contains("TZ") {
            out.warn("UnsupportedSchedule", unsupported(&text));
        }
        let schedule = match Schedule::parse_in(&text, own_zone.clone()) {
            Ok(schedule) => schedule,
            Err(error) => {
                out.warn(
                    "UnparseableSchedule",
                    format!("unparseable schedule: {text:?} : {error}"),
                );
                return;
            }
        };
        let deadline = self.spec.starting_deadline;
        let due = match next_schedule_time(&schedule, self.since(), deadline, now) {
            Ok(due) => due,
            Err(error) => {
                out.warn("InvalidSchedule", format!("invalid schedule: {text} : {error}"));
                return;
            }
        };
        if let Some((scheduled, missed)) = due {
            if missed == Missed::Many {
                out.warn("TooManyMissedTimes", TOO_MANY_MISSED.to_owned());
            }
            self.start_at(scheduled, &own_zone, jobs, out);
        }
        out.wake = requeue_time(&schedule, self.since(), now);
    }

    /// Starts the Job of a scheduled time. (Upstream looks at two more things here, which cannot
    /// be: that the time is before the deadline, event MissSchedule, and that it is
    /// `lastScheduleTime`. Both are where the search for due times begins.)
    fn start_at(
        &mut self,
        scheduled: Time,
        zone: &TimeZone,
        jobs: &[ChildJob],
        out: &mut Decision,
    ) {
        let name: Arc<str> = job_name(&self.spec.name, scheduled).into();
        if self.is_active(&name) {
            return;
        }
        if self.spec.concurrency == ConcurrencyPolicy::Forbid && !self.status.active.is_empty() {
            out.normal("JobAlreadyActive", ALREADY_ACTIVE.to_owned());
            return;
        }
        if self.spec.concurrency == ConcurrencyPolicy::Replace {
            for active in self.status.active.clone() {
                self.delete_job(&active, out);
            }
        }
        // A Job of that name that is already there was created before a restart: adopt it.
        if !jobs.iter().any(|j| j.name == name) {
            out.actions.push(Action::CreateJob {
                name: Arc::clone(&name),
                scheduled,
                timestamp: rfc3339(zone, scheduled),
            });
            out.normal("SuccessfulCreate", format!("Created job {name}"));
        }
        let before = self.status.last_schedule.replace(scheduled);
        self.undo = Some((Arc::clone(&name), before));
        self.status.active.push(name);
        out.status_changed = true;
    }
}

impl Decision {
    fn normal(&mut self, reason: &'static str, message: String) {
        self.event(false, reason, message);
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.event(true, reason, message);
    }

    fn event(&mut self, warning: bool, reason: &'static str, message: String) {
        self.actions.push(Action::Event(Event { warning, reason, message, container: None }));
    }
}

fn unsupported(schedule: &str) -> String {
    format!(
        "CRON_TZ or TZ used in schedule {schedule:?} is not officially supported, see \
         https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
    )
}

fn timestamp(at: Time) -> Timestamp {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(secs).unwrap_or(Timestamp::MAX)
}

/// Go's RFC3339: `Z` for an offset of zero.
fn rfc3339(zone: &TimeZone, at: Time) -> String {
    let at = timestamp(at).to_zoned(zone.clone());
    let text = at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if at.offset() == Offset::UTC { text + "Z" } else { text + &at.strftime("%:z").to_string() }
}

const TOO_MANY_MISSED: &str = "too many missed start times. Set or decrease \
     .spec.startingDeadlineSeconds or check clock skew";
const ALREADY_ACTIVE: &str = "Not starting job because prior execution is running and concurrency \
     policy is Forbid";
