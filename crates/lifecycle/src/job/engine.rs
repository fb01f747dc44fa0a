//! The Job's door: what goes in, what comes out, and when to look again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::condition::{JobCondition, JobStatus};
use super::pod::{Pod, PodSummary};
use super::spec::JobSpec;
use crate::cron::{ChildJob, Finished};
use crate::event::Event;
use crate::status::{Phase, PodStatus};
use crate::time::Time;

/// How long to wait after a pod could not be created: doubled each time, up to a minute
/// (DefaultJobApiBackOff, MaxJobApiBackOff).
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A pod of a Job, named by the Job before the pod has a name of its own. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u64);

/// Something that happened outside, told to the Job with the time it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobInput {
    /// A pod was created (answer to [`JobOutput::CreatePod`]).
    PodCreated {
        /// Which pod.
        pod: PodId,
        /// The name it got.
        name: Arc<str>,
    },
    /// A pod could not be created (answer to [`JobOutput::CreatePod`]).
    CreateFailed {
        /// Which pod.
        pod: PodId,
        /// Why, for the event.
        message: String,
    },
    /// The status of a pod changed, or its deletion was asked for.
    PodChanged {
        /// Which pod.
        pod: PodId,
        /// Its status.
        status: PodStatus,
        /// When its deletion was asked for, if it was (by whomever).
        deleted: Option<Time>,
    },
    /// A pod's object is gone.
    PodDeleted {
        /// Which pod.
        pod: PodId,
    },
    /// The spec was updated.
    SpecChanged(Box<JobSpec>),
    /// The Job is deleted, and its pods with it.
    Delete,
    /// Nothing but time passed; also how a new Job is started.
    Tick,
}

/// Something the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutput {
    /// Create a pod from the template; answer with [`JobInput::PodCreated`] or
    /// [`JobInput::CreateFailed`].
    CreatePod(NewPod),
    /// Delete a pod with its own grace period, even if its creation was not confirmed yet; answer
    /// with [`JobInput::PodChanged`] and, when it is gone, [`JobInput::PodDeleted`].
    DeletePod {
        /// Which pod.
        pod: PodId,
    },
    /// A new status was published: read it with [`Job::status`].
    StatusChanged,
    /// An event about the Job.
    Event(Event),
    /// `ttlSecondsAfterFinished` are over: delete the Job, which is [`JobInput::Delete`].
    Expired,
}

/// A pod to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    /// What to call it towards the Job.
    pub id: PodId,
    /// What its name begins with; five random characters follow (see
    /// [`random_suffix`](super::random_suffix)).
    pub generate_name: String,
    /// Its completion index, if the Job is indexed: annotation and label
    /// `batch.kubernetes.io/job-completion-index`, and `JOB_COMPLETION_INDEX` in the environment of
    /// every container that does not set it itself.
    pub index: Option<u32>,
    /// `spec.hostname`, if the Job is indexed.
    pub hostname: Option<String>,
    /// Annotation `batch.kubernetes.io/job-index-failure-count`, with `backoffLimitPerIndex`.
    pub failures: Option<u32>,
    /// Annotation `batch.kubernetes.io/job-index-ignored-failure-count`, if not 0.
    pub ignored_failures: Option<u32>,
}

/// The Job controller's rules for one Job.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) spec: JobSpec,
    /// Kubernetes' minor version: 29 to 36.
    pub(super) minor: u32,
    created: Time,
    pub(super) status: JobStatus,
    /// By id, which is the order of creation.
    pub(super) pods: BTreeMap<PodId, Pod>,
    next_id: u64,
    pub(super) backoff: Backoff,
    pub(super) deleting: bool,
    expired: bool,
    create_failures: u32,
    pub(super) retry_at: Option<Time>,
    pub(super) wake: Option<Time>,
    outputs: VecDeque<JobOutput>,
}

impl Job {
    /// A new Job. Nothing happens until the first [`Job::handle`].
    ///
    /// `minor` is the minor version of the Kubernetes whose rules apply, 29 to 36.
    pub fn new(spec: JobSpec, minor: u32, created: Time) -> Self {
        Self::resume(spec, minor, created, JobStatus::default(), [])
    }

    /// A Job that already has a status and pods, as after a restart of the program. The pods get
    /// the ids 0, 1, … in their order. Those that are in the status's counts already must not be
    /// among them.
    pub fn resume(
        spec: JobSpec,
        minor: u32,
        created: Time,
        status: JobStatus,
        pods: impl IntoIterator<Item = PodSummary>,
    ) -> Self {
        let mut job = Self {
            spec,
            minor,
            created,
            status,
            pods: BTreeMap::new(),
            next_id: 0,
            backoff: Backoff::default(),
            deleting: false,
            expired: false,
            create_failures: 0,
            retry_at: None,
            wake: Some(created),
            outputs: VecDeque::new(),
        };
        for summary in pods {
            job.add_pod(summary);
        }
        job
    }

    /// Takes something that happened at `now`; [`Job::poll`] then tells what to do.
    pub fn handle(&mut self, now: Time, input: JobInput) {
        match input {
            JobInput::PodCreated { pod, name } => {
                self.create_failures = 0;
                self.retry_at = None;
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.summary.name = Arc::clone(&name);
                    self.normal("SuccessfulCreate", format!("Created pod: {name}"));
                }
            }
            JobInput::CreateFailed { pod, message } => {
                self.pods.remove(&pod);
                let doubled = RETRY.saturating_mul(2_u32.saturating_pow(self.create_failures));
                self.create_failures = self.create_failures.saturating_add(1);
                self.retry_at = Some(now + doubled.min(LONGEST_RETRY));
                self.warn("FailedCreate", format!("Error creating: {message}"));
            }
            JobInput::PodChanged { pod, status, deleted } => {
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.summary.status = status;
                    pod.summary.deleted = pod.summary.deleted.or(deleted);
                }
            }
            JobInput::PodDeleted { pod } => {
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.gone = true;
                    pod.summary.deleted.get_or_insert(now);
                    // Whatever it did not get to say: it is over.
                    if !pod.summary.status.phase.is_terminal() {
                        pod.summary.status.phase = Phase::Failed;
                    }
                }
            }
            JobInput::SpecChanged(spec) => self.spec = *spec,
            JobInput::Delete => self.deleting = true,
            JobInput::Tick => {}
        }
        self.sync(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<JobOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Job::handle`] with [`JobInput::Tick`] if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// The spec.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The status.
    pub fn status(&self) -> &JobStatus {
        &self.status
    }

    /// `metadata.creationTimestamp`.
    pub fn created(&self) -> Time {
        self.created
    }

    /// The pods whose objects are still there, in the order of their creation.
    pub fn pods(&self) -> impl Iterator<Item = (PodId, &PodSummary)> {
        self.pods.values().filter(|p| !p.gone).map(|p| (p.id, &p.summary))
    }

    /// Whether the Job was deleted.
    pub fn is_deleting(&self) -> bool {
        self.deleting
    }

    /// Whether the Job was deleted and all its pods are gone, so that its object can go too.
    pub fn is_gone(&self) -> bool {
        self.deleting && self.pods().next().is_none()
    }

    /// When a finished Job is to be deleted (`ttlSecondsAfterFinished`).
    pub fn deletion_time(&self) -> Option<Time> {
        Some(self.status.finished()?.last_transition + self.spec.ttl_after_finished?)
    }

    /// The Job as its CronJob sees it.
    pub fn as_child(&self) -> ChildJob {
        let finished = self.status.finished().map(|c| match c.kind {
            super::JobConditionKind::Complete => {
                Finished::Complete { at: self.status.completion_time }
            }
            _ => Finished::Failed,
        });
        ChildJob { name: Arc::clone(&self.spec.name), start: self.status.start_time, finished }
    }

    fn sync(&mut self, now: Time) {
        let before = self.status.clone();
        self.wake = None;
        if self.status.finished().is_none() {
            self.reconcile(now);
        }
        if self.deleting {
            // What the garbage collector does once the owner is gone.
            let left: Vec<PodId> = self.pods.values().filter(|p| !p.gone).map(|p| p.id).collect();
            for id in left {
                self.ask_for_deletion(id, now);
            }
        } else if let Some(at) = self.deletion_time() {
            if now < at {
                self.wake_at(at);
            } else if !self.expired {
                self.expired = true;
                self.outputs.push_back(JobOutput::Expired);
            }
        }
        let over = self.deleting || self.status.finished().is_some();
        self.pods.retain(|_, p| !p.gone || !(p.counted || over));
        if self.status != before {
            self.outputs.push_back(JobOutput::StatusChanged);
        }
    }

    pub(super) fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    pub(super) fn add_pod(&mut self, summary: PodSummary) -> PodId {
        let id = PodId(self.next_id);
        self.next_id += 1;
        self.pods.insert(id, Pod { id, summary, counted: false, gone: false });
        id
    }

    pub(super) fn create_pod(&mut self, new: NewPod) {
        self.outputs.push_back(JobOutput::CreatePod(new));
    }

    /// Deletes a pod and says so.
    pub(super) fn delete_pod(&mut self, id: PodId, now: Time) {
        let name = self.pods.get(&id).map(|p| Arc::clone(&p.summary.name)).unwrap_or_default();
        if self.ask_for_deletion(id, now) && !name.is_empty() {
            self.normal("SuccessfulDelete", format!("Deleted pod: {name}"));
        }
    }

    /// Asks for the deletion of a pod, once; says whether this was the time.
    fn ask_for_deletion(&mut self, id: PodId, now: Time) -> bool {
        let Some(pod) = self.pods.get_mut(&id).filter(|p| p.summary.deleted.is_none()) else {
            return false;
        };
        pod.summary.deleted = Some(now);
        self.outputs.push_back(JobOutput::DeletePod { pod: id });
        true
    }

    /// The event that says how the Job ended (recordJobFinished).
    pub(super) fn announce_end(&mut self, condition: &JobCondition) {
        if condition.kind != super::JobConditionKind::Complete {
            self.warn(condition.reason.as_str(), condition.message.to_string());
            return;
        }
        if self.spec.completions.is_some_and(|c| self.status.succeeded > c) {
            let many = "Too many succeeded pods running after completion count reached";
            self.warn("TooManySucceededPods", many.to_owned());
        }
        self.normal("Completed", "Job completed".to_owned());
    }

    pub(super) fn normal(&mut self, reason: &'static str, message: String) {
        self.event(false, reason, message);
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.event(true, reason, message);
    }

    fn event(&mut self, warning: bool, reason: &'static str, message: String) {
        let event = Event { warning, reason, message, container: None };
        self.outputs.push_back(JobOutput::Event(event));
    }
}
