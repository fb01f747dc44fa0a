//! More than one replica: who leads, ports on the host network, and rolling updates.

use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Node;
use holdfast_e2e::go;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guide;
use super::observe::Process;
use super::release::{PATIENCE, Release, done, said};
use crate::place::{phase, pod, possible, shared};

/// Who the lease says leads.
fn leader(release: &Release) -> String {
    let path = "jsonpath={.spec.holderIdentity}";
    release.ask(&["get", "lease", "3820d23d.netmaker.io", "-o", path])
}

#[tokio::test]
async fn one_of_three_replicas_leads_and_all_serve() {
    if !possible() {
        return;
    }
    let release = Release::apply("three", "three-replicas", &[]).await;
    release.ready(3).await;
    let first = leader(&release);
    let (leads, others): (Vec<String>, Vec<String>) =
        release.pods().into_iter().partition(|name| first.starts_with(&format!("{name}_")));
    let [pod] = &leads[..] else { panic!("{first} is none of {others:?}") };
    guide::of_replicas(&release);
    one_is_evicted_at_a_time(&release, &others[0], pod).await;
    assert_eq!(leader(&release), first);
    release.ask(&["delete", "pod", pod]);
    let end = Instant::now() + PATIENCE;
    while [String::new(), first.clone()].contains(&leader(&release)) {
        assert!(Instant::now() < end, "nobody leads: {}", release.trouble());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let second = leader(&release);
    // What the guide tells people to look at.
    let events = release.ask(&["get", "events", "--field-selector", "reason=LeaderElection"]);
    for line in [
        format!("{first} became leader"),
        format!("{first} stopped leading"),
        format!("{second} became leader"),
    ] {
        assert!(events.contains(&line), "no {line:?} in:\n{events}");
    }
}

/// The PodDisruptionBudget, as `kubectl drain` meets it.
async fn one_is_evicted_at_a_time(release: &Release, one: &str, another: &str) {
    let end = Instant::now() + PATIENCE;
    let allowed = ["get", "pdb", "holdfast", "-o", "jsonpath={.status.disruptionsAllowed}"];
    while release.ask(&allowed) != "1" {
        assert!(Instant::now() < end, "{}", release.trouble());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let evict = |pod: &str| {
        let metadata = json!({ "name": pod, "namespace": release.namespace });
        let eviction =
            json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata });
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", release.namespace);
        release.tell(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    let output = evict(one);
    assert!(output.status.success(), "{}", said(&output));
    let refused = evict(another);
    let words = said(&refused);
    assert!(!refused.status.success() && words.contains("disruption budget"), "{words}");
}

/// An interface as netclient has it, on a node.
struct OnNode<'a>(Node<'a>);

impl<'a> OnNode<'a> {
    fn new(node: Node<'a>) -> Self {
        // What a killed test has left goes first.
        let script = "ip link del netmaker 2>/dev/null || true
                      LOG_LEVEL=silent wireguard-go netmaker </dev/null >/dev/null 2>&1
                      ip link set netmaker up && ip addr add 10.101.250.1/24 dev netmaker";
        done(node.command("sh").args(["-euc", script]));
        Self(node)
    }
}

impl Drop for OnNode<'_> {
    fn drop(&mut self) {
        let _ = self.0.command("ip").args(["link", "del", "netmaker"]).output();
    }
}

/// Each has ports of its own, which the kubelet asks at by `holdfast wait --health`.
#[tokio::test]
async fn three_replicas_share_the_network_of_one_node() {
    if !possible() {
        return;
    }
    let cluster = shared().await;
    let node = cluster.node(1).unwrap();
    let _interface = OnNode::new(node);
    let release = Release::apply("host", "host-network", &[]).await;
    release.ready(3).await;
    let mut seen = std::collections::BTreeSet::new();
    for name in release.pods() {
        let pod = release.pod(&name);
        let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
        let ports = ports(&pod);
        for port in ports {
            assert!(seen.insert(port), "{port} twice: {name}");
        }
        let [health, proxy, api] = ports;
        let fetch = |server: String, path: &str| {
            let mut kubectl = node.command(go::kubernetes("1.35").unwrap());
            kubectl.args(["kubectl", "--server", &format!("http://{server}")]);
            let output = kubectl.args(["get", "--raw", path]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(fetch(format!("127.0.0.1:{health}"), "/readyz"), "ok");
        assert!(fetch(format!("10.101.250.1:{proxy}"), "/version").contains("gitVersion"));
        assert!(fetch(format!("10.101.250.1:{api}"), "/ready").contains("ready"));
        for closed in ["127.0.0.1", &address] {
            assert_eq!(fetch(format!("{closed}:{proxy}"), "/version"), "", "{closed}");
            assert_eq!(fetch(format!("{closed}:{api}"), "/ready"), "", "{closed}");
        }
    }
    assert_eq!(seen.len(), 9);
    let seen: Vec<String> = seen.iter().map(u16::to_string).collect();
    guide::shows(
        &release,
        "holdfast\\.io/ports",
        &seen.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    // What the kubelet asks is one's own port: who answers no more is not ready, and the others are.
    let pods = release.pods();
    let frozen = Process::of(&release, &pods[1]);
    frozen.signal(Signal::SIGSTOP);
    release.ready(2).await;
    let ready = pods.iter().map(|name| {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        release.ask(&["get", "pod", name, "-o", path])
    });
    assert_eq!(ready.collect::<Vec<_>>(), ["True", "False", "True"]);
    frozen.signal(Signal::SIGCONT);
    release.ready(3).await;
}

/// The ports that a pod says it has: health, proxy, API.
fn ports(pod: &Value) -> [u16; 3] {
    let text = pod.pointer("/metadata/annotations/holdfast.io~1ports").and_then(Value::as_str);
    let text = text.unwrap_or_else(|| panic!("{}", pod["metadata"]));
    let ports: Value = serde_json::from_str(text).unwrap();
    ["health", "proxy", "api"].map(|name| u16::try_from(ports[name].as_u64().unwrap()).unwrap())
}

/// Through the Service of the metrics, as a Prometheus that a ServiceMonitor tells where they are.
fn metrics_are_for_those_who_may(release: &Release) {
    let address = ["get", "service", "holdfast-metrics", "-o", "jsonpath={.spec.clusterIP}"];
    let server = format!("https://{}:8443", release.ask(&address));
    let read = |token: &str| {
        let node = release.cluster.node(1).unwrap();
        let mut kubectl = node.command(go::kubernetes("1.35").unwrap());
        kubectl.args(["kubectl", "--insecure-skip-tls-verify", "--server", &server]);
        said(&kubectl.args(["--token", token, "get", "--raw", "/metrics"]).output().unwrap())
    };
    release.ask(&["create", "serviceaccount", "prometheus"]);
    let token = release.ask(&["create", "token", "prometheus"]);
    let refused = read(token.trim());
    assert!(refused.contains("orbidden"), "{refused}");
    let name = format!("{}-metrics", release.namespace);
    let account = format!("--serviceaccount={}:prometheus", release.namespace);
    release.ask(&["create", "clusterrole", &name, "--verb=get", "--non-resource-url=/metrics"]);
    release.ask(&["create", "clusterrolebinding", &name, "--clusterrole", &name, &account]);
    // Rules take a moment to be known.
    let end = Instant::now() + PATIENCE;
    let mut metrics = read(token.trim());
    while !metrics.contains("leader_election_master_status") {
        assert!(Instant::now() < end, "{metrics}");
        std::thread::sleep(Duration::from_millis(200));
        metrics = read(token.trim());
    }
    release.ask(&["delete", "clusterrole,clusterrolebinding", &name]);
}

/// A Service over the replicas: whoever asks through it does not notice that they are replaced.
#[tokio::test]
async fn a_rolling_update_fails_no_request() {
    if !possible() {
        return;
    }
    let settings = [
        "service.proxy.enabled=true",
        "service.metrics.enabled=true",
        "netclient.order=sideBySide",
    ];
    let release = Release::install("rolling", "three-replicas", &settings).await;
    release.ready(3).await;
    metrics_are_for_those_who_may(&release);
    let namespace = &release.namespace;
    let client = release.cluster.client().unwrap();
    // Each request a connection of its own, as the Service spreads them.
    let script = "n=0; until [ -e /stop ]; do \
                  timeout 10 wget -qO /dev/null http://holdfast-proxy:8085/version && n=$((n+1)) || echo failed after $n; \
                  done; echo $n requests";
    client.create(&pod(namespace, "asks", script)).await.unwrap();
    phase(&client, &format!("/api/v1/namespaces/{namespace}/pods/asks"), "Running").await;
    let before = release.pods();
    release.ask(&["rollout", "restart", "deployment/holdfast"]);
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    done(&mut release.kubectl(&["rollout", "status", "deployment/holdfast", &timeout]));
    for name in &before {
        release.ask(&["wait", "--for=delete", &timeout, &format!("pod/{name}")]);
    }
    assert!(release.pods().iter().all(|name| !before.contains(name)));
    release.ask(&["exec", "asks", "--", "touch", "/stop"]);
    phase(&client, &format!("/api/v1/namespaces/{namespace}/pods/asks"), "Succeeded").await;
    let log = release.ask(&["logs", "asks"]);
    assert!(!log.contains("failed"), "{log}");
    let asked = log.split_whitespace().rev().nth(1).and_then(|n| n.parse::<u32>().ok());
    assert!(asked.is_some_and(|asked| asked > 50), "{log}");
}
