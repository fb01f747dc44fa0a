//! Every order of a few steps in a small world.
//!
//! Two candidates, of which one's clock is faster; a lease of 3 s, a deadline of 2 s, tries each second.
//! At each step anything may happen that can: half a second passes; a candidate looks at its timers (or
//! does not: it is frozen as long as it does nothing, and so timers may be late at will); a request is
//! carried out, or waits on, also after its sender has given it up; an answer arrives, or an error in its
//! place; a watch shows the lease; a candidate is told to stop, and its work ends.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::{Clock, Server};
use crate::mutant::Mutant;
use crate::{Answer, Change, Election, Input, Now, Output, Request, Settings};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    election: Election,
    /// What it has asked, and not been answered.
    asked: Option<Asked>,
    /// A request that it has given up, which is on its way still.
    given_up: Option<Request>,
    works: bool,
    told_to_stop: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    OnItsWay(Request),
    Answered(Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    server: Server,
    places: [Place; 2],
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Time,
    Tick(usize),
    CarryOut(usize),
    CarryOutGivenUp(usize),
    Answer(usize),
    GiveUp(usize),
    Show(usize),
    Stop(usize),
    EndWork(usize),
}

const CLOCKS: [Clock; 2] = [
    Clock { offset: 1_000 * 1_000_000_000, rate: 1000, wall: 0 },
    Clock { offset: 9_000 * 1_000_000_000, rate: 1400, wall: -60_000_000 },
];
const TICK: u64 = 500_000_000;
/// When no more time passes.
const END: u64 = 12 * TICK;

impl World {
    fn new(mutant: Option<Mutant>) -> Self {
        let places = ["a", "b"].map(|identity| {
            let seconds = Duration::from_secs;
            let settings = Settings::with(identity, seconds(3), seconds(2), seconds(1)).unwrap();
            let mut election = Election::new(settings);
            election.mutant = mutant;
            Place { election, asked: None, given_up: None, works: false, told_to_stop: false }
        });
        Self { now: 0, server: Server::default(), places }
    }

    /// What can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.now < END {
            steps.push(Step::Time);
        }
        for (n, place) in self.places.iter().enumerate() {
            let time = CLOCKS[n].time(self.now);
            if place.election.poll_timeout().is_some_and(|due| due <= time) {
                steps.push(Step::Tick(n));
            }
            match &place.asked {
                Some(Asked::OnItsWay(_)) => steps.extend([Step::CarryOut(n), Step::GiveUp(n)]),
                Some(Asked::Answered(_)) => steps.extend([Step::Answer(n), Step::GiveUp(n)]),
                None => {}
            }
            if place.given_up.is_some() {
                steps.push(Step::CarryOutGivenUp(n));
            }
            let known = place.election.lease();
            if self.server.lease.is_some() && self.server.lease.as_ref() != known {
                steps.push(Step::Show(n));
            }
            if !place.told_to_stop && place.works {
                steps.push(Step::Stop(n));
            }
            if place.told_to_stop && place.works {
                steps.push(Step::EndWork(n));
            }
        }
        steps
    }

    fn after(&self, step: Step) -> Self {
        let mut world = self.clone();
        match step {
            Step::Time => world.now += TICK,
            Step::Tick(n) => world.give(n, Input::Tick),
            Step::CarryOut(n) => {
                if let Some(Asked::OnItsWay(request)) = world.places[n].asked.take() {
                    let answer = world.server.answer(&request);
                    world.places[n].asked = Some(Asked::Answered(answer));
                }
            }
            Step::CarryOutGivenUp(n) => {
                if let Some(request) = world.places[n].given_up.take() {
                    world.server.answer(&request);
                }
            }
            Step::Answer(n) => {
                if let Some(Asked::Answered(answer)) = world.places[n].asked.take() {
                    world.give(n, Input::Answer(answer));
                }
            }
            Step::GiveUp(n) => {
                if let Some(Asked::OnItsWay(request)) = world.places[n].asked.take() {
                    world.places[n].given_up = Some(request).filter(|r| *r != Request::Get);
                }
                world.give(n, Input::Answer(Answer::Failed));
            }
            Step::Show(n) => {
                if let Some(lease) = world.server.lease.clone() {
                    world.give(n, Input::Changed(Change::Lease(lease)));
                }
            }
            Step::Stop(n) => {
                world.places[n].told_to_stop = true;
                world.give(n, Input::Stop);
            }
            Step::EndWork(n) => {
                world.places[n].works = false;
                world.give(n, Input::WorkStopped);
            }
        }
        world
    }

    fn give(&mut self, n: usize, input: Input) {
        let (time, wall) = (CLOCKS[n].time(self.now), CLOCKS[n].wall(self.now));
        let place = &mut self.places[n];
        place.election.handle(Now { time, wall, chance: 0.0 }, input);
        while let Some(output) = place.election.poll() {
            match output {
                Output::Request(request) => {
                    assert_eq!(place.asked, None, "two requests at once");
                    place.asked = Some(Asked::OnItsWay(request));
                }
                Output::BecameLeader => place.works = true,
                Output::StoppedLeading if place.works => {
                    place.works = false;
                    place.election.handle(Now { time, wall, chance: 0.0 }, Input::WorkStopped);
                }
                _ => {}
            }
        }
    }

    /// Whether both lead, each by its own clock, whether they have looked at it or not.
    fn is_bad(&self) -> bool {
        [0, 1].iter().all(|&n| self.places[n].election.is_leading(CLOCKS[n].time(self.now)))
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Goes through all that can happen in `depth` steps; how many worlds there are, or the way to a bad one.
fn explore(depth: usize, mutant: Option<Mutant>) -> Result<usize, Vec<Step>> {
    let mut seen = HashSet::new();
    let mut steps: Vec<(usize, Step)> = Vec::new();
    let mut edge = vec![(World::new(mutant), usize::MAX)];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, from) in edge {
            for step in world.steps() {
                let after = world.after(step);
                if !seen.insert(after.fingerprint()) {
                    continue;
                }
                steps.push((from, step));
                if after.is_bad() {
                    let back = |&at: &usize| (steps[at].0 != usize::MAX).then(|| steps[at].0);
                    let way = std::iter::successors(Some(steps.len() - 1), back);
                    let mut way: Vec<_> = way.map(|at| steps[at].1).collect();
                    way.reverse();
                    return Err(way);
                }
                next.push((after, steps.len() - 1));
            }
        }
        edge = next;
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_steps_makes_two_lead() {
    let worlds = explore(DEPTH, None).unwrap_or_else(|way| panic!("two lead after {way:#?}"));
    println!("{worlds} worlds");
    assert!(worlds > 100_000, "too little happens: {worlds} worlds");
}

/// With the steps that it takes at least: nothing of what happens on the way is left out.
#[test]
fn planted_faults_are_found() {
    for (mutant, least) in [
        (Mutant::FirstSightEnded, 10),
        (Mutant::DeadlineFromAnswer, 15),
        (Mutant::LateAnswerLeads, 15),
    ] {
        match explore(DEPTH, Some(mutant)) {
            Ok(worlds) => panic!("{mutant:?} is not found in {worlds} worlds"),
            Err(way) => assert_eq!(way.len(), least, "{mutant:?}: {way:?}"),
        }
    }
}

/// How many steps.
const DEPTH: usize = 15;
