//! The decisions: client-go's `LeaderElector`, turned inside out.
//!
//! Three things are stricter than there, all for fewer instants at which two could lead:
//! - the renew deadline counts from when the last successful write was *sent*, not from its answer;
//! - a leader that reads another's name in the lease, or none, leads no more from that moment on, not
//!   from its deadline;
//! - an answer that comes after its own deadline makes nobody a leader.
//!
//! And one is quicker: a change that a watch shows ends a wait, and so does the end of the lease.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Answer, Change, Input, Now, Output, Request};
use crate::lease::{Lease, Record, Version};
use crate::mutant::Mutant;
use crate::settings::Settings;
use crate::time::{Time, Wall};

/// One candidate. See the crate's documentation for how to drive it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    settings: Settings,
    phase: Phase,
    doing: Doing,
    /// The lease as this candidate last saw it.
    seen: Option<Seen>,
    /// A write was not answered: the lease may have our name in it although `seen` has not.
    unsure: bool,
    /// What a watch has shown while a request was under way.
    news: Option<Change>,
    /// Work was begun and has not ended.
    working: bool,
    stopping: bool,
    /// The leader that was last told.
    told: String,
    slow_paths: u64,
    outputs: VecDeque<Output>,
    #[cfg(test)]
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Candidate,
    Leading { until: Time },
    Releasing { until: Time },
    Done,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Waiting { until: Time },
    Reading,
    Writing { sent: Time, way: Way },
}

/// What a write does if it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// It rested on what was known from before: look, at once.
    Fast,
    /// It rested on a read of just now: somebody was quicker, wait.
    Slow,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    lease: Lease,
    /// When its record was first seen like this; of our own writes, when they were sent.
    at: Time,
}

impl Election {
    /// A candidate that asks at its first [`Input::Tick`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Candidate,
            doing: Doing::Waiting { until: Time::ZERO },
            seen: None,
            unsure: false,
            news: None,
            working: false,
            stopping: false,
            told: String::new(),
            slow_paths: 0,
            outputs: VecDeque::new(),
            #[cfg(test)]
            mutant: None,
        }
    }

    /// Takes note of what happened. Ask [`Election::poll`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Tick => {}
            Input::Answer(answer) => self.answered(now, answer),
            Input::Changed(change) => self.news = Some(change),
            Input::Stop => self.stop(),
            Input::WorkStopped => self.working = false,
        }
        self.proceed(now);
    }

    /// What to do next; `None` when all is said.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When a [`Input::Tick`] is due if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let next = match self.doing {
            Doing::Waiting { until } if !self.is_idle() => Some(until),
            _ => None,
        };
        [self.leading_until(), next].into_iter().flatten().min()
    }

    /// Until when this process leads, by its own clock, if it does not renew before.
    #[must_use]
    pub fn leading_until(&self) -> Option<Time> {
        match self.phase {
            Phase::Leading { until } => Some(until),
            _ => None,
        }
    }

    /// Whether this process leads at this instant.
    #[must_use]
    pub fn is_leading(&self, now: Time) -> bool {
        self.leading_until().is_some_and(|until| now < until)
    }

    /// The lease as this candidate last saw it.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref().map(|seen| &seen.lease)
    }

    /// When the lease was last seen to change; of our own renewals, when they were sent.
    #[must_use]
    pub fn changed_at(&self) -> Option<Time> {
        self.seen.as_ref().map(|seen| seen.at)
    }

    /// How often a leader had to read the lease before it could renew it (client-go's metric
    /// `leader_election_slowpath_total`).
    #[must_use]
    pub fn slow_paths(&self) -> u64 {
        self.slow_paths
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn stop(&mut self) {
        if !self.stopping && self.working {
            self.outputs.push_back(Output::StopWork);
        }
        self.stopping = true;
    }

    /// What follows from where things are now.
    fn proceed(&mut self, now: Now) {
        if let Phase::Leading { until } = self.phase
            && now.time >= until
        {
            self.lose();
        }
        if !self.is_waiting() {
            return;
        }
        let running = matches!(self.phase, Phase::Candidate | Phase::Leading { .. });
        if self.stopping && running && (!self.working || self.has(Mutant::EarlyRelease)) {
            self.release(now);
        }
        if self.is_waiting()
            && let Some(news) = self.news.take()
        {
            self.react(now, news);
        }
        if self.is_waiting() && self.poll_timeout().is_some_and(|due| due <= now.time) {
            self.attempt(now);
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.doing, Doing::Waiting { .. })
    }

    /// Nothing is to be asked for now: the end has come, or the work of the last term has to end first.
    fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Candidate => self.working,
            Phase::Leading { .. } | Phase::Releasing { .. } => false,
            Phase::Done => true,
        }
    }

    /// client-go: `tryAcquireOrRenew`, its first step.
    fn attempt(&mut self, now: Now) {
        match self.phase {
            Phase::Candidate | Phase::Leading { .. } => match self.ours(now) {
                Some((version, record)) => self.update(now, version, record, Way::Fast),
                None => self.get(),
            },
            Phase::Releasing { until } if now.time < until => self.get(),
            Phase::Releasing { .. } => self.finish(false),
            Phase::Done => {}
        }
    }

    fn answered(&mut self, now: Now, answer: Answer) {
        let doing = std::mem::replace(&mut self.doing, Doing::Waiting { until: now.time });
        match (&doing, &answer) {
            (Doing::Writing { .. }, Answer::Failed) => self.unsure = true,
            (_, Answer::Failed) => {}
            _ => self.unsure = false,
        }
        if let Phase::Releasing { .. } = self.phase {
            return self.answered_in_release(now, answer);
        }
        match (doing, answer) {
            // Nothing was asked.
            (Doing::Waiting { until }, _) => self.doing = Doing::Waiting { until },
            (Doing::Writing { sent, .. }, Answer::Written(lease)) => self.written(now, sent, lease),
            (Doing::Reading, Answer::Got(lease)) => self.got(now, lease),
            (Doing::Reading, Answer::NotFound) => self.missing(now),
            (Doing::Writing { way: Way::Fast, .. }, _) => self.get(),
            _ => self.pause(now),
        }
    }

    fn written(&mut self, now: Now, sent: Time, lease: Lease) {
        self.seen = Some(Seen { lease, at: sent });
        self.tell();
        let mut until = sent + self.settings.renew_deadline();
        if self.has(Mutant::DeadlineFromAnswer) {
            until = now.time + self.settings.retry_period() + self.settings.renew_deadline();
        }
        if self.has(Mutant::NoDeadline) {
            until = now.time + Duration::from_secs(1 << 20);
        }
        if self.has(Mutant::LateAnswerLeads) && until <= now.time {
            until = now.time + self.settings.renew_deadline();
        }
        match self.phase {
            Phase::Leading { .. } => self.phase = Phase::Leading { until },
            _ if now.time < until && !self.working && !self.stopping => {
                self.phase = Phase::Leading { until };
                self.working = true;
                self.outputs.push_back(Output::BecameLeader);
            }
            _ => {}
        }
        self.doing = Doing::Waiting { until: now.time + self.settings.retry_period() };
    }

    /// client-go: `tryAcquireOrRenew`, from where the record is obtained.
    fn got(&mut self, now: Now, lease: Lease) {
        self.note(now, lease);
        let Some(Seen { lease, .. }) = &self.seen else { return };
        let Lease { version, record } = lease.clone();
        if record.holder == self.settings.identity() {
            if let Phase::Leading { .. } = self.phase {
                self.slow_paths += 1;
            }
            if self.stopping && self.phase == Phase::Candidate {
                // It is let go of next, not renewed.
                return;
            }
            let record = self.renewal(now, &record);
            return self.update(now, version, record, Way::Slow);
        }
        if let Phase::Leading { .. } = self.phase {
            self.lose();
        }
        let held = !record.holder.is_empty() && self.is_valid(now);
        if held || self.working || self.stopping {
            return self.pause(now);
        }
        let record = self.takeover(now, &record);
        self.update(now, version, record, Way::Slow);
    }

    fn missing(&mut self, now: Now) {
        self.seen = None;
        if let Phase::Leading { .. } = self.phase {
            self.lose();
        }
        if self.working || self.stopping {
            return self.pause(now);
        }
        let record = self.record(now, now.wall, 0);
        self.doing = Doing::Writing { sent: now.time, way: Way::Slow };
        self.outputs.push_back(Output::Request(Request::Create { record }));
    }

    /// What a watch has shown, when nothing is under way.
    fn react(&mut self, now: Now, news: Change) {
        let lease = match news {
            Change::Lease(lease) => lease,
            Change::Gone => return self.hurry(now),
        };
        let known = |seen: &Seen| lease.version.is_not_newer_than(&seen.lease.version);
        if self.seen.as_ref().is_some_and(known) {
            return;
        }
        let ours = lease.record.holder == self.settings.identity();
        let free = lease.record.holder.is_empty();
        match self.phase {
            // It may be old news: what counts is what the next write is told.
            Phase::Leading { .. } if ours => {}
            Phase::Leading { .. } => self.hurry(now),
            Phase::Candidate => {
                self.note(now, lease);
                if free && !self.is_idle() && !self.stopping {
                    self.take(now);
                } else if ours {
                    self.hurry(now);
                }
            }
            Phase::Releasing { .. } | Phase::Done => {}
        }
    }

    /// Takes a lease that nobody holds, as it was last seen.
    fn take(&mut self, now: Now) {
        let Some(Seen { lease, .. }) = &self.seen else { return };
        let Lease { version, record } = lease.clone();
        let record = self.takeover(now, &record);
        self.update(now, version, record, Way::Fast);
    }

    /// Ends a wait.
    fn hurry(&mut self, now: Now) {
        self.doing = Doing::Waiting { until: now.time };
    }

    /// Waits for the next try: a leader for the retry period, others a little longer, each differently.
    fn pause(&mut self, now: Now) {
        let until = match self.phase {
            Phase::Leading { .. } => now.time + self.settings.retry_period(),
            _ => {
                let until = now.time + self.settings.pause(now.chance);
                // No longer than the lease, which may be taken then.
                self.others_until().filter(|ends| *ends > now.time).map_or(until, |e| e.min(until))
            }
        };
        self.doing = Doing::Waiting { until };
    }

    fn lose(&mut self) {
        self.phase = Phase::Candidate;
        self.outputs.push_back(Output::StoppedLeading);
    }

    /// Lets go of the lease, if our name is or may be in it (client-go: `release`).
    fn release(&mut self, now: Now) {
        if let Phase::Leading { .. } = self.phase
            && !self.has(Mutant::EarlyRelease)
        {
            self.lose();
        }
        self.phase = Phase::Releasing { until: now.time + self.settings.renew_deadline() };
        match self.seen.as_ref().filter(|seen| seen.lease.record.holder == self.settings.identity())
        {
            Some(Seen { lease: Lease { version, record }, .. }) => {
                let (version, record) = (version.clone(), released(now.wall, record));
                self.update(now, version, record, Way::Fast);
            }
            None if self.unsure => self.get(),
            None => self.finish(true),
        }
    }

    fn answered_in_release(&mut self, now: Now, answer: Answer) {
        match answer {
            Answer::Written(lease) => {
                self.seen = Some(Seen { lease, at: now.time });
                self.finish(true);
            }
            Answer::Got(lease) if lease.record.holder == self.settings.identity() => {
                let record = released(now.wall, &lease.record);
                self.update(now, lease.version, record, Way::Fast);
            }
            Answer::Got(_) | Answer::NotFound => self.finish(true),
            Answer::Conflict => self.get(),
            Answer::Failed => {
                self.doing = Doing::Waiting { until: now.time + RELEASE_PAUSE };
            }
        }
    }

    fn finish(&mut self, released: bool) {
        self.phase = Phase::Done;
        self.outputs.push_back(Output::Done { released });
    }

    fn get(&mut self) {
        self.doing = Doing::Reading;
        self.outputs.push_back(Output::Request(Request::Get));
    }

    fn update(&mut self, now: Now, version: Version, record: Record, way: Way) {
        let version = if self.has(Mutant::Unguarded) { Version(String::new()) } else { version };
        self.doing = Doing::Writing { sent: now.time, way };
        self.outputs.push_back(Output::Request(Request::Update { version, record }));
    }

    /// What was read or shown (client-go: `setObservedRecord`): only a record that changes begins its
    /// duration anew.
    fn note(&mut self, now: Now, lease: Lease) {
        match &mut self.seen {
            Some(seen) if seen.lease.record == lease.record => seen.lease.version = lease.version,
            _ => {
                let at = match &self.seen {
                    None if self.has(Mutant::FirstSightEnded) => Time::ZERO,
                    Some(seen)
                        if self.has(Mutant::RenewalUnseen)
                            && seen.lease.record.holder == lease.record.holder =>
                    {
                        seen.at
                    }
                    _ => now.time,
                };
                self.seen = Some(Seen { lease, at });
            }
        }
        self.tell();
    }

    fn tell(&mut self) {
        let Some(Seen { lease, .. }) = &self.seen else { return };
        if lease.record.holder != self.told {
            self.told.clone_from(&lease.record.holder);
            if !self.told.is_empty() {
                self.outputs.push_back(Output::NewLeader(self.told.clone()));
            }
        }
    }

    /// The renewal of a lease that has our name and has not ended.
    fn ours(&self, now: Now) -> Option<(Version, Record)> {
        let Seen { lease, .. } = self.seen.as_ref()?;
        (lease.record.holder == self.settings.identity() && self.is_valid(now))
            .then(|| (lease.version.clone(), self.renewal(now, &lease.record)))
    }

    /// Whether the lease as it was last seen has not ended (client-go: `isLeaseValid`).
    fn is_valid(&self, now: Now) -> bool {
        let Some(Seen { lease, at }) = &self.seen else { return false };
        if self.has(Mutant::WallClock) {
            let micros = i64::from(lease.record.duration_seconds) * 1_000_000;
            return lease.record.renewed.is_some_and(|Wall(at)| now.wall.0 < at + micros);
        }
        now.time < *at + lease.record.duration()
    }

    /// When a lease that another holds ends, if it does not change.
    fn others_until(&self) -> Option<Time> {
        let Seen { lease, at } = self.seen.as_ref()?;
        let holder = &lease.record.holder;
        (!holder.is_empty() && holder != self.settings.identity())
            .then(|| *at + lease.record.duration())
    }

    fn renewal(&self, now: Now, old: &Record) -> Record {
        let acquired = old.acquired.unwrap_or(now.wall);
        self.record(now, acquired, old.transitions)
    }

    fn takeover(&self, now: Now, old: &Record) -> Record {
        self.record(now, now.wall, old.transitions.saturating_add(1))
    }

    fn record(&self, now: Now, acquired: Wall, transitions: u32) -> Record {
        let seconds = self.settings.lease_duration().as_secs();
        Record {
            holder: self.settings.identity().to_owned(),
            duration_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            acquired: Some(acquired),
            renewed: Some(now.wall),
            transitions,
        }
    }

    #[cfg(test)]
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(test))]
    const fn has(&self, _mutant: Mutant) -> bool {
        false
    }
}

/// A lease that anybody may take at once.
fn released(now: Wall, old: &Record) -> Record {
    Record {
        holder: String::new(),
        duration_seconds: 1,
        acquired: Some(now),
        renewed: Some(now),
        transitions: old.transitions,
    }
}

/// Between tries to release, of which the process that ends waits for the last.
const RELEASE_PAUSE: Duration = Duration::from_millis(250);
