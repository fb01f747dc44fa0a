//! The runs that are on their way down, and whose turn it is (spec A10; kubelet:
//! `terminationOrdering`).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::index::Index;
use crate::actions::Kill;
use crate::plan::{ContainerId, Kind};
use crate::status::InstanceId;
use crate::time::Time;

/// A run on its way down.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    pub(super) container: ContainerId,
    pub(super) kind: Kind,
    pub(super) instance: InstanceId,
    /// What is left of the grace period, in whole seconds as the kubelet counts.
    pub(super) grace: u64,
    /// Whether it waits for its turn (the whole pod goes) or stops alone.
    pub(super) ordered: bool,
    /// The process has ended, but a hook still has to.
    pub(super) exited: bool,
    pub(super) state: StopState,
    /// Another run of the container that was asked for before.
    before: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopState {
    /// The preStop hook runs.
    PreStop { since: Time, until: Time },
    /// Others have to stop first.
    Turn { since: Time, until: Time },
    /// The stop signal was sent.
    Signalled,
    /// Nothing is left to do.
    Done,
    /// Those that waited for it know.
    Down,
}

impl StopState {
    /// A hook that runs from now on, for so many seconds at most.
    pub(super) fn pre_stop(now: Time, grace: u64) -> Self {
        Self::PreStop { since: now, until: now + Duration::from_secs(grace) }
    }

    /// Waiting for one's turn, for as long as the grace period lasts.
    pub(super) fn turn(now: Time, grace: u64) -> Self {
        Self::Turn { since: now, until: now + Duration::from_secs(grace) }
    }

    /// When the wait is over, whatever has happened until then.
    const fn deadline(self) -> Option<Time> {
        match self {
            Self::PreStop { until, .. } | Self::Turn { until, .. } => Some(until),
            Self::Signalled | Self::Done | Self::Down => None,
        }
    }

    /// Ends the wait at `at` if it would last longer.
    pub(super) fn shorten(mut self, at: Time) -> Self {
        if let Self::PreStop { until, .. } | Self::Turn { until, .. } = &mut self {
            *until = at.min(*until);
        }
        self
    }
}

/// Everything that is on its way down.
#[derive(Clone, Default)]
pub(super) struct Stops {
    /// In the order in which they were asked for, until all are down.
    runs: Vec<Stopping>,
    /// The newest of each container.
    newest: Vec<Option<usize>>,
    /// How many are not down.
    left: usize,
    /// How many of them are of regular containers.
    regular: usize,
    deadlines: BTreeSet<(Time, usize)>,
    /// Those that may be able to go on.
    agenda: BTreeSet<usize>,
}

impl Stopping {
    /// A run that stops from now on, once it is its turn.
    pub(super) fn new(kill: &Kill, kind: Kind, now: Time, grace: u64, ordered: bool) -> Self {
        Self {
            container: kill.container,
            kind,
            instance: kill.instance,
            grace,
            ordered,
            exited: false,
            state: StopState::turn(now, grace),
            before: None,
        }
    }
}

impl Stops {
    /// Whether everything is down.
    pub(super) const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Adds a run.
    pub(super) fn push(&mut self, mut run: Stopping) {
        let (at, index) = (self.runs.len(), run.container.index());
        if self.newest.len() <= index {
            self.newest.resize(index + 1, None);
        }
        run.before = self.newest[index].replace(at);
        self.left += 1;
        self.regular += usize::from(run.kind == Kind::Regular);
        self.deadlines.extend(run.state.deadline().map(|until| (until, at)));
        self.agenda.insert(at);
        self.runs.push(run);
    }

    pub(super) fn get(&self, at: usize) -> &Stopping {
        &self.runs[at]
    }

    /// Where a run of a container is, if it is not down.
    pub(super) fn find(&self, id: ContainerId, instance: InstanceId) -> Option<usize> {
        self.of(id).find(|&at| self.runs[at].instance == instance)
    }

    /// Where the runs are that are not down, in the order in which they were asked for.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.runs.len()).filter(|&at| self.runs[at].state != StopState::Down)
    }

    /// Where the runs of a container are that are not down.
    fn of(&self, id: ContainerId) -> impl Iterator<Item = usize> + '_ {
        let newest = self.newest.get(id.index()).copied().flatten();
        std::iter::successors(newest, |&at| self.runs[at].before)
            .filter(|&at| self.runs[at].state != StopState::Down)
    }

    /// The deadline of each container that waits.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = (ContainerId, Time)> + '_ {
        self.deadlines.iter().map(|&(until, at)| (self.runs[at].container, until))
    }

    /// The first deadline.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(until, _)| until)
    }

    /// Changes a run; it may be able to go on then.
    pub(super) fn change(&mut self, at: usize, change: impl FnOnce(&mut Stopping)) {
        let run = &mut self.runs[at];
        let before = run.state.deadline();
        change(run);
        let after = run.state.deadline();
        if before != after {
            before.map(|until| self.deadlines.remove(&(until, at)));
            self.deadlines.extend(after.map(|until| (until, at)));
        }
        self.agenda.insert(at);
    }

    /// The first run whose wait is over; what is done is let go.
    pub(super) fn next_ready(&mut self, now: Time, index: &Index) -> Option<usize> {
        let due = self.deadlines.iter().take_while(|&&(until, _)| until <= now);
        self.agenda.extend(due.map(|&(_, at)| at));
        while let Some(at) = self.agenda.pop_first() {
            match self.runs[at].state {
                StopState::Done => self.let_go(at, index),
                _ if self.is_over(at, now, index) => return Some(at),
                _ => {}
            }
        }
        debug_assert!(
            self.places().all(|at| !self.is_over(at, now, index)),
            "a wait that is over was overlooked"
        );
        if self.is_empty() {
            self.runs.clear();
            self.newest.clear();
        }
        None
    }

    /// Whether the wait of a run is over: for its hook, or for its turn.
    fn is_over(&self, at: usize, now: Time, index: &Index) -> bool {
        let run = &self.runs[at];
        match run.state {
            StopState::PreStop { until, .. } => until <= now,
            StopState::Turn { until, .. } => until <= now || self.is_turn(run, index),
            StopState::Signalled | StopState::Done | StopState::Down => false,
        }
    }

    /// Whether everything that must stop before this run has stopped: a sidecar waits for all regular
    /// containers and for the sidecar after it.
    fn is_turn(&self, run: &Stopping, index: &Index) -> bool {
        if !run.ordered || run.kind != Kind::Sidecar {
            return true;
        }
        let Some(next) = index.next_sidecar(run.container) else { return self.regular == 0 };
        let was_told = || self.newest.get(next.index()).is_some_and(Option::is_some);
        self.regular == 0 && self.of(next).next().is_none() && (!index.absent_hold || was_told())
    }

    /// A run is down: those that waited for it may be able to go on.
    fn let_go(&mut self, at: usize, index: &Index) {
        let run = &mut self.runs[at];
        run.state = StopState::Down;
        self.left -= 1;
        let waiting: Vec<usize> = match run.kind {
            Kind::Regular => {
                self.regular -= 1;
                if self.regular == 0 { self.places().collect() } else { Vec::new() }
            }
            Kind::Sidecar => match index.previous_sidecar(run.container) {
                Some(previous) => self.of(previous).collect(),
                None => Vec::new(),
            },
            Kind::Init | Kind::Ephemeral => Vec::new(),
        };
        self.agenda.extend(waiting);
    }
}

impl fmt::Debug for Stops {
    /// The runs that are not down: everything else follows from them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places().map(|at| &self.runs[at])).finish()
    }
}
