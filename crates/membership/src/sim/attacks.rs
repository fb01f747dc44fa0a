//! Who has no right to be in, and what was recorded, forged, damaged or played again.

use std::sync::Arc;

use super::*;
use crate::book::{item_of_record, item_of_revocation};
use crate::envelope::{Seal, Sealer};
use crate::event::Why;
use crate::message::Message;
use crate::record::{Claim, Draft};
use crate::revocation::Revocation;
use crate::secret::{Credential, Keyring};
use crate::token::{TokenError, TokenState};

const HOUR: Duration = Duration::from_secs(3600);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn converged(seed: u64, n: usize) -> World {
    let mut world = World::new(seed);
    world.cluster(n);
    world.until(secs(20), World::converged).unwrap();
    world
}

fn alive(world: &World, index: usize) -> usize {
    let it = world.nodes[index].it.as_ref().unwrap();
    it.members().filter(|(status, _)| *status == Status::Alive).count()
}

fn ring(n: u8) -> Keyring {
    Keyring::new(secret(n))
}

/// A record that `identity` could have signed, with a proof by `ring`.
fn record(identity: &Identity, ring: Option<&Keyring>, version: u64) -> Record {
    let draft = Draft {
        version,
        left: false,
        name: "intruder".into(),
        wireguard_key: [6; 32],
        gossip: vec!["192.168.7.7:7946".parse().unwrap()],
        wireguard: vec![],
        v4: Some(Claim { ip: "10.213.0.66".parse().unwrap(), since: Wall(1) }),
        v6: None,
        roles: vec![],
        epoch: 0,
        credential: ring.map(|ring| ring.credential(&identity.public())),
    };
    Record::sign(identity, draft).unwrap()
}

#[test]
fn who_does_not_know_the_secret_gets_no_answer() {
    let mut world = converged(20, 3);
    let stranger = world.add(Entry::Secret(secret(9)));
    world.capture = Some(Vec::new());
    world.run(secs(20));
    let to = world.nodes[stranger].addr;
    let answers = world.capture.as_ref().unwrap().iter().filter(|(_, at, _)| *at == to);
    assert_eq!(answers.count(), 0);
    assert_eq!((alive(&world, 0), alive(&world, stranger)), (2, 0));
    let id = world.id(stranger);
    assert!(world.it(0).status(&id).is_none());
}

#[test]
fn damaged_datagrams_are_of_no_effect() {
    let mut world = World::new(21);
    world.capture = Some(Vec::new());
    world.cluster(3);
    world.until(secs(20), World::converged).unwrap();
    let capture = world.capture.take().unwrap();
    let from = world.nodes[2].addr;
    let mut dice = Dice::new(&[1; 32], "damage");
    for (_, _, bytes) in capture.iter().take(200) {
        for _ in 0..10 {
            let mut bad = bytes.clone();
            let at = dice.below(bad.len());
            bad[at] ^= 1 << dice.below(8);
            bad.truncate(bad.len() - if dice.below(2) == 0 { 0 } else { dice.below(bad.len()) });
            if bad != *bytes {
                world.inject(0, from, &bad);
            }
        }
    }
    for len in 0..60 {
        world.inject(0, from, &vec![1; len]);
        world.inject(0, from, &vec![2; len]);
    }
    world.converged().unwrap();
    assert!(world.nodes[0].notices.is_empty(), "{:?}", world.nodes[0].notices);
}

/// Somebody who has recorded all that was ever sent sends all of it again, to everybody.
fn replay(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(22);
    world.capture = Some(Vec::new());
    world.mutant = mutant;
    world.cluster(3);
    world.until(secs(20), World::converged)?;
    let early = world.capture.take().unwrap();
    let id = world.id(1);
    // A while later it says something else, and then it is gone.
    let local = Local {
        name: "node-1".into(),
        wireguard_key: [9; 32],
        gossip: vec![world.nodes[1].addr],
        wireguard: vec![],
        roles: vec![],
    };
    world.with(1, |it, now| it.update(now, local).unwrap());
    world.capture = Some(Vec::new());
    world.run(secs(30));
    let late = world.capture.take().unwrap();
    world.kill(1);
    world.until(secs(30), World::converged)?;
    let all: Vec<_> = early.into_iter().chain(late).collect();
    world.capture = Some(Vec::new());
    for (from, _, bytes) in &all {
        for index in [0, 2] {
            world.inject(index, *from, bytes);
        }
    }
    let taken = world.capture.as_ref().unwrap().len();
    world.run(secs(1));
    for (node, it) in world.live() {
        if it.status(&id) != Some(Status::Failed) {
            return Err(format!("node {} takes it for {:?}", node.index, it.status(&id)));
        }
        let known = it.members().find(|(_, peer)| peer.record.id() == id).unwrap().1;
        if known.record.draft().wireguard_key != [9; 32] {
            return Err("an old record has won".into());
        }
    }
    // Handshakes and who is not known get an answer; nothing that was taken once does.
    if taken > 60 {
        return Err(format!("{taken} answers to {} replayed datagrams", all.len() * 2));
    }
    Ok(())
}

#[test]
fn what_is_played_again_is_of_no_effect() {
    replay(None).unwrap();
    assert!(replay(Some(Mutant::NoReplayWindow)).is_err());
}

/// A member that is behind, or means it badly, passes on what another said a while ago.
fn outdated(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(36);
    world.mutant = mutant;
    world.cluster(4);
    world.until(secs(20), World::converged)?;
    let old = item_of_record(&world.it(1).record().unwrap());
    let local = Local { wireguard_key: [9; 32], ..world.config_of(1).local };
    world.with(1, |it, now| it.update(now, local).unwrap());
    world.until(secs(20), World::converged)?;
    let id = world.id(1);
    world.it(0).gossip(&old);
    for _ in 0..100 {
        world.run(Duration::from_millis(20));
        for (node, it) in world.live().filter(|(node, _)| node.index != 1) {
            let known = it.members().find(|(_, peer)| peer.record.id() == id).unwrap().1;
            if known.record.draft().wireguard_key != [9; 32] {
                return Err(format!("node {} believes the old one", node.index));
            }
        }
    }
    Ok(())
}

#[test]
fn an_old_record_is_worth_nothing() {
    outdated(None).unwrap();
    assert!(outdated(Some(Mutant::OldRecordWins)).is_err());
}

/// A whole handshake that was recorded is played again: the proof in it is of another challenge.
fn replay_handshake(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(23);
    world.timing.reap_after = secs(40);
    world.mutant = mutant;
    world.cluster(2);
    world.until(secs(20), World::converged)?;
    world.capture = Some(Vec::new());
    world.add(Entry::Secret(secret(1)));
    world.until(secs(20), World::converged)?;
    let (id, from) = (world.id(2), world.nodes[2].addr);
    let handshake: Vec<Vec<u8>> = world
        .capture
        .take()
        .unwrap()
        .into_iter()
        .filter(|(by, to, _)| *by == from && *to == address(0))
        .map(|(_, _, bytes)| bytes)
        .collect();
    // It is gone for so long that it is forgotten.
    world.kill(2);
    world.run(secs(150));
    assert_eq!(world.it(0).status(&id), None);
    for bytes in &handshake {
        world.inject(0, from, bytes);
    }
    match world.it(0).status(&id) {
        None => Ok(()),
        status => Err(format!("it is {status:?} again")),
    }
}

#[test]
fn a_recorded_handshake_opens_nothing() {
    replay_handshake(None).unwrap();
    assert!(replay_handshake(Some(Mutant::StaleProof)).is_err());
}

/// One member speaks for another: it knows the secret, but not the key of the pair.
fn impersonate(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(24);
    world.mutant = mutant;
    world.cluster(4);
    world.until(secs(20), World::converged)?;
    let victim = world.id(2);
    let ring = ring(1);
    // It has the session of the victim and a counter that is not used yet.
    let session = world.nodes[2].it.as_ref().unwrap().generation();
    let mut sealer = Sealer::new(victim, session, [5; 16]);
    for _ in 0..10_000 {
        sealer.skip();
    }
    let key = *ring.gossip_key(ring.primary()).unwrap();
    let wrong = Key::new([7; 32]);
    let fake = Identity::from_seed([66; 32]);
    let item = item_of_record(&record(&fake, Some(&ring), 5));
    let message = Message::Statements(vec![&item]);
    let seal = Seal::Cluster(ring.primary());
    let bytes = sealer.seal(seal, &key, Some(&wrong), message.kind(), &message.encode());
    let from = world.nodes[2].addr;
    world.inject(0, from, &bytes);
    match world.it(0).status(&fake.id()) {
        None => Ok(()),
        status => Err(format!("what it said was believed: {status:?}")),
    }
}

#[test]
fn a_member_cannot_speak_for_another() {
    impersonate(None).unwrap();
    assert!(impersonate(Some(Mutant::NoPairCheck)).is_err());
}

/// A member passes on the record of somebody who was never admitted.
fn smuggle(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(25);
    world.mutant = mutant;
    world.cluster(3);
    world.until(secs(20), World::converged)?;
    let fake = Identity::from_seed([66; 32]);
    let other = Identity::from_seed([67; 32]);
    let stolen = ring(1).credential(&other.public());
    let mut with_stolen = record(&fake, None, 1).draft().clone();
    with_stolen.credential = Some(stolen);
    let records = [
        record(&fake, None, 1),
        record(&fake, Some(&ring(9)), 2),
        Record::sign(&fake, with_stolen).unwrap(),
    ];
    for record in records {
        world.nodes[1].it.as_mut().unwrap().gossip(&item_of_record(&record));
    }
    world.run(secs(15));
    for (node, it) in world.live() {
        if it.status(&fake.id()).is_some() {
            return Err(format!("node {} knows it", node.index));
        }
    }
    Ok(())
}

#[test]
fn a_record_without_a_proof_of_admission_is_not_believed() {
    smuggle(None).unwrap();
    assert!(smuggle(Some(Mutant::NoCredential)).is_err());
}

/// A removed node does all it can: restarts, other versions of its record, a new join.
fn removed(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(26);
    world.mutant = mutant;
    world.cluster(5);
    world.until(secs(20), World::converged)?;
    let id = world.id(3);
    let state = world.nodes[3].state.clone();
    world.with(1, |it, now| it.remove(now, id, "stolen").unwrap());
    world.run(secs(10));
    let out = |world: &World| {
        for (node, it) in world.live().filter(|(node, _)| node.index != 3) {
            let status = it.status(&id);
            let claims = it.members().any(|(_, peer)| peer.record.id() == id);
            if status != Some(Status::Removed) || claims {
                return Err(format!("node {} takes it for {status:?}", node.index));
            }
            let up = |s: &Membership| s.knows_up(&id);
            if up(it) {
                return Err(format!("node {} has it in its failure detector", node.index));
            }
        }
        Ok(())
    };
    out(&world)?;
    if mutant.is_none() {
        let said = |output: &Output| matches!(output, Output::Removed(r) if r.reason() == "stolen");
        assert!(world.nodes[3].said.iter().any(said), "it was told");
    }
    // It has not heard of it, as far as its disk goes; and its record has a higher version.
    for _ in 0..3 {
        world.nodes[3].state = state.clone();
        world.restart(3);
        world.run(secs(8));
        out(&world)?;
    }
    // The others are restarted, one after the other and all at once.
    for index in [0, 1, 2, 4] {
        world.restart(index);
        world.run(secs(2));
    }
    for index in [0, 1, 2, 4] {
        world.kill(index);
    }
    for index in [0, 1, 2, 4] {
        world.restart(index);
    }
    world.nodes[3].state = None;
    world.restart(3);
    world.run(secs(20));
    out(&world)?;
    // A node that comes later hears of it, too.
    let late = world.add(Entry::Secret(secret(1)));
    world.run(secs(20));
    assert_eq!(world.it(late).status(&id), Some(Status::Removed));
    out(&world)?;
    if mutant.is_none() {
        // With a new identity it is another node: the limit that the documentation names.
        world.nodes[3].key = 1;
        world.nodes[3].state = None;
        world.restart(3);
        world.run(secs(10));
        assert_eq!(alive(&world, 0), 5);
    }
    Ok(())
}

#[test]
fn who_is_removed_is_out_for_ever() {
    removed(None).unwrap();
    assert!(removed(Some(Mutant::RemovalOutlived)).is_err());
}

#[test]
fn a_removal_in_one_half_holds_in_both_afterwards() {
    let mut world = converged(27, 6);
    for index in 3..6 {
        world.groups[index] = 1;
    }
    let (a, b) = (world.id(1), world.id(4));
    world.with(0, |it, now| it.remove(now, b, "").unwrap());
    world.with(4, |it, now| it.remove(now, a, "").unwrap());
    world.run(secs(30));
    world.groups.fill(0);
    world.run(secs(40));
    for index in [0, 2, 3, 5] {
        assert_eq!(world.it(index).status(&a), Some(Status::Removed), "{index}");
        assert_eq!(world.it(index).status(&b), Some(Status::Removed), "{index}");
        assert_eq!(alive(&world, index), 3);
    }
    assert!(world.with(0, |it, now| it.remove(now, it.id(), "")).is_err());
}

#[test]
fn who_is_no_member_removes_nobody() {
    let mut world = converged(28, 3);
    let stranger = Identity::from_seed([66; 32]);
    let credential = Credential { key: ring(1).primary(), mac: [0; 32] };
    let victim = world.id(2);
    let forged = Revocation::sign(&stranger, credential, victim, "", Wall(1));
    world.it(1).gossip(&item_of_revocation(&forged));
    world.run(secs(15));
    assert_eq!(world.it(0).status(&victim), Some(Status::Alive));
}

/// Somebody who knows the secret, but was never admitted, tells a node that it was removed.
#[test]
fn a_forged_removal_does_not_silence_a_node() {
    let mut world = converged(37, 2);
    let (victim, stranger) = (world.id(1), Identity::from_seed([66; 32]));
    for key in [ring(1).primary(), ring(9).primary()] {
        let credential = Credential { key, mac: [0; 32] };
        let forged = Revocation::sign(&stranger, credential, victim, "", Wall(1));
        let message =
            Message::Rejected { nonce: [0; 16], why: Why::Removed, revocation: forged.bytes() };
        let mut sealer = Sealer::new(stranger.id(), 1, [key.0[0]; 16]);
        let gossip_key = *ring(1).gossip_key(ring(1).primary()).unwrap();
        let seal = Seal::Cluster(ring(1).primary());
        let bytes = sealer.seal(seal, &gossip_key, None, message.kind(), &message.encode());
        world.inject(1, address(0), &bytes);
    }
    world.run(secs(1));
    world.converged().unwrap();
}

#[test]
fn a_node_can_be_moved_between_threads() {
    fn sent<T: Send>() {}
    sent::<Membership>();
}

#[test]
fn two_machines_with_one_identity_are_noticed() {
    let mut world = converged(29, 3);
    let state = world.nodes[2].state.clone();
    // A copy of its disk runs elsewhere, and says other things.
    let copy = world.add_joining(Entry::Secret(secret(1)), vec![]);
    world.kill(copy);
    let (identity, config, now) = (world.identity(2), world.config_of(copy), world.now());
    let mut it =
        Membership::new(now, identity, config, Entry::Resume, state.as_deref(), &[99; 32]).unwrap();
    let forked: Arc<Record> = it.record().unwrap();
    it.handle(now, Input::Tick);
    world.it(1).gossip(&item_of_record(&forked));
    world.run(secs(15));
    let overtaken = |notice: &Notice| matches!(notice, Notice::Overtaken { .. });
    assert!(world.nodes[2].notices.iter().any(overtaken), "{:?}", world.nodes[2].notices);
    world.converged().unwrap();
}

/// Two records of one version: all keep the same, whichever came first.
fn forked(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(30);
    world.mutant = mutant;
    world.cluster(4);
    world.until(secs(20), World::converged)?;
    let twin = Identity::from_seed([66; 32]);
    let one = record(&twin, Some(&ring(1)), 7);
    let mut other = one.draft().clone();
    other.wireguard_key = [8; 32];
    let two = Record::sign(&twin, other).unwrap();
    world.it(0).gossip(&item_of_record(&one));
    world.it(3).gossip(&item_of_record(&two));
    world.run(secs(30));
    let known = |it: &Membership| {
        it.members().find(|(_, peer)| peer.record.id() == twin.id()).map(|(_, p)| *p.record.hash())
    };
    let all: BTreeSet<_> = world.live().map(|(_, it)| known(it)).collect();
    let noticed = world.nodes.iter().any(|n| n.notices.contains(&Notice::Forked(twin.id())));
    if all.len() == 1 && noticed { Ok(()) } else { Err(format!("{all:?}, noticed: {noticed}")) }
}

#[test]
fn of_two_records_of_one_version_all_keep_the_same() {
    forked(None).unwrap();
    assert!(forked(Some(Mutant::FirstForkStays)).is_err());
}

#[test]
fn a_token_lets_one_in_who_has_no_secret() {
    let mut world = converged(31, 3);
    let token = world.with(1, |it, now| it.create_token(now, HOUR, "for node-3").unwrap());
    // It asks somebody else first, who knows where the owner is heard.
    world.capture = Some(Vec::new());
    let joiner = world.add(Entry::Token(token.clone()));
    world.until(secs(20), World::converged).unwrap();
    assert_eq!(alive(&world, joiner), 3);
    let spent = world.it(1).tokens().next().unwrap().state;
    assert!(matches!(spent, TokenState::Spent { by, .. } if by == world.id(joiner)), "{spent:?}");
    let raw: Vec<u8> = (0..32).map(|i| 1 ^ (i * 7)).collect();
    for (_, _, bytes) in world.capture.take().unwrap() {
        assert!(!bytes.windows(8).any(|w| w == &raw[..8]), "the secret in clear");
    }
    // It is a member like any other now, also after a restart.
    world.kill(joiner);
    world.start(joiner, Entry::Token(token), vec![address(0)]);
    world.until(secs(20), World::converged).unwrap();
}

/// Two use one token at the same time, and a third afterwards.
fn double_spend(mutant: Option<Mutant>) -> Result<(), String> {
    for seed in 0..12 {
        let mut world = World::new(3200 + seed);
        world.mutant = mutant;
        world.cluster(3);
        world.until(secs(20), World::converged)?;
        let token = world.with(1, |it, now| it.create_token(now, HOUR, "").unwrap());
        // Each asks another node, some datagrams are lost.
        world.loss = 200;
        for at in [0, 2, 1] {
            let joiner = world.add_joining(Entry::Token(token.clone()), vec![address(at)]);
            world.groups[joiner] = 0;
        }
        world.run(secs(20));
        world.loss = 0;
        // After a crash the token is as spent as before.
        world.restart(1);
        world.run(secs(10));
        let joiner = world.add_joining(Entry::Token(token.clone()), vec![address(1)]);
        world.run(secs(20));
        let inside =
            (3..=joiner).filter(|i| world.nodes[*i].it.as_ref().unwrap().keyring().is_some());
        let count = inside.count();
        if count != 1 {
            return Err(format!("{count} came in with one token"));
        }
        let last = &world.nodes[joiner].said;
        let refused = Output::Rejected { by: address(1), why: Why::TokenSpent };
        assert!(last.contains(&refused), "{last:?}");
    }
    Ok(())
}

#[test]
fn a_token_lets_one_in_however_many_use_it() {
    double_spend(None).unwrap();
    assert!(double_spend(Some(Mutant::TokenUnspent)).is_err());
}

#[test]
fn tokens_that_are_not_good() {
    let mut world = converged(33, 2);
    let token = |world: &mut World, valid| {
        world.with(1, |it, now| it.create_token(now, Duration::from_secs(valid), "").unwrap())
    };
    let expired = token(&mut world, 5);
    let revoked = token(&mut world, 3600);
    world.run(secs(6));
    world.with(1, |it, _| it.revoke_token(revoked.id()).unwrap());
    let mut elsewhere = World::new(34);
    elsewhere.cluster(1);
    let unknown = elsewhere.with(0, |it, now| it.create_token(now, HOUR, "").unwrap());
    for (token, why) in
        [(expired, Some(Why::TokenExpired)), (revoked, Some(Why::TokenRevoked)), (unknown, None)]
    {
        let joiner = world.add_joining(Entry::Token(token.clone()), vec![address(1)]);
        world.run(secs(15));
        assert!(world.it(joiner).keyring().is_none());
        assert_eq!(world.it(joiner).addresses(), [None, None], "no address without admission");
        let rejected: Vec<Why> = world.nodes[joiner]
            .said
            .iter()
            .filter_map(|o| match o {
                Output::Rejected { why, .. } => Some(*why),
                _ => None,
            })
            .collect();
        assert_eq!(rejected.first().copied(), why);
        let refused = world.with(joiner, |it, now| it.create_token(now, HOUR, ""));
        assert!(refused.unwrap_err().to_string().contains("not been admitted"));
    }
    let error = world.with(1, |it, _| it.revoke_token("aaaaaaaa".parse().unwrap()));
    assert_eq!(error.unwrap_err().to_string(), TokenError::Unknown.to_string());
}

#[test]
fn a_state_of_another_node_or_a_damaged_one_is_refused() {
    let world = converged(35, 2);
    let state = world.nodes[1].state.clone().unwrap();
    let config = world.config_of(0);
    let now = world.now();
    let start = |identity: Identity, state: &[u8]| {
        Membership::new(now, identity, config.clone(), Entry::Resume, Some(state), &[1; 32])
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert!(start(world.identity(0), &state).contains("is that of node"));
    assert_eq!(start(world.identity(1), &state), "");
    for at in (0..state.len()).step_by(7) {
        let mut bad = state.clone();
        bad[at] ^= 1;
        assert!(start(world.identity(1), &bad).contains("damaged"), "{at}");
    }
    assert!(start(world.identity(1), &[]).contains("too short"));
    let none =
        Membership::new(now, world.identity(1), config.clone(), Entry::Resume, None, &[1; 32]);
    assert!(none.err().unwrap().to_string().contains("secret or a join token"));
    let debug = format!("{:?}", Snapshot(zeroize::Zeroizing::new(state)));
    assert!(debug.starts_with("Snapshot(") && debug.len() < 30);
}
