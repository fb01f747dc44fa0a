//! Where tests have their clusters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use holdfast_e2e::cluster::api::Client;
use holdfast_e2e::cluster::{Cluster, Layout, Options, down, leftovers};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program that keeps units.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-e2e");

/// Whether clusters can be made. Says why not; in CI that is a failure.
pub fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "a cluster takes root, and CI is set");
        eprintln!("skipped: a cluster takes root");
    }
    root
}

/// A directory for a cluster of the test's own. When it goes, so does the cluster.
pub struct Place {
    // Dropped after the cluster is down.
    dir: TempDir,
    pub layout: Layout,
}

impl Place {
    pub fn new() -> Self {
        let above = holdfast_e2e::workspace().join("target/cluster");
        std::fs::create_dir_all(&above).unwrap();
        let dir = tempfile::Builder::new().prefix("t").tempdir_in(above).unwrap();
        let layout = Layout::new(&dir.path().join("c")).unwrap();
        Self { dir, layout }
    }

    pub fn path(&self) -> &Path {
        self.layout.dir()
    }

    pub async fn up(&self, options: Options) -> Cluster {
        let options = Options { program: Some(PROGRAM.into()), ..options };
        Cluster::up(self.path(), &options).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Waits until nothing is left, without helping.
    pub fn wait_until_nothing_is_left(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let left = leftovers(&self.layout).unwrap();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left after 30 s: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = down(&self.layout) {
            eprintln!("{}: {e:#}", self.dir.path().display());
        }
    }
}

/// The cluster that tests share.
pub async fn shared() -> Cluster {
    Cluster::shared(Path::new(PROGRAM)).await.unwrap_or_else(|e| panic!("{e:#}"))
}

/// `holdfast-e2e cluster …`
pub fn tool(words: &[&str], dir: &Path) -> Output {
    Command::new(PROGRAM).arg("cluster").args(words).arg(dir).output().unwrap()
}

/// A program as it is in the sources now, built as this test was. Whoever runs all tests has just built it,
/// and to build it again, for itself and so with other features of its dependencies, would take it away from
/// tests that run it. `place` is below the directory of programs.
pub fn built(place: &str, package: &[&str]) -> PathBuf {
    // Once, by whoever asks first.
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(place.to_owned()).or_insert_with(|| build(place, package)).clone()
}

fn build(place: &str, package: &[&str]) -> PathBuf {
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(place);
    let built = std::fs::metadata(&program).and_then(|meta| meta.modified());
    if built.is_ok_and(|built| built > newest(&holdfast_e2e::workspace().join("crates"))) {
        return program;
    }
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .args(package)
        .current_dir(holdfast_e2e::workspace())
        .status()
        .unwrap();
    assert!(build.success(), "{package:?} does not build");
    program
}

/// When a file below this directory was last written.
fn newest(dir: &Path) -> SystemTime {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A namespace in a shared cluster, in which pods can be made at once.
pub async fn namespace(client: &Client, name: &str) -> String {
    let name = format!("{name}-{}", std::process::id());
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    client.create(&object).await.unwrap();
    let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    client.wait(&account, PATIENCE, |account| account.map(|_| ())).await.unwrap();
    name
}

/// A pod of one busybox container.
pub fn pod(namespace: &str, name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main",
                "image": "busybox",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", script],
            }],
        },
    })
}

/// Waits for a phase of a pod.
pub async fn phase(client: &Client, pod: &str, phase: &str) {
    client
        .wait(pod, PATIENCE, |pod| {
            (pod?.pointer("/status/phase")?.as_str()? == phase).then_some(())
        })
        .await
        .unwrap();
}

/// How long anything may take; nothing waits that long unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(90);
