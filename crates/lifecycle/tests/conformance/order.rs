//! Assertions on the log that the containers of a scenario write, in upstream's terms
//! (`StartsBefore`, `ExitsBefore`, `RunTogether`, …).

use std::fmt::Write as _;
use std::time::Duration;

use holdfast_lifecycle::Time;

use crate::text::duration;

/// One line of the log: when, who, what.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it was written.
    pub(crate) at: Time,
    /// A container, or `Post-`, `Pre-`, `Startup-`, `Liveness-`, `Readiness-` and its name.
    pub(crate) who: String,
    /// `Starting`, `Started`, `Delaying`, `Looping` or `Exiting`.
    pub(crate) what: &'static str,
}

/// One assertion.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// `A < B`: upstream's `StartsBefore`.
    StartsBefore(String, String),
    /// `A <x B`: `ExitsBefore`.
    ExitsBefore(String, String),
    /// `A // B`: `RunTogether`.
    Together(String, String),
    /// `A //> B`: `RunTogetherLhsFirst`.
    TogetherFirst(String, String),
    /// `start A`: `Starts`.
    Starts(String),
    /// `!start A`: `DoesntStart`.
    NeverStarts(String),
    /// `exit A`: `Exits`.
    Exits(String),
    /// `re A`: `HasRestarted`.
    Restarted(String),
    /// `!re A`: `HasNotRestarted`.
    NotRestarted(String),
    /// `not …`: the assertion must fail.
    Not(Box<Order>),
    /// `round 2: A < B < C`: the second `Started` of each, in this order.
    Round(usize, Vec<String>),
    /// `A ~start B 1s`: first `Starting` within this time of each other.
    StartNear(String, String, Duration),
    /// `A ~loop B 1s`: last `Looping` within this time of each other.
    LoopNear(String, String, Duration),
    /// `A lives 32s 1500ms`: from first `Starting` to last `Looping`, plus or minus.
    Lives(String, Duration, Duration),
}

/// Parses assertions separated by commas.
pub(crate) fn parse(words: &[String]) -> Result<Vec<Order>, String> {
    let text = words.join(" ");
    text.split(',').map(|part| one(part.trim())).collect()
}

fn one(part: &str) -> Result<Order, String> {
    let w: Vec<&str> = part.split_whitespace().collect();
    let s = |i: usize| w[i].to_owned();
    Ok(match w[..] {
        ["not", ..] => Order::Not(Box::new(one(part[3..].trim())?)),
        ["round", n, ..] => {
            let n =
                n.trim_end_matches(':').parse().map_err(|_| format!("`{part}`: which round?"))?;
            let rest = part.split_once(':').map_or("", |(_, r)| r);
            Order::Round(n, rest.split('<').map(|x| x.trim().to_owned()).collect())
        }
        ["start", _] => Order::Starts(s(1)),
        ["!start", _] => Order::NeverStarts(s(1)),
        ["exit", _] => Order::Exits(s(1)),
        ["re", _] => Order::Restarted(s(1)),
        ["!re", _] => Order::NotRestarted(s(1)),
        [_, "<", _] => Order::StartsBefore(s(0), s(2)),
        [_, "<x", _] => Order::ExitsBefore(s(0), s(2)),
        [_, "//", _] => Order::Together(s(0), s(2)),
        [_, "//>", _] => Order::TogetherFirst(s(0), s(2)),
        [_, "~start", _, d] => Order::StartNear(s(0), s(2), duration(d)?),
        [_, "~loop", _, d] => Order::LoopNear(s(0), s(2), duration(d)?),
        [_, "lives", d, t] => Order::Lives(s(0), duration(d)?, duration(t)?),
        _ => return Err(format!("`{part}` is not an assertion on the log")),
    })
}

/// The log of a scenario, in time order.
#[derive(Default)]
pub(crate) struct Log {
    /// Its lines.
    pub(crate) lines: Vec<Line>,
}

impl Log {
    fn find(&self, who: &str, what: &str, from: usize) -> Option<usize> {
        (from..self.lines.len()).find(|&i| self.lines[i].who == who && self.lines[i].what == what)
    }

    fn need(&self, who: &str, what: &str, from: usize) -> Result<usize, String> {
        self.find(who, what, from).ok_or_else(|| format!("no `{who} {what}`"))
    }

    fn last(&self, who: &str, what: &str) -> Result<Time, String> {
        self.lines
            .iter()
            .rev()
            .find(|l| l.who == who && l.what == what)
            .map(|l| l.at)
            .ok_or_else(|| format!("no `{who} {what}`"))
    }

    fn together_first(&self, a: &str, b: &str) -> Result<(), String> {
        let a_start = self.need(a, "Started", 0)?;
        let b_start = self.need(b, "Started", a_start + 1)?;
        let a_exit = self.need(a, "Exiting", a_start + 1)?;
        if b_start > a_exit {
            return Err(format!("{b} started after {a} exited"));
        }
        self.need(b, "Exiting", b_start + 1)?;
        Ok(())
    }

    /// Checks one assertion.
    pub(crate) fn check(&self, order: &Order) -> Result<(), String> {
        match order {
            Order::StartsBefore(a, b) => {
                let first = self.need(a, "Started", 0)?;
                self.need(b, "Starting", first + 1).map(drop)
            }
            Order::ExitsBefore(a, b) => {
                let first = self.need(a, "Exiting", 0)?;
                self.need(b, "Exiting", first + 1).map(drop)
            }
            Order::TogetherFirst(a, b) => self.together_first(a, b),
            Order::Together(a, b) => {
                self.together_first(a, b).or_else(|_| self.together_first(b, a))
            }
            Order::Starts(a) => self.need(a, "Started", 0).map(drop),
            Order::NeverStarts(a) => match self.find(a, "Started", 0) {
                None => Ok(()),
                Some(_) => Err(format!("{a} started")),
            },
            Order::Exits(a) => self.need(a, "Exiting", 0).map(drop),
            Order::Restarted(a) => {
                let first = self.need(a, "Starting", 0)?;
                self.need(a, "Starting", first + 1).map(drop)
            }
            Order::NotRestarted(a) => {
                let first = self.need(a, "Starting", 0)?;
                match self.find(a, "Starting", first + 1) {
                    None => Ok(()),
                    Some(_) => Err(format!("{a} restarted")),
                }
            }
            Order::Not(inner) => match self.check(inner) {
                Ok(()) => Err("it holds, but must not".into()),
                Err(_) => Ok(()),
            },
            Order::Round(n, names) => {
                let mut before = None;
                for name in names {
                    let mut at = 0;
                    for round in 0..*n {
                        at = self.need(name, "Started", if round == 0 { 0 } else { at + 1 })?;
                    }
                    if before.is_some_and(|b| at < b) {
                        return Err(format!("{name} is too early in round {n}"));
                    }
                    before = Some(at);
                }
                Ok(())
            }
            Order::StartNear(a, b, tolerance) => {
                let at = |who: &str| self.need(who, "Starting", 0).map(|i| self.lines[i].at);
                near(at(a)?, at(b)?, *tolerance)
            }
            Order::LoopNear(a, b, tolerance) => {
                near(self.last(a, "Looping")?, self.last(b, "Looping")?, *tolerance)
            }
            Order::Lives(a, span, tolerance) => {
                let start = self.lines[self.need(a, "Starting", 0)?].at;
                let life = self.last(a, "Looping")?.since(start);
                if life.abs_diff(*span) <= *tolerance {
                    Ok(())
                } else {
                    Err(format!("{a} lived {life:?}"))
                }
            }
        }
    }

    /// The log for a failure message.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        for l in self.lines.iter().filter(|l| l.what != "Delaying").take(120) {
            let _ =
                writeln!(out, "      {:>9.3} {} {}", l.at.as_nanos() as f64 / 1e9, l.who, l.what);
        }
        out
    }
}

fn near(a: Time, b: Time, tolerance: Duration) -> Result<(), String> {
    let apart = a.since(b).max(b.since(a));
    if apart <= tolerance { Ok(()) } else { Err(format!("{apart:?} apart")) }
}
