//! How runs end: hooks, the termination order, grace periods, signals, `--timeout` and `--for`.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::objects::{With, c, job, pod, server, sidecar};
use crate::run::{Run, slack};

crate::tests! {
    apps_wait_for_the_post_start_hook_of_the_one_before,
    a_failed_post_start_hook_restarts_the_container,
    pre_stop_runs_before_sigterm,
    the_grace_period_ends_with_sigkill,
    a_hook_uses_up_the_grace_period,
    sigint_stops_in_the_termination_order,
    sigterm_and_sighup_stop_too,
    ctrl_c_of_a_terminal_reaches_holdfast_alone,
    a_second_sigint_kills,
    a_timeout_stops_everything,
    for_ready,
    for_ready_waits_for_the_readiness_probe,
    for_complete,
    a_failed_pod_is_exit_code_one,
    a_job_succeeds_after_a_retry,
    a_failed_job_is_exit_code_one,
    an_active_deadline_stops_the_pod,
    a_crash_loop_backs_off,
    an_oom_kill_says_so,
    a_restarted_runtime_goes_on,
    a_restart_starts_nothing_twice,
    a_fault_that_strikes_nothing_says_so,
    for_complete_needs_something_that_ends,
    faults_that_strike_while_others_do,
}

fn apps_wait_for_the_post_start_hook_of_the_one_before() {
    let a = c("a", &format!("say a; sleep {}", 0.8 + slack().as_secs_f64())).with(json!({
        "lifecycle": { "postStart": { "exec": { "command": ["sh", "-c", "sleep 0.4; echo hook >> /log/log"] } } },
    }));
    let done = Run::of(&[pod("hook", "Never", vec![], vec![a, c("b", "say b")])]).done().code(0);
    assert_eq!(done.log(), ["a", "hook", "b"], "{done:#?}");
}

fn a_failed_post_start_hook_restarts_the_container() {
    let app = server("app").with(json!({
        "lifecycle": { "postStart": { "exec": { "command": ["sh", "-c", "test -e /log/tried || { : > /log/tried; exit 7; }"] } } },
    }));
    let done = Run::of(&[pod("hook", "Always", vec![], vec![app])])
        .args("--for condition=Ready")
        .done()
        .code(0);
    assert_eq!(done.log().iter().filter(|l| *l == "app up").count(), 2, "{done:#?}");
    assert!(done.said("FailedPostStartHook"), "{done:#?}");
}

fn pre_stop_runs_before_sigterm() {
    let hook = |name| {
        let echo = format!("echo {name} preStop >> /log/log; sleep 0.1");
        json!({ "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", echo] } } } })
    };
    let app = server("app").with(hook("app"));
    let live =
        Run::of(&[pod("pre", "Always", vec![sidecar("s").with(hook("s"))], vec![app])]).start();
    live.row("2/2 Running");
    live.logged("s up");
    live.logged("app up");
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    // The hooks of all begin at once, the signals follow the order.
    done.logged_in_order(&["app preStop", "app down", "s down"]);
    done.logged_in_order(&["s preStop", "app down", "s down"]);
}

/// Does not end on SIGTERM.
const DEAF: &str = "trap 'say $NAME heard' TERM; say $NAME up; while :; do sleep 0.05; done";

fn the_grace_period_ends_with_sigkill() {
    let p = pod("deaf", "Always", vec![], vec![c("app", DEAF)])
        .spec(json!({ "terminationGracePeriodSeconds": 2 }));
    let done = Run::of(&[p]).args("--timeout 700ms -o json").done().code(124);
    done.logged_in_order(&["app up", "app heard"]);
    let app = &done.json()["items"][0]["status"]["containerStatuses"][0];
    assert_eq!(app["state"]["terminated"]["exitCode"], 137);
    let took = done.took.saturating_sub(slack()).as_secs_f64();
    assert!((2.6..4.0 + slack().as_secs_f64()).contains(&took), "{took}");
}

fn a_hook_uses_up_the_grace_period() {
    let app = server("app").with(json!({
        "lifecycle": { "preStop": { "exec": { "command": ["sleep", "60"] } } },
    }));
    let p = pod("hook", "Always", vec![], vec![app])
        .spec(json!({ "terminationGracePeriodSeconds": 1 }));
    let done = Run::of(&[p]).args("--timeout 500ms").done().code(124);
    // The hook is cut at 1 s; then SIGTERM with the 2 s that are always left.
    assert_eq!(done.log(), ["app up", "app down"], "{done:#?}");
    let took = done.took.saturating_sub(slack()).as_secs_f64();
    assert!((1.4..3.5 + slack().as_secs_f64()).contains(&took), "{took}");
    // A CRI runtime tells the end of the hook's command after that of its container, when nobody may be
    // there any more to hear it.
    let late = crate::containerd::current().is_some();
    assert!(late || done.said("FailedPreStopHook"), "{done:#?}");
}

fn sigint_stops_in_the_termination_order() {
    let inits = vec![sidecar("s1"), sidecar("s2")];
    let slow = "trap 'sleep 0.3; say app down; exit 0' TERM; say app up; sleep 1000 & wait";
    let live = Run::of(&[pod("order", "Always", inits, vec![c("app", slow)])]).start();
    live.row("3/3 Running");
    ["s1 up", "s2 up", "app up"].into_iter().for_each(|line| live.logged(line));
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    let log = done.log();
    assert_eq!(log[log.len() - 3..], ["app down", "s2 down", "s1 down"], "{done:#?}");
    assert!(done.rows("order").iter().any(|r| r.ends_with(" Terminating")), "{done:#?}");
    assert!(done.said("stopping; Ctrl-C again kills"), "{done:#?}");
}

fn sigterm_and_sighup_stop_too() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let live = Run::of(&[pod("sig", "Always", vec![], vec![server("app")])]).start();
        live.row("1/1 Running");
        // Before it has got that far, the first process of a container does not hear a signal.
        live.logged("app up");
        live.signal(signal);
        let done = live.done().code(130);
        assert_eq!(done.log(), ["app up", "app down"], "{done:#?}");
    }
}

/// A terminal sends SIGINT to the whole foreground group; containers must not see it.
fn ctrl_c_of_a_terminal_reaches_holdfast_alone() {
    for isolation in ["auto", "none"] {
        let script = "trap 'echo int' INT; trap 'echo term; exit 0' TERM; echo up; \
                      while :; do sleep 0.05; done";
        let mut app = c("app", script);
        app["volumeMounts"] = json!([]);
        let mut p = pod("tty", "Always", vec![], vec![app]);
        p["spec"]["volumes"] = json!([]);
        let live = Run::of(&[p]).args(&format!("--isolation {isolation}")).start_group();
        live.err("[tty/app] up");
        let group = Pid::from_raw(live.child.id() as i32);
        killpg(group, Signal::SIGINT).unwrap();
        let done = live.done().code(130);
        assert_eq!(done.written("tty", "app"), ["up", "term"], "{isolation}: {done:#?}");
    }
}

fn a_second_sigint_kills() {
    let p = pod("kill", "Always", vec![sidecar("s")], vec![c("app", DEAF)])
        .spec(json!({ "terminationGracePeriodSeconds": 600 }));
    let live = Run::of(&[p]).start();
    live.row("2/2 Running");
    live.logged("app up");
    live.signal(Signal::SIGINT);
    live.err("stopping");
    live.logged("app heard");
    let second = Instant::now();
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    assert!(second.elapsed() < Duration::from_secs(2) + slack(), "{:?}", second.elapsed());
    done.logged_in_order(&["app up", "app heard"]);
    assert!(!done.log().contains(&"s down".to_owned()), "killed, not stopped: {:?}", done.log());
}

fn a_timeout_stops_everything() {
    let done = Run::of(&[pod("late", "Always", vec![sidecar("s")], vec![server("app")])])
        .args("--timeout 800ms -o json")
        .done()
        .code(124);
    let log = done.log();
    assert_eq!(log[log.len() - 2..], ["app down", "s down"], "{done:#?}");
    let pod = &done.json()["items"][0];
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    assert!(done.said("timed out"), "{done:#?}");
}

fn for_ready() {
    let pods = [
        pod("one", "Always", vec![], vec![server("app")]),
        pod("two", "Always", vec![c("i", "sleep 0.5; say i")], vec![server("late")]),
    ];
    let done = Run::of(&pods).args("--for condition=Ready").done().code(0);
    done.logged_in_order(&["i", "late up"]);
    done.logged_in_order(&["app up", "app down"]);
    assert_eq!(done.log().iter().filter(|l| l.ends_with(" down")).count(), 2, "{done:#?}");
}

fn for_ready_waits_for_the_readiness_probe() {
    let app = c("app", "trap 'exit 0' TERM; sleep 0.7; : > /log/ready; say ready; sleep 1000 & wait").with(json!({
        "readinessProbe": { "exec": { "command": ["test", "-e", "/log/ready"] }, "periodSeconds": 1 },
    }));
    let done = Run::of(&[pod("ready", "Always", vec![], vec![app])])
        .args("--for condition=Ready")
        .done()
        .code(0);
    assert_eq!(done.log(), ["ready"]);
    let rows = done.rows("ready");
    let at = |row: &str| rows.iter().position(|r| r == row).unwrap_or_else(|| panic!("{done:#?}"));
    assert!(at("0/1 Running") < at("1/1 Running"), "{rows:?}");
}

fn for_complete() {
    let short = pod("short", "Never", vec![], vec![c("app", "say short")]);
    let work = job(
        "work",
        json!({ "completions": 2 }),
        pod("", "Never", vec![], vec![c("w", "say work")]),
    );
    // Without the condition this would go on: a pod is waited for, a Deployment is not.
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": pod("", "Always", vec![], vec![server("web")])["spec"],
            },
        },
    });
    let done = Run::of(&[short, work, web]).args("--for condition=Complete").done().code(0);
    let count = |word: &str| done.log().iter().filter(|l| *l == word).count();
    assert_eq!((count("short"), count("work"), count("web down")), (1, 2, 1), "{done:#?}");
}

/// What one fault kept from the engine was lost by the next: the pod then stood still for ever.
fn faults_that_strike_while_others_do() {
    let names = ["a", "b", "d", "e", "f", "g"];
    let many = pod("web", "Always", vec![], names.map(server).to_vec());
    let mut run = Run::of(&[many]).args("--timeout 1500ms");
    for at in (300..360).step_by(4) {
        let kind = if at % 8 == 0 { "sandbox-lost" } else { "daemon-restart" };
        run = run.args(&format!("--fault {kind}@a+{at}ms"));
    }
    let done = run.done().code(124);
    assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
}

/// It would hold before anything has run.
fn for_complete_needs_something_that_ends() {
    let spec = pod("web", "Always", vec![], vec![server("a")])["spec"].clone();
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": spec },
        },
    });
    let done = Run::of(&[web]).args("--for condition=Complete").done().code(2);
    assert!(done.said("nothing else ever completes"), "{done:#?}");
}

fn a_failed_pod_is_exit_code_one() {
    let pods = [
        pod("good", "Never", vec![], vec![c("app", "sleep 0.2")]),
        pod("bad", "Never", vec![], vec![c("app", "exit 4")]),
    ];
    let done = Run::of(&pods).done().code(1);
    assert!(done.said("pod/bad failed") && !done.said("pod/good failed"), "{done:#?}");
    assert_eq!(done.rows("bad").last().unwrap(), "0/1 Error");
    assert_eq!(done.rows("good").last().unwrap(), "0/1 Completed");
}

fn a_job_succeeds_after_a_retry() {
    let worker = c("w", "say try; test -e /log/tried || { : > /log/tried; exit 3; }");
    let done = Run::of(&[job("work", json!({}), pod("", "OnFailure", vec![], vec![worker]))])
        .args("-o json")
        .done()
        .code(0);
    assert_eq!(done.log(), ["try", "try"]);
    let items = done.json();
    let job = &items["items"][0];
    assert_eq!((&job["kind"], &job["status"]["succeeded"]), (&json!("Job"), &json!(1)));
}

fn a_failed_job_is_exit_code_one() {
    let p = pod("", "Never", vec![], vec![c("w", "say try; exit 3")]);
    let done = Run::of(&[job("work", json!({ "backoffLimit": 0 }), p)]).done().code(1);
    assert_eq!(done.log(), ["try"]);
    assert!(done.said("job/work failed") && done.said("BackoffLimitExceeded"), "{done:#?}");
}

fn an_active_deadline_stops_the_pod() {
    let p = pod("late", "Always", vec![], vec![server("app")])
        .spec(json!({ "activeDeadlineSeconds": 1 + slack().as_secs() }));
    let done = Run::of(&[p]).args("-o json").done().code(1);
    assert_eq!(done.log(), ["app up", "app down"], "{done:#?}");
    let status = &done.json()["items"][0]["status"];
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
}

fn a_crash_loop_backs_off() {
    let done = Run::of(&[pod("crash", "Always", vec![], vec![c("app", "say try; exit 1")])])
        .args("--timeout 1500ms")
        .done()
        .code(124);
    // At once the first time, after 10 s the second.
    assert_eq!(done.log(), ["try", "try"], "{done:#?}");
    let rows = done.rows("crash");
    assert!(rows.contains(&"0/1 CrashLoopBackOff".to_owned()), "{rows:?}");
    let event =
        "pod/crash: BackOff: Back-off restarting failed container app in pod crash_default(";
    assert!(done.said(event), "{done:#?}");
}

fn an_oom_kill_says_so() {
    let done = Run::of(&[pod("oom", "Never", vec![], vec![server("app")])])
        .args("--fault oom:app@400ms -o json")
        .done()
        .code(1);
    let end = &done.json()["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(137), &json!("OOMKilled")));
}

fn a_restarted_runtime_goes_on() {
    let app = c("app", "say app; sleep 1.2; say end");
    let done = Run::of(&[pod("go", "Never", vec![c("i", "say i")], vec![app])])
        .args("--fault runtime-restart@500ms")
        .done()
        .code(0);
    assert_eq!(done.log(), ["i", "app", "end"], "{done:#?}");
}

/// It strikes each pod in another step of its start.
fn a_restart_starts_nothing_twice() {
    let pods = (0..25).map(|number| {
        let name = |step: &str| format!("{step}-{number}");
        let wait = c(&name("w"), &format!("sleep 0.{:03}; say w-{number}", number * 12));
        let init = |step: &str| c(&name(step), &format!("say {step}-{number}"));
        let app = c(&name("app"), &format!("say app-{number}; sleep 0.1"));
        pod(&name("p"), "Never", vec![wait, init("i"), init("j")], vec![app])
    });
    let pods: Vec<_> = pods.collect();
    for strike in [60, 200, 400] {
        let fault = format!("--fault runtime-restart@{strike}ms");
        let done = Run::of(&pods).args(&fault).done().code(0);
        let mut log = done.log();
        log.sort();
        let all = log.len();
        log.dedup();
        assert_eq!((all, log.len()), (100, 100), "{done:#?}");
    }
}

fn a_fault_that_strikes_nothing_says_so() {
    let p = pod("late", "Never", vec![c("i", "sleep 0.8")], vec![c("app", "say app")]);
    let done = Run::of(&[p]).args("--fault kill:app@300ms").done().code(0);
    assert!(done.said("--fault kill:app struck nothing"), "{done:#?}");
    assert_eq!(done.log(), ["app"]);
}
