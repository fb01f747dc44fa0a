//! Replicas elect a leader on a real API server, each a process with a service account of its own.
//!
//! What they lead says every 10 ms that it acts, with the time from before it looked whether it may: from
//! these lines a test reads who led when, also of a process that was frozen.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::candidate::{Place, next_leader, reigns};
use crate::place::possible;
use crate::relay::Relay;

/// 15 s, 10 s and 2 s, as controller-runtime has them.
const USUAL: [u64; 3] = [15_000, 10_000, 2_000];
/// The same with a third of the patience.
const SHORT: [u64; 3] = [5_000, 3_000, 500];
/// What a busy machine may take on top.
const SLACK: u64 = 2_000;

fn ms(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1_000_000
}

#[tokio::test]
async fn a_clean_stop_hands_over_at_once_and_events_tell_of_it() {
    if !possible() {
        return;
    }
    let place = Place::new("election-stop").await;
    let mut all = place.candidates(6, USUAL).await;
    let (mut gone, mut took) = (vec![0], Vec::new());
    for _ in 0..5 {
        let leader = *gone.last().unwrap();
        all[leader].signal(Signal::SIGTERM);
        let (next, at) = next_leader(&all, &gone);
        let stopping = all[leader].wait("stopping", 0, |words| words == "stopping").1.at;
        took.push(ms(stopping, at));
        all[leader].wait("ended", 0, |words| words == "ended");
        assert!(all[leader].child.wait().unwrap().success(), "{}", all[leader].log());
        gone.push(next);
    }
    println!("from SIGTERM to the next leader's first act: {took:?} ms");
    took.sort_unstable();
    assert!(took[2] <= 200, "the median of {took:?} ms; the last: {}", all[gone[5]].log());
    assert_eq!(reigns(&all), gone);

    let lease = place.lease().await;
    assert_eq!(lease["holderIdentity"], all[gone[5]].identity);
    assert_eq!(
        (&lease["leaseTransitions"], &lease["leaseDurationSeconds"]),
        (&json!(5), &json!(15))
    );
    place.wait_for_event(&format!("c{} became leader", gone[5])).await;
    let events = place.events();
    for (n, who) in gone.iter().enumerate() {
        let mut words = vec!["became leader"];
        words.extend((n < 5).then_some("stopped leading"));
        for words in words {
            let event = format!("Normal Lease c{who} c{who} {words}");
            let count = events.iter().filter(|known| **known == event).count();
            assert_eq!(count, 1, "{event}: {events:#?}");
        }
    }
    // The last replica of all lets go as well.
    let last = &mut all[gone[5]];
    last.signal(Signal::SIGTERM);
    assert!(last.child.wait().unwrap().success());
    let lease = place.lease().await;
    assert_eq!((&lease["holderIdentity"], &lease["leaseDurationSeconds"]), (&json!(""), &json!(1)));
}

#[tokio::test]
async fn who_is_killed_is_followed_within_the_lease() {
    if !possible() {
        return;
    }
    let place = Place::new("election-kill").await;
    let mut all = place.candidates(3, SHORT).await;
    all[0].signal(Signal::SIGKILL);
    all[0].child.wait().unwrap();
    let (next, at) = next_leader(&all, &[0]);
    let took = ms(*all[0].acts().last().unwrap(), at);
    println!("from kill -9 to the next leader's first act: {took} ms");
    // The last renewal was about a retry period before, at most.
    let least = SHORT[0] - SHORT[2] - SLACK / 2;
    assert!(took >= least, "within a lease that has not ended: {took} ms");
    assert!(took <= SHORT[0] + SHORT[2] * 22 / 10 + SLACK, "{took} ms");
    assert_eq!(reigns(&all), [0, next]);
}

#[tokio::test]
async fn who_was_frozen_does_not_act_when_it_wakes() {
    if !possible() {
        return;
    }
    let place = Place::new("election-freeze").await;
    let all = place.candidates(2, SHORT).await;
    all[0].signal(Signal::SIGSTOP);
    let (next, at) = next_leader(&all, &[0]);
    let took = ms(*all[0].acts().last().unwrap(), at);
    println!("from SIGSTOP to the next leader's first act: {took} ms");
    assert!(took <= SHORT[0] + SHORT[2] * 22 / 10 + SLACK, "{took} ms");
    let from = all[0].lines().len();
    all[0].signal(Signal::SIGCONT);
    all[0].wait("notices", from, |words| words == "state false c1");
    // Many times as long as it takes to act.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(reigns(&all), [0, next]);
    assert!(all[0].log().contains("failed to renew lease"), "{}", all[0].log());
}

/// Nothing arrives any more, in either direction, and no connection is closed.
#[tokio::test]
async fn who_is_cut_off_stops_before_the_next_begins_and_lives_on() {
    if !possible() {
        return;
    }
    let place = Place::new("election-cut").await;
    let relay = Relay::before(&place.server());
    let cut_off = place.kubeconfig("cut-off", Some(&relay)).await;
    place.usual_rights("cut-off").await;
    let mut all = vec![place.start("c0", &cut_off, SHORT)];
    all[0].wait("leads", 0, |words| words == "acts");
    let others = place.kubeconfig("others", None).await;
    place.usual_rights("others").await;
    for name in ["c1", "c2"] {
        let next = place.start(name, &others, SHORT);
        next.wait("sees the leader", 0, |words| words == "state false c0");
        all.push(next);
    }
    relay.cut();
    let (lost, given_up) = all[0].wait("gives up", 0, |words| words == "state false c0");
    let last = *all[0].acts().last().unwrap();
    let (next, at) = next_leader(&all, &[0]);
    assert!(last < at && given_up.at < at, "it stops before the next begins");
    let took = ms(last, at);
    println!("from the last act of who was cut off to the next leader's first: {took} ms");
    assert!(took <= SHORT[0] + SHORT[2] * 22 / 10 + SLACK, "{took} ms");
    // It lives, and takes part again when it can.
    relay.heal();
    let leader = format!("state false c{next}");
    all[0].wait("sees the new leader", lost, |words| words == leader);
    assert_eq!(all[0].child.try_wait().unwrap(), None);
    assert_eq!(reigns(&all), [0, next]);
}

#[tokio::test]
async fn missing_rights_are_named_and_a_grant_is_enough() {
    if !possible() {
        return;
    }
    let place = Place::new("election-rights").await;
    let kubeconfig = place.kubeconfig("poor", None).await;
    let events = json!({ "apiGroups": [""], "resources": ["events"], "verbs": ["create"] });
    place.rights("poor", &json!([events])).await;
    let poor = place.start("poor", &kubeconfig, SHORT);
    let named = "may not get leases in namespace";
    poor.wait("names the right", 0, |w| w.starts_with("health Noted") && w.contains(named));
    place.wait_for_event("Warning Lease poor leader election may not get leases").await;
    // Several tries later it has been said once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let log = poor.log();
    assert_eq!(log.matches(named).count(), 1, "{log}");
    assert!(log.contains("verbs: [get, update, watch]"), "{log}");
    let told = place.events().iter().filter(|event| event.contains("may not get leases")).count();
    assert_eq!(told, 1, "{:#?}", place.events());
    // What was named, granted, is enough; watching is a luxury.
    let leases = |verbs: &[&str]| -> Value {
        json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs })
    };
    let mut on_one = leases(&["get", "update"]);
    on_one["resourceNames"] = json!(["lock"]);
    place.rights("poor", &json!([leases(&["create"]), on_one, events])).await;
    poor.wait("leads", 0, |words| words == "acts");
    let noted = |w: &str| {
        w.starts_with("health Noted") && w.contains("may not watch leases") && !w.contains(named)
    };
    poor.wait("notes what it lacks", 0, noted);
}
