//! The chart, installed on the shared cluster.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Cluster;
use holdfast_e2e::image::{Image, Known, Node};
use holdfast_e2e::{deploy, go};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::place::{built, namespace, shared};

/// A release in a namespace of its own; it goes when this does.
pub struct Release {
    pub cluster: Cluster,
    pub namespace: String,
}

impl Release {
    /// Installs the chart with the values of a variant, and settings besides.
    pub async fn install(name: &str, variant: &str, settings: &[&str]) -> Self {
        let cluster = shared().await;
        load_images(&cluster).await;
        let client = cluster.client().unwrap();
        let namespace = namespace(&client, name).await;
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "netclient-token", "namespace": namespace },
            "stringData": { "token": "of-the-stand-in" },
        });
        client.create(&secret).await.unwrap();
        let release = Self { cluster, namespace };
        let mut helm = release.helm(&["install", "holdfast"]);
        helm.arg(deploy::chart()).arg("--values").arg(values(variant));
        for setting in IMAGES.iter().chain(settings) {
            // Values of environment variables are strings.
            let set = if setting.contains(".value=") { "--set-string" } else { "--set" };
            helm.args([set, setting]);
        }
        done(&mut helm);
        release
    }

    fn helm(&self, words: &[&str]) -> Command {
        let mut command = Command::new(go::helm().unwrap());
        command.args(words).args(["--namespace", &self.namespace]);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    pub fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = self.cluster.kubectl().unwrap();
        command.args(["--namespace", &self.namespace]).args(words);
        command
    }

    /// What kubectl prints.
    pub fn ask(&self, words: &[&str]) -> String {
        done(&mut self.kubectl(words))
    }

    /// Waits until so many replicas are ready; what went wrong if they are not.
    pub async fn ready(&self, replicas: u64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let ready =
                self.ask(&["get", "deployment/holdfast", "-o", "jsonpath={.status.readyReplicas}"]);
            if ready.parse() == Ok(replicas) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{ready:?} replicas are ready, not {replicas}: {}",
                self.trouble()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn trouble(&self) -> String {
        let looks: [&[&str]; 4] = [
            &["get", "pods", "-o", "wide"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "-l", "control-plane=controller-manager", "-c", "manager", "--tail=40"],
            &["logs", "-l", "control-plane=controller-manager", "-c", "netclient", "--tail=10"],
        ];
        looks.map(|words| said(&self.kubectl(words).output().unwrap())).join("\n")
    }

    /// The names of its pods.
    pub fn pods(&self) -> Vec<String> {
        let names = self.ask(&[
            "get",
            "pods",
            "-l",
            "control-plane=controller-manager",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// A pod as the API server has it.
    pub fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.ask(&["get", "pod", name, "-o", "json"])).unwrap()
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = self.helm(&["uninstall", "holdfast", "--ignore-not-found"]).output();
        let _ = self.cluster.kubectl().map(|mut kubectl| {
            kubectl.args(["delete", "namespace", &self.namespace, "--wait=false"]).output()
        });
    }
}

fn values(variant: &str) -> PathBuf {
    deploy::chart().join(format!("variants/{variant}.yaml"))
}

pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The program as it is built now, and what plays netclient.
async fn load_images(cluster: &Cluster) {
    static LOADED: OnceCell<()> = OnceCell::const_new();
    LOADED
        .get_or_init(|| async {
            let dir = tempfile::tempdir_in(cluster.layout().dir()).unwrap();
            let mut image = Image::new("bench.test/holdfast:test")
                .with("holdfast", Node::File(built("holdfast", &["-p", "holdfast-cli"])))
                .with("manager", Node::Link("holdfast".into()));
            image.user = "65532:65532".into();
            let known = [Known::Netclient, Known::Wireguard];
            let known = known.map(|known| (known.name(), known.image().unwrap()));
            for (name, image) in [("holdfast", image)].into_iter().chain(known) {
                let path = dir.path().join(name);
                image.write(&path).unwrap();
                cluster.load(&path).await.unwrap();
            }
        })
        .await;
}

/// What runs in place of the real images. The stand-in makes its interface by a tun device, which it only
/// may as a privileged container.
const IMAGES: &[&str] = &[
    "image.repository=bench.test/holdfast",
    "image.tag=test",
    "image.pullPolicy=Never",
    "netclient.image.repository=bench.test/netclient",
    "netclient.image.tag=1",
    "netclient.image.pullPolicy=Never",
    "netclient.securityContext.privileged=true",
    "netclient.securityContext.capabilities=null",
];

pub const PATIENCE: Duration = Duration::from_secs(120);
