//! Probe workers: when a probe runs, and what a run of answers means (spec A8; kubelet:
//! `prober/worker.go`).
//!
//! The kubelet's ticker starts at an arbitrary phase. Here it is anchored at the container's start
//! plus `initialDelaySeconds`, or at the first status that shows the container running if that is later:
//! the earliest the kubelet could be. The first probe runs then, later ones every `periodSeconds` after
//! it. A liveness probe, which can only do harm, waits for as long as the kubelet may take to know of the
//! container.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::plan::{ContainerId, Kind, Plan, Probe, ProbeKind};
use crate::status::InstanceId;
use crate::time::Time;

/// How often the kubelet looks for new containers (kubelet: `genericPlegRelistPeriod`).
const LOOK: Duration = Duration::from_secs(1);

/// What the thresholds have made of a probe's answers (kubelet: `results.Result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It fails.
    Failure,
    /// It passes.
    Success,
    /// A startup probe that has not decided yet.
    Unknown,
}

/// The published results of the newest run of every container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults(Vec<[Option<Outcome>; 3]>);

/// The workers of one pod.
#[derive(Clone, Default)]
pub struct ProbeManager {
    results: ProbeResults,
    workers: Vec<Worker>,
    /// Where the workers of each container are, by [`ProbeKind`].
    places: Vec<[Option<usize>; 3]>,
    /// The next probe of each worker that has one, and where the worker is.
    due: BTreeSet<(Time, usize)>,
}

/// One worker: a container and one of its probes.
#[derive(Clone, Debug)]
struct Worker {
    container: ContainerId,
    kind: ProbeKind,
    spec: Probe,
    /// The run that is probed, if one runs.
    instance: Option<InstanceId>,
    /// No probe until there is a new run.
    on_hold: bool,
    /// The last answer, and how many equal ones came in a row.
    run: Option<(bool, u32)>,
    in_flight: bool,
    /// When the run started plus `initialDelaySeconds`, and not before it was published.
    earliest: Time,
    /// The next probe; `None` while nothing lets it run.
    next: Option<Time>,
    /// The tick of the probe in flight, for the grid.
    tick: Time,
}

impl ProbeResults {
    /// The result of a probe, `None` before the first value.
    pub fn get(&self, container: ContainerId, kind: ProbeKind) -> Option<Outcome> {
        self.0.get(container.index()).and_then(|r| r[kind as usize])
    }

    /// Sets a result.
    pub fn set(&mut self, container: ContainerId, kind: ProbeKind, outcome: Option<Outcome>) {
        let index = container.index();
        if self.0.len() <= index {
            self.0.resize(index + 1, [None; 3]);
        }
        self.0[index][kind as usize] = outcome;
    }
}

impl ProbeManager {
    /// Makes the missing workers (kubelet: `AddPod`): regular containers first, then sidecars.
    pub fn add_pod(&mut self, plan: &Plan) {
        let sidecars = plan.ids().filter(|&id| plan.container(id).kind == Kind::Sidecar);
        for id in plan.regulars().chain(sidecars) {
            for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
                if let Some(&spec) = plan.container(id).probe(kind)
                    && !self.has_worker(id, kind)
                {
                    self.add(Worker::new(id, kind, spec));
                }
            }
        }
    }

    fn add(&mut self, worker: Worker) {
        let (at, index) = (self.workers.len(), worker.container.index());
        if self.places.len() <= index {
            self.places.resize(index + 1, [None; 3]);
        }
        self.places[index][worker.kind as usize] = Some(at);
        self.due.extend(worker.next.map(|next| (next, at)));
        self.workers.push(worker);
    }

    /// Where the workers of a container are.
    fn places(&self, container: ContainerId) -> impl Iterator<Item = usize> + use<> {
        let places = self.places.get(container.index()).copied().unwrap_or_default();
        places.into_iter().flatten()
    }

    /// Where the worker is that runs this probe of the container.
    fn place(&self, container: ContainerId, kind: ProbeKind) -> Option<usize> {
        self.places.get(container.index())?[kind as usize]
    }

    /// Sets when a worker probes next.
    fn schedule(&mut self, at: usize, next: Option<Time>) {
        let before = std::mem::replace(&mut self.workers[at].next, next);
        if before != next {
            before.map(|before| self.due.remove(&(before, at)));
            self.due.extend(next.map(|next| (next, at)));
        }
    }

    /// The published results.
    pub const fn results(&self) -> &ProbeResults {
        &self.results
    }

    /// Whether a probe of this kind watches the container.
    pub fn has_worker(&self, container: ContainerId, kind: ProbeKind) -> bool {
        self.place(container, kind).is_some()
    }

    /// A new run of the container, up since `since`, has been published: results take their initial
    /// values.
    ///
    /// The count of equal answers goes on from the last run unless the worker was on hold, as in the
    /// kubelet.
    pub fn started(
        &mut self,
        container: ContainerId,
        instance: InstanceId,
        since: Time,
        now: Time,
    ) {
        for at in self.places(container) {
            self.schedule(at, None);
            let w = &mut self.workers[at];
            let initial = match w.kind {
                ProbeKind::Liveness => Outcome::Success,
                ProbeKind::Readiness => Outcome::Failure,
                ProbeKind::Startup => Outcome::Unknown,
            };
            self.results.set(container, w.kind, Some(initial));
            w.watch(instance, now.max(since + w.delay()));
        }
        self.arm(container, now);
    }

    /// A run goes on over a restart of the driver: no initial values, only the worker is new.
    /// `passed` says whether a startup probe had succeeded.
    pub fn adopt(&mut self, container: ContainerId, instance: InstanceId, now: Time, passed: bool) {
        for at in self.places(container) {
            self.schedule(at, None);
            let w = &mut self.workers[at];
            if w.kind == ProbeKind::Startup && passed {
                self.results.set(container, w.kind, Some(Outcome::Success));
            }
            w.watch(instance, now);
            w.on_hold = w.kind == ProbeKind::Startup && passed;
        }
        self.arm(container, now);
    }

    /// The newest run of the container ended.
    pub fn stopped(&mut self, container: ContainerId) {
        for at in self.places(container) {
            self.schedule(at, None);
            let w = &mut self.workers[at];
            w.instance = None;
            w.in_flight = false;
        }
    }

    /// Forgets the results of a container (a new run is about to be made).
    pub fn forget(&mut self, container: ContainerId) {
        if let Some(r) = self.results.0.get_mut(container.index()) {
            *r = [None; 3];
        }
    }

    /// Drops the liveness and startup workers of regular containers: the pod is being stopped
    /// (kubelet: `StopLivenessAndStartup`).
    pub fn stop_liveness_and_startup(&mut self, plan: &Plan) {
        let mut workers = std::mem::take(&mut self.workers);
        workers.retain(|w| {
            w.kind == ProbeKind::Readiness || plan.container(w.container).kind != Kind::Regular
        });
        self.clear();
        workers.into_iter().for_each(|w| self.add(w));
    }

    /// Drops every worker.
    pub fn clear(&mut self) {
        self.workers.clear();
        self.places.clear();
        self.due.clear();
    }

    /// Drops every worker and every result (a restart of the driver).
    pub fn reset(&mut self) {
        self.clear();
        self.results.0.clear();
    }

    /// Whether the container counts as started as far as its startup probe goes.
    fn startup_passed(&self, container: ContainerId) -> bool {
        match self.results.get(container, ProbeKind::Startup) {
            Some(outcome) => outcome == Outcome::Success,
            None => !self.has_worker(container, ProbeKind::Startup),
        }
    }

    /// Lets the workers of the container run that nothing holds back any more.
    fn arm(&mut self, container: ContainerId, now: Time) {
        let started = self.startup_passed(container);
        for at in self.places(container) {
            let w = &self.workers[at];
            let wanted = (w.kind == ProbeKind::Startup) != started;
            if w.instance.is_some() && !w.on_hold && !w.in_flight && wanted && w.next.is_none() {
                self.schedule(at, Some(w.grid(now)));
            }
        }
    }

    /// Probes that are due at `now`; they count as running from here on.
    pub fn take_due(&mut self, now: Time) -> Vec<(ContainerId, InstanceId, ProbeKind)> {
        if self.next_due().is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut places: Vec<usize> =
            self.due.range(..=(now, usize::MAX)).map(|&(_, at)| at).collect();
        places.sort_unstable();
        let mut due = Vec::with_capacity(places.len());
        for at in places {
            let w = &mut self.workers[at];
            if let (Some(next), Some(instance)) = (w.next, w.instance) {
                w.tick = next;
                w.in_flight = true;
                due.push((w.container, instance, w.kind));
            }
            self.schedule(at, None);
        }
        due
    }

    /// When the next probe is due.
    pub fn next_due(&self) -> Option<Time> {
        let first = self.due.first().map(|&(next, _)| next);
        debug_assert_eq!(first, self.workers.iter().filter_map(|w| w.next).min());
        first
    }

    /// Runs the readiness probe at once and restarts its period: a status was built in which the
    /// container is started but not ready (kubelet: `manualTriggerCh`).
    pub fn trigger_readiness(&mut self, container: ContainerId, now: Time) {
        if let Some(at) = self.place(container, ProbeKind::Readiness) {
            let w = &self.workers[at];
            if w.instance.is_some() && !w.in_flight && now >= w.earliest {
                self.schedule(at, Some(now));
            }
        }
    }

    /// Takes an answer. Returns the new result if the published one changed.
    pub fn answer(
        &mut self,
        container: ContainerId,
        instance: InstanceId,
        kind: ProbeKind,
        now: Time,
        passed: Option<bool>,
    ) -> Option<Outcome> {
        let at = self.place(container, kind)?;
        let w = &mut self.workers[at];
        if w.instance != Some(instance) || !w.in_flight {
            return None;
        }
        w.in_flight = false;
        // One tick may have passed meanwhile (Go's ticker keeps one).
        let next = (w.tick + w.spec.period).max(now);
        self.schedule(at, Some(next));
        let passed = passed?;
        let w = &mut self.workers[at];
        let count = match w.run {
            Some((last, n)) if last == passed => n.saturating_add(1),
            _ => 1,
        };
        w.run = Some((passed, count));
        let threshold = if passed { w.spec.success_threshold } else { w.spec.failure_threshold };
        if count < threshold {
            return None;
        }
        let outcome = if passed { Outcome::Success } else { Outcome::Failure };
        let holds = kind == ProbeKind::Startup || (kind == ProbeKind::Liveness && !passed);
        if holds {
            w.on_hold = true;
            w.run = None;
            self.schedule(at, None);
        }
        let changed = self.results.get(container, kind) != Some(outcome);
        self.results.set(container, kind, Some(outcome));
        if kind == ProbeKind::Startup && passed {
            self.arm(container, now);
        }
        changed.then_some(outcome)
    }
}

impl fmt::Debug for ProbeManager {
    /// Results and workers: everything else follows from them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { results, workers, .. } = self;
        f.debug_struct("ProbeManager").field("results", results).field("workers", workers).finish()
    }
}

impl Worker {
    const fn new(container: ContainerId, kind: ProbeKind, spec: Probe) -> Self {
        Self {
            container,
            kind,
            spec,
            instance: None,
            on_hold: false,
            run: None,
            in_flight: false,
            earliest: Time::ZERO,
            next: None,
            tick: Time::ZERO,
        }
    }

    /// How long after the start of a run its first probe is. The kubelet probes no container that it
    /// has not published the ID of (`doProbe`), and it looks for new ones once a second: a program that
    /// takes a moment to listen has that moment before a liveness probe can kill it.
    fn delay(&self) -> Duration {
        match self.kind {
            ProbeKind::Liveness => self.spec.initial_delay.max(self.spec.period.min(LOOK)),
            ProbeKind::Startup | ProbeKind::Readiness => self.spec.initial_delay,
        }
    }

    /// Watches another run, from `earliest` on.
    const fn watch(&mut self, instance: InstanceId, earliest: Time) {
        self.instance = Some(instance);
        self.on_hold = false;
        self.in_flight = false;
        self.earliest = earliest;
    }

    /// The first point of the worker's grid that is not before `now`.
    fn grid(&self, now: Time) -> Time {
        let late = now.since(self.earliest);
        let period = self.spec.period.max(Duration::from_nanos(1));
        let ticks = late.as_nanos().div_ceil(period.as_nanos());
        let nanos = ticks.saturating_mul(period.as_nanos());
        self.earliest + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
