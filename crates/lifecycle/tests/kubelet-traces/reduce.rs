//! A status of the engine as the lines of a trace.

use holdfast_lifecycle::columns::{self, Meta};
use holdfast_lifecycle::status::{Condition, ContainerStatus, State, Terminated};
use holdfast_lifecycle::{Lifecycle, PodStatus};

use crate::trace::quote;

/// The lines of a status of the engine's.
pub(crate) fn lines(engine: &Lifecycle, status: &PodStatus) -> Vec<String> {
    let mut lines = vec![format!("phase {}", status.phase.as_str())];
    if !status.reason.is_empty() {
        lines.push(format!("reason {}", why(&status.reason, &status.message)));
    }
    lines.extend(engine.deletion().map(|grace| format!("deleting {}", grace.as_secs())));
    let mut conditions: Vec<String> = status.conditions.iter().map(condition).collect();
    conditions.sort();
    lines.extend(conditions);
    lines.extend(status.all().map(container));
    let meta = Meta { deleting: engine.deletion().is_some(), ..Meta::default() };
    let row = columns::row(engine.plan(), status, meta, engine.features());
    lines.push(format!("row {} {} {}", row.ready_text(), row.status, row.restarts));
    lines
}

fn condition(c: &Condition) -> String {
    let status = if c.status { "True" } else { "False" };
    let line = format!("condition {} {status} {}", c.kind.as_str(), why(&c.reason, &c.message));
    line.trim_end().to_owned()
}

fn container(s: &ContainerStatus) -> String {
    let state = match &s.state {
        State::Waiting { reason, message } => {
            format!("waiting {}", why(reason, message)).trim_end().to_owned()
        }
        State::Running { .. } => "running".to_owned(),
        State::Terminated(t) => exited(t),
    };
    let mut line = format!("{} {state} restarts {}", s.name, s.restart_count);
    if s.ready {
        line.push_str(" ready");
    }
    if s.started == Some(true) {
        line.push_str(" started");
    }
    if let Some(last) = &s.last_state {
        line.push_str(&format!(" last {}", exited(last)));
    }
    line
}

fn exited(t: &Terminated) -> String {
    format!("exited {} {}", t.exit_code, why(&t.reason, &t.message)).trim_end().to_owned()
}

fn why(reason: &str, message: &str) -> String {
    match message {
        "" => reason.to_owned(),
        message => format!("{reason} {}", quote(message)).trim_start().to_owned(),
    }
}
