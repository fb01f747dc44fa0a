//! The document that `run --timeline` writes and pictures are drawn from: what happened to every
//! container, when, and what each start waited for.
//!
//! Times are seconds since [`Timeline::start`]. A later version of the format has another
//! [`VERSION`]; fields that are not known are ignored.

use std::collections::BTreeMap;

use holdfast_lifecycle::order::{Gate, Wait};
use holdfast_lifecycle::{HookKind, Kind, Plan, ProbeKind, ProbeResult};
use serde::{Deserialize, Serialize};

/// The version of the format that is written here.
pub const VERSION: u32 = 1;

/// What happened in a run, or would happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Always [`VERSION`].
    pub version: u32,
    /// When it began, in RFC 3339; none if the clock was virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The pods, in the order in which they came to be.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// What happened, by time.
    pub marks: Vec<Mark>,
    /// What is known beforehand of each container; empty for what did happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<Bounds>,
}

/// A pod of a [`Timeline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// `metadata.name`, or `namespace/name` if there are pods of several namespaces; no two pods have the
    /// same.
    pub name: String,
    /// When it came to be, in seconds.
    #[serde(default)]
    pub at: f64,
    /// Its containers in the order of the manifest, init containers first.
    pub containers: Vec<Container>,
}

/// A container of a [`Pod`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// `name`.
    pub name: String,
    /// How it takes part in the pod's life.
    pub kind: ContainerKind,
    /// `image`.
    #[serde(default)]
    pub image: String,
}

/// How a container takes part in the pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerKind {
    /// A plain init container.
    Init,
    /// A native sidecar.
    Sidecar,
    /// A container of `containers`.
    App,
    /// An ephemeral container.
    Ephemeral,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When, in seconds.
    pub at: f64,
    /// [`Pod::name`] of the pod.
    pub pod: String,
    /// The container; none if it is about the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Which run of the container, by its restart count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// What.
    #[serde(flatten)]
    pub step: Step,
}

/// What a [`Mark`] is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// The pod's sandbox is there.
    SandboxReady,
    /// The pod has another phase.
    Phase {
        /// `Running`, `Succeeded` or `Failed`.
        phase: String,
    },
    /// The image was asked for.
    Pull,
    /// The image is there.
    Pulled,
    /// The runtime was asked to start it.
    Start {
        /// What it had to wait for, in words.
        waited_for: String,
        /// The same, as what other containers had to reach.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        after: Vec<After>,
    },
    /// Its process runs.
    Running,
    /// It counts as started.
    Started,
    /// It counts as ready; without a container, the pod is Ready.
    Ready,
    /// It no longer counts as ready.
    Unready,
    /// A probe answered.
    Probe {
        /// Which.
        probe: ProbeName,
        /// Whether it passed; none if it could not be run, which does not count.
        passed: Option<bool>,
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A hook began.
    HookBegun {
        /// Which.
        hook: HookName,
    },
    /// A hook ended.
    HookEnded {
        /// Which.
        hook: HookName,
    },
    /// The stop signal was sent.
    Stop {
        /// Seconds from there to SIGKILL.
        grace_seconds: u64,
    },
    /// The process ended.
    Exited {
        /// Its exit code.
        exit_code: i32,
    },
    /// A start failed, or was put off.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeName {
    /// `startupProbe`.
    Startup,
    /// `readinessProbe`.
    Readiness,
    /// `livenessProbe`.
    Liveness,
}

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookName {
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

/// What another container had to reach first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct After {
    /// Its name.
    pub container: String,
    /// The last thing of it that was waited for.
    pub reached: Reached,
}

/// See [`After`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reached {
    /// It ended with 0: [`Step::Exited`].
    Exited,
    /// It counts as started: [`Step::Started`].
    Started,
    /// Its process runs: [`Step::Running`].
    Running,
    /// Its postStart hook ended: [`Step::HookEnded`].
    PostStart,
}

/// What is known of a container before anything has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// [`Pod::name`] of the pod.
    pub pod: String,
    /// The container; none for the pod itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What is bounded.
    pub what: Bounded,
    /// Not before, in seconds.
    pub earliest: f64,
    /// Not after, in seconds; none if nothing says so.
    pub latest: Option<f64>,
    /// In words: why, or by what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What [`Bounds`] are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bounded {
    /// The first start of its process.
    Start,
    /// It counts as started.
    Started,
    /// It counts as ready; of a pod, that it is Ready.
    Ready,
    /// A startup or liveness probe kills it.
    Kill,
    /// Its process ends; of a pod, that all of it has ended.
    End,
}

impl Pod {
    /// The pod that a plan is of.
    pub fn of(plan: &Plan) -> Self {
        let containers = plan.containers.iter().map(|c| Container {
            name: c.name.to_string(),
            kind: c.kind.into(),
            image: c.image.to_string(),
        });
        Self { name: plan.name.to_string(), at: 0.0, containers: containers.collect() }
    }
}

impl From<Kind> for ContainerKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Init => Self::Init,
            Kind::Sidecar => Self::Sidecar,
            Kind::Regular => Self::App,
            Kind::Ephemeral => Self::Ephemeral,
        }
    }
}

impl From<ProbeKind> for ProbeName {
    fn from(kind: ProbeKind) -> Self {
        match kind {
            ProbeKind::Startup => Self::Startup,
            ProbeKind::Readiness => Self::Readiness,
            ProbeKind::Liveness => Self::Liveness,
        }
    }
}

impl From<HookKind> for HookName {
    fn from(kind: HookKind) -> Self {
        match kind {
            HookKind::PostStart => Self::PostStart,
            HookKind::PreStop => Self::PreStop,
        }
    }
}

impl Step {
    /// A start that had to wait for these.
    pub fn start(plan: &Plan, waits: &[Wait]) -> Self {
        let name = |id| plan.container(id).name.to_string();
        let after = waits.iter().filter_map(|&wait| {
            let (id, reached) = match wait {
                Wait::Sandbox | Wait::BackOff => return None,
                Wait::Ended(id) => (id, Reached::Exited),
                Wait::Released(id, Gate::Process) => (id, Reached::Running),
                Wait::Released(id, Gate::PostStart) => (id, Reached::PostStart),
                Wait::Released(id, Gate::StartupProbe) => (id, Reached::Started),
                Wait::Begun { container, hook: false } => (container, Reached::Running),
                Wait::Begun { container, hook: true } => (container, Reached::PostStart),
            };
            Some(After { container: name(id), reached })
        });
        let after = after.collect();
        let waited_for = match waits {
            [] => "nothing".to_owned(),
            _ => holdfast_lifecycle::order::words(plan, waits),
        };
        Self::Start { waited_for, after }
    }

    /// The answer of a probe.
    pub fn probe(kind: ProbeKind, result: &ProbeResult) -> Self {
        let (passed, message) = match result {
            ProbeResult::Success => (Some(true), None),
            ProbeResult::Warning(m) => (Some(true), Some(m.clone())),
            ProbeResult::Failure(m) => (Some(false), Some(m.clone())),
            ProbeResult::Error(m) => (None, Some(m.clone())),
        };
        Self::Probe { probe: kind.into(), passed, message }
    }
}

/// Those of several workloads beside each other, each pod with a name of its own.
impl FromIterator<Timeline> for Timeline {
    fn from_iter<T: IntoIterator<Item = Self>>(parts: T) -> Self {
        let (pods, marks, bounds) = (Vec::<Pod>::new(), Vec::new(), Vec::new());
        let mut all = Self { version: VERSION, start: None, pods, marks, bounds };
        for mut part in parts {
            for pod in &mut part.pods {
                let free = |name: &String| all.pods.iter().all(|p| p.name != *name);
                let again = (2..).map(|n| format!("{} ({n})", pod.name));
                let name = std::iter::once(pod.name.clone()).chain(again).find(free);
                let new = name.unwrap_or_default();
                let old = std::mem::replace(&mut pod.name, new.clone());
                if old != new {
                    let marks = part.marks.iter_mut().map(|m| &mut m.pod);
                    let names = marks.chain(part.bounds.iter_mut().map(|b| &mut b.pod));
                    names.filter(|name| **name == old).for_each(|name| name.clone_from(&new));
                }
            }
            all.pods.append(&mut part.pods);
            all.marks.append(&mut part.marks);
            all.bounds.append(&mut part.bounds);
        }
        all.marks.sort_by(|a, b| a.at.total_cmp(&b.at));
        all
    }
}

/// A text that is no timeline.
#[derive(Debug, thiserror::Error)]
pub enum ParseTimelineError {
    /// Not the JSON of a timeline.
    #[error("not a timeline of `holdfast run --timeline`")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("a timeline of version {0}; this program knows version {VERSION}")]
    Version(u32),
}

impl Timeline {
    /// Reads a document.
    ///
    /// # Errors
    /// If it is none, or one of another version.
    pub fn parse(text: &str) -> Result<Self, ParseTimelineError> {
        let timeline: Self = serde_json::from_str(text)?;
        match timeline.version {
            VERSION => Ok(timeline),
            other => Err(ParseTimelineError::Version(other)),
        }
    }

    /// The document as text, with a line's end at its end.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: nothing that JSON cannot say.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }

    /// When the last thing happened, in seconds.
    pub fn end(&self) -> f64 {
        self.marks.iter().map(|m| m.at).fold(0.0, f64::max)
    }

    /// The marks of each container, by pod and name, in their order.
    pub fn by_container(&self) -> BTreeMap<(&str, &str), Vec<&Mark>> {
        let mut all: BTreeMap<_, Vec<&Mark>> = BTreeMap::new();
        for mark in &self.marks {
            if let Some(container) = &mark.container {
                all.entry((mark.pod.as_str(), container.as_str())).or_default().push(mark);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_of_the_same_name_stay_apart() {
        let of = |at| {
            let text = format!(
                r#"{{"version":1,"pods":[{{"name":"web","containers":[]}}],
                "marks":[{{"at":{at},"pod":"web","step":"sandboxReady"}}],
                "bounds":[{{"pod":"web","what":"ready","earliest":{at},"latest":null}}]}}"#
            );
            Timeline::parse(&text).unwrap()
        };
        let all: Timeline = [of(2), of(1)].into_iter().collect();
        let names: Vec<&str> = all.pods.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["web", "web (2)"]);
        let marks: Vec<_> = all.marks.iter().map(|m| (m.at, m.pod.as_str())).collect();
        assert_eq!(marks, [(1.0, "web (2)"), (2.0, "web")]);
        let bounds: Vec<_> = all.bounds.iter().map(|b| (b.earliest, b.pod.as_str())).collect();
        assert_eq!(bounds, [(2.0, "web"), (1.0, "web (2)")]);
    }
}
