//! Two timelines as a table: what began and ended when in each, and what differs.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::rows::{lane_pairs, pairs};
use super::scene::{Lane, PodScene, Scene, What};
use super::words;
use crate::timeline::Timeline;

/// A table of at most as many lines as there are containers, and a few. `names` is what the two are called.
/// `styled` is with the colours of a terminal: green is sooner in the second, red later.
pub fn compare(a: &Timeline, b: &Timeline, names: [&str; 2], styled: bool) -> String {
    let (a, b) = (Scene::of(a), Scene::of(b));
    let mut out = String::new();
    for (side, name) in ["a", "b"].into_iter().zip(names) {
        let _ = writeln!(out, "{side}  {}", words::clean(name, 200));
    }
    for pair in pairs(&a.pods, &b.pods) {
        out.push('\n');
        pod(pair, styled, &mut out);
    }
    out
}

/// A cell of the table.
#[derive(Clone, Default)]
struct Cell {
    text: String,
    style: Option<AnsiColor>,
}

impl Cell {
    fn of(text: impl ToString) -> Self {
        Self { text: text.to_string(), style: None }
    }
}

const HEADS: [&str; 13] = [
    "CONTAINER",
    "START A",
    "B",
    "DIFF",
    "READY A",
    "B",
    "DIFF",
    "END A",
    "B",
    "DIFF",
    "EXIT",
    "RESTARTS",
    "",
];

fn pod([a, b]: [Option<&PodScene<'_>>; 2], styled: bool, out: &mut String) {
    let bold = if styled { Style::new().bold() } else { Style::new() };
    let name = |pod: &PodScene<'_>| words::clean(pod.name, 80).into_owned();
    let title = match (a, b) {
        (Some(a), Some(b)) if a.name != b.name => format!("{} / {}", name(a), name(b)),
        (Some(pod), Some(_)) => name(pod),
        (Some(pod), None) => format!("{} (only in a)", name(pod)),
        (None, Some(pod)) => format!("{} (only in b)", name(pod)),
        (None, None) => return,
    };
    let _ = writeln!(out, "{bold}{title}{bold:#}");
    for (side, pod) in [("a", a), ("b", b)] {
        let Some(pod) = pod else { continue };
        let path = words::path(pod).map(|p| format!("; critical path: {p}")).unwrap_or_default();
        let _ = writeln!(out, "  {side}  {}{path}", words::outcome(pod));
    }
    let of_a = a.map_or(&[][..], |p| &p.lanes);
    let of_b = b.map_or(&[][..], |p| &p.lanes);
    let mut table = vec![HEADS.map(Cell::of)];
    for (in_a, in_b) in lane_pairs(of_a, of_b) {
        table.push(row(in_a.map(|i| &of_a[i]), in_b.map(|i| &of_b[i])));
    }
    write_table(&table, styled, out);
}

fn row(a: Option<&Lane<'_>>, b: Option<&Lane<'_>>) -> [Cell; HEADS.len()] {
    let name = a.or(b).map_or("", |l| l.name);
    let mut cells = vec![Cell::of(words::clean(name, 63))];
    for of in [start, ready, end] {
        let (a, b) = (a.and_then(of), b.and_then(of));
        let time =
            |t: Option<f64>| Cell::of(t.map_or("-".to_owned(), |t| words::time(t).to_string()));
        cells.extend([time(a), time(b), difference(a, b)]);
    }
    let both = |f: &dyn Fn(&Lane<'_>) -> String| match (a.map(f), b.map(f)) {
        (Some(a), Some(b)) if a == b => Cell::of(a),
        (Some(a), Some(b)) => Cell { text: format!("{a} / {b}"), style: Some(AnsiColor::Yellow) },
        (Some(one), None) | (None, Some(one)) => Cell::of(one),
        (None, None) => Cell::default(),
    };
    cells.push(both(&|l| l.exits.last().map_or("-".to_owned(), |e| e.code.to_string())));
    cells.push(both(&|l| l.restarts.to_string()));
    cells.push(match (a, b) {
        (Some(_), None) => Cell { text: "only in a".to_owned(), style: Some(AnsiColor::Yellow) },
        (None, Some(_)) => Cell { text: "only in b".to_owned(), style: Some(AnsiColor::Yellow) },
        _ => Cell::default(),
    });
    let mut row: [Cell; HEADS.len()] = Default::default();
    row.iter_mut().zip(cells).for_each(|(to, cell)| *to = cell);
    row
}

/// When its process first ran.
fn start(lane: &Lane<'_>) -> Option<f64> {
    let runs = |what| matches!(what, What::Running | What::Started | What::Ready);
    lane.segments.iter().find(|s| runs(s.what)).map(|s| s.span.from)
}

fn ready(lane: &Lane<'_>) -> Option<f64> {
    lane.segments.iter().find(|s| s.what == What::Ready).map(|s| s.span.from)
}

fn end(lane: &Lane<'_>) -> Option<f64> {
    lane.exits.last().map(|e| e.at)
}

fn difference(a: Option<f64>, b: Option<f64>) -> Cell {
    let (Some(a), Some(b)) = (a, b) else { return Cell::default() };
    let by = b - a;
    // What is no difference to anybody.
    let same = by.abs() < 0.000_5;
    let (sign, style) = match by {
        _ if same => return Cell::of("="),
        _ if by > 0.0 => ("+", AnsiColor::Red),
        _ => ("−", AnsiColor::Green),
    };
    let text = format!("{sign}{}", words::time(by.abs()));
    // Some milliseconds are how long a machine takes; they get no colour.
    let style = (by.abs() > 0.01 && by.abs() > 0.02 * a.max(b)).then_some(style);
    Cell { text, style }
}

fn write_table(table: &[[Cell; HEADS.len()]], styled: bool, out: &mut String) {
    let width = |i: usize| table.iter().map(|row| words::columns(&row[i].text)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    for row in table {
        let mut line = String::from("  ");
        let last = row.iter().rposition(|c| !c.text.is_empty()).unwrap_or(0);
        for (i, cell) in row.iter().enumerate().take(last + 1) {
            let pad = widths[i] - words::columns(&cell.text);
            let style = match cell.style {
                Some(color) if styled => color.on_default(),
                _ => Style::new(),
            };
            let text = format!("{style}{}{style:#}", cell.text);
            // Names and remarks to the left, numbers to the right.
            let left = i == 0 || i == HEADS.len() - 1;
            let (before, after) = if left { (0, pad) } else { (pad, 0) };
            let after = if i == last { 0 } else { after + 2 };
            let _ = write!(line, "{:before$}{text}{:after$}", "", "");
        }
        out.push_str(&line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::fixture::{Told, shop};
    use crate::timeline::ContainerKind::App;

    #[test]
    fn what_differs_is_said() {
        let a = shop();
        let mut b = shop();
        for mark in b.marks.iter_mut().filter(|m| m.at >= 1.5) {
            mark.at += 2.0;
        }
        let text = compare(&a, &b, ["one.json", "two.json"], false);
        let line = |name: &str| {
            let line = text.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("migrate"), "migrate 30 ms 30 ms = - - 530 ms 530 ms = 0 0");
        assert_eq!(line("app"), "app 1.56 s 3.56 s +2 s 1.6 s 3.6 s +2 s 2.6 s 4.6 s +2 s 0 0");
        assert!(
            text.starts_with("a  one.json\nb  two.json\n\nshop\n  a  Ready at 1.6 s"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let styled = compare(&a, &b, ["a", "b"], true);
        assert!(styled.contains("\u{1b}[31m+2 s"), "{styled:?}");
    }

    #[test]
    fn what_is_only_in_one_is_said() {
        let a = Told::new().pod("p", &[("old", App), ("both", App)]).at(1.0).running("both", 0);
        let b = Told::new().pod("p", &[("both", App), ("new", App)]).at(1.0).running("both", 0);
        let b = b.at(2.0).exited("both", 0, 3).pod("q", &[]);
        let text = compare(&a.timeline, &b.timeline, ["x", "y"], false);
        let ends = |name: &str, end: &str| {
            let line = text.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
            assert!(line.ends_with(end), "{text}");
        };
        ends("old", "only in a");
        ends("new", "only in b");
        ends("both", "- / 3         0");
        ends("q", "(only in b)");
    }
}
