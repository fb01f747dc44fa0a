//! `holdfast explain`.

use holdfast_explain::document::document;
use holdfast_explain::explanation::{Explanation, explain};
use holdfast_explain::subject::Subject;
use holdfast_explain::timeline::Timeline;
use holdfast_explain::{assume, picture, text};
use holdfast_lifecycle::Options;

use crate::args::{ExplainArgs, ExplainFormat, FaultArg};
use crate::output::say;
use crate::{EXIT_USAGE, manifests, output};

/// Runs the command; the exit code.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    let mut options = holdfast_manifest::Options::default();
    options.kubernetes = args.kubernetes;
    let Some(loaded) = manifests::load(&args.files, &options)? else { return Ok(EXIT_USAGE) };
    manifests::check_faults(&args.faults, &loaded)?;
    let subjects: Vec<Subject> = loaded.objects.iter().filter_map(Subject::of).collect();
    assume::check(&subjects, &args.assume)?;
    let mut faults = Vec::new();
    for fault in &args.faults {
        match fault {
            FaultArg::At(fault) => faults.push(fault.clone()),
            FaultArg::StaleSubPath => {
                say!("note: stale-subpath is about the content of files, and changes no order");
            }
        }
    }
    let options = Options { minor: args.kubernetes, ..Options::default() };
    let explained: Result<Vec<Explanation>, _> =
        subjects.iter().map(|subject| explain(subject, &args.assume, &faults, &options)).collect();
    output::data(&show(args, &explained?))?;
    Ok(0)
}

fn show(args: &ExplainArgs, explained: &[Explanation]) -> String {
    match args.output {
        ExplainFormat::Text => {
            let (width, styled) = (output::columns(), output::is_styled());
            let all = explained.iter().map(|e| text::text(e, args.kubernetes, width, styled));
            all.collect::<Vec<_>>().join("\n")
        }
        ExplainFormat::Json => document(explained, args.kubernetes),
        ExplainFormat::Svg => picture::svg(&together(explained)),
        ExplainFormat::Html => picture::html(&together(explained)),
    }
}

/// All of them in one timeline.
fn together(explained: &[Explanation]) -> Timeline {
    explained.iter().map(Explanation::timeline).collect()
}
