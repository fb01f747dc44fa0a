//! A unit: a machine in small, with a process, mount, network, host-name, IPC and cgroup namespace of its
//! own, in which the components of one node (or of the control plane) run as ordinary processes.
//!
//! ```text
//! up ──pipe──▶ keeper (host's namespaces) ──pipe──▶ init (process 1 of the unit)
//!                removes the cgroups                  starts and watches components, reaps the rest
//! ```
//!
//! Why: everything that a node leaves about (shims, containers, overlay and tmpfs mounts, network
//! namespaces, bridges, veth pairs, iptables chains) belongs to a namespace that ends with the unit's
//! process 1. Taking a node down is killing one process, and cannot miss anything; two clusters cannot
//! see each other's chains; and nothing of a pod is ever mounted where the host's `rm` could reach it.
//!
//! Each pipe is a lifeline: when `up` dies before the cluster's state says that it is up, the keeper ends;
//! when the keeper ends, by whatever, init does, and with it the namespaces.

mod enter;
mod init;
mod keeper;
mod mounts;
mod supervisor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

pub(super) use enter::enter;
pub(super) use init::init;
pub(super) use keeper::{Keeper, keep};
pub(super) use mounts::new as mount;

/// A program that a unit runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Component {
    /// Its name in logs and messages.
    pub(super) name: String,
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// Environment variables beside those of the unit.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

/// What a component is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Its process id within the unit.
    pub(super) pid: i32,
    /// Whether it has said that it is ready (`sd_notify`).
    pub(super) ready: bool,
    /// How it ended, if it has.
    pub(super) ended: Option<String>,
}

/// What init is asked for: one request, one answer, each a line of JSON, on a connection of its own.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Start a component; the answer is its [`Standing`].
    Start(Component),
    /// Start a component that has ended, as it was started before.
    Again(String),
    /// How all components stand.
    List,
    /// Answered when the component is ready or has ended.
    Ready(String),
    /// Answered when the component has ended.
    Ended(String),
    /// Send a signal to a component.
    Signal(String, i32),
    /// Run a program to its end; the answer is its output. For setting up the network.
    Run(Vec<String>),
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Standing(Standing),
    All(BTreeMap<String, Standing>),
    Output(String),
    Done,
    Failed(String),
}

/// The way to a unit's init.
#[derive(Debug, Clone)]
pub(super) struct Control {
    /// Its socket.
    socket: PathBuf,
}

impl Control {
    /// The unit whose files are in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        Self { socket: dir.join(SOCKET) }
    }

    pub(super) async fn start(&self, component: Component) -> Result<Standing> {
        self.standing(&Request::Start(component)).await
    }

    pub(super) async fn again(&self, name: &str) -> Result<Standing> {
        self.standing(&Request::Again(name.into())).await
    }

    /// Waits until a component says that it is ready, or has ended.
    pub(super) async fn ready(&self, name: &str) -> Result<Standing> {
        self.standing(&Request::Ready(name.into())).await
    }

    /// Waits until a component has ended.
    pub(super) async fn ended(&self, name: &str) -> Result<Standing> {
        self.standing(&Request::Ended(name.into())).await
    }

    pub(super) async fn signal(&self, name: &str, signal: i32) -> Result<()> {
        self.ask(&Request::Signal(name.into(), signal)).await.map(|_| ())
    }

    pub(super) async fn list(&self) -> Result<BTreeMap<String, Standing>> {
        match self.ask(&Request::List).await? {
            Answer::All(all) => Ok(all),
            other => bail!("{}: unexpected answer {other:?}", self.socket.display()),
        }
    }

    /// Runs a program in the unit and returns what it printed.
    pub(super) async fn run(&self, argv: &[&str]) -> Result<String> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        match self.ask(&Request::Run(argv)).await? {
            Answer::Output(text) => Ok(text),
            other => bail!("{}: unexpected answer {other:?}", self.socket.display()),
        }
    }

    async fn standing(&self, request: &Request) -> Result<Standing> {
        match self.ask(request).await? {
            Answer::Standing(standing) => Ok(standing),
            other => bail!("{}: unexpected answer {other:?}", self.socket.display()),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer> {
        let line = self.talk(request).await.with_context(|| {
            format!("{}: the unit's init does not answer; is it gone?", self.socket.display())
        })?;
        if line.is_empty() {
            bail!("{}: the unit ended before it answered", self.socket.display());
        }
        match serde_json::from_str(&line)? {
            Answer::Failed(what) => bail!("{what}"),
            answer => Ok(answer),
        }
    }

    async fn talk(&self, request: &Request) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(line)
    }
}

/// The socket of a unit's init, in the unit's directory.
const SOCKET: &str = "init.sock";
/// What init prints when its socket is there.
const READY: &str = "ready";
