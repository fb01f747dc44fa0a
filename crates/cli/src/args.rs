//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use holdfast_explain::assume::Assume;
use holdfast_helpers::render::{Source, Syntax};
use holdfast_helpers::wait::{Statuses, Target};
use holdfast_lifecycle::fault::{Fault, ParseFaultError};
use holdfast_lifecycle::time::parse_duration;
use holdfast_runtime::cri::Endpoint;

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
    Explain(ExplainArgs),
    Timeline(TimelineArgs),
    Wait(WaitArgs),
    Render(RenderArgs),
    Install(InstallArgs),
    Manager(ManagerArgs),
    Agent(AgentArgs),
    Status(StatusArgs),
    Logs(LogsArgs),
    Restart(RestartArgs),
    Stop(StopArgs),
    Doctor(DoctorArgs),
}

/// Say what this machine lacks, for whom, and what to do about it
///
/// Nothing is changed; ports are tried by binding to them for a moment.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 nothing is missing that is needed; 1 something is; 2 bad usage."
)]
pub(crate) struct DoctorArgs {
    /// What the machine is to be used for; each includes those before it
    #[arg(long = "for", value_enum, value_name = "PURPOSE", default_value_t = Purpose::Kubernetes)]
    pub(crate) purpose: Purpose,

    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = StatusAs::Table)]
    pub(crate) output: StatusAs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Pods as processes: `holdfast run` and `holdfast agent`
    Pods,
    /// A WireGuard interface of its own
    Mesh,
    /// A kubelet, as k3s has one
    Kubernetes,
}

/// Run this machine's services: the Pods of a directory, also as PID 1
///
/// What is added, changed or removed in the directory is started, replaced or stopped at once. Containers are
/// host processes, as with `run`. SIGTERM stops all pods, the last started first, and then the agent; SIGHUP
/// reads the manifests anew.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it was stopped; 1 it cannot run; 2 bad usage.")]
pub(crate) struct AgentArgs {
    /// The manifests: Pods in .yaml, .yml and .json files; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "/etc/holdfast/manifests")]
    pub(crate) manifests: PathBuf,

    #[command(flatten)]
    pub(crate) place: AgentPlace,

    /// How long stopping everything may take before what is left is killed
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration)]
    pub(crate) grace: Duration,

    /// A file with `images:` and `node:`, as for `run`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Mount /proc, /sys, /dev, /run, /tmp and /sys/fs/cgroup where there is nothing, as the first process of a
    /// machine has to
    #[arg(long)]
    pub(crate) mount_missing: bool,

    /// The Kubernetes whose rules hold, 1.29 to 1.36
    #[arg(long, value_name = "VERSION", default_value = "1.35", value_parser = minor)]
    pub(crate) kubernetes: u32,
}

/// Where an agent is found.
#[derive(Args, Debug)]
pub(crate) struct AgentPlace {
    /// Where the agent keeps logs, volumes, images and its socket [default: /var/lib/holdfast for root]
    #[arg(long, value_name = "DIR", env = "HOLDFAST_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Show the pods of the agent of this machine
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 all manifests are used and all pods are ready or done; 1 they are not; 2 bad \
                  usage, or there is no agent."
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: AgentPlace,

    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = StatusAs::Table)]
    pub(crate) output: StatusAs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusAs {
    /// For people
    Table,
    /// Everything that is known
    Json,
}

/// Print what a container of the agent's pods has written
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it is printed; 2 bad usage, or there is no such log.")]
pub(crate) struct LogsArgs {
    /// The pod
    #[arg(value_name = "POD")]
    pub(crate) pod: String,

    /// The container; needed if there are several
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,

    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Begin with this many of the last lines [default: all]
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,

    /// Print when each line was written, too
    #[arg(long)]
    pub(crate) timestamps: bool,

    #[command(flatten)]
    pub(crate) place: AgentPlace,
}

/// Start a pod of the agent again, also one that was stopped
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it has been started; 2 bad usage, or there is no such pod.")]
pub(crate) struct RestartArgs {
    /// The pod
    #[arg(value_name = "POD")]
    pub(crate) pod: String,

    #[command(flatten)]
    pub(crate) place: AgentPlace,
}

/// Stop a pod of the agent until `holdfast restart`, or everything
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 nothing is left of it, with --all: the agent has begun to stop; 2 bad usage, or there \
                  is no such pod."
)]
pub(crate) struct StopArgs {
    /// The pod
    #[arg(value_name = "POD", required_unless_present = "all")]
    pub(crate) pod: Option<String>,

    /// All pods, the last started first, and then the agent itself
    #[arg(long, conflicts_with = "pod")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) place: AgentPlace,
}

/// Draw what `run --timeline FILE.json` has written, or compare two runs lane by lane
///
/// With one file, a chart that fits the terminal, a picture or a page. With two, a table of what began,
/// was ready and ended when in each of them, or both in one picture.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it is drawn; 2 bad usage, or a file that is no timeline.")]
pub(crate) struct TimelineArgs {
    /// One recorded run, or two to compare; `-` is standard input
    #[arg(required = true, num_args = 1..=2, value_name = "FILE.json")]
    pub(crate) files: Vec<PathBuf>,

    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = DrawAs::Text)]
    pub(crate) output: DrawAs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrawAs {
    /// A chart, or a table, for a terminal; plain in a pipe
    Text,
    /// A picture
    Svg,
    /// A page in one file, with zoom and details
    Html,
    /// The data of one run
    Json,
}

/// Wait until a port, URL, socket, file, name or network interface is there, then run a command
///
/// For what Kubernetes has no order for: as the entrypoint of a container whose server is elsewhere, as
/// an init container, or with --once as an exec probe in an image without a shell.
///
/// TARGET is one of
///   tcp://HOST:PORT      a port that takes connections
///   http://… https://…   a URL that answers (no certificate is verified, as in probes)
///   unix:PATH            a socket that takes connections
///   file:PATH            anything at this path
///   dns:NAME             a name that has an address
///   interface:NAME       a network interface that is up and has an address
///
/// With --health instead of a TARGET it is the exec probe of a container that runs the manager.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit status: 0 all are there; 1 one was not there in time; 2 bad usage; 126, 127 the \
                  command cannot be run, is not found; else that of the command."
)]
pub(crate) struct WaitArgs {
    /// What to wait for; several are waited for at the same time
    #[arg(required_unless_present = "health", value_name = "TARGET")]
    pub(crate) targets: Vec<Target>,

    /// Ask now whether the manager of this container is ready, or with --health=healthz alive, on the
    /// port that it really has
    #[arg(
        long,
        value_enum,
        value_name = "ENDPOINT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "readyz",
        conflicts_with_all = ["targets", "once", "status", "command"]
    )]
    pub(crate) health: Option<HealthEndpoint>,

    /// Where the manager has written its ports [default: STATUS_FILE, or /run/holdfast/status.json]
    #[arg(long, value_name = "FILE", requires = "health")]
    pub(crate) status_file: Option<PathBuf>,

    /// Give up after this time [default: 60s; with --once 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Do not wait: answer now whether all are there
    #[arg(long)]
    pub(crate) once: bool,

    /// The HTTP statuses that count, such as 200 or 200,301-399 [default: 200-399]
    #[arg(long, value_name = "STATUSES")]
    pub(crate) status: Option<Statuses>,

    /// Say nothing while waiting
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Becomes this command (exec) when all are there
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HealthEndpoint {
    /// Whether it serves
    Readyz,
    /// Whether it is alive
    Healthz,
}

/// The operator: an API proxy that starts when WireGuard is up, in one replica or many
///
/// Takes the place of the Netmaker operator's manager: same environment, flags, ports and log lines.
/// docs/manager.md has all of them.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 it was stopped; 1 it cannot run; 2 a bad flag or variable.",
    override_usage = "holdfast manager [--FLAG[=VALUE]]..."
)]
pub(crate) struct ManagerArgs {
    /// As the operator's: --health-probe-bind-address, --metrics-bind-address, --metrics-secure,
    /// --leader-elect, --leader-elect-lease-duration, --leader-elect-renew-deadline,
    /// --leader-elect-retry-period, --leader-election-id, --leader-election-namespace, --kubeconfig,
    /// --status-file, --zap-devel, --zap-encoder, --zap-log-level, --zap-stacktrace-level,
    /// --zap-time-encoding, --enable-http2
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAG")]
    pub(crate) flags: Vec<String>,
}

/// Write a file from a template: whole or not at all, and only if it changes
///
/// For init containers that put a label of the pod, a variable or a secret into a configuration file.
/// Run twice, killed half-way or without a value, it never leaves a placeholder: the file that was
/// there stays until the new one is whole.
///
/// SOURCE is one of
///   value:TEXT        the text itself
///   env:NAME          a variable of the environment
///   file:PATH         what is in a file, without the line's end at its end
///   label:KEY         a label of the pod, or with --from-node of its node
///   annotation:KEY    an annotation of the same
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit status: 0 the file is what it should be; 1 with --check, it is not; 2 bad usage, a \
                  missing value, or a file that cannot be read or written."
)]
pub(crate) struct RenderArgs {
    /// The template
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) from: PathBuf,

    /// The file to write; its mode and owner stay
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,

    /// Put a value in place of a word, wherever it stands by itself
    #[arg(long, value_name = "WORD=SOURCE", value_parser = replacement)]
    pub(crate) replace: Vec<(String, Source)>,

    /// How placeholders are written [default: jinja for *.j2 and *.jinja, else env]
    #[arg(long, value_enum, value_name = "SYNTAX")]
    pub(crate) syntax: Option<SyntaxArg>,

    /// Where a downward API volume has the pod's labels
    #[arg(long, value_name = "FILE", default_value = "/etc/podinfo/labels")]
    pub(crate) labels_file: PathBuf,

    /// Where a downward API volume has the pod's annotations
    #[arg(long, value_name = "FILE", default_value = "/etc/podinfo/annotations")]
    pub(crate) annotations_file: PathBuf,

    /// Take labels and annotations of this node from the API server [default: $NODE_NAME]
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["watch", "labels_file", "annotations_file"]
    )]
    pub(crate) from_node: Option<String>,

    /// Write nothing; say whether the file is what it should be
    #[arg(long, conflicts_with = "watch")]
    pub(crate) check: bool,

    /// Stay, and render again when the template or a value changes
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyntaxArg {
    /// Only the words of --replace
    Words,
    /// These words, and ${NAME}: such a word or a variable of the environment
    Env,
    /// Jinja, with these words, `env`, `labels` and `annotations`; what is undefined is an error
    Jinja,
}

impl From<SyntaxArg> for Syntax {
    fn from(arg: SyntaxArg) -> Self {
        match arg {
            SyntaxArg::Words => Self::Words,
            SyntaxArg::Env => Self::Env,
            SyntaxArg::Jinja => Self::Jinja,
        }
    }
}

fn replacement(text: &str) -> Result<(String, Source), String> {
    match text.split_once('=') {
        Some((word, source)) if !word.is_empty() => {
            let source: Source = source.parse().map_err(|e| format!("{e}"))?;
            Ok((word.to_owned(), source))
        }
        _ => Err("expected WORD=SOURCE, such as RACK=label:vm/rack".to_owned()),
    }
}

/// Copy this program to a directory, for containers of other images that mount it
///
/// The copy is called holdfast, appears whole or not at all, and runs in any image: it is static.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it is there; 2 it is not.")]
pub(crate) struct InstallArgs {
    /// Where to; made if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
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
                        2 bad usage or manifest, or output that could not be written; \
                        124 timed out; 130 interrupted."
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

    /// Write every start, ready, probe and exit, and why each had to wait: by the end of the name as a
    /// picture, a page that one can look closer at, or data (which pipes get)
    #[arg(long, value_name = "FILE.{svg,html,json}")]
    pub(crate) timeline: Option<PathBuf>,

    /// Follow the schedule of CronJobs instead of firing each once, now
    #[arg(long)]
    pub(crate) schedule: bool,

    /// Break something on purpose: sandbox-lost@5s, pause-killed@5s, kill:CONTAINER@5s, oom:CONTAINER@5s,
    /// daemon-restart@5s, runtime-restart@5s, stale-subpath; @CONTAINER+5s counts from its first start
    #[arg(long = "fault", value_name = "KIND@TIME", value_parser = fault)]
    pub(crate) faults: Vec<FaultArg>,

    /// The Kubernetes whose rules hold, 1.29 to 1.36
    #[arg(long, value_name = "VERSION", default_value = "1.35", value_parser = minor)]
    pub(crate) kubernetes: u32,

    /// Where images and volumes are kept between runs
    #[arg(long, value_name = "DIR", env = "HOLDFAST_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Say beforehand who waits for whom, when each container starts, and what can kill it
///
/// Nothing runs. What the manifest does not say is unknown, not a guess: times are intervals, and open
/// where nothing ends them. What is taken for granted is said with --assume. What the runtime itself takes
/// to pull and start a container is left out, unless it is assumed (*.start=0s..2s).
///
/// WHAT=VALUE of --assume is one of
///   ready=5s          it answers its probes so long after its start; or never
///   exits=2s:1        it ends so long after its start, with this exit code [0]; or never
///   needs=OTHER       it ends with 1 if this other container does not answer when it starts
///   start=0s..2s      from the request until its process runs, a pull included
///   stops=1s          it ends so long after its stop signal
///   postStart=1s      how long this hook takes
///   preStop=1s        how long this hook takes
/// A time is 5s, a range 2s..5s, or 2s.. without an end.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit status: 0 explained; 2 bad usage or manifest, or output that could not be written."
)]
pub(crate) struct ExplainArgs {
    /// Manifests in YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Take something for granted of a container (`*`: of every one; NAME/ before it: of this workload)
    #[arg(long, value_name = "CONTAINER.WHAT=VALUE")]
    pub(crate) assume: Vec<Assume>,

    /// Break something on purpose in what would happen, as `run --fault` does
    #[arg(long = "fault", value_name = "KIND@TIME", value_parser = fault)]
    pub(crate) faults: Vec<FaultArg>,

    /// The Kubernetes whose rules hold, 1.29 to 1.36
    #[arg(long, value_name = "VERSION", default_value = "1.35", value_parser = minor)]
    pub(crate) kubernetes: u32,

    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = ExplainFormat::Text)]
    pub(crate) output: ExplainFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// Tables and sentences
    Text,
    /// All of it, as one object
    Json,
    /// The earliest course and the bounds, as a picture
    Svg,
    /// The same as a page in one file, with zoom and details
    Html,
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
    text.parse().map(FaultArg::At).map_err(|e: ParseFaultError| format!("{e}, or stale-subpath"))
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
