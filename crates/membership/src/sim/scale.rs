//! Hundreds of nodes: how many rounds of gossip it takes until all know.

use super::*;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct Measured {
    joined: Duration,
    /// Rounds until a new record is known to all.
    update: u32,
    /// Time until a dead node is out everywhere.
    death: Duration,
    /// Time from the healing of a cut in two until all is one.
    merge: Duration,
}

fn measure(seed: u64, n: usize, loss: usize) -> Measured {
    let mut world = World::new(seed).cheap();
    world.timing.save_after = secs(3600);
    world.loss = loss;
    let start = world.time;
    for _ in 0..n {
        world.add(Entry::Secret(secret(1)));
        world.run(Duration::from_millis(5));
    }
    world.until(secs(120), World::converged).unwrap();
    let joined = world.time.since(start);
    let round = world.timing.gossip_interval;

    let config = world.config_of(1).local;
    let local = Local { wireguard_key: [0xee; 32], ..config };
    world.with(1, |it, now| it.update(now, local).unwrap());
    let took = world.until(secs(60), World::converged).unwrap();
    let update = (took.as_millis() / round.as_millis()) as u32;

    world.kill(n - 1);
    let death = world.until(secs(120), World::converged).unwrap();

    for index in 0..n / 2 {
        world.groups[index] = 1;
    }
    world.run(secs(20));
    world.groups.fill(0);
    let merge = world.until(secs(180), World::converged).unwrap();
    Measured { joined, update, death, merge }
}

/// Gossip to three others at a time reaches all in log₄ n rounds if nobody is told twice; with those who are, with
/// loss, and with the phase of each node's timer: 4 · log₂ n + 6 at the most.
fn bound(n: usize) -> u32 {
    4 * n.ilog2() + 6
}

fn check(n: usize, loss: usize) {
    let m = measure(40 + n as u64, n, loss);
    println!(
        "{n} nodes, {} % loss: all joined after {:.1?}, a change known to all after {} rounds (bound {}), \
         a dead node out after {:.1?}, a cut healed after {:.1?}",
        loss / 10,
        m.joined,
        m.update,
        bound(n),
        m.death,
        m.merge,
    );
    assert!(m.update <= bound(n), "{} rounds", m.update);
    let timing = Timing::default();
    let suspicion = timing.probe_period.mul_f64(3.0 * ((n + 1) as f64).log10().max(1.0));
    let news = timing.gossip_interval * bound(n);
    // With many nodes somebody asks within two periods; loss may hide the first question's end.
    assert!(m.death <= secs(6) + suspicion + news, "{:?}", m.death);
    assert!(m.merge <= secs(90), "{:?}", m.merge);
}

#[test]
fn sixteen_nodes() {
    check(16, 20);
}

#[test]
fn sixty_four_nodes() {
    check(64, 20);
}

#[test]
#[ignore = "most of a minute; cargo test -p holdfast-membership -- --ignored --nocapture"]
fn two_hundred_and_fifty_six_nodes() {
    check(256, 20);
}

#[test]
#[ignore = "more than five minutes; cargo test -p holdfast-membership -- --ignored --nocapture"]
fn a_thousand_nodes() {
    check(1000, 20);
}
