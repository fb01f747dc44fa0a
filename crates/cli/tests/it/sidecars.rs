//! Native sidecars.

use serde_json::json;

use crate::objects::{With, c, pod, server, sidecar};
use crate::run::{Run, slack};

crate::tests! {
    stopped_last_and_in_reverse_order,
    exit_codes_do_not_count,
    restarted_whatever_the_policy,
    a_startup_probe_gates_what_follows,
    a_failing_startup_probe_restarts_it_for_ever,
    a_post_start_hook_gates_what_follows,
    without_probe_or_hook_the_process_is_enough,
    a_liveness_probe_restarts_it_alone,
    a_killed_sidecar_comes_back,
}

fn stopped_last_and_in_reverse_order() {
    let inits = vec![sidecar("s1"), sidecar("s2"), sidecar("s3")];
    let slow = "trap 'sleep 0.2; say $NAME down; exit 0' TERM; say $NAME up; sleep 1000 & wait";
    let inits = [inits, vec![c("s4", slow).with(json!({ "restartPolicy": "Always" }))]].concat();
    let app = c("app", "sleep 0.5; say app ends");
    let done = Run::of(&[pod("stop", "Never", inits, vec![app])]).done().code(0);
    let log = done.log();
    let expected = ["app ends", "s4 down", "s3 down", "s2 down", "s1 down"];
    assert_eq!(log[log.len() - 5..], expected, "{done:#?}");
}

fn exit_codes_do_not_count() {
    let bad = |name, code| {
        let script = format!("trap 'exit {code}' TERM; say $NAME up; sleep 1000 & wait");
        c(name, &script).with(json!({ "restartPolicy": "Always" }))
    };
    let inits = vec![bad("s1", 3), bad("s2", 143)];
    let done = Run::of(&[pod("codes", "Never", inits, vec![c("app", "sleep 0.3")])])
        .args("-o json")
        .done()
        .code(0);
    let status = &done.json()["items"][0]["status"];
    assert_eq!(status["phase"], "Succeeded");
    let exit = |i: usize| &status["initContainerStatuses"][i]["state"]["terminated"];
    assert_eq!((&exit(0)["exitCode"], &exit(0)["reason"]), (&json!(3), &json!("Error")));
    assert_eq!(exit(1)["exitCode"], 143);
}

fn restarted_whatever_the_policy() {
    let s = c("s", "say s; sleep 0.05").with(json!({ "restartPolicy": "Always" }));
    // There may be no log yet: then the test is an error, and no end of waiting.
    let app = c("app", "until [ $(grep -c '^s$' /log/log) -ge 2 ]; do sleep 0.05; done; say app");
    for policy in ["Never", "OnFailure"] {
        let done =
            Run::of(&[pod("again", policy, vec![s.clone()], vec![app.clone()])]).done().code(0);
        assert_eq!(done.log(), ["s", "s", "app"], "{policy}: {done:#?}");
    }
}

fn a_startup_probe_gates_what_follows() {
    let s = c("s", "trap 'exit 0' TERM; sleep 0.6; : > /log/ready; say s ready; sleep 1000 & wait").with(json!({
        "restartPolicy": "Always",
        "startupProbe": { "exec": { "command": ["test", "-e", "/log/ready"] }, "periodSeconds": 1 },
    }));
    let inits = vec![s, c("i", "say i")];
    let done = Run::of(&[pod("gate", "Never", inits, vec![c("app", "say app")])]).done().code(0);
    assert_eq!(done.log(), ["s ready", "i", "app"], "{done:#?}");
    assert!(done.said("Startup probe failed"), "{done:#?}");
}

fn a_failing_startup_probe_restarts_it_for_ever() {
    let s = server("s").with(json!({
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": { "command": ["false"] }, "periodSeconds": 1, "failureThreshold": 1,
        },
    }));
    let done = Run::of(&[pod("stuck", "Never", vec![s], vec![c("app", "say app")])])
        .args("--timeout 3500ms -o jsonl")
        .done()
        .code(124);
    let log = done.log();
    assert!(log.iter().filter(|l| *l == "s up").count() >= 2, "{log:?}");
    assert!(!log.contains(&"app".to_owned()), "{log:?}");
    let events = done.events();
    let alive = events.iter().filter(|e| e["object"]["metadata"]["deletionTimestamp"].is_null());
    assert!(alive.clone().count() > 2);
    for event in alive {
        assert_eq!(event["object"]["status"]["phase"], "Pending", "{event:#}");
    }
}

fn a_post_start_hook_gates_what_follows() {
    let s = sidecar("s").with(json!({
        "lifecycle": { "postStart": { "exec": { "command": ["sh", "-c", "sleep 0.4; echo hook >> /log/log"] } } },
    }));
    let done = Run::of(&[pod("hook", "Never", vec![s], vec![c("app", "say app")])]).done().code(0);
    assert_eq!(done.log(), ["s up", "hook", "app", "s down"], "{done:#?}");
}

fn without_probe_or_hook_the_process_is_enough() {
    let slack = slack().as_secs_f64();
    let slow = format!("trap 'exit 0' TERM; sleep {}; say s ready; sleep 1000 & wait", 0.5 + slack);
    let s = c("s", &slow).with(json!({ "restartPolicy": "Always" }));
    let app = c("app", &format!("say app; sleep {}", 0.8 + slack));
    let done = Run::of(&[pod("early", "Never", vec![s], vec![app])]).done().code(0);
    assert_eq!(done.log(), ["app", "s ready"], "{done:#?}");
}

fn a_liveness_probe_restarts_it_alone() {
    let s = sidecar("s").with(json!({
        "livenessProbe": {
            "exec": { "command": ["sh", "-c", "! test -e /log/sick || ! rm /log/sick"] },
            "periodSeconds": 1, "failureThreshold": 1,
        },
    }));
    let app = c(
        "app",
        "until grep -q 's up' /log/log; do sleep 0.05; done; say app; : > /log/sick; \
         while [ $(grep -c 's up' /log/log) -lt 2 ]; do sleep 0.05; done",
    );
    let done = Run::of(&[pod("live", "Never", vec![s], vec![app])]).done().code(0);
    assert_eq!(done.log(), ["s up", "app", "s down", "s up", "s down"], "{done:#?}");
    assert!(done.said("Liveness probe failed"), "{done:#?}");
}

fn a_killed_sidecar_comes_back() {
    let app = c("app", "while [ $(grep -c 's up' /log/log) -lt 2 ]; do sleep 0.05; done");
    let done = Run::of(&[pod("kill", "Never", vec![sidecar("s")], vec![app])])
        .args("--fault kill:s@s+400ms -o jsonl")
        .done()
        .code(0);
    assert_eq!(done.log(), ["s up", "s up", "s down"], "{done:#?}");
    let again = |event: &serde_json::Value| {
        let s = &event["object"]["status"]["initContainerStatuses"][0];
        s["restartCount"] == 1
            && s["state"]["running"].is_object()
            && s["lastState"]["terminated"]["exitCode"] == 137
    };
    assert!(done.events().iter().any(again), "{done:#?}");
}
