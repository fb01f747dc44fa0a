//! A world in virtual time that does what a Job asks for: its pods run for a while and end.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::job::{
    CompletionMode, Job, JobInput, JobOutput, JobSpec, NewPod, PodId, random_suffix,
};
use holdfast_lifecycle::status::{Phase, PodStatus};

use crate::{condition, ended};

/// How a pod behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// How long it runs.
    pub(crate) lasts: Duration,
    /// Its exit code.
    pub(crate) code: i32,
    /// How long it takes to end once it is being deleted.
    pub(crate) stops_in: Duration,
}

impl Run {
    pub(crate) const fn new(secs: u64, code: i32) -> Self {
        let stops_in = Duration::from_secs(2);
        Self { lasts: Duration::from_secs(secs), code, stops_in }
    }
}

struct Simulated {
    status: PodStatus,
    ends: Time,
    code: i32,
    stops_in: Duration,
    deleted: Option<Time>,
}

pub(crate) struct World<F> {
    pub(crate) job: Job,
    pub(crate) now: Time,
    start: Time,
    /// Seconds after the start, and index, of each pod.
    pub(crate) created: Vec<(u64, Option<u32>)>,
    pub(crate) events: Vec<String>,
    /// The most pods that were active at once.
    pub(crate) most_active: usize,
    pub(crate) expired: bool,
    pods: BTreeMap<PodId, Simulated>,
    behaviour: F,
}

impl<F: FnMut(&NewPod) -> Run> World<F> {
    pub(crate) fn new(spec: JobSpec, minor: u32, start: Time, behaviour: F) -> Self {
        let mut world = Self {
            job: Job::new(spec, minor, start),
            now: start,
            start,
            created: Vec::new(),
            events: Vec::new(),
            most_active: 0,
            expired: false,
            pods: BTreeMap::new(),
            behaviour,
        };
        world.tell(JobInput::Tick);
        world
    }

    /// Seconds since the start.
    pub(crate) fn secs(&self) -> u64 {
        self.now.since(self.start).as_secs()
    }

    pub(crate) fn tell(&mut self, input: JobInput) {
        self.job.handle(self.now, input);
        while let Some(output) = self.job.poll() {
            match output {
                JobOutput::CreatePod(pod) => self.create(&pod),
                JobOutput::DeletePod { pod } => self.delete(pod),
                JobOutput::Event(event) => {
                    let kind = if event.warning { "!" } else { "" };
                    self.events.push(format!("{kind}{}: {}", event.reason, event.message));
                }
                JobOutput::Expired => self.expired = true,
                JobOutput::StatusChanged => {}
            }
        }
        self.check();
    }

    fn create(&mut self, pod: &NewPod) {
        self.created.push((self.secs(), pod.index));
        let run = (self.behaviour)(pod);
        let mut status = PodStatus { phase: Phase::Running, ..Default::default() };
        status.conditions.push(condition("Ready", true, self.now));
        let simulated = Simulated {
            status: status.clone(),
            ends: self.now + run.lasts,
            code: run.code,
            stops_in: run.stops_in,
            deleted: None,
        };
        self.pods.insert(pod.id, simulated);
        let active = self.pods.values().filter(|p| p.deleted.is_none() && is_running(p)).count();
        self.most_active = self.most_active.max(active);
        let name = format!("{}{}", pod.generate_name, random_suffix(pod.id.0)).into();
        // Both at once, as if the pod started in no time; inputs within outputs are allowed.
        self.job.handle(self.now, JobInput::PodCreated { pod: pod.id, name });
        let changed = JobInput::PodChanged { pod: pod.id, status, deleted: None };
        self.job.handle(self.now, changed);
    }

    fn delete(&mut self, id: PodId) {
        let pod = self.pods.get_mut(&id).unwrap();
        pod.deleted = Some(self.now);
        if is_running(pod) {
            pod.ends = pod.ends.min(self.now + pod.stops_in);
            pod.code = 143;
        } else {
            self.pods.remove(&id);
            self.job.handle(self.now, JobInput::PodDeleted { pod: id });
        }
    }

    /// Goes to the next thing that happens, unless that is later than `until`. `false` if nothing
    /// is left.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        let running = self.pods.iter().filter(|(_, p)| is_running(p));
        let end = running.map(|(id, p)| (p.ends, *id)).min();
        let wake = self.job.poll_timeout().map(|at| at.max(self.now));
        let next = wake.into_iter().chain(end.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|at| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = next;
        match end {
            Some((at, id)) if at == next => self.end(id),
            _ => self.tell(JobInput::Tick),
        }
        true
    }

    fn end(&mut self, id: PodId) {
        let pod = self.pods.get_mut(&id).unwrap();
        pod.status.phase = if pod.code == 0 { Phase::Succeeded } else { Phase::Failed };
        pod.status.regular = vec![ended("main", pod.code, Some(self.now))];
        pod.status.conditions = vec![condition("Ready", false, self.now)];
        let (status, deleted) = (pod.status.clone(), pod.deleted);
        self.tell(JobInput::PodChanged { pod: id, status, deleted });
        if deleted.is_some() && self.pods.remove(&id).is_some() {
            self.tell(JobInput::PodDeleted { pod: id });
        }
    }

    /// Runs until nothing happens any more, or so many seconds after the start.
    pub(crate) fn run(&mut self, secs: u64) {
        let until = self.start + Duration::from_secs(secs);
        for _ in 0..20_000 {
            if !self.step(until) {
                return;
            }
        }
        panic!("no end after 20000 steps: {:?}", self.job.status());
    }

    pub(crate) fn conditions(&self) -> Vec<String> {
        let conditions = self.job.status().conditions.iter().map(|c| {
            let sign = if c.status { "" } else { "-" };
            format!("{sign}{}/{}", c.kind.as_str(), c.reason.as_str())
        });
        conditions.collect()
    }

    /// What holds at any time.
    fn check(&self) {
        let (spec, status) = (self.job.spec(), self.job.status());
        let running = self.pods.values().filter(|p| is_running(p));
        let (mut active, mut terminating) = (0, 0);
        for pod in running {
            if pod.deleted.is_some() { terminating += 1 } else { active += 1 }
        }
        if self.job.is_deleting() {
            // Its pods are deleted after the last look at them.
        } else if status.finished().is_none() {
            assert_eq!(status.active, active, "active");
            assert_eq!(status.ready, active, "ready");
            assert_eq!(status.terminating, terminating, "terminating");
        } else {
            assert_eq!((status.active, status.ready), (0, 0), "nothing is left active");
            assert_eq!(status.completion_time.is_some(), status.is_true(COMPLETE));
        }
        if let Some(completions) = spec.completions {
            assert!(status.succeeded <= completions, "more succeeded than wanted");
        }
        if spec.mode == CompletionMode::Indexed {
            assert_eq!(status.succeeded, status.completed_indexes.len());
            let failed = status.failed_indexes.clone().unwrap_or_default();
            assert!((0..50).all(|i| !(failed.contains(i) && status.completed_indexes.contains(i))));
        }
        assert!(!(status.is_true(COMPLETE) && status.is_true(FAILED)));
    }
}

use holdfast_lifecycle::job::JobConditionKind::{Complete as COMPLETE, Failed as FAILED};

fn is_running(pod: &Simulated) -> bool {
    !pod.status.phase.is_terminal()
}
