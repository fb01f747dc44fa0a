//! Who containers are and what they see: users, roots, networks, and runs without root or namespaces.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::objects::{With, c, pod, server, sidecar};
use crate::run::{Done, Run, program};

crate::tests! {
    containers_have_their_own_processes_and_files,
    a_shared_process_namespace,
    plain_processes;
    root:
    users_and_groups,
    capabilities_and_read_only_roots,
    run_as_non_root_is_checked,
    without_root,
    without_root_plain_processes,
    pods_with_networks_of_their_own,
    host_ports,
    probes_reach_the_pods_network,
    probes_never_reach_the_hosts_own_servers,
}

fn web(container: Value) -> Value {
    pod("web", "Never", vec![], vec![container])
}

fn containers_have_their_own_processes_and_files() {
    let a = c(
        "a",
        "echo $$$$; ls -d /proc/[0-9]* | wc -l; hostname; echo x > /hf-it-file; cat /hf-it-file; sleep 0.3",
    );
    let b = c("b", "ls /hf-it-file 2>/dev/null || echo none; kill -0 1 && echo self");
    let done = Run::of(&[pod("web", "Never", vec![], vec![a, b])]).done().code(0);
    let a = done.written("web", "a");
    assert_eq!((a[0], a[2], a[3]), ("1", "web", "x"), "{done:#?}");
    assert_eq!(done.written("web", "b"), ["none", "self"]);
    assert!(!std::path::Path::new("/hf-it-file").exists());
}

fn a_shared_process_namespace() {
    let a = c("a", "sleep 1000; exit 0");
    let script = "sleep 0.2; for p in /proc/[0-9]*; do \
                  [ \"$(cat $p/comm 2>/dev/null)\" = sleep ] && kill ${p#/proc/} && echo seen; done";
    let b = c("b", script);
    let p = pod("web", "Never", vec![], vec![a, b]).spec(json!({ "shareProcessNamespace": true }));
    let done = Run::of(&[p]).done();
    assert_eq!(done.written("web", "b"), ["seen"], "{done:#?}");
}

fn plain_processes() {
    // Without namespaces nothing can be mounted: the script's own log is written by its path.
    let mut app = c("app", "say app; trap 'say down; exit 0' TERM; sleep 1000 & wait");
    app["volumeMounts"] = json!([]);
    app["command"][2] =
        json!(app["command"][2].as_str().unwrap().replace("/log/log", "{DIR}/log/log"));
    let mut p = web(app);
    p["spec"]["volumes"] = json!([]);
    let done = Run::of(&[p]).args("--isolation none --timeout 700ms").done().code(124);
    assert_eq!(done.log(), ["app", "down"], "{done:#?}");
    assert!(done.said("note: "), "it does not say what is not isolated: {done:#?}");
}

fn users_and_groups() {
    let a = c("a", "id -u; id -g; id -G; touch /e/file; stat -c '%u:%g' /e/file").with(json!({
        "securityContext": { "runAsUser": 1234 },
        "volumeMounts": [{ "name": "e", "mountPath": "/e" }],
    }));
    let p = web(a).spec(json!({
        "securityContext": { "runAsUser": 1, "runAsGroup": 2345, "fsGroup": 3456, "supplementalGroups": [4567] },
        "volumes": [{ "name": "e", "emptyDir": {} }],
    }));
    let done = Run::of(&[p]).done().code(0);
    let lines = done.written("web", "a");
    assert_eq!((lines[0], lines[1], lines[3]), ("1234", "2345", "1234:3456"), "{done:#?}");
    let mut groups: Vec<&str> = lines[2].split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["2345", "3456", "4567"]);
}

fn capabilities_and_read_only_roots() {
    let a = c("a", "grep CapEff /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2; \
                    (echo x > /file) 2>/dev/null || echo read-only; echo x > /log/w && echo writable")
        .with(json!({ "securityContext": {
            "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        } }));
    let done = Run::of(&[web(a)]).done().code(0);
    let lines = done.written("web", "a");
    assert_eq!(lines[1..], ["1", "read-only", "writable"], "{done:#?}");
    assert_eq!(u64::from_str_radix(lines[0], 16).unwrap(), 1 << 10, "{done:#?}");
}

fn run_as_non_root_is_checked() {
    let a = c("a", "say a").with(json!({ "securityContext": { "runAsNonRoot": true } }));
    let done = Run::of(&[web(a)]).args("--timeout 500ms").done().code(124);
    assert!(done.rows("web").contains(&"0/1 CreateContainerConfigError".to_owned()), "{done:#?}");
    assert!(done.said("container has runAsNonRoot and image will run as root"), "{done:#?}");
    assert!(done.log().is_empty());
}

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn order_as_nobody(flags: &str) -> Done {
    let inits = vec![c("i", "say i; id -u"), sidecar("s")];
    let run = Run::of(&[pod("web", "Never", inits, vec![c("app", "sleep 0.3; say app")])]);
    run.under(&NOBODY).env("HOME", "/nonexistent").args(flags).done()
}

fn without_root() {
    let done = order_as_nobody("").code(0);
    assert_eq!(done.log(), ["i", "s up", "app", "s down"], "{done:#?}");
    assert_eq!(done.rows("web").last().unwrap(), "0/2 Completed");
}

fn without_root_plain_processes() {
    let mut p = pod("web", "Never", vec![], vec![]);
    p["spec"]["volumes"] = json!([]);
    p["spec"]["containers"] = json!([{ "name": "a", "image": "host", "command": ["id", "-u"] }]);
    let done = Run::of(&[p]).under(&NOBODY).args("--isolation none").done().code(0);
    assert_eq!(done.written("web", "a"), ["65534"], "{done:#?}");
    assert!(done.said("note: "), "it does not say what is not isolated: {done:#?}");
}

/// The static web server of this crate, as an executable image.
fn web_server() -> String {
    format!("server={}", program("slow_sidecar").display())
}

fn port_server(name: &str) -> Value {
    let container = json!({
        "name": "server", "image": "server", "args": ["8099"],
        "env": [{ "name": "START_DELAY_MS", "value": "50" }],
        "readinessProbe": { "httpGet": { "path": "/", "port": 8099 }, "periodSeconds": 1 },
        "ports": [{ "containerPort": 8099 }],
    });
    pod(name, "Always", vec![], vec![container])
}

fn pods_with_networks_of_their_own() {
    // The same port twice: each pod has its own.
    let script = "ip=$(cat /log/ip); for i in $(seq 50); do (exec 3<>/dev/tcp/$ip/8099) 2>/dev/null && { say reached; exit 0; }; sleep 0.1; done; exit 1";
    let mut asks = c("asks", script);
    asks["command"][0] = json!("bash");
    let mut tells = c("tells", "trap 'exit 0' TERM; echo $IP > /log/ip; sleep 1000 & wait");
    tells["env"] =
        json!([{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }]);
    let one = port_server("one").with(json!({ "spec": { "containers": [tells] } }));
    let two = port_server("two");
    let client = pod(
        "client",
        "OnFailure",
        vec![c("wait", "while ! test -s /log/ip; do sleep 0.05; done")],
        vec![asks],
    );
    let live = Run::of(&[one, two, client])
        .args("--network pod --timeout 15s")
        .arg("--image")
        .arg(&web_server())
        .start();
    live.row("1/1 Running");
    live.row("2/2 Running");
    live.out_where("client Completed", |l| l.starts_with("client") && l.contains("Completed"));
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    assert_eq!(done.log(), ["reached"], "{done:#?}");
}

fn host_ports() {
    let mut p = port_server("web");
    p["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(28_099);
    let live =
        Run::of(&[p]).args("--network pod --timeout 15s").arg("--image").arg(&web_server()).start();
    live.row("1/1 Running");
    let mut stream = TcpStream::connect(("127.0.0.1", 28_099)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello\n"), "{answer:?}");
    live.signal(Signal::SIGINT);
    live.done().code(130);
    assert!(TcpStream::connect(("127.0.0.1", 28_099)).is_err(), "the port is still open");
}

fn probes_reach_the_pods_network() {
    let p = port_server("web").with(json!({ "spec": { "containers": [server("other")] } }));
    let done = Run::of(&[p])
        .args("--network pod --for condition=Ready --timeout 10s -o json")
        .arg("--image")
        .arg(&web_server())
        .done()
        .code(0);
    let ip = done.json()["items"][0]["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.") && ip != "10.0.0.1", "{ip}");
}

/// A server of the host that happens to listen on the probe's port is not the pod's.
fn probes_never_reach_the_hosts_own_servers() {
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let probe = json!({ "tcpSocket": { "port": port }, "periodSeconds": 1, "failureThreshold": 9 });
    let proxy = sidecar("proxy").with(json!({ "startupProbe": probe }));
    let p = pod("web", "Never", vec![proxy], vec![c("app", "say too early")]);
    let run = Run::of(&[p]).args("--network pod --timeout 1500ms --timeline {DIR}/timeline.json");
    let done = run.done().code(124);
    let probes: Vec<_> = done.timeline().into_iter().filter(|m| m.step == "probe").collect();
    assert!(!probes.is_empty(), "{done:#?}");
    assert!(probes.iter().all(|m| m.all["passed"] == false), "{probes:#?}");
    assert!(!done.log().iter().any(|line| line == "too early"), "{done:#?}");
}
