//! Clusters of a few nodes, with all their cryptography.

use super::*;
use crate::secret::Keyring;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn five_nodes_find_each_other_within_a_second() {
    let mut world = World::new(1);
    world.cluster(5);
    let took = world.until(secs(10), World::converged).unwrap();
    assert!(took <= secs(1), "{took:?}");
    for node in &world.nodes {
        let joined = |e: &&MemberEvent| matches!(e, MemberEvent::Joined(_));
        assert_eq!(node.events.iter().filter(joined).count(), 4);
        assert!(node.notices.is_empty(), "{:?}", node.notices);
    }
}

#[test]
fn nodes_that_all_list_each_other_need_no_first_one() {
    let mut world = World::new(2);
    let all: Vec<SocketAddr> = (0..5).map(address).collect();
    for _ in 0..5 {
        world.add_joining(Entry::Secret(secret(1)), all.clone());
        world.run(Duration::from_millis(70));
    }
    let took = world.until(secs(20), World::converged).unwrap();
    assert!(took <= secs(4), "{took:?}");
}

#[test]
fn a_sixth_is_in_within_a_second() {
    let mut world = World::new(3);
    world.cluster(5);
    world.until(secs(10), World::converged).unwrap();
    world.run(secs(30));
    world.add(Entry::Secret(secret(1)));
    let took = world.until(secs(10), World::converged).unwrap();
    assert!(took <= secs(1), "{took:?}");
}

#[test]
fn a_node_alone_has_an_address_and_one_that_finds_nobody_gets_one_later() {
    let mut world = World::new(4);
    world.cluster(1);
    assert!(world.it(0).addresses()[0].is_some());
    world.add_joining(Entry::Secret(secret(1)), vec![address(99)]);
    assert_eq!(world.it(1).addresses(), [None, None]);
    world.run(secs(4));
    assert!(world.it(1).addresses()[0].is_some());
}

/// Who dies is out of everybody's peers within the probe of it, the suspicion, and the news of it.
#[test]
fn a_dead_node_is_out_within_the_bound() {
    let mut world = World::new(5);
    world.cluster(5);
    world.until(secs(10), World::converged).unwrap();
    world.kill(3);
    let took = world.until(secs(60), World::converged).unwrap();
    println!("a dead node of 5 was out everywhere after {took:?}");
    // Four others ask it once in four periods each: four periods at most to the first question, one for
    // its end, three of suspicion, one for the news.
    assert!(took <= secs(9), "{took:?}");
    let id = world.id(3);
    for (node, it) in world.live() {
        assert_eq!(it.status(&id), Some(Status::Failed), "node {}", node.index);
    }
    world.restart(3);
    let took = world.until(secs(30), World::converged).unwrap();
    assert!(took <= secs(2), "{took:?}");
}

#[test]
fn who_leaves_has_left_and_who_comes_back_has_its_address() {
    let mut world = World::new(6);
    world.cluster(4);
    world.until(secs(10), World::converged).unwrap();
    let before = world.it(2).addresses();
    world.with(2, |it, now| it.leave(now));
    assert!(world.nodes[2].said.contains(&Output::Left));
    world.kill(2);
    let took = world.until(secs(20), World::converged).unwrap();
    assert!(took <= secs(1), "{took:?}");
    let id = world.id(2);
    for (node, it) in world.live() {
        assert_eq!(it.status(&id), Some(Status::Left));
        assert!(!node.events.iter().any(|e| matches!(e, MemberEvent::Failed(_))));
    }
    world.restart(2);
    world.until(secs(20), World::converged).unwrap();
    assert_eq!(world.it(2).addresses(), before);
}

#[test]
fn a_new_wireguard_key_is_known_to_all_at_once() {
    let mut world = World::new(7);
    world.cluster(5);
    world.until(secs(10), World::converged).unwrap();
    let mut local = Local {
        name: "node-1".into(),
        wireguard_key: [77; 32],
        gossip: vec![address(1)],
        wireguard: vec![],
        roles: vec!["k3s-server".into()],
    };
    world.with(1, |it, now| it.update(now, local.clone()).unwrap());
    let took = world.until(secs(10), World::converged).unwrap();
    assert!(took <= secs(1), "{took:?}");
    let id = world.id(1);
    let known = world.it(4).members().find(|(_, peer)| peer.record.id() == id).unwrap().1.clone();
    assert_eq!(known.record.draft().wireguard_key, [77; 32]);
    local.name = "Not A Name".into();
    assert!(world.with(1, |it, now| it.update(now, local)).is_err());
    assert_eq!(world.it(1).record().unwrap().draft().name, "node-1");
}

#[test]
fn a_node_that_moves_is_heard_at_its_new_address() {
    let mut world = World::new(8);
    world.cluster(4);
    world.until(secs(10), World::converged).unwrap();
    let new: SocketAddr = "192.168.9.9:7946".parse().unwrap();
    world.by_addr.remove(&address(1));
    world.by_addr.insert(new, 1);
    world.nodes[1].addr = new;
    let mut local = Local {
        name: "node-1".into(),
        wireguard_key: [7; 32],
        gossip: vec![new],
        wireguard: vec![],
        roles: vec![],
    };
    world.with(1, |it, now| it.update(now, local.clone()).unwrap());
    world.run(secs(15));
    world.converged().unwrap();
    local.gossip.clear();
    assert!(world.with(1, |it, now| it.update(now, local)).is_err());
}

/// The two halves of a cluster that was cut in two go on, and are one again after.
#[test]
fn halves_are_one_again_and_all_know_what_both_have_learned() {
    let mut world = World::new(9);
    world.cluster(8);
    world.until(secs(10), World::converged).unwrap();
    for index in 4..8 {
        world.groups[index] = 1;
    }
    world.run(secs(40));
    for (node, it) in world.live() {
        let alive = it.members().filter(|(status, _)| *status == Status::Alive).count();
        assert_eq!(alive, 3, "node {}", node.index);
    }
    // One comes to each half.
    world.add(Entry::Secret(secret(1)));
    world.add_joining(Entry::Secret(secret(1)), vec![address(5)]);
    world.groups[9] = 1;
    world.nodes[9].it.as_mut().unwrap();
    world.run(secs(5));
    world.groups.fill(0);
    let took = world.until(secs(60), World::converged).unwrap();
    println!("two halves were one again after {took:?}");
    assert!(took <= secs(20), "{took:?}");
}

#[test]
fn the_secret_is_replaced_while_all_goes_on() {
    let mut world = World::new(10);
    world.cluster(6);
    world.until(secs(10), World::converged).unwrap();
    let (old, new) = (secret(1).key_id(), secret(2).key_id());
    world.with(2, |it, now| it.install_secret(now, secret(2)).unwrap());
    let early = world.with(2, |it, now| it.use_secret(now, new));
    assert!(early.unwrap_err().to_string().starts_with("5 members do not have the secrets"));
    let in_step = |world: &World| {
        let behind = world.nodes[2].it.as_ref().unwrap().behind();
        if behind.is_empty() { Ok(()) } else { Err(format!("{behind:?}")) }
    };
    world.until(secs(30), in_step).unwrap();
    world.with(2, |it, now| it.use_secret(now, new).unwrap());
    world.until(secs(30), in_step).unwrap();
    world.with(2, |it, now| it.remove_secret(now, old).unwrap());
    world.until(secs(30), in_step).unwrap();
    world.until(secs(10), World::converged).unwrap();
    for node in &world.nodes {
        let ring = node.it.as_ref().unwrap().keyring().unwrap();
        assert_eq!((ring.ids().collect::<Vec<_>>(), ring.epoch()), (vec![new], 3));
        let gone = |e: &MemberEvent| matches!(e, MemberEvent::Failed(_) | MemberEvent::Removed(_));
        assert!(!node.events.iter().any(gone), "node {}", node.index);
    }
    // Who comes with the old one is not let in, and who comes with the new one is.
    let stranger = world.add(Entry::Secret(secret(1)));
    world.run(secs(5));
    assert!(world.nodes[stranger].events.is_empty());
    world.kill(stranger);
    world.add(Entry::Secret(secret(2)));
    world.until(secs(10), World::converged).unwrap();
    // And a restart comes back with the ring, not with the secret it was once given.
    let ring = world.it(1).keyring().map(|ring| ring.epoch());
    world.kill(1);
    world.start(1, Entry::Resume, vec![address(0)]);
    assert_eq!(world.it(1).keyring().map(|ring| ring.epoch()), ring);
    world.until(secs(10), World::converged).unwrap();
}

#[test]
fn who_was_away_for_one_step_catches_up() {
    let mut world = World::new(11);
    world.cluster(4);
    world.until(secs(10), World::converged).unwrap();
    world.kill(3);
    world.with(0, |it, now| it.install_secret(now, secret(2)).unwrap());
    world.run(secs(20));
    world.restart(3);
    world.until(secs(20), World::converged).unwrap();
    let has = |world: &World| {
        let ring: Keyring = world.nodes[3].it.as_ref().unwrap().keyring().unwrap();
        if ring.epoch() == 1 { Ok(()) } else { Err(format!("{ring:?}")) }
    };
    world.until(secs(20), has).unwrap();
}

#[test]
fn who_is_gone_for_long_is_forgotten_and_may_come_back() {
    let mut world = World::new(12);
    world.timing.reap_after = secs(60);
    world.cluster(4);
    world.until(secs(10), World::converged).unwrap();
    world.kill(3);
    world.run(secs(100));
    let id = world.id(3);
    for (node, it) in world.live() {
        assert_eq!(it.status(&id), None, "node {}", node.index);
        assert!(node.events.contains(&MemberEvent::Reaped(id)));
    }
    world.restart(3);
    world.until(secs(20), World::converged).unwrap();
}

#[test]
fn reserved_addresses_go_to_who_they_are_for() {
    let mut world = World::new(13);
    let ip: IpAddr = "10.213.0.10".parse().unwrap();
    let reserved = [(ip, crate::address::Owner::Name("node-2".into()))].into();
    world.pool = Pool::new(PoolConfig { reserved, ..Default::default() }).unwrap();
    world.cluster(4);
    world.until(secs(10), World::converged).unwrap();
    assert_eq!(world.it(2).addresses()[0], Some(ip));
}

#[test]
fn a_full_subnet_is_said() {
    let mut world = World::new(14).subnet("10.9.0.0/30");
    world.cluster(2);
    world.until(secs(10), World::converged).unwrap();
    world.add(Entry::Secret(secret(1)));
    world.run(secs(10));
    assert_eq!(world.it(2).addresses(), [None, None]);
    let alive = world.it(2).members().filter(|(status, _)| *status == Status::Alive).count();
    assert_eq!(alive, 2, "it is a member all the same");
}

#[test]
fn nothing_secret_and_no_name_is_on_the_wire() {
    let mut world = World::new(15);
    world.capture = Some(Vec::new());
    world.cluster(3);
    world.until(secs(10), World::converged).unwrap();
    world.with(0, |it, now| it.install_secret(now, secret(2)).unwrap());
    world.run(secs(10));
    let capture = world.capture.take().unwrap();
    assert!(capture.len() > 50);
    let ids = [0, 1, 2].map(|i| world.id(i));
    for (_, _, bytes) in &capture {
        let has = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
        assert!(!has(b"node-"), "a name");
        assert!(!ids.iter().any(|id| has(&id.0[..6])), "an id");
        for n in [1, 2] {
            let secret: Vec<u8> = (0..32).map(|i| n ^ (i * 7)).collect();
            assert!(!has(&secret[..6]), "a secret");
        }
    }
}
