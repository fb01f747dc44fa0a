//! The cluster that pods are run on, and what is built for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::pod::{IMAGE, NAMESPACE};
use crate::cluster::api::{Client, Patch};
use crate::cluster::{self, Cluster};
use crate::image::{Image, Node};

/// The node of the kubelet, and that of `holdfast run --runtime cri`: the same containerd, but each has
/// its own.
pub(super) const KUBELETS: usize = 1;
pub(super) const HOLDFASTS: usize = 2;

/// How often it is tried to create a pod while the namespace is new and has no service account yet.
const TRIES: usize = 50;

/// A cluster that is up, with the image of the actor on its node.
pub(super) struct Bench {
    cluster: Cluster,
    runtime: Arc<Runtime>,
    client: Client,
    /// The archive with the image of the actor.
    pub(super) image: PathBuf,
}

impl Bench {
    /// The judge's own cluster, brought up if it is not: its kubelet says more than others'.
    pub(super) fn up() -> Result<Self> {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        // The connection must answer the pings of the API server also while nobody asks anything.
        let driver = Arc::clone(&runtime);
        std::thread::spawn(move || driver.block_on(std::future::pending::<()>()));
        // Prober and hooks say what they did at level 3, and when at 4.
        let logging = json!({ "logging": { "verbosity": 4 } });
        let options = cluster::Options {
            kubelet: logging.as_object().cloned().unwrap_or_default(),
            nodes: 2,
            ..cluster::Options::default()
        };
        let cluster = runtime.block_on(Cluster::up(&place(), &options))?;
        let client = cluster.client()?;
        let image = image()?;
        runtime.block_on(cluster.load(&image))?;
        let bench = Self { cluster, runtime, client, image };
        bench.runtime.block_on(bench.free())?;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        match bench.runtime.block_on(bench.client.create(&namespace)) {
            Err(e) if !e.is_conflict() => return Err(e.into()),
            _ => {}
        }
        Ok(bench)
    }

    /// Takes the kubelet away from the second node: a kubelet ends whatever it does not know, the pods
    /// of `holdfast run --runtime cri` among it.
    async fn free(&self) -> Result<()> {
        let path = "/api/v1/nodes/node-2";
        let cordon = json!({"spec": {"unschedulable": true}});
        self.client.patch(path, Patch::Merge, &cordon).await?;
        let node = self.cluster.node(HOLDFASTS)?;
        // It may have ended when an earlier judge came by.
        if node.signal("kubelet", 9).await.is_ok() {
            node.ended("kubelet").await?;
        }
        Ok(())
    }

    /// `kubectl`, in the namespace of the judge.
    pub(super) fn kubectl(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.cluster.kubectl()?;
        command.args(["--namespace", NAMESPACE]).args(args);
        Ok(command)
    }

    /// containerd's own client, on a node.
    pub(super) fn ctr(&self, node: usize, args: &[&str]) -> Result<Command> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.containerd(node)?).args(["-n", "k8s.io"]).args(args);
        Ok(command)
    }

    /// The socket of a node's containerd.
    pub(super) fn containerd(&self, node: usize) -> Result<PathBuf> {
        Ok(self.cluster.node(node)?.containerd())
    }

    /// A command that runs a program on a node, as the kubelet is run there.
    pub(super) fn on_node(&self, node: usize, program: &Path) -> Result<Command> {
        Ok(self.cluster.node(node)?.command(program))
    }

    pub(super) fn kubelet_log(&self) -> PathBuf {
        self.cluster.layout().log("node-1", "kubelet")
    }

    /// A connection of its own, for a thread that watches.
    pub(super) fn client(&self) -> Result<Client> {
        self.cluster.client()
    }

    /// The path of the pods of the judge.
    pub(super) fn pods() -> String {
        format!("/api/v1/namespaces/{NAMESPACE}/pods")
    }

    /// Creates a pod.
    pub(super) fn create(&self, pod: &Value) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.runtime.block_on(self.client.create(pod)) {
                Ok(_) => return Ok(()),
                Err(e) if tries < TRIES && e.to_string().contains("serviceaccount") => {
                    // Nothing tells when the controller has made it that would be worth a watch.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    tries += 1;
                }
                // Left by an earlier judge that was killed.
                Err(e) if tries < TRIES && e.is_conflict() => {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    self.delete(name, Some(0))?;
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    tries += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Deletes a pod without waiting for it to go. One that is gone already is fine.
    pub(super) fn delete(&self, pod: &str, grace: Option<u64>) -> Result<()> {
        let path = format!("{}/{pod}", Self::pods());
        let grace = grace.map(u32::try_from).transpose()?;
        match self.runtime.block_on(self.client.delete(&path, grace)) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// SIGKILL to all processes of these containers and sandboxes in the same moment, so that nobody
    /// finds one gone and the other not.
    pub(super) fn kill_tasks(ids: &[String]) -> Result<()> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").context("/proc")?.filter_map(Result::ok) {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is none of them.
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if ids.iter().any(|id| groups.contains(id)) {
                pids.push(Pid::from_raw(pid));
            }
        }
        if pids.len() < ids.len() {
            bail!("{} containers run, but only {} processes of them", ids.len(), pids.len());
        }
        for pid in pids {
            // It may have ended by itself.
            let _ = kill(pid, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Kills the kubelet and starts it again.
    pub(super) fn restart_kubelet(&self) -> Result<()> {
        self.runtime.block_on(async {
            let node = self.cluster.node(KUBELETS)?;
            node.signal("kubelet", 9).await?;
            node.ended("kubelet").await?;
            node.start("kubelet").await
        })
    }

    /// The version of Kubernetes, such as `1.35.4`.
    pub(super) fn version(&self) -> &str {
        self.cluster.kubernetes()
    }

    /// Gives an image to every node.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        self.runtime.block_on(self.cluster.load(archive))
    }

    /// A new directory that is shared with the containers of a pod.
    pub(super) fn shared(&self, name: &str) -> Result<PathBuf> {
        let dir = self.cluster.layout().dir().join("shared").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }
}

/// Where the judge's cluster is.
fn place() -> PathBuf {
    crate::workspace().join("target/cluster/judge")
}

/// Takes the judge's cluster down.
pub(super) fn down() -> Result<()> {
    cluster::down(&cluster::Layout::new(&place())?)
}

/// The archive with the image of the actor, written anew.
fn image() -> Result<PathBuf> {
    let actor = build("holdfast-actor", "holdfast-actor")?;
    let mut image = Image::new(IMAGE).with("actor", Node::File(actor));
    image.entrypoint = vec!["/actor".into()];
    let dir = crate::cache().join("images");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let archive = dir.join("actor.tar");
    image.write(&archive)?;
    Ok(archive)
}

/// Builds a program of the workspace as this one was built, and returns its path.
pub(super) fn build(package: &str, program: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot find this program")?;
    let dir = here.parent().map(Path::to_path_buf).unwrap_or_default();
    let release = dir.file_name().is_some_and(|name| name == "release");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", program])
        .args(release.then_some("--release"))
        .current_dir(crate::workspace())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("{package} does not build");
    }
    Ok(dir.join(program))
}
