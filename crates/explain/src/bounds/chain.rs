//! From the start of a container to the request for the next one.

use std::time::Duration;

use holdfast_lifecycle::order::Gate;
use holdfast_lifecycle::restart::{Verdict, on_exit};
use holdfast_lifecycle::{ContainerId, Features, Kind, Plan, ProbeKind};

use super::{Chance, Kill, Met, When, probes};
use crate::assume::{Behaviour, Exits};
use crate::span::Span;

/// What is known of a container from its start on.
pub(super) struct Facts {
    pub(super) started: Since,
    pub(super) ready: Since,
    pub(super) end: Since,
    pub(super) kills: Vec<Kill>,
}

/// When something happens, since the start of the container.
#[derive(Clone)]
pub(super) enum Since {
    Within(Span),
    Never(String),
}

/// How the first run of a container ends by itself.
#[derive(Clone, Copy)]
struct Exit {
    /// How long after its start.
    after: Span,
    /// Its exit code, if that is certain.
    code: Option<i32>,
    /// Whether a later run ends otherwise: something is there then that was not at first.
    mends: bool,
}

impl Since {
    /// As a time since the start of the pod.
    pub(super) fn after(&self, start: &When) -> When {
        match self {
            Self::Within(span) => start.later(*span),
            Self::Never(_) if start.span().is_none() => start.clone(),
            Self::Never(why) => When::Never(why.clone()),
        }
    }
}

/// The order of a pod.
pub(super) struct Chain<'a> {
    plan: &'a Plan,
    behaviours: &'a [Behaviour],
    features: &'a Features,
    /// What is decided of what each container needs.
    needs: Vec<Vec<(ContainerId, Met)>>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(plan: &'a Plan, behaviours: &'a [Behaviour], features: &'a Features) -> Self {
        let needs = vec![Vec::new(); plan.containers.len()];
        Self { plan, behaviours, features, needs }
    }

    pub(super) fn needs(&self, id: ContainerId) -> Vec<(ContainerId, Met)> {
        self.needs[id.index()].clone()
    }

    /// Finds out whether what a container needs is ready when it starts. All before it are decided.
    pub(super) fn decide_needs(&mut self, id: ContainerId) {
        let needs = &self.behaviours[id.index()].needs;
        self.needs[id.index()] = needs.iter().map(|&other| (other, self.met(id, other))).collect();
    }

    fn met(&self, id: ContainerId, other: ContainerId) -> Met {
        let c = self.plan.container(other);
        let Some(ready) = self.behaviours[other.index()].ready else { return Met::No(Span::ANY) };
        if other > id || c.kind == Kind::Init {
            // It starts later, or has ended by then.
            return Met::No(ready);
        }
        let stays = self.stays(other);
        if c.kind == Kind::Sidecar && c.startup.is_some() {
            return if stays { Met::Yes } else { Met::Perhaps };
        }
        // How long after the other one it starts.
        let mut start = When::NOW;
        for at in other.0..id.0 {
            let next = ContainerId(at + 1);
            start = self.release(ContainerId(at), &start);
            start = start.later(self.behaviours[next.index()].start);
        }
        let Some(lag) = start.span() else { return Met::Perhaps };
        // Somebody who is started again in between holds up everything.
        let calm = self.plan.ids().take_while(|&before| before < id);
        let mut calm = calm.filter(|&before| self.plan.container(before).kind == Kind::Sidecar);
        let lag = lag.open_if(!calm.all(|sidecar| self.stays(sidecar)));
        match ready.max {
            Some(max) if max <= lag.min && stays => Met::Yes,
            max if lag.is_before(ready.min) => Met::No(Span {
                min: ready.min.saturating_sub(lag.max.unwrap_or(ready.min)),
                max: max.map(|max| max.saturating_sub(lag.min)),
            }),
            _ => Met::Perhaps,
        }
    }

    fn exit(&self, id: ContainerId) -> Option<Exit> {
        let own = match self.behaviours[id.index()].exits {
            Exits::Unknown if self.plan.container(id).kind == Kind::Init => Some((Span::ANY, 0)),
            Exits::Never | Exits::Unknown => None,
            Exits::After(span, code) => Some((span, code)),
        };
        let met = &self.needs[id.index()];
        let mends = self.restarts(id, 1);
        if met.iter().any(|(_, met)| matches!(met, Met::No(_))) {
            return Some(Exit { after: Span::ZERO, code: Some(1), mends });
        }
        if met.iter().any(|(_, met)| *met == Met::Perhaps) {
            let after = Span { min: Duration::ZERO, max: own.and_then(|(span, _)| span.max) };
            return Some(Exit { after, code: None, mends });
        }
        own.map(|(after, code)| Exit { after, code: Some(code), mends: false })
    }

    /// Whether it runs for as long as the pod.
    fn stays(&self, id: ContainerId) -> bool {
        self.exit(id).is_none()
            && self.facts(id).kills.iter().all(|kill| kill.chance == Chance::Excluded)
    }

    fn restarts(&self, id: ContainerId, code: i32) -> bool {
        on_exit(self.plan, self.plan.container(id), code, self.features) != Verdict::Stay
    }

    pub(super) fn facts(&self, id: ContainerId) -> Facts {
        let c = self.plan.container(id);
        let exit = self.exit(id);
        let end = match exit {
            Some(exit) => Since::Within(exit.after),
            None => Since::Never(format!("nothing says that {} ends", c.name)),
        };
        if c.kind == Kind::Init {
            let ready = match exit {
                Some(Exit { after, code: Some(0), .. }) => Since::Within(after),
                Some(Exit { after, mends: true, .. }) => Since::Within(after.open()),
                _ => Since::Never(format!("init container {} does not end with 0", c.name)),
            };
            return Facts { started: Since::Within(Span::ZERO), ready, end, kills: Vec::new() };
        }
        let mut kills = Vec::new();
        let started = unless_ended(self.started(id, &mut kills), exit, &c.name);
        let ready = self.ready(id, &started, &mut kills);
        Facts { ready: unless_ended(ready, exit, &c.name), started, end, kills }
    }

    fn started(&self, id: ContainerId, kills: &mut Vec<Kill>) -> Since {
        let (c, b) = (self.plan.container(id), &self.behaviours[id.index()]);
        let Some(probe) = &c.startup else { return Since::Within(b.post_start) };
        let from = self.watched(id);
        let after = probes::kill_window(probe, from);
        let chance = probes::chance(after, b.ready);
        kills.push(Kill { probe: ProbeKind::Startup, after, chance });
        match (b.ready, chance) {
            (Some(ready), Chance::Excluded | Chance::Possible) => {
                let passed = probes::passes(probe, ready, from).and(b.post_start);
                Since::Within(passed.open_if(chance == Chance::Possible))
            }
            _ => Since::Never(format!("its startupProbe kills {} each time", c.name)),
        }
    }

    /// From when on the container is probed at all, since its start: nobody is before a status shows it
    /// running, and the sync that starts it makes none (kubelet: `doProbe`). That sync waits for its
    /// postStart hook, and starts the app containers after it. A later run may be started alone, so this is
    /// about the latest moment only.
    fn watched(&self, id: ContainerId) -> Span {
        let behaviour = |id: ContainerId| &self.behaviours[id.index()];
        let is_app = self.plan.container(id).kind == Kind::Regular;
        let others = self.plan.regulars().filter(|&other| is_app && other > id);
        let sync = others.fold(behaviour(id).post_start, |sync, other| {
            sync + behaviour(other).start + behaviour(other).post_start
        });
        Span { min: Duration::ZERO, max: sync.max }
    }

    fn ready(&self, id: ContainerId, started: &Since, kills: &mut Vec<Kill>) -> Since {
        let (c, b) = (self.plan.container(id), &self.behaviours[id.index()]);
        let Since::Within(started) = started else { return started.clone() };
        let from = started.and(self.watched(id));
        let mut ready = match (&c.readiness, b.ready) {
            (None, _) => Since::Within(*started),
            (Some(probe), Some(ready)) => Since::Within(probes::passes(probe, ready, from)),
            (Some(_), None) => {
                Since::Never(format!("the readinessProbe of {} never passes", c.name))
            }
        };
        if let Some(probe) = &c.liveness {
            // It waits for a startup probe, and for no time of its own.
            let from =
                if c.startup.is_none() { Span { min: Duration::ZERO, ..from } } else { from };
            let after = probes::kill_window(probe, from);
            // What has passed a startupProbe answers.
            let chance = match &c.startup {
                Some(_) => Chance::Excluded,
                None => probes::chance(after, b.ready),
            };
            kills.push(Kill { probe: ProbeKind::Liveness, after, chance });
            if let (Since::Within(span), true) = (&ready, chance != Chance::Excluded) {
                let late = span.max.is_none_or(|max| max >= after.min);
                ready = Since::Within(span.open_if(late));
            }
        }
        ready
    }

    /// When the next container in the pod's order is asked for, if this one started then.
    pub(super) fn release(&self, id: ContainerId, start: &When) -> When {
        let (c, b) = (self.plan.container(id), &self.behaviours[id.index()]);
        match c.kind {
            Kind::Init => self.ended(id, start),
            Kind::Sidecar => match Gate::of(self.plan, id) {
                Gate::StartupProbe => self.facts(id).started.after(start),
                Gate::PostStart | Gate::Process => start.later(b.post_start),
            },
            Kind::Regular => start.later(b.post_start),
            Kind::Ephemeral => start.clone(),
        }
    }

    /// When a plain init container has ended with 0.
    fn ended(&self, id: ContainerId, start: &When) -> When {
        let c = self.plan.container(id);
        let name = &c.name;
        match self.exit(id) {
            None => When::Never(format!("init container {name} never ends")),
            Some(Exit { after, code: Some(0), .. }) => start.later(after),
            Some(Exit { after, mends: true, .. }) => start.later(after.open()),
            Some(Exit { code: Some(code), .. }) => {
                let again = self.restarts(id, code);
                let then = if again { "is tried again each time" } else { "fails the pod" };
                When::Never(format!("init container {name} ends with {code} and {then}"))
            }
            Some(Exit { after, code: None, .. }) => start.later(after.open()),
        }
    }
}

/// Something that a container may not live to see.
fn unless_ended(what: Since, exit: Option<Exit>, name: &str) -> Since {
    match (what, exit) {
        (Since::Within(span), Some(exit)) if exit.after.is_before(span.min) && !exit.mends => {
            Since::Never(format!("{name} has ended before"))
        }
        (Since::Within(span), Some(exit)) => {
            Since::Within(span.open_if(span.max.is_none_or(|max| exit.after.min <= max)))
        }
        (what, _) => what,
    }
}
