//! `holdfast render`: once, as a check, or for as long as the inputs change.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use holdfast_helpers::first_process::as_first_process;
use holdfast_helpers::render::{Change, Metadata, RenderError, Rendered, Wish, render, watch};
use holdfast_manager::node::NodeMetadata;

use crate::args::RenderArgs;
use crate::output::{self, say};

/// How long the API server may be away: the network of a pod that starts comes up meanwhile, and an init
/// container that fails is started again anyway.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

/// With `--check`: the file is not what it should be.
const EXIT_CHANGED: u8 = 1;

pub(crate) fn run(args: RenderArgs) -> anyhow::Result<u8> {
    let mut replace = BTreeMap::new();
    for (word, source) in args.replace {
        if replace.insert(word.clone(), source).is_some() {
            anyhow::bail!("--replace {word}: this word is replaced twice");
        }
    }
    let metadata = match args.from_node {
        Some(name) => match of_node(name)? {
            Ok(metadata) => metadata,
            Err(signal) => return Ok(crate::exit_of_signal(signal)),
        },
        None => Metadata::Files { labels: args.labels_file, annotations: args.annotations_file },
    };
    let wish = Wish {
        from: args.from,
        to: args.to,
        syntax: args.syntax.map(Into::into),
        replace,
        metadata,
    };
    if args.watch {
        return follow(&wish);
    }
    let rendered = render(&wish, args.check)?;
    tell(&wish, &rendered, args.check);
    Ok(if args.check && rendered.change != Change::None { EXIT_CHANGED } else { 0 })
}

/// Labels and annotations of a node, of the one that `NODE_NAME` names if `name` is empty; or the signal that
/// ended the reading.
fn of_node(name: String) -> anyhow::Result<Result<Metadata, i32>> {
    let name = match name.is_empty() {
        false => name,
        true => std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()).context(
            "--from-node: which node? Name it, or set the variable NODE_NAME (in a pod by the downward API: \
             valueFrom.fieldRef.fieldPath: spec.nodeName)",
        )?,
    };
    let read = holdfast_manager::node::read(&name, NODE_PATIENCE);
    let read = match crate::reactor()?.block_on(as_first_process(read)) {
        Ok(read) => read?,
        Err(signal) => return Ok(Err(signal)),
    };
    let NodeMetadata { labels, annotations } = read;
    Ok(Ok(Metadata::Known { of: format!("node {name:?}"), labels, annotations }))
}

/// Renders until a signal ends it, and says what changes and what goes wrong, each once.
fn follow(wish: &Wish) -> anyhow::Result<u8> {
    let mut last = None;
    let watched = watch(wish, |result: Result<Rendered, RenderError>| {
        let error = result.as_ref().err().map(ToString::to_string);
        let again = last.replace(error.clone());
        match (result, error) {
            (Ok(rendered), _) if rendered.change != Change::None || again.is_none() => {
                tell(wish, &rendered, false);
            }
            (Err(_), Some(error)) if again != Some(Some(error.clone())) => {
                output::error(format_args!("{error}"));
            }
            _ => {}
        }
    });
    match crate::reactor()?.block_on(as_first_process(watched)) {
        Ok(never) => match never {},
        Err(signal) => Ok(crate::exit_of_signal(signal)),
    }
}

fn tell(wish: &Wish, rendered: &Rendered, check: bool) {
    for word in &rendered.unused {
        say!("note: {} does not have the word {word}", wish.from.display());
    }
    let words = match (rendered.change, check) {
        (Change::Created, false) => "made",
        (Change::Replaced, false) => "replaced",
        (Change::Created, true) => "would be made",
        (Change::Replaced, true) => "would be replaced",
        (Change::None, _) => "unchanged",
    };
    say!("{}: {words}", wish.to.display());
}
