//! What the containers of a scenario do: processes, probes and hooks as data, and their notation.
//!
//! `(d,x,t)` is upstream's `ExecCommand`: it logs `Starting`, works for its start delay, logs
//! `Started`, works `d` seconds (`-` is for ever), logs `Exiting` and exits with `x`; on SIGTERM it
//! works `t` seconds and exits with `x`. `plain(d,x)` is a program that logs nothing and, being
//! PID 1 without a handler, ignores SIGTERM; `plain(d,x,t)` handles it.

use std::time::Duration;

use holdfast_lifecycle::plan::{Probe, RestartPolicy, RestartRule, RuleAction};

use crate::text::{call, duration};

/// One container of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// What it does on its first, second, … run; the last entry repeats.
    pub(crate) runs: Vec<Program>,
    /// Files that it makes or removes in its own file system.
    pub(crate) files: Vec<FileChange>,
    /// What a probe of each kind finds.
    pub(crate) startup: Option<Check>,
    /// See [`Script::startup`].
    pub(crate) readiness: Option<Check>,
    /// See [`Script::startup`].
    pub(crate) liveness: Option<Check>,
    /// What `postStart` does.
    pub(crate) post: Option<HookScript>,
    /// What `preStop` does.
    pub(crate) pre: Option<HookScript>,
    /// The runtime fails to start it this often (every time for `u32::MAX`).
    pub(crate) start_failures: u32,
}

/// One run of a container's main process.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Whether it logs the upstream markers.
    pub(crate) logs: bool,
    /// Time before it is up (has written its `started` file).
    pub(crate) start_delay: Duration,
    /// Time it works after that; `None` is for ever.
    pub(crate) runs: Option<Duration>,
    /// Exit code.
    pub(crate) exit: i32,
    /// Time from SIGTERM to its end; `None` ignores the signal.
    pub(crate) on_term: Option<Duration>,
}

/// A file made (`+name@secs`) or removed (`-name@secs`, `-name@term`).
#[derive(Clone, Debug)]
pub(crate) struct FileChange {
    /// Its name.
    pub(crate) name: String,
    /// Made rather than removed.
    pub(crate) make: bool,
    /// When, after the process started; `None` is on SIGTERM.
    pub(crate) at: Option<Duration>,
}

/// What a probe finds.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    /// A command that succeeds (`ok`) or fails (`bad`) at once, or a port that is (not) open.
    Fixed(bool),
    /// Succeeds if the container's own file is there (`started`, `file(name)`).
    File(String),
    /// A command that takes this long (`takes(10)`), then succeeds or fails.
    Takes(Duration, bool),
    /// A command that logs the upstream markers and exits with this code (`logs(1)`).
    Logs(i32),
    /// An HTTP answer by time since the process started: `http(200@0,500@10)`.
    Http(Vec<(Duration, u16)>),
    /// One answer after the other, the last one repeats: `answers(SFE)` for success, failure, error.
    Answers(Vec<char>),
    /// An HTTP redirect to another host, which is not followed (`redirect`).
    RedirectAway,
}

/// What a hook does.
#[derive(Clone, Debug)]
pub(crate) enum HookScript {
    /// A command that logs the upstream markers: `logs(start delay,duration,exit)`.
    Logs {
        /// Before `Started`.
        start_delay: Duration,
        /// From `Started` to `Exiting`.
        runs: Duration,
        /// Exit code.
        exit: i32,
    },
    /// A command without logs: `exec(duration,exit)`.
    Exec(Duration, i32),
    /// The sleep handler: `sleep(d)`.
    Sleep(Duration),
    /// Loops and logs until the container ends.
    Loop,
    /// Waits for the container's own `started` file.
    Gate,
    /// A request to a container that must be up: `http(name)`.
    Http(String),
    /// A handler that cannot run at all (`tcpSocket`).
    Invalid,
}

fn numbers(inside: &str) -> Vec<&str> {
    inside.split(',').map(str::trim).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

impl Program {
    /// Parses `(d,x,t)`, `plain(d,x,t)` or `pause`.
    pub(crate) fn parse(word: &str) -> Result<Option<Self>, String> {
        if word == "pause" {
            return Ok(Some(Self {
                logs: false,
                start_delay: Duration::ZERO,
                runs: None,
                exit: 0,
                on_term: Some(Duration::ZERO),
            }));
        }
        let (logs, inside) = if let Some(i) = call(word, "", '(', ')') {
            (true, i)
        } else if let Some(i) = call(word, "plain", '(', ')') {
            (false, i)
        } else {
            return Ok(None);
        };
        let parts = numbers(inside);
        let runs = match parts.first() {
            None | Some(&"-" | &"") => None,
            Some(d) => Some(duration(d)?),
        };
        let exit = parts.get(1).map_or(Ok(0), |x| number(x))?;
        let on_term = match parts.get(2) {
            Some(t) => Some(duration(t)?),
            None => logs.then_some(Duration::ZERO),
        };
        Ok(Some(Self { logs, start_delay: Duration::ZERO, runs, exit, on_term }))
    }
}

impl Script {
    /// A container that does nothing in particular.
    pub(crate) const fn new() -> Self {
        Self {
            runs: Vec::new(),
            files: Vec::new(),
            startup: None,
            readiness: None,
            liveness: None,
            post: None,
            pre: None,
            start_failures: 0,
        }
    }

    /// What it does on run number `n`, from 0.
    pub(crate) fn program(&self, n: usize) -> &Program {
        &self.runs[n.min(self.runs.len() - 1)]
    }

    /// Adds `files{+a@0,-a@10,-b@term}`.
    pub(crate) fn parse_files(&mut self, inside: &str) -> Result<(), String> {
        for item in numbers(inside) {
            let bad = || format!("`{item}` is not a file change like +name@10");
            let (make, rest) = if let Some(r) = item.strip_prefix('+') {
                (true, r)
            } else {
                (false, item.strip_prefix('-').ok_or_else(bad)?)
            };
            let (name, at) = rest.split_once('@').ok_or_else(bad)?;
            let at = if at == "term" { None } else { Some(duration(at)?) };
            self.files.push(FileChange { name: name.into(), make, at });
        }
        Ok(())
    }
}

/// Parses the inside of `sp{…}`: what it finds, then `init=`, `per=`, `fail=`, `succ=`, `timeout=`,
/// `tgps=`.
pub(crate) fn parse_probe(inside: &str) -> Result<(Check, Probe), String> {
    let mut probe = Probe::default();
    let mut check = None;
    for word in crate::text::words(inside)? {
        if let Some((key, value)) = word.split_once('=')
            && !word.contains('(')
        {
            match key {
                "init" => probe.initial_delay = duration(value)?,
                "per" => probe.period = duration(value)?,
                "timeout" => probe.timeout = duration(value)?,
                "succ" => probe.success_threshold = number(value)?,
                "fail" => probe.failure_threshold = number(value)?,
                "tgps" => probe.termination_grace = Some(duration(value)?),
                _ => return Err(format!("a probe has no `{key}`")),
            }
        } else {
            check = Some(parse_check(&word)?);
        }
    }
    Ok((check.ok_or("the probe does not say what it finds")?, probe))
}

fn parse_check(word: &str) -> Result<Check, String> {
    Ok(match word {
        "ok" => Check::Fixed(true),
        "bad" => Check::Fixed(false),
        "started" => Check::File("started".into()),
        "redirect" => Check::RedirectAway,
        _ => {
            if let Some(i) = call(word, "file", '(', ')') {
                Check::File(i.into())
            } else if let Some(i) = call(word, "takes", '(', ')') {
                let parts = numbers(i);
                Check::Takes(duration(parts[0])?, parts.get(1) != Some(&"bad"))
            } else if let Some(i) = call(word, "logs", '(', ')') {
                Check::Logs(number(i)?)
            } else if let Some(i) = call(word, "answers", '(', ')') {
                if i.is_empty() || !i.chars().all(|c| "SFE".contains(c)) {
                    return Err("answers(SFE…)".into());
                }
                Check::Answers(i.chars().collect())
            } else if let Some(i) = call(word, "http", '(', ')') {
                let mut answers = Vec::new();
                for item in numbers(i) {
                    let (code, at) = item.split_once('@').unwrap_or((item, "0"));
                    answers.push((duration(at)?, number(code)?));
                }
                Check::Http(answers)
            } else {
                return Err(format!("a probe cannot find `{word}`"));
            }
        }
    })
}

/// Parses the inside of `post{…}` or `pre{…}`.
pub(crate) fn parse_hook(inside: &str) -> Result<HookScript, String> {
    let word = inside.trim();
    Ok(match word {
        "loop" => HookScript::Loop,
        "gate" => HookScript::Gate,
        "tcp" => HookScript::Invalid,
        _ => {
            if let Some(i) = call(word, "logs", '(', ')') {
                let p = numbers(i);
                if p.len() != 3 {
                    return Err("logs(start delay,duration,exit)".into());
                }
                HookScript::Logs {
                    start_delay: duration(p[0])?,
                    runs: duration(p[1])?,
                    exit: number(p[2])?,
                }
            } else if let Some(i) = call(word, "exec", '(', ')') {
                let p = numbers(i);
                HookScript::Exec(duration(p[0])?, p.get(1).map_or(Ok(0), |x| number(x))?)
            } else if let Some(i) = call(word, "sleep", '(', ')') {
                HookScript::Sleep(duration(i)?)
            } else if let Some(i) = call(word, "http", '(', ')') {
                HookScript::Http(i.into())
            } else {
                return Err(format!("a hook cannot do `{word}`"));
            }
        }
    })
}

/// Parses `A`, `Always`, `O`, `OnFailure`, `N` or `Never`.
pub(crate) fn parse_policy(word: &str) -> Result<RestartPolicy, String> {
    Ok(match word {
        "A" | "Always" => RestartPolicy::Always,
        "O" | "OnFailure" => RestartPolicy::OnFailure,
        "N" | "Never" => RestartPolicy::Never,
        _ => return Err(format!("`{word}` is not a restart policy")),
    })
}

/// Parses the inside of `rule{Restart In 42,43}`.
pub(crate) fn parse_rule(inside: &str) -> Result<RestartRule, String> {
    let parts: Vec<&str> = inside.split_whitespace().collect();
    let [action, op, values] = parts[..] else {
        return Err("rule{Restart|RestartAllContainers In|NotIn codes}".into());
    };
    Ok(RestartRule {
        action: match action {
            "Restart" => RuleAction::Restart,
            "RestartAllContainers" => RuleAction::RestartAllContainers,
            _ => return Err(format!("`{action}` is not an action of a rule")),
        },
        negated: match op {
            "In" => false,
            "NotIn" => true,
            _ => return Err(format!("`{op}` is not In or NotIn")),
        },
        values: numbers(values).into_iter().map(number).collect::<Result<_, _>>()?,
    })
}
