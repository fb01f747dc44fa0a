//! A cluster that is up, for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::api::Client;
use super::layout::{Layout, node, tail, write};
use super::state::State;
use super::unit::Control;
use super::{Options, config, default_dir, load, running, up};
use crate::go;
use crate::image::Registry;

/// A cluster that is up. It stays up when this is dropped.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
    state: State,
    program: PathBuf,
}

/// A node of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    number: usize,
}

impl Cluster {
    /// The cluster in the usual place, brought up if it is not. Everybody who wants the same shares it:
    /// tests use namespaces of their own in it. `program` is `holdfast-e2e`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn shared(program: &Path) -> Result<Self> {
        let options = Options { program: Some(program.to_owned()), ..Options::default() };
        Self::up(&default_dir(), &options).await
    }

    /// The cluster in `dir`, brought up if it is not as `options` describe it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn up(dir: &Path, options: &Options) -> Result<Self> {
        let layout = Layout::new(dir)?;
        up(&layout, options).await?;
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        Ok(Self { state: running(&layout)?, layout, program })
    }

    /// The cluster in `dir`, which must be up. `holdfast-e2e` must be the running program.
    ///
    /// # Errors
    /// When it is not.
    pub fn open(dir: &Path) -> Result<Self> {
        let layout = Layout::new(dir)?;
        Ok(Self { state: running(&layout)?, layout, program: std::env::current_exe()? })
    }

    /// Where its files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// A connection as the administrator.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::from_kubeconfig(&self.kubeconfig())?)
    }

    /// kubectl of the cluster's version, as the administrator.
    ///
    /// # Errors
    /// When it does not build.
    pub fn kubectl(&self) -> Result<Command> {
        let minor = self.state.kubernetes.rsplit_once('.').map_or("", |(minor, _)| minor);
        let mut command = Command::new(go::kubernetes(minor)?);
        command.arg("kubectl").env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// Gives an image archive to every node.
    ///
    /// # Errors
    /// When containerd does not take it.
    pub async fn load(&self, image: &Path) -> Result<()> {
        load(&self.layout, image).await
    }

    /// Lets the nodes pull the images of these archives: the result stands for the registry of that
    /// name until it is dropped.
    ///
    /// # Errors
    /// When an archive cannot be read, or the nodes not be told.
    pub fn mirror(&self, registry: &str, archives: &[PathBuf]) -> Result<Mirror> {
        let block = self.state.block.context("a cluster that is up has a network")?;
        let mut mirror =
            Mirror { registry: Registry::serve(block.host().into(), archives)?, dirs: Vec::new() };
        let url = mirror.registry.url();
        for number in 1..=self.state.nodes {
            let dir = config::registries(&self.layout, number).join(registry);
            mirror.dirs.push(dir.clone());
            // containerd reads it at each pull.
            let text = format!("[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
            write(&dir.join("hosts.toml"), text)?;
        }
        Ok(mirror)
    }

    /// The `number`th node, from 1.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn node(&self, number: usize) -> Result<Node<'_>> {
        if number == 0 || number > self.state.nodes {
            bail!("there is no {}: the cluster has {} node(s)", node(number), self.state.nodes);
        }
        Ok(Node { cluster: self, number })
    }

    /// How many nodes it has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.state.nodes
    }

    /// The version of Kubernetes, such as `1.35.4`.
    #[must_use]
    pub fn kubernetes(&self) -> &str {
        &self.state.kubernetes
    }
}

/// What stands for a registry (see [`Cluster::mirror`]).
#[derive(Debug)]
pub struct Mirror {
    registry: Registry,
    /// Where the nodes are told so.
    dirs: Vec<PathBuf>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // The cluster may be gone by now.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

impl Node<'_> {
    /// Its Kubernetes name, which is the name of its unit as well.
    #[must_use]
    pub fn name(&self) -> String {
        node(self.number)
    }

    /// The socket of its containerd. It can be used from the host; but paths below `/run` and `/var`
    /// that are named there are the node's own, not the host's.
    #[must_use]
    pub fn containerd(&self) -> PathBuf {
        config::socket(&self.cluster.layout, self.number)
    }

    /// Sends a signal to `containerd`, `kubelet` or `kube-proxy`. A component that ends by it stays ended
    /// until [`Node::start`].
    ///
    /// # Errors
    /// When there is no such component or signal.
    pub async fn signal(&self, component: &str, signal: i32) -> Result<()> {
        self.control().signal(component, signal).await
    }

    /// Waits until a component has ended, and says how.
    ///
    /// # Errors
    /// When there is no such component.
    pub async fn ended(&self, component: &str) -> Result<String> {
        Ok(self.control().ended(component).await?.ended.unwrap_or_default())
    }

    /// Starts a component that has ended, as it was started before. `containerd` and `kubelet` are waited
    /// for until they say that they are ready.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn start(&self, component: &str) -> Result<()> {
        self.control().again(component).await?;
        if ["containerd", "kubelet"].contains(&component)
            && let Some(how) = self.control().ready(component).await?.ended
        {
            let log = self.cluster.layout.log(&self.name(), component);
            bail!("{component} ended: {how}; its log ({}) ends:\n{}", log.display(), tail(&log));
        }
        Ok(())
    }

    fn control(&self) -> Control {
        Control::of(&self.cluster.layout.unit(&self.name()))
    }

    /// A command that runs `program` in the node's namespaces, as the kubelet runs: the same processes,
    /// mounts, links and cgroups. Arguments are added to it as usual; TERM, INT, HUP and QUIT that it gets
    /// reach the program; it ends as the program does; and if it is killed, so is the program.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(&self.cluster.program);
        command
            .args(["cluster", "enter", "--dir"])
            .arg(self.cluster.layout.dir())
            .arg(self.name())
            .arg("--")
            .arg(program);
        command
    }
}
