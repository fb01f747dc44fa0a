//! When each container of a pod starts, is ready, may be killed and ends: the earliest and the latest.
//!
//! All of it is reckoned before anything has happened, from the manifest, the rules of the kubelet
//! and what is assumed; the rule behind each number stands beside it. Times are those of the first
//! time: a container that was killed or has ended and is started again has no latest time any more.
//! What the runtime itself takes to pull, create and start is not in them, unless it is assumed
//! ([`What::Start`](crate::assume::What::Start)); nor is how late a kubelet looks, at most a second or
//! two for each step.
//!
//! A container of which nothing says when it ends is taken to run on, and an init container of which
//! nothing says how to end with 0, at any time.

mod chain;
mod end;
mod probes;

use std::time::Duration;

use holdfast_lifecycle::order::{self, Wait};
use holdfast_lifecycle::restart::{Verdict, on_exit};
use holdfast_lifecycle::{ContainerId, Features, Kind, Plan, ProbeKind};

use crate::assume::{Behaviour, Exits};
use crate::span::Span;
use crate::subject::Subject;

use self::chain::Chain;

/// When something happens for the first time, since the start of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Between two times.
    Within(Span),
    /// Never, because.
    Never(String),
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerBounds {
    /// What its start waits for.
    pub waits: Vec<Wait>,
    /// Its process runs.
    pub start: When,
    /// It counts as started.
    pub started: When,
    /// It counts as ready.
    pub ready: When,
    /// It ends by itself.
    pub end: When,
    /// What its probes may do to it.
    pub kills: Vec<Kill>,
    /// What becomes of what it needs.
    pub needs: Vec<(ContainerId, Met)>,
}

/// A probe that may kill its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Startup or liveness.
    pub probe: ProbeKind,
    /// How long after the start of the container a kill can come, if nothing answers the probe.
    pub after: Span,
    /// Whether it comes.
    pub chance: Chance,
}

/// Whether something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// For certain.
    Certain,
    /// Nothing rules it out.
    Possible,
    /// It cannot.
    Excluded,
}

/// Whether what a container needs is ready when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// Always.
    Yes,
    /// Never. It comes so much later.
    No(Span),
    /// It depends on who is faster.
    Perhaps,
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodBounds {
    /// Of each container, in the plan's order.
    pub containers: Vec<ContainerBounds>,
    /// The pod is Ready.
    pub ready: When,
    /// All of it has ended.
    pub end: When,
}

impl When {
    /// At once.
    pub const NOW: Self = Self::Within(Span::ZERO);

    /// The times, if it can happen.
    pub const fn span(&self) -> Option<Span> {
        match self {
            Self::Within(span) => Some(*span),
            Self::Never(_) => None,
        }
    }

    /// So much later.
    #[must_use]
    pub fn later(&self, by: Span) -> Self {
        self.clone().map(|span| span + by)
    }

    /// With other times, if it can happen.
    #[must_use]
    pub fn map(self, f: impl FnOnce(Span) -> Span) -> Self {
        match self {
            Self::Within(span) => Self::Within(f(span)),
            never @ Self::Never(_) => never,
        }
    }

    /// When both have happened.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Within(a), Self::Within(b)) => Self::Within(a.and(b)),
            (never @ Self::Never(_), _) | (_, never @ Self::Never(_)) => never,
        }
    }

    /// Moves it out.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::NOW)
    }

    /// Open, if it may be as late as `at`.
    fn open_from(self, at: Option<Duration>) -> Self {
        let late = |span: &Span| at.is_some_and(|at| span.max.is_some_and(|max| max >= at));
        self.map(|span| span.open_if(late(&span)))
    }

    /// Never, if the request for the container comes after a deadline; open, if either may. What has begun
    /// by then is not interrupted (kubelet: a `SyncPod` in flight runs to its end).
    fn until(self, deadline: Option<Duration>, asked: &Self) -> Self {
        let (Some(end), Self::Within(asked)) = (deadline, asked) else { return self };
        if asked.min > end {
            return Self::Never("activeDeadlineSeconds end the pod before".into());
        }
        self.map(|span| span.open_if(span.max.is_none_or(|max| max >= end)))
    }
}

/// The bounds of a pod.
pub fn bounds(subject: &Subject, behaviours: &[Behaviour], features: &Features) -> PodBounds {
    let plan = &subject.plan;
    let mut chain = Chain::new(plan, behaviours, features);
    let mut containers: Vec<ContainerBounds> = Vec::with_capacity(plan.containers.len());
    let mut asked = When::NOW;
    let mut synced = When::NOW;
    let mut syncs = Vec::with_capacity(plan.containers.len());
    for id in plan.ids() {
        let first = plan.regulars().next() == Some(id);
        if plan.container(id).kind.in_init_list() || first {
            synced.clone_from(&asked);
        }
        syncs.push(synced.clone());
        chain.decide_needs(id);
        let start = asked.later(behaviours[id.index()].start);
        let facts = chain.facts(id);
        containers.push(ContainerBounds {
            waits: order::waits(plan, id),
            started: facts.started.after(&start),
            ready: facts.ready.after(&start),
            end: facts.end.after(&start),
            kills: facts.kills,
            needs: chain.needs(id),
            start: start.clone(),
        });
        asked = chain.release(id, &start);
    }
    // `asked` is now the end of the sync in which the app containers were started: the next status tells
    // of them (kubelet: `SyncPod` builds it before it starts anything).
    for id in plan.regulars() {
        let c = &mut containers[id.index()];
        for when in [&mut c.started, &mut c.ready] {
            *when = when.take().map(|span| {
                let told = span.told_by(asked.span());
                let ended = c.end.span().is_some_and(|e| told.max.is_none_or(|max| e.min <= max));
                told.open_if(ended)
            });
        }
    }
    let disturbances = disturbances(plan, &containers, behaviours, features);
    let all = disturbances.iter().copied().flatten().min();
    for (at, c) in containers.iter_mut().enumerate() {
        // Nobody who starts later can hold up a first start.
        let before = disturbances[..at].iter().copied().flatten().min();
        c.start = c.start.take().until(plan.active_deadline, &syncs[at]).open_from(before);
        for when in [&mut c.started, &mut c.ready, &mut c.end] {
            *when = when.take().until(plan.active_deadline, &syncs[at]).open_from(all);
        }
    }
    let (ending, end) = end::pod_end(plan, behaviours, &containers, features, &asked);
    // All of them start before the pod ends, and what a start waits for comes before that.
    for id in plan.ids() {
        let c = &mut containers[id.index()];
        let gate = plan.container(id).kind == Kind::Sidecar && plan.container(id).startup.is_some();
        if !gate {
            c.started = c.started.take().open_from(ending);
        }
        c.ready = c.ready.take().open_from(ending);
    }
    let ready = pod_ready(subject, &containers).until(plan.active_deadline, &synced);
    PodBounds { containers, ready, end }
}

/// The first moment at which each container may be killed or started again. The worker of the pod does
/// one thing after the other: stopping one container, however long it takes, holds up all the rest, so
/// nothing has a latest time after that.
fn disturbances(
    plan: &Plan,
    containers: &[ContainerBounds],
    behaviours: &[Behaviour],
    features: &Features,
) -> Vec<Option<Duration>> {
    let one = |id: ContainerId| {
        let (c, b) = (plan.container(id), &containers[id.index()]);
        let start = b.start.span()?.min;
        let killed = b.kills.iter().filter(|kill| kill.chance != Chance::Excluded);
        let killed = killed.map(|kill| start + kill.after.min).min();
        let again = |code| on_exit(plan, c, code, features) != Verdict::Stay;
        let fails = b.needs.iter().any(|(_, met)| *met != Met::Yes);
        let restarts = match (c.kind, behaviours[id.index()].exits) {
            (Kind::Ephemeral, _) => false,
            (Kind::Init, Exits::After(_, code)) => fails || code != 0,
            (Kind::Init, _) => fails,
            (_, Exits::After(_, code)) => again(code) || fails && again(1),
            (_, Exits::Never | Exits::Unknown) => fails && again(1),
        };
        let ended = b.end.span().filter(|_| restarts).map(|span| span.min);
        killed.into_iter().chain(ended).min()
    };
    plan.ids().map(one).collect()
}

/// The pod is Ready when all sidecars and app containers are at the same time (kubelet:
/// `GeneratePodReadyCondition`).
fn pod_ready(subject: &Subject, containers: &[ContainerBounds]) -> When {
    let plan = &subject.plan;
    let counted =
        |id: &ContainerId| matches!(plan.container(*id).kind, Kind::Sidecar | Kind::Regular);
    let all: Vec<_> = plan.ids().filter(counted).map(|id| (id, &containers[id.index()])).collect();
    let mut ready = all.iter().fold(When::NOW, |when, (_, c)| when.and(c.ready.clone()));
    if !plan.readiness_gates.is_empty() {
        ready = ready.map(Span::open);
    }
    let Some(span) = ready.span() else { return ready };
    for (id, c) in all {
        let Some(end) = c.end.span() else { continue };
        let name = &plan.container(id).name;
        if end.is_before(span.min) {
            return When::Never(format!("{name} has ended before all of them are ready"));
        }
        if span.max.is_none_or(|max| end.min <= max) {
            ready = ready.map(Span::open);
        }
    }
    ready
}
