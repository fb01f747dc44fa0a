//! `holdfast run --runtime cri` on a containerd that a kubelet uses.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Node;
use serde_json::{Value, json};

use crate::place::{built, namespace, possible, shared};

/// What Holdfast has on a node's containerd.
fn ours(node: &Node<'_>) -> String {
    let output = Command::new("ctr")
        .arg("-a")
        .arg(node.containerd())
        .args(["-n", "k8s.io", "containers", "ls", "-q"])
        .arg("labels.\"io.holdfast.managed-by\"==holdfast-run")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether there is a process with such a word at the end of its command line.
fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).trim_end_matches('\0').ends_with(word)
    })
}

/// The kubelet's pods do not notice Holdfast, not even when it removes what a killed run has left. (The
/// other way round it is different: a kubelet ends what it does not know, and Holdfast says so.)
#[tokio::test]
async fn a_kubelet_keeps_working() {
    if !possible() {
        return;
    }
    let (cluster, holdfast) = (shared().await, built("holdfast", &["-p", "holdfast-cli"]));
    let client = cluster.client().unwrap();
    let namespace = &namespace(&client, "beside").await;
    let pod = |name: &str, script: &str, policy: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": {
                "restartPolicy": policy, "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "app", "image": "busybox", "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                }],
            },
        })
    };
    const STAY: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
    let of_kubelet = |name: &str| {
        let mut pod = pod(name, STAY, "Always");
        pod["metadata"]["namespace"] = json!(namespace);
        pod["spec"]["nodeName"] = json!("node-1");
        pod
    };
    let path = |name: &str| format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let running = |object: Option<&Value>| {
        let status = object?.pointer("/status/containerStatuses/0")?;
        status["ready"].as_bool()?.then(|| status.clone())
    };
    client.create(&of_kubelet("before")).await.unwrap();
    let within = Duration::from_secs(120);
    let before = client.wait(&path("before"), within, running).await.unwrap();

    let node = cluster.node(1).unwrap();
    let dir = tempfile::tempdir_in(cluster.layout().dir()).unwrap();
    let run = |name: &str, pod: &Value| {
        let manifest = dir.path().join(format!("{name}.yaml"));
        std::fs::write(&manifest, pod.to_string()).unwrap();
        let mut command = node.command(&holdfast);
        command.args(["run", "--runtime", "cri", "--endpoint"]);
        command.arg(format!("unix://{}", node.containerd().display()));
        command.arg("--state-dir").arg(dir.path().join("state")).arg(manifest);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    // One that is killed in the middle of it.
    let unique = format!("killed-{}", std::process::id());
    let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
    let mut killed = run(&unique, &pod("killed", STAY, "Always")).stderr(stderr).spawn().unwrap();
    let end = Instant::now() + within;
    while ours(&node).lines().count() < 2 {
        assert!(Instant::now() < end, "no sandbox and container of holdfast");
        assert_eq!(killed.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(20));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The program itself ends a moment after who has entered the node for it.
    while is_running(&format!("{unique}.yaml")) {
        assert!(Instant::now() < end, "holdfast has not ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(said.contains("a kubelet seems to use this container runtime too"), "{said}");
    // The next removes what is left of it, if the kubelet has not, and goes its own way.
    let next =
        run("next", &pod("next", "true", "OnFailure")).stderr(Stdio::piped()).output().unwrap();
    assert!(next.status.success(), "{next:?}");
    assert_eq!(ours(&node), "", "{next:?}");

    client.create(&of_kubelet("after")).await.unwrap();
    client.wait(&path("after"), within, running).await.unwrap();
    let now = client.wait(&path("before"), within, running).await.unwrap();
    assert_eq!(now["containerID"], before["containerID"], "{now:#}");
    assert_eq!(now["restartCount"], 0, "{now:#}");
}
