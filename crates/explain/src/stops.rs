//! In which order the containers of a pod are stopped (kubelet: `killContainer`,
//! `terminationOrdering`).

use std::time::Duration;

use holdfast_lifecycle::{ContainerId, Kind, Plan};

use crate::assume::Behaviour;
use crate::bounds::PodBounds;
use crate::notes::list;
use crate::span::{Span, short};

/// The kubelet gives a container at least this long between its stop signal and SIGKILL.
const LEAST: Duration = Duration::from_secs(2);

/// One step of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// When, since the deletion.
    pub at: Span,
    /// Who, in words.
    pub what: String,
}

/// What happens when the pod is deleted while everything runs that ever does.
pub fn stops(plan: &Plan, behaviours: &[Behaviour], bounds: &PodBounds) -> Vec<StopStep> {
    let grace = plan.termination_grace;
    let within = |span: Span| Span {
        min: span.min.min(grace),
        max: Some(span.max.map_or(grace, |max| max.min(grace))),
    };
    let mut steps = Vec::new();
    let starts = |id: ContainerId| bounds.containers[id.index()].start.span().is_some();
    let is_up = |&id: &ContainerId| plan.container(id).kind != Kind::Init && starts(id);
    let up: Vec<_> = plan.ids().filter(is_up).collect();
    let hooked = up.iter().map(|&id| plan.container(id)).filter(|c| c.pre_stop);
    let hooked: Vec<&str> = hooked.map(|c| &*c.name).collect();
    if !hooked.is_empty() {
        let plural = if hooked.len() > 1 { "hooks" } else { "hook" };
        let what = format!("the preStop {plural} of {}, at the same time", list(&hooked));
        steps.push(StopStep { at: Span::ZERO, what });
    }
    let mut apps: Vec<(Span, Vec<&str>)> = Vec::new();
    let mut ended = Span::ZERO;
    for id in plan.regulars().filter(is_up) {
        let (c, b) = (plan.container(id), &behaviours[id.index()]);
        let at = within(if c.pre_stop { b.pre_stop } else { Span::ZERO });
        match apps.iter_mut().find(|(same, _)| *same == at) {
            Some((_, names)) => names.push(&c.name),
            None => apps.push((at, vec![&c.name])),
        }
        ended = ended.and(within(at + b.stops));
    }
    for (at, names) in apps {
        let each = if names.len() > 1 { ", at the same time" } else { "" };
        steps.push(StopStep { at, what: format!("the stop signal to {}{each}", list(&names)) });
    }
    // The init container that keeps the others from ever starting. It is in nobody's order.
    let next = |id: ContainerId| plan.ids().find(|&later| later > id);
    let holds = |id: &ContainerId| {
        plan.container(*id).kind == Kind::Init
            && starts(*id)
            && next(*id).is_some_and(|next| !starts(next))
    };
    if let Some(init) = plan.ids().find(holds) {
        let what = format!("the stop signal to init container {}", plan.container(init).name);
        steps.push(StopStep { at: Span::ZERO, what });
    }
    let sidecars = up.iter().rev().filter(|&&id| plan.container(id).kind == Kind::Sidecar);
    for &id in sidecars {
        let (c, b) = (plan.container(id), &behaviours[id.index()]);
        let at = within(ended.and(if c.pre_stop { b.pre_stop } else { Span::ZERO }));
        let what = format!("the stop signal to sidecar {}, once all before have ended", c.name);
        steps.push(StopStep { at, what });
        ended = within(at + b.stops);
    }
    let left = match up.iter().any(|&id| plan.container(id).kind == Kind::Sidecar) {
        true => "the stop signal to what still waits for its turn, and SIGKILL 2 s later",
        false => "SIGKILL to what still runs",
    };
    steps.push(StopStep { at: Span::exactly(grace), what: left.to_owned() });
    let hooked = up.iter().filter(|&&id| plan.container(id).pre_stop && !grace.is_zero());
    for &id in hooked.filter(|id| behaviours[id.index()].pre_stop.min >= grace) {
        let what = format!(
            "{} gets its stop signal only now, with {} left: its preStop hook takes the whole grace period",
            plan.container(id).name,
            short(LEAST)
        );
        steps.push(StopStep { at: Span::exactly(grace), what });
    }
    steps
}
