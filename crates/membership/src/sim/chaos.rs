//! Any interleaving: whatever happens, in the end every node that is up has an address of its own, and all agree.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Add,
    Kill(usize),
    Restart(usize),
    Leave(usize),
    /// Each bit says in which half a node is.
    Cut(u16),
    Heal,
    Run(u16),
    Loss(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Add),
        1 => (0usize..12).prop_map(Act::Kill),
        2 => (0usize..12).prop_map(Act::Restart),
        1 => (1usize..12).prop_map(Act::Leave),
        2 => any::<u16>().prop_map(Act::Cut),
        2 => Just(Act::Heal),
        4 => (0u16..9000).prop_map(Act::Run),
        1 => (0u16..300).prop_map(Act::Loss),
    ]
}

/// In a subnet of 14 addresses up to 10 nodes come and go, and the links between them.
fn live_through(seed: u64, acts: &[Act], mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(seed).cheap().subnet("10.9.0.0/28");
    world.mutant = mutant;
    world.cluster(2);
    for act in acts {
        let n = world.nodes.len();
        match act {
            Act::Add if n < 10 => {
                let index = world.add(Entry::Secret(secret(1)));
                world.groups[index] = (seed >> (index % 8)) as u8 & 1;
            }
            Act::Kill(index) if *index < n => world.kill(*index),
            Act::Restart(index) if *index < n => world.restart(*index),
            Act::Leave(index) if *index < n && world.nodes[*index].it.is_some() => {
                world.with(*index, |it, now| it.leave(now));
                world.kill(*index);
            }
            Act::Cut(bits) => {
                for (index, group) in world.groups.iter_mut().enumerate() {
                    *group = (bits >> (index % 16)) as u8 & 1;
                }
            }
            Act::Heal => world.groups.fill(0),
            Act::Run(millis) => {
                for _ in 0..*millis / 100 {
                    world.run(Duration::from_millis(100));
                    agree(&world)?;
                }
            }
            Act::Loss(loss) => world.loss = usize::from(*loss),
            _ => {}
        }
        agree(&world)?;
    }
    world.groups.fill(0);
    world.loss = 0;
    if world.nodes[0].it.is_none() {
        // Who has never met anybody knows no other.
        world.restart(0);
    }
    world.until(Duration::from_secs(120), World::converged).map(|_| ())
}

/// At every instant: nobody takes two for the holders of one address.
fn agree(world: &World) -> Result<(), String> {
    for (node, it) in world.live() {
        let mut held: BTreeSet<IpAddr> = BTreeSet::new();
        for ip in it.members().flat_map(|(_, peer)| [peer.v4, peer.v6]).flatten() {
            if !held.insert(ip) {
                return Err(format!("node {} takes two for the holders of {ip}", node.index));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_live_members_hold_one_address(
        seed in any::<u64>(),
        acts in prop::collection::vec(act(), 0..30),
    ) {
        let lived = live_through(seed, &acts, None);
        prop_assert!(lived.is_ok(), "{lived:?}");
    }
}

/// The same life again and again, until the fault shows; without it, it never does.
fn found(mutant: Mutant) -> bool {
    let acts = |seed: u64| {
        let mut acts = vec![Act::Cut(0b0101_0101_0101_0101)];
        for _ in 0..8 {
            acts.extend([Act::Add, Act::Run(100)]);
        }
        acts.extend([Act::Run(30_000), Act::Loss(seed as u16 % 200), Act::Heal, Act::Run(6000)]);
        acts
    };
    (0..4).any(|seed| {
        assert_eq!(live_through(seed, &acts(seed), None), Ok(()), "without a fault");
        live_through(seed, &acts(seed), Some(mutant)).is_err()
    })
}

#[test]
fn a_loser_that_stays_is_found() {
    assert!(found(Mutant::LoserStays));
}

#[test]
fn holders_of_whom_each_has_its_own_opinion_are_found() {
    assert!(found(Mutant::FirstHeardHolds));
}

#[test]
fn a_cluster_that_never_looks_for_the_lost_is_found() {
    assert!(found(Mutant::NoRejoin));
}

/// A removal and a change while a node is away, of which gossip is long over when it comes back.
#[test]
fn a_cluster_that_does_not_compare_is_found() {
    let run = |mutant| {
        let mut world = World::new(50).cheap();
        world.mutant = mutant;
        world.cluster(6);
        world.until(Duration::from_secs(20), World::converged)?;
        world.groups[5] = 1;
        let id = world.id(2);
        world.with(0, |it, now| it.remove(now, id, "").unwrap());
        world.run(Duration::from_secs(60));
        world.groups[5] = 0;
        world.kill(2);
        world.run(Duration::from_secs(40));
        match world.it(5).status(&id) {
            Some(Status::Removed) => Ok(()),
            status => Err(format!("{status:?}")),
        }
    };
    run(None).unwrap();
    assert!(run(Some(Mutant::NoAntiEntropy)).is_err());
}
