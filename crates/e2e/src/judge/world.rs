//! From what was seen of a pod on the kubelet to the lines of a trace: what happened outside of the
//! kubelet, what it decided, and what it published.

use std::collections::HashMap;

use serde_json::Value;

use super::pod::{Deed, Hook, Pod};
use super::reduce;
use super::watch::{Nanos, Seen, Sight};

/// Reasons of a container that has no image.
const IMAGE_REASONS: &[&str] =
    &["ErrImageNeverPull", "ErrImagePull", "InvalidImageName", "ImageInspectError"];

/// A pod's history.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// When the kubelet first saw the pod.
    pub(super) start: Nanos,
    /// What happened, with nanoseconds since the kubelet first saw the pod.
    pub(super) world: Vec<(Nanos, String)>,
    /// What was published.
    pub(super) states: Vec<State>,
}

/// A published state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) at: Nanos,
    pub(super) lines: Vec<String>,
}

/// Something that the judge did to the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) at: Nanos,
    pub(super) what: Deed,
}

/// Puts a history together. `trace` is what the containers wrote down.
pub(super) fn history(pod: &Pod, sights: &[Sight], trace: &str, done: &[Done]) -> History {
    let mut sights: Vec<&Sight> = sights.iter().collect();
    sights.sort_by_key(|s| s.at);
    let ends = hook_ends(trace);
    let failed = ends.iter().filter(|e| !e.well);
    let mut builder = Builder {
        failed_hooks: failed.map(|e| ((e.name.clone(), e.run), e.at)).collect(),
        pod,
        start: first_seen(&sights),
        messages: messages(&sights),
        done,
        runs: HashMap::new(),
        owners: HashMap::new(),
        sandboxes: Vec::new(),
        deleted: false,
        grace: sights.iter().find_map(grace).unwrap_or(0),
        history: History::default(),
    };
    for sight in &sights {
        builder.take(sight);
    }
    builder.hooks(ends);
    builder.deeds();
    builder.states(&sights);
    builder.history.world.sort_by_key(|(at, _)| *at);
    builder.history.start = builder.start;
    builder.history
}

struct Builder<'a> {
    pod: &'a Pod,
    start: Nanos,
    /// Termination messages and reasons by container id.
    messages: HashMap<String, (String, String)>,
    done: &'a [Done],
    /// How many runs each container had.
    runs: HashMap<String, usize>,
    /// Container and run of each id.
    owners: HashMap<String, (String, usize)>,
    sandboxes: Vec<String>,
    /// When postStart hooks failed, by container and run.
    failed_hooks: HashMap<(String, usize), Nanos>,
    deleted: bool,
    /// `deletionGracePeriodSeconds` as it was last asked for.
    grace: u64,
    history: History,
}

/// The end of a postStart hook that is a command, from the containers' own trace.
struct HookEnd {
    at: Nanos,
    name: String,
    run: usize,
    well: bool,
}

fn hook_ends(trace: &str) -> Vec<HookEnd> {
    let ends = trace.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [at, name, run, "postStart", "end", code] = words[..] else { return None };
        let (at, run) = (at.parse().ok()?, run.parse().ok()?);
        Some(HookEnd { at, name: name.to_owned(), run, well: code == "0" })
    });
    ends.collect()
}

/// `deletionGracePeriodSeconds`.
fn grace(sight: &&Sight) -> Option<u64> {
    match &sight.what {
        Seen::Object { object, .. } => object["metadata"]["deletionGracePeriodSeconds"].as_u64(),
        _ => None,
    }
}

/// When the kubelet first saw the pod.
fn first_seen(sights: &[&Sight]) -> Nanos {
    let add = sights
        .iter()
        .find(|s| matches!(&s.what, Seen::Log(l) if l.message == "SyncLoop ADD"))
        .or(sights.first());
    add.map_or(0, |s| s.at)
}

/// The end of every run, as the API has it: container id to reason and message.
fn messages(sights: &[&Sight]) -> HashMap<String, (String, String)> {
    let mut all = HashMap::new();
    for sight in sights {
        let Seen::Object { object, .. } = &sight.what else { continue };
        for field in ["initContainerStatuses", "containerStatuses"] {
            let list = object["status"][field].as_array().map_or(&[][..], Vec::as_slice);
            for ended in list.iter().flat_map(|s| [&s["state"], &s["lastState"]]) {
                let ended = &ended["terminated"];
                if let Some((_, id)) =
                    ended["containerID"].as_str().and_then(|id| id.split_once("//"))
                {
                    let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
                    all.insert(id.to_owned(), (text("reason"), text("message")));
                }
            }
        }
    }
    all
}

impl Builder<'_> {
    fn say(&mut self, at: Nanos, line: String) {
        self.history.world.push((at - self.start, line));
    }

    fn take(&mut self, sight: &Sight) {
        let at = sight.at;
        match &sight.what {
            Seen::Started { container: None, id } => self.sandboxes.push(id.clone()),
            Seen::Started { container: Some(name), id } => {
                let run = self.next_run(name);
                self.owners.insert(id.clone(), (name.clone(), run));
                self.say(at, format!("started {name} {run}"));
                if let Some(Hook::Sleep(seconds)) = self.container_hook(name) {
                    let end = at + Nanos::from(seconds) * 1_000_000_000;
                    self.say(end, format!("hook {name} {run} postStart ok"));
                }
            }
            Seen::Exited { id, code } => self.exited(at, id, *code),
            Seen::Object { deleted: true, .. } => self.say(at, "gone".to_owned()),
            Seen::Log(log) => self.log(at, log),
            Seen::Object { .. } => {
                // A second delete; the kubelet's own at the end has a grace of 0.
                if let Some(grace) = grace(&sight).filter(|g| *g > 0 && *g < self.grace) {
                    self.grace = grace;
                    self.say(at, format!("delete {grace}"));
                }
            }
            Seen::Row(_) => {}
        }
    }

    fn next_run(&mut self, name: &str) -> usize {
        let runs = self.runs.entry(name.to_owned()).or_default();
        *runs += 1;
        *runs - 1
    }

    fn container_hook(&self, name: &str) -> Option<Hook> {
        self.pod.containers.iter().find(|c| c.name == name)?.post
    }

    fn exited(&mut self, at: Nanos, id: &str, code: i32) {
        if self.sandboxes.iter().any(|s| s == id) {
            return;
        }
        let Some((name, run)) = self.owners.get(id).cloned() else { return };
        let mut line = format!("exited {name} {run} code {code}");
        if let Some((reason, message)) = self.messages.get(id) {
            if reason == "OOMKilled" {
                line.push_str(" OOMKilled");
            }
            if !message.is_empty() {
                line.push_str(&format!(" {}", Value::from(message.as_str())));
            }
        }
        self.say(at, line);
    }

    fn log(&mut self, at: Nanos, log: &super::klog::Klog) {
        let field = |name: &str| log.field(name).unwrap_or_default();
        let container = field("containerName");
        let run = self.runs.get(&container).map_or(0, |n| n - 1);
        match log.message.as_str() {
            "All volumes are attached and mounted for pod"
                if !self.history.world.iter().any(|(_, l)| l == "mounted") =>
            {
                self.say(at, "mounted".to_owned());
            }
            "Determined the ip for pod after sandbox changed" => {
                let ips = field("IPs");
                let ip = ips.trim_matches(['[', ']', '"'].as_slice());
                let ip = ip.split('"').next().unwrap_or_default().to_owned();
                let attempt = self.sandboxes.len().saturating_sub(1);
                self.say(at, format!("sandbox {attempt} {ip}"));
            }
            "Probe succeeded"
            | "Probe succeeded with a warning"
            | "Probe failed"
            | "Probe errored" => {
                let kind = field("probeType").to_lowercase();
                let answer = match log.message.as_str() {
                    "Probe failed" => format!("bad {}", Value::from(field("output"))),
                    "Probe errored" => format!("error {}", Value::from(field("err"))),
                    _ => "ok".to_owned(),
                };
                self.say(at, format!("probe {container} {run} {kind} {answer}"));
            }
            "PreStop hook failed" => {
                self.say(at, format!("hook {container} {run} preStop failed"));
            }
            // Also said of one that failed.
            "PreStop hook completed" => {
                let failed = format!("hook {container} {run} preStop failed");
                if !self.history.world.iter().any(|(_, line)| *line == failed) {
                    self.say(at, format!("hook {container} {run} preStop ok"));
                }
            }
            "Killing container with a grace period" => {
                let id = field("containerID");
                let id = id.rsplit('/').next().unwrap_or_default();
                let run = self.owners.get(id).map_or(run, |(_, run)| *run);
                self.say(at, format!("stop {container} {run} grace {}", field("gracePeriod")));
            }
            "Unhandled Error" => self.start_failed(at, &field("err")),
            // The second one says that the object is gone.
            "SyncLoop DELETE" if !std::mem::replace(&mut self.deleted, true) && self.grace > 0 => {
                self.say(at, format!("delete {}", self.grace));
            }
            _ => {}
        }
    }

    /// `container a start failed in pod NAME_NAMESPACE(UID): REASON: message`.
    fn start_failed(&mut self, at: Nanos, err: &str) {
        let Some((who, rest)) = err.split_once(" start failed in pod ") else { return };
        let name = who.rsplit(' ').next().unwrap_or_default().to_owned();
        let Some((reason, message)) = rest.split_once("): ").and_then(|(_, r)| r.split_once(": "))
        else {
            return;
        };
        let message = Value::from(message);
        let stage = match reason {
            "CreateContainerConfigError" => "config",
            "CreateContainerError" => "create",
            "RunContainerError" => "run",
            "PostStartHookError" => {
                // It says so when it has killed the container; the hook itself ended before.
                let run = self.runs.get(&name).map_or(0, |n| n - 1);
                let ended = self.failed_hooks.get(&(name.clone(), run)).copied();
                let at = ended.unwrap_or(at);
                self.say(at, format!("hook {name} {run} postStart failed {message}"));
                return;
            }
            reason if IMAGE_REASONS.contains(&reason) => {
                self.say(at, format!("pull-failed {name} {reason} {message}"));
                return;
            }
            _ => return,
        };
        // Only the last of these leaves a run behind.
        if stage == "run" {
            self.next_run(&name);
        }
        self.say(at, format!("start-failed {name} {stage} {message}"));
    }

    /// postStart hooks that ended well.
    fn hooks(&mut self, ends: Vec<HookEnd>) {
        for end in ends.into_iter().filter(|e| e.well) {
            self.say(end.at, format!("hook {} {} postStart ok", end.name, end.run));
        }
    }

    fn deeds(&mut self) {
        for done in self.done {
            match done.what {
                Deed::RestartKubelet => self.say(done.at, "kubelet-restarted".to_owned()),
                // With everything in it: what ends, ends because of it.
                Deed::LoseSandbox | Deed::KillPause => self.say(done.at, "sandbox-lost".to_owned()),
                Deed::Delete(_) => {}
            }
        }
    }

    /// What was published, with the row that kubectl printed for it.
    fn states(&mut self, sights: &[&Sight]) {
        let rows: Vec<&[String; 3]> = sights
            .iter()
            .filter_map(|s| if let Seen::Row(row) = &s.what { Some(row) } else { None })
            .collect();
        let objects = sights.iter().filter_map(|s| match &s.what {
            Seen::Object { object, .. } => Some((s.at, object)),
            _ => None,
        });
        for (n, (at, object)) in objects.enumerate() {
            if object["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
                // Not scheduled yet.
                continue;
            }
            let deletion = object["metadata"]["deletionGracePeriodSeconds"].as_u64();
            if deletion == Some(0) && self.grace == 0 {
                // It was over when it was deleted: the API server takes it away by itself.
                continue;
            }
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            let mut lines: Vec<String> =
                reduce::pod(object).iter().map(|l| l.replace(uid, "UID")).collect();
            // The kubelet takes the object away with a second delete, of grace 0.
            for line in lines.iter_mut().filter(|l| *l == "deleting 0") {
                *line = format!("deleting {}", self.grace);
            }
            lines.extend(rows.get(n).map(|row| format!("row {}", row.join(" "))));
            if self.history.states.last().is_none_or(|last| last.lines != lines) {
                self.history.states.push(State { at: at - self.start, lines });
            }
        }
        for (_, line) in &mut self.history.world {
            if let Some(uid) = sights.iter().find_map(|s| match &s.what {
                Seen::Object { object, .. } => object["metadata"]["uid"].as_str(),
                _ => None,
            }) {
                *line = line.replace(uid, "UID");
            }
        }
    }
}
