//! What drivers report to whoever watches: changed objects, events, output, and marks for a timeline.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_lifecycle::columns::Row;
use holdfast_lifecycle::job::JobStatus;
use holdfast_lifecycle::order::Wait;
use holdfast_lifecycle::status::InstanceId;
use holdfast_lifecycle::{Event, HookKind, Phase, Plan, PodStatus, ProbeKind, ProbeResult, Time};
use holdfast_manifest::object::{Job, Pod};

use crate::contract::{PodUid, Receipt};

/// Something to show or to record.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A pod object changed.
    Pod(PodChange),
    /// A Job object changed.
    Job(JobChange),
    /// An event about a pod.
    Event {
        /// When.
        at: Time,
        /// `metadata.name` of the pod.
        pod: Arc<str>,
        /// The container's name, if it is about one.
        container: Option<Arc<str>>,
        /// The event.
        event: Event,
    },
    /// An event about a Job, a CronJob or another workload.
    WorkloadEvent {
        /// When.
        at: Time,
        /// `job/name`, `cronjob/name`, ….
        object: String,
        /// The event.
        event: Event,
    },
    /// A container wrote a line.
    Output {
        /// `metadata.name` of the pod.
        pod: Arc<str>,
        /// The container's name.
        container: String,
        /// Whether it went to stderr.
        stderr: bool,
        /// The line without its end.
        line: Vec<u8>,
        /// Dropped when the line has been shown.
        receipt: Receipt,
    },
    /// A step in the life of a container.
    Mark(Mark),
    /// A message for people: something is not as the manifest might expect, but goes on.
    Message(String),
}

/// The state of a pod object after a change.
#[derive(Clone, Debug)]
pub struct PodChange {
    /// When.
    pub at: Time,
    /// What happened to the object.
    pub kind: ChangeKind,
    /// Its UID.
    pub uid: PodUid,
    /// The object without its status.
    pub pod: Rc<Pod>,
    /// The engine's plan of it.
    pub plan: Rc<Plan>,
    /// Its status.
    pub status: Rc<PodStatus>,
    /// Its row.
    pub row: Row,
    /// When deletion was asked for, and with which grace period in seconds.
    pub deletion: Option<(Time, u64)>,
    /// What the runtime calls the pod's containers.
    pub container_ids: ContainerIds,
}

/// What the runtime calls the runs of a pod's containers, those that there were so far.
#[derive(Clone, Debug, Default)]
pub struct ContainerIds(Rc<RefCell<HashMap<InstanceId, String>>>);

impl ContainerIds {
    /// What this run is called, if there was a container of it.
    pub fn get(&self, instance: InstanceId) -> Option<String> {
        self.0.borrow().get(&instance).cloned()
    }

    pub(crate) fn add(&self, instance: InstanceId, id: Option<String>) {
        self.0.borrow_mut().extend(id.map(|id| (instance, id)));
    }
}

/// The state of a Job object after a change.
#[derive(Clone, Debug)]
pub struct JobChange {
    /// When.
    pub at: Time,
    /// What happened to the object.
    pub kind: ChangeKind,
    /// The object without its status.
    pub job: Rc<Job>,
    /// Its status.
    pub status: JobStatus,
}

/// `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// `ADDED`.
    Added,
    /// `MODIFIED`.
    Modified,
    /// `DELETED`.
    Deleted,
}

/// A step in the life of one container.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When.
    pub at: Time,
    /// The pod's UID: names are unique in a namespace only, and come again.
    pub uid: PodUid,
    /// The container's name; `None` is the pod itself.
    pub container: Option<Arc<str>>,
    /// Which run of the container, by its restart count.
    pub run: u32,
    /// What happened.
    pub step: MarkStep,
}

/// What a [`Mark`] is about.
#[derive(Clone, Debug)]
pub enum MarkStep {
    /// The sandbox is there.
    SandboxReady,
    /// The image was asked for.
    Pull,
    /// The image is there.
    Pulled,
    /// The start was asked for, after these.
    Start {
        /// In the order in which it happened; nothing if nobody here asked for the start.
        waited_for: Vec<Wait>,
    },
    /// The process runs.
    Started,
    /// The pod has another phase.
    Phase(Phase),
    /// The container counts as started.
    BecameStarted,
    /// The container counts as ready, or the pod is Ready.
    BecameReady,
    /// The container no longer counts as ready.
    Unready,
    /// A probe answered.
    Probe(ProbeKind, ProbeResult),
    /// A hook began.
    HookBegun(HookKind),
    /// A hook ended.
    HookEnded(HookKind),
    /// The stop signal was sent.
    Stop {
        /// Time to SIGKILL in seconds.
        grace: u64,
    },
    /// The process ended.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// A start failed or was put off.
    Refused {
        /// `CrashLoopBackOff`, ….
        reason: String,
    },
}
