//! What is taken for granted of containers: `--assume CONTAINER.WHAT=VALUE`.
//!
//! Nothing else is known of them. A duration that no assumption gives is unknown, not a guess.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holdfast_lifecycle::{ContainerId, Kind, Plan};

use crate::span::{ParseSpanError, Span};
use crate::subject::{Hook, Subject};

/// One `--assume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assume {
    /// The pod or workload that the container is of; any if `None`.
    pub workload: Option<String>,
    /// The container; `*` is every one.
    pub container: String,
    /// What is assumed of it.
    pub what: What,
}

/// What is assumed of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `start`: from the request for it until its process runs; a pull is part of it.
    Start(Span),
    /// `ready`: from the start of its process until what its probes ask for is there. Before that they
    /// fail, after it they pass. `None` is never.
    Ready(Option<Span>),
    /// `exits`: from the start of its process until it ends by itself, and its exit code. `None` is
    /// never.
    Exits(Option<(Span, i32)>),
    /// `needs`: if this other container is not ready (by its own `ready`) when the process starts, it
    /// ends at once with 1.
    Needs(String),
    /// `stops`: from the stop signal until it ends, and its exit code if that is said.
    Stops(Span, Option<i32>),
    /// `postStart`: how long the hook takes.
    PostStart(Span),
    /// `preStop`: how long the hook takes.
    PreStop(Span),
}

/// Why an assumption cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAssumeError {
    /// Not in the form.
    #[error(
        "invalid assumption {0:?}: expected CONTAINER.WHAT=VALUE, such as web.ready=5s, migrate.exits=2s:1, \
         web.ready=never, app.needs=web, *.start=0s..2s, app.stops=1s, app.stops=1s:0, app.postStart=1s or \
         app.preStop=1s"
    )]
    Form(String),
    /// A time in it is none.
    #[error("in the assumption {text:?}: {cause}")]
    Time {
        /// The assumption.
        text: String,
        /// What is wrong.
        cause: ParseSpanError,
    },
}

impl FromStr for Assume {
    type Err = ParseAssumeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseAssumeError::Form(text.to_owned());
        let (left, value) = text.split_once('=').ok_or_else(form)?;
        let (name, what) = left.rsplit_once('.').ok_or_else(form)?;
        let (workload, container) = match name.rsplit_once('/') {
            Some((workload, container)) => (Some(workload.to_owned()), container),
            None => (None, name),
        };
        if container.is_empty() || workload.as_ref().is_some_and(String::is_empty) {
            return Err(form());
        }
        let span = |value: &str| {
            value.parse().map_err(|cause| ParseAssumeError::Time { text: text.to_owned(), cause })
        };
        let what = match what {
            "start" => What::Start(span(value)?),
            "ready" if value == "never" => What::Ready(None),
            "ready" => What::Ready(Some(span(value)?)),
            "exits" if value == "never" => What::Exits(None),
            "exits" => {
                let (after, code) = with_code(value).ok_or_else(form)?;
                What::Exits(Some((span(after)?, code.unwrap_or(0))))
            }
            "needs" if !value.is_empty() => What::Needs(value.to_owned()),
            "stops" => {
                let (after, code) = with_code(value).ok_or_else(form)?;
                What::Stops(span(after)?, code)
            }
            "postStart" => What::PostStart(span(value)?),
            "preStop" => What::PreStop(span(value)?),
            _ => return Err(form()),
        };
        Ok(Self { workload, container: container.to_owned(), what })
    }
}

/// A time, and the exit code behind a colon; `None` if that is none.
fn with_code(value: &str) -> Option<(&str, Option<i32>)> {
    match value.rsplit_once(':') {
        Some((after, code)) => Some((after, Some(code.parse::<u8>().ok()?.into()))),
        None => Some((value, None)),
    }
}

impl Assume {
    /// Whether it is about a container of this pod.
    pub fn is_about(&self, subject: &Subject) -> bool {
        self.workload.as_ref().is_none_or(|name| *name == subject.workload)
            && (self.is_about_all() || subject.plan.find(&self.container).is_some())
    }

    fn is_about_all(&self) -> bool {
        self.container == "*"
    }
}

impl fmt::Display for Assume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.container;
        match &self.what {
            What::Start(span) => write!(f, "{name} runs {span} after it was asked for"),
            What::Ready(None) => write!(f, "{name} never answers its probes"),
            What::Ready(Some(span)) => write!(f, "{name} answers {span} after its start"),
            What::Exits(None) => write!(f, "{name} never ends by itself"),
            What::Exits(Some((span, code))) => {
                write!(f, "{name} ends with {code}, {span} after its start")
            }
            What::Needs(other) => write!(f, "{name} ends with 1 if {other} does not answer"),
            What::Stops(span, None) => write!(f, "{name} ends {span} after the stop signal"),
            What::Stops(span, Some(code)) => {
                write!(f, "{name} ends with {code}, {span} after the stop signal")
            }
            What::PostStart(span) => write!(f, "the postStart hook of {name} takes {span}"),
            What::PreStop(span) => write!(f, "the preStop hook of {name} takes {span}"),
        }
    }
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// From the request until the process runs.
    pub start: Span,
    /// From the start until its probes pass; `None` is never.
    pub ready: Option<Span>,
    /// Whether an assumption says so.
    pub ready_is_known: bool,
    /// When it ends by itself.
    pub exits: Exits,
    /// What must be ready when it starts, or it ends with 1 at once.
    pub needs: Vec<ContainerId>,
    /// From the stop signal until it ends; no longer than its grace period.
    pub stops: Span,
    /// With which exit code it does; that of the signal itself if nothing says so.
    pub stop_code: Option<i32>,
    /// The postStart hook, if there is one.
    pub post_start: Span,
    /// The preStop hook, if there is one.
    pub pre_stop: Span,
}

/// When a container ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exits {
    /// Never.
    Never,
    /// Nothing is known.
    Unknown,
    /// So long after its start, with this exit code.
    After(Span, i32),
}

/// An assumption that fits no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssumeError {
    /// There is no such container in any of the pods.
    #[error("--assume: no container {name:?}; there is {known}")]
    Unknown {
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// A hook that the container does not have.
    #[error("--assume: container {container:?} has no {hook} hook")]
    NoHook {
        /// The container.
        container: String,
        /// `postStart` or `preStop`.
        hook: &'static str,
    },
    /// It would need itself.
    #[error("--assume: container {0:?} cannot need itself")]
    Itself(String),
}

/// What is known of each container of a pod, in its plan's order.
///
/// Assumptions about another workload are left out; see [`check`] for those that fit nowhere.
///
/// # Errors
/// If a hook or a needed container is not there.
pub fn behaviours(subject: &Subject, all: &[Assume]) -> Result<Vec<Behaviour>, AssumeError> {
    let plan = &subject.plan;
    let mut behaviours: Vec<Behaviour> =
        plan.ids().map(|id| unknown(plan, id, &subject.hooks[id.index()])).collect();
    for assume in all {
        let named = |id: &ContainerId| {
            assume.is_about_all() || *plan.container(*id).name == *assume.container
        };
        for id in plan.ids().filter(|_| assume.is_about(subject)).filter(named) {
            apply(plan, id, assume, &mut behaviours[id.index()])?;
        }
    }
    Ok(behaviours)
}

/// Whether every assumption is about a container that there is.
///
/// # Errors
/// The first one that is not.
pub fn check(subjects: &[Subject], all: &[Assume]) -> Result<(), AssumeError> {
    for assume in all {
        if !subjects.iter().any(|subject| assume.is_about(subject)) {
            let name = match &assume.workload {
                Some(workload) => format!("{workload}/{}", assume.container),
                None => assume.container.clone(),
            };
            return Err(AssumeError::Unknown { name, known: known(subjects) });
        }
    }
    Ok(())
}

fn known(subjects: &[Subject]) -> String {
    let one = |s: &Subject| {
        let names: Vec<&str> = s.plan.containers.iter().map(|c| &*c.name).collect();
        format!("{} in {}", names.join(", "), s.workload)
    };
    let all: Vec<String> = subjects.iter().map(one).collect();
    all.join("; ")
}

fn unknown(plan: &Plan, id: ContainerId, hooks: &[Option<Hook>; 2]) -> Behaviour {
    let hook = |hook: &Option<Hook>| match hook {
        None => Span::ZERO,
        Some(Hook::Sleep(time)) => Span::exactly(*time),
        Some(Hook::Unknown) => Span::ANY,
    };
    let probed = plan.container(id).startup.is_some()
        || plan.container(id).readiness.is_some()
        || plan.container(id).liveness.is_some();
    Behaviour {
        start: Span::ZERO,
        // Without probes nobody asks.
        ready: Some(if probed { Span::ANY } else { Span::ZERO }),
        ready_is_known: false,
        exits: match plan.container(id).kind {
            Kind::Sidecar => Exits::Never,
            _ => Exits::Unknown,
        },
        needs: Vec::new(),
        stops: Span::ANY,
        stop_code: None,
        post_start: hook(&hooks[0]),
        pre_stop: hook(&hooks[1]),
    }
}

fn apply(
    plan: &Plan,
    id: ContainerId,
    assume: &Assume,
    behaviour: &mut Behaviour,
) -> Result<(), AssumeError> {
    let c = plan.container(id);
    let every = assume.is_about_all();
    let no_hook = |hook| AssumeError::NoHook { container: c.name.to_string(), hook };
    match &assume.what {
        What::Start(span) => behaviour.start = *span,
        What::Ready(span) => (behaviour.ready, behaviour.ready_is_known) = (*span, true),
        What::Exits(None) => behaviour.exits = Exits::Never,
        What::Exits(Some((span, code))) => behaviour.exits = Exits::After(*span, *code),
        What::Needs(name) => {
            let needed = plan.find(name).ok_or_else(|| AssumeError::Unknown {
                name: name.clone(),
                known: c.name.to_string(),
            })?;
            if needed == id {
                if every {
                    return Ok(());
                }
                return Err(AssumeError::Itself(name.clone()));
            }
            behaviour.needs.push(needed);
        }
        What::Stops(span, code) => (behaviour.stops, behaviour.stop_code) = (*span, *code),
        What::PostStart(span) if c.post_start => behaviour.post_start = *span,
        What::PreStop(span) if c.pre_stop => behaviour.pre_stop = *span,
        // Of every container that has one.
        What::PostStart(_) | What::PreStop(_) if every => {}
        What::PostStart(_) => return Err(no_hook("postStart")),
        What::PreStop(_) => return Err(no_hook("preStop")),
    }
    Ok(())
}

/// The longest that a container can take to end after its stop signal.
pub(crate) fn longest_stop(grace: Duration, stops: Span) -> Duration {
    stops.max.map_or(grace, |max| max.min(grace))
}
