//! The CRI runtime: containers of containerd, CRI-O or any other runtime that speaks the Container
//! Runtime Interface, version 1.
//!
//! ```text
//!   driver ─▶ sandbox, container, image ─▶ client ── gRPC ──▶ runtime ─▶ containers
//!      ▲                                                                 │     │
//!      └── attend ◀── logs (inotify on the log files) ◀──────────────────┘     │
//!             └────── watch (pidfds, GetContainerEvents, lists) ◀──────────────┘
//! ```
//!
//! What it makes has labels of its own (`labels`); nothing else is ever touched. A runtime that is
//! restarted is waited for (`client`); what a killed run has left there is removed by the next
//! (`leftovers`).

pub mod api;
mod attend;
mod client;
mod container;
mod container_config;
mod endpoint;
mod files;
mod image;
mod inotify;
mod keyring;
mod labels;
mod leftovers;
mod logs;
mod process;
mod sandbox;
mod sandbox_config;
mod security;
mod setup;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};

use crate::contract::{
    ContainerConfig, ExecOutcome, PodUid, PullRequest, Runtime, RuntimeEvent, SandboxConfig,
    StartError,
};
use crate::image::{Image, ImageName, PullError};
use crate::room::Room;

pub use self::endpoint::{DEFAULT_ENDPOINT, Endpoint, EndpointError, ParseEndpointError};
pub use self::setup::{CriOptions, Error, RenameError, renames};

use self::attend::Started;
use self::client::Client;
use self::files::Files;
use self::inotify::Inotify;
use self::keyring::Keyring;
use self::sandbox::Sandbox;
use self::watch::Hints;

/// Runs containers by a CRI runtime. Cheap to clone; all clones are one runtime.
///
/// Its tasks are local ones: it lives in a [`tokio::task::LocalSet`].
#[derive(Clone, Debug)]
pub struct CriRuntime {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    /// `containerd`, `cri-o`, …
    name: String,
    /// The name of this run, which everything is labelled with.
    run: String,
    files: Files,
    inotify: Inotify,
    hints: Hints,
    events: UnboundedSender<RuntimeEvent>,
    /// The parent of the sandboxes' cgroups; empty for the runtime's own.
    cgroup_parent: String,
    /// Where seccomp profiles are.
    seccomp: PathBuf,
    /// Whether it can make mounts below a read-only one read-only, by its default handler.
    read_only_below: bool,
    /// Images that stand for others (`--image`).
    renames: Vec<(ImageName, String)>,
    /// The user's credentials.
    keyring: Keyring,
    /// Room for output that nobody has taken yet.
    room: Room,
    state: RefCell<State>,
    tasks: RefCell<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// By pod, the newest last.
    sandboxes: HashMap<PodUid, Vec<Sandbox>>,
    containers: HashMap<u64, Rc<Started>>,
    /// The last run of each container whose output may not have been passed on yet, by pod and name.
    writers: HashMap<PodUid, HashMap<String, Rc<Started>>>,
}

impl State {
    fn newest_sandbox(&self, pod: &PodUid) -> Option<Sandbox> {
        self.sandboxes.get(pod)?.last().cloned()
    }
}

impl Inner {
    /// Runs a task until the end of the runtime.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let mut tasks = self.tasks.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                // Whoever waits for what it did would wait for ever.
                std::panic::resume_unwind(error.into_panic());
            }
        }
        tasks.spawn_local(task)
    }

    /// The image that stands for this one.
    fn renamed<'a>(&'a self, image: &'a str) -> &'a str {
        let Ok(name) = ImageName::parse(image) else { return image };
        let exact = |key: &ImageName| key.tag.is_some() || key.digest.is_some();
        let mut fitting = self.renames.iter().rev().filter(|(key, _)| key.covers(&name));
        let best = fitting.clone().find(|(key, _)| exact(key)).or_else(|| fitting.next());
        best.map_or(image, |(_, other)| other)
    }
}

impl CriRuntime {
    /// Removes all that this run has made and that is still there.
    pub async fn shutdown(self) {
        let inner = &self.inner;
        let pods: Vec<PodUid> = inner.state.borrow().sandboxes.keys().cloned().collect();
        for pod in pods {
            self.drop_pod(&pod).await;
        }
        // What was being made when nobody wanted it any more, or could not be removed then.
        for sandbox in self.list_sandboxes(labels::of_run(&inner.run)).await.unwrap_or_default() {
            if let Err(error) = self.destroy(&sandbox.id).await {
                self.cannot_remove(&sandbox.id, &error);
            }
        }
        inner.hints.end();
        inner.inotify.end();
        inner.tasks.borrow_mut().abort_all();
        if let Err(error) = inner.files.remove() {
            inner.client.warn(format!("what this run has mounted cannot be removed: {error}"));
        }
    }
}

impl Runtime for CriRuntime {
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Option<IpAddr>, String> {
        self.make_sandbox(config).await
    }

    async fn stop_sandbox(&self, pod: &PodUid, attempt: u32) {
        self.drop_sandbox(pod, attempt).await;
    }

    async fn pull(&self, request: &PullRequest) -> Result<Image, PullError> {
        self.pull_image(request).await
    }

    async fn remove_pod(&self, pod: &PodUid) {
        self.drop_pod(pod).await;
    }

    async fn written(&self, pod: &PodUid) {
        self.until_written(pod).await;
    }

    async fn start(&self, config: ContainerConfig) -> Result<(), StartError> {
        self.start_container(config).await
    }

    /// kubelet: `ContainerID.String`.
    fn container_id(&self, instance: InstanceId) -> Option<String> {
        let state = self.inner.state.borrow();
        state.containers.get(&instance.0).map(|c| format!("{}://{}", self.inner.name, c.id))
    }

    async fn stop(&self, instance: InstanceId, grace: Duration) {
        self.stop_container(instance, grace).await;
    }

    async fn kill(&self, instance: InstanceId, oom: bool) {
        self.kill_container(instance, oom).await;
    }

    async fn remove(&self, instance: InstanceId) {
        self.forget_container(instance).await;
    }

    async fn exec(
        &self,
        instance: InstanceId,
        argv: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, String> {
        self.run_exec(instance, argv, timeout).await
    }
}
