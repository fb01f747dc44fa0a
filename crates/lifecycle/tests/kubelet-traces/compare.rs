//! What the kubelet published, held against what the engine published.
//!
//! The kubelet looks at the runtime once a second and writes what it finds, so it passes over states
//! that last shorter. Its states must be among the engine's, in the same order, and none of the
//! engine's that lasted may be missing. Where that needs slack, the slack has a name and is counted.

use std::fmt;
use std::time::Duration;

use holdfast_lifecycle::plan::Kind;
use holdfast_lifecycle::{Plan, RestartPolicy, Time};

use crate::replay::Published;
use crate::trace::{State, seconds};

/// A state of the engine's that lasts longer than this is one that the kubelet must have published.
const LASTING: Duration = Duration::from_millis(2500);
/// How long after the engine has gone on the kubelet may still publish a state.
const BEHIND: Duration = Duration::from_millis(2500);

/// What needed slack, over all traces.
#[derive(Default)]
pub(crate) struct Slack {
    states: usize,
    /// The kubelet writes a probe's result into the published status at once, and the rest of the
    /// status in the sync that follows (`SetContainerStartup`, `SetContainerReadiness`).
    between_syncs: usize,
    /// The kubelet had not published that a container was refused a start (`CrashLoopBackOff`).
    unrefused: usize,
    /// The run before the last was still in the kubelet's last status (`lastState`): it is removed a
    /// moment after the end of the last one, and that may be too late.
    outlived: usize,
    /// The kubelet refused to publish that an init container that had ended well runs again, in a new
    /// sandbox (`checkContainerStateTransition`: "illegal transition"). The engine says so.
    illegal: usize,
    /// The engine's states that were too short to be published.
    passed_over: usize,
}

/// Compares; what is wrong.
pub(crate) fn states(
    plan: &Plan,
    kubelet: &[State],
    engine: &[Published],
    slack: &mut Slack,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut next = 0;
    let mut seen = vec![false; engine.len()];
    for (n, state) in kubelet.iter().enumerate() {
        slack.states += 1;
        let found = engine[next..].iter().position(|e| e.is(state)).map(|at| next + at);
        let Some(at) = found else {
            if n > 0 && is_between_syncs(&kubelet[n - 1], state) {
                slack.between_syncs += 1;
                continue;
            }
            faults.push(missing(state, &engine[next.saturating_sub(1)..]));
            return faults;
        };
        seen[at] = true;
        slack.unrefused += usize::from(engine[at].lines != state.lines);
        // A refusal that comes later does not end the state for the kubelet.
        let same = engine[at + 1..].iter().take_while(|e| e.is(state)).count();
        let until = engine.get(at + 1 + same).map(|e| e.at);
        if until.is_some_and(|until| state.at > until + BEHIND) {
            let (k, e) = (seconds(state.at), seconds(engine[at].at));
            let fault =
                format!("published by the kubelet at {k}, by the engine from {e}, no longer");
            faults.push(format!("{fault}\n  {}", state.lines.join("\n  ")));
        }
        next = at;
    }
    for (at, state) in engine.iter().enumerate().filter(|(at, _)| !seen[*at]) {
        let lasted = engine.get(at + 1).map_or(Duration::MAX, |e| e.at.since(state.at));
        // A refusal may be passed over, however long it lasts.
        if lasted <= LASTING || !state.unrefused.is_empty() {
            slack.passed_over += 1;
            continue;
        }
        let until = state.at + lasted.min(BEHIND);
        let before = kubelet.iter().rev().find(|k| k.at <= until);
        if before.is_some_and(|k| is_illegal(plan, k, state)) {
            slack.illegal += 1;
            continue;
        }
        let is_last = at + 1 == engine.len();
        if is_last
            && kubelet.last().is_some_and(|k| without_last(&k.lines) == without_last(&state.lines))
        {
            slack.outlived += 1;
            continue;
        }
        let at = seconds(state.at);
        faults.push(format!(
            "the engine's state at {at} is not the kubelet's\n  {}",
            state.lines.join("\n  ")
        ));
    }
    faults
}

impl Published {
    /// Whether the kubelet's state is this one.
    fn is(&self, state: &State) -> bool {
        self.lines == state.lines || self.unrefused.contains(&state.lines)
    }
}

/// Whether the kubelet takes a step from one state to the other for an error of its own, and keeps
/// quiet: an init container that had ended well has not ended.
fn is_illegal(plan: &Plan, before: &State, after: &Published) -> bool {
    plan.restart_policy == RestartPolicy::OnFailure
        && plan.containers.iter().filter(|c| c.kind == Kind::Init).any(|c| {
            let line = |lines: &[String]| {
                let mut rest = lines.iter().filter_map(|l| l.strip_prefix(&*c.name));
                rest.find(|l| l.starts_with(' ')).map(str::to_owned).unwrap_or_default()
            };
            line(&before.lines).starts_with(" exited 0 ")
                && !line(&after.lines).starts_with(" exited ")
        })
}

/// The lines without `lastState`.
fn without_last(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|l| l.split_once(" last ").map_or(l.as_str(), |(start, _)| start)).collect()
}

/// Whether a state differs from the one before in nothing but what a probe says.
fn is_between_syncs(before: &State, state: &State) -> bool {
    let plain = |state: &State| -> Vec<String> {
        let lines = state.lines.iter();
        lines
            .filter(|l| {
                !l.starts_with("row ")
                    && !l.starts_with("condition Ready ")
                    && !l.starts_with("condition ContainersReady ")
            })
            .map(|l| l.replacen(" ready", "", 1).replacen(" started", "", 1))
            .collect()
    };
    plain(before) == plain(state)
}

/// The kubelet's state, and how the nearest of the engine's differs.
fn missing(state: &State, engine: &[Published]) -> String {
    let differences = |e: &&Published| {
        let extra = e.lines.iter().filter(|l| !state.lines.contains(l)).count();
        extra + state.lines.iter().filter(|l| !e.lines.contains(l)).count()
    };
    let nearest = engine.iter().min_by_key(differences);
    let mut text = format!("the kubelet's state at {} is none of the engine's", seconds(state.at));
    let Some(nearest) = nearest else { return text };
    for line in state.lines.iter().filter(|l| !nearest.lines.contains(l)) {
        text.push_str(&format!("\n  kubelet: {line}"));
    }
    for line in nearest.lines.iter().filter(|l| !state.lines.contains(l)) {
        text.push_str(&format!("\n  engine:  {line}"));
    }
    let near: Time = nearest.at;
    text.push_str(&format!("\n  (nearest: the engine's at {})", seconds(near)));
    text
}

impl fmt::Display for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states of the kubelet's, {} of them between two syncs, {} before a refusal, {} with a run \
             that should have gone; {} of the engine's were passed over, {} as an illegal step",
            self.states,
            self.between_syncs,
            self.unrefused,
            self.outlived,
            self.passed_over,
            self.illegal
        )
    }
}
