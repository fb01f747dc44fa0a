//! In words: what nothing guarantees, what the probes may do, and what is not known.

use holdfast_lifecycle::order::Gate;
use holdfast_lifecycle::{ContainerId, Kind, Plan, Probe, ProbeKind};

use crate::assume::{Behaviour, Exits};
use crate::bounds::{Chance, Met, PodBounds, When};
use crate::span::{Span, short};
use crate::subject::Subject;
use crate::timeline::Step;
use crate::world::{Course, TERMINATED};

/// What there is to say of a pod beside its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What people may take for an order, and is none; and what goes wrong for it.
    pub not_guaranteed: Vec<String>,
    /// What may kill a container before it is ready.
    pub kills: Vec<String>,
    /// What the manifest does not say: an assumption would.
    pub unknown: Vec<String>,
}

/// All notes about a pod.
pub fn notes(subject: &Subject, behaviours: &[Behaviour], bounds: &PodBounds) -> Notes {
    let writer = Writer { plan: &subject.plan, behaviours, bounds };
    let mut notes = Notes::default();
    writer.siblings(&mut notes.not_guaranteed);
    for id in subject.plan.ids() {
        writer.sidecar(id, &mut notes.not_guaranteed);
        writer.needs(id, &mut notes.not_guaranteed);
        writer.kills(id, &mut notes.kills);
        writer.unknown(id, subject.job.is_some(), &mut notes.unknown);
    }
    writer.held_back(&mut notes.not_guaranteed);
    notes
}

/// The exit codes of the course that were filled in: nothing says what a container does with its stop signal.
pub fn assumed_codes(plan: &Plan, behaviours: &[Behaviour], course: &Course) -> Vec<String> {
    let stopped = |name: &str| {
        let mut asked = false;
        course.timeline.marks.iter().filter(|m| m.container.as_deref() == Some(name)).any(|mark| {
            match mark.step {
                Step::Running => asked = false,
                Step::Stop { .. } => asked = true,
                Step::Exited { exit_code } => return asked && exit_code == TERMINATED,
                _ => {}
            }
            false
        })
    };
    let unknown = plan.ids().filter(|id| behaviours[id.index()].stop_code.is_none());
    let names = unknown.map(|id| &*plan.container(id).name).filter(|name| stopped(name));
    let say = |name: &str| {
        format!(
            "with which exit code {name} ends after its stop signal: {TERMINATED} is shown, that of the signal \
             itself (--assume {name}.stops=1s:0)"
        )
    };
    names.map(say).collect()
}

struct Writer<'a> {
    plan: &'a Plan,
    behaviours: &'a [Behaviour],
    bounds: &'a PodBounds,
}

impl Writer<'_> {
    fn name(&self, id: ContainerId) -> &str {
        &self.plan.container(id).name
    }

    /// App containers start one right after the other; no probe of one holds back another.
    fn siblings(&self, notes: &mut Vec<String>) {
        let apps: Vec<ContainerId> = self.plan.regulars().collect();
        let [first, rest @ ..] = &apps[..] else { return };
        if rest.is_empty() {
            return;
        }
        let names: Vec<&str> = apps.iter().map(|&id| self.name(id)).collect();
        let others: Vec<&str> = rest.iter().map(|&id| self.name(id)).collect();
        notes.push(format!(
            "nothing orders {}: app containers start one right after the other, and none of them waits until \
             another is ready ({} does not wait for {})",
            list(&names),
            self.name(*first),
            list(&others),
        ));
        for &id in &apps {
            let c = self.plan.container(id);
            let before: Vec<&str> =
                apps.iter().filter(|&&other| other != id).map(|&o| self.name(o)).collect();
            let before = list(&before);
            if c.readiness.is_some() {
                notes.push(format!(
                    "{before} may run before {} is ready{}: a readinessProbe gates no sibling, only whether the \
                     pod is Ready and gets traffic",
                    c.name,
                    self.ready_at(id),
                ));
            }
            if c.startup.is_some() {
                notes.push(format!(
                    "the startupProbe of {} does not hold back {before}: only that of a sidecar among the init containers \
                     is waited for",
                    c.name
                ));
            }
        }
    }

    fn ready_at(&self, id: ContainerId) -> String {
        match &self.bounds.containers[id.index()].ready {
            When::Within(span) if span.min.is_zero() => String::new(),
            When::Within(span) => format!(" (at {} at the earliest)", short(span.min)),
            When::Never(why) => format!(" (never: {why})"),
        }
    }

    /// A native sidecar without a startupProbe lets go of what comes next before it answers.
    fn sidecar(&self, id: ContainerId, notes: &mut Vec<String>) {
        let c = self.plan.container(id);
        if c.kind != Kind::Sidecar || c.startup.is_some() {
            return;
        }
        let when = match Gate::of(self.plan, id) {
            Gate::PostStart => "its postStart hook has ended",
            _ => "its process runs",
        };
        let b = &self.behaviours[id.index()];
        let late = match b.ready {
            Some(span) if b.ready_is_known => format!(", and it answers {span} after its start"),
            None => ", and it never answers".to_owned(),
            Some(_) => String::new(),
        };
        notes.push(format!(
            "sidecar {} has no startupProbe: what comes after it starts as soon as {when}, whether it answers \
             or not{late}",
            c.name
        ));
    }

    fn needs(&self, id: ContainerId, notes: &mut Vec<String>) {
        if self.bounds.containers[id.index()].start.span().is_none() {
            return;
        }
        for (other, met) in &self.bounds.containers[id.index()].needs {
            let (name, other) = (self.name(id), self.name(*other));
            notes.push(match met {
                Met::Yes => continue,
                Met::No(late) if *late == Span::ANY => {
                    format!(
                        "{name} needs {other}, which does not answer when it starts: it ends with 1"
                    )
                }
                Met::No(late) => {
                    format!(
                        "{name} needs {other}, which answers too late, by {late}: it ends with 1"
                    )
                }
                Met::Perhaps => {
                    format!(
                        "{name} needs {other}, and nothing says who is first: it may end with 1"
                    )
                }
            });
        }
    }

    /// An init container that keeps everything after it from ever starting.
    fn held_back(&self, notes: &mut Vec<String>) {
        let blocked =
            self.plan.ids().find_map(|id| match &self.bounds.containers[id.index()].start {
                When::Never(why) => Some((id, why)),
                When::Within(_) => None,
            });
        if let Some((id, why)) = blocked {
            notes.push(format!("{} and all after it never start: {why}", self.name(id)));
        }
    }

    fn kills(&self, id: ContainerId, notes: &mut Vec<String>) {
        let c = self.plan.container(id);
        for kill in &self.bounds.containers[id.index()].kills {
            let Some(probe) = c.probe(kill.probe) else { continue };
            let kind = match kill.probe {
                ProbeKind::Startup => "startupProbe",
                _ => "livenessProbe",
            };
            let (name, sum) = (&c.name, sum(probe));
            let least = short(kill.after.min);
            let most = kill.after.max.map(short);
            let until = most.map_or_else(String::new, |most| format!(", at {most} at the latest"));
            notes.push(match kill.chance {
                Chance::Certain => format!(
                    "the {kind} of {name} kills it {least} after its start at the earliest ({sum}){until}: it \
                     does not answer in time"
                ),
                Chance::Possible => format!(
                    "the {kind} of {name} may kill it {least} after its start at the earliest ({sum}){until}, if \
                     it does not answer by then"
                ),
                Chance::Excluded if kill.probe == ProbeKind::Startup => format!(
                    "the {kind} of {name} does not kill it: it grants {least} for certain ({sum}), and {name} \
                     answers {} after its start",
                    self.answers(id)
                ),
                Chance::Excluded => continue,
            });
        }
    }

    fn answers(&self, id: ContainerId) -> Span {
        self.behaviours[id.index()].ready.unwrap_or(Span::ANY)
    }

    fn unknown(&self, id: ContainerId, is_job: bool, notes: &mut Vec<String>) {
        let (c, b) = (self.plan.container(id), &self.behaviours[id.index()]);
        let name = &c.name;
        match (c.kind, b.exits) {
            (Kind::Init, Exits::Unknown) => notes.push(format!(
                "how long init container {name} takes, and that it ends (--assume {name}.exits=5s)"
            )),
            (Kind::Regular, Exits::Unknown) if is_job => {
                notes.push(format!("when {name} ends (--assume {name}.exits=5s)"));
            }
            _ => {}
        }
        if b.ready == Some(Span::ANY) && !b.ready_is_known && c.kind != Kind::Init {
            notes.push(format!("when {name} answers its probes (--assume {name}.ready=5s)"));
        }
        if c.post_start && b.post_start == Span::ANY {
            notes.push(format!(
                "how long the postStart hook of {name} takes (--assume {name}.postStart=1s)"
            ));
        }
    }
}

/// `10 s + 19 × 5 s`, the earliest kill.
fn sum(probe: &Probe) -> String {
    let (delay, period) = (short(probe.initial_delay), short(probe.period));
    let more = probe.failure_threshold.max(1) - 1;
    match (probe.initial_delay.is_zero(), more) {
        (_, 0) => format!("initialDelaySeconds {delay}"),
        (true, _) => format!("{more} × {period}"),
        (false, _) => format!("{delay} + {more} × {period}"),
    }
}

/// `a, b and c`.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
