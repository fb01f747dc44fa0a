//! A picture as a page: one file that asks nobody for anything. Without its script it shows the same, only
//! without zoom and details.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::rows::{BAR, BOUNDS, Block, LANE, PATH, POD, Row, Rows, Side};
use super::scene::{Lane, PodScene, Probe, Segment, What};
use super::words::{self, clean, columns, escape};
use crate::timeline::Bounds;

/// What is said of a thing where there is little room.
const SHORT: usize = 240;

/// The whole page.
pub(super) fn page(rows: &Rows<'_>, start: Option<&str>) -> String {
    let mut page = Page { rows, widths: BTreeSet::new(), data: Data::default() };
    let mut chart = String::new();
    for block in &rows.blocks {
        page.block(block, &mut chart);
    }
    let title = escape(&rows.title());
    let names = rows.all().map(|r| r.lane().map_or(r.pod.name, |l| l.name)).map(columns);
    let names = names.max().unwrap_or_default().clamp(6, 40);
    let about = start.map(|start| format!("recorded {}", escape(&clean(start, 40))));
    let about = about.unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}: timeline</title>\n<style>\n{css}{widths}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n<p class=\"about\">{about}</p>\n{TOOLS}{summary}{legend}</header>\n\
         <main>\n<div class=\"scroll\" id=\"scroll\">\n\
         <div class=\"chart{two}\" id=\"chart\" role=\"grid\" aria-label=\"Timeline of {title}\" \
         style=\"--chars:{names}\" data-end=\"{end}\">\n\
         <div class=\"axis\" aria-hidden=\"true\"><div class=\"corner\"></div><div class=\"marks\" \
         id=\"axis\">{axis}</div></div>\n<div class=\"grid\" aria-hidden=\"true\"><div class=\"inner\" \
         id=\"grid\"></div></div>\n{chart}</div>\n</div>\n</main>\n\
         <aside id=\"panel\" role=\"dialog\" aria-labelledby=\"panel-title\" hidden></aside>\n\
         <div id=\"tip\" role=\"tooltip\" hidden></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{js}</script>\n\
         </body>\n</html>\n",
        policy = include_str!("policy.txt").trim_end(),
        css = include_str!("page.css"),
        js = include_str!("page.js"),
        widths = page.widths(),
        two = if rows.compared { " two" } else { "" },
        end = rows.end,
        axis = page.axis(),
        legend = legend(rows),
        summary = summary(rows),
        data = page.data.json(),
    )
}

const TOOLS: &str = "<div class=\"tools\" role=\"toolbar\" aria-label=\"Zoom\">\n\
    <button type=\"button\" id=\"out\" aria-label=\"Zoom out\" title=\"Zoom out (−)\">−</button>\n\
    <output id=\"zoom\" aria-label=\"Zoom\">100 %</output>\n\
    <button type=\"button\" id=\"in\" aria-label=\"Zoom in\" title=\"Zoom in (+)\">+</button>\n\
    <button type=\"button\" id=\"fit\" title=\"All of it (0)\">Fit</button>\n\
    <span class=\"hint\">Ctrl+wheel zooms, drag pans, arrow keys and Enter look closer</span>\n</div>\n";

/// The class of what a container does.
pub(super) const fn class(what: What) -> &'static str {
    match what {
        What::Waiting => "wait",
        What::Pull => "pull",
        What::Starting => "starting",
        What::Running => "running",
        What::Started => "started",
        What::Ready => "ready",
        What::Stopping => "stopping",
        What::BackOff => "backoff",
    }
}

/// What there is in a picture, in the words of its legend, with the class of its sample.
pub(super) fn legend_items(rows: &Rows<'_>) -> Vec<(&'static str, &'static str)> {
    let lanes = || rows.all().filter_map(Row::lane);
    let mut items: Vec<(&str, &str)> = What::ALL
        .into_iter()
        .filter(|&what| lanes().any(|l| l.segments.iter().any(|s| s.what == what)))
        .map(|what| (class(what), what.words()))
        .collect();
    let probe = |passed| lanes().any(|l| l.probes.iter().any(|p| p.passed == passed));
    let more = [
        (rows.all().any(|r| !r.pod.path.stretches.is_empty()), ("path", "critical path")),
        (probe(Some(true)), ("pass", "probe passed")),
        (probe(Some(false)), ("fail", "probe failed")),
        (probe(None), ("error", "probe could not run")),
        (lanes().any(|l| !l.hooks.is_empty()), ("hook", "hook")),
        (lanes().any(|l| l.exits.iter().any(|e| e.code != 0)), ("code", "exit code")),
        (rows.all().any(|r| !row_bounds(r).is_empty()), ("bound", "earliest to latest")),
    ];
    items.extend(more.into_iter().filter(|m| m.0).map(|m| m.1));
    items
}

/// What became of the pods, if they are few.
fn summary(rows: &Rows<'_>) -> String {
    let pods: Vec<&Row<'_>> = rows.all().filter(|r| r.lane.is_none()).collect();
    if pods.len() > 4 {
        return String::new();
    }
    let line = |row: &&Row<'_>| {
        let name = escape(&clean(row.pod.name, 80));
        let name = match (rows.compared, pods.len()) {
            (true, _) => format!("<b>{name} ({})</b> ", row.side.name()),
            (false, 1) => String::new(),
            (false, _) => format!("<b>{name}</b> "),
        };
        let path =
            words::path(row.pod).map(|p| format!(" <span>· critical path: {}</span>", escape(&p)));
        let outcome = escape(&words::outcome(row.pod));
        format!("<p class=\"summary\">{name}{outcome}{}</p>\n", path.unwrap_or_default())
    };
    pods.iter().map(line).collect()
}

fn legend(rows: &Rows<'_>) -> String {
    let items: String = legend_items(rows)
        .into_iter()
        .map(|(class, words)| format!("<li><i class=\"k {class}\"></i>{words}</li>"))
        .collect();
    format!("<ul class=\"legend\" aria-label=\"Legend\">{items}</ul>\n")
}

fn row_bounds<'s>(row: &Row<'s>) -> &'s [&'s Bounds] {
    row.lane().map_or(&row.pod.bounds, |l| &l.bounds)
}

struct Page<'s> {
    rows: &'s Rows<'s>,
    /// The widths at which a label has room, in pixels.
    widths: BTreeSet<u32>,
    data: Data,
}

impl<'s> Page<'s> {
    /// A place in time, in percent of the picture.
    fn x(&self, at: f64) -> f64 {
        (at / self.rows.end * 100.0).clamp(0.0, 100.0)
    }

    /// The strokes of the scale without zoom; the script makes others.
    fn axis(&self) -> String {
        let labels = words::scale(self.rows.end, 5).into_iter();
        let label =
            |at| format!("<span style=\"left:{:.4}%\">{}</span>", self.x(at), words::time(at));
        labels.map(label).collect()
    }

    fn block(&mut self, block: &Block<'s>, out: &mut String) {
        let _ = writeln!(out, "<div class=\"pod\" role=\"rowgroup\">");
        for row in &block.rows {
            match row.lane() {
                Some(lane) => self.lane(row, lane, out),
                None => self.pod(row, out),
            }
        }
        let _ = write!(out, "<div class=\"wires\" aria-hidden=\"true\"><div class=\"inner\">");
        for row in block.rows.iter().filter(|r| r.lane.is_none()) {
            self.wires(block, row, out);
        }
        let _ = writeln!(out, "</div></div></div>");
    }

    /// The lines from lane to lane along the critical path.
    fn wires(&self, block: &Block<'s>, pod: &Row<'s>, out: &mut String) {
        let y = |lane: Option<usize>| {
            let row = block.rows.iter().find(|r| r.side == pod.side && r.lane == lane)?;
            Some(row.y + PATH.0)
        };
        for pair in pod.pod.path.stretches.windows(2).filter(|w| w[0].lane != w[1].lane) {
            let (Some(from), Some(to)) = (y(pair[0].lane), y(pair[1].lane)) else { continue };
            let (top, height) = (from.min(to), from.abs_diff(to) + PATH.1);
            let x = self.x(pair[1].from);
            let class = if pod.side == Side::B { " class=\"b\"" } else { "" };
            let _ =
                write!(out, "<i{class} style=\"left:{x:.4}%;top:{top}px;height:{height}px\"></i>");
        }
    }

    fn pod(&mut self, row: &Row<'s>, out: &mut String) {
        let pod = row.pod;
        let outcome = words::outcome(pod);
        let path = words::path(pod).map(|p| format!("Critical path: {p}")).unwrap_or_default();
        let about =
            [outcome.clone(), path].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>();
        self.head(
            row,
            "podrow",
            pod.name,
            &outcome,
            &format!("pod {}", pod.name),
            &about.join(". "),
            out,
        );
        for (span, phase) in &pod.phases {
            let phase = clean(phase, 20);
            let text = format!("phase {phase}, {}", words::span(*span));
            self.cell(
                &format!("phase p-{}", escape(&phase.to_lowercase())),
                *span,
                &text,
                &[&phase],
                out,
            );
        }
        for span in &pod.ready {
            self.cell(
                "podready",
                *span,
                &format!("the pod is Ready, {}", words::span(*span)),
                &["Ready"],
                out,
            );
        }
        self.stretches(pod, None, out);
        self.bounds(&pod.bounds, POD, out);
        out.push_str("</div></div></div>\n");
        self.data.row(pod.name, "pod", "", about, pod.marks.iter().copied());
    }

    fn lane(&mut self, row: &Row<'s>, lane: &'s Lane<'s>, out: &mut String) {
        let kind = words::kind(lane.kind);
        let about = about(lane);
        let label = format!("{kind} container {}", lane.name);
        self.head(row, "lane", lane.name, kind, label.trim(), &about.join(". "), out);
        for segment in &lane.segments {
            self.segment(segment, out);
        }
        for hook in &lane.hooks {
            let text = format!("{}, {}", words::hook(hook.hook), words::span(hook.span));
            self.cell("hook", hook.span, &text, &[], out);
        }
        for probe in &lane.probes {
            self.probe(probe, out);
        }
        for exit in &lane.exits {
            let (x, code) = (self.x(exit.at), exit.code);
            let text = format!("run {} ends with {code} at {}", exit.run, words::time(exit.at));
            let (class, shown) =
                if code == 0 { ("exit", String::new()) } else { ("exit bad", code.to_string()) };
            let _ = write!(
                out,
                "<div class=\"{class}\" role=\"gridcell\" tabindex=\"-1\" style=\"left:{x:.4}%\" \
                 data-f=\"{at}\" data-t=\"{at}\" aria-label=\"{text}\">{shown}</div>",
                at = exit.at,
            );
        }
        if let Some(at) = row.lane {
            self.stretches(row.pod, Some(at), out);
        }
        self.bounds(&lane.bounds, LANE, out);
        out.push_str("</div></div></div>\n");
        self.data.row(lane.name, kind, lane.image, about, lane.marks.iter().copied());
    }

    /// The beginning of a row: its name, and where its cells go.
    #[expect(clippy::too_many_arguments, reason = "one place")]
    fn head(
        &mut self,
        row: &Row<'s>,
        class: &str,
        name: &str,
        under: &str,
        label: &str,
        about: &str,
        out: &mut String,
    ) {
        let side = match (self.rows.compared, row.side) {
            (false, _) => String::new(),
            (true, side) => format!("<span class=\"side\">{}</span>", side.name()),
        };
        let again = if self.rows.compared && !row.first { " again" } else { "" };
        let again = format!("{again}{}", if row.side == Side::B { " b" } else { "" });
        let name = escape(&clean(name, 80));
        let critical =
            row.pod.path.stretches.iter().any(|s| s.lane == row.lane && row.lane.is_some());
        let critical = if critical { " critical" } else { "" };
        let _ = write!(
            out,
            "<div class=\"row {class}{again}{critical}\" role=\"row\" style=\"height:{height}px\" \
             data-row=\"{at}\"><div class=\"name\" role=\"rowheader\" tabindex=\"-1\" \
             aria-label=\"{label}. {about}\" data-about=\"{about}\"><b>{name}</b><span>{under}</span>{side}</div>\
             <div class=\"track\"><div class=\"inner\">",
            height = row.height(),
            at = self.data.rows.len(),
            label = escape(&clean(label, 120)),
            about = escape(&clean(about, 800)),
            under = escape(&clean(under, 60)),
        );
    }

    fn stretches(&self, pod: &PodScene<'_>, lane: Option<usize>, out: &mut String) {
        for stretch in pod.path.stretches.iter().filter(|s| s.lane == lane) {
            let (x, to) = (self.x(stretch.from), self.x(stretch.to));
            let width = to - x;
            let _ = write!(out, "<i class=\"path\" style=\"left:{x:.4}%;width:{width:.4}%\"></i>");
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, out: &mut String) {
        let text = words::segment(segment, SHORT);
        let run = if segment.run > 0 { format!(", run {}", segment.run) } else { String::new() };
        let label = format!("{text}{run}, {}", words::span(segment.span));
        let length = words::time(segment.span.to - segment.span.from).to_string();
        let long = match segment.what {
            What::Waiting | What::BackOff => clean(&text, 70).into_owned(),
            _ => format!("{text} {length}"),
        };
        let short = match segment.what {
            What::Waiting => "waiting",
            What::BackOff => "back-off",
            What::Pull => "pull",
            What::Started => "started",
            what => what.words(),
        };
        let mut class = class(segment.what).to_owned();
        if segment.span.open {
            class += " open";
        }
        let labels = [long.as_str(), short];
        self.cell(&format!("seg {class}"), segment.span, &label, &labels, out);
    }

    /// A stretch of time that can be looked at. Of the labels, from the longest to the shortest, the first
    /// that has room is shown.
    fn cell(
        &mut self,
        class: &str,
        span: super::scene::Span,
        text: &str,
        labels: &[&str],
        out: &mut String,
    ) {
        let (x, to) = (self.x(span.from), self.x(span.to));
        let _ = write!(
            out,
            "<div class=\"{class}\" role=\"gridcell\" tabindex=\"-1\" style=\"left:{x:.4}%;width:{width:.4}%\" \
             data-f=\"{}\" data-t=\"{}\" aria-label=\"{}\">",
            span.from,
            span.to,
            escape(text),
            width = to - x,
        );
        let mut below = None;
        for label in labels {
            let width = room(label);
            if below.is_some_and(|b| width >= b) {
                continue;
            }
            self.widths.insert(width);
            let until = below.map(|b| format!(" u{b}")).unwrap_or_default();
            let _ = write!(out, "<b class=\"w{width}{until}\">{}</b>", escape(label));
            below = Some(width);
        }
        out.push_str("</div>");
    }

    fn probe(&self, probe: &Probe<'_>, out: &mut String) {
        let class = match probe.passed {
            Some(true) => "pass",
            Some(false) => "fail",
            None => "error",
        };
        let text = escape(&words::answer(probe, SHORT));
        let _ = write!(
            out,
            "<div class=\"tick {class}\" role=\"gridcell\" tabindex=\"-1\" style=\"left:{:.4}%\" \
             data-f=\"{}\" data-t=\"{}\" aria-label=\"{text}\"></div>",
            self.x(probe.at),
            probe.at,
            probe.to,
        );
    }

    fn bounds(&self, all: &[&Bounds], top: u32, out: &mut String) {
        for (top, bounds) in (0..).map(|i| top + i * BOUNDS).zip(all) {
            let (x, open) = (self.x(bounds.earliest), bounds.latest.is_none());
            let width = self.x(bounds.latest.unwrap_or(self.rows.end)) - x;
            let text = escape(&words::bounds(bounds, SHORT));
            let what = words::bounded(bounds.what);
            let _ = write!(
                out,
                "<div class=\"bounds b-{what}{open}{flip}\" role=\"gridcell\" tabindex=\"-1\" \
                 style=\"top:{top}px;left:{x:.4}%;width:{width:.4}%\" data-f=\"{f}\" data-t=\"{t}\" \
                 aria-label=\"{text}\"><span>{what}</span></div>",
                open = if open { " open" } else { "" },
                flip = if x > 60.0 { " flip" } else { "" },
                f = bounds.earliest,
                t = bounds.latest.unwrap_or(self.rows.end),
            );
        }
    }

    /// From which width on a label is shown.
    fn widths(&self) -> String {
        let mut css = format!(
            ":root{{--bar-top:{}px;--bar:{}px;--path-top:{}px;--path:{}px}}\n",
            BAR.0, BAR.1, PATH.0, PATH.1
        );
        for w in &self.widths {
            let _ = writeln!(
                css,
                ".w{w}{{display:none}}@container (min-width:{w}px){{.w{w}{{display:block}}.u{w}{{display:none}}}}"
            );
        }
        css
    }
}

/// The room that a label takes with what is around it, in pixels, generously: fonts differ.
fn room(label: &str) -> u32 {
    let chars = u32::try_from(columns(label)).unwrap_or(u32::MAX).min(200);
    // Rounded, for fewer rules.
    (chars * 67 / 10 + 14).next_multiple_of(8)
}

/// What is to be known of a container.
pub(super) fn about(lane: &Lane<'_>) -> Vec<String> {
    let mut about = Vec::new();
    let first = |what: What| lane.segments.iter().find(|s| s.what == what).map(|s| s.span.from);
    if let Some(at) = first(What::Ready) {
        about.push(format!("ready at {}", words::time(at)));
    }
    if let Some(exit) = lane.exits.last() {
        about.push(format!("exit code {} at {}", exit.code, words::time(exit.at)));
    }
    match lane.restarts {
        0 => {}
        1 => about.push("1 restart".to_owned()),
        n => about.push(format!("{n} restarts")),
    }
    about.extend(lane.bounds.iter().map(|b| words::bounds(b, 2000)));
    about
}

/// What the script shows when one looks closer.
#[derive(Default)]
struct Data {
    rows: Vec<Value>,
    messages: Vec<Value>,
    known: HashMap<String, usize>,
}

impl Data {
    fn row<'m>(
        &mut self,
        name: &str,
        kind: &str,
        image: &str,
        about: Vec<String>,
        marks: impl Iterator<Item = &'m crate::timeline::Mark>,
    ) {
        let marks: Vec<Value> = marks
            .map(|mark| {
                let (text, message) = words::mark(mark);
                let message = message.filter(|m| !m.is_empty()).map(|m| self.message(m));
                json!([mark.at, words::time(mark.at).to_string(), mark.run, text, message])
            })
            .collect();
        let (name, image) = (words::visible(name), words::visible(image));
        self.rows.push(json!({ "n": name, "k": kind, "i": image, "a": about, "m": marks }));
    }

    /// Probes say the same again and again: each message is there once.
    fn message(&mut self, text: &str) -> usize {
        let text = words::visible(text).into_owned();
        let next = self.messages.len();
        *self.known.entry(text).or_insert_with_key(|text| {
            self.messages.push(Value::from(text.as_str()));
            next
        })
    }

    /// JSON that nothing in it can end the element of.
    fn json(&self) -> String {
        let text = json!({ "rows": self.rows, "messages": self.messages }).to_string();
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }
}
