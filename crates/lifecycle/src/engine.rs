//! The pod worker: one pod, strictly serial, driven by inputs (spec A1, A3; kubelet: `pod_workers.go`,
//! `SyncPod`, `SyncTerminatingPod`, `SyncTerminatedPod`).
//!
//! ```text
//!            trigger                     phase terminal, delete, eviction
//!   Idle ───────────────▶ Syncing ──────────────────────────▶ Terminating ──▶ Finished
//!    ▲  publish status, compute actions,   │          stop everything, publish, give back
//!    └──── carry them out one by one ◀─────┘
//! ```
//!
//! A sync is a queue of steps. A step that must wait for an answer stops the queue; until it comes,
//! nothing else of the pod moves, as in the kubelet, where everything inside `SyncPod` blocks.

mod account;
mod door;
mod index;
mod publish;
mod start;
mod stop;
mod stops;
mod sync;

use std::collections::VecDeque;
use std::time::Duration;

use crate::actions::{Kill, Reset};
use crate::backoff::BackOff;
use crate::event::{Event, Output};
use crate::options::{Features, Options};
use crate::plan::{ContainerId, Kind, Plan};
use crate::probe::ProbeManager;
use crate::status::{InstanceId, Phase, PodStatus, Reason};
use crate::statuses::{Common, StartReason};
use crate::time::Time;
use crate::view::RuntimeView;

use self::index::Index;
use self::stops::Stops;

/// The life of one pod.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    plan: Plan,
    options: Options,
    features: Features,
    index: Index,
    /// What all container statuses were made from the last time.
    common: Common,
    now: Time,
    out: VecDeque<Output>,
    view: RuntimeView,
    probes: ProbeManager,
    per: Vec<PerContainer>,
    reasons: Vec<Option<StartReason>>,
    reset: Vec<bool>,
    status: PodStatus,
    /// The phase the kubelet has decided on; the published one follows when nothing runs any more.
    decided: (Phase, Reason, Reason),
    stage: Stage,
    /// A sync is wanted.
    dirty: bool,
    steps: VecDeque<Step>,
    wait: Option<Wait>,
    stopping: Stops,
    deletion: Option<Duration>,
    eviction: Option<(Reason, String)>,
    /// The grace period that goes before all others (kubelet: `gracePeriodOverride`).
    override_grace: Option<Duration>,
    /// A sidecar counts as started that did not when the status was published before.
    sidecar_started: bool,
    /// Whether the pod had got past its init containers when it began to stop.
    was_initialized: bool,
    gates: Vec<(String, bool)>,
    volumes_mounted: bool,
    /// Containers that ended and whose earlier ended runs go with the next published status.
    outlived: Vec<ContainerId>,
    /// Containers with a new run that no published status shows yet: their probes wait for one that does.
    unwatched: Vec<ContainerId>,
    /// The plan may have probes that have no worker yet.
    workers_wanted: bool,
    next_instance: u64,
    retry: Option<Time>,
    relist: Option<Time>,
}

/// What the engine remembers of each container beside its runs.
#[derive(Clone, Debug, Default)]
struct PerContainer {
    back_off: BackOff,
    pull: BackOff,
    pull_error: String,
    /// The restart count that follows the newest log file, if there is one.
    next_count: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Syncing,
    Terminating,
    Finished,
}

/// One thing that a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Build and publish the status; a terminal phase turns the sync into a termination.
    Publish,
    /// Have the volumes mounted.
    Volumes,
    /// Decide what to do and queue it.
    Compute,
    /// Stop one run.
    Kill(Kill),
    /// Stop and remove one run for an in-place restart.
    Reset(Reset),
    /// Remove a run.
    Remove(ContainerId, InstanceId),
    /// Stop every running container, in termination order.
    KillPod,
    /// Take the newest sandbox down if it is up.
    StopSandbox,
    /// Remove the runs of the init list: they run again in the new sandbox.
    PurgeInits,
    /// Make a sandbox.
    CreateSandbox(u32),
    /// Start a container.
    Start(ContainerId, Snapshot),
    /// Stop probing, everything is down.
    StopProbing,
    /// Publish the status, now that nothing runs any more.
    PublishLast,
    /// See to it that the phase is terminal and every container that was tried has an exit code.
    Terminate,
    /// The end.
    Finish,
}

/// What was known of a container when its sync began: a run that the same sync stops or removes does
/// not count (kubelet: `podStatus` is the argument of `SyncPod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Snapshot {
    /// The restart count of the next run.
    count: u32,
    /// When the newest ended run ended, for the back-off.
    finished: Option<Time>,
}

/// The answer that the worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Volumes,
    Sandbox(u32),
    Pull(ContainerId, u32),
    Start(ContainerId, InstanceId),
    PostStart(ContainerId, InstanceId),
    /// All of `stopping` to end.
    Kills,
}

/// What the engine waits for time to pass for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// `activeDeadlineSeconds`, from `status.startTime`: the pod fails.
    ActiveDeadline,
    /// The grace period of a container whose preStop hook still runs, or whose turn to stop has not
    /// come: it is stopped now.
    Grace(ContainerId),
    /// The next run of a probe.
    Probe,
    /// Containers started a moment ago are published as running (kubelet: PLEG relist).
    Relist,
    /// The end of the shortest back-off: crash loop, image pull, or a failed sync (10 s).
    Retry,
}

/// After a failed sync the kubelet tries again after this long (`backOffPeriod`), plus jitter.
const SYNC_RETRY: Duration = Duration::from_secs(10);

/// The runtime always gets this long to stop a container (kubelet: `minimumGracePeriodInSeconds`).
const MIN_STOP_GRACE: u64 = 2;

impl Lifecycle {
    /// A pod that has just been bound to this node. The first outputs are its status
    /// (`Pending`, scheduled) and the request to mount its volumes.
    pub fn new(plan: Plan, options: Options, now: Time) -> Self {
        let features = options.features();
        let n = plan.containers.len();
        let mut pod = Self {
            index: Index::of(&plan, &features),
            common: Common::default(),
            view: RuntimeView::new(&plan),
            plan,
            next_instance: options.first_instance,
            options,
            features,
            now,
            out: VecDeque::new(),
            probes: ProbeManager::default(),
            per: vec![PerContainer::default(); n],
            reasons: vec![None; n],
            reset: vec![false; n],
            status: PodStatus::default(),
            decided: Default::default(),
            stage: Stage::Idle,
            dirty: true,
            steps: VecDeque::new(),
            wait: None,
            stopping: Stops::default(),
            deletion: None,
            eviction: None,
            override_grace: None,
            sidecar_started: false,
            was_initialized: false,
            gates: Vec::new(),
            volumes_mounted: false,
            outlived: Vec::new(),
            unwatched: Vec::new(),
            workers_wanted: true,
            retry: None,
            relist: None,
        };
        pod.publish_scheduled();
        pod
    }

    /// The next output; `None` when the engine waits for an input or for time.
    ///
    /// The status read after [`Output::StatusChanged`] and before the next call is the one meant.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            if !self.advance() {
                return None;
            }
        }
    }

    /// When the engine wants to be called again even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.deadline(), self.stopping.deadline(), self.probes.next_due(), self.relist, self.retry]
            .into_iter()
            .flatten()
            .min()
    }

    /// Every timer that runs, for people who want to know what a pod waits for.
    pub fn timers(&self) -> Vec<(Timer, Time)> {
        let one = |timer, at: Option<Time>| at.map(|at| (timer, at));
        let mut all: Vec<_> = [
            one(Timer::ActiveDeadline, self.deadline()),
            one(Timer::Probe, self.probes.next_due()),
            one(Timer::Relist, self.relist),
            one(Timer::Retry, self.retry),
        ]
        .into_iter()
        .flatten()
        .collect();
        all.extend(self.stopping.deadlines().map(|(id, at)| (Timer::Grace(id), at)));
        all.sort_by_key(|&(timer, at)| (at, timer));
        all
    }

    /// The published status.
    pub const fn status(&self) -> &PodStatus {
        &self.status
    }

    /// The plan, as last changed.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the runtime is known to hold.
    pub const fn view(&self) -> &RuntimeView {
        &self.view
    }

    /// The version's features.
    pub const fn features(&self) -> &Features {
        &self.features
    }

    /// The grace period of the deletion that was asked for, if one was.
    pub const fn deletion(&self) -> Option<Duration> {
        self.deletion
    }

    /// Whether everything is over and given back ([`Output::Finished`] was or will be polled).
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// When `activeDeadlineSeconds` is over, while it still matters.
    fn deadline(&self) -> Option<Time> {
        if self.eviction.is_some()
            || self.decided.0.is_terminal()
            || matches!(self.stage, Stage::Terminating | Stage::Finished)
        {
            return None;
        }
        // In the API a time is a whole second (kubelet: `pastActiveDeadline`).
        let start = Time::from_secs(self.status.start_time?.as_secs());
        Some(start + self.plan.active_deadline?)
    }

    /// Recomputes what is derived from the plan.
    fn plan_changed(&mut self) {
        let n = self.plan.containers.len();
        self.view.resize(&self.plan);
        self.per.resize_with(n, PerContainer::default);
        self.reasons.resize(n, None);
        self.reset.resize(n, false);
        self.index = Index::of(&self.plan, &self.features);
        self.recount();
        self.workers_wanted = true;
    }

    fn is_sidecar(&self, id: ContainerId) -> bool {
        self.plan.container(id).kind == Kind::Sidecar
    }

    fn event(
        &mut self,
        warning: bool,
        reason: &'static str,
        c: Option<ContainerId>,
        message: String,
    ) {
        self.out.push_back(Output::Event(Event { warning, reason, message, container: c }));
    }

    /// `name_namespace(uid)`, as the kubelet's messages name a pod.
    fn pod_text(&self) -> String {
        format!("{}_{}({})", self.plan.name, self.plan.namespace, self.plan.uid)
    }
}
