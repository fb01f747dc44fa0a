//! Manifests of the tests. Containers are shell scripts on the host's files that can `say` words into a
//! log that all of them share, so that their real order can be seen.

use serde_json::{Value, json};

const PRELUDE: &str = "say() { echo \"$@\" >> /log/log; }; ";
/// A server: says `NAME up`, and on SIGTERM `NAME down` before it ends.
const SERVER: &str = "trap 'say $NAME down; exit 0' TERM; say $NAME up; sleep 1000 & wait";

/// A container with this script; `$NAME` is its name.
pub fn c(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": "host",
        "command": ["sh", "-c", format!("{PRELUDE}{script}")],
        "env": [{ "name": "NAME", "value": name }],
        "volumeMounts": [{ "name": "log", "mountPath": "/log" }],
    })
}

/// A container that runs until it is told to stop.
pub fn server(name: &str) -> Value {
    c(name, SERVER)
}

/// The same as a native sidecar.
pub fn sidecar(name: &str) -> Value {
    server(name).with(json!({ "restartPolicy": "Always" }))
}

/// A pod of these init containers and containers.
pub fn pod(name: &str, policy: &str, inits: Vec<Value>, containers: Vec<Value>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 5,
            "initContainers": inits,
            "containers": containers,
            "volumes": [{ "name": "log", "hostPath": { "path": "{DIR}/log" } }],
        },
    })
}

/// A Job of such a pod.
pub fn job(name: &str, spec: Value, pod: Value) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": { "template": { "spec": pod["spec"] } },
    })
    .with(json!({ "spec": spec }))
}

/// Changes to a manifest.
pub trait With {
    /// Objects are merged, lists are joined, everything else is replaced.
    fn with(self, changes: Value) -> Self;
    /// The same on a pod's `spec`.
    fn spec(self, changes: Value) -> Self;
}

impl With for Value {
    fn with(mut self, changes: Value) -> Self {
        merge(&mut self, changes);
        self
    }

    fn spec(self, changes: Value) -> Self {
        self.with(json!({ "spec": changes }))
    }
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(to), Value::Array(from)) => to.extend(from),
        (to, from) => *to = from,
    }
}
