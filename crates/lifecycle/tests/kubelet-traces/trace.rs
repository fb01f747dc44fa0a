//! The traces as text. `cargo xtask judge record` writes them.

use std::net::IpAddr;
use std::time::Duration;

use holdfast_lifecycle::plan::{HookKind, ProbeKind};
use holdfast_lifecycle::{Plan, ProbeResult, StartStage, Time};
use holdfast_manifest::{Object, Options, Source};

/// One recorded pod.
pub(crate) struct Trace {
    pub(crate) minor: u32,
    /// The time 0.000 of the trace by the wall clock, within its second: times in the API have no
    /// fractions, and the kubelet counts from them.
    pub(crate) offset: Duration,
    pub(crate) plan: Plan,
    /// What happened, in order.
    pub(crate) world: Vec<(Time, Fact)>,
    /// What the API server published.
    pub(crate) states: Vec<State>,
}

/// A published state.
pub(crate) struct State {
    pub(crate) at: Time,
    pub(crate) lines: Vec<String>,
}

/// One line of `world`. Runs are counted from 0.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Mounted,
    Sandbox(u32, Option<IpAddr>),
    Started(String),
    PullFailed(String, String, String),
    StartFailed(String, StartStage, String),
    Exited {
        name: String,
        run: usize,
        code: i32,
        oom: bool,
        message: String,
    },
    Probe(String, ProbeKind, ProbeResult),
    Hook(String, HookKind, Result<(), String>),
    /// The kubelet asked the runtime to stop a container: a decision.
    Stop {
        name: String,
        run: usize,
        grace: u64,
    },
    Delete(Duration),
    SandboxLost,
    KubeletRestarted,
    /// The object is gone.
    Gone,
}

impl Trace {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut section, mut version, mut offset) = ("", "", Duration::ZERO);
        let mut manifest = String::new();
        let (mut world, mut states) = (Vec::new(), Vec::<State>::new());
        for (at, line) in text.lines().enumerate() {
            let error = |why: String| format!("line {}: {why}: {line}", at + 1);
            match line.strip_prefix("  ") {
                None if line.is_empty() || line.starts_with('#') => {}
                None => match line.split_once(' ') {
                    Some(("kubernetes", v)) => version = v,
                    Some(("clock", at)) => {
                        offset = time(at).ok_or_else(|| error("no time".into()))?.since(epoch());
                    }
                    _ => section = line,
                },
                Some(line) if section == "manifest" => manifest.push_str(&format!("{line}\n")),
                Some(line) if section == "world" => world.push(fact(line).map_err(error)?),
                Some(line) if section == "states" => match line.strip_prefix("@ ") {
                    Some(at) => states.push(State {
                        at: time(at).ok_or_else(|| error("no time".into()))?,
                        lines: Vec::new(),
                    }),
                    None => {
                        let state = states.last_mut().ok_or_else(|| error("no @".into()))?;
                        state.lines.push(line.trim_start().to_owned());
                    }
                },
                Some(_) => return Err(error(format!("unknown section {section:?}"))),
            }
        }
        let minor = version.split('.').nth(1).and_then(|m| m.parse().ok());
        let minor = minor.ok_or_else(|| format!("no version: {version:?}"))?;
        Ok(Self { minor, offset, plan: plan(&manifest, minor)?, world, states })
    }
}

fn plan(manifest: &str, minor: u32) -> Result<Plan, String> {
    let mut options = Options::default();
    options.kubernetes = minor;
    let loaded = holdfast_manifest::load(&[Source::new("manifest", manifest)], &options)
        .map_err(|e| e.to_string())?;
    let Some(Object::Pod(pod)) = loaded.objects.first() else {
        return Err("the manifest holds no Pod".into());
    };
    let mut plan = holdfast_manifest::plan::plan(pod);
    plan.uid = "UID".into();
    Ok(plan)
}

/// `SECONDS WORD …`
fn fact(line: &str) -> Result<(Time, Fact), String> {
    let (at, rest) = line.split_once(' ').ok_or("no time")?;
    let at = time(at).ok_or("no time")?;
    // A text stands at the end, in quotes.
    let (words, text) = match rest.find('"') {
        Some(at) => (&rest[..at], unquote(&rest[at..])?),
        None => (rest, String::new()),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let fact = match words.as_slice() {
        ["mounted"] => Fact::Mounted,
        ["sandbox", attempt, ip @ ..] => {
            let ip = ip.first().map(|ip| ip.parse().map_err(|e| format!("{ip}: {e}")));
            Fact::Sandbox(number(attempt)? as u32, ip.transpose()?)
        }
        ["started", name, _] => Fact::Started((*name).into()),
        ["pull-failed", name, reason] => Fact::PullFailed((*name).into(), (*reason).into(), text),
        ["start-failed", name, stage] => {
            let stage = match *stage {
                "config" => StartStage::Config,
                "create" => StartStage::Create,
                "run" => StartStage::Run,
                _ => return Err("no such stage".into()),
            };
            Fact::StartFailed((*name).into(), stage, text)
        }
        ["exited", name, run, "code", code, oom @ ..] => Fact::Exited {
            name: (*name).into(),
            run: number(run)? as usize,
            code: code.parse().map_err(|e| format!("{code}: {e}"))?,
            oom: oom == ["OOMKilled"],
            message: text,
        },
        ["probe", name, _, kind, answer] => {
            let kind = match *kind {
                "startup" => ProbeKind::Startup,
                "readiness" => ProbeKind::Readiness,
                "liveness" => ProbeKind::Liveness,
                _ => return Err("no such probe".into()),
            };
            let answer = match *answer {
                "ok" => ProbeResult::Success,
                "bad" => ProbeResult::Failure(text),
                "error" => ProbeResult::Error(text),
                _ => return Err("no such answer".into()),
            };
            Fact::Probe((*name).into(), kind, answer)
        }
        ["hook", name, _, kind, end] => {
            let kind = match *kind {
                "postStart" => HookKind::PostStart,
                "preStop" => HookKind::PreStop,
                _ => return Err("no such hook".into()),
            };
            let end = match *end {
                "ok" => Ok(()),
                "failed" => Err(text),
                _ => return Err("no such end".into()),
            };
            Fact::Hook((*name).into(), kind, end)
        }
        ["stop", name, run, "grace", grace] => {
            Fact::Stop { name: (*name).into(), run: number(run)? as usize, grace: number(grace)? }
        }
        ["delete", grace] => Fact::Delete(Duration::from_secs(number(grace)?)),
        ["sandbox-lost"] => Fact::SandboxLost,
        ["kubelet-restarted"] => Fact::KubeletRestarted,
        ["gone"] => Fact::Gone,
        _ => return Err("nothing that is known".into()),
    };
    Ok((at, fact))
}

/// `-0.123` counts as 0.
fn time(text: &str) -> Option<Time> {
    let (seconds, millis) = text.split_once('.')?;
    if seconds.starts_with('-') {
        return Some(epoch());
    }
    let millis = seconds.parse::<u64>().ok()? * 1000 + millis.parse::<u64>().ok()?;
    Some(epoch() + Duration::from_millis(millis))
}

/// The time 0.000 of a trace. Not the engine's zero, so that nothing can hide in it.
pub(crate) const fn epoch() -> Time {
    Time::from_secs(1_000_000)
}

pub(crate) fn seconds(at: Time) -> String {
    format!("{:.3}", at.since(epoch()).as_secs_f64())
}

/// A JSON string.
fn unquote(text: &str) -> Result<String, String> {
    serde_json::from_str(text.trim_end()).map_err(|e| format!("{text}: {e}"))
}

/// A text as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
