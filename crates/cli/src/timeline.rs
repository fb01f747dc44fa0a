//! `holdfast timeline`: draws what a run has recorded, or compares two runs.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use holdfast_explain::picture;
use holdfast_explain::timeline::Timeline;

use crate::args::{DrawAs, TimelineArgs};
use crate::output;

/// A larger file is no timeline: it may be a device that never ends.
const LARGEST: u64 = 256 << 20;

/// Runs the command; the exit code.
pub(crate) fn run(args: &TimelineArgs) -> anyhow::Result<u8> {
    let read = |path: &Path| read(path).with_context(|| format!("cannot read {}", path.display()));
    let timelines = args.files.iter().map(|f| read(f)).collect::<anyhow::Result<Vec<_>>>()?;
    let (width, styled) = (output::columns(), output::is_styled());
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
    output::data(&text).map(|()| 0)
}

fn read(path: &Path) -> anyhow::Result<Timeline> {
    let from: &mut dyn Read = match path {
        path if path == Path::new("-") => &mut std::io::stdin(),
        path => &mut std::fs::File::open(path)?,
    };
    let mut text = String::new();
    if from.take(LARGEST + 1).read_to_string(&mut text)? as u64 > LARGEST {
        bail!("it is larger than {} MiB", LARGEST >> 20);
    }
    Ok(Timeline::parse(&text)?)
}
