//! Manifests that come, change and go; orders; logs; ends.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{Agent, HOLDFAST, obedient, until};

#[test]
fn what_the_directory_says_is_what_runs() {
    let mut agent = Agent::new(&[]);
    agent.start(&[]);
    until("it answers", || agent.status().is_some());
    let (code, out, _) = agent.holdfast(&["status"]);
    assert!(code == 0 && out.starts_with("no pods: "), "{out}");

    agent.pod("a.yaml", "one", &obedient(&agent.path("ends"), "first"));
    agent.wait_for("one", "Running");
    agent.pod("a.yaml", "one", &obedient(&agent.path("ends"), "second"));
    until("the changed pod is stopped and comes again", || {
        agent.holdfast(&["logs", "one"]).1.contains("second is up")
    });
    assert_eq!(fs::read_to_string(agent.path("ends")).unwrap(), "first\n");

    // A broken manifest is shown, and stops nothing.
    agent.manifest(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {continers: []}\n",
    );
    until("the fault is shown", || agent.holdfast(&["status"]).1.contains("error: "));
    let (code, out, _) = agent.holdfast(&["status"]);
    assert_eq!(code, 1);
    assert!(out.contains("continers") && out.contains("a.yaml is not used as it is now"), "{out}");
    agent.wait_for("one", "Running");
    agent.pod("b.yaml", "two", "sleep 0.1");
    agent.wait_for("two", "Completed");

    fs::remove_file(agent.path("manifests").join("a.yaml")).unwrap();
    until("the pod of a removed manifest goes", || agent.sees("one").is_none());
    assert_eq!(fs::read_to_string(agent.path("ends")).unwrap(), "first\nsecond\n");
    // What ended by itself stays until its manifest goes, too.
    fs::remove_file(agent.path("manifests").join("b.yaml")).unwrap();
    until("so does one that has ended", || agent.sees("two").is_none());
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
}

#[test]
fn a_pod_is_stopped_and_started_by_hand() {
    let mut agent = Agent::new(&[]);
    agent.pod("a.yaml", "one", &obedient(&agent.path("ends"), "one"));
    agent.start(&[]);
    agent.wait_for("one", "Running");
    assert_eq!(agent.holdfast(&["stop", "one"]).0, 0);
    assert_eq!(fs::read_to_string(agent.path("ends")).unwrap(), "one\n");
    let (code, out, _) = agent.holdfast(&["status"]);
    assert!(code == 0 && out == "one is stopped; holdfast restart one starts it\n", "{out}");
    // Its manifest does not bring it back.
    agent.pod("a.yaml", "one", &obedient(&agent.path("ends"), "other"));
    agent.signal(Signal::SIGHUP);
    agent.pod("b.yaml", "two", "sleep 100");
    agent.wait_for("two", "Running");
    assert_eq!(agent.sees("one"), None);
    assert_eq!(agent.holdfast(&["restart", "one"]).0, 0);
    agent.wait_for("one", "Running");
    until("it is the changed one", || {
        agent.holdfast(&["logs", "one"]).1.ends_with("other is up\n")
    });
    assert_eq!(agent.holdfast(&["restart", "one"]).0, 0);
    until("it is up again", || {
        agent.holdfast(&["logs", "one"]).1.ends_with("other is up\nother is up\n")
    });
    assert_eq!(fs::read_to_string(agent.path("ends")).unwrap(), "one\nother\n");

    let (code, _, error) = agent.holdfast(&["stop", "nobody"]);
    assert!(
        code == 2 && error.contains(r#"there is no pod "nobody"; there are: one, two"#),
        "{error}"
    );
    assert_eq!(agent.holdfast(&["stop", "--all"]).0, 0);
    assert_eq!(agent.wait(), Some(0));
    let (code, _, error) = agent.holdfast(&["status"]);
    assert!(code == 2 && error.contains("no agent listens on"), "{error}");
}

#[test]
fn who_waits_for_a_pod_whose_manifest_goes_is_told() {
    let mut agent = Agent::new(&[]);
    let (asked, go) = (agent.path("asked"), agent.path("go"));
    let slow = format!(
        "trap 'touch {}; while [ ! -e {} ]; do sleep 0.05; done; exit' TERM\nwhile :; do sleep 0.05; done",
        asked.display(),
        go.display()
    );
    agent.pod("a.yaml", "one", &slow);
    agent.start(&[]);
    agent.wait_for("one", "Running");
    let waits = Command::new(HOLDFAST)
        .args(["restart", "one"])
        .env("HOLDFAST_STATE_DIR", agent.path("state"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("it is asked to stop", || asked.exists());
    fs::remove_file(agent.path("manifests").join("a.yaml")).unwrap();
    // It is known when the directory has been read again: the next pod is there.
    agent.pod("b.yaml", "two", "sleep 100");
    agent.wait_for("two", "Running");
    fs::write(go, "").unwrap();
    let output = waits.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("its manifest is gone"), "{error}");
}

#[test]
fn logs_are_kept_followed_and_cut() {
    let mut agent = Agent::new(&[]);
    let go = agent.path("go");
    agent.pod(
        "a.yaml",
        "one",
        &format!(
            "for n in 1 2 3; do echo out $n; done\necho err >&2\nwhile [ ! -e {} ]; do sleep 0.05; done\necho late\n\
             while :; do sleep 1; done",
            go.display()
        ),
    );
    agent.start(&[]);
    until("four lines", || agent.holdfast(&["logs", "one"]).1.lines().count() == 4);
    let (_, out, _) = agent.holdfast(&["logs", "one", "--tail", "2", "-c", "main"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines.contains(&"out 3"), "{out}");
    let (_, out, _) = agent.holdfast(&["logs", "one", "--timestamps"]);
    assert!(out.contains(" stdout F out 1\n") && out.contains(" stderr F err\n"), "{out}");

    let followed = agent.path("followed");
    let mut follower = Command::new(HOLDFAST)
        .args(["logs", "one", "-f", "--tail", "0"])
        .env("HOLDFAST_STATE_DIR", agent.path("state"))
        .stdout(fs::File::create(&followed).unwrap())
        .spawn()
        .unwrap();
    // It has asked when it is one of the agent's connections; what comes in between is in neither half.
    std::thread::sleep(Duration::from_millis(300));
    fs::write(go, "").unwrap();
    until("the late line is there", || fs::read(&followed).unwrap() == b"late\n");
    let _ = follower.kill();
    let _ = follower.wait();

    let (code, _, error) = agent.holdfast(&["logs", "one", "-c", "side"]);
    assert!(code == 2 && error.contains(r#"has no container "side"; it has: main"#), "{error}");
}

#[test]
fn all_stop_one_by_one_the_last_first_and_nothing_is_left() {
    let mut agent = Agent::new(&[]);
    let ends = agent.path("ends");
    for (file, name) in [("1.yaml", "base"), ("2.yaml", "middle"), ("3.yaml", "top")] {
        agent.pod(file, name, &obedient(&ends, name));
    }
    agent.start(&[]);
    for name in ["base", "middle", "top"] {
        agent.wait_for(name, "Running");
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert_eq!(fs::read_to_string(ends).unwrap(), "top\nmiddle\nbase\n");
    assert_eq!((agent.pods_left(), agent.path("state/agent.sock").exists()), (0, false));
}

#[test]
fn who_does_not_stop_is_killed_when_the_grace_period_is_over() {
    let mut agent = Agent::new(&[]);
    let stubborn = "trap '' TERM\nwhile :; do sleep 0.05; done";
    let slow = crate::pod("stubborn", stubborn, agent.dir.path())
        .replace("PeriodSeconds: 5", "PeriodSeconds: 600");
    agent.manifest("a.yaml", &slow);
    agent.start(&["--grace", "500ms"]);
    agent.wait_for("stubborn", "Running");
    let begin = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert!(agent.log().contains("the grace period is over"), "{}", agent.log());
}

#[test]
fn a_killed_agent_takes_everything_along_and_the_next_one_begins_anew() {
    let mut agent = Agent::new(&[]);
    agent.pod("a.yaml", "one", &format!("exec sleep 4242.{}", std::process::id()));
    agent.start(&[]);
    agent.wait_for("one", "Running");
    let mark = format!("4242.{}", std::process::id());
    let runs = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == mark.as_bytes())
        })
    };
    assert!(runs());
    agent.signal(Signal::SIGKILL);
    agent.wait();
    until("its containers end with it", || !runs());
    assert!(agent.path("state/agent.sock").exists(), "nobody was left to remove it");
    agent.start(&[]);
    agent.wait_for("one", "Running");
    agent.signal(Signal::SIGINT);
    assert_eq!(agent.wait(), Some(0));
    assert_eq!(agent.pods_left(), 0);
}

#[test]
fn a_second_agent_does_not_get_in_the_way_of_the_first() {
    let mut agent = Agent::new(&[]);
    agent.pod("a.yaml", "one", "sleep 100");
    agent.start(&[]);
    agent.wait_for("one", "Running");
    let (code, _, error) =
        agent.holdfast(&["agent", "--manifests", agent.path("m").to_str().unwrap()]);
    assert!(code == 1 && error.contains("another agent runs with the state directory"), "{error}");
    assert_eq!(agent.sees("one").as_deref(), Some("Running"));
}

#[test]
fn nonsense_on_the_socket_is_answered_and_harms_nobody() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let mut agent = Agent::new(&[]);
    agent.start(&[]);
    until("it answers", || agent.status().is_some());
    for nonsense in ["{}\n", "GET / HTTP/1.1\r\n\r\n", "{\"do\":\"stop\"}\n", "\n"] {
        let mut stream = UnixStream::connect(agent.path("state/agent.sock")).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("that is no question to an agent"), "{nonsense:?}: {answer}");
    }
    let mut stream = UnixStream::connect(agent.path("state/agent.sock")).unwrap();
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    assert!(agent.status().is_some());
}
