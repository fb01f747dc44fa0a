//! `holdfast run`.

mod cri;
mod ending;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use holdfast_lifecycle::Options;
use holdfast_manifest::expand::pod_of;
use holdfast_manifest::{Loaded, Object};
use holdfast_runtime::clock::{Clock, sleep_until};
use holdfast_runtime::config::{self, Objects, RunBy};
use holdfast_runtime::config_file::ConfigFile;
use holdfast_runtime::image::{ImageName, ImageStore, Source as ImageSource};
use holdfast_runtime::node::{Node, NodeCommand, NodeOptions, NodeParts};
use holdfast_runtime::process::{self, Begun, Mode, ProcessOptions, ProcessRuntime};
use holdfast_runtime::{Images, Runtime, RuntimeEvent, Site};
use holdfast_sys::launcher;
use tokio::sync::mpsc;

use crate::args::{self, FaultArg, Isolation, Network, RunArgs};
use crate::output::say;
use crate::output::timeline::Timeline;
use crate::{EXIT_USAGE, manifests};

use self::ending::Ending;
use self::report::{Report, Verdict};

/// Something failed.
const EXIT_FAILED: u8 = 1;
/// `--timeout` is over.
const EXIT_TIMEOUT: u8 = 124;
/// Ctrl-C, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the command; the exit code.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<u8> {
    match args.runtime {
        args::Runtime::Cri => return cri::run(&args),
        args::Runtime::Process if args.endpoint.is_some() => {
            bail!("--endpoint is for --runtime cri: there is nothing to connect to without it");
        }
        args::Runtime::Process => {}
    }
    // Containers are made by a process of one thread, forked before there is any other thread.
    let launcher = launcher::fork().context("cannot start the launcher process")?;
    let (warnings, runtime_warnings) = mpsc::unbounded_channel();
    let begun = Begun::new(launcher, process_options(&args, warnings))?;
    let runtime = crate::reactor()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, start(args, begun, runtime_warnings))
}

/// Gets everything ready while the launcher finds out what this machine allows, then runs the node.
async fn start(
    args: RunArgs,
    begun: Begun,
    mut warnings: mpsc::UnboundedReceiver<String>,
) -> anyhow::Result<u8> {
    let (events, runtime_events) = mpsc::unbounded_channel();
    let (made, prepared) = tokio::join!(
        // The launcher has been asked, and answers when we are done here: a thread for the reading would
        // take longer to start and to end than it saves.
        biased;
        ProcessRuntime::of(begun, events),
        async { prepare(&args, RunBy::Process) },
    );
    match (prepared, made) {
        (Ok(Some(mut prepared)), Ok((runtime, notices))) => {
            for notice in notices {
                say!("note: {notice}");
            }
            prepared.site.can_set_groups =
                rustix::process::geteuid().is_root() && runtime.mode() == Mode::Root;
            let mut ending = Ending::new()?;
            let parts = (runtime.clone(), runtime_events);
            let result = run_node(&args, prepared, parts, &mut warnings, &mut ending).await;
            runtime.shutdown().await;
            ending.of(result).await
        }
        (prepared, made) => {
            if let Ok((runtime, _)) = &made {
                runtime.shutdown().await;
            }
            // What is wrong with the manifests comes first.
            match prepared? {
                None => Ok(EXIT_USAGE),
                Some(_) => made.map(|_| EXIT_USAGE).map_err(Into::into),
            }
        }
    }
}

/// All that a run needs beside its runtime.
struct Prepared {
    loaded: Loaded,
    config: ConfigFile,
    site: Site,
}

/// Reads the manifests and what they refer to. `None` if they are wrong and that has been said.
fn prepare(args: &RunArgs, by: RunBy) -> anyhow::Result<Option<Prepared>> {
    let Some(loaded) = load(args, by)? else { return Ok(None) };
    let config = config_file(args)?;
    let state_dir = args.state_dir.clone().unwrap_or_else(default_state_dir);
    std::fs::create_dir_all(&state_dir).with_context(|| {
        format!(
            "cannot make the state directory {}; choose another with --state-dir",
            state_dir.display()
        )
    })?;
    if by == RunBy::Process {
        remove_stale(&state_dir);
    }
    let site = site(args, &config, &loaded, state_dir, by)?;
    for object in &loaded.objects {
        if let Object::Service(service) = object {
            let name = &service.metadata.name;
            say!("note: Service {name:?}: it has no address here, and its name is not resolved");
        }
        if let Some((_, pod)) = pod_of(object) {
            for finding in config::notices(&pod, &site.node, by) {
                let (kind, name) = (object.kind(), &object.metadata().name);
                say!("note: {kind} {name:?}: {}: {}", finding.path, finding.reason);
            }
        }
    }
    note_unused_images(args, &loaded);
    if args.schedule && !loaded.objects.iter().any(|o| matches!(o, Object::CronJob(_))) {
        say!("note: --schedule: the manifests hold no CronJob");
    }
    Ok(Some(Prepared { loaded, config, site }))
}

/// Removes the volumes of pods whose run was killed. What used them must be gone by now.
fn remove_stale(state_dir: &Path) {
    if let Err(e) = holdfast_runtime::volume::remove_stale(state_dir) {
        say!("note: what a killed run left in {} stays: {e}", state_dir.display());
    }
}

fn process_options(args: &RunArgs, warnings: mpsc::UnboundedSender<String>) -> ProcessOptions {
    ProcessOptions {
        isolation: match args.isolation {
            None | Some(Isolation::Auto) => process::Isolation::Auto,
            Some(Isolation::Namespaces) => process::Isolation::Namespaces,
            Some(Isolation::None) => process::Isolation::None,
        },
        network: match args.network {
            None | Some(Network::Host) => process::Network::Host,
            Some(Network::Pod) => process::Network::Pod,
        },
        warnings: Some(warnings),
        ..ProcessOptions::default()
    }
}

/// Reads and checks the manifests. `None` if they are wrong and that has been said.
fn load(args: &RunArgs, by: RunBy) -> anyhow::Result<Option<Loaded>> {
    let mut options = holdfast_manifest::Options::default();
    options.kubernetes = args.kubernetes;
    options.refuse = Some(match by {
        RunBy::Process => |object| refused(object, RunBy::Process),
        RunBy::Cri => |object| refused(object, RunBy::Cri),
    });
    let Some(loaded) = manifests::load(&args.files, &options)? else { return Ok(None) };
    check_condition(args.until, &loaded)?;
    manifests::check_faults(&args.faults, &loaded)?;
    if let Some(path) = &args.timeline {
        Timeline::check(path)
            .with_context(|| format!("cannot write the timeline {}", path.display()))?;
    }
    Ok(Some(loaded))
}

/// What a runtime cannot do of an object: paths of fields, and reasons.
fn refused(object: &Object, by: RunBy) -> Vec<(String, String)> {
    let Some((prefix, pod)) = pod_of(object) else { return Vec::new() };
    let place = |path: &str| match path.strip_prefix("spec.") {
        Some(rest) => format!("{prefix}spec.{rest}"),
        None => format!("{prefix}{path}"),
    };
    let own = config::unsupported_workload(object).into_iter().map(|f| (f.path, f.reason));
    let of_pods = config::unsupported(&pod, by).into_iter().map(|f| (place(&f.path), f.reason));
    own.chain(of_pods).collect()
}

/// What holds from the start, since there is nothing that it could hold for, is not what was meant.
fn check_condition(until: Option<args::Until>, loaded: &Loaded) -> anyhow::Result<()> {
    let ends = |o: &Object| matches!(o, Object::Pod(_) | Object::Job(_) | Object::CronJob(_));
    if until == Some(args::Until::Complete) && !loaded.objects.iter().any(ends) {
        bail!(
            "--for condition=Complete: the manifests hold no Pod, Job or CronJob, and nothing else \
             ever completes; --for condition=Ready waits until all pods are Ready"
        );
    }
    Ok(())
}

/// An `--image` that no container asks for is most likely a typing error.
fn note_unused_images(args: &RunArgs, loaded: &Loaded) {
    let pods = || loaded.objects.iter().filter_map(pod_of).map(|(_, pod)| pod.spec);
    let images: Vec<ImageName> = pods()
        .flat_map(|spec| {
            let lists = [spec.init_containers, spec.containers, spec.ephemeral_containers];
            lists.into_iter().flatten().map(|c| c.image)
        })
        .filter_map(|image| ImageName::parse(&image).ok())
        .collect();
    for text in &args.images {
        let Some((name, _)) = text.split_once('=') else { continue };
        let Ok(key) = ImageName::parse(name) else { continue };
        if !images.iter().any(|image| key.covers(image)) {
            say!("note: --image {name}: no container has this image");
        }
    }
}

async fn run_node<R: Runtime + 'static>(
    args: &RunArgs,
    prepared: Prepared,
    (runtime, runtime_events): (R, mpsc::UnboundedReceiver<RuntimeEvent>),
    runtime_warnings: &mut mpsc::UnboundedReceiver<String>,
    ending: &mut Ending,
) -> anyhow::Result<u8> {
    let Prepared { loaded, site, config: _ } = prepared;
    let clock = Clock::start();
    let (watcher, mut reports) = mpsc::unbounded_channel();
    let (commands, inbox) = mpsc::unbounded_channel();
    let mut report = Report::new(args, &clock, &site.node, &loaded.objects);
    let faults = args.faults.iter().filter_map(|f| match f {
        FaultArg::At(fault) => Some(fault.clone()),
        FaultArg::StaleSubPath => None,
    });
    let node_options =
        NodeOptions { schedule: args.schedule, faults: faults.collect(), stays: false };
    let parts = NodeParts {
        runtime,
        runtime_events,
        engine: Options { minor: args.kubernetes, ..Options::default() },
        site,
        watcher,
        commands: inbox,
        clock,
    };
    let mut node = tokio::task::spawn_local(Node::new(parts, node_options).run(loaded.objects));
    // A time that no clock reaches is as good as none.
    let deadline = args.timeout.and_then(|t| tokio::time::Instant::now().checked_add(t));
    let mut end = None;
    let outcome = loop {
        tokio::select! {
            biased;
            () = ending.signals.next() => {
                let again = end == Some(EXIT_INTERRUPTED);
                ending.is_hasty |= again;
                end = end.max(Some(EXIT_INTERRUPTED));
                report.message(if again { "killing" } else { "stopping; Ctrl-C again kills" });
                let _ = commands.send(if again { NodeCommand::Kill } else { NodeCommand::Stop });
            }
            Some(notice) = reports.recv() => {
                if report.take(notice) == Verdict::Met && end.is_none() {
                    end = Some(0);
                    let _ = commands.send(NodeCommand::Stop);
                }
            }
            Some(warning) = runtime_warnings.recv() => report.message(&warning),
            () = sleep_until(deadline), if end.is_none() => {
                end = Some(EXIT_TIMEOUT);
                report.message("timed out; stopping");
                let _ = commands.send(NodeCommand::Stop);
            }
            () = report.tick() => report.redraw(),
            outcome = &mut node => break outcome.context("the node failed")?,
        }
    };
    while let Ok(notice) = reports.try_recv() {
        report.take(notice);
    }
    report.finish()?;
    if let Some(code) = end {
        return Ok(code);
    }
    for name in &outcome.failed {
        say!("{name} failed");
    }
    Ok(if outcome.failed.is_empty() { 0 } else { EXIT_FAILED })
}

/// `holdfast.yaml`: the one named, or the one that is here.
fn config_file(args: &RunArgs) -> anyhow::Result<ConfigFile> {
    match &args.config {
        Some(path) => Ok(ConfigFile::read(path)?),
        None if Path::new("holdfast.yaml").is_file() => {
            Ok(ConfigFile::read(Path::new("holdfast.yaml"))?)
        }
        None => Ok(ConfigFile::default()),
    }
}

fn site(
    args: &RunArgs,
    config: &ConfigFile,
    loaded: &Loaded,
    state_dir: PathBuf,
    by: RunBy,
) -> anyhow::Result<Site> {
    let images = match by {
        RunBy::Process => Images::Here(Arc::new(images(args, config, &state_dir)?)),
        RunBy::Cri => Images::OfRuntime,
    };
    let (name, labels) = (config.node_name.clone(), config.node_labels.clone());
    let node = config::Node::of_this_machine(name, labels, &state_dir);
    Ok(Site {
        images,
        objects: Objects::new(&loaded.objects),
        node,
        state_dir,
        keep_sub_paths: args.faults.contains(&FaultArg::StaleSubPath),
        minor: args.kubernetes,
        // The process runtime knows when the launcher has answered.
        can_set_groups: by == RunBy::Cri,
        host_network: by == RunBy::Process && args.network != Some(Network::Pod),
    })
}

/// The images that stand for files of this machine.
fn images(args: &RunArgs, config: &ConfigFile, state_dir: &Path) -> anyhow::Result<ImageStore> {
    let here = std::env::current_dir().context("cannot find the working directory")?;
    let mut map = config.images.clone();
    for text in &args.images {
        map.push(ImageSource::parse_mapping(text, &here)?);
    }
    Ok(ImageStore::new(state_dir, map)?)
}

/// `/var/lib/holdfast` for root; the user's data directory for others.
pub(crate) fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/holdfast".into();
    }
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    // Without a home: a name of our own, since everyone shares this directory.
    let shared =
        || std::env::temp_dir().join(format!("holdfast-state-{}", rustix::process::geteuid()));
    data.or_else(home).map_or_else(shared, |dir| dir.join("holdfast"))
}
