//! The controllers of a node: Jobs, CronJobs, and workloads with replicas.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_lifecycle::cron::{self, Action};
use holdfast_lifecycle::job::{self, JobConditionKind, JobInput, JobOutput};
use holdfast_lifecycle::status::ConditionKind;
use holdfast_lifecycle::{Event, PodStatus, Time};
use holdfast_manifest::expand::{Maker, Replicas, cron_job_job, job_pod};
use holdfast_manifest::object::{CronJob, Job, Object, Pod};
use holdfast_manifest::plan;

use super::Owner;
use crate::notice::{ChangeKind, JobChange, Notice, PodChange};

/// What a controller wants done.
pub(super) enum Wish {
    /// A pod is to be made.
    Create(Box<Pod>, Owner),
    /// The pods of this owner are to go.
    Delete(Owner),
}

/// All controllers of a node.
#[derive(Default)]
pub(super) struct Controllers {
    /// The Jobs that are there, by number. A schedule makes them without end, so one that is gone is
    /// forgotten.
    jobs: BTreeMap<usize, JobState>,
    /// The number of the next Job.
    next_job: usize,
    /// Jobs that failed and are gone, by name.
    failed: Vec<String>,
    crons: Vec<CronState>,
    sets: Vec<Set>,
    minor: u32,
}

struct JobState {
    object: Rc<Job>,
    rules: job::Job,
    /// The CronJob that made it.
    cron: Option<usize>,
    announced: bool,
    /// Whether its rules have been asked at all.
    started: bool,
}

struct CronState {
    object: CronJob,
    /// `None`: it fires once.
    rules: Option<cron::CronJob>,
    wake: Option<Time>,
}

struct Set {
    replicas: Replicas,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    There { ready: bool },
}

impl Controllers {
    /// Takes an admitted object. Those that nothing runs for are not kept.
    pub(super) fn add(
        &mut self,
        object: Object,
        now: Time,
        schedule: bool,
        minor: u32,
        maker: &mut Maker<'_>,
    ) {
        self.minor = minor;
        match object {
            Object::Job(job) => self.add_job(job, None, now),
            Object::CronJob(object) if schedule => {
                let rules = cron::CronJob::new(plan::cron_job(&object), now);
                self.crons.push(CronState { object, rules: Some(rules), wake: Some(now) });
            }
            Object::CronJob(object) => {
                let name = cron::job_name(&object.metadata.name, now);
                let job = cron_job_job(&object, &name, &maker.now.to_string(), maker);
                self.add_job(job, Some(self.crons.len()), now);
                self.crons.push(CronState { object, rules: None, wake: None });
            }
            object => {
                if let Some(replicas) = Replicas::of(&object, maker) {
                    let slots = vec![Slot::Missing; replicas.count() as usize];
                    self.sets.push(Set { replicas, slots });
                }
            }
        }
    }

    fn add_job(&mut self, object: Job, cron: Option<usize>, now: Time) {
        let rules = job::Job::new(plan::job(&object), self.minor, now);
        let object = Rc::new(object);
        let state = JobState { object, rules, cron, announced: false, started: false };
        self.jobs.insert(self.next_job, state);
        self.next_job += 1;
    }

    /// Brings everything up to date. Returns what is to be done, and what is to be told.
    pub(super) fn sync(&mut self, now: Time, maker: &mut Maker<'_>) -> (Vec<Wish>, Vec<Notice>) {
        let (mut wishes, mut notices) = (Vec::new(), Vec::new());
        self.sync_crons(now, maker, &mut notices);
        let mut gone = Vec::new();
        for (&i, state) in &mut self.jobs {
            let mut changed = state.sync(i, now, maker, &mut wishes, &mut notices);
            if state.rules.is_gone() {
                changed = true;
                notices.push(state.deleted(now));
                gone.push(i);
            }
            // A CronJob looks at its Jobs whenever one of them changes.
            if let Some(cron) = state.cron.filter(|_| changed)
                && self.crons[cron].rules.is_some()
            {
                self.crons[cron].wake = Some(now);
            }
        }
        for i in gone {
            self.forget_job(i);
        }
        for (i, set) in self.sets.iter_mut().enumerate() {
            set.sync(i, maker, &mut wishes);
        }
        (wishes, notices)
    }

    /// A Job is gone. What became of it counts at the end of the run, which a schedule does not have.
    fn forget_job(&mut self, i: usize) {
        let Some(state) = self.jobs.remove(&i) else { return };
        let scheduled = state.cron.is_some_and(|cron| self.crons[cron].rules.is_some());
        if state.has_failed() && !scheduled {
            self.failed.push(state.name());
        }
    }

    fn sync_crons(&mut self, now: Time, maker: &mut Maker<'_>, notices: &mut Vec<Notice>) {
        for i in 0..self.crons.len() {
            let children: Vec<cron::ChildJob> = self
                .jobs
                .values()
                .filter(|j| j.cron == Some(i) && !j.rules.is_deleting())
                .map(|j| j.rules.as_child())
                .collect();
            let state = &mut self.crons[i];
            let Some(rules) = &mut state.rules else { continue };
            if state.wake.is_none_or(|at| at > now) {
                continue;
            }
            let sync = rules.sync(now, &children);
            state.wake = sync.wake;
            let object = format!("cronjob/{}", state.object.metadata.name);
            for action in sync.actions {
                match action {
                    Action::CreateJob { name, timestamp, .. } => {
                        let cron_job = &self.crons[i].object;
                        let job = cron_job_job(cron_job, &name, &timestamp, maker);
                        self.add_job(job, Some(i), now);
                    }
                    Action::DeleteJob { name } => {
                        let jobs = self.jobs.values_mut().filter(|j| j.cron == Some(i));
                        for job in jobs.filter(|j| *j.object.metadata.name == *name) {
                            job.rules.handle(now, JobInput::Delete);
                        }
                    }
                    Action::Event(event) => {
                        notices.push(workload_event(now, object.clone(), event));
                    }
                }
            }
        }
    }

    /// The pod of an owner was made.
    pub(super) fn created(&mut self, owner: Owner, name: &str, now: Time) {
        match owner {
            Owner::Manifest => {}
            Owner::Job(i, pod) => {
                let name = Arc::from(name);
                self.job(i, now, JobInput::PodCreated { pod, name });
            }
            Owner::Replica(set, n) => {
                self.sets[set].slots[n as usize] = Slot::There { ready: false };
            }
        }
    }

    /// The pod of an owner has another status.
    pub(super) fn changed(&mut self, owner: Owner, change: &PodChange, now: Time) {
        match owner {
            Owner::Manifest => {}
            Owner::Job(i, pod) => {
                if change.kind != ChangeKind::Deleted {
                    let status = PodStatus::clone(&change.status);
                    let deleted = change.deletion.map(|(at, _)| at);
                    self.job(i, now, JobInput::PodChanged { pod, status, deleted });
                }
            }
            Owner::Replica(set, n) => {
                let ready = change.status.is_true(&ConditionKind::Ready);
                self.sets[set].slots[n as usize] = Slot::There { ready };
            }
        }
    }

    /// The pod of an owner ran to its end; its object stays.
    pub(super) fn ended(&mut self, owner: Owner) {
        if let Owner::Replica(set, n) = owner {
            self.sets[set].slots[n as usize] = Slot::Missing;
        }
    }

    /// The pod object of an owner is gone.
    pub(super) fn gone(&mut self, owner: Owner, now: Time) {
        match owner {
            Owner::Manifest => {}
            Owner::Job(i, pod) => self.job(i, now, JobInput::PodDeleted { pod }),
            Owner::Replica(set, n) => self.sets[set].slots[n as usize] = Slot::Missing,
        }
    }

    /// Tells a Job something; one that is gone hears nothing more.
    fn job(&mut self, i: usize, now: Time, input: JobInput) {
        if let Some(state) = self.jobs.get_mut(&i) {
            state.rules.handle(now, input);
        }
    }

    /// When a controller wants to be asked again.
    pub(super) fn next_timer(&self) -> Option<Time> {
        let jobs = self.jobs.values().filter_map(|j| j.rules.poll_timeout());
        jobs.chain(self.crons.iter().filter_map(|c| c.wake)).min()
    }

    /// Whether nothing is left to do, now or later.
    pub(super) fn are_done(&self) -> bool {
        self.sets.iter().all(|s| s.slots.is_empty())
            && self.crons.iter().all(|c| c.rules.is_none())
            && self.jobs.values().all(|j| j.rules.status().finished().is_some())
    }

    /// The Jobs that failed.
    pub(super) fn failed_jobs(&self) -> impl Iterator<Item = String> + '_ {
        let there = self.jobs.values().filter(|j| j.has_failed()).map(JobState::name);
        self.failed.iter().cloned().chain(there)
    }
}

impl JobState {
    /// Brings the Job up to date; true if its status changed.
    fn sync(
        &mut self,
        i: usize,
        now: Time,
        maker: &mut Maker<'_>,
        wishes: &mut Vec<Wish>,
        notices: &mut Vec<Notice>,
    ) -> bool {
        let mut changed = false;
        if !self.started || self.rules.poll_timeout().is_some_and(|at| at <= now) {
            self.started = true;
            self.rules.handle(now, JobInput::Tick);
            if !self.announced {
                notices.push(self.change(now));
            }
        }
        while let Some(output) = self.rules.poll() {
            match output {
                JobOutput::CreatePod(new) => {
                    let pod = job_pod(&self.object, &new, maker);
                    wishes.push(Wish::Create(Box::new(pod), Owner::Job(i, new.id)));
                }
                JobOutput::DeletePod { pod } => wishes.push(Wish::Delete(Owner::Job(i, pod))),
                JobOutput::StatusChanged => {
                    changed = true;
                    notices.push(self.change(now));
                }
                JobOutput::Event(event) => {
                    let object = format!("job/{}", self.object.metadata.name);
                    notices.push(workload_event(now, object, event));
                }
                JobOutput::Expired => {
                    changed = true;
                    self.rules.handle(now, JobInput::Delete);
                }
            }
        }
        changed
    }

    fn change(&mut self, at: Time) -> Notice {
        let kind = if self.announced { ChangeKind::Modified } else { ChangeKind::Added };
        self.announced = true;
        let (job, status) = (Rc::clone(&self.object), self.rules.status().clone());
        Notice::Job(JobChange { at, kind, job, status })
    }

    /// What is told when the object is gone.
    fn deleted(&self, at: Time) -> Notice {
        let (job, status) = (Rc::clone(&self.object), self.rules.status().clone());
        Notice::Job(JobChange { at, kind: ChangeKind::Deleted, job, status })
    }

    fn has_failed(&self) -> bool {
        self.rules.status().is_true(JobConditionKind::Failed)
    }

    fn name(&self) -> String {
        format!("job/{}", self.object.metadata.name)
    }
}

impl Set {
    fn sync(&mut self, i: usize, maker: &mut Maker<'_>, wishes: &mut Vec<Wish>) {
        for n in 0..self.slots.len() {
            if self.slots[n] == Slot::Missing {
                // The slot is taken when the pod is made.
                let number = n as u32;
                let pod = self.replicas.pod(number, maker);
                wishes.push(Wish::Create(Box::new(pod), Owner::Replica(i, number)));
            }
            let ready = self.slots[n] == Slot::There { ready: true };
            if self.replicas.in_order() && !ready {
                return;
            }
        }
    }
}

fn workload_event(at: Time, object: String, event: Event) -> Notice {
    Notice::WorkloadEvent { at, object, event }
}

#[cfg(test)]
mod tests;
