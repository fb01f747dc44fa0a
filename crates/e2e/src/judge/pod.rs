//! Pods whose containers follow scripts: what a scenario or the random generator writes down, and the
//! manifest that it becomes.
//!
//! Every container runs `holdfast-actor`, which finds its steps in its arguments and shares one
//! directory with the judge (`hostPath`), where it leaves its trace.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The image of the actor.
pub(super) const IMAGE: &str = "judge.local/actor:1";
/// Where the pods are.
pub(super) const NAMESPACE: &str = "judge";
/// Where the shared directory is inside.
const SHARED: &str = "/judge";
/// The first port of the actors: on the host's network each container of each pod needs its own.
const FIRST_PORT: u16 = 20_000;
/// Ports of one container: HTTP, gRPC and one for each probe by TCP.
const PORTS_EACH: u16 = 5;
/// Containers of a pod have their ports side by side; pods are this far apart.
const PORTS_OF_POD: u16 = 50;
/// How many pods can be told apart by their ports.
pub(super) const SLOTS: u16 = 400;

/// A pod, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    /// `restartPolicy`.
    pub(super) policy: Policy,
    /// `terminationGracePeriodSeconds`.
    pub(super) grace: Option<u64>,
    /// `activeDeadlineSeconds`.
    pub(super) deadline: Option<u64>,
    /// Init containers and sidecars in order, then regular containers.
    pub(super) containers: Vec<Container>,
    pub(super) acts: Vec<Act>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Policy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    Sidecar,
    App,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The steps of each run of the actor; the last ones serve for the rest.
    pub(super) runs: Vec<Vec<String>>,
    /// Its own `restartPolicy` (not of a sidecar).
    pub(super) policy: Option<Policy>,
    /// `restartPolicyRules` with action Restart: exit codes.
    pub(super) rules: Vec<Rule>,
    pub(super) startup: Option<Probe>,
    pub(super) readiness: Option<Probe>,
    pub(super) liveness: Option<Probe>,
    pub(super) post: Option<Hook>,
    pub(super) pre: Option<Hook>,
    pub(super) fault: Option<StartFault>,
    /// `terminationMessagePolicy: FallbackToLogsOnError`.
    pub(super) message_from_logs: bool,
}

/// One `restartPolicyRules` entry with action `Restart`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) negated: bool,
    pub(super) codes: Vec<u8>,
}

/// A probe. What is answered stands in the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) by: By,
    pub(super) delay: u64,
    pub(super) period: u64,
    pub(super) timeout: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    /// `terminationGracePeriodSeconds`.
    pub(super) grace: Option<u64>,
}

/// How a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Exec,
    Http,
    Tcp,
    Grpc,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// A command that takes so many milliseconds and ends with this code.
    Exec(u64, u8),
    /// `sleep`, in seconds.
    Sleep(u64),
    /// `httpGet` to the container itself.
    Http,
}

/// Why a container cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartFault {
    /// `imagePullPolicy: Never` and no such image.
    NeverPull,
    /// An image name that is none.
    InvalidName,
    /// A registry that does not exist.
    NoRegistry,
    /// A registry that refuses connections at once. The other is looked for until that times out, and holds
    /// up everything else of its pod for ten seconds, which come at another time on each side.
    Refused,
    /// `envFrom` a ConfigMap that does not exist.
    NoConfigMap,
    /// A command that is not in the image.
    NoCommand,
}

/// Something that is done to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// Container and run whose start it is counted from; `None` is the creation of the pod.
    pub(super) since: Option<(String, usize)>,
    pub(super) millis: u64,
    pub(super) what: Deed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A delete with this grace period, or the pod's own.
    Delete(Option<u64>),
    /// The sandbox is killed behind the kubelet's back, with everything in it.
    LoseSandbox,
    /// The process that holds the sandbox is killed, and nothing else.
    KillPause,
    /// The kubelet is killed and started again.
    RestartKubelet,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Deed::Delete(None) => "deleted".to_owned(),
            Deed::Delete(Some(grace)) => format!("deleted with a grace period of {grace} s"),
            Deed::LoseSandbox => "the sandbox is lost with everything in it".to_owned(),
            Deed::KillPause => "the sandbox's own process is killed".to_owned(),
            Deed::RestartKubelet => "the kubelet is restarted".to_owned(),
        };
        match &self.since {
            Some((name, run)) => {
                write!(f, "{what} {} ms after the start of run {run} of {name}", self.millis)
            }
            None => write!(f, "{what} {} ms after it was made", self.millis),
        }
    }
}

impl Policy {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::OnFailure => "OnFailure",
            Self::Never => "Never",
        }
    }
}

impl Pod {
    /// The manifest. `dir` is the directory shared with the containers, `slot` keeps the ports of pods
    /// apart.
    pub(super) fn manifest(&self, dir: &Path, slot: u16) -> Value {
        let first = FIRST_PORT + slot % SLOTS * PORTS_OF_POD;
        let list = |inits: bool| -> Vec<Value> {
            let containers = self.containers.iter().zip((first..).step_by(usize::from(PORTS_EACH)));
            containers
                .filter(|(c, _)| (c.kind != Kind::App) == inits)
                .map(|(c, port)| c.manifest(port))
                .collect()
        };
        let mut spec = Map::new();
        spec.insert("restartPolicy".into(), self.policy.text().into());
        if let Some(grace) = self.grace {
            spec.insert("terminationGracePeriodSeconds".into(), grace.into());
        }
        if let Some(deadline) = self.deadline {
            spec.insert("activeDeadlineSeconds".into(), deadline.into());
        }
        // A token would be one more volume, which only one side has.
        spec.insert("automountServiceAccountToken".into(), false.into());
        let inits = list(true);
        if !inits.is_empty() {
            spec.insert("initContainers".into(), inits.into());
        }
        spec.insert("containers".into(), list(false).into());
        spec.insert("volumes".into(), json!([{"name": "judge", "hostPath": {"path": dir}}]));
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": self.name},
            "spec": spec,
        })
    }
}

impl Pod {
    /// Whether the kubelet is restarted under it.
    pub(super) fn restarts_kubelet(&self) -> bool {
        self.acts.iter().any(|a| a.what == Deed::RestartKubelet)
    }
}

impl Container {
    pub(super) fn new(kind: Kind, name: &str, steps: &str) -> Self {
        let words = steps.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let runs = words.split(|w| w == "/").map(<[String]>::to_vec).collect();
        Self {
            name: name.to_owned(),
            kind,
            runs,
            policy: None,
            rules: Vec::new(),
            startup: None,
            readiness: None,
            liveness: None,
            post: None,
            pre: None,
            fault: None,
            message_from_logs: false,
        }
    }

    pub(super) fn probes(&self) -> [(&'static str, Option<Probe>); 3] {
        [("startup", self.startup), ("readiness", self.readiness), ("liveness", self.liveness)]
    }

    /// The arguments of the actor.
    fn args(&self, port: u16) -> Vec<String> {
        let mut args = vec!["main".to_owned(), self.name.clone(), SHARED.to_owned()];
        let by = |by| self.probes().into_iter().any(|(_, p)| p.is_some_and(|p| p.by == by));
        if by(By::Http) || self.pre == Some(Hook::Http) || self.post == Some(Hook::Http) {
            args.push(format!("http={port}"));
        }
        if by(By::Grpc) {
            args.push(format!("grpc={}", port + 1));
        }
        for (at, (name, probe)) in (2..).zip(self.probes()) {
            if probe.is_some_and(|p| p.by == By::Tcp) {
                args.push(format!("tcp={name}:{}", port + at));
            }
        }
        for (at, run) in self.runs.iter().enumerate() {
            if at > 0 {
                args.push("/".to_owned());
            }
            args.extend(run.iter().cloned());
        }
        args
    }

    fn manifest(&self, port: u16) -> Value {
        let mut c = Map::new();
        let mut set = |name: &str, value: Value| drop(c.insert(name.to_owned(), value));
        set("name", self.name.clone().into());
        let (image, pull) = match self.fault {
            Some(StartFault::NeverPull) => ("judge.local/none:1", "Never"),
            Some(StartFault::InvalidName) => ("Judge.local//none", "IfNotPresent"),
            Some(StartFault::NoRegistry) => ("registry.invalid/none:1", "IfNotPresent"),
            Some(StartFault::Refused) => ("127.0.0.1:1/none:1", "IfNotPresent"),
            _ => (IMAGE, "Never"),
        };
        set("image", image.into());
        set("imagePullPolicy", pull.into());
        if self.fault == Some(StartFault::NoCommand) {
            set("command", json!(["/nothing"]));
        }
        set("args", self.args(port).into());
        if self.fault == Some(StartFault::NoConfigMap) {
            set("envFrom", json!([{"configMapRef": {"name": "missing"}}]));
        }
        match self.kind {
            Kind::Sidecar => set("restartPolicy", "Always".into()),
            _ => {
                if let Some(policy) = self.policy {
                    set("restartPolicy", policy.text().into());
                }
            }
        }
        if !self.rules.is_empty() {
            set("restartPolicyRules", self.rules.iter().map(Rule::manifest).collect());
        }
        for (at, (name, probe)) in (2..).zip(self.probes()) {
            if let Some(probe) = probe {
                set(&format!("{name}Probe"), self.probe(name, probe, port, port + at));
            }
        }
        let hooks: Map<String, Value> = [("postStart", self.post), ("preStop", self.pre)]
            .into_iter()
            .filter_map(|(name, hook)| Some((name.to_owned(), self.hook(name, hook?, port))))
            .collect();
        if !hooks.is_empty() {
            set("lifecycle", hooks.into());
        }
        if self.message_from_logs {
            set("terminationMessagePolicy", "FallbackToLogsOnError".into());
        }
        set("volumeMounts", json!([{"name": "judge", "mountPath": SHARED}]));
        c.into()
    }

    fn probe(&self, name: &str, probe: Probe, port: u16, tcp: u16) -> Value {
        let mut p = Map::new();
        let mut set = |name: &str, value: Value| drop(p.insert(name.to_owned(), value));
        match probe.by {
            By::Exec => {
                set("exec", json!({"command": ["/actor", "probe", self.name, SHARED, name]}))
            }
            By::Http => set("httpGet", json!({"port": port, "path": format!("/{name}")})),
            By::Tcp => set("tcpSocket", json!({"port": tcp})),
            By::Grpc => set("grpc", json!({"port": port + 1, "service": name})),
        }
        for (field, value, default) in [
            ("initialDelaySeconds", probe.delay, 0),
            ("periodSeconds", probe.period, 10),
            ("timeoutSeconds", probe.timeout, 1),
            ("successThreshold", probe.successes, 1),
            ("failureThreshold", probe.failures, 3),
        ] {
            if value != default {
                set(field, value.into());
            }
        }
        if let Some(grace) = probe.grace {
            set("terminationGracePeriodSeconds", grace.into());
        }
        p.into()
    }

    fn hook(&self, name: &str, hook: Hook, port: u16) -> Value {
        match hook {
            Hook::Exec(millis, code) => {
                let (millis, code) = (millis.to_string(), code.to_string());
                json!({"exec": {"command": ["/actor", "hook", self.name, SHARED, name, millis, code]}})
            }
            Hook::Sleep(seconds) => json!({"sleep": {"seconds": seconds}}),
            Hook::Http => json!({"httpGet": {"port": port, "path": format!("/{name}")}}),
        }
    }
}

impl Rule {
    fn manifest(&self) -> Value {
        let operator = if self.negated { "NotIn" } else { "In" };
        json!({"action": "Restart", "exitCodes": {"operator": operator, "values": self.codes}})
    }
}

impl Default for Probe {
    /// Every two seconds, and one failure counts.
    fn default() -> Self {
        Self {
            by: By::Exec,
            delay: 0,
            period: 2,
            timeout: 1,
            successes: 1,
            failures: 1,
            grace: None,
        }
    }
}
