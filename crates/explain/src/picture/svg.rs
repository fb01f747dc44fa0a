//! A picture that stands alone, without a script: for a README, a chat, paper.

use std::fmt::Write as _;

use super::html::{class, legend_items};
use super::rows::{BAR, BOUNDS, Block, LANE, PATH, POD, Row, Rows, Side};
use super::scene::{Lane, PodScene, Probe, Segment, Span, What};
use super::words::{self, clean, columns, escape};
use crate::timeline::Bounds;

/// The width of a picture, and the room at its edges, in pixels.
const WIDTH: u32 = 1120;
const EDGE: u32 = 16;
/// The room above the first pod: the scale.
const TOP: u32 = 30;
/// How wide a character is at most: of names, and of labels.
const NAME_CHAR: f64 = 7.6;
const LABEL_CHAR: f64 = 6.0;
/// How long a text at the pointer is.
const TITLE: usize = 300;

/// The whole picture.
pub(super) fn picture(rows: &Rows<'_>) -> String {
    let pen = Pen::new(rows);
    let mut out = String::new();
    let mut y = TOP;
    for block in &rows.blocks {
        let _ = writeln!(out, "<g transform=\"translate(0 {y})\">");
        pen.block(block, &mut out);
        out.push_str("</g>\n");
        y += block.height() + 8;
    }
    let (paths, after_paths) = pen.paths(y + 16);
    let (legend, height) = pen.legend(after_paths + 14);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"holdfast\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Timeline of {title}\">\n\
         <style>{CSS}</style>\n<defs>{DEFS}</defs>\n\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n{axis}{out}{paths}{legend}</svg>\n",
        title = escape(&rows.title()),
        axis = pen.axis(y),
    )
}

const DEFS: &str = "<pattern id=\"hf-stop\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect class=\"stopping\" width=\"6\" height=\"6\"/>\
    <rect class=\"stripe\" width=\"2.5\" height=\"6\"/></pattern>\
    <pattern id=\"hf-pull\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
    <rect class=\"pull\" width=\"8\" height=\"8\"/><rect class=\"stripe\" width=\"3\" height=\"8\"/></pattern>\
    <linearGradient id=\"hf-fade\"><stop class=\"band\" offset=\"0\" stop-opacity=\".3\"/>\
    <stop class=\"band\" offset=\"1\" stop-opacity=\"0\"/></linearGradient>\
    <linearGradient id=\"hf-fade-ready\"><stop class=\"soon\" offset=\"0\" stop-opacity=\".3\"/>\
    <stop class=\"soon\" offset=\"1\" stop-opacity=\"0\"/></linearGradient>";

const CSS: &str = include_str!("picture.css");

/// Where things are.
struct Pen<'s> {
    rows: &'s Rows<'s>,
    /// Where time begins, and how wide it is.
    left: f64,
    time: f64,
}

impl<'s> Pen<'s> {
    fn new(rows: &'s Rows<'s>) -> Self {
        let lanes = rows.all().filter_map(Row::lane);
        let chars = lanes.map(|l| columns(l.name)).max().unwrap_or_default().clamp(6, 28);
        let kind = if rows.compared { 78.0 } else { 60.0 };
        let left = f64::from(EDGE) + chars as f64 * NAME_CHAR + kind;
        Self { rows, left, time: f64::from(WIDTH - EDGE) - 10.0 - left }
    }

    fn x(&self, at: f64) -> f64 {
        self.left + (at / self.rows.end).clamp(0.0, 1.0) * self.time
    }

    fn axis(&self, bottom: u32) -> String {
        let mut out = String::from("<g class=\"axis\">");
        for at in words::scale(self.rows.end, 10) {
            let x = self.x(at);
            let _ = write!(out, "<path d=\"M{x:.1} {}V{bottom}\"/>", TOP - 12);
            let anchor = if x > f64::from(WIDTH) - 60.0 { "end" } else { "start" };
            let dx = if anchor == "end" { -4.0 } else { 4.0 };
            let text = words::time(at);
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"18\" text-anchor=\"{anchor}\">{text}</text>",
                x + dx
            );
        }
        out.push_str("</g>\n");
        out
    }

    fn block(&self, block: &Block<'s>, out: &mut String) {
        for row in &block.rows {
            let _ = writeln!(out, "<g transform=\"translate(0 {})\">", row.y);
            if row.first {
                let _ = write!(out, "<path class=\"rule\" d=\"M{EDGE} 0H{}\"/>", WIDTH - EDGE);
            }
            match row.lane() {
                Some(lane) => self.lane(row, lane, out),
                None => self.pod(row, out),
            }
            out.push_str("</g>\n");
        }
        for row in block.rows.iter().filter(|r| r.lane.is_none()) {
            self.path(block, row, out);
        }
        for (row, lane) in block.rows.iter().filter_map(|r| r.lane().map(|lane| (r, lane))) {
            let _ = write!(out, "<g transform=\"translate(0 {})\">", row.y);
            self.points(lane, out);
            out.push_str("</g>\n");
        }
    }

    /// The critical path of a pod through its lanes.
    fn path(&self, block: &Block<'s>, pod: &Row<'s>, out: &mut String) {
        let mut d = String::new();
        let mut before: Option<Option<usize>> = None;
        for stretch in &pod.pod.path.stretches {
            let row = block.rows.iter().find(|r| r.side == pod.side && r.lane == stretch.lane);
            let Some(row) = row else { continue };
            let y = f64::from(row.y + PATH.0) + f64::from(PATH.1) / 2.0;
            let (from, to) =
                (self.x(stretch.from), self.x(stretch.to).max(self.x(stretch.from) + 1.0));
            match before {
                None => {
                    let _ = write!(d, "M{from:.1} {y}");
                }
                Some(lane) if lane != stretch.lane => {
                    let _ = write!(d, "V{y}");
                }
                Some(_) => {}
            }
            let _ = write!(d, "H{to:.1}");
            before = Some(stretch.lane);
        }
        if !d.is_empty() {
            let side = if pod.side == Side::B { " b" } else { "" };
            let _ = writeln!(out, "<path class=\"path{side}\" d=\"{d}\"/>");
        }
    }

    fn name(&self, row: &Row<'s>, class: &str, name: &str, under: &str, out: &mut String) {
        let most = ((self.left - f64::from(EDGE) - 56.0) / NAME_CHAR).max(6.0) as usize;
        let shown = escape(&clean(name, if row.lane.is_none() { 60 } else { most }));
        let full = escape(&clean(name, TITLE));
        if row.first {
            let _ = write!(
                out,
                "<text class=\"{class}\" x=\"{EDGE}\" y=\"20\"><title>{full}</title>{shown}</text>"
            );
            if !under.is_empty() {
                let x = self.left - if self.rows.compared { 26.0 } else { 8.0 };
                let _ = write!(
                    out,
                    "<text class=\"under\" x=\"{x:.1}\" y=\"20\" text-anchor=\"end\">{under}</text>"
                );
            }
        }
        if self.rows.compared {
            let x = self.left - 8.0;
            let side = row.side.name();
            let _ = write!(
                out,
                "<text class=\"side\" x=\"{x:.1}\" y=\"20\" text-anchor=\"end\">{side}</text>"
            );
        }
    }

    fn pod(&self, row: &Row<'s>, out: &mut String) {
        let pod = row.pod;
        // The name has all of the line where there is nothing else; else it ends where time begins.
        let most = ((self.left - f64::from(EDGE) - 10.0) / 8.2).max(6.0) as usize;
        self.name(row, "podname", &clean(pod.name, most), "", out);
        for (span, phase) in &pod.phases {
            let phase = clean(phase, 20);
            let text = format!("phase {phase}, {}", words::span(*span));
            let class = match &*phase {
                "Pending" => "phase pending",
                "Failed" => "phase failed",
                _ => "phase",
            };
            self.bar(*span, BAR, class, &text, &[&phase], out);
        }
        for span in &pod.ready {
            let text = format!("the pod is Ready, {}", words::span(*span));
            self.bar(*span, (BAR.0 + BAR.1 - 4, 4), "ready", &text, &[], out);
        }
        self.bounds(&pod.bounds, POD, out);
    }

    fn lane(&self, row: &Row<'s>, lane: &Lane<'_>, out: &mut String) {
        let critical = row.pod.path.stretches.iter().any(|s| s.lane == row.lane);
        let class = if critical { "name critical" } else { "name" };
        self.name(row, class, lane.name, words::kind(lane.kind), out);
        for segment in &lane.segments {
            self.segment(segment, out);
        }
        for hook in &lane.hooks {
            let text = format!("{}, {}", words::hook(hook.hook), words::span(hook.span));
            self.bar(hook.span, (BAR.0 + BAR.1, 3), "hook", &text, &[], out);
        }
        self.bounds(&lane.bounds, LANE, out);
    }

    /// The answers of its probes and its exits, over everything else.
    fn points(&self, lane: &Lane<'_>, out: &mut String) {
        for probe in &lane.probes {
            self.probe(probe, out);
        }
        for exit in &lane.exits {
            let x = self.x(exit.at);
            let text =
                format!("run {} ends with {} at {}", exit.run, exit.code, words::time(exit.at));
            if exit.code == 0 {
                let (top, bottom) = (BAR.0 - 1, BAR.0 + BAR.1 + 1);
                let _ = write!(
                    out,
                    "<path class=\"exit\" d=\"M{x:.1} {top}V{bottom}\"><title>{text}</title></path>"
                );
                continue;
            }
            let width = exit.code.to_string().len() as f64 * 7.0 + 10.0;
            let from = (x - width / 2.0).min(f64::from(WIDTH) - width - 1.0);
            let _ = write!(
                out,
                "<g class=\"code\"><title>{text}</title><rect x=\"{from:.1}\" y=\"{}\" width=\"{width}\" \
                 height=\"{}\" rx=\"8\"/><text x=\"{:.1}\" y=\"20\" text-anchor=\"middle\">{}</text></g>",
                BAR.0 - 1,
                BAR.1 + 2,
                from + width / 2.0,
                exit.code,
            );
        }
    }

    fn segment(&self, segment: &Segment<'_>, out: &mut String) {
        let text = words::segment(segment, TITLE);
        let run = if segment.run > 0 { format!(", run {}", segment.run) } else { String::new() };
        let title = format!("{text}{run}, {}", words::span(segment.span));
        let length = words::time(segment.span.to - segment.span.from);
        let class = class(segment.what);
        let (long, short) = match segment.what {
            What::Waiting => (clean(&text, 70).into_owned(), "waiting"),
            What::BackOff => (clean(&text, 70).into_owned(), "back-off"),
            What::Pull => (format!("{text} {length}"), "pull"),
            What::Started => (format!("{text} {length}"), "started"),
            what => (format!("{text} {length}"), what.words()),
        };
        if !matches!(segment.what, What::Waiting | What::BackOff) {
            self.bar(segment.span, BAR, class, &title, &[&long, short], out);
            return;
        }
        // Nothing runs: a line, and its words after a gap at its beginning.
        let (from, to) = (self.x(segment.span.from), self.x(segment.span.to));
        let label = [long.as_str(), short].into_iter().find(|l| width(l) + 16.0 < to - from);
        let y = BAR.0 + BAR.1 / 2;
        let line = match label {
            Some(label) => from + width(label) * 0.94 + 8.0,
            None => from,
        };
        let _ = write!(out, "<g class=\"{class}\"><title>{}</title>", escape(&title));
        if let Some(label) = label {
            let _ = write!(out, "<text x=\"{:.1}\" y=\"20\">{}</text>", from + 5.0, escape(label));
        }
        if to - line > 3.0 {
            let _ = write!(out, "<path d=\"M{:.1} {y}H{:.1}\"/>", line + 2.0, to - 2.0);
        }
        out.push_str("</g>");
    }

    /// A box, with the first of the labels that fits.
    fn bar(
        &self,
        span: Span,
        y: (u32, u32),
        class: &str,
        title: &str,
        labels: &[&str],
        out: &mut String,
    ) {
        let (from, to) = (self.x(span.from), self.x(span.to));
        let width_of_bar = (to - from).max(1.5);
        let _ = write!(
            out,
            "<g class=\"{class}\"><title>{}</title><rect x=\"{from:.1}\" y=\"{}\" width=\"{width_of_bar:.1}\" \
             height=\"{}\"/>",
            escape(title),
            y.0,
            y.1,
        );
        if let Some(label) = labels.iter().find(|l| width(l) + 12.0 < width_of_bar) {
            let _ = write!(out, "<text x=\"{:.1}\" y=\"20\">{}</text>", from + 6.0, escape(label));
        }
        out.push_str("</g>");
    }

    fn probe(&self, probe: &Probe<'_>, out: &mut String) {
        let x = self.x(probe.at);
        let title = escape(&words::answer(probe, TITLE));
        let shape = match probe.passed {
            Some(true) => format!("<circle class=\"pass\" cx=\"{x:.1}\" cy=\"30.5\" r=\"3\">"),
            Some(false) => {
                let x = x - 3.5;
                format!("<path class=\"fail\" d=\"M{x:.1} 27l7 7m0 -7l-7 7\">")
            }
            None => format!("<path class=\"error\" d=\"M{x:.1} 26.5l4 4l-4 4l-4 -4z\">"),
        };
        let end = if probe.passed == Some(true) { "</circle>" } else { "</path>" };
        let _ = write!(out, "{shape}<title>{title}</title>{end}");
    }

    fn bounds(&self, all: &[&Bounds], top: u32, out: &mut String) {
        for (top, bounds) in (0..).map(|i| top + i * BOUNDS).zip(all) {
            let (from, open) = (self.x(bounds.earliest), bounds.latest.is_none());
            let to = self.x(bounds.latest.unwrap_or(self.rows.end)).max(from + 1.0);
            let what = words::bounded(bounds.what);
            let title = escape(&words::bounds(bounds, TITLE));
            let open_class = if open { " open" } else { "" };
            let (bottom, y) = (top + 11, top + 9);
            let _ = write!(
                out,
                "<g class=\"bounds b-{what}{open_class}\"><title>{title}</title>\
                 <rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"11\"/><path d=\"M{from:.1} {top}V{bottom}",
                to - from,
            );
            if !open {
                let _ = write!(out, "M{to:.1} {top}V{bottom}");
            }
            let label = format!("{what} {}", words::interval(bounds.earliest, bounds.latest));
            // Where there is room: after its beginning, or before it.
            let before = from + width(&label) > f64::from(WIDTH - EDGE);
            let (x, anchor) = if before { (from - 5.0, "end") } else { (from + 5.0, "start") };
            let _ = write!(
                out,
                "\"/><text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text></g>"
            );
        }
    }

    /// What became of each pod, and its critical path, in words: `y` is where they end.
    fn paths(&self, mut y: u32) -> (String, u32) {
        let mut out = String::from("<g class=\"words\">");
        let pods: Vec<&Row<'_>> = self.rows.all().filter(|r| r.lane.is_none()).collect();
        // Of many pods, the picture says enough.
        for row in pods.iter().take(12) {
            let (pod, path): (&PodScene<'_>, _) = (row.pod, words::path(row.pod));
            let side =
                if self.rows.compared { format!(" ({})", row.side.name()) } else { String::new() };
            let name = clean(pod.name, 60);
            let mut text = format!("{name}{side}: {}", words::outcome(pod));
            if let Some(path) = path {
                let _ = write!(text, "; critical path: {path}");
            }
            let most = (f64::from(WIDTH - 2 * EDGE) / LABEL_CHAR) as usize;
            for part in lines(&text, most, 4) {
                let _ = write!(out, "<text x=\"{EDGE}\" y=\"{y}\">{}</text>", escape(&part));
                y += 17;
            }
        }
        out.push_str("</g>\n");
        (out, y)
    }

    fn legend(&self, mut y: u32) -> (String, u32) {
        let mut out = String::from("<g class=\"legend\">");
        let mut x = f64::from(EDGE);
        for (class, words) in legend_items(self.rows) {
            let room = width(words) + 46.0;
            if x + room > f64::from(WIDTH - EDGE) {
                x = f64::from(EDGE);
                y += 20;
            }
            let (at, middle) = (x + 11.0, y - 4);
            let sample = match class {
                "wait" | "backoff" => {
                    format!("<g class=\"{class}\"><path d=\"M{x:.1} {middle}h22\"/></g>")
                }
                "path" => format!("<path class=\"path\" d=\"M{x:.1} {middle}h22\"/>"),
                "pass" => {
                    format!("<circle class=\"pass\" cx=\"{at:.1}\" cy=\"{middle}\" r=\"3\"/>")
                }
                "fail" => {
                    format!("<path class=\"fail\" d=\"M{:.1} {}l7 7m0 -7l-7 7\"/>", at - 3.5, y - 8)
                }
                "error" => {
                    format!("<path class=\"error\" d=\"M{at:.1} {}l4 4l-4 4l-4 -4z\"/>", y - 8)
                }
                "hook" => format!(
                    "<g class=\"hook\"><rect x=\"{x:.1}\" y=\"{middle}\" width=\"22\" height=\"3\"/></g>"
                ),
                "code" => format!(
                    "<g class=\"code\"><rect x=\"{x:.1}\" y=\"{}\" width=\"20\" height=\"13\" rx=\"6\"/></g>",
                    y - 10
                ),
                "bound" => format!(
                    "<g class=\"bounds\"><rect x=\"{x:.1}\" y=\"{}\" width=\"22\" height=\"11\"/></g>",
                    y - 9
                ),
                class => format!(
                    "<g class=\"{class}\"><rect x=\"{x:.1}\" y=\"{}\" width=\"22\" height=\"12\"/></g>",
                    y - 10
                ),
            };
            let _ = write!(out, "{sample}<text x=\"{:.1}\" y=\"{y}\">{words}</text>", x + 28.0);
            x += room;
        }
        out.push_str("</g>\n");
        (out, y + 16)
    }
}

/// How wide a label is at most.
fn width(label: &str) -> f64 {
    columns(label) as f64 * LABEL_CHAR
}

/// A text in lines of at most `width` characters, at most `most` of them.
fn lines(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let last = lines.len() - 1;
        if columns(&lines[last]) + columns(word.trim_end()) <= width {
            lines[last].push_str(word);
        } else if lines.len() < most {
            lines.push(format!("   {word}"));
        } else {
            lines[last].push('…');
            break;
        }
    }
    lines
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
