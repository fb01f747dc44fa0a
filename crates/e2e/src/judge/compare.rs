//! Two sides of a pod, held against each other.
//!
//! The kubelet publishes what it finds once a second; others publish everything. So what the kubelet
//! published must be, in its order, among what the other did, and what lasted there must not be
//! missing here. The whole state changes at many places at once, and which of two things that have
//! nothing to do with each other is first is chance: so this is asked of each place by itself (phase,
//! each condition, each container). The last state is compared as a whole. Starts and stops must be
//! the same ones, and whatever was clearly before another on one side must not be clearly after it on
//! the other.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::outcome::{Outcome, State};
use super::pod::{Deed, Kind, Pod, Policy};
use super::watch::Nanos;

const SECOND: Nanos = 1_000_000_000;
/// Something that lasts longer than this is published by a kubelet.
const LASTING: Nanos = 4 * SECOND;
/// Two moments that are closer than this have no order.
const CLEARLY: Nanos = 800_000_000;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Where: `phase`, `condition Ready`, `app-0`, `end`, `starts`, `stops`.
    pub(super) place: String,
    /// What the kubelet had.
    pub(super) kubelet: String,
    /// What the other had.
    pub(super) other: String,
}

/// What is different.
pub(super) fn compare(pod: &Pod, kubelet: &Outcome, other: &Outcome) -> Vec<Difference> {
    let mut all: Vec<Difference> = end(kubelet, other).into_iter().collect();
    let stands_still = stands_still(pod);
    let (mut mine, mut theirs) = (places(&kubelet.states), places(&other.states));
    let names: Vec<String> = mine.keys().chain(theirs.keys()).cloned().collect();
    for place in names {
        let (Some(mine), Some(theirs)) = (mine.remove(&place), theirs.remove(&place)) else {
            continue;
        };
        if stands_still {
            continue;
        }
        let sampled = ["condition ", " ready", " started"];
        let sampled = sampled.iter().any(|s| place.starts_with(s) || place.ends_with(s));
        if let Some((kubelet, other)) = sequence(&mine, &theirs, sampled) {
            all.push(Difference { place, kubelet, other });
        }
    }
    for (place, what) in [("starts", "start"), ("stops", "term")] {
        if let Some((kubelet, other)) = order(&kubelet.moments(what), &other.moments(what)) {
            all.push(Difference { place: place.to_owned(), kubelet, other });
        }
    }
    all
}

/// Whether the kubelet at times publishes nothing of the pod, although it goes on: a new sandbox runs
/// init containers again that had ended well, and that is taken for an error
/// (`checkContainerStateTransition`; `docs/conformance.md`).
fn stands_still(pod: &Pod) -> bool {
    pod.policy == Policy::OnFailure
        && pod.acts.iter().any(|act| matches!(act.what, Deed::LoseSandbox | Deed::KillPause))
        && pod.containers.iter().any(|c| c.kind == Kind::Init)
}

/// The last state.
fn end(kubelet: &Outcome, other: &Outcome) -> Option<Difference> {
    let last = |o: &Outcome| {
        let lines = o.states.last().map(|s| s.lines.clone()).unwrap_or_default();
        lines.into_iter().map(|l| without_old_run(&l)).collect::<Vec<String>>()
    };
    let (mine, theirs) = (last(kubelet), last(other));
    let only = |a: &[String], b: &[String]| {
        a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>().join("\n")
    };
    (mine != theirs).then(|| Difference {
        place: "end".to_owned(),
        kubelet: only(&mine, &theirs),
        other: only(&theirs, &mine),
    })
}

/// The line of an ended container without its `lastState`: the run before is removed a moment after
/// the end of the last one, and that may be too late for the kubelet's last status.
fn without_old_run(line: &str) -> String {
    match line.split_once(" last ") {
        Some((start, _)) if start.contains(" exited ") => start.to_owned(),
        _ => line.to_owned(),
    }
}

/// A value, and for how long it was there.
type Values = Vec<(String, Nanos)>;

/// The values of each place, in order, each only when it changes.
fn places(states: &[State]) -> BTreeMap<String, Values> {
    let mut all: BTreeMap<String, Values> = BTreeMap::new();
    for (at, state) in states.iter().enumerate() {
        // The last one stays.
        let lasted = states.get(at + 1).map_or(Nanos::MAX / 2, |next| next.at - state.at);
        for line in &state.lines {
            for (place, value) in split(line) {
                let values = all.entry(place).or_default();
                match values.last_mut() {
                    Some((last, time)) if *last == value => *time = time.saturating_add(lasted),
                    _ => values.push((value, lasted)),
                }
            }
        }
    }
    all
}

/// The places that a line speaks of, and what it says.
fn split(line: &str) -> Vec<(String, String)> {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    match first {
        "phase" | "reason" => vec![(first.to_owned(), line.to_owned())],
        "condition" => {
            // Messages list containers, and which of two is ready first is chance.
            let kind = words.next().unwrap_or_default();
            let text = line.split('"').next().unwrap_or_default().trim_end();
            vec![(format!("condition {kind}"), text.to_owned())]
        }
        name => {
            // `ready` and `started` change by themselves.
            let line = without_old_run(line);
            let has = |word: &str| line.split(" last ").next().is_some_and(|l| l.contains(word));
            let plain = line.replacen(" ready", "", 1).replacen(" started", "", 1);
            vec![
                (name.to_owned(), plain),
                (format!("{name} ready"), has(" ready").to_string()),
                (format!("{name} started"), has(" started").to_string()),
            ]
        }
    }
}

/// Whether both went through the same values, as text if not: what the kubelet published is among the
/// other's in its order, and what lasted there is among the kubelet's. `sampled` says that what is short
/// may also be on the kubelet's side alone: what follows from several things that change one after the
/// other (`Ready` of the pod from two containers) may for a moment be as it never is elsewhere. And the
/// kubelet goes on asking a container that has ended whether it is ready while others of the pod still
/// stop (`SyncTerminatingPod` stops the other two probes only; the worker looks at the published status,
/// which is not made anew before all have stopped), so a pod may end unready.
fn sequence(kubelet: &Values, other: &Values, sampled: bool) -> Option<(String, String)> {
    let mut tried = HashSet::new();
    let good = alike(kubelet, other, None, sampled, &mut tried);
    let text = |values: &Values| {
        let one = |(value, lasted): &(String, Nanos)| match *lasted {
            lasted if lasted > Nanos::MAX / 4 => value.clone(),
            lasted => format!("{value}  ({:.1} s)", lasted as f64 / SECOND as f64),
        };
        values.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    (!good).then(|| (text(kubelet), text(other)))
}

/// Whether the rest of one is like the rest of the other, if both were at `now`.
fn alike<'a>(
    kubelet: &'a [(String, Nanos)],
    other: &'a [(String, Nanos)],
    now: Option<&'a str>,
    sampled: bool,
    tried: &mut HashSet<(usize, usize, Option<&'a str>)>,
) -> bool {
    if !tried.insert((kubelet.len(), other.len(), now)) {
        return false;
    }
    let short = |lasted: Nanos| lasted <= LASTING;
    match (kubelet.split_first(), other.split_first()) {
        (None, None) => true,
        (k, o) => {
            let mine = k.is_some_and(|((value, lasted), rest)| {
                let unready = rest.len() == 1 && value.ends_with(" False ContainersNotReady");
                (now == Some(value) || sampled && (short(*lasted) || unready))
                    && alike(rest, other, now, sampled, tried)
            });
            let theirs = o.is_some_and(|((value, lasted), rest)| {
                (now == Some(value) || short(*lasted) || is_refusal(value))
                    && alike(kubelet, rest, now, sampled, tried)
            });
            let both = k.zip(o).is_some_and(|(((k, _), mine), ((o, _), theirs))| {
                (k == o || before_refusal(o).as_deref() == Some(k))
                    && alike(mine, theirs, Some(k), sampled, tried)
            });
            mine || theirs || both
        }
    }
}

/// Whether a container was refused a start. The kubelet publishes that with its next sync, which may be
/// as late as the end of the back-off.
fn is_refusal(value: &str) -> bool {
    const REFUSALS: [&str; 9] = [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "PostStartHookError",
        "RunContainerError",
    ];
    let reason = value.split_once(" waiting ").and_then(|(_, rest)| rest.split(' ').next());
    reason.is_some_and(|reason| REFUSALS.contains(&reason))
}

/// A refused container as it is published until the refusal is.
fn before_refusal(value: &str) -> Option<String> {
    let (name, rest) = value.split_once(" waiting ").filter(|_| is_refusal(value))?;
    let (waiting, last) = rest.split_once(" last ")?;
    let (_, restarts) = waiting.rsplit_once(" restarts ")?;
    Some(format!("{name} {last} restarts {restarts}"))
}

/// Whether the same things happened, and in the same order; both as text if not.
fn order(kubelet: &[(String, Nanos)], other: &[(String, Nanos)]) -> Option<(String, String)> {
    let at = |list: &[(String, Nanos)], name: &str| {
        list.iter().find(|(n, _)| n == name).map(|&(_, at)| at)
    };
    let same =
        kubelet.len() == other.len() && kubelet.iter().all(|(name, _)| at(other, name).is_some());
    let turned = |(a, at_a): &(String, Nanos), (b, at_b): &(String, Nanos)| {
        let theirs = at(other, a).zip(at(other, b));
        *at_a + CLEARLY < *at_b && theirs.is_some_and(|(a, b)| b + CLEARLY < a)
    };
    let turned = kubelet.iter().any(|a| kubelet.iter().any(|b| turned(a, b)));
    let text = |list: &[(String, Nanos)]| {
        let start = list.first().map_or(0, |&(_, at)| at);
        let one = |(name, at): &(String, Nanos)| {
            format!("{name}  (+{:.1} s)", (at - start) as f64 / SECOND as f64)
        };
        list.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    (!same || turned).then(|| (text(kubelet), text(other)))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.place)?;
        writeln!(f, "  kubelet: {}", self.kubelet.replace('\n', "\n           "))?;
        write!(f, "  other:   {}", self.other.replace('\n', "\n           "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::outcome::Trace;

    fn outcome(states: &[(i128, &[&str])]) -> Outcome {
        let state = |(at, lines): &(i128, &[&str])| State {
            at: at * SECOND,
            lines: lines.iter().map(|l| (*l).to_owned()).collect(),
        };
        Outcome { states: states.iter().map(state).collect(), trace: Vec::new() }
    }

    #[test]
    fn the_kubelet_may_pass_over_what_is_short_and_nothing_else() {
        let all = outcome(&[
            (0, &["phase Pending", "a waiting X restarts 0"]),
            (5, &["phase Running", "a running restarts 0 ready started"]),
            (6, &["phase Running", "a exited 1 Error restarts 0"]),
            (7, &["phase Running", "a running restarts 1 ready started last exited 1 Error"]),
            (15, &["phase Failed", "a exited 0 Completed restarts 1"]),
        ]);
        let sampled = outcome(&[
            (0, &["phase Pending", "a waiting X restarts 0"]),
            (8, &["phase Running", "a running restarts 1 ready started last exited 1 Error"]),
            (16, &["phase Failed", "a exited 0 Completed restarts 1 last exited 1 Error"]),
        ]);
        let pod = crate::judge::random::pod(1, 1);
        assert_eq!(compare(&pod, &sampled, &all), []);
        // What is not there at all is a difference, and so is what lasted and is missing.
        assert!(!compare(&pod, &all, &sampled).is_empty());
        let without = outcome(&[
            (0, &["phase Pending", "a waiting X restarts 0"]),
            (16, &["phase Failed", "a exited 0 Completed restarts 1"]),
        ]);
        let places: Vec<String> =
            compare(&pod, &without, &all).into_iter().map(|d| d.place).collect();
        assert_eq!(places, ["a", "a ready", "a started", "phase"]);
    }

    #[test]
    fn whatever_is_another_is_found() {
        let states: &[(i128, &[&str])] = &[
            (0, &["phase Pending", "condition Ready False X", "a waiting X restarts 0"]),
            (5, &["phase Running", "condition Ready True", "a running restarts 0 ready started"]),
            (20, &["phase Failed", "condition Ready False Y", "a exited 7 Error restarts 0"]),
        ];
        let moment = |seconds: i128, container: &str, what: &str| Trace {
            at: seconds * SECOND,
            container: container.into(),
            run: 0,
            what: what.into(),
        };
        let trace = [
            moment(1, "s", "start"),
            moment(5, "a", "start"),
            moment(15, "a", "term"),
            moment(17, "s", "term"),
        ];
        let good = Outcome { trace: trace.to_vec(), ..outcome(states) };
        let pod = crate::judge::random::pod(1, 1);
        assert_eq!(compare(&pod, &good, &good), []);
        let changes: [(&str, &str); 5] = [
            ("phase Running", "phase Pending"),
            ("phase Failed", "phase Succeeded"),
            ("condition Ready True", "condition Ready False X"),
            ("a exited 7 Error restarts 0", "a exited 0 Completed restarts 0"),
            ("a exited 7 Error restarts 0", "a exited 7 Error restarts 1"),
        ];
        for (from, to) in changes {
            let mut bad = good.clone();
            for line in bad.states.iter_mut().flat_map(|s| &mut s.lines).filter(|l| *l == from) {
                *line = to.to_owned();
            }
            assert!(!compare(&pod, &good, &bad).is_empty(), "{from} as {to}");
            assert!(!compare(&pod, &bad, &good).is_empty(), "{to} as {from}");
        }
        for (at, gone) in trace.iter().enumerate() {
            let mut bad = good.clone();
            bad.trace.remove(at);
            assert!(!compare(&pod, &good, &bad).is_empty(), "without {gone:?}");
        }
        let mut turned = good.clone();
        (turned.trace[2].at, turned.trace[3].at) = (turned.trace[3].at, turned.trace[2].at);
        assert_eq!(compare(&pod, &good, &turned)[0].place, "stops");
    }

    #[test]
    fn a_refusal_may_come_late() {
        let refused = r#"a waiting CrashLoopBackOff "b" restarts 1 last exited 1 Error "c""#;
        let before = r#"a exited 1 Error "c" restarts 1"#;
        assert_eq!(before_refusal(refused).as_deref(), Some(before));
        assert_eq!(before_refusal("a waiting PodInitializing restarts 0"), None);
        let other = vec![(refused.to_owned(), 60 * SECOND), ("a running".to_owned(), 60 * SECOND)];
        let mut kubelet =
            vec![(before.to_owned(), 60 * SECOND), ("a running".to_owned(), 60 * SECOND)];
        assert_eq!(sequence(&kubelet, &other, false), None);
        kubelet[0].0 = before.replace("exited 1", "exited 2");
        assert!(sequence(&kubelet, &other, false).is_some());
    }

    #[test]
    fn order_counts_only_if_it_is_clear() {
        let list = |times: [(&str, i128); 2]| times.map(|(n, at)| (n.to_owned(), at * SECOND / 10));
        let (first, close) = (list([("a", 0), ("b", 20)]), list([("b", 0), ("a", 5)]));
        assert_eq!(order(&first, &close), None);
        assert!(order(&first, &list([("b", 0), ("a", 20)])).is_some());
        assert!(order(&first, &list([("b", 0), ("c", 5)])).is_some());
    }
}
