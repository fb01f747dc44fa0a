//! Nothing is left, however a cluster ends.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::{Options, leftovers};
use serde_json::json;

use crate::place::{PROGRAM, Place, phase, pod, possible, tool};

#[tokio::test]
async fn a_cluster_comes_up_once_and_goes_without_a_trace() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let cluster = place.up(Options::default()).await;
    let client = cluster.client().unwrap();
    let mut web = pod("default", "web", "echo here >/tmpfs/file; sleep 1000");
    web["spec"]["volumes"] = json!([{ "name": "memory", "emptyDir": { "medium": "Memory" } }]);
    web["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "memory", "mountPath": "/tmpfs" }]);
    client.create(&web).await.unwrap();
    phase(&client, "/api/v1/namespaces/default/pods/web", "Running").await;

    // Of all this, the host sees processes, cgroups and one link.
    let seen = leftovers(&place.layout).unwrap();
    for kind in ["process", "cgroup", "link"] {
        assert!(seen.iter().any(|left| left.starts_with(kind)), "no {kind} in {seen:#?}");
    }
    assert!(seen.iter().any(|left| left.contains("sleep 1000")), "no container in {seen:#?}");
    let link = seen.iter().find_map(|left| left.strip_prefix("link hfb")).unwrap().to_owned();
    let rules = Command::new("iptables-save").output().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(!rules.contains(&format!("10.{link}.")), "in the host's own rules: {rules}");

    let processes = |seen: &[String]| {
        let inits = seen.iter().filter(|left| left.contains("cluster init"));
        inits.cloned().collect::<Vec<_>>()
    };
    let again = tool(&["up"], place.path());
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("already up"));
    assert_eq!(processes(&seen), processes(&leftovers(&place.layout).unwrap()), "it is the same");

    let status = tool(&["status"], place.path());
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    let ended = tool(&["down"], place.path());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(leftovers(&place.layout).unwrap(), Vec::<String>::new());
    assert!(!place.path().exists(), "its directory is still there");
    assert!(!tool(&["status"], place.path()).status.success(), "there is none to be well");
}

#[tokio::test]
async fn an_up_that_is_killed_at_any_moment_leaves_nothing() {
    if !possible() {
        return;
    }
    let place = Place::new();
    // A first one, to know how long it takes here and now.
    let start = Instant::now();
    place.up(Options::default()).await;
    let whole = start.elapsed();
    tool(&["down"], place.path());
    let kills: u32 =
        std::env::var("BENCH_KILLS").ok().and_then(|number| number.parse().ok()).unwrap_or(5);
    // Within each stretch of the way another moment in each run.
    let jitter = std::process::id() % 100;
    for kill in 0..kills {
        let moment = whole * (kill * 100 + jitter) / (kills * 100);
        let mut up = Command::new(PROGRAM)
            .args(["cluster", "up"])
            .arg(place.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moment);
        up.kill().unwrap();
        let finished = up.wait().unwrap().success();
        if !finished && !is_up(&place) {
            place.wait_until_nothing_is_left();
        }
        println!("killed after {moment:?} of {whole:?}");
    }
    let ended = tool(&["down"], place.path());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(leftovers(&place.layout).unwrap(), Vec::<String>::new());
    assert!(!place.path().exists());
}

/// Whether the `up` that was killed had come to its end before.
fn is_up(place: &Place) -> bool {
    fs::read_to_string(place.path().join("cluster.json"))
        .is_ok_and(|state| state.contains(r#""up": true"#))
}

#[tokio::test]
async fn what_kills_its_keepers_kills_a_cluster_and_up_makes_another() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let none = || Options { nodes: 0, ..Options::default() };
    place.up(none()).await;
    let before = leftovers(&place.layout).unwrap();
    let keeper = before.iter().find(|left| left.contains("cluster init")).unwrap();
    let init: i32 = keeper.split(' ').nth(1).unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    let keeper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while leftovers(&place.layout).unwrap().iter().any(|left| !left.starts_with("cgroup")) {
        assert!(Instant::now() < end, "{:#?}", leftovers(&place.layout).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = tool(&["status"], place.path());
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!status.status.success());
    assert!(said.contains("unit control has ended"), "{said}");
    place.up(none()).await;
    assert!(tool(&["status"], place.path()).status.success());
}

#[test]
fn a_component_that_fails_is_named_with_the_end_of_its_log() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let up = tool(&["up", "--kubelet", "maxPods=-1"], place.path());
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(!up.status.success());
    assert!(said.contains("kubelet of node-1 ended: exit status 1"), "{said}");
    assert!(said.contains("maxPods"), "the kubelet's own words are missing: {said}");
    assert!(place.layout.log("node-1", "kubelet").exists(), "the log is gone");
    assert_eq!(leftovers(&place.layout).unwrap(), Vec::<String>::new());
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    if !possible() {
        return;
    }
    let place = Place::new();
    fs::create_dir_all(place.path().join("photos")).unwrap();
    for words in [&["up"][..], &["down"]] {
        let refused = tool(words, place.path());
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("not a cluster's"), "{said}");
    }
    assert!(place.path().join("photos").exists());
    fs::remove_dir_all(place.path()).unwrap();
}
