//! A life of several candidates, second by second, with faults.

use std::collections::BTreeMap;

use super::{Clock, Dice, Server};
use crate::mutant::Mutant;
use crate::{Answer, Change, Election, Input, Now, Output, Request, Settings};

/// Nanoseconds.
pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1000 * MS;

/// How often what goes wrong, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// A request does not arrive.
    pub(super) lost: u64,
    /// An answer does not arrive, though the request was carried out.
    pub(super) unanswered: u64,
    /// An error instead of carrying it out.
    pub(super) errors: u64,
    /// A request or an answer takes seconds.
    pub(super) slow: u64,
    /// News of a watch do not arrive.
    pub(super) unseen: u64,
    /// In each second: a process is frozen for up to half a minute.
    pub(super) freezes: u64,
    /// In each second: a process is killed, and another takes its place.
    pub(super) kills: u64,
    /// In each second: a process is told to stop, and another takes its place when it has.
    pub(super) stops: u64,
}

/// What happens at an instant.
#[derive(Clone, Debug)]
enum Happening {
    /// A request arrives at the server.
    Arrives {
        node: usize,
        life: u32,
        call: u64,
        request: Request,
    },
    /// An answer arrives.
    Answered {
        node: usize,
        life: u32,
        call: u64,
        answer: Answer,
    },
    /// News of a watch arrive.
    Shown {
        node: usize,
        life: u32,
        change: Change,
    },
    /// A timer, if it is still the one that counts.
    Tick {
        node: usize,
        life: u32,
    },
    /// The work has ended, after it was told to.
    WorkEnds {
        node: usize,
        life: u32,
        term: u32,
    },
    Wakes {
        node: usize,
        life: u32,
    },
    /// A second has passed: dice are thrown for what befalls processes.
    Fate,
}

struct Node {
    election: Election,
    clock: Clock,
    /// Which process this is, in this place.
    life: u32,
    call: u64,
    /// The call that is under way, and what is not answered until then has failed.
    waits_for: Option<u64>,
    /// What came while it was frozen.
    frozen: Option<Vec<Input>>,
    /// Its work runs, of this term.
    works: bool,
    term: u32,
    gone: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    now: u64,
    server: Server,
    nodes: Vec<Node>,
    agenda: BTreeMap<(u64, u64), Happening>,
    entries: u64,
    mutant: Option<Mutant>,
    /// How often there was another leader, for tests that want to see something happen.
    pub(super) terms: u32,
}

/// What must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Two lead, each by its own clock.
    TwoLeaders { at: u64 },
    /// Work runs in two processes, neither of which is frozen.
    TwoWork { at: u64 },
}

impl World {
    /// `rates` are what clocks pass in a thousand nanoseconds, from and below.
    pub(super) fn new(
        seed: u64,
        nodes: usize,
        rates: (u64, u64),
        faults: Faults,
        mutant: Option<Mutant>,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let clocks: Vec<_> = (0..nodes)
            .map(|_| Clock {
                offset: dice.within(100, 1_000_000) * S,
                rate: dice.within(rates.0, rates.1),
                wall: i64::try_from(dice.within(0, 60_000_000_000)).unwrap() - 30_000_000_000,
            })
            .collect();
        let mut world = Self {
            dice,
            faults,
            now: 0,
            server: Server::default(),
            nodes: Vec::new(),
            agenda: BTreeMap::new(),
            entries: 0,
            mutant,
            terms: 0,
        };
        for (index, clock) in clocks.into_iter().enumerate() {
            let node = world.born(index, 0, clock);
            world.nodes.push(node);
            world.put(0, Happening::Tick { node: index, life: 0 });
        }
        world.put(S, Happening::Fate);
        world
    }

    fn born(&self, index: usize, life: u32, clock: Clock) -> Node {
        let mut election = Election::new(Settings::new(format!("{index}_{life}")).unwrap());
        election.mutant = self.mutant;
        let (call, term) = (0, 0);
        let (waits_for, frozen, works, gone) = (None, None, false, false);
        Node { election, clock, life, call, waits_for, frozen, works, term, gone }
    }

    /// Lives on until this instant.
    pub(super) fn until(&mut self, end: u64) -> Result<(), Violation> {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.happen(happening);
            self.check()?;
        }
        self.now = end;
        Ok(())
    }

    /// Who leads now, by its own clock.
    pub(super) fn leaders(&self) -> Vec<usize> {
        let leads = |node: &Node| !node.gone && node.election.is_leading(node.clock.time(self.now));
        (0..self.nodes.len()).filter(|&n| leads(&self.nodes[n])).collect()
    }

    /// Tells a process to stop, or kills it.
    pub(super) fn end(&mut self, node: usize, kill: bool) {
        if kill {
            self.nodes[node].gone = true;
        } else {
            self.give(node, Input::Stop);
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let at = self.now;
        if self.leaders().len() > 1 {
            return Err(Violation::TwoLeaders { at });
        }
        let working = |node: &&Node| !node.gone && node.works && node.frozen.is_none();
        if self.nodes.iter().filter(working).count() > 1 {
            return Err(Violation::TwoWork { at });
        }
        Ok(())
    }

    fn put(&mut self, at: u64, happening: Happening) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), happening);
    }

    /// How long something is on its way.
    fn way(&mut self) -> u64 {
        match self.dice.happens(self.faults.slow) {
            true => self.dice.within(MS, 12 * S),
            false => self.dice.within(MS, 20 * MS),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { node, life, call, request } => {
                self.arrives(node, life, call, &request);
            }
            Happening::Answered { node, life, call, answer } => {
                if self.lives(node, life) && self.nodes[node].waits_for == Some(call) {
                    self.nodes[node].waits_for = None;
                    self.give(node, Input::Answer(answer));
                }
            }
            Happening::Shown { node, life, change } => {
                if self.lives(node, life) {
                    self.give(node, Input::Changed(change));
                }
            }
            Happening::Tick { node, life } => {
                if self.lives(node, life) && self.nodes[node].frozen.is_none() {
                    self.give(node, Input::Tick);
                }
            }
            Happening::WorkEnds { node, life, term } => {
                let works = &self.nodes[node];
                if self.lives(node, life) && works.works && works.term == term {
                    self.nodes[node].works = false;
                    self.give(node, Input::WorkStopped);
                }
            }
            Happening::Wakes { node, life } => {
                if self.lives(node, life) {
                    self.wakes(node);
                }
            }
            Happening::Fate => self.fate(),
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && !self.nodes[node].gone
    }

    fn arrives(&mut self, node: usize, life: u32, call: u64, request: &Request) {
        let before = self.server.writes;
        let answer = match self.dice.happens(self.faults.errors) {
            true => Answer::Failed,
            false => self.server.answer(request),
        };
        if self.server.writes != before
            && let Some(lease) = self.server.lease.clone()
        {
            for watcher in 0..self.nodes.len() {
                if !self.dice.happens(self.faults.unseen) {
                    let (at, life) = (self.now + self.way(), self.nodes[watcher].life);
                    let change = Change::Lease(lease.clone());
                    self.put(at, Happening::Shown { node: watcher, life, change });
                }
            }
        }
        if !self.dice.happens(self.faults.unanswered) {
            let at = self.now + self.way();
            self.put(at, Happening::Answered { node, life, call, answer });
        }
    }

    fn wakes(&mut self, node: usize) {
        let mut inputs = self.nodes[node].frozen.take().unwrap_or_default();
        // Timers and answers wait for it together, in any order.
        let place = self.dice.within(0, inputs.len() as u64 + 1);
        inputs.insert(usize::try_from(place).unwrap(), Input::Tick);
        for input in inputs {
            self.give(node, input);
        }
    }

    fn fate(&mut self) {
        self.put(self.now + S, Happening::Fate);
        for node in 0..self.nodes.len() {
            let (life, clock) = (self.nodes[node].life, self.nodes[node].clock);
            if self.nodes[node].frozen.is_none() && self.dice.happens(self.faults.freezes) {
                self.nodes[node].frozen = Some(Vec::new());
                let until = self.now + self.dice.within(S, 30 * S);
                self.put(until, Happening::Wakes { node, life });
            }
            if self.dice.happens(self.faults.stops) {
                self.give(node, Input::Stop);
            }
            if self.dice.happens(self.faults.kills) || self.nodes[node].gone {
                self.nodes[node] = self.born(node, life + 1, clock);
                self.put(self.now, Happening::Tick { node, life: life + 1 });
            }
        }
    }

    /// Gives an input to a process, now or when it wakes.
    fn give(&mut self, index: usize, input: Input) {
        let chance = self.dice.chance();
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(inbox) = &mut node.frozen {
            inbox.push(input);
            return;
        }
        let now = Now { time: node.clock.time(now), wall: node.clock.wall(now), chance };
        node.election.handle(now, input);
        while let Some(output) = self.nodes[index].election.poll() {
            self.act(index, output);
        }
        let node = &self.nodes[index];
        if let Some(due) = node.election.poll_timeout() {
            let at = node.clock.real(due).max(self.now);
            let life = node.life;
            assert!(due > now.time, "it wants to be called again at once: {:?}", node.election);
            self.put(at, Happening::Tick { node: index, life });
        }
    }

    fn act(&mut self, index: usize, output: Output) {
        let timeout = 5 * S * 1000 / self.nodes[index].clock.rate;
        let node = &mut self.nodes[index];
        let life = node.life;
        match output {
            Output::Request(request) => {
                assert_eq!(node.waits_for, None, "two requests at once");
                node.call += 1;
                let call = node.call;
                node.waits_for = Some(call);
                let failed =
                    Happening::Answered { node: index, life, call, answer: Answer::Failed };
                self.put(self.now + timeout, failed);
                if !self.dice.happens(self.faults.lost) {
                    let at = self.now + self.way();
                    self.put(at, Happening::Arrives { node: index, life, call, request });
                }
            }
            Output::BecameLeader => {
                self.terms += 1;
                node.term += 1;
                node.works = true;
            }
            Output::StoppedLeading => {
                if std::mem::take(&mut node.works) {
                    self.give(index, Input::WorkStopped);
                }
            }
            Output::StopWork => {
                let term = node.term;
                let at = self.now + self.dice.within(0, 4 * S);
                self.put(at, Happening::WorkEnds { node: index, life, term });
            }
            Output::Done { .. } => node.gone = true,
            Output::NewLeader(_) => {}
        }
    }
}
