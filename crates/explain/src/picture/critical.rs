//! The critical path: what decided when a pod became Ready, or when it ended if it never did.
//!
//! It is walked backwards: from the container that was the last, to its start; from there to the last of
//! what that start had waited for; and so on to the pod's beginning. The stretches cover that time without
//! a gap, so that what is saved in one of them is saved at the end.

use std::collections::HashSet;

use super::scene::{Lane, PodScene};
use crate::timeline::{After, ContainerKind, HookName, Mark, Reached, Step};

/// The critical path of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path {
    pub(crate) goal: Goal,
    /// When the goal was reached.
    pub(crate) at: f64,
    /// In the order of time, each from the end of the one before.
    pub(crate) stretches: Vec<Stretch>,
}

/// Where a [`Path`] leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To where it began to be Ready.
    Ready,
    /// To its end: it never was Ready.
    Ended,
    /// To the end of what was recorded: neither has come.
    #[default]
    Open,
}

/// A part of a [`Path`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    /// The lane; none is the pod, whose sandbox was made.
    pub(crate) lane: Option<usize>,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// The critical path of a pod.
pub(crate) fn path(pod: &PodScene<'_>) -> Path {
    let Some((goal, end)) = goal(pod) else { return Path::default() };
    let mut stretches = walk(pod, end);
    stretches.reverse();
    stretches.retain(|s| s.to > s.from);
    Path { goal, at: end.at, stretches }
}

/// A point in a lane: before which of its marks, and when.
#[derive(Clone, Copy)]
struct Point {
    lane: usize,
    /// The place of the first mark that no longer counts.
    before: usize,
    at: f64,
}

fn goal(pod: &PodScene<'_>) -> Option<(Goal, Point)> {
    let points = |lane: usize| {
        let marks = pod.lanes[lane].marks.iter().enumerate();
        marks.map(move |(i, mark)| (mark, Point { lane, before: i, at: mark.at }))
    };
    let all = || (0..pod.lanes.len()).flat_map(points);
    // Of what came at the same time, the later in the order of the manifest.
    let last = |a: &Point, b: &Point| a.at.total_cmp(&b.at);
    if let Some(ready) = pod.ready.first() {
        let ready = all().filter(|(m, p)| m.step == Step::Ready && p.at <= ready.from);
        return ready.map(|(_, p)| p).max_by(last).map(|p| (Goal::Ready, p));
    }
    let runs = |lane: &Lane<'_>| lane.segments.last().is_some_and(|s| s.span.open);
    let goal = if pod.lanes.iter().any(runs) { Goal::Open } else { Goal::Ended };
    let exits = all().filter(|(m, _)| goal == Goal::Ended && matches!(m.step, Step::Exited { .. }));
    if let Some(end) = exits.map(|(_, p)| p).max_by(last) {
        return Some((goal, end));
    }
    // It still goes on, or nothing of it has ever run: the first that holds back others, or itself.
    let holds = |lane: &Lane<'_>| goal == Goal::Ended || runs(lane);
    let lane = pod.lanes.iter().position(|lane| !has_done(lane) && holds(lane));
    // All that still runs is ready, and would have to end for the pod to end.
    let lane = lane.or_else(|| pod.lanes.iter().position(holds))?;
    Some((goal, Point { lane, before: pod.lanes[lane].marks.len(), at: pod.to }))
}

/// Whether the others need not wait for this one any more.
fn has_done(lane: &Lane<'_>) -> bool {
    let last = |f: fn(&Step) -> Option<bool>| lane.marks.iter().rev().find_map(|m| f(&m.step));
    let is = match lane.kind {
        Some(ContainerKind::Ephemeral) => Some(true),
        Some(ContainerKind::Init) => last(|step| match step {
            Step::Exited { exit_code } => Some(*exit_code == 0),
            _ => None,
        }),
        Some(ContainerKind::Sidecar) => last(|step| match step {
            Step::Started | Step::Ready => Some(true),
            Step::Exited { .. } => Some(false),
            _ => None,
        }),
        Some(ContainerKind::App) | None => last(|step| match step {
            Step::Ready => Some(true),
            Step::Unready | Step::Exited { .. } => Some(false),
            _ => None,
        }),
    };
    is == Some(true)
}

/// The stretches up to a point, backwards.
fn walk(pod: &PodScene<'_>, end: Point) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut seen = HashSet::new();
    let mut point = end;
    // A document may say that two containers waited for each other.
    while seen.insert((point.lane, point.before)) {
        let marks = &pod.lanes[point.lane].marks;
        let stretch = |from: f64| Stretch { lane: Some(point.lane), from, to: point.at };
        let start =
            marks[..point.before].iter().enumerate().rev().find_map(|(i, m)| match &m.step {
                Step::Start { after, .. } => Some((i, m.at, after)),
                _ => None,
            });
        let Some((at, time, after)) = start else {
            stretches.push(stretch(pod.from.min(point.at)));
            return stretches;
        };
        let before = last_run(marks, at, point.lane).or_else(|| reached(pod, after, time));
        let Some(next) = before else {
            let sandbox =
                pod.sandboxes.iter().copied().filter(|&s| s <= time).fold(pod.from, f64::max);
            stretches.push(stretch(sandbox));
            stretches.push(Stretch { lane: None, from: pod.from.min(sandbox), to: sandbox });
            return stretches;
        };
        stretches.push(stretch(next.at));
        point = next;
    }
    stretches
}

/// The end of the container's run before this start, if there was one.
fn last_run(marks: &[&Mark], start: usize, lane: usize) -> Option<Point> {
    let tried = |m: &Mark| matches!(m.step, Step::Exited { .. } | Step::Refused { .. });
    let was_started = |i: usize| marks[..i].iter().any(|m| matches!(m.step, Step::Start { .. }));
    let before = marks[..start].iter().rposition(|m| tried(m))?;
    was_started(before).then(|| Point { lane, before, at: marks[before].at })
}

/// The last of what a start waited for.
fn reached(pod: &PodScene<'_>, after: &[After], start: f64) -> Option<Point> {
    let point = |after: &After| {
        let lane = pod.lanes.iter().position(|lane| lane.name == after.container)?;
        let marks = &pod.lanes[lane].marks;
        let is = |step: &Step| match after.reached {
            Reached::Exited => matches!(step, Step::Exited { .. }),
            Reached::Started => *step == Step::Started,
            Reached::Running => *step == Step::Running,
            Reached::PostStart => *step == Step::HookEnded { hook: HookName::PostStart },
        };
        // Of a wait that was over before, the first time counts: what came later held nothing back. An
        // init container's first exits may have been failures, though.
        let mut places = marks.iter().enumerate().filter(|(_, m)| is(&m.step) && m.at <= start);
        let (before, mark) = match after.reached {
            Reached::Exited => places.next_back()?,
            _ => places.next()?,
        };
        Some(Point { lane, before, at: mark.at })
    };
    after.iter().filter_map(point).max_by(|a, b| a.at.total_cmp(&b.at))
}

#[cfg(test)]
#[path = "critical_tests.rs"]
mod tests;
