//! An explanation for people: tables and sentences, as wide as the terminal.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use holdfast_lifecycle::{Kind, order};

use crate::bounds::{Chance, When};
use crate::explanation::{Explanation, JobForecast};
use crate::picture::text::gantt;
use crate::picture::words;
use crate::span::{Span, short};

/// How things are shown.
#[derive(Clone, Copy, Default)]
struct Paint {
    /// Headings.
    head: Style,
    /// What goes wrong, and what may.
    bad: Style,
    doubt: Style,
    good: Style,
    /// What is only said beside.
    aside: Style,
}

const COLORS: Paint = Paint {
    head: Style::new().bold(),
    bad: AnsiColor::Red.on_default(),
    doubt: AnsiColor::Yellow.on_default(),
    good: AnsiColor::Green.on_default(),
    aside: Style::new().dimmed(),
};

/// Rows of the course that are shown.
const ROWS: usize = 16;

/// The text; `width` is in columns, and `styled` brings escape sequences for colours.
pub fn text(e: &Explanation, minor: u32, width: usize, styled: bool) -> String {
    let paint = if styled { COLORS } else { Paint::default() };
    let mut out = String::new();
    title(&mut out, paint, e, minor);
    table(&mut out, paint, e, width);
    chart(&mut out, e, width, styled);
    outcome(&mut out, paint, e);
    let sections = [
        ("Nothing guarantees", paint.doubt, &e.notes.not_guaranteed),
        ("Probes that kill", paint.bad, &e.notes.kills),
        ("Not known", paint.aside, &e.notes.unknown),
    ];
    for (title, style, lines) in sections {
        section(&mut out, paint.head, title, style, lines, width);
    }
    course(&mut out, paint, e);
    stopping(&mut out, paint, e, width);
    out
}

/// A line. Writing to a String cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { writeln!($out, $($arg)*).unwrap_or_default() };
}

fn title(out: &mut String, paint: Paint, e: &Explanation, minor: u32) {
    let Paint { aside, head, .. } = paint;
    let s = &e.subject;
    let pods = if s.count == 1 { String::new() } else { format!(", {} pods", s.count) };
    put!(out, "{head}{} {}{head:#}{pods}, Kubernetes 1.{minor}", s.kind, s.workload);
    for assumed in &e.assumed {
        put!(out, "{aside}assumed: {assumed}{aside:#}");
    }
    if e.faulty {
        put!(
            out,
            "{aside}with faults: the chart and the rows below; the table is of a life without{aside:#}"
        );
    }
}

/// One line a container, the last column as long as it needs.
fn table(out: &mut String, paint: Paint, e: &Explanation, width: usize) {
    let Paint { aside, bad, head, .. } = paint;
    let plan = &e.subject.plan;
    let header = ["CONTAINER", "KIND", "STARTS", "STARTED", "READY", "MAY BE KILLED", "WAITS FOR"];
    let mut rows = vec![header.map(str::to_owned)];
    for (id, b) in plan.ids().map(|id| (id, &e.bounds.containers[id.index()])) {
        let c = plan.container(id);
        let plain = c.kind == Kind::Init;
        let start = b.start.span().map_or(Span::ZERO, |s| s);
        let killed = b.kills.iter().filter(|kill| kill.chance != Chance::Excluded);
        let killed = killed.map(|kill| from(start + kill.after)).collect::<Vec<_>>();
        rows.push([
            c.name.to_string(),
            words::kind(Some(c.kind.into())).to_owned(),
            cell(&b.start),
            if plain { "-".to_owned() } else { cell(&b.started) },
            if plain { format!("ends {}", cell(&b.ready)) } else { cell(&b.ready) },
            if killed.is_empty() || b.start.span().is_none() {
                "-".to_owned()
            } else {
                killed.join(", ")
            },
            order::words(plan, &b.waits),
        ]);
    }
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().map(|row| words::columns(&row[column])).max().unwrap_or(0)
    });
    out.push('\n');
    for (at, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let gap = width.saturating_sub(words::columns(cell)) + 3;
            let style = match cell.as_str() {
                _ if at == 0 => head,
                "never" | "ends never" => bad,
                _ => Style::new(),
            };
            line += &format!("{style}{cell}{style:#}{:gap$}", "");
        }
        let used: usize = widths.iter().map(|w| w + 3).sum();
        let style = if at == 0 { head } else { Style::new() };
        let room = width.saturating_sub(used).max(12);
        for (n, part) in wrap(&row[6], room).iter().enumerate() {
            if n > 0 {
                line += &format!("\n{:used$}", "");
            }
            line += &format!("{style}{part}{style:#}");
        }
        put!(out, "{line}");
    }
    if rows.iter().flatten().any(|cell| cell.contains('…')) {
        put!(out, "{aside}5 s…: not before 5 s, and nothing says until when{aside:#}");
    }
}

/// A time for a table: `5 s`, `5 s–7 s`, `5 s…`, `never`.
fn cell(when: &When) -> String {
    match when {
        When::Within(span) => between(*span),
        When::Never(_) => "never".to_owned(),
    }
}

fn between(span: Span) -> String {
    match span.max {
        Some(max) if max == span.min => short(max),
        Some(max) => format!("{}–{}", short(span.min), short(max)),
        None => format!("{}…", short(span.min)),
    }
}

/// From when on.
fn from(span: Span) -> String {
    format!("from {}", short(span.min))
}

/// The earliest course, of a Job that of its first pod.
fn chart(out: &mut String, e: &Explanation, width: usize, styled: bool) {
    let mut timeline = e.timeline();
    timeline.pods.truncate(1);
    let first = timeline.pods.first().map(|pod| pod.name.clone()).unwrap_or_default();
    timeline.marks.retain(|mark| mark.pod == first);
    out.push('\n');
    out.push_str(&gantt(&timeline, width, styled));
}

fn outcome(out: &mut String, paint: Paint, e: &Explanation) {
    let Paint { bad, doubt, good, head, .. } = paint;
    out.push('\n');
    match &e.bounds.ready {
        When::Within(span) => put!(out, "The pod is Ready: {head}{}{head:#}", said(*span)),
        When::Never(why) => put!(out, "The pod is Ready: {bad}never{bad:#}, for {why}"),
    }
    match &e.job {
        None => match &e.bounds.end {
            When::Within(span) => put!(out, "The pod ends: {head}{}{head:#}", said(*span)),
            When::Never(why) => put!(out, "The pod ends: never by itself, for {why}"),
        },
        Some(JobForecast::Never(why)) => {
            put!(out, "The Job ends: {bad}never{bad:#}, for {why}");
        }
        Some(JobForecast::Ends { at, end }) => {
            let pods = if end.pods == 1 { "its pod".into() } else { format!("{} pods", end.pods) };
            let (style, how) = match end.complete {
                true => (good, "Complete".to_owned()),
                false => (bad, format!("Failed ({})", end.reason)),
            };
            put!(
                out,
                "The Job ends: {style}{how}{style:#} {head}{}{head:#}, after {pods}",
                said(*at)
            );
        }
        Some(JobForecast::May(end)) => {
            let how = if end.complete { "Complete" } else { "Failed" };
            put!(
                out,
                "The Job ends: {doubt}perhaps{doubt:#} {how}, {} at the earliest",
                short(end.at)
            );
        }
    }
}

/// `5 s after its start`, `5 s to 7 s after its start`, `5 s after its start or later`.
fn said(span: Span) -> String {
    match span.max {
        None if span.min.is_zero() => "at any time, or never".to_owned(),
        None => format!("{} after its start at the earliest", short(span.min)),
        Some(_) => format!("{span} after its start"),
    }
}

fn section(
    out: &mut String,
    head: Style,
    title: &str,
    style: Style,
    lines: &[String],
    width: usize,
) {
    if lines.is_empty() {
        return;
    }
    put!(out, "\n{head}{title}{head:#}");
    for line in lines {
        bullet(out, style, line, width);
    }
}

fn bullet(out: &mut String, style: Style, line: &str, width: usize) {
    for (at, part) in wrap(line, width.saturating_sub(4).max(30)).iter().enumerate() {
        let mark = if at == 0 { "•" } else { " " };
        put!(out, "  {style}{mark}{style:#} {part}");
    }
}

/// The rows that `kubectl get pods -w` would print.
fn course(out: &mut String, paint: Paint, e: &Explanation) {
    let Paint { aside, head, .. } = paint;
    put!(out, "\n{head}What kubectl would show, if everything takes as little as is known{head:#}");
    let name = e.earliest.rows.iter().map(|(_, name, _)| words::columns(name)).max().unwrap_or(4);
    let name = name.max(4);
    put!(
        out,
        "  {aside}{:>8}  {:name$}   READY   STATUS              RESTARTS{aside:#}",
        "AT",
        "NAME"
    );
    for (at, pod, row) in e.earliest.rows.iter().take(ROWS) {
        let line = format!(
            "  {:>8}  {}   {:5}   {:17}   {}",
            short(*at),
            words::padded(pod, name),
            row.ready_text(),
            row.status,
            row.restarts
        );
        put!(out, "{}", line.trim_end());
    }
    let more = e.earliest.rows.len().saturating_sub(ROWS);
    if more > 0 {
        put!(out, "  {aside}{:>8}  and {more} more{aside:#}", "…");
    }
    if e.earliest.goes_on {
        put!(out, "  {aside}{:>8}  and so on{aside:#}", "…");
    }
}

fn stopping(out: &mut String, paint: Paint, e: &Explanation, width: usize) {
    let Paint { head, .. } = paint;
    let grace = short(e.subject.plan.termination_grace);
    put!(out, "\n{head}How it stops when it is deleted{head:#} (grace period {grace})");
    let ats: Vec<String> = e.stops.iter().map(|step| between(step.at)).collect();
    let column = ats.iter().map(|at| words::columns(at)).max().unwrap_or(0).max(8);
    for (step, at) in e.stops.iter().zip(ats) {
        for (n, part) in
            wrap(&step.what, width.saturating_sub(column + 4).max(30)).iter().enumerate()
        {
            let at = if n == 0 { at.as_str() } else { "" };
            put!(out, "  {at:>column$}  {part}");
        }
    }
}

/// Breaks a text at blanks into lines of at most so many columns; a word is never broken.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split(' ') {
        let columns = words::columns(word);
        match lines.last_mut() {
            Some(line) if used + 1 + columns <= width => {
                line.push(' ');
                line.push_str(word);
                used += 1 + columns;
            }
            _ => {
                lines.push(word.to_owned());
                used = columns;
            }
        }
    }
    lines
}
