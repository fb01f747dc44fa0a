//! The pods that are run, as JSON manifests (which are YAML too).

use serde_json::{Value, json};

/// A program that ends at once, with 0.
pub(crate) const TRUE: [&str; 1] = ["/bin/true"];

/// A container that runs `command`.
pub(crate) fn container(name: &str, image: &str, command: &[&str]) -> Value {
    json!({ "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": command })
}

/// `count` containers `word-0`, `word-1`, … that run `command`.
pub(crate) fn containers(word: &str, count: usize, image: &str, command: &[&str]) -> Vec<Value> {
    (0..count).map(|at| container(&format!("{word}-{at}"), image, command)).collect()
}

/// A pod of these containers that is over when they are.
pub(crate) fn pod(name: &str, inits: Vec<Value>, containers: Vec<Value>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "initContainers": inits,
            "containers": containers,
        },
    })
}

/// A native sidecar that is started when `probe` succeeds.
pub(crate) fn sidecar(name: &str, image: &str, command: &[&str], probe: &[&str]) -> Value {
    let mut c = container(name, image, command);
    c["restartPolicy"] = json!("Always");
    c["startupProbe"] = json!({ "exec": { "command": probe }, "periodSeconds": 1 });
    c
}

/// Documents of one file.
pub(crate) fn file(objects: &[Value]) -> String {
    objects.iter().map(|o| format!("---\n{o}\n")).collect()
}
