//! `printPod`: the row of `kubectl get pods`.
//!
//! `phase=`, `reason=`, `gated`, `deleting`, `cond:Ready=True`; containers as `r.c1=` and a list of
//! `run`, `wait(reason)`, `done(reason,code)`, `none`, `ready`, `started`, `rc=3`, `last=10s`; `x.` and
//! `y.` are statuses of init and regular containers that the pod does not have. After `->`: READY,
//! STATUS, RESTARTS, and `completed` if the row is marked so.

use holdfast_lifecycle::columns::{self, Meta};
use holdfast_lifecycle::plan::{Container, Kind};
use holdfast_lifecycle::status::{
    Condition, ConditionKind, ContainerStatus, PodStatus, State, Terminated,
};
use holdfast_lifecycle::{Options, Phase, Time};

use super::phase::{empty_plan, empty_status};
use super::{Row, entry, same};
use crate::text::{call, duration, unquote};

/// The time of the listing.
const NOW: Time = Time::from_secs(100 * 24 * 3600);

pub(super) fn check(row: &Row) -> Result<(), String> {
    let mut plan = empty_plan();
    let mut status = PodStatus::default();
    let mut meta = Meta::default();
    for word in &row.given {
        if let Some((letter, name, facts)) = entry(word) {
            let s = container(name, facts)?;
            let kind = match letter {
                "i" | "x" => Kind::Init,
                "s" => Kind::Sidecar,
                "r" | "y" => Kind::Regular,
                _ => return Err(format!("`{letter}` is not a kind")),
            };
            if !matches!(letter, "x" | "y") {
                plan.containers.push(Container::new(name, kind, "image"));
            }
            if facts != "-" {
                match kind {
                    Kind::Regular => status.regular.push(s),
                    _ => status.init.push(s),
                }
            }
        } else if let Some(value) = word.strip_prefix("phase=") {
            status.phase = match value {
                "Pending" => Phase::Pending,
                "Running" => Phase::Running,
                "Succeeded" => Phase::Succeeded,
                "Failed" => Phase::Failed,
                _ => return Err(format!("`{value}` is not a phase")),
            };
        } else if let Some(value) = word.strip_prefix("reason=") {
            status.reason = value.to_owned().into();
        } else if let Some(cond) = word.strip_prefix("cond:") {
            let (kind, value) = cond.split_once('=').ok_or("cond:Kind=True")?;
            status.conditions.push(Condition {
                kind: match kind {
                    "Ready" => ConditionKind::Ready,
                    "Initialized" => ConditionKind::Initialized,
                    _ => return Err(format!("`{kind}` is not looked at")),
                },
                status: value == "True",
                reason: "".into(),
                message: "".into(),
                last_transition: Time::ZERO,
            });
        } else {
            match word.as_str() {
                "gated" => meta.scheduling_gated = true,
                "deleting" => meta.deleting = true,
                other => return Err(format!("`{other}`?")),
            }
        }
    }
    let features = Options { minor: 36, ..Options::default() }.features();
    let got = columns::row(&plan, &status, meta, &features);
    let [ready, text, restarts, rest @ ..] = &row.expected[..] else {
        return Err("-> READY STATUS RESTARTS".into());
    };
    same("READY", &got.ready_text(), ready)?;
    same("STATUS", &got.status, text)?;
    let restarts = if restarts.starts_with('"') { unquote(restarts)? } else { restarts };
    same("RESTARTS", &got.restarts_text(NOW).as_str(), &restarts)?;
    same("completed", &status.phase.is_terminal(), &rest.iter().any(|w| w == "completed"))
}

/// Splits at commas outside brackets.
fn facts(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            ',' if depth == 0 => out.push(String::new()),
            _ => {
                depth += i32::from(c == '(') - i32::from(c == ')');
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    out
}

fn container(name: &str, text: &str) -> Result<ContainerStatus, String> {
    let mut s = empty_status(name);
    for fact in facts(text) {
        match fact.as_str() {
            "run" => s.state = State::Running { started_at: Time::ZERO },
            "none" | "-" => {}
            "ready" => s.ready = true,
            "started" => s.started = Some(true),
            "unstarted" => s.started = Some(false),
            other => {
                if let Some(reason) = call(other, "wait", '(', ')') {
                    let reason = reason.to_owned().into();
                    s.state = State::Waiting { reason, message: "".into() };
                } else if let Some(i) = call(other, "done", '(', ')') {
                    let (reason, code) = i.split_once(',').unwrap_or((i, "0"));
                    s.state = State::Terminated(Terminated {
                        reason: reason.to_owned().into(),
                        exit_code: code.parse().map_err(|_| format!("`{code}`?"))?,
                        ..Terminated::default()
                    });
                } else if let Some(n) = other.strip_prefix("rc=") {
                    s.restart_count = n.parse().map_err(|_| format!("`{n}`?"))?;
                } else if let Some(ago) = other.strip_prefix("last=") {
                    s.last_state = Some(Terminated {
                        finished_at: Some(NOW - duration(ago)?),
                        ..Terminated::default()
                    });
                } else {
                    return Err(format!("`{other}`?"));
                }
            }
        }
    }
    Ok(s)
}
