//! The virtual driver: pods on the engine, a clock that jumps, and containers that do what is assumed
//! of them.

mod pod;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::columns::Row;
use holdfast_lifecycle::fault::{Fault, FaultKind};
use holdfast_lifecycle::job::{Job, JobConditionKind, JobInput, JobOutput, PodId};
use holdfast_lifecycle::{Input, Options, Time};

use crate::assume::Behaviour;
use crate::span::Span;
use crate::subject::Subject;
use crate::timeline::{Mark, Pod, Step, Timeline, VERSION};

pub(crate) use self::pod::TERMINATED;
use self::pod::VirtualPod;

/// Chooses a duration of a [`Span`]; `None`: what it is of does not happen.
pub type Pick<'a> = dyn FnMut(Span) -> Option<Duration> + 'a;

/// Everything takes as little as is known.
pub fn earliest(span: Span) -> Option<Duration> {
    Some(span.min)
}

/// Everything takes as long as it may; without a bound it does not happen.
pub fn latest(span: Span) -> Option<Duration> {
    span.max
}

/// Nothing is looked at after this much virtual time.
const HORIZON: Duration = Duration::from_secs(3600);

/// A container that is started again more often than this, and will be for ever, is left alone.
const RESTARTS: u32 = 5;

/// Nor is more than this told.
const MARKS: usize = 20_000;

/// What would happen.
#[derive(Clone, Debug)]
pub struct Course {
    /// All of it, with the runs of all containers.
    pub timeline: Timeline,
    /// The rows that `kubectl get pods -w` would print: when, the pod's name, and the row.
    pub rows: Vec<(Duration, Arc<str>, Row)>,
    /// How the Job ended, if there is one and it did.
    pub job: Option<JobEnd>,
    /// When the last pod was over, if all are.
    pub over: Option<Duration>,
    /// Whether more would happen than is told here.
    pub goes_on: bool,
}

/// The end of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// When, since its start.
    pub at: Duration,
    /// Whether it is complete, and not failed.
    pub complete: bool,
    /// `reason` of the condition.
    pub reason: String,
    /// How many pods it made.
    pub pods: usize,
}

/// Lets the pod of a subject, or its Job, run in virtual time.
pub fn course(
    subject: &Subject,
    behaviours: &[Behaviour],
    faults: &[Fault],
    options: &Options,
    pick: &mut Pick<'_>,
) -> Course {
    let mut world = World {
        subject,
        behaviours,
        options,
        faults,
        now: Time::ZERO,
        queue: BTreeMap::new(),
        next: 0,
        pods: Vec::new(),
        job: subject.job.clone().map(|spec| Job::new(spec, options.minor, Time::ZERO)),
        ids: Vec::new(),
        marks: Vec::new(),
        rows: Vec::new(),
        job_end: None,
    };
    let goes_on = world.run(pick);
    world.into_course(goes_on)
}

/// Something that will happen to a pod.
#[derive(Debug)]
enum Happening {
    Input(Input),
    Fault(FaultKind),
}

struct World<'a> {
    subject: &'a Subject,
    behaviours: &'a [Behaviour],
    options: &'a Options,
    faults: &'a [Fault],
    now: Time,
    /// By time, then in the order in which it was decided; with the pod's index.
    queue: BTreeMap<(Time, u64), (usize, Happening)>,
    next: u64,
    pods: Vec<VirtualPod>,
    job: Option<Job>,
    /// The Job's names for the pods.
    ids: Vec<PodId>,
    marks: Vec<Mark>,
    rows: Vec<(Duration, Arc<str>, Row)>,
    job_end: Option<JobEnd>,
}

impl World<'_> {
    /// Lets everything happen. True if more would.
    fn run(&mut self, pick: &mut Pick<'_>) -> bool {
        match &mut self.job {
            Some(job) => job.handle(Time::ZERO, JobInput::Tick),
            None => self.add_pod(Arc::clone(&self.subject.plan.name)),
        }
        loop {
            self.settle(pick);
            if self.is_steady() {
                return false;
            }
            if self.marks.len() > MARKS || self.loops() {
                return true;
            }
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let engines = self.pods.iter().filter_map(|pod| pod.engine.poll_timeout()).min();
            let job = self.job.as_ref().and_then(Job::poll_timeout);
            let Some(at) = [queued, engines, job].into_iter().flatten().min() else { return false };
            if at.since(Time::ZERO) > HORIZON {
                return true;
            }
            self.now = self.now.max(at);
            self.happen(queued, engines, job, pick);
        }
    }

    /// Hands on what is due now: one thing that happens, or the time.
    fn happen(
        &mut self,
        queued: Option<Time>,
        engines: Option<Time>,
        job: Option<Time>,
        pick: &mut Pick<'_>,
    ) {
        let now = self.now;
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if is_due(queued)
            && let Some((_, (pod, happening))) = self.queue.pop_first()
        {
            match happening {
                Happening::Input(input) => self.input(pod, input, pick),
                Happening::Fault(kind) => self.fault(pod, &kind, pick),
            }
        } else if is_due(engines) {
            for pod in &mut self.pods {
                if is_due(pod.engine.poll_timeout()) {
                    pod.engine.handle(now, Input::Tick);
                }
            }
        } else if is_due(job)
            && let Some(job) = &mut self.job
        {
            job.handle(now, JobInput::Tick);
        }
    }

    /// Carries out all that the engines and the Job ask for now.
    fn settle(&mut self, pick: &mut Pick<'_>) {
        loop {
            let mut quiet = true;
            for pod in 0..self.pods.len() {
                while let Some(output) = self.pods[pod].engine.poll() {
                    quiet = false;
                    self.carry_out(pod, output, pick);
                }
            }
            while let Some(output) = self.job.as_mut().and_then(Job::poll) {
                quiet = false;
                self.job_asks(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn job_asks(&mut self, output: JobOutput) {
        match output {
            JobOutput::CreatePod(new) => {
                let count = self.pods.len() + 1;
                let name: Arc<str> = format!("{}{count}", new.generate_name).into();
                self.ids.push(new.id);
                self.add_pod(Arc::clone(&name));
                if let Some(job) = &mut self.job {
                    job.handle(self.now, JobInput::PodCreated { pod: new.id, name });
                }
            }
            JobOutput::DeletePod { pod } => {
                if let Some(at) = self.ids.iter().position(|id| *id == pod) {
                    self.pods[at].deleted.get_or_insert(self.now);
                    self.pods[at].engine.handle(self.now, Input::Delete { grace: None });
                }
            }
            JobOutput::StatusChanged => {
                let Some(job) = &self.job else { return };
                let Some(end) = job.status().finished() else { return };
                let (at, pods) = (self.now.since(Time::ZERO), self.pods.len());
                self.job_end.get_or_insert_with(|| JobEnd {
                    at,
                    complete: end.kind == JobConditionKind::Complete,
                    reason: end.reason.as_str().to_owned(),
                    pods,
                });
            }
            JobOutput::Event(_) | JobOutput::Expired => {}
        }
    }

    fn add_pod(&mut self, name: Arc<str>) {
        let index = self.pods.len();
        let mut plan = self.subject.plan.clone();
        plan.name = name;
        plan.uid = format!("{index}").into();
        let mut options = self.options.clone();
        options.first_instance = 1 + index as u64 * 1_000_000;
        self.pods.push(VirtualPod::new(plan, options, self.now));
        for fault in self.faults {
            if fault.since.is_none() {
                self.later(index, fault.after, Happening::Fault(fault.kind.clone()));
            }
        }
    }

    fn later(&mut self, pod: usize, after: Duration, happening: Happening) {
        self.queue.insert((self.now + after, self.next), (pod, happening));
        self.next += 1;
    }

    fn mark(&mut self, pod: usize, container: Option<(&str, u32)>, step: Step) {
        self.marks.push(Mark {
            at: self.now.since(Time::ZERO).as_secs_f64(),
            pod: self.pods[pod].engine.plan().name.to_string(),
            container: container.map(|(name, _)| name.to_owned()),
            run: container.map(|(_, run)| run),
            step,
        });
    }

    /// Whether nothing will change any more.
    fn is_steady(&self) -> bool {
        let waits = self.job.as_ref().and_then(Job::poll_timeout).is_some();
        self.queue.is_empty() && !waits && self.pods.iter().all(|pod| pod.is_steady(self.now))
    }

    /// Whether it only repeats itself.
    fn loops(&self) -> bool {
        let restarts = |pod: &VirtualPod| {
            pod.engine.status().all().map(|s| s.restart_count).max().unwrap_or(0) > RESTARTS
        };
        self.job.is_none() && self.pods.iter().any(restarts)
    }

    fn into_course(self, goes_on: bool) -> Course {
        let over = self.pods.iter().all(|pod| pod.engine.is_finished()) && !self.pods.is_empty();
        // An answer of a probe may come later than the end.
        let ends = |m: &&Mark| matches!(m.step, Step::Exited { .. } | Step::Phase { .. });
        let last = self.marks.iter().rfind(ends).map_or(0.0, |mark| mark.at);
        let pods = self.pods.iter().map(|pod| {
            let at = pod.created.since(Time::ZERO).as_secs_f64();
            Pod { at, ..Pod::of(pod.engine.plan()) }
        });
        Course {
            timeline: Timeline {
                version: VERSION,
                start: None,
                pods: pods.collect(),
                marks: self.marks,
                bounds: Vec::new(),
            },
            rows: self.rows,
            job: self.job_end,
            over: (over && !goes_on).then(|| Duration::from_secs_f64(last)),
            goes_on,
        }
    }
}
