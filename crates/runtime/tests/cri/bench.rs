//! A CRI runtime connected to a fake one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Confinement, ContainerConfig, Limits, PodUid, PullRequest, RootFs, Runtime, RuntimeEvent,
    SandboxConfig, User,
};
use holdfast_runtime::cri::{CriOptions, CriRuntime};
use holdfast_runtime::image::PullPolicy;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::fake::Fake;

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bench {
    pub fake: Fake,
    pub runtime: CriRuntime,
    pub events: UnboundedReceiver<RuntimeEvent>,
    pub warnings: UnboundedReceiver<String>,
    pub temp: TempDir,
}

/// Runs a test on a fake that was prepared.
pub fn with_prepared(prepare: impl FnOnce(&Fake), test: impl AsyncFnOnce(Bench)) {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&reactor, async {
        let temp = private();
        let fake = Fake::start(temp.path());
        prepare(&fake);
        let (sender, warnings) = unbounded_channel();
        let mut options = options(&fake, &temp);
        options.warnings = Some(sender);
        let (sender, events) = unbounded_channel();
        let (runtime, notes) = CriRuntime::connect(options, sender).await.unwrap();
        assert_eq!(notes, Vec::<String>::new());
        let bench = Bench { fake, runtime, events, warnings, temp };
        tokio::time::timeout(3 * PATIENCE, test(bench)).await.expect("the test ends");
    });
}

pub fn with(test: impl AsyncFnOnce(Bench)) {
    with_prepared(|_| {}, test);
}

/// A directory that nobody else may write to.
pub fn private() -> TempDir {
    tempfile::Builder::new().prefix("holdfast-cri-").tempdir().unwrap()
}

pub fn options(fake: &Fake, temp: &TempDir) -> CriOptions {
    let mut options = CriOptions::new(fake.socket.to_str().unwrap().parse().unwrap());
    options.run_state = temp.path().join("run");
    options.state_dir = temp.path().join("state");
    options
}

impl Bench {
    /// The pod that all containers are of.
    pub fn sandbox(&self, attempt: u32) -> SandboxConfig {
        SandboxConfig {
            pod: pod(),
            name: "web".into(),
            namespace: "ns".into(),
            attempt,
            hostname: Some("web".into()),
            directory: self.temp.path().join("pod"),
            ..SandboxConfig::default()
        }
    }

    pub async fn make_sandbox(&self) {
        let address = self.runtime.create_sandbox(&self.sandbox(0)).await.unwrap();
        assert_eq!(address, Some("10.1.2.3".parse().unwrap()));
    }

    pub async fn start(&self, number: u64) {
        self.runtime.start(container(number)).await.unwrap();
    }

    /// A sandbox with a container that runs.
    pub async fn up(&self) {
        self.make_sandbox().await;
        self.start(1).await;
    }

    /// The next event.
    pub async fn event(&mut self) -> RuntimeEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap()
    }

    /// The next end: instance, exit code, message.
    pub async fn exit(&mut self) -> (u64, i32, String) {
        loop {
            if let RuntimeEvent::Exited { instance, code, message, .. } = self.event().await {
                return (instance.0, code, message);
            }
        }
    }

    pub async fn warning(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.warnings.recv()).await.expect("a warning").unwrap()
    }

    pub fn pull(&self, image: &str, policy: PullPolicy) -> PullRequest {
        let _ = self;
        PullRequest { pod: pod(), image: image.into(), policy, secrets: Vec::new() }
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Fake) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.fake) {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub fn pod() -> PodUid {
    "uid-1".into()
}

/// Container `c<number>`.
pub fn container(number: u64) -> ContainerConfig {
    ContainerConfig {
        pod: pod(),
        name: format!("c{number}"),
        instance: InstanceId(number),
        restart_count: 0,
        image: "busybox".into(),
        argv: vec!["sh".into()],
        args: Vec::new(),
        env: vec![("A".into(), "b".into())],
        cwd: None,
        root: RootFs::Image("sha256:busybox".into()),
        read_only_root: false,
        mounts: Vec::new(),
        user: User::default(),
        privileged: false,
        capabilities: None,
        changed_capabilities: Default::default(),
        no_new_privileges: false,
        confinement: Confinement::default(),
        limits: Limits::default(),
        termination_message_path: String::new(),
        termination_message_from_logs: false,
        stop_signal: 15,
        own_stop_signal: false,
        tty: false,
        stdin: false,
    }
}

/// A Secret's `type` and `data`.
pub fn secret(kind: &str, key: &str, text: &str) -> (String, BTreeMap<String, Vec<u8>>) {
    (kind.into(), BTreeMap::from([(key.into(), text.as_bytes().to_vec())]))
}
