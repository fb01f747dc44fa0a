//! Times and texts, as pictures say them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

use super::critical::Goal;
use super::scene::{Lane, PodScene, Probe, Segment, Span, What};
use crate::timeline::{Bounded, Bounds, ContainerKind, HookName, Mark, ProbeName, Step};

/// A length of time in seconds: `3 ms`, `1.25 s`, `2m05s`, `1h02m`.
pub(crate) fn time(seconds: f64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let sign = if seconds < 0.0 { "−" } else { "" };
        let s = seconds.abs();
        let whole = (s.round().min(1e15)) as u64;
        match s {
            _ if s == 0.0 => f.write_str("0 s"),
            _ if s < 0.000_95 => write!(f, "{sign}{:.1} ms", (s * 1e3).max(0.1)),
            _ if s < 0.009_95 => write!(f, "{sign}{} ms", short(s * 1e3, 1)),
            _ if s < 0.999_5 => write!(f, "{sign}{:.0} ms", s * 1e3),
            _ if s < 9.995 => write!(f, "{sign}{} s", short(s, 2)),
            _ if s < 99.95 => write!(f, "{sign}{} s", short(s, 1)),
            _ if whole < 120 => write!(f, "{sign}{whole} s"),
            _ if whole < 3600 => write!(f, "{sign}{}m{:02}s", whole / 60, whole % 60),
            _ => write!(f, "{sign}{}h{:02}m", whole / 3600, whole / 60 % 60),
        }
    })
}

/// Without zeros at the end.
fn short(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) const fn kind(kind: Option<ContainerKind>) -> &'static str {
    match kind {
        Some(ContainerKind::Init) => "init",
        Some(ContainerKind::Sidecar) => "sidecar",
        Some(ContainerKind::App) => "app",
        Some(ContainerKind::Ephemeral) => "ephemeral",
        None => "",
    }
}

pub(crate) const fn probe(probe: ProbeName) -> &'static str {
    match probe {
        ProbeName::Startup => "startupProbe",
        ProbeName::Readiness => "readinessProbe",
        ProbeName::Liveness => "livenessProbe",
    }
}

pub(crate) const fn hook(hook: HookName) -> &'static str {
    match hook {
        HookName::PostStart => "postStart hook",
        HookName::PreStop => "preStop hook",
    }
}

pub(crate) const fn bounded(what: Bounded) -> &'static str {
    match what {
        Bounded::Start => "start",
        Bounded::Started => "started",
        Bounded::Ready => "ready",
        Bounded::Kill => "kill",
        Bounded::End => "end",
    }
}

/// From the earliest to the latest.
pub(crate) fn interval(earliest: f64, latest: Option<f64>) -> String {
    match latest {
        None => format!("{} at the earliest, no bound", time(earliest)),
        Some(latest) if latest == earliest => format!("at {}", time(earliest)),
        Some(latest) => format!("{} to {}", time(earliest), time(latest)),
    }
}

/// What became of a pod: `Ready at 3.2 s, ended at 5 s`.
pub(crate) fn outcome(pod: &PodScene<'_>) -> String {
    let mut parts = Vec::new();
    match pod.ready.first() {
        Some(ready) => parts.push(format!("Ready at {}", time(ready.from))),
        None if !pod.lanes.iter().all(|l| l.marks.is_empty()) => parts.push("never Ready".into()),
        None => {}
    }
    match pod.phases.last() {
        Some((span, phase @ ("Succeeded" | "Failed"))) => {
            parts.push(format!("{} at {}", clean(phase, 20), time(span.from)));
        }
        _ => {
            let goes_on = |lane: &Lane<'_>| lane.segments.last().is_some_and(|s| s.span.open);
            let ends = pod.lanes.iter().filter_map(|l| l.exits.last()).map(|e| e.at);
            let last = ends.max_by(f64::total_cmp).filter(|_| !pod.lanes.iter().any(goes_on));
            parts.extend(last.map(|at| format!("ended at {}", time(at))));
        }
    }
    parts.join(", ")
}

/// The critical path: `sandbox 20 ms → migrate 0.5 s → app 1 s`; of a long one only its longest parts.
pub(crate) fn path(pod: &PodScene<'_>) -> Option<String> {
    let name = |lane: Option<usize>| {
        let name = lane.and_then(|l| pod.lanes.get(l)).map_or("sandbox", |l| l.name);
        clean(name, 63)
    };
    // Runs of the same container follow each other.
    let mut parts: Vec<(Option<usize>, f64)> = Vec::new();
    for s in &pod.path.stretches {
        match parts.last_mut() {
            Some((lane, length)) if *lane == s.lane => *length += s.to - s.from,
            _ => parts.push((s.lane, s.to - s.from)),
        }
    }
    // Where nothing was reached, the last part has no length: it ends where the picture does.
    let last = parts.last().map(|last| last.0).filter(|_| pod.path.goal == Goal::Open);
    let open = |lane: Option<usize>| last == Some(lane);
    let say = |&(lane, length): &(Option<usize>, f64)| match open(lane) {
        true => format!("{} …", name(lane)),
        false => format!("{} {}", name(lane), time(length)),
    };
    if parts.is_empty() {
        return None;
    }
    if parts.len() <= MANY_PARTS {
        return Some(parts.iter().map(say).collect::<Vec<_>>().join(" → "));
    }
    let count = parts.len();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let longest: Vec<String> = parts.iter().take(4).map(say).collect();
    Some(format!("{count} steps, the longest {}", longest.join(", ")))
}

/// With more parts than this, nobody would read them all.
const MANY_PARTS: usize = 10;

/// One line of at most `max` columns: nothing in it moves the cursor, turns the direction of what
/// follows, or is invisible. What is cut off leaves an ellipsis.
pub(crate) fn clean(text: &str, max: usize) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() || is_invisible(c);
    let shown = |c: char| match c {
        '\n' | '\t' => ' ',
        c if bad(c) => '\u{fffd}',
        c => c,
    };
    // Most are plain and short.
    if text.len() <= max && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Cow::Borrowed(text);
    }
    // Where to cut, with room for the ellipsis; no more is looked at than is needed.
    let (mut used, mut cut, mut marks, mut long) = (0, 0, 0, false);
    for (at, c) in text.char_indices() {
        let width = columns_of(shown(c));
        marks = if width == 0 { marks + 1 } else { 0 };
        used += width;
        if used > max || marks > MARKS {
            long = true;
            break;
        }
        if used < max {
            cut = at + c.len_utf8();
        }
    }
    if !long && !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let kept = if long { &text[..cut] } else { text };
    let mut out: String = kept.chars().map(shown).collect();
    if long {
        out.push('…');
    }
    Cow::Owned(out)
}

/// A letter has no more accents than this in any script; more of them would cover what is around it.
const MARKS: usize = 8;

/// How many columns of a terminal a text takes: of Chinese two a character, of accents none.
pub(crate) fn columns(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(columns_of).sum() }
}

fn columns_of(c: char) -> usize {
    match c {
        // Asks for the wide form of the character before it.
        '\u{fe0f}' => 1,
        c => c.width().unwrap_or(1),
    }
}

/// The text with spaces behind it, so many columns in all.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{:1$}", "", width.saturating_sub(columns(text)))
}

/// Turns the direction of text, joins it, or is not seen at all: what is read is not what is there.
pub(crate) const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Steps of a scale: at most `most` of them from 0 to `end`, at 1, 2 or 5 and zeros.
pub(crate) fn scale(end: f64, most: usize) -> Vec<f64> {
    let least = end / most.max(1) as f64;
    let minutes = [60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0];
    let step = if least > 30.0 {
        minutes
            .into_iter()
            .find(|&m| m >= least)
            .unwrap_or_else(|| (least / 86400.0).ceil() * 86400.0)
    } else if least > 20.0 {
        30.0
    } else {
        let ten = 10_f64.powf(least.max(1e-6).log10().floor());
        [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|n| n * ten)
            .find(|&s| s >= least * 0.999_999)
            .unwrap_or(ten)
    };
    let count = (end / step + 1e-9).floor().min(1000.0) as u32;
    (0..=count).map(|i| f64::from(i) * step).collect()
}

/// What a segment is, for people: `waiting for the startupProbe of sidecar tunnel`.
pub(crate) fn segment(segment: &Segment<'_>, most: usize) -> String {
    let why = clean(segment.why, most);
    match segment.what {
        What::Waiting if why.is_empty() => "waiting".to_owned(),
        What::Waiting => format!("waiting for {why}"),
        What::BackOff if why.is_empty() => "back-off".to_owned(),
        What::BackOff if is_of_start(segment.why) => "back-off before it is tried again".to_owned(),
        What::BackOff => format!("back-off: {why}"),
        what => what.words().to_owned(),
    }
}

/// Words of `holdfast_lifecycle::order`, not of a runtime that refused.
fn is_of_start(why: &str) -> bool {
    why.starts_with("the end of its last run")
}

/// When: `0.5 s to 1.2 s (700 ms)`.
pub(crate) fn span(span: Span) -> String {
    let (from, to) = (time(span.from), time(span.to));
    let length = time(span.to - span.from);
    match span.open {
        true => format!("{from} to the end of the recording ({length})"),
        false => format!("{from} to {to} ({length})"),
    }
}

/// Answers of a probe: `startupProbe failed at 3 s: connection refused`.
pub(crate) fn answer(answer: &Probe<'_>, most: usize) -> String {
    let what = match answer.passed {
        Some(true) => "passed",
        Some(false) => "failed",
        None => "could not be run",
    };
    let name = probe(answer.probe);
    let message = answer.message.map(|m| format!(": {}", clean(m, most))).unwrap_or_default();
    match answer.count {
        1 => format!("{name} {what} at {}{message}", time(answer.at)),
        n => {
            let (from, to) = (time(answer.at), time(answer.to));
            format!("{name} {what} {n} times, {from} to {to}{message}")
        }
    }
}

/// What is known beforehand: `ready: 2 s at the earliest, no bound: …`.
pub(crate) fn bounds(bounds: &Bounds, most: usize) -> String {
    let note = match bounds.note.is_empty() {
        true => String::new(),
        false => format!(": {}", clean(&bounds.note, most)),
    };
    format!("{}: {}{note}", bounded(bounds.what), interval(bounds.earliest, bounds.latest))
}

/// What a mark says, and a message that may be long.
pub(crate) fn mark(mark: &Mark) -> (String, Option<&str>) {
    let text = match &mark.step {
        Step::SandboxReady => "the sandbox is there".to_owned(),
        Step::Phase { phase } => format!("phase {}", clean(phase, 40)),
        Step::Pull => "pulls its image".to_owned(),
        Step::Pulled => "has its image".to_owned(),
        Step::Start { waited_for, .. } => {
            return ("is asked to start, after".to_owned(), Some(waited_for));
        }
        Step::Running => "runs".to_owned(),
        Step::Started => "counts as started".to_owned(),
        Step::Ready if mark.container.is_none() => "is Ready".to_owned(),
        Step::Ready => "counts as ready".to_owned(),
        Step::Unready => "no longer counts as ready".to_owned(),
        Step::Probe { probe: name, passed, message } => {
            let what = match passed {
                Some(true) => "passed",
                Some(false) => "failed",
                None => "could not be run",
            };
            return (format!("{} {what}", probe(*name)), message.as_deref());
        }
        Step::HookBegun { hook: name } => format!("{} begins", hook(*name)),
        Step::HookEnded { hook: name } => format!("{} has ended", hook(*name)),
        Step::Stop { grace_seconds } => format!("is told to stop within {grace_seconds} s"),
        Step::Exited { exit_code } => format!("ends with {exit_code}"),
        Step::Refused { reason } => return ("is put off".to_owned(), Some(reason)),
    };
    (text, None)
}

/// Text for XML and HTML, in an element or in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to say them.
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) || ('\u{fffe}'..='\u{ffff}').contains(&c) => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

/// A text of several lines in which one sees what is there: `<U+202E>` in place of what is not seen.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_invisible(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            let _ = write!(out, "<U+{:04X}>", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
