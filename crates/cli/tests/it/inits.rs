//! What init containers promise.

use serde_json::json;

use crate::objects::{With, c, pod, server, sidecar};
use crate::run::Run;

crate::tests! {
    inits_run_one_by_one_to_completion_before_any_container,
    a_failed_init_is_retried,
    on_failure_retries_too,
    never_fails_the_pod,
    a_policy_of_its_own_wins,
    a_lost_sandbox_runs_them_again,
    an_app_that_restarts_does_not_run_them_again,
    an_old_docker_daemon_runs_everything_at_once,
}

fn inits_run_one_by_one_to_completion_before_any_container() {
    let slow = |name| c(name, "say $NAME begins; sleep 0.2; say $NAME ends");
    let inits = vec![slow("i1"), slow("i2"), slow("i3")];
    let apps = vec![c("a", "say a"), c("b", "sleep 0.2; say b")];
    let done = Run::of(&[pod("order", "Never", inits, apps)]).done().code(0);
    let log = done.log();
    let expected =
        ["i1 begins", "i1 ends", "i2 begins", "i2 ends", "i3 begins", "i3 ends", "a", "b"];
    assert_eq!(log, expected, "{done:#?}");
    let rows = done.rows("order");
    let expected = ["0/2 Pending", "0/2 Init:0/3", "0/2 Init:1/3", "0/2 Init:2/3"];
    assert_eq!(rows[..4], expected, "{done:#?}");
    assert_eq!(rows.last().unwrap(), "0/2 Completed");
}

/// Fails the first time, succeeds the second.
const SECOND_TIME: &str = "say $NAME; test -e /log/tried || { : > /log/tried; exit 3; }";

fn a_failed_init_is_retried() {
    let init = c("i", SECOND_TIME);
    let next = c("next", "say next");
    // Ready when it listens to SIGTERM, which is not the moment it is started.
    let app = server("app").with(json!({
        "readinessProbe": { "exec": { "command": ["grep", "-q", "up", "/log/log"] }, "periodSeconds": 1 },
    }));
    let done = Run::of(&[pod("retry", "Always", vec![init, next], vec![app])])
        .args("--for condition=Ready")
        .done()
        .code(0);
    assert_eq!(done.log(), ["i", "i", "next", "app up", "app down"], "{done:#?}");
    let rows = done.rows("retry");
    assert!(rows.contains(&"0/1 Init:Error".to_owned()), "{rows:?}");
    assert!(rows.contains(&"1/1 Running".to_owned()), "{rows:?}");
}

fn on_failure_retries_too() {
    let done =
        Run::of(&[pod("retry", "OnFailure", vec![c("i", SECOND_TIME)], vec![c("app", "say app")])])
            .args("-o json")
            .done()
            .code(0);
    assert_eq!(done.log(), ["i", "i", "app"], "{done:#?}");
    let status = &done.json()["items"][0]["status"];
    let init = &status["initContainerStatuses"][0];
    assert_eq!(init["restartCount"], 1);
    assert_eq!(init["state"]["terminated"]["exitCode"], 0);
    // Of the ended runs the kubelet keeps the newest (trace `init-retries-on-failure`).
    assert!(init["lastState"]["terminated"].is_null(), "{init}");
    assert_eq!(status["phase"], "Succeeded");
}

fn never_fails_the_pod() {
    let inits = vec![c("i", "say i; exit 3"), c("j", "say j")];
    let done = Run::of(&[pod("never", "Never", inits, vec![c("app", "say app")])]).done().code(1);
    assert_eq!(done.log(), ["i"], "{done:#?}");
    assert_eq!(done.rows("never").last().unwrap(), "0/1 Init:Error", "{done:#?}");
    assert!(done.said("pod/never failed"), "{done:#?}");
}

fn a_policy_of_its_own_wins() {
    let init = c("i", SECOND_TIME).with(json!({ "restartPolicy": "OnFailure" }));
    let done =
        Run::of(&[pod("own", "Never", vec![init], vec![c("app", "say app")])]).done().code(0);
    assert_eq!(done.log(), ["i", "i", "app"], "{done:#?}");
}

fn a_lost_sandbox_runs_them_again() {
    let init = |name| c(name, "say $NAME");
    let inits = vec![init("i1"), sidecar("proxy"), init("i2")];
    // Ends by itself in its second life.
    let app = c("app", "say app; test -e /log/again && exit 0; : > /log/again; sleep 1000");
    let done = Run::of(&[pod("reboot", "OnFailure", inits, vec![app])])
        .args("--fault sandbox-lost@700ms -o json")
        .done()
        .code(0);
    let round = ["i1", "i2", "app"];
    let log = done.log();
    let without: Vec<_> = log.iter().filter(|l| !l.starts_with("proxy")).collect();
    assert_eq!(without, [round, round].concat(), "{done:#?}");
    assert_eq!(log.iter().filter(|l| *l == "proxy up").count(), 2, "{log:?}");
    // And it came before what follows it, both times.
    done.logged_in_order(&["i1", "app", "i1", "proxy up", "app", "proxy down"]);
    let status = &done.json()["items"][0]["status"];
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
}

fn an_app_that_restarts_does_not_run_them_again() {
    let done =
        Run::of(&[pod("once", "OnFailure", vec![c("i", "say i")], vec![c("app", SECOND_TIME)])])
            .done()
            .code(0);
    assert_eq!(done.log(), ["i", "app", "app"], "{done:#?}");
}

/// The fault that "what init containers promise" is about: the order is not kept.
fn an_old_docker_daemon_runs_everything_at_once() {
    let inits = vec![c("i1", "say i1; sleep 0.3; say i1 done")];
    let app = c("app", "say app; test -e /log/again && exit 0; : > /log/again; sleep 1000");
    let done = Run::of(&[pod("docker", "OnFailure", inits, vec![app])])
        .args("--fault daemon-restart@900ms")
        .done()
        .code(0);
    let log = done.log();
    assert_eq!(log[..3], ["i1", "i1 done", "app"], "{done:#?}");
    let (app, init) =
        (log.iter().rposition(|l| l == "app"), log.iter().rposition(|l| l == "i1 done"));
    assert!(app < init || init == Some(1), "the app waited for the init container: {log:?}");
}
