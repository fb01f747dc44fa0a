//! A timeline as text: a Gantt chart that fits a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::scene::{Lane, PodScene, Scene, What};
use super::words;
use crate::timeline::{Bounded, Bounds, Timeline};

/// A chart of at most `width` columns, each line with its end. `styled` is with the colours of a terminal;
/// without, it says the same.
///
/// Of each pod: what became of it, a line for each container, and the critical path. Containers on that
/// path have a `◆` before their name. What is known beforehand ([`Timeline::bounds`]) has lines of its own.
pub fn gantt(timeline: &Timeline, width: usize, styled: bool) -> String {
    let scene = Scene::of(timeline);
    let chart = Chart::new(&scene, width, styled);
    let mut out = String::new();
    for (i, pod) in scene.pods.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        chart.pod(pod, &mut out);
    }
    chart.legend(&scene, &mut out);
    out
}

/// The sign of what a container does.
const fn sign(what: What) -> char {
    match what {
        What::Waiting => '·',
        What::Pull => '↓',
        What::Starting => '░',
        What::Running => '▒',
        What::Started => '▓',
        What::Ready => '█',
        What::Stopping => '╱',
        What::BackOff => '~',
    }
}

fn style(what: What) -> Style {
    match what {
        What::Waiting => Style::new().dimmed(),
        What::Pull => AnsiColor::Magenta.on_default(),
        What::Starting | What::BackOff => AnsiColor::Yellow.on_default(),
        What::Running => AnsiColor::Blue.on_default(),
        What::Started => AnsiColor::Cyan.on_default(),
        What::Ready => AnsiColor::Green.on_default(),
        What::Stopping => AnsiColor::Magenta.on_default(),
    }
}

/// A process that ended with another code than 0.
const FAILED: char = '×';

/// The columns of a chart.
struct Chart {
    width: usize,
    styled: bool,
    /// Names and kinds, with the spaces around them.
    names: usize,
    /// The time.
    bar: usize,
    end: f64,
}

/// A name takes no more than this, so that time has room.
const LONGEST_NAME: usize = 32;
/// A mark before each name, a space between name, kind and bar.
const GAPS: usize = 2 + 1 + 1;
const KIND: usize = "sidecar".len();

impl Chart {
    fn new(scene: &Scene<'_>, width: usize, styled: bool) -> Self {
        // Less than this shows nothing.
        let width = width.clamp(40, 400);
        let lanes = scene.pods.iter().flat_map(|p| &p.lanes);
        let name = lanes.map(|l| words::columns(l.name)).max().unwrap_or_default();
        let name = name.clamp(8, LONGEST_NAME.min(width / 3));
        let names = name + KIND + GAPS;
        let lanes = || scene.pods.iter().flat_map(|p| &p.lanes);
        let of_pods = scene.pods.iter().flat_map(|p| &p.bounds);
        let bounds = lanes().flat_map(|l| &l.bounds).chain(of_pods).map(|b| interval(b));
        let tail = lanes().map(tail).chain(bounds).map(|text| words::columns(&text)).max();
        let tail = tail.unwrap_or_default().min(width / 4);
        let bar = width.saturating_sub(names + tail + usize::from(tail > 0)).max(8);
        Self { width, styled, names, bar, end: scene.end }
    }

    fn painted(&self, style: Style, text: &str) -> String {
        match self.styled && !text.trim().is_empty() {
            true => format!("{style}{text}{style:#}"),
            false => text.to_owned(),
        }
    }

    fn pod(&self, pod: &PodScene<'_>, out: &mut String) {
        let name = words::clean(pod.name, self.width / 2);
        let outcome = words::outcome(pod);
        let space = if outcome.is_empty() { "" } else { "  " };
        let rest = words::clean(&outcome, self.width.saturating_sub(words::columns(&name) + 2))
            .into_owned();
        let _ = writeln!(out, "{}{space}{rest}", self.painted(Style::new().bold(), &name));
        line(out, &format!("{:1$}{2}", "", self.names, self.scale()));
        for bounds in &pod.bounds {
            self.bounds(bounds, out);
        }
        for (at, lane) in pod.lanes.iter().enumerate() {
            let critical = pod.path.stretches.iter().any(|s| s.lane == Some(at));
            self.lane(lane, critical, out);
            for bounds in &lane.bounds {
                self.bounds(bounds, out);
            }
        }
        if let Some(path) = words::path(pod) {
            let words: Vec<&str> = path.split(" → ").collect();
            for text in wrap("critical path: ", &words, " → ", self.width) {
                line(out, &text);
            }
        }
    }

    /// The scale, a label at its stroke.
    fn scale(&self) -> String {
        let mut cells = vec![' '; self.bar];
        let mut free = 0;
        for at in words::scale(self.end, (self.bar / 9).clamp(1, 12)) {
            let label: Vec<char> =
                words::time(at).to_string().replace(' ', "").chars().chain([' ']).collect();
            let from = self.cell(at);
            if from >= free && from + label.len() <= self.bar + 1 {
                free = from + label.len();
                let cells = cells[from..].iter_mut().zip(label);
                cells.for_each(|(cell, c)| *cell = c);
            }
        }
        cells.into_iter().collect()
    }

    /// The cell that a time is in.
    fn cell(&self, at: f64) -> usize {
        let cell = (at / self.end * self.bar as f64).max(0.0) as usize;
        cell.min(self.bar - 1)
    }

    fn lane(&self, lane: &Lane<'_>, critical: bool, out: &mut String) {
        let width = self.names - KIND - GAPS;
        let name = words::padded(&words::clean(lane.name, width), width);
        let (mark, bold) =
            if critical { ("◆ ", Style::new().bold()) } else { ("  ", Style::new()) };
        let kind = format!("{:KIND$}", words::kind(lane.kind));
        let text = format!(
            "{mark}{} {} {} {}",
            self.painted(bold, &name),
            self.painted(Style::new().dimmed(), &kind),
            self.bar(lane),
            words::clean(&tail(lane), self.width / 4),
        );
        line(out, &text);
    }

    fn bar(&self, lane: &Lane<'_>) -> String {
        let mut cells: Vec<Option<What>> = vec![None; self.bar];
        // How much of the cell it has.
        let mut share = vec![0.0; self.bar];
        let cell = self.end / self.bar as f64;
        for s in &lane.segments {
            for at in self.cell(s.span.from)..=self.cell(s.span.to) {
                let from = s.span.from.max(at as f64 * cell);
                let of_it = (s.span.to.min((at + 1) as f64 * cell) - from).max(0.0) + cell * 1e-3;
                // Waiting is what is there if nothing is: what happens shows, however short.
                let weak = matches!(s.what, What::Waiting | What::BackOff);
                let of_it = if weak { of_it * 1e-6 } else { of_it };
                if of_it > share[at] {
                    (share[at], cells[at]) = (of_it, Some(s.what));
                }
            }
        }
        let mut failed = vec![false; self.bar];
        for exit in lane.exits.iter().filter(|e| e.code != 0) {
            failed[self.cell(exit.at)] = true;
        }
        let mut out = String::new();
        let signs: Vec<(Option<What>, bool)> = cells.into_iter().zip(failed).collect();
        for same in signs.chunk_by(|a, b| a == b) {
            let (what, failed) = same[0];
            let (style, sign) = match what {
                _ if failed => (AnsiColor::Red.on_default().bold(), FAILED),
                Some(what) => (style(what), sign(what)),
                None => (Style::new(), ' '),
            };
            let text: String = std::iter::repeat_n(sign, same.len()).collect();
            out += &self.painted(style, &text);
        }
        out
    }

    /// `├───┤`, with an open end if there is no bound.
    fn bounds(&self, bounds: &Bounds, out: &mut String) {
        let (from, to) = (self.cell(bounds.earliest), bounds.latest.map(|l| self.cell(l)));
        let last = to.unwrap_or(self.bar - 1).max(from);
        let sign = |at: usize| match (bounds.what, at) {
            _ if at < from || at > last => ' ',
            _ if at == from && Some(at) == to => '┼',
            _ if at == from => '├',
            _ if at == last && to.is_some() => '┤',
            _ if at == last => '→',
            (Bounded::Kill, _) => '╌',
            _ => '─',
        };
        let bar: String = (0..self.bar).map(sign).collect();
        let style = match bounds.what {
            Bounded::Kill => AnsiColor::Red.on_default(),
            Bounded::Ready | Bounded::Started => AnsiColor::Green.on_default(),
            _ => AnsiColor::Blue.on_default(),
        };
        let label = format!("{:>1$} ", words::bounded(bounds.what), self.names - 1);
        let dim = Style::new().dimmed();
        let room = self.width.saturating_sub(self.names + self.bar + 1);
        let shown = words::clean(&interval(bounds), room).into_owned();
        line(out, &format!("{}{} {shown}", self.painted(dim, &label), self.painted(style, &bar)));
    }

    /// What the signs mean, of those that are there.
    fn legend(&self, scene: &Scene<'_>, out: &mut String) {
        let lanes = || scene.pods.iter().flat_map(|p| &p.lanes);
        let used = |what: What| out.contains(sign(what));
        let mut words: Vec<String> = What::ALL
            .into_iter()
            .filter(|&what| used(what))
            .map(|what| format!("{} {}", sign(what), what.words()))
            .collect();
        if lanes().any(|l| l.exits.iter().any(|e| e.code != 0)) {
            words.push(format!("{FAILED} failed"));
        }
        if scene.pods.iter().any(|p| p.path.stretches.iter().any(|s| s.lane.is_some())) {
            words.push("◆ on the critical path".to_owned());
        }
        if words.is_empty() {
            return;
        }
        out.push('\n');
        for text in wrap("", &words, "   ", self.width) {
            line(out, &self.painted(Style::new().dimmed(), &text));
        }
    }
}

/// `1 s–3 s`, `≥ 2 s`.
fn interval(bounds: &Bounds) -> String {
    match bounds.latest {
        None => format!("≥ {}", words::time(bounds.earliest)),
        Some(latest) if latest == bounds.earliest => words::time(latest).to_string(),
        Some(latest) => format!("{}–{}", words::time(bounds.earliest), words::time(latest)),
    }
}

/// What is said of a container at the end of its line.
fn tail(lane: &Lane<'_>) -> String {
    let mut parts = Vec::new();
    match lane.exits.last() {
        Some(exit) => parts.push(format!("exit {}", exit.code)),
        None if !lane.marks.is_empty() && lane.segments.last().is_some_and(|s| s.span.open) => {
            parts.push("…".to_owned());
        }
        None => {}
    }
    match lane.restarts {
        0 => {}
        1 => parts.push("1 restart".to_owned()),
        n => parts.push(format!("{n} restarts")),
    }
    parts.join(", ")
}

/// A line without spaces at its end.
fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Lines of at most `width` columns, broken between words; the second and later ones are indented.
fn wrap(first: &str, words: &[impl AsRef<str>], between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut now = first.to_owned();
    for (i, word) in words.iter().map(AsRef::as_ref).enumerate() {
        let last = i + 1 == words.len();
        let end = if last { "" } else { between };
        let length = words::columns(word) + words::columns(end.trim_end());
        if words::columns(&now) + length > width && now.trim() != "" {
            lines.push(std::mem::replace(&mut now, "  ".to_owned()));
        }
        now.push_str(word);
        now.push_str(end);
    }
    lines.push(now);
    lines.into_iter().map(|l| words::clean(l.trim_end(), width).into_owned()).collect()
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
