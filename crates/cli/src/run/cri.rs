//! `--runtime cri`.

use anyhow::{Context, bail};
use holdfast_runtime::config::RunBy;
use holdfast_runtime::config_file::ConfigFile;
use holdfast_runtime::cri::{self, CriOptions, CriRuntime, DEFAULT_ENDPOINT, Endpoint};
use holdfast_runtime::image::ImageName;
use tokio::sync::mpsc;

use super::{Ending, prepare, remove_stale, run_node};
use crate::EXIT_USAGE;
use crate::args::RunArgs;
use crate::output::say;

/// Runs the command with the containers of a CRI runtime; the exit code.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    if args.network.is_some() {
        bail!(
            "--network is for --runtime process: the pods of a CRI runtime have the network that its \
             CNI configuration gives them; hostNetwork: true in the Pod gives one the host's"
        );
    }
    if args.isolation.is_some() {
        bail!(
            "--isolation is for --runtime process: a CRI runtime keeps its containers apart itself"
        );
    }
    let reactor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    tokio::task::LocalSet::new().block_on(&reactor, start(args))
}

/// Reads the manifests, connects, and runs the node.
async fn start(args: &RunArgs) -> anyhow::Result<u8> {
    let Some(prepared) = prepare(args, RunBy::Cri)? else { return Ok(EXIT_USAGE) };
    let (events, runtime_events) = mpsc::unbounded_channel();
    let (sender, mut warnings) = mpsc::unbounded_channel();
    let endpoint = match &args.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => DEFAULT_ENDPOINT.parse::<Endpoint>()?,
    };
    let mut options = CriOptions::new(endpoint);
    options.state_dir.clone_from(&prepared.site.state_dir);
    options.renames = renames(args, &prepared.config)?;
    options.warnings = Some(sender);
    let (runtime, notices) = CriRuntime::connect(options, events).await?;
    for notice in notices {
        say!("note: {notice}");
    }
    // Connecting has ended the containers of killed runs, which had these volumes.
    remove_stale(&prepared.site.state_dir);
    let mut ending = Ending::new()?;
    let parts = (runtime.clone(), runtime_events);
    let result = run_node(args, prepared, parts, &mut warnings, &mut ending).await;
    runtime.shutdown().await;
    while let Ok(warning) = warnings.try_recv() {
        say!("holdfast: {warning}");
    }
    ending.of(result).await
}

/// The image map, whose sources are names of other images here.
fn renames(args: &RunArgs, config: &ConfigFile) -> anyhow::Result<Vec<(ImageName, String)>> {
    let mut map: Vec<(&str, &str)> =
        config.image_texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    for text in &args.images {
        let mapping =
            text.split_once('=').filter(|(name, other)| !name.is_empty() && !other.is_empty());
        map.push(mapping.with_context(|| format!("--image: {text:?} is not NAME=IMAGE"))?);
    }
    Ok(cri::renames(map)?)
}
