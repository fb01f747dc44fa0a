//! `status/generate.go`: conditions from container statuses.
//!
//! The first word is the condition. `nil` gives no statuses at all. States: `-` no status, `ready`,
//! `unready`, `started`, `unstarted`, `running`, `waiting`, or an exit code. `gate1=True` is a readiness
//! gate. After `->`: `True` or `False`, then the reason and the message if upstream compares them.

use holdfast_lifecycle::conditions::{self, Finding, Gate};
use holdfast_lifecycle::plan::Kind;
use holdfast_lifecycle::status::{PodStatus, State, Terminated};
use holdfast_lifecycle::view::{RuntimeView, Sandbox};
use holdfast_lifecycle::{Options, Phase, Time};

use super::phase::{container, empty_plan, empty_status};
use super::{Row, entry, same};
use crate::text::unquote;

pub(super) fn check(row: &Row) -> Result<(), String> {
    let mut plan = empty_plan();
    let mut statuses = PodStatus::default();
    let mut phase = Phase::Running;
    let (mut nil, mut before) = (false, false);
    let mut view = RuntimeView::default();
    let mut gates: Vec<(String, Gate)> = Vec::new();
    let which = row.given.first().ok_or("which condition?")?;
    for word in &row.given[1..] {
        if let Some((letter, name, code)) = entry(word) {
            let c = container(letter, name)?;
            let mut s = empty_status(&c.name);
            match code {
                "-" => {}
                "ready" => s.ready = true,
                "unready" => {}
                "started" => s.started = Some(true),
                "unstarted" => s.started = Some(false),
                "running" => s.state = State::Running { started_at: Time::ZERO },
                "waiting" => {}
                code => {
                    let exit_code = code.parse().map_err(|_| format!("`{code}`?"))?;
                    s.state = State::Terminated(Terminated { exit_code, ..Terminated::default() });
                }
            }
            if code != "-" {
                match c.kind {
                    Kind::Regular => statuses.regular.push(s),
                    _ => statuses.init.push(s),
                }
            }
            plan.containers.push(c);
        } else if let Some((key, value)) = word.split_once('=') {
            match key {
                "phase" => {
                    phase = match value {
                        "Pending" => Phase::Pending,
                        "Running" => Phase::Running,
                        "Succeeded" => Phase::Succeeded,
                        "Failed" => Phase::Failed,
                        _ => return Err(format!("`{value}` is not a phase")),
                    }
                }
                "sandbox" => {
                    let ip = (value == "ok").then(|| std::net::IpAddr::from([10, 0, 0, 10]));
                    if value != "none" {
                        view.sandboxes.push(Sandbox { attempt: 0, ready: value != "dead", ip });
                    }
                }
                gate => {
                    plan.readiness_gates.push(gate.into());
                    let state = match value {
                        "absent" => Gate::Absent,
                        "True" => Gate::True,
                        "False" => Gate::False,
                        _ => return Err(format!("`{value}` is not a gate's state")),
                    };
                    gates.push((gate.into(), state));
                }
            }
        } else {
            match word.as_str() {
                "nil" => nil = true,
                "before" => before = true,
                other => return Err(format!("`{other}`?")),
            }
        }
    }
    let features = Options { minor: 36, ..Options::default() }.features();
    let given = (!nil).then_some(&statuses);
    let gate = |name: &str| {
        gates.iter().find(|(n, _)| n == name).map_or(Gate::Absent, |(_, state)| *state)
    };
    let got = match which.as_str() {
        "ContainersReady" => conditions::containers_ready(&plan, given, phase),
        "Ready" => {
            let containers = conditions::containers_ready(&plan, given, phase);
            conditions::ready(&plan, &containers, gate)
        }
        "Initialized" => conditions::initialized(&plan, given, phase),
        "PodReadyToStartContainers" => Finding {
            status: !view.sandbox_changed(&plan).0,
            reason: "".into(),
            message: "".into(),
        },
        "AllContainersRestarting" => {
            let left = !statuses.regular.is_empty() || !statuses.init.is_empty();
            conditions::all_restarting(&plan, &statuses, phase, before, left, &features)
        }
        other => return Err(format!("`{other}` is not a condition")),
    };
    compare(&got, &row.expected)
}

fn compare(got: &Finding, expected: &[String]) -> Result<(), String> {
    same("status", &got.status, &(expected.first().map(String::as_str) == Some("True")))?;
    if let Some(reason) = expected.get(1) {
        let reason = if reason == "-" { "" } else { reason };
        same("reason", &&*got.reason, &reason)?;
    }
    if let Some(message) = expected.get(2) {
        let message = unquote(message)?.replace('\'', "\"");
        same("message", &&*got.message, &message.as_str())?;
    }
    Ok(())
}
