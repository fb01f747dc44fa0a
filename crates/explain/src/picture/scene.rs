//! What there is to draw: a [`Timeline`] as pods, lanes, and stretches of time in them. All renderers
//! draw from this, so that they say the same.

use std::collections::HashMap;

use super::critical::{self, Path};
use crate::timeline::{
    Bounded, Bounds, Container, ContainerKind, HookName, Mark, ProbeName, Step, Timeline,
};

/// A timeline to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Scene<'a> {
    /// The right end of the picture in seconds; more than 0.
    pub(crate) end: f64,
    pub(crate) pods: Vec<PodScene<'a>>,
}

/// A pod, and what it was as a whole.
#[derive(Clone, Debug)]
pub(crate) struct PodScene<'a> {
    pub(crate) name: &'a str,
    /// When it came to be.
    pub(crate) from: f64,
    /// When its last thing happened; the end of the picture if something of it still runs.
    pub(crate) to: f64,
    /// Its phases, each until the next.
    pub(crate) phases: Vec<(Span, &'a str)>,
    /// When all its containers were ready.
    pub(crate) ready: Vec<Span>,
    /// The marks of the pod itself.
    pub(crate) marks: Vec<&'a Mark>,
    /// When its sandboxes were there.
    pub(crate) sandboxes: Vec<f64>,
    pub(crate) lanes: Vec<Lane<'a>>,
    pub(crate) bounds: Vec<&'a Bounds>,
    pub(crate) path: Path,
}

/// A container.
#[derive(Clone, Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) name: &'a str,
    /// None if the timeline does not say.
    pub(crate) kind: Option<ContainerKind>,
    pub(crate) image: &'a str,
    /// In the order of time, without overlaps.
    pub(crate) segments: Vec<Segment<'a>>,
    pub(crate) hooks: Vec<Hook>,
    /// In the order of time.
    pub(crate) probes: Vec<Probe<'a>>,
    pub(crate) exits: Vec<Exit>,
    pub(crate) bounds: Vec<&'a Bounds>,
    /// All of its marks.
    pub(crate) marks: Vec<&'a Mark>,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

/// From then to then, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// It had not ended when the recording did.
    pub(crate) open: bool,
}

/// A stretch of a lane.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment<'a> {
    pub(crate) span: Span,
    pub(crate) what: What,
    /// Which run it belongs to.
    pub(crate) run: u32,
    /// What was waited for, or why it was refused.
    pub(crate) why: &'a str,
}

/// What a container was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    /// Not its turn.
    Waiting,
    /// Its image is fetched.
    Pull,
    /// The runtime was asked to start it.
    Starting,
    /// Its process runs.
    Running,
    /// It counts as started.
    Started,
    /// It counts as ready.
    Ready,
    /// Its preStop hook runs, or it has got the stop signal.
    Stopping,
    /// It ended or could not be started, and will be tried again.
    BackOff,
}

impl What {
    pub(crate) const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Pull,
        Self::Starting,
        Self::Running,
        Self::Started,
        Self::Ready,
        Self::Stopping,
        Self::BackOff,
    ];

    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pull => "pulling its image",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Started => "started, not ready",
            Self::Ready => "ready",
            Self::Stopping => "terminating",
            Self::BackOff => "back-off",
        }
    }

    const fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Started | Self::Ready | Self::Stopping)
    }
}

/// A lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hook {
    pub(crate) span: Span,
    pub(crate) hook: HookName,
}

/// Answers of a probe: one, or several that say the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Probe<'a> {
    pub(crate) at: f64,
    /// When the last of them came.
    pub(crate) to: f64,
    pub(crate) count: u32,
    pub(crate) probe: ProbeName,
    /// None is an error: it could not be run.
    pub(crate) passed: Option<bool>,
    pub(crate) message: Option<&'a str>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exit {
    pub(crate) at: f64,
    pub(crate) code: i32,
    pub(crate) run: u32,
}

/// With more answers of probes than this in a lane, those that say the same are drawn as one.
const MANY_PROBES: usize = 120;

impl<'a> Scene<'a> {
    pub(crate) fn of(timeline: &'a Timeline) -> Self {
        let known = timeline.bounds.iter().flat_map(|b| [Some(b.earliest), b.latest]).flatten();
        let times = timeline.marks.iter().map(|m| m.at).chain(known);
        let end = times.filter(|t| t.is_finite()).fold(0.0, f64::max);
        // Something to divide by.
        let end = if end > 0.0 { end } else { 1.0 };
        let pods = sort_out(timeline).into_iter().map(|parts| parts.scene(end)).collect();
        Self { end, pods }
    }
}

/// What belongs to one pod.
struct Parts<'a> {
    name: &'a str,
    at: f64,
    containers: Vec<(&'a str, Option<&'a Container>)>,
    /// The marks of the pod itself.
    marks: Vec<&'a Mark>,
    /// Those of each container.
    of: Vec<Vec<&'a Mark>>,
    bounds: Vec<&'a Bounds>,
}

/// The pods with what belongs to each. What names a pod or a container that is not in the document's list
/// comes after those that are.
fn sort_out(timeline: &Timeline) -> Vec<Parts<'_>> {
    let mut house = House::default();
    for pod in &timeline.pods {
        let at = house.pod(&pod.name, pod.at);
        for container in &pod.containers {
            let lane = house.lane(at, &container.name);
            house.all[at].containers[lane].1 = Some(container);
        }
    }
    for mark in &timeline.marks {
        let pod = house.pod(&mark.pod, mark.at);
        match &mark.container {
            None => house.all[pod].marks.push(mark),
            Some(name) => {
                let lane = house.lane(pod, name);
                house.all[pod].of[lane].push(mark);
            }
        }
    }
    for bounds in &timeline.bounds {
        let pod = house.pod(&bounds.pod, 0.0);
        if let Some(name) = &bounds.container {
            house.lane(pod, name);
        }
        house.all[pod].bounds.push(bounds);
    }
    house.all
}

/// Pods and containers by name.
#[derive(Default)]
struct House<'a> {
    all: Vec<Parts<'a>>,
    pods: HashMap<&'a str, usize>,
    lanes: HashMap<(usize, &'a str), usize>,
}

impl<'a> House<'a> {
    /// The place of a pod.
    fn pod(&mut self, name: &'a str, at: f64) -> usize {
        let all = &mut self.all;
        *self.pods.entry(name).or_insert_with(|| {
            let (containers, marks, of, bounds) = (vec![], vec![], vec![], vec![]);
            all.push(Parts { name, at: at.max(0.0), containers, marks, of, bounds });
            all.len() - 1
        })
    }

    /// The place of a container in its pod.
    fn lane(&mut self, pod: usize, name: &'a str) -> usize {
        let parts = &mut self.all[pod];
        *self.lanes.entry((pod, name)).or_insert_with(|| {
            parts.containers.push((name, None));
            parts.of.push(Vec::new());
            parts.of.len() - 1
        })
    }
}

impl<'a> Parts<'a> {
    fn scene(self, end: f64) -> PodScene<'a> {
        let Self { name, at: from, containers, marks, of, bounds } = self;
        let to = end_of(&marks, &of, end);
        let over = |m: &&Mark| matches!(&m.step, Step::Phase { phase } if phase == "Succeeded" || phase == "Failed");
        let open = to >= end && !marks.iter().any(over);
        let lane = |((name, container), marks): ((&'a str, Option<&'a Container>), _)| {
            let of_it = bounds.iter().filter(|b| b.container.as_deref() == Some(name)).copied();
            lane(
                name,
                container,
                marks,
                without_repetition(of_it.collect()),
                Span { from, to, open },
            )
        };
        let mut lanes: Vec<Lane<'a>> = containers.into_iter().zip(of).map(lane).collect();
        if marks.is_empty() && lanes.iter().all(|l| l.marks.is_empty()) {
            // Nothing happened: nobody waited either.
            lanes.iter_mut().for_each(|lane| lane.segments.clear());
        }
        let sandboxes =
            marks.iter().filter(|m| m.step == Step::SandboxReady).map(|m| m.at).collect();
        let mut pod = PodScene {
            name,
            from,
            to,
            phases: phases(&marks, from, to),
            ready: ready(&marks, &lanes, to),
            sandboxes,
            marks,
            lanes,
            bounds: bounds.into_iter().filter(|b| b.container.is_none()).collect(),
            path: Path::default(),
        };
        pod.path = critical::path(&pod);
        pod
    }
}

/// Not twice the same: most containers count as ready when they count as started.
fn without_repetition(bounds: Vec<&Bounds>) -> Vec<&Bounds> {
    let same = |one: &Bounds| {
        let ready = |b: &Bounds| {
            b.what == Bounded::Ready && (b.earliest, b.latest) == (one.earliest, one.latest)
        };
        one.what == Bounded::Started && bounds.iter().copied().any(ready)
    };
    bounds.iter().copied().filter(|b| !same(b)).collect()
}

/// When the last thing of a pod happened.
fn end_of(marks: &[&Mark], of: &[Vec<&Mark>], end: f64) -> f64 {
    let runs = |marks: &Vec<&Mark>| {
        let last = marks.iter().rev().find_map(|m| match m.step {
            Step::Running => Some(true),
            Step::Exited { .. } => Some(false),
            _ => None,
        });
        last == Some(true)
    };
    let last = of.iter().flatten().chain(marks).map(|m| m.at).fold(0.0, f64::max);
    if of.iter().any(runs) { end } else { last }
}

/// The phases of a pod, by its marks.
fn phases<'a>(marks: &[&'a Mark], from: f64, to: f64) -> Vec<(Span, &'a str)> {
    let mut all: Vec<(Span, &str)> = Vec::new();
    let mut since = (from, "Pending");
    let mut push = |(from, phase), to, open| {
        if to > from {
            all.push((Span { from, to, open }, phase));
        }
    };
    for mark in marks {
        if let Step::Phase { phase } = &mark.step {
            push(since, mark.at, false);
            since = (mark.at, phase);
        }
    }
    let over = matches!(since.1, "Succeeded" | "Failed");
    if over {
        // The last word stays, however short.
        all.push((Span { from: since.0, to: to.max(since.0), open: false }, since.1));
    } else if !marks.is_empty() {
        push(since, to, true);
    }
    all
}

/// When the pod was Ready: from where it says so, or else from where all containers that count are ready
/// (kubelet: `GeneratePodReadyCondition`), to where one of them no longer is.
fn ready(marks: &[&Mark], lanes: &[Lane<'_>], to: f64) -> Vec<Span> {
    let counts = |lane: &&Lane<'_>| {
        !matches!(lane.kind, Some(ContainerKind::Init | ContainerKind::Ephemeral))
    };
    let lanes: Vec<&Lane<'_>> = lanes.iter().filter(counts).collect();
    let mut changes: Vec<(f64, usize, bool)> = Vec::new();
    for (at, lane) in lanes.iter().enumerate() {
        changes.extend(lane.marks.iter().filter_map(|m| match m.step {
            Step::Ready => Some((m.at, at, true)),
            Step::Unready | Step::Exited { .. } => Some((m.at, at, false)),
            _ => None,
        }));
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let said = marks.iter().filter(|m| m.step == Step::Ready).map(|m| m.at);
    let said: Vec<Span> = said
        .map(|from| {
            let end = changes.iter().find(|c| c.0 > from && !c.2).map(|c| c.0);
            Span { from, to: end.unwrap_or(to), open: end.is_none() }
        })
        .collect();
    if !said.is_empty() {
        return said;
    }
    let mut is_ready = vec![false; lanes.len()];
    let mut since = None;
    let mut all = Vec::new();
    for (at, lane, ready) in changes {
        is_ready[lane] = ready;
        match (since, is_ready.iter().all(|&r| r)) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                all.push(Span { from, to: at, open: false });
                since = None;
            }
            _ => {}
        }
    }
    all.extend(since.map(|from| Span { from, to, open: true }));
    all
}

/// A lane, by its marks.
fn lane<'a>(
    name: &'a str,
    container: Option<&'a Container>,
    mut marks: Vec<&'a Mark>,
    bounds: Vec<&'a Bounds>,
    pod: Span,
) -> Lane<'a> {
    marks.sort_by(|a, b| a.at.total_cmp(&b.at));
    let exits = marks.iter().filter_map(|m| match m.step {
        Step::Exited { exit_code: code } => {
            Some(Exit { at: m.at, code, run: m.run.unwrap_or_default() })
        }
        _ => None,
    });
    Lane {
        name,
        kind: container.map(|c| c.kind),
        image: container.map_or("", |c| &c.image),
        segments: segments(&marks, pod, container.map(|c| c.kind)),
        hooks: hooks(&marks, pod.to),
        probes: probes(&marks),
        exits: exits.collect(),
        bounds,
        restarts: starts(&marks).saturating_sub(1),
        marks,
    }
}

fn starts(marks: &[&Mark]) -> u32 {
    let mut runs: Vec<u32> = marks
        .iter()
        .filter(|m| m.step == Step::Running)
        .map(|m| m.run.unwrap_or_default())
        .collect();
    runs.dedup();
    u32::try_from(runs.len()).unwrap_or(u32::MAX)
}

/// What a container was doing from the pod's beginning to its end.
fn segments<'a>(marks: &[&'a Mark], pod: Span, kind: Option<ContainerKind>) -> Vec<Segment<'a>> {
    let mut all: Vec<Segment<'a>> = Vec::new();
    // None: it has ended, and nothing more is to come.
    let mut now = Some((What::Waiting, pod.from, waits_for(marks), 0));
    let mut push = |now: Option<(What, f64, &'a str, u32)>, to: f64, open| {
        let Some((what, from, why, run)) = now else { return };
        // A process that ended at once is worth a stroke; a wait that was none is not.
        if to > from || (to == from && what == What::Running) {
            all.push(Segment { span: Span { from, to, open }, what, run, why });
        }
    };
    for (at, mark) in marks.iter().enumerate() {
        let (what, run) = (now.map(|n| n.0), now.map_or(0, |n| n.3));
        let of_run = mark.run.unwrap_or(run);
        let lives = what.is_some_and(What::has_process);
        let next = match &mark.step {
            Step::Pull if !lives => Some((What::Pull, "", run)),
            Step::Pulled if what == Some(What::Pull) => {
                let again = marks[..at].iter().any(|m| m.step == Step::Running);
                let what = if again { What::BackOff } else { What::Waiting };
                Some((what, waits_for(&marks[at..]), run))
            }
            Step::Start { waited_for, .. } => Some((What::Starting, waited_for.as_str(), of_run)),
            Step::Running => Some((What::Running, "", of_run)),
            // Nothing waits for that of a plain init container.
            Step::Started if kind == Some(ContainerKind::Init) => None,
            Step::Started | Step::Unready if lives && what != Some(What::Stopping) => {
                Some((What::Started, "", run))
            }
            Step::Ready if lives && what != Some(What::Stopping) => Some((What::Ready, "", run)),
            Step::HookBegun { hook: HookName::PreStop } | Step::Stop { .. } if lives => {
                Some((What::Stopping, "", run))
            }
            Step::Exited { .. } => {
                let rest = &marks[at + 1..];
                let again = rest.iter().any(|m| {
                    matches!(m.step, Step::Pull | Step::Start { .. } | Step::Refused { .. })
                });
                push(now.take(), mark.at, false);
                now = again.then(|| (What::BackOff, mark.at, waits_for(rest), run));
                continue;
            }
            Step::Refused { reason } if !lives => Some((What::BackOff, reason.as_str(), run)),
            _ => None,
        };
        if let Some((what, why, run)) = next
            && now.map(|n| n.0) != Some(what)
        {
            push(now.take(), mark.at, false);
            now = Some((what, mark.at, why, run));
        }
    }
    push(now, pod.to, pod.open);
    all
}

/// What the next start is going to have waited for.
fn waits_for<'a>(marks: &[&'a Mark]) -> &'a str {
    let next = marks.iter().find_map(|m| match &m.step {
        Step::Start { waited_for, .. } => Some(waited_for.as_str()),
        Step::Refused { reason } => Some(reason.as_str()),
        _ => None,
    });
    next.unwrap_or("its turn, which never came")
}

fn hooks(marks: &[&Mark], end: f64) -> Vec<Hook> {
    let mut all: Vec<Hook> = Vec::new();
    for mark in marks {
        match mark.step {
            Step::HookBegun { hook } => {
                all.push(Hook { span: Span { from: mark.at, to: end, open: true }, hook });
            }
            Step::HookEnded { hook } => {
                if let Some(begun) = all.iter_mut().rfind(|h| h.hook == hook && h.span.open) {
                    begun.span = Span { to: mark.at, open: false, ..begun.span };
                }
            }
            // It took its hooks with it.
            Step::Exited { .. } => {
                for hook in all.iter_mut().filter(|h| h.span.open) {
                    hook.span = Span { to: mark.at, open: false, ..hook.span };
                }
            }
            _ => {}
        }
    }
    all
}

fn probes<'a>(marks: &[&'a Mark]) -> Vec<Probe<'a>> {
    let answers = marks.iter().filter_map(|m| match &m.step {
        Step::Probe { probe, passed, message } => {
            let (at, message) = (m.at, message.as_deref());
            Some(Probe { at, to: at, count: 1, probe: *probe, passed: *passed, message })
        }
        _ => None,
    });
    let answers: Vec<Probe<'a>> = answers.collect();
    if answers.len() <= MANY_PROBES {
        return answers;
    }
    let mut all: Vec<Probe<'a>> = Vec::new();
    for one in answers {
        let last = all.iter_mut().rfind(|p| p.probe == one.probe);
        match last {
            Some(last) if (last.passed, last.message) == (one.passed, one.message) => {
                last.to = one.at;
                last.count += 1;
            }
            _ => all.push(one),
        }
    }
    all
}

#[cfg(test)]
#[path = "scene_tests.rs"]
mod tests;
