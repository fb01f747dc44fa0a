//! Long lives in a large world, as the dice fall.

use super::world::{Faults, MS, S, Violation, World};
use crate::mutant::Mutant;

/// Everything goes wrong at times.
const BAD: Faults = Faults {
    lost: 60,
    unanswered: 60,
    errors: 60,
    slow: 100,
    unseen: 300,
    freezes: 30,
    kills: 20,
    stops: 20,
};

/// Clocks of which one is at most 1.49 times as fast as another: below 15 s : 10 s.
const RATES: (u64, u64) = (1000, 1490);

/// A life of two minutes in which faults happen, most of them in one part of it.
fn life(seed: u64, rates: (u64, u64), mutant: Option<Mutant>) -> Result<World, Violation> {
    let nodes = 2 + usize::try_from(seed % 2).unwrap();
    let mut world = World::new(seed, nodes, rates, Faults::default(), mutant);
    for part in 1..=12 {
        // Some parts without faults, some with a single kind: it is in quiet that a fault has effects.
        let only = world.dice.within(0, 10);
        let keep = |of: u64, kind: u64| if only == kind || only >= 8 { of } else { 0 };
        world.faults = Faults {
            lost: keep(BAD.lost, 0),
            unanswered: keep(BAD.unanswered, 1),
            errors: keep(BAD.errors, 2),
            slow: keep(BAD.slow, 3),
            unseen: keep(BAD.unseen, 4),
            freezes: keep(BAD.freezes, 5),
            kills: keep(BAD.kills, 6),
            stops: keep(BAD.stops, 7),
        };
        if only == 9 {
            // The API is gone for some of them: nothing arrives.
            world.faults.lost = 800;
        }
        world.until(part * 10 * S)?;
    }
    Ok(world)
}

#[test]
fn never_two_lead_and_when_all_is_well_one_does() {
    let mut terms = 0;
    for seed in 0..LIVES {
        let mut world = life(seed, RATES, None).unwrap_or_else(|v| panic!("seed {seed}: {v:?}"));
        terms += world.terms;
        // All is well again. Somebody may be frozen or its lease be running still.
        world.faults = Faults::default();
        let well =
            |world: &mut World, at| world.until(at).unwrap_or_else(|v| panic!("{seed}: {v:?}"));
        well(&mut world, (120 + 31 + 20) * S);
        let leaders = world.leaders();
        assert_eq!(leaders.len(), 1, "seed {seed}: nobody leads though all is well");
        // And goes on to.
        well(&mut world, (120 + 31 + 60) * S);
        assert_eq!(world.leaders(), leaders, "seed {seed}: it has changed though all is well");
    }
    assert!(u64::from(terms) > 2 * LIVES, "too little happened: {terms} terms in {LIVES} lives");
}

/// The checker is worth something: it finds faults that are put into the machine.
#[test]
fn planted_faults_are_found() {
    use Mutant::*;
    let all = [
        Unguarded,
        WallClock,
        DeadlineFromAnswer,
        NoDeadline,
        LateAnswerLeads,
        EarlyRelease,
        FirstSightEnded,
        RenewalUnseen,
    ];
    for mutant in all {
        let found =
            (0..20 * LIVES).find_map(|seed| Some((seed, life(seed, RATES, Some(mutant)).err()?)));
        let Some((seed, violation)) = found else { panic!("{mutant:?} is not found") };
        println!("{mutant:?}: found in life {seed}: {violation:?}");
        let expected = match violation {
            Violation::TwoLeaders { .. } => mutant != EarlyRelease,
            Violation::TwoWork { .. } => true,
        };
        assert!(expected, "{mutant:?}: {violation:?}");
    }
}

/// The bound is the bound: with clocks further apart than lease duration : renew deadline it does not
/// hold, as client-go's documentation says as well.
#[test]
fn clocks_too_far_apart_are_too_much() {
    let found = (0..20 * LIVES).any(|seed| life(seed, (1000, 1800), None).is_err());
    assert!(found, "no life with such clocks has two leaders: the checker does not look at them");
}

/// After a clean stop the next leads at once, after a kill within the lease and one retry.
#[test]
fn the_next_leads_soon() {
    for seed in 0..200 {
        for kill in [false, true] {
            let mut world = World::new(seed, 3, (1000, 1001), Faults::default(), None);
            world.until(30 * S).unwrap();
            let first = world.leaders()[0];
            world.end(first, kill);
            // Until its work has ended, four seconds at most.
            let mut at = 30 * S;
            while world.leaders() == [first] {
                at += MS;
                world.until(at).unwrap();
            }
            let gone = at;
            while world.leaders().is_empty() {
                at += MS;
                world.until(at).unwrap();
            }
            let took = (at - if kill { 30 * S } else { gone }) / MS;
            // Release, news, update, answer: each at most 20 ms on its way.
            let bound = if kill { 15_000 + 4_400 } else { 6 * 20 };
            assert!(took <= bound, "seed {seed}, kill {kill}: {took} ms");
        }
    }
}

/// How many lives; each takes about half a millisecond.
const LIVES: u64 = 1500;
