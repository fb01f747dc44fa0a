//! The labels by which Holdfast knows what it has made, and tells it from what belongs to others.

use std::collections::HashMap;

use crate::contract::{ContainerConfig, SandboxConfig};

/// On everything that `holdfast run` makes.
const MANAGED: (&str, &str) = ("io.holdfast.managed-by", "holdfast-run");
/// Which run has made it.
const RUN: &str = "io.holdfast.run";
/// Which pod it belongs to.
const POD: &str = "io.holdfast.pod.uid";
/// Which start of a container it is.
const INSTANCE: &str = "io.holdfast.instance";

/// What the kubelet writes, and what tools such as `crictl` show.
const KUBERNETES_POD_NAME: &str = "io.kubernetes.pod.name";
const KUBERNETES_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const KUBERNETES_POD_UID: &str = "io.kubernetes.pod.uid";
const KUBERNETES_CONTAINER_NAME: &str = "io.kubernetes.container.name";

fn map<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Those of a sandbox, the pod's own among them.
pub(super) fn of_sandbox(run: &str, config: &SandboxConfig) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> =
        config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.extend(map([
        MANAGED,
        (RUN, run),
        (POD, &config.pod),
        (KUBERNETES_POD_NAME, &config.name),
        (KUBERNETES_POD_NAMESPACE, &config.namespace),
        (KUBERNETES_POD_UID, &config.pod),
    ]));
    labels
}

/// Those of a container in the sandbox with these labels.
pub(super) fn of_container(
    run: &str,
    sandbox: &HashMap<String, String>,
    config: &ContainerConfig,
) -> HashMap<String, String> {
    let mut labels = map([
        MANAGED,
        (RUN, run),
        (POD, &config.pod),
        (INSTANCE, &config.instance.0.to_string()),
        (KUBERNETES_POD_UID, &config.pod),
        (KUBERNETES_CONTAINER_NAME, &config.name),
    ]);
    for key in [KUBERNETES_POD_NAME, KUBERNETES_POD_NAMESPACE] {
        labels.extend(sandbox.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    labels
}

/// Selects what one run has made.
pub(super) fn of_run(run: &str) -> HashMap<String, String> {
    map([MANAGED, (RUN, run)])
}

/// Selects what belongs to one pod of a run.
pub(super) fn of_pod(run: &str, pod: &str) -> HashMap<String, String> {
    map([MANAGED, (RUN, run), (POD, pod)])
}

/// Selects one start of a container.
pub(super) fn of_instance(run: &str, instance: u64) -> HashMap<String, String> {
    map([MANAGED, (RUN, run), (INSTANCE, &instance.to_string())])
}

/// Which run has made something, if it is ours.
pub(super) fn run_of(labels: &HashMap<String, String>) -> Option<&str> {
    labels
        .get(MANAGED.0)
        .filter(|value| *value == MANAGED.1)
        .and_then(|_| labels.get(RUN))
        .map(String::as_str)
}

/// Whether it looks like a kubelet's.
pub(super) fn is_of_kubelet(labels: &HashMap<String, String>) -> bool {
    !labels.contains_key(MANAGED.0) && labels.contains_key(KUBERNETES_POD_UID)
}
