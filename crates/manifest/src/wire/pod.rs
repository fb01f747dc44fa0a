//! A Pod with its status.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use holdfast_lifecycle::status::{Condition, ContainerStatus, InstanceId, State, Terminated};
use holdfast_lifecycle::{PodStatus, Time};
use serde_json::{Map, Value, json};

use super::{optional_time, put, qos_class, time, word};
use crate::object::Pod;
use crate::object::container::{Container, VolumeMount};

/// The node that the pod runs on.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `spec.nodeName` of a pod that names none.
    pub name: String,
    /// `status.hostIPs`; the first is `status.hostIP`.
    pub ips: Vec<IpAddr>,
    /// The Kubernetes minor version whose fields a status has.
    pub kubernetes: u32,
}

/// What the runtime calls a run of a container, such as `containerd://4f0c…`, if it has made one.
pub type ContainerIds<'a> = &'a dyn Fn(InstanceId) -> Option<String>;

/// What the API server adds to an object that it stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// `metadata.resourceVersion`: another one for each change.
    pub resource_version: u64,
    /// The delete that was asked for, if any.
    pub deletion: Option<Deletion>,
}

/// A delete that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub at: Time,
    /// With which grace period; none any more once the pod is gone.
    pub grace: Duration,
}

/// From this minor version on a status says which generation it is about
/// (PodObservedGenerationTracking).
const OBSERVED_GENERATION: u32 = 34;
/// From this one on it says what a container was given (InPlacePodVerticalScaling).
const RESOURCES: u32 = 33;
/// From this one on it lists the mounts of a container (RecursiveReadOnlyMounts).
const VOLUME_MOUNTS: u32 = 31;

/// A pod whose metadata and spec are JSON already, so that every status after the first is cheap.
#[derive(Clone, Debug)]
pub struct PodJson {
    metadata: Map<String, Value>,
    generation: i64,
    spec: Value,
    /// What the status of each container repeats of its spec.
    containers: HashMap<String, Repeated>,
    qos: &'static str,
    host_network: bool,
    node: Node,
}

/// `resources` and `volumeMounts` of a container status.
#[derive(Clone, Debug)]
struct Repeated {
    resources: Value,
    mounts: Option<Value>,
}

impl Repeated {
    fn of(container: &Container) -> Self {
        let mounts = container.volume_mounts.iter().map(mount).collect::<Vec<_>>();
        Self {
            resources: serde_json::to_value(&container.resources).unwrap_or_default(),
            mounts: (!mounts.is_empty()).then_some(Value::Array(mounts)),
        }
    }
}

/// A mount as a status shows it (kubelet: `convertToAPIContainerStatuses`).
fn mount(mount: &VolumeMount) -> Value {
    let mut out = Map::new();
    put(&mut out, "name", &mount.name);
    put(&mut out, "mountPath", &mount.mount_path);
    if mount.read_only {
        out.insert("readOnly".to_owned(), Value::Bool(true));
        // What is possible is done.
        let asked = mount.recursive_read_only.as_deref().is_some_and(|mode| mode != "Disabled");
        put(&mut out, "recursiveReadOnly", if asked { "Enabled" } else { "Disabled" });
    }
    Value::Object(out)
}

/// The pod with this status, in the order of fields that the API server uses.
pub fn pod_json(
    pod: &Pod,
    status: &PodStatus,
    node: &Node,
    stored: Stored,
    ids: ContainerIds<'_>,
) -> Value {
    PodJson::new(pod, node).with(status, stored, ids)
}

impl PodJson {
    /// Prepares a pod.
    pub fn new(pod: &Pod, node: &Node) -> Self {
        // The objects hold nothing that JSON cannot hold: strings, numbers, lists and string keys.
        let object = |value: serde_json::Result<Value>| match value {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let mut spec = object(serde_json::to_value(&pod.spec));
        if pod.spec.node_name.is_empty() && !node.name.is_empty() {
            spec.insert("nodeName".to_owned(), Value::from(node.name.as_str()));
        }
        Self {
            metadata: object(serde_json::to_value(&pod.metadata)),
            generation: pod.metadata.generation.max(1),
            spec: Value::Object(spec),
            containers: pod
                .spec
                .init_containers
                .iter()
                .chain(&pod.spec.containers)
                .chain(&pod.spec.ephemeral_containers)
                .map(|container| (container.name.clone(), Repeated::of(container)))
                .collect(),
            qos: qos_class(&pod.spec).as_str(),
            host_network: pod.spec.host_network,
            node: node.clone(),
        }
    }

    /// The pod with this status.
    pub fn with(&self, status: &PodStatus, stored: Stored, ids: ContainerIds<'_>) -> Value {
        let mut metadata = self.metadata.clone();
        let version = Value::String(stored.resource_version.to_string());
        metadata.insert("resourceVersion".to_owned(), version);
        let mut generation = self.generation;
        if let Some(Deletion { at, grace }) = stored.deletion {
            // A delete is a change of what is wanted (registry/rest: `BeforeDelete`).
            generation += 1;
            // The API's deletionTimestamp is when the object is expected to be gone.
            metadata.insert("deletionTimestamp".to_owned(), time(at + grace));
            let seconds = Value::from(grace.as_secs());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds);
        }
        metadata.insert("generation".to_owned(), Value::from(generation));
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": self.spec,
            "status": self.status(status, generation, ids),
        })
    }

    fn status(&self, status: &PodStatus, generation: i64, ids: ContainerIds<'_>) -> Value {
        let mut out = Map::new();
        // Only the kubelet says what it has seen, from its first status on.
        let seen = status.start_time.is_some() && self.node.kubernetes >= OBSERVED_GENERATION;
        let generation = seen.then_some(generation);
        if let Some(generation) = generation {
            out.insert("observedGeneration".to_owned(), Value::from(generation));
        }
        put(&mut out, "phase", status.phase.as_str());
        if !status.conditions.is_empty() {
            let conditions = status.conditions.iter().map(|c| condition(c, generation)).collect();
            out.insert("conditions".to_owned(), conditions);
        }
        put(&mut out, "message", &status.message);
        put(&mut out, "reason", &status.reason);
        // The kubelet publishes addresses with its first status.
        if status.start_time.is_some() {
            addresses(&mut out, "hostIP", "hostIPs", &self.node.ips);
            let host = self.host_network.then(|| self.node.ips.first().copied()).flatten();
            let ip = status.pod_ip.or(host);
            addresses(&mut out, "podIP", "podIPs", ip.as_slice());
        }
        if let Some(start) = status.start_time {
            out.insert("startTime".to_owned(), time(start));
        }
        for (field, list) in
            [("initContainerStatuses", &status.init), ("containerStatuses", &status.regular)]
        {
            if !list.is_empty() {
                out.insert(field.to_owned(), list.iter().map(|c| self.container(c, ids)).collect());
            }
        }
        put(&mut out, "qosClass", self.qos);
        if !status.ephemeral.is_empty() {
            let list = status.ephemeral.iter().map(|c| self.container(c, ids)).collect();
            out.insert("ephemeralContainerStatuses".to_owned(), list);
        }
        Value::Object(out)
    }

    fn container(&self, status: &ContainerStatus, ids: ContainerIds<'_>) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &status.name);
        out.insert("state".to_owned(), state(&status.state, ids));
        let last = match &status.last_state {
            Some(last) => json!({ "terminated": terminated(last, ids) }),
            None => json!({}),
        };
        out.insert("lastState".to_owned(), last);
        out.insert("ready".to_owned(), Value::from(status.ready));
        out.insert("restartCount".to_owned(), Value::from(status.restart_count));
        out.insert("image".to_owned(), Value::from(&*status.image));
        out.insert("imageID".to_owned(), Value::from(&*status.image_id));
        if let Some(id) = status.instance.and_then(ids) {
            out.insert("containerID".to_owned(), Value::String(id));
        }
        if let Some(started) = status.started {
            out.insert("started".to_owned(), Value::from(started));
        }
        if let Some(repeated) = self.containers.get(&*status.name) {
            if self.node.kubernetes >= RESOURCES && status.instance.is_some() {
                out.insert("resources".to_owned(), repeated.resources.clone());
            }
            if let Some(mounts) = &repeated.mounts
                && self.node.kubernetes >= VOLUME_MOUNTS
            {
                out.insert("volumeMounts".to_owned(), mounts.clone());
            }
        }
        Value::Object(out)
    }
}

fn state(state: &State, ids: ContainerIds<'_>) -> Value {
    match state {
        State::Waiting { reason, message } => {
            let mut out = Map::new();
            put(&mut out, "reason", reason);
            put(&mut out, "message", message);
            json!({ "waiting": out })
        }
        State::Running { started_at } => {
            json!({ "running": { "startedAt": time(*started_at) } })
        }
        State::Terminated(ended) => {
            json!({ "terminated": terminated(ended, ids) })
        }
    }
}

fn terminated(terminated: &Terminated, ids: ContainerIds<'_>) -> Value {
    let mut out = Map::new();
    out.insert("exitCode".to_owned(), Value::from(terminated.exit_code));
    put(&mut out, "reason", &terminated.reason);
    put(&mut out, "message", &terminated.message);
    out.insert("startedAt".to_owned(), optional_time(terminated.started_at));
    out.insert("finishedAt".to_owned(), optional_time(terminated.finished_at));
    if let Some(id) = terminated.instance.and_then(ids) {
        out.insert("containerID".to_owned(), Value::String(id));
    }
    Value::Object(out)
}

fn addresses(out: &mut Map<String, Value>, one: &str, all: &str, ips: &[IpAddr]) {
    if let Some(first) = ips.first() {
        out.insert(one.to_owned(), Value::String(first.to_string()));
        let list = ips.iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
        out.insert(all.to_owned(), list);
    }
}

fn condition(condition: &Condition, generation: Option<i64>) -> Value {
    let mut out = Map::new();
    put(&mut out, "type", condition.kind.as_str());
    if let Some(generation) = generation {
        out.insert("observedGeneration".to_owned(), Value::from(generation));
    }
    put(&mut out, "status", word(condition.status));
    out.insert("lastProbeTime".to_owned(), Value::Null);
    out.insert("lastTransitionTime".to_owned(), time(condition.last_transition));
    put(&mut out, "reason", &condition.reason);
    put(&mut out, "message", &condition.message);
    Value::Object(out)
}
