//! `holdfast timeline`: draws what a run has recorded, or compares two runs.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use holdfast_explain::picture;
use holdfast_explain::timeline::Timeline;

use crate::args::{DrawAs, TimelineArgs};
use crate::output::terminal_size;

/// How wide a chart is that no terminal sets bounds to.
const WIDTH: usize = 100;

/// Runs the command; the exit code.
pub(crate) fn run(args: &TimelineArgs) -> anyhow::Result<u8> {
    let read = |path: &Path| read(path).with_context(|| format!("cannot read {}", path.display()));
    let timelines = args.files.iter().map(|f| read(f)).collect::<anyhow::Result<Vec<_>>>()?;
    let styled = std::io::stdout().is_terminal()
        && anstream::stdout().current_choice() != anstream::ColorChoice::Never;
    let width = terminal_size().map_or(WIDTH, |size| size.0);
    let text = match (timelines.as_slice(), args.output) {
        ([one], DrawAs::Text) => picture::text::gantt(one, width, styled),
        ([one], DrawAs::Svg) => picture::svg(one),
        ([one], DrawAs::Html) => picture::html(one),
        ([one], DrawAs::Json) => one.to_json(),
        ([a, b], DrawAs::Text) => {
            let names = [0, 1].map(|i| args.files[i].display().to_string());
            picture::compare::compare(a, b, [&names[0], &names[1]], styled)
        }
        ([a, b], DrawAs::Svg) => picture::compare_svg(a, b),
        ([a, b], DrawAs::Html) => picture::compare_html(a, b),
        (_, _) => bail!("-o json is for one timeline: a comparison is text, svg or html"),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        done => done.context("cannot write to stdout").map(|()| 0),
    }
}

fn read(path: &Path) -> anyhow::Result<Timeline> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path)?;
    }
    Ok(Timeline::parse(&text)?)
}
