//! The chart, or the plain manifests, installed on the shared cluster.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Cluster;
use holdfast_e2e::image::{Image, Known, Node};
use holdfast_e2e::{deploy, go};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::place::{built, namespace, shared};

/// A release in a namespace of its own; it goes when this does.
pub struct Release {
    pub cluster: Cluster,
    pub namespace: String,
    /// Where the manifests are, if it came by them and not by helm.
    manifests: Option<TempDir>,
}

impl Release {
    /// Installs the chart with the values of a variant, and settings besides.
    pub async fn install(name: &str, variant: &str, settings: &[&str]) -> Self {
        let release = Self::place(name).await;
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

    /// Applies the plain manifest of a variant; `env` is for what plays netclient.
    pub async fn apply(name: &str, variant: &str, env: &[(&str, &str)]) -> Self {
        let mut release = Self::place(name).await;
        let dir = tempfile::tempdir().unwrap();
        kustomize(dir.path(), variant, &release.namespace, env);
        let words = dir.path().to_str().unwrap();
        release.ask(&["apply", "-k", words]);
        release.manifests = Some(dir);
        release
    }

    /// A namespace with all that a release does not bring along.
    async fn place(name: &str) -> Self {
        let cluster = shared().await;
        load_images(&cluster).await;
        let client = cluster.client().unwrap();
        let namespace = namespace(&client, name).await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "netclient-token", "namespace": namespace },
            "stringData": { "token": "of-the-stand-in" },
        });
        client.create(&secret).await.unwrap();
        Self { cluster, namespace, manifests: None }
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

    /// What kubectl prints when it is given this.
    pub fn tell(&self, words: &[&str], input: &str) -> Output {
        let mut kubectl = self.kubectl(words);
        let kubectl = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// A command as the documentation has it, in a shell with `kubectl`; what it prints. The namespace that
    /// it names becomes the release's.
    pub fn shell(&self, documented: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("kubectl");
        let kubectl = self.cluster.kubectl().unwrap();
        let real = kubectl.get_program().to_str().unwrap();
        std::fs::write(&program, format!("#!/bin/sh\nexec {real} kubectl \"$@\"\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        assert!(documented.contains("-n holdfast "), "{documented}");
        let script = documented.replace("-n holdfast ", &format!("-n {} ", self.namespace));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("PATH", path).env("KUBECONFIG", self.cluster.kubeconfig());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{script}: {}", said(&output));
        said(&output)
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
        let _ = match self.manifests.as_ref().and_then(|dir| dir.path().to_str()) {
            Some(dir) => self.kubectl(&["delete", "--wait=false", "-k", dir]).output(),
            None => self.helm(&["uninstall", "holdfast", "--ignore-not-found"]).output(),
        };
        let _ = self.cluster.kubectl().map(|mut kubectl| {
            kubectl.args(["delete", "namespace", &self.namespace, "--wait=false"]).output()
        });
    }
}

fn values(variant: &str) -> PathBuf {
    deploy::chart().join(format!("variants/{variant}.yaml"))
}

/// Makes a directory for `kubectl apply -k`: a plain manifest, with the images of the bench and in a namespace
/// of its own. What belongs to the whole cluster gets a name of its own.
fn kustomize(dir: &Path, variant: &str, namespace: &str, env: &[(&str, &str)]) {
    let manifest = deploy::manifests().join(format!("{variant}.yaml"));
    std::fs::copy(&manifest, dir.join("all.yaml")).unwrap();
    let renamed = json!([
        { "op": "replace", "path": "/metadata/name", "value": format!("{namespace}-holdfast") },
    ]);
    let mut patches = vec![json!({
        "target": { "kind": "ClusterRole(Binding)?" },
        "patch": renamed.to_string(),
        "options": { "allowNameChange": true },
    })];
    let netclient = match variant {
        "host-network" => None,
        "side-by-side" | "status-volume" => Some("containers/0"),
        // The first puts the program where netclient's probe finds it.
        _ => Some("initContainers/1"),
    };
    if let Some(netclient) = netclient {
        // No merge: that would put what it changes first, and the order is what all this is about.
        let place = |field: &str| format!("/spec/template/spec/{netclient}/{field}");
        let mut patch = vec![
            json!({ "op": "test", "path": place("name"), "value": "netclient" }),
            // See IMAGES.
            json!({ "op": "add", "path": place("securityContext/privileged"), "value": true }),
            json!({ "op": "remove", "path": place("securityContext/capabilities") }),
        ];
        patch.extend(env.iter().map(|(name, value)| {
            let value = json!({ "name": name, "value": value });
            json!({ "op": "add", "path": place("env/-"), "value": value })
        }));
        let patch = Value::from(patch).to_string();
        patches.push(json!({ "target": { "kind": "Deployment" }, "patch": patch }));
    }
    let kustomization = json!({
        "resources": ["all.yaml"],
        "namespace": namespace,
        "images": [
            { "name": "holdfast", "newName": "bench.test/holdfast", "newTag": "test" },
            { "name": "gravitl/netclient", "newName": "bench.test/netclient", "newTag": "1" },
        ],
        "patches": patches,
    });
    std::fs::write(dir.join("kustomization.yaml"), kustomization.to_string()).unwrap();
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
