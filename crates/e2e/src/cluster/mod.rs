//! A real Kubernetes on this machine, in seconds: etcd, API server, controller manager, scheduler,
//! CoreDNS, and any number of nodes with kubelet, kube-proxy, containerd and runc of their own.
//!
//! ```text
//! target/cluster/default/     cluster.json, kubeconfig, pki/, log/UNIT/COMPONENT.log
//!   control                   etcd, kube-apiserver, kube-controller-manager, kube-scheduler, coredns
//!   node-1, node-2, …         containerd, kubelet, kube-proxy, and the pods
//! ```
//!
//! Each of the lower lines is a unit: a set of namespaces that ends with one process (module `unit`). So
//! clusters stand side by side without seeing each other, and taking one down is killing those processes.

pub mod api;
mod cgroups;
mod config;
mod down;
mod handle;
mod layout;
mod network;
mod pki;
mod state;
mod status;
mod unit;
mod up;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value};

pub use config::PAUSE;
pub use down::{down, leftovers};
pub use handle::{Cluster, Mirror, Node};
pub use layout::Layout;
pub use up::up;

use crate::go;
use layout::node;
use state::State;

/// What a cluster should be.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes; none makes a control plane alone.
    pub nodes: usize,
    /// The minor version, `1.35` or `1.34`.
    pub kubernetes: String,
    /// Fields of KubeletConfiguration to set or replace, for every node.
    pub kubelet: Map<String, Value>,
    /// The program that keeps the units: `holdfast-e2e`. `None`: the one that is running.
    pub program: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 1, kubernetes: go::MINORS[0].into(), kubelet: Map::new(), program: None }
    }
}

/// `cargo xtask cluster …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up a cluster, unless it is up already
    Up {
        /// Which one
        #[command(flatten)]
        place: Place,
        /// How many nodes
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=i64::from(network::MAX_NODES)))]
        nodes: u8,
        /// The minor version of Kubernetes
        #[arg(long, default_value = go::MINORS[0], value_parser = clap::builder::PossibleValuesParser::new(go::MINORS))]
        kubernetes: String,
        /// A field of KubeletConfiguration, its value as JSON; repeatable
        #[arg(long, value_name = "FIELD=JSON", value_parser = field)]
        kubelet: Vec<(String, Value)>,
    },
    /// Say whether a cluster is up and well
    Status {
        /// Which one
        #[command(flatten)]
        place: Place,
    },
    /// Print the path of the administrator's kubeconfig
    Kubeconfig {
        /// Which one
        #[command(flatten)]
        place: Place,
    },
    /// Run kubectl as the cluster's administrator
    Kubectl {
        /// The cluster's directory
        #[arg(long, default_value_os_t = default_dir())]
        dir: PathBuf,
        /// What to tell it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Give an image archive to every node
    Load {
        /// An OCI archive, as `cargo xtask image` writes them
        image: PathBuf,
        /// Which one
        #[command(flatten)]
        place: Place,
    },
    /// Run a program in a node's namespaces, among its processes, mounts and links
    Enter {
        /// The cluster's directory
        #[arg(long, default_value_os_t = default_dir())]
        dir: PathBuf,
        /// `node-1`, …, or `control`
        unit: String,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Take down a cluster, or what is left of one
    Down {
        /// Which one
        #[command(flatten)]
        place: Place,
    },
    /// Build everything that a cluster consists of, and helm, and start nothing
    Build {
        /// The minor version of Kubernetes
        #[arg(long, default_value = go::MINORS[0], value_parser = clap::builder::PossibleValuesParser::new(go::MINORS))]
        kubernetes: String,
    },
    /// The process that holds a unit from outside
    #[command(hide = true)]
    Keep {
        /// The cluster's directory
        dir: PathBuf,
        /// The unit
        unit: String,
    },
    /// Process 1 of a unit
    #[command(hide = true)]
    Init {
        /// The cluster's directory
        dir: PathBuf,
        /// The unit
        unit: String,
    },
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The cluster's directory
    #[arg(default_value_os_t = default_dir())]
    dir: PathBuf,
}

impl Place {
    fn layout(&self) -> Result<Layout> {
        Layout::new(&self.dir)
    }
}

/// Runs a command.
///
/// # Errors
/// What went wrong, and where.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { place, nodes, kubernetes, kubelet } => {
            let options = Options {
                nodes: nodes.into(),
                kubernetes,
                kubelet: kubelet.into_iter().collect(),
                program: None,
            };
            let layout = place.layout()?;
            let new = block_on(up(&layout, &options))?;
            let dir = layout.dir().display();
            eprintln!("{dir}: {}", if new { "up" } else { "already up" });
            println!("{}", layout.kubeconfig().display());
        }
        Command::Status { place } => return print_status(&place.layout()?),
        Command::Kubeconfig { place } => {
            let layout = place.layout()?;
            running(&layout)?;
            println!("{}", layout.kubeconfig().display());
        }
        Command::Kubectl { dir, words } => {
            use std::os::unix::process::CommandExt as _;
            let cluster = Cluster::open(&dir)?;
            return Err(cluster.kubectl()?.args(words).exec()).context("kubectl");
        }
        Command::Load { image, place } => block_on(load(&place.layout()?, &image))?,
        Command::Enter { dir, unit, command } => {
            let layout = Layout::new(&dir)?;
            let init = running(&layout)?.init(&unit)?;
            let status = unit::enter(&layout, &unit, init, &command)?;
            return Ok(exit_code(status));
        }
        Command::Down { place } => down(&place.layout()?)?,
        Command::Build { kubernetes } => {
            go::kubernetes(&kubernetes)?;
            go::coredns()?;
            go::helm()?;
            go::health()?;
        }
        Command::Keep { dir, unit } => unit::keep(&Layout::new(&dir)?, &unit)?,
        Command::Init { dir, unit } => unit::init(&Layout::new(&dir)?, &unit)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The cluster that commands mean when none is named.
#[must_use]
pub fn default_dir() -> PathBuf {
    crate::workspace().join("target/cluster/default")
}

/// Gives an image archive to every node.
///
/// # Errors
/// When the cluster is not up, or containerd does not take the archive.
pub async fn load(layout: &Layout, image: &Path) -> Result<()> {
    for number in 1..=running(layout)?.nodes {
        load_into(layout, number, image).await?;
    }
    Ok(())
}

/// Gives an image archive to one node, by containerd's own client.
async fn load_into(layout: &Layout, number: usize, image: &Path) -> Result<()> {
    let output = tokio::process::Command::new("ctr")
        .arg("--address")
        .arg(config::socket(layout, number))
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(image)
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run ctr (package containerd)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} does not take {}: {}", node(number), image.display(), said.trim());
    }
    Ok(())
}

fn print_status(layout: &Layout) -> Result<ExitCode> {
    let dir = layout.dir().display();
    let Some(state) = State::read(layout) else {
        println!("{dir}: no cluster");
        return Ok(ExitCode::FAILURE);
    };
    let problems = block_on(async { Ok(status::problems(layout, &state).await) })?;
    let well = if problems.is_empty() { "up" } else { "not well" };
    println!("{dir}: Kubernetes {}, {} node(s): {well}", state.kubernetes, state.nodes);
    for (unit, process) in &state.units {
        let components = block_on(async {
            Ok(unit::Control::of(&layout.unit(unit)).list().await.unwrap_or_default())
        })?;
        let names: Vec<String> = components.into_keys().collect();
        println!("  {unit} (process {}): {}", process.pid, names.join(", "));
    }
    for problem in &problems {
        println!("  problem: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The state of a cluster that is up.
fn running(layout: &Layout) -> Result<State> {
    State::read(layout).filter(|state| state.up).with_context(|| {
        format!("{}: no cluster is up: `cargo xtask cluster up`", layout.dir().display())
    })
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// The exit code that a shell would show.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// `FIELD=JSON`.
fn field(word: &str) -> Result<(String, Value), String> {
    let (name, value) = word.split_once('=').ok_or("it has no =")?;
    let value = serde_json::from_str(value).map_err(|e| format!("{value}: {e}"))?;
    Ok((name.to_owned(), value))
}
