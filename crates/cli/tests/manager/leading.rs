//! A leader that loses its lease goes on serving; and the pod says which ports it has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::process::{Manager, answer, get};
use super::tls::Tls;
use super::{PATIENCE, ip, netmaker, own_network, until};

/// The body of a request as the API server gives it back, with a version.
fn stored(request: &str, version: u64) -> String {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let mut object: serde_json::Value = serde_json::from_str(body).unwrap();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    answer(201, &object.to_string())
}

fn not_found() -> String {
    let status = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
                  \"message\":\"not found\",\"reason\":\"NotFound\",\"code\":404}";
    answer(404, status)
}

/// The Netmaker operator ended itself, and with it every session.
#[test]
fn p7_a_lost_lease_takes_no_connection() {
    if !own_network("a lost lease") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(dir.path());
    let (cut, version) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(1));
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let is_cut = Arc::clone(&cut);
    let server = tls.serve(move |request| {
        let lease = request.lines().next().unwrap_or_default().contains("/leases");
        let writes = ["POST ", "PUT "].iter().any(|verb| request.starts_with(verb));
        match () {
            () if request.starts_with("GET /slow ") => {
                gone.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                answer(200, "the answer")
            }
            () if lease && is_cut.load(Ordering::Relaxed) => answer(500, "no"),
            () if lease && !writes => not_found(),
            () if writes => stored(request, version.fetch_add(1, Ordering::Relaxed)),
            () => answer(200, "ok"),
        }
    });
    let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
    let words = [
        "PROXY_MODE=auth",
        "POD_NAME=pod-a",
        "POD_NAMESPACE=ops",
        "HOST_NETWORK=false",
        "--leader-elect-lease-duration=2s",
        "--leader-elect-renew-deadline=1s",
        "--leader-elect-retry-period=200ms",
        &kubeconfig,
    ];
    let mut manager = Manager::start_in(&words, dir);
    manager.says("successfully acquired lease ops/3820d23d.netmaker.io");
    manager.ready(true);
    let proxy = SocketAddr::from(([10, 90, 0, 1], 8085));
    let mut stream = TcpStream::connect(proxy).unwrap();
    write!(stream, "GET /slow HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\n\r\n").unwrap();
    cut.store(true, Ordering::Relaxed);
    manager.says("failed to renew lease ops/3820d23d.netmaker.io");
    // Who does not lead serves: those who are there, and those who come.
    assert_eq!(get(proxy, "/version"), Some((200, "ok".to_owned())));
    go.send(()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("the answer"), "{said}");
    manager.ready(true);
    // And leads again when it can.
    cut.store(false, Ordering::Relaxed);
    until("elected again", || manager.said("successfully acquired lease") == 2);
    manager.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(manager.ends().0.code(), Some(0));
}

/// For people, and for whoever must find the port of a replica on the host network.
#[test]
fn the_pod_says_which_ports_it_has() {
    if !own_network("the pod's annotation") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(dir.path());
    let (patched, patches) = channel();
    let patched = std::sync::Mutex::new(patched);
    let server = tls.serve(move |request| {
        if request.starts_with("PATCH ") {
            patched.lock().unwrap().send(request.to_owned()).unwrap();
            return answer(
                200,
                "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{}}",
            );
        }
        answer(200, "ok")
    });
    let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
    let words = [
        "PROXY_MODE=auth",
        "POD_NAME=pod-a",
        "POD_NAMESPACE=ops",
        "HOST_NETWORK=true",
        "ENABLE_LEADER_ELECTION=false",
        &kubeconfig,
    ];
    let manager = Manager::start_in(&words, dir);
    let request = patches.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(request.starts_with("PATCH /api/v1/namespaces/ops/pods/pod-a"), "{request}");
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let annotation = body["metadata"]["annotations"]["holdfast.io/ports"].as_str().unwrap();
    let said: serde_json::Value = serde_json::from_str(annotation).unwrap();
    until("the status", || manager.status_file().exists());
    let status = std::fs::read_to_string(manager.status_file()).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(said, status["ports"], "the same as in the file");
    assert!(said["proxy"].as_u64().unwrap() >= 8085, "{said}");
    manager.says("Annotated the pod with its ports");
}
