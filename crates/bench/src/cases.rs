//! Pods whose containers write down what they see, so that two runners can be compared by what
//! really happened.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::manifests::{container, pod};
use crate::podman::IMAGE;

/// A pod, and what its log says when it is run as the kubelet would.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The promise that is at stake.
    pub(crate) what: &'static str,
    /// The pod's name.
    pub(crate) name: &'static str,
    inits: Vec<Value>,
    apps: Vec<Value>,
    policy: &'static str,
    /// The lines of the log in order.
    pub(crate) expected: &'static [&'static str],
    /// The pod is deleted after this time if it has not ended.
    pub(crate) limit: Duration,
}

/// A container that runs a script.
fn script(name: &str, text: &str) -> Value {
    let say = "say() { echo \"$*\" >> /log/log; }; ";
    let mut c = container(name, IMAGE, &["/bin/sh", "-c", &format!("{say}{text}")]);
    c["volumeMounts"] = json!([{ "name": "log", "mountPath": "/log" }]);
    c
}

fn with(mut c: Value, fields: Value) -> Value {
    if let (Some(c), Value::Object(fields)) = (c.as_object_mut(), fields) {
        c.extend(fields);
    }
    c
}

fn exec(text: &str) -> Value {
    json!({ "exec": { "command": ["/bin/sh", "-c", text] } })
}

/// Ends at SIGTERM, and says so.
const SERVE: &str = "trap 'say stopped; exit 0' TERM; say up; while :; do sleep 0.1; done";

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let limit = Duration::from_secs(6);
    let always = json!({ "restartPolicy": "Always" });
    let fails_once =
        "if test -e /log/once; then say works; else touch /log/once; say fails; exit 1; fi";
    vec![
        Case {
            what: "plain init containers run one after the other, before the app",
            name: "order",
            inits: vec![script("one", "sleep 0.3; say one"), script("two", "say two")],
            apps: vec![script("app", "say app")],
            policy: "Never",
            expected: &["one", "two", "app"],
            limit,
        },
        Case {
            what: "native sidecar: an init container with `restartPolicy: Always` does not hold the app back for ever, and is stopped after it",
            name: "sidecar",
            inits: vec![with(script("sidecar", SERVE), always.clone())],
            apps: vec![script("app", "sleep 0.5; say app")],
            policy: "Never",
            expected: &["up", "app", "stopped"],
            limit,
        },
        Case {
            what: "the startupProbe of a sidecar holds the app back until it succeeds",
            name: "startup",
            inits: vec![with(
                script(
                    "sidecar",
                    "sleep 1; touch /log/ready; say ready; while :; do sleep 0.1; done",
                ),
                json!({
                    "restartPolicy": "Always",
                    "startupProbe": with(exec("test -e /log/ready"), json!({ "periodSeconds": 1 })),
                }),
            )],
            apps: vec![script(
                "app",
                "if test -e /log/ready; then say app in time; else say app too early; fi",
            )],
            policy: "Never",
            expected: &["ready", "app in time"],
            limit,
        },
        Case {
            what: "an init container that fails under `restartPolicy: Never` fails the pod: the app never starts",
            name: "never",
            inits: vec![script("init", "say init fails; exit 1")],
            apps: vec![script("app", "say app")],
            policy: "Never",
            expected: &["init fails"],
            limit,
        },
        Case {
            what: "an init container that fails under `restartPolicy: OnFailure` is tried again before the app",
            name: "retry",
            inits: vec![script("init", fails_once)],
            apps: vec![script("app", "say app")],
            policy: "OnFailure",
            expected: &["fails", "works", "app"],
            limit,
        },
        Case {
            what: "an app that fails under `restartPolicy: OnFailure` is started again",
            name: "again",
            inits: vec![],
            apps: vec![script("app", fails_once)],
            policy: "OnFailure",
            expected: &["fails", "works"],
            limit,
        },
        Case {
            what: "a postStart hook runs, and holds the next container back",
            name: "hook",
            inits: vec![],
            apps: vec![
                with(
                    script("app-0", "sleep 2"),
                    json!({ "lifecycle": { "postStart": exec("sleep 0.5; echo hook >> /log/log") } }),
                ),
                script("app-1", "say second"),
            ],
            policy: "Never",
            expected: &["hook", "second"],
            limit,
        },
        Case {
            what: "a container that is taken down: first its preStop hook, then SIGTERM, then its grace period",
            name: "stop",
            inits: vec![],
            apps: vec![with(
                script("app", SERVE),
                json!({ "lifecycle": { "preStop": exec("echo hook >> /log/log") } }),
            )],
            policy: "Never",
            expected: &["up", "hook", "stopped"],
            limit: Duration::from_secs(2),
        },
    ]
}

impl Case {
    /// The manifest; its containers write to `log` in this directory.
    pub(crate) fn manifest(&self, dir: &Path) -> Value {
        let mut pod = pod(self.name, self.inits.clone(), self.apps.clone());
        let spec = &mut pod["spec"];
        spec["hostNetwork"] = json!(true);
        spec["restartPolicy"] = json!(self.policy);
        spec["terminationGracePeriodSeconds"] = json!(2);
        spec["volumes"] =
            json!([{ "name": "log", "hostPath": { "path": dir, "type": "Directory" } }]);
        pod
    }
}

/// The lines that containers wrote.
pub(crate) fn log(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
