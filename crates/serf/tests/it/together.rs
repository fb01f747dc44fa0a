//! Each sees the other come, change, leave and fail.

use std::time::Duration;

use holdfast_serf::{Event, Key, Keyring, Settings, Status};

use crate::agents::{Agent, eventually};
use crate::shell::Shell;

/// What gossip brings in a second is, where it went to the dead only, brought by a full exchange, one each 30 s.
const SOON: Duration = Duration::from_secs(90);

fn wait(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    eventually(what, limit, || look().then_some(()).ok_or_else(|| "not yet".to_owned()));
}

fn tags(settings: &mut Settings, tags: &[(&str, &str)]) {
    settings.tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
}

#[test]
fn agents_list_us_see_tags_and_see_us_leave() {
    let one = Agent::start("one", &["-tag", "kind=real"]);
    let two = Agent::start("two", &[]);
    let ours = Shell::start("ours", |s| tags(s, &[("role", "k3s-server"), ("arch", "amd64")]));
    two.ask(&["join", &one.address.to_string()]).unwrap();
    ours.join(one.address);
    for agent in [&one, &two] {
        agent.wait_to_see("ours", "alive", SOON);
    }
    let (_, seen) = one.sees("ours").unwrap();
    assert_eq!(seen, serde_json::json!({"role": "k3s-server", "arch": "amd64"}));
    wait("we see both, also the one we did not join", SOON, || {
        ours.status("one") == Some(Status::Alive) && ours.status("two") == Some(Status::Alive)
    });
    let theirs = ours.seen.lock().unwrap().members["one"].1.clone();
    assert_eq!(theirs, [("kind".to_owned(), "real".to_owned())]);

    ours.set_tags(&[("role", "worker")]);
    wait("two sees the new tags", SOON, || {
        two.sees("ours").is_some_and(|(_, tags)| tags == serde_json::json!({"role": "worker"}))
    });
    two.ask(&["tags", "-set", "colour=red"]).unwrap();
    wait("we see the agent's new tags", SOON, || {
        ours.seen.lock().unwrap().members["two"].1 == [("colour".to_owned(), "red".to_owned())]
    });

    ours.leave();
    for agent in [&one, &two] {
        agent.wait_to_see("ours", "left", SOON);
    }
    wait("we are told that we may end", SOON, || {
        ours.events().iter().any(|e| matches!(e, Event::Left(m) if m.name == "ours"))
    });
}

#[test]
fn a_kill_is_seen_as_failed_and_a_leave_as_left_by_both_sides() {
    let mut killed = Agent::start("killed", &[]);
    let leaves = Agent::start("leaves", &[]);
    let stays = Agent::start("stays", &[]);
    // An agent tells nobody of a forced leave if it sees nobody else alive then.
    let third = Agent::start("third", &[]);
    let ours = Shell::start("ours", |_| {});
    let doomed = Shell::start("doomed", |_| {});
    for agent in [&leaves, &stays, &third] {
        agent.ask(&["join", &killed.address.to_string()]).unwrap();
    }
    ours.join(killed.address);
    doomed.join(stays.address);
    for name in ["ours", "doomed", "killed", "leaves", "third"] {
        stays.wait_to_see(name, "alive", SOON);
    }
    wait("we see everyone", SOON, || {
        ["killed", "leaves", "stays", "third", "doomed"]
            .iter()
            .all(|n| ours.status(n) == Some(Status::Alive))
    });

    leaves.ask(&["leave"]).unwrap();
    wait("we see it left", SOON, || ours.status("leaves") == Some(Status::Left));
    doomed.die();
    killed.kill();
    let bound = Settings::new("x", ours.address).timing.detection_bound(6);
    wait("we see the agent failed", bound, || ours.status("killed") == Some(Status::Failed));
    wait("we see the other one of ours failed", bound, || {
        ours.status("doomed") == Some(Status::Failed)
    });
    stays.wait_to_see("doomed", "failed", bound);
    stays.wait_to_see("killed", "failed", bound);
    // Nobody who lives was thought dead, by either.
    assert_eq!(stays.sees("ours").unwrap().0, "alive");
    let failed =
        |e: &Event| matches!(e, Event::Failed(m) if m.name == "stays" || m.name == "leaves");
    assert!(!ours.events().iter().any(failed));

    stays.ask(&["force-leave", "killed"]).unwrap();
    wait("a failed member that is sent away has left", SOON, || {
        ours.status("killed") == Some(Status::Left)
    });
    // Of somebody who is there, it is believed until that one says otherwise.
    stays.ask(&["force-leave", "ours"]).unwrap();
    stays.wait_to_see("ours", "alive", SOON);
}

#[test]
fn keys_are_needed_and_changed_by_serfs_own_command() {
    use base64::Engine;
    let base64 = &base64::engine::general_purpose::STANDARD;
    for size in [16, 24, 32] {
        let key = vec![size as u8; size];
        let agent = Agent::start("agent", &["-encrypt", &base64.encode(&key)]);
        let with = |key: &[u8]| Some(Keyring::new(Key::new(key).unwrap()));
        let ours = Shell::start("ours", |s| s.keyring = with(&key));
        let stranger = Shell::start("stranger", |s| s.keyring = with(&[9; 16]));
        let naked = Shell::start("naked", |_| {});
        ours.join(agent.address);
        stranger.join(agent.address);
        naked.join(agent.address);
        agent.wait_to_see("ours", "alive", SOON);
        for outsider in [&stranger, &naked] {
            wait("an outsider is told that it did not work", SOON, || {
                outsider.events().iter().any(|e| matches!(e, Event::JoinFailed { .. }))
            });
            assert_eq!(outsider.status("agent"), None);
        }
        assert!(agent.sees("stranger").is_none() && agent.sees("naked").is_none());
        if size != 32 {
            continue;
        }

        let new = base64.encode([77; 16]);
        let old = base64.encode(&key);
        let answered_by_all = |words: &[&str]| {
            eventually(&format!("serf {words:?}"), SOON, || agent.ask(words)).to_lowercase()
        };
        assert!(answered_by_all(&["keys", "-install", &new]).contains("success"));
        let list = answered_by_all(&["keys", "-list"]);
        let row = |line: &str| line.contains(&new.to_lowercase()) && line.contains("[2/2]");
        assert!(list.lines().any(row), "{list}");
        answered_by_all(&["keys", "-use", &new]);
        answered_by_all(&["keys", "-remove", &old]);
        wait("our ring is the new key alone", SOON, || {
            let changed = |e: &Event| match e {
                Event::KeysChanged(ring) => Some(ring.keys().to_vec()),
                _ => None,
            };
            ours.events().iter().rev().find_map(changed) == Some(vec![Key::new(&[77; 16]).unwrap()])
        });
        // And goes on with it.
        ours.set_tags(&[("after", "rotation")]);
        wait("the agent hears us under the new key", SOON, || {
            agent.sees("ours").is_some_and(|(s, t)| s == "alive" && t["after"] == "rotation")
        });
    }
}

#[test]
fn an_agents_query_is_acknowledged_and_its_events_passed_on() {
    let one = Agent::start("one", &[]);
    let ours = Shell::start("ours", |_| {});
    let other = Shell::start("other", |_| {});
    ours.join(one.address);
    other.join(ours.address);
    one.wait_to_see("ours", "alive", SOON);
    one.wait_to_see("other", "alive", SOON);
    // RTT needs a ping query's acknowledgements: `serf query` prints who acknowledged.
    let answer = eventually("everyone acknowledges", SOON, || {
        let text = one.ask(&["query", "-timeout", "2s", "hello"])?;
        let all =
            ["one", "ours", "other"].iter().all(|n| text.contains(&format!("Ack from '{n}'")));
        if all { Ok(text) } else { Err(text) }
    });
    assert!(answer.contains("Total Acks: 3"), "{answer}");
    let answer = one.ask(&["query", "-timeout", "2s", "-node", "other", "hello"]).unwrap();
    assert!(answer.contains("Total Acks: 1") && answer.contains("Ack from 'other'"), "{answer}");
    assert_eq!(one.complaints(), Vec::<String>::new());
}

#[test]
fn a_full_cluster_of_agents_and_ours_stays_together() {
    let first = Agent::start("a0", &[]);
    let agents: Vec<Agent> = (1..3).map(|i| Agent::start(&format!("a{i}"), &[])).collect();
    let ours: Vec<Shell> = (0..5).map(|i| Shell::start(&format!("o{i}"), |_| {})).collect();
    for agent in &agents {
        agent.ask(&["join", &first.address.to_string()]).unwrap();
    }
    ours.iter().for_each(|o| o.join(first.address));
    for agent in agents.iter().chain([&first]) {
        (0..5).for_each(|i| agent.wait_to_see(&format!("o{i}"), "alive", SOON));
    }
    std::thread::sleep(Duration::from_secs(8));
    for ours in &ours {
        let seen = ours.seen.lock().unwrap();
        assert_eq!(seen.members.values().filter(|(s, _)| *s == Status::Alive).count(), 8);
        let failed = seen.events.iter().any(|e| matches!(e, Event::Failed(_)));
        assert!(!failed, "{:?}", seen.events);
    }
    assert_eq!(first.complaints(), Vec::<String>::new());
}
