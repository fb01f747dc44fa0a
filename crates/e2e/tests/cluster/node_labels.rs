//! `holdfast render --from-node`: in a pod, from an image with nothing but the program, with a service account
//! of least rights.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Cluster;
use holdfast_e2e::cluster::api::Client;
use holdfast_e2e::image::{Image, Node};
use serde_json::{Value, json};

use crate::place::{PATIENCE, built, namespace, phase, possible, shared};

/// Applies the example, as this text, and gives what `kubectl` said.
fn apply(cluster: &Cluster, text: &str) {
    let mut kubectl = cluster
        .kubectl()
        .unwrap()
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    kubectl.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(kubectl.wait().unwrap().success(), "{text}");
}

/// Loads an image with the program as it is in the sources, and nothing else.
async fn image(cluster: &Cluster, program: PathBuf, reference: &str) {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("holdfast.tar");
    let mut image = Image::new(reference).with("holdfast", Node::File(program));
    image.entrypoint = vec!["/holdfast".into()];
    image.write(&archive).unwrap();
    cluster.load(&archive).await.unwrap();
}

/// Waits until the log of a container says this.
async fn says(client: &Client, pod: &str, container: &str, words: &str) {
    let end = Instant::now() + PATIENCE;
    let path = format!("{pod}/log?container={container}");
    loop {
        let said = client.text(&path).await.unwrap_or_default();
        if said.contains(words) {
            return;
        }
        assert!(Instant::now() < end, "{container} does not say {words:?} but {said:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The example, without the binding that gives the right first.
#[tokio::test]
async fn a_label_of_the_node_comes_into_a_file() {
    if !possible() {
        return;
    }
    let program = built("holdfast", &["-p", "holdfast-cli"]);
    let cluster = shared().await;
    let client = cluster.client().unwrap();
    let namespace = namespace(&client, "rack").await;
    let reference = format!("bench.test/{namespace}:1");
    image(&cluster, program, &reference).await;
    let node = cluster.node(1).unwrap().name();
    let key = format!("vm/rack-{}", std::process::id());
    let label = json!({ "metadata": { "labels": { &key: "r7" } } });
    let on_node = format!("/api/v1/nodes/{node}");
    let patch = holdfast_e2e::cluster::api::Patch::Merge;
    client.patch(&on_node, patch, &label).await.unwrap();

    let example = holdfast_e2e::workspace().join("examples/cluster/rack-from-node.yaml");
    let example = std::fs::read_to_string(example)
        .unwrap()
        .replace("image: holdfast", &format!("image: {reference}"))
        .replace("namespace: default", &format!("namespace: {namespace}"))
        .replace("name: rack-from-node", &format!("name: rack-from-node-{namespace}"))
        .replace("label:vm/rack", &format!("label:{key}"))
        .replace(
            "spec:\n  serviceAccountName",
            &format!("spec:\n  nodeName: {node}\n  serviceAccountName"),
        )
        .replace("restartPolicy: Never", "restartPolicy: OnFailure");
    let documents: Vec<&str> = example.split("---\n").collect();
    let (rights, rest): (Vec<&str>, Vec<&str>) =
        documents.iter().partition(|text| text.contains("kind: ClusterRoleBinding"));
    assert_eq!(rights.len(), 1);
    apply(&cluster, &rest.join("---\n"));
    let pod = format!("/api/v1/namespaces/{namespace}/pods/cassandra");
    // It says what to add, and does not try again by itself: the kubelet does.
    let rule =
        format!("{{apiGroups: [\"\"], resources: [nodes], resourceNames: [{node}], verbs: [get]}}");
    says(&client, &pod, "rack", &rule).await;
    apply(&cluster, rights[0]);
    phase(&client, &pod, "Succeeded").await;
    let said = client.text(&format!("{pod}/log")).await.unwrap();
    assert_eq!(said, "rack=r7\n");

    // A label that the node has not: the file is not made.
    let mut other: Value = client.get(&pod).await.unwrap();
    let arg = json!(format!("--replace=RACK=label:{key}-not"));
    other["spec"]["initContainers"][0]["args"][4] = arg;
    other["metadata"] = json!({ "name": "other", "namespace": namespace });
    other["status"] = Value::Null;
    client.create(&other).await.unwrap();
    let pod = format!("/api/v1/namespaces/{namespace}/pods/other");
    let words = format!("no value for RACK: node \"{node}\" has no label \"{key}-not\"");
    says(&client, &pod, "rack", &words).await;

    let nothing = json!({ "metadata": { "labels": { &key: Value::Null } } });
    client.patch(&on_node, patch, &nothing).await.unwrap();
    for kind in ["clusterroles", "clusterrolebindings"] {
        let group = "/apis/rbac.authorization.k8s.io/v1";
        let path = format!("{group}/{kind}/rack-from-node-{namespace}");
        client.delete(&path, None).await.unwrap();
    }
}
