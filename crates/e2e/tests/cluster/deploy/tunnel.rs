//! Peers reach the proxy through a real tunnel, with the real kubectl; nobody reaches it otherwise.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use holdfast_e2e::go;
use serde_json::{Value, json};

use super::release::{Release, done};
use crate::place::{phase, pod, possible};

/// The peer's address in the tunnel.
const PEER: &str = "10.101.255.1";

/// A pod that is a peer of a manager's pod: it has a WireGuard interface of its own, and kubectl.
async fn peer(release: &Release, manager: &Value) {
    let kube = go::kubernetes("1.35").unwrap();
    let (name, namespace) = ("peer", &release.namespace);
    let mut object = pod(namespace, name, "exec sleep 100000");
    object["spec"]["containers"][0]["image"] = json!("bench.test/wireguard:1");
    object["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    object["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "kube", "mountPath": "/kube" }]);
    object["spec"]["volumes"] =
        json!([{ "name": "kube", "hostPath": { "path": kube, "type": "File" } }]);
    let client = release.cluster.client().unwrap();
    client.create(&object).await.unwrap();
    phase(&client, &format!("/api/v1/namespaces/{namespace}/pods/{name}"), "Running").await;

    let manager_name = manager.pointer("/metadata/name").and_then(Value::as_str).unwrap();
    let manager_ip = manager.pointer("/status/podIP").and_then(Value::as_str).unwrap();
    let in_netclient = |script: &str| {
        release.ask(&["exec", manager_name, "-c", "netclient", "--", "sh", "-c", script])
    };
    let theirs = in_netclient("wg show netmaker public-key");
    let address = in_peer(
        release,
        &format!(
            "umask 077; wg genkey >/key; wireguard-go wg0 </dev/null >/dev/null 2>&1
         wg set wg0 private-key /key listen-port 51820 peer {theirs} endpoint {manager_ip}:51821 \
             allowed-ips 10.101.0.0/16 persistent-keepalive 5
         ip link set wg0 up; ip addr add {PEER}/16 dev wg0
         wg show wg0 public-key",
            theirs = theirs.trim(),
        ),
    );
    in_netclient(&format!("wg set netmaker peer {} allowed-ips {PEER}/32", address.trim()));
}

fn in_peer(release: &Release, script: &str) -> String {
    let script = format!("set -eu; kubectl() {{ /kube kubectl \"$@\"; }}; {script}");
    done(&mut release.kubectl(&["exec", "-i", "peer", "--", "sh", "-c", &script]))
}

/// The address of the manager's interface.
fn tunnel_address(manager: &Value) -> String {
    let ip = manager.pointer("/status/podIP").and_then(Value::as_str).unwrap();
    let mut numbers = ip.split('.').skip(2);
    format!("10.101.{}.{}", numbers.next().unwrap(), numbers.next().unwrap())
}

#[tokio::test]
async fn peers_reach_the_proxy_and_nobody_else() {
    if !possible() {
        return;
    }
    let release = Release::install("tunnel", "native-sidecar", &[]).await;
    release.ready(1).await;
    let manager = release.pod(&release.pods()[0]);
    let (ip, address) = (manager["status"]["podIP"].as_str().unwrap(), tunnel_address(&manager));
    peer(&release, &manager).await;
    let fetch = |server: &str, path: &str| {
        in_peer(&release, &format!("kubectl --server http://{server} get --raw {path}"))
    };
    let version = fetch(&format!("{address}:8085"), "/version");
    assert!(version.contains("gitVersion"), "{version}");
    let api = fetch(&format!("{address}:8086"), "/health");
    assert!(api.contains("healthy"), "{api}");
    // From the pod network, and from inside of the pod by its other addresses: health alone.
    let mut open = Vec::new();
    for port in 1..=u16::MAX {
        let at: SocketAddr = (ip.parse::<std::net::IpAddr>().unwrap(), port).into();
        if TcpStream::connect_timeout(&at, Duration::from_secs(2)).is_ok() {
            open.push(port);
        }
    }
    assert_eq!(open, [8081]);
    let name = manager["metadata"]["name"].as_str().unwrap();
    let script = "for p in 8085 8086; do nc -z -w 2 127.0.0.1 $p && echo $p; done; true";
    assert_eq!(release.ask(&["exec", name, "-c", "netclient", "--", "sh", "-c", script]), "");
}

/// What people do with kubectl, by a peer whose identity is its address in the tunnel.
#[tokio::test]
async fn kubectl_works_through_the_tunnel() {
    if !possible() {
        return;
    }
    let release = Release::install("kubectl", "native-sidecar", &[]).await;
    release.ready(1).await;
    let namespace = &release.namespace;
    let client = release.cluster.client().unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "peers", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "wireguard-peers" }],
    });
    client.create(&binding).await.unwrap();
    let target = "echo begun; mkdir /w; echo page >/w/index.html; httpd -p 80 -h /w; \
                  while :; do echo tick; sleep 0.2; done";
    client.create(&pod(namespace, "target", target)).await.unwrap();
    phase(&client, &format!("/api/v1/namespaces/{namespace}/pods/target"), "Running").await;
    let manager = release.pod(&release.pods()[0]);
    peer(&release, &manager).await;
    let server = format!("http://{}:8085", tunnel_address(&manager));
    // No function: what is started in the background is then kubectl itself, and can be ended.
    let kubectl =
        format!("k='timeout 60 /kube kubectl --server {server} --namespace {namespace}';");
    let say = |script: &str| in_peer(&release, &format!("{kubectl} {script}"));

    assert!(say("$k get pods").contains("target"));
    assert!(say("$k auth whoami").contains("wireguard-peer"));
    // What it may not, it is told by the API server, in words that kubectl understands.
    let denied = say("$k get nodes 2>&1 || true");
    assert!(denied.contains("User \"wireguard-peer\" cannot list resource \"nodes\""), "{denied}");
    assert!(say("$k logs target").contains("begun"));
    assert!(say("$k logs -f target | head -n 20").lines().count() == 20);
    for (transport, size) in [("true", 50_000_000), ("false", 5_000_000)] {
        let set = format!(
            "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS={transport} \
             KUBECTL_PORT_FORWARD_WEBSOCKETS={transport};"
        );
        let say = |script: &str| say(&format!("{set} {script}"));
        assert_eq!(say("$k exec target -- echo hello"), "hello\n");
        assert_eq!(say("echo through | $k exec -i target -- cat"), "through\n");
        assert_eq!(say("$k exec target -- sh -c 'exit 3' 2>/dev/null || echo $?"), "3\n");
        // It does not notice that nobody reads any more.
        assert!(say("timeout 5 $k attach target 2>/dev/null | head -n 3").contains("tick"));
        let copied = say(&format!(
            "head -c {size} /dev/urandom >/big; $k cp /big target:/big; \
             $k cp target:/big /back >/dev/null; cmp /big /back && echo same"
        ));
        assert!(copied.ends_with("same\n"), "{copied}");
        let page = say("$k port-forward pod/target 8000:80 >/dev/null & \
                        for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://127.0.0.1:8000/ && break; sleep 0.3; done; \
                        kill $! || true");
        assert_eq!(page, "page\n");
    }
    let applied = say(
        "printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: made}\\ndata: {a: b}\\n' \
                       | $k apply -f -; $k get configmap made -o jsonpath={.data.a}",
    );
    assert!(applied.ends_with("created\nb"), "{applied}");
    let watched = say(
        "$k get configmap made -w -o name >/seen & sleep 1; $k label configmap made x=y >/dev/null; \
                       for i in 1 2 3 4 5 6 7 8 9; do [ $(wc -l </seen) -ge 2 ] && break; sleep 0.3; done; \
                       kill $! || true; cat /seen",
    );
    assert_eq!(watched, "configmap/made\nconfigmap/made\n");
    // Larger than the API server takes: it says so, through the proxy.
    let large = say(&format!(
        "head -c 50000000 /dev/zero | tr '\\0' 'x' >/data; \
         $k create --raw /api/v1/namespaces/{namespace}/configmaps -f /data 2>&1 || true"
    ));
    assert!(large.contains("too large") || large.contains("limit is"), "{large}");
}
