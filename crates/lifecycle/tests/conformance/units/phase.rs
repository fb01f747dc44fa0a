//! `getPhase`: a pod's phase from the states of its containers.
//!
//! `A` is the pod's policy; `i.`, `s.` and `r.` are an init container, a sidecar and a regular one;
//! `(N)` is a container's own policy, `(N,42)` with a rule that restarts all containers on 42. States:
//! `-` no status, `r` running, `r+` running and started, `0`, `x` or a number an exit code, `w` waiting,
//! `w0` and `wx` waiting after such an exit, `w*` waiting while all containers restart. `T`: the pod is
//! over; `H`: a regular container has a run in this sandbox.

use std::time::Duration;

use holdfast_lifecycle::plan::{Container, Kind, Plan, RestartPolicy, RestartRule, RuleAction};
use holdfast_lifecycle::status::{ContainerStatus, PodStatus, State, Terminated};
use holdfast_lifecycle::{Options, Time, phase};

use super::{Row, entry, same};
use crate::script::parse_policy;

/// A plan with nothing in it.
pub(super) fn empty_plan() -> Plan {
    Plan {
        namespace: "test".into(),
        name: "pod".into(),
        uid: "uid-1".into(),
        restart_policy: RestartPolicy::Always,
        termination_grace: Duration::from_secs(30),
        active_deadline: None,
        host_network: false,
        readiness_gates: Vec::new(),
        containers: Vec::new(),
    }
}

/// A status with nothing in it.
pub(super) fn empty_status(name: &str) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        state: State::Waiting { reason: "".into(), message: "".into() },
        last_state: None,
        ready: false,
        started: None,
        restart_count: 0,
        image: "image".into(),
        image_id: "".into(),
        instance: None,
    }
}

/// `i`, `s` or `r`.
pub(super) fn kind(letter: &str) -> Result<Kind, String> {
    match letter {
        "i" => Ok(Kind::Init),
        "s" => Ok(Kind::Sidecar),
        "r" => Ok(Kind::Regular),
        "e" => Ok(Kind::Ephemeral),
        _ => Err(format!("`{letter}` is not a kind of container")),
    }
}

/// `name`, `name(N)` or `name(N,42)`.
pub(super) fn container(letter: &str, text: &str) -> Result<Container, String> {
    let (name, rest) = text.split_once('(').unwrap_or((text, ""));
    let mut c = Container::new(name, kind(letter)?, "image");
    let mut parts = rest.trim_end_matches(')').split(',').filter(|p| !p.is_empty());
    if let Some(policy) = parts.next().filter(|p| *p != "-") {
        c.restart_policy = Some(parse_policy(policy)?);
    }
    if let Some(code) = parts.next() {
        c.restart_rules.push(RestartRule {
            action: RuleAction::RestartAllContainers,
            negated: false,
            values: vec![code.parse().map_err(|_| format!("`{code}` is not a code"))?],
        });
    }
    Ok(c)
}

fn exit(code: &str) -> Result<Terminated, String> {
    let exit_code = match code {
        "x" => 1,
        _ => code.parse().map_err(|_| format!("`{code}` is not a state"))?,
    };
    Ok(Terminated { exit_code, ..Terminated::default() })
}

fn state(s: &mut ContainerStatus, code: &str) -> Result<(), String> {
    let waiting = State::Waiting { reason: "".into(), message: "".into() };
    match code {
        "r" => s.state = State::Running { started_at: Time::ZERO },
        "r+" => {
            s.state = State::Running { started_at: Time::ZERO };
            s.started = Some(true);
        }
        "w" => s.state = waiting,
        "w*" => {
            s.last_state = Some(Terminated {
                exit_code: 137,
                reason: phase::RESTARTING_ALL.into(),
                ..Terminated::default()
            });
            s.state = State::Waiting { reason: phase::RESTARTING_ALL.into(), message: "".into() };
        }
        _ => match code.strip_prefix('w') {
            Some(last) => {
                s.last_state = Some(exit(last)?);
                s.state = waiting;
            }
            None => s.state = State::Terminated(exit(code)?),
        },
    }
    Ok(())
}

pub(super) fn check(row: &Row) -> Result<(), String> {
    let mut plan = empty_plan();
    let mut status = PodStatus::default();
    let (mut terminal, mut initialized) = (false, false);
    for word in &row.given {
        if let Some((letter, name, code)) = entry(word) {
            let c = container(letter, name)?;
            if code != "-" {
                let mut s = empty_status(&c.name);
                state(&mut s, code)?;
                match c.kind {
                    Kind::Regular => status.regular.push(s),
                    _ => status.init.push(s),
                }
            }
            plan.containers.push(c);
        } else {
            match word.as_str() {
                "T" => terminal = true,
                "H" => initialized = true,
                policy => plan.restart_policy = parse_policy(policy)?,
            }
        }
    }
    let features = Options { minor: 36, ..Options::default() }.features();
    let got = phase::phase(&plan, &status, terminal, initialized, &features);
    same("phase", &got.as_str(), &row.expected.first().map_or("", String::as_str))
}
