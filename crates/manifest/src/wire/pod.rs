//! A Pod with its status.

use std::net::IpAddr;
use std::time::Duration;

use holdfast_lifecycle::status::{Condition, ContainerStatus, State, Terminated};
use holdfast_lifecycle::{PodStatus, Time};
use serde_json::{Map, Value, json};

use super::{optional_time, put, qos_class, time, word};
use crate::object::Pod;

/// The node that the pod runs on.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `spec.nodeName` of a pod that names none.
    pub name: String,
    /// `status.hostIPs`; the first is `status.hostIP`.
    pub ips: Vec<IpAddr>,
    /// What container ids begin with, such as `holdfast://`.
    pub container_id_prefix: String,
}

/// A delete that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub at: Time,
    /// With which grace period.
    pub grace: Duration,
}

/// A pod whose metadata and spec are JSON already, so that every status after the first is cheap.
#[derive(Clone, Debug)]
pub struct PodJson {
    metadata: Map<String, Value>,
    spec: Value,
    qos: &'static str,
    host_network: bool,
    node: Node,
}

/// The pod with this status, in the order of fields that the API server uses.
pub fn pod_json(pod: &Pod, status: &PodStatus, node: &Node, deletion: Option<Deletion>) -> Value {
    PodJson::new(pod, node).with(status, deletion)
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
            spec: Value::Object(spec),
            qos: qos_class(&pod.spec).as_str(),
            host_network: pod.spec.host_network,
            node: node.clone(),
        }
    }

    /// The pod with this status.
    pub fn with(&self, status: &PodStatus, deletion: Option<Deletion>) -> Value {
        let mut metadata = self.metadata.clone();
        if let Some(Deletion { at, grace }) = deletion {
            // The API's deletionTimestamp is when the object is expected to be gone.
            metadata.insert("deletionTimestamp".to_owned(), time(at + grace));
            let seconds = Value::from(grace.as_secs());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": self.spec,
            "status": self.status(status),
        })
    }

    fn status(&self, status: &PodStatus) -> Value {
        let mut out = Map::new();
        put(&mut out, "phase", status.phase.as_str());
        if !status.conditions.is_empty() {
            let conditions = status.conditions.iter().map(condition).collect();
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
                out.insert(field.to_owned(), list.iter().map(|c| self.container(c)).collect());
            }
        }
        put(&mut out, "qosClass", self.qos);
        if !status.ephemeral.is_empty() {
            let list = status.ephemeral.iter().map(|c| self.container(c)).collect();
            out.insert("ephemeralContainerStatuses".to_owned(), list);
        }
        Value::Object(out)
    }

    fn container(&self, status: &ContainerStatus) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &status.name);
        out.insert("state".to_owned(), self.state(&status.state));
        let last = match &status.last_state {
            Some(last) => json!({ "terminated": self.terminated(last) }),
            None => json!({}),
        };
        out.insert("lastState".to_owned(), last);
        out.insert("ready".to_owned(), Value::from(status.ready));
        out.insert("restartCount".to_owned(), Value::from(status.restart_count));
        out.insert("image".to_owned(), Value::from(&*status.image));
        out.insert("imageID".to_owned(), Value::from(&*status.image_id));
        if let Some(instance) = status.instance {
            out.insert("containerID".to_owned(), self.id(instance.0));
        }
        if let Some(started) = status.started {
            out.insert("started".to_owned(), Value::from(started));
        }
        Value::Object(out)
    }

    fn id(&self, instance: u64) -> Value {
        Value::String(format!("{}{instance:016x}", self.node.container_id_prefix))
    }

    fn state(&self, state: &State) -> Value {
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
            State::Terminated(terminated) => {
                json!({ "terminated": self.terminated(terminated) })
            }
        }
    }

    fn terminated(&self, terminated: &Terminated) -> Value {
        let mut out = Map::new();
        out.insert("exitCode".to_owned(), Value::from(terminated.exit_code));
        put(&mut out, "reason", &terminated.reason);
        put(&mut out, "message", &terminated.message);
        out.insert("startedAt".to_owned(), optional_time(terminated.started_at));
        out.insert("finishedAt".to_owned(), optional_time(terminated.finished_at));
        if let Some(instance) = terminated.instance {
            out.insert("containerID".to_owned(), self.id(instance.0));
        }
        Value::Object(out)
    }
}

fn addresses(out: &mut Map<String, Value>, one: &str, all: &str, ips: &[IpAddr]) {
    if let Some(first) = ips.first() {
        out.insert(one.to_owned(), Value::String(first.to_string()));
        let list = ips.iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
        out.insert(all.to_owned(), list);
    }
}

fn condition(condition: &Condition) -> Value {
    let mut out = Map::new();
    put(&mut out, "type", condition.kind.as_str());
    put(&mut out, "status", word(condition.status));
    out.insert("lastProbeTime".to_owned(), Value::Null);
    out.insert("lastTransitionTime".to_owned(), time(condition.last_transition));
    put(&mut out, "reason", &condition.reason);
    put(&mut out, "message", &condition.message);
    Value::Object(out)
}
