//! When a pod is over.

use std::time::Duration;

use holdfast_lifecycle::restart::{Verdict, on_exit};
use holdfast_lifecycle::{Container, ContainerId, Features, Kind, Plan};

use super::{Chance, ContainerBounds, Met, When};
use crate::assume::{Behaviour, Exits, longest_stop};
use crate::span::Span;

/// A pod ends when its app containers have ended for good and its sidecars were stopped after them, or
/// when an init container has failed for good (kubelet: `getPhase`, `SyncTerminatingPod`).
///
/// Also the first moment at which it may begin to end.
pub(super) fn pod_end(
    plan: &Plan,
    behaviours: &[Behaviour],
    containers: &[ContainerBounds],
    features: &Features,
    synced: &When,
) -> (Option<Duration>, When) {
    let stopping = sidecars_stop(plan, behaviours, containers);
    // The first moment at which an init container may have failed for good.
    let mut failed: Option<Duration> = None;
    let or_failed = |end: When, failed: Option<Duration>| match (end, failed) {
        (When::Within(span), Some(at)) => When::Within(Span { min: span.min.min(at), max: None }),
        (When::Never(_), Some(at)) => When::Within(Span { min: at, max: None }),
        (end, None) => end,
    };
    for id in plan.inits().filter(|&id| plan.container(id).kind == Kind::Init) {
        let (c, b) = (plan.container(id), &containers[id.index()]);
        let is_last = |code| on_exit(plan, c, code, features) == Verdict::Stay;
        let own = matches!(behaviours[id.index()].exits,
            Exits::After(_, code) if code != 0 && is_last(code));
        let lacks = |met: fn(&Met) -> bool| is_last(1) && b.needs.iter().any(|(_, m)| met(m));
        if own || lacks(|met| matches!(met, Met::No(_))) {
            let first = b.end.span().map(|span| span.min);
            return (
                first.into_iter().chain(failed).min(),
                or_failed(b.end.later(stopping), failed),
            );
        }
        if lacks(|met| *met == Met::Perhaps) {
            failed = failed.into_iter().chain(b.end.span().map(|span| span.min)).min();
        }
    }
    let apps = plan.regulars().map(|id| app_end(plan, id, behaviours, containers, features));
    // The pod is looked at again when the sync is over in which the last of them was started.
    let end = apps.fold(When::NOW, When::and).map(|span| span.told_by(synced.span()));
    let killed = containers.iter().flat_map(|c| &c.kills).any(|k| k.chance != Chance::Excluded);
    let first = end.span().map(|span| span.min).into_iter().chain(failed).min();
    (first, or_failed(end.map(|span| span.open_if(killed)).later(stopping), failed))
}

/// When an app container has ended for good.
fn app_end(
    plan: &Plan,
    id: ContainerId,
    behaviours: &[Behaviour],
    containers: &[ContainerBounds],
    features: &Features,
) -> When {
    let (c, b) = (plan.container(id), &containers[id.index()]);
    let again = |code| on_exit(plan, c, code, features) != Verdict::Stay;
    if b.start.span().is_none() {
        return b.start.clone();
    }
    if again(0) && again(1) {
        return When::Never(format!("{} is started again whenever it ends", c.name));
    }
    let by_itself = match behaviours[id.index()].exits {
        _ if b.needs.iter().any(|(_, met)| *met != Met::Yes) => {
            if again(1) {
                b.start.later(Span::ANY)
            } else {
                b.end.clone()
            }
        }
        Exits::Never => When::Never(format!("{} never ends by itself", c.name)),
        Exits::Unknown => b.start.later(Span::ANY),
        Exits::After(_, code) if again(code) && may_fail(c, &behaviours[id.index()]) => {
            b.end.later(Span::ANY)
        }
        Exits::After(_, code) if again(code) => {
            When::Never(format!("{} is started again each time it ends with {code}", c.name))
        }
        Exits::After(..) => b.end.clone(),
    };
    // Who is killed may end with any code, its handler's 0 included.
    let killed = b.kills.iter().filter(|kill| kill.chance != Chance::Excluded);
    let killed = killed.filter_map(|kill| Some(b.start.span()?.min + kill.after.min)).min();
    match (killed, by_itself) {
        (Some(killed), When::Within(own)) => {
            When::Within(Span { min: killed.min(own.min), max: None })
        }
        (Some(killed), When::Never(_)) => When::Within(Span { min: killed, max: None }),
        (None, by_itself) => by_itself,
    }
}

/// Whether a probe that kills may fail at all. Then it may kill a later run though not the first: a worker
/// goes on counting failures over a restart (kubelet: `prober.worker.doProbe` begins anew only after a kill),
/// and who is killed may end with 0, for good.
fn may_fail(c: &Container, b: &Behaviour) -> bool {
    let answers = b.ready.and_then(|ready| ready.max);
    let kills = [&c.startup, &c.liveness].into_iter().flatten();
    kills.into_iter().any(|probe| answers.is_none_or(|answers| answers > probe.initial_delay))
}

/// From the end of the last app container to that of the last sidecar: one after the other, in reverse,
/// all within the grace period, and 2 s more for what must be killed (kubelet: `minimumGracePeriod`).
fn sidecars_stop(plan: &Plan, behaviours: &[Behaviour], containers: &[ContainerBounds]) -> Span {
    let grace = plan.termination_grace + Duration::from_secs(2);
    let sidecars = plan.ids().filter(|&id| plan.container(id).kind == Kind::Sidecar);
    let (mut turns, mut hooks) = (Span::ZERO, Span::ZERO);
    for id in sidecars {
        let (b, bounds) = (&behaviours[id.index()], &containers[id.index()]);
        let longest = longest_stop(grace, b.stops);
        // One that is down already takes no time.
        let is_up = bounds.start.span().is_some()
            && bounds.end.span().is_none()
            && bounds.kills.iter().all(|kill| kill.chance == Chance::Excluded);
        let shortest = if is_up { b.stops.min.min(longest) } else { Duration::ZERO };
        turns = turns + Span::new(shortest, longest);
        hooks = hooks.and(b.pre_stop);
    }
    let all = turns + hooks;
    // Elapsed times count in whole seconds, once for the hook and once for the turn.
    let longest = grace + Duration::from_secs(2);
    let max = all.max.map_or(longest, |max| max.min(longest));
    // What is left of the grace period once the hooks have ended is the most that anybody gets.
    let granted = if hooks == Span::ZERO { plan.termination_grace } else { Duration::from_secs(2) };
    Span::new(turns.min.min(granted).min(max), max)
}
