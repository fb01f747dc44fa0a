//! Peers reach the proxy through a real tunnel, with the real kubectl; nobody reaches it otherwise.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use holdfast_e2e::go;
use serde_json::{Value, json};

use super::release::{Release, done};
use super::seen::Seen;
use crate::place::{phase, pod, possible};

/// A pod that is a peer of a manager's pod: it has a WireGuard interface of its own, with this address and
/// prefix length, and kubectl.
async fn peer(release: &Release, manager: &Seen<'_>, address: &str) {
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

    let theirs = manager.in_netclient("wg show netmaker public-key");
    let (own, length) = address.split_once('/').unwrap();
    let (network, whole) = match own.contains(':') {
        true => ("fd00:101::/64", 128),
        false => ("10.101.0.0/16", 32),
    };
    let key = in_peer(
        release,
        &format!(
            "umask 077; wg genkey >/key; wireguard-go wg0 </dev/null >/dev/null 2>&1
             wg set wg0 private-key /key listen-port 51820 peer {theirs} endpoint {ip}:51821 \
                 allowed-ips {network} persistent-keepalive 5
             ip link set wg0 up; ip addr add {own}/{length} dev wg0
             wg show wg0 public-key",
            theirs = theirs.trim(),
            ip = manager.ip,
        ),
    );
    manager.in_netclient(&format!("wg set netmaker peer {} allowed-ips {own}/{whole}", key.trim()));
}

fn in_peer(release: &Release, script: &str) -> String {
    let script = format!("set -eu; kubectl() {{ /kube kubectl \"$@\"; }}; {script}");
    done(&mut release.kubectl(&["exec", "-i", "peer", "--", "sh", "-c", &script]))
}

/// The address of the manager's interface.
pub fn tunnel_address(manager: &Value) -> String {
    let ip = manager.pointer("/status/podIP").and_then(Value::as_str).unwrap();
    let mut numbers = ip.split('.').skip(2);
    format!("10.101.{}.{}", numbers.next().unwrap(), numbers.next().unwrap())
}

/// Nothing but health listens anywhere else than on this address: by the kernel's table, by every port of the
/// pod's address, by every address from inside of the pod, and by another way to this address.
fn nothing_else_is_open(release: &Release, pod: &Seen<'_>, address: IpAddr, ports: [u16; 3]) {
    let [health, proxy, api] = ports;
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, health));
    let mut expected =
        vec![SocketAddr::from((address, proxy)), SocketAddr::from((address, api)), everywhere];
    expected.sort_unstable();
    assert_eq!(pod.listening(), expected);

    let ip: IpAddr = pod.ip.parse().unwrap();
    let open: Vec<u16> = (1..=u16::MAX)
        .filter(|port| {
            TcpStream::connect_timeout(&(ip, *port).into(), Duration::from_secs(2)).is_ok()
        })
        .collect();
    assert_eq!(open, [health]);

    let addresses = pod.addresses();
    for known in [address, ip, Ipv6Addr::LOCALHOST.into()] {
        assert!(addresses.iter().any(|(at, _)| *at == known), "no {known} in {addresses:?}");
    }
    for port in [proxy, api] {
        let scan = addresses.iter().map(|(at, device)| match at {
            // Of a link-local address one has to say by which link.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                connects(&format!("{at}%{device}"), port)
            }
            _ => connects(&at.to_string(), port),
        });
        let open = pod.in_netclient(&format!("{} true", scan.collect::<String>()));
        assert_eq!(open, format!("{address} {port}\n"), "of {addresses:?}");
    }

    // Who is not in the tunnel, and knows a way to its address.
    let node = release.cluster.node(1).unwrap();
    let (target, family) = match address {
        IpAddr::V4(_) => (format!("{address}/32"), "-4"),
        IpAddr::V6(_) => return,
    };
    let route = |verb: &str| {
        done(node.command("ip").args([family, "route", verb, &target, "via", &pod.ip]))
    };
    route("add");
    let at = address.to_string();
    let script = format!("{} {}", connects(&at, proxy), connects(&at, health));
    let seen = node.command("busybox").args(["sh", "-c", &script]).output().unwrap();
    route("del");
    // That it is the way there is seen by what does listen everywhere.
    assert_eq!(String::from_utf8_lossy(&seen.stdout), format!("{address} {health}\n"));
}

/// A piece of a script for busybox: says a place if it takes connections.
fn connects(at: &str, port: u16) -> String {
    format!("nc -w 2 {at} {port} </dev/null >/dev/null 2>&1 && echo {at} {port};")
}

#[tokio::test]
async fn peers_reach_the_proxy_and_nobody_else() {
    if !possible() {
        return;
    }
    let release = Release::apply("tunnel", "native-sidecar", &[]).await;
    release.ready(1).await;
    let pod = Seen::new(&release).await;
    let address = tunnel_address(&release.pod(&pod.name));
    peer(&release, &pod, "10.101.255.1/16").await;
    let fetch = |port: u16, path: &str| {
        in_peer(&release, &format!("kubectl --server http://{address}:{port} get --raw {path}"))
    };
    let version = fetch(8085, "/version");
    assert!(version.contains("gitVersion"), "{version}");
    let api = fetch(8086, "/health");
    assert!(api.contains("healthy"), "{api}");
    nothing_else_is_open(&release, &pod, address.parse().unwrap(), [8081, 8085, 8086]);
}

/// An interface that has nothing of IPv4.
#[tokio::test]
async fn ports_of_ones_own_on_an_address_of_ipv6() {
    if !possible() {
        return;
    }
    let env = [("ADDRESS", "fd00:101::7/64")];
    let release = Release::apply("own-ports", "custom-ports", &env).await;
    release.ready(1).await;
    let pod = Seen::new(&release).await;
    peer(&release, &pod, "fd00:101::ff/64").await;
    let fetch = |port: u16, path: &str| {
        let server = format!("http://[fd00:101::7]:{port}");
        in_peer(&release, &format!("kubectl --server {server} get --raw {path}"))
    };
    let version = fetch(9085, "/version");
    assert!(version.contains("gitVersion"), "{version}");
    let api = fetch(9086, "/health");
    assert!(api.contains("healthy"), "{api}");
    nothing_else_is_open(&release, &pod, "fd00:101::7".parse().unwrap(), [9081, 9085, 9086]);
    let log = release.ask(&["logs", &pod.name, "-c", "manager"]);
    let bound = "Binding proxy to specific IP\t{\"ip\":\"fd00:101::7\",\"port\":\"9085\"}";
    assert!(log.contains(bound), "{log}");
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
    let manager = Seen::new(&release).await;
    peer(&release, &manager, "10.101.255.1/16").await;
    let server = format!("http://{}:8085", tunnel_address(&release.pod(&manager.name)));
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
