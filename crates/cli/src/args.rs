//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use holdfast_runtime::cri::Endpoint;
use holdfast_runtime::driver::{Fault, parse_duration};

/// Brings workloads up in the right order, and proves that it did
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
}

/// Run the Pods, Jobs, CronJobs and Deployments of manifests on this machine, in the kubelet's order
///
/// Containers are host processes in namespaces of their own; nothing has to be installed. With
/// --runtime cri they are containerd's or another CRI runtime's. One row is
/// printed for each change, as `kubectl get pods -w` prints them; on a terminal, a live table. What
/// containers write goes to stderr with a prefix.
///
/// The command ends when every pod has ended (of a Job: when the Job has), when the condition of
/// --for holds, or after --timeout. Ctrl-C stops everything as a delete does, in the kubelet's
/// termination order; a second Ctrl-C kills.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 all succeeded, or the condition holds; 1 a pod or Job failed; \
                        2 bad usage or manifest; 124 timed out; 130 interrupted."
)]
pub(crate) struct RunArgs {
    /// Manifests in YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// What runs the containers: holdfast itself, as host processes, or a CRI runtime (containerd,
    /// CRI-O), which has images of its own and pulls what is missing
    #[arg(long, value_enum, default_value_t = Runtime::Process)]
    pub(crate) runtime: Runtime,

    /// Where the CRI runtime listens [default: unix:///run/containerd/containerd.sock]
    #[arg(long, value_name = "unix:///PATH")]
    pub(crate) endpoint: Option<Endpoint>,

    /// What an image name stands for: `host`, a directory, an OCI layout or archive, or an executable;
    /// with --runtime cri the name of another image, which is pulled only if it is not there
    #[arg(long = "image", value_name = "NAME=SOURCE")]
    pub(crate) images: Vec<String>,

    /// A file with `images:` and `node:` [default: holdfast.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The network of the pods: the host's, or one of their own [default: host; with --runtime cri it
    /// is the runtime's]
    #[arg(long, value_enum)]
    pub(crate) network: Option<Network>,

    /// How containers are kept apart; `auto` takes what the machine allows [default: auto]
    #[arg(long, value_enum)]
    pub(crate) isolation: Option<Isolation>,

    /// End when all pods are Ready, or when all Jobs (or pods) are Complete
    #[arg(long = "for", value_name = "CONDITION", value_enum)]
    pub(crate) until: Option<Until>,

    /// Give up after this time, for example `30s` or `5m`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    /// Write every start, ready, probe and exit to this file as JSON, and why each had to wait
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,

    /// Follow the schedule of CronJobs instead of firing each once, now
    #[arg(long)]
    pub(crate) schedule: bool,

    /// Break something on purpose: sandbox-lost@5s, kill:CONTAINER@5s, oom:CONTAINER@5s,
    /// daemon-restart@5s, runtime-restart@5s, stale-subpath
    #[arg(long = "fault", value_name = "KIND@TIME", value_parser = fault)]
    pub(crate) faults: Vec<FaultArg>,

    /// The Kubernetes whose rules hold, 1.29 to 1.36
    #[arg(long, value_name = "VERSION", default_value = "1.35", value_parser = minor)]
    pub(crate) kubernetes: u32,

    /// Where images and volumes are kept between runs
    #[arg(long, value_name = "DIR", env = "HOLDFAST_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Host processes in namespaces of their own
    Process,
    /// Containers of a CRI runtime
    Cri,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// The host's network
    Host,
    /// A bridge, and an address for each pod (needs root)
    Pod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Namespaces if the machine allows them, else none
    Auto,
    /// Namespaces, or fail
    Namespaces,
    /// Plain processes
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Every pod is Ready
    #[value(name = "condition=Ready", alias = "ready")]
    Ready,
    /// Every Job is Complete; pods that belong to none have Succeeded
    #[value(name = "condition=Complete", alias = "complete")]
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One row a change; a live table on a terminal
    Table,
    /// The final objects
    Json,
    /// One watch event a line
    Jsonl,
}

/// One `--fault`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultArg {
    /// It strikes at a time.
    At(Fault),
    /// A restarted container keeps the files its subPath mounts had at first.
    StaleSubPath,
}

fn fault(text: &str) -> Result<FaultArg, String> {
    if text == "stale-subpath" {
        return Ok(FaultArg::StaleSubPath);
    }
    text.parse()
        .map(FaultArg::At)
        .map_err(|e: holdfast_runtime::driver::ParseFaultError| format!("{e}, or stale-subpath"))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a time such as 30s, 1500ms, 5m or 1h".into())
}

fn minor(text: &str) -> Result<u32, String> {
    let known = holdfast_lifecycle::Options::MINORS;
    text.strip_prefix("1.")
        .and_then(|m| m.parse().ok())
        .filter(|m| known.contains(m))
        .ok_or_else(|| format!("expected 1.{} to 1.{}", known.start(), known.end()))
}
