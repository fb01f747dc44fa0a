//! Health as kubelets and people ask for it, and the exec probe.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::process::{Manager, answer, exchange, get};
use super::tls::Tls;
use super::{HOLDFAST, SOON, ip, netmaker, own_network, until};

fn health() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}

fn probe(args: &[&str], file: &Path) -> (i32, String) {
    let mut command = Command::new(HOLDFAST);
    let output = command.arg("wait").args(args).arg("--status-file").arg(file).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// As controller-runtime answers with these checks, headers too.
#[test]
fn what_controller_runtime_would_say() {
    if !own_network("health") {
        return;
    }
    let manager = Manager::with_proxy(&["WIREGUARD_RETRY_BASE_DELAY_SECONDS=30"]);
    let failed = "[+]apiserver ok\n[-]proxy failed: reason withheld\n[+]readyz ok\n[+]shutdown ok\n\
                  [-]wireguard failed: reason withheld\nhealthz check failed\n";
    until("the API server is found", || {
        get(health(), "/readyz").is_some_and(|(code, text)| code == 500 && text == failed)
    });
    let (head, _) = exchange(health(), "/readyz").unwrap();
    let head = head.to_ascii_lowercase();
    for line in [
        "http/1.1 500 internal server error",
        "\r\ncontent-type: text/plain; charset=utf-8",
        "\r\nx-content-type-options: nosniff",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let no = "internal server error: the WireGuard interface netmaker cannot be used: there is no such \
              interface\n";
    assert_eq!(get(health(), "/readyz/wireguard"), Some((500, no.to_owned())));
    assert_eq!(get(health(), "/readyz?exclude=wireguard&exclude=proxy").unwrap().1, "ok");
    assert_eq!(get(health(), "/healthz/healthz"), Some((200, "ok".to_owned())));
    assert_eq!(get(health(), "/readyz/readyz"), Some((200, "ok".to_owned())));
    for path in ["/", "/readyz/nothing", "/livez", "/metrics"] {
        assert_eq!(get(health(), path), Some((404, "404 page not found\n".to_owned())), "{path}");
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    manager.ready(true);
    let passed = "[+]apiserver ok\n[+]proxy ok\n[+]readyz ok\n[+]shutdown ok\n[+]wireguard ok\n\
                  healthz check passed\n";
    assert_eq!(get(health(), "/readyz?verbose"), Some((200, passed.to_owned())));
    manager.says("healthz check failed");
    manager.says("healthz check passed");
}

/// Who cannot be elected serves all the same, and says which right is missing.
#[test]
fn a_replica_without_rights_is_ready() {
    if !own_network("missing rights") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(dir.path());
    let server = tls.serve(|request| {
        let asked = request.lines().next().unwrap_or_default();
        if !asked.contains("/namespaces/ops/") {
            return answer(200, "ok");
        }
        answer(
            403,
            "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
             \"message\":\"not allowed\",\"reason\":\"Forbidden\",\"code\":403}",
        )
    });
    let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
    let words = ["PROXY_MODE=auth", "POD_NAME=pod-a", "POD_NAMESPACE=ops", &kubeconfig];
    let mut manager = Manager::start_in(&words, dir);
    manager.ready(true);
    until("the missing right is named", || {
        let text = get(health(), "/readyz?verbose").unwrap().1;
        text.contains("[+]leaderElection ok: ") && text.contains("may not get leases")
    });
    manager.says("Cannot annotate the pod with its ports");
    manager.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, took) = manager.ends();
    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "{took:?}");
}

/// Without a proxy there is little to be ready for.
#[test]
fn without_a_proxy() {
    if !own_network("no proxy") {
        return;
    }
    let manager = Manager::start(&[]);
    manager.ready(true);
    let passed = "[+]readyz ok\n[+]shutdown ok\nhealthz check passed\n";
    assert_eq!(get(health(), "/readyz?verbose"), Some((200, passed.to_owned())));
}

#[test]
fn the_exec_probe_asks_the_manager_that_wrote_the_status() {
    if !own_network("wait --health") {
        return;
    }
    let manager = Manager::with_proxy(&["WIREGUARD_RETRY_BASE_DELAY_SECONDS=30"]);
    let file = manager.status_file();
    until("the status", || file.exists());
    manager.says("Waiting before retry");
    let (code, said) = probe(&["--health"], &file);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("error: readyz: 500: [") && said.contains("no such interface"),
        "{said}"
    );
    assert_eq!(probe(&["--health=healthz"], &file), (0, String::new()));
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    manager.ready(true);
    assert_eq!(probe(&["--health"], &file), (0, String::new()));
    until("the status knows it", || {
        std::fs::read_to_string(&file).unwrap().contains("10.90.0.1:8086")
    });
    let status: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(status["health"], "127.0.0.1:8081");
    assert_eq!(status["ports"], serde_json::json!({ "health": 8081, "proxy": 8085, "api": 8086 }));
    assert_eq!(status["proxy"], serde_json::json!(["10.90.0.1:8085"]));
    // A manager that crashed leaves its file: whoever has its port now does not answer for it.
    let stale = manager.dir.path().join("stale.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let instance = status["instance"].as_str().unwrap();
    std::fs::write(&stale, text.replace(instance, "another")).unwrap();
    let (code, said) = probe(&["--health"], &stale);
    assert!(code == 1 && said.contains("another instance"), "{said}");
    // Frozen: it answers nothing, and the probe does not wait for it.
    manager.signal(nix::sys::signal::Signal::SIGSTOP);
    let (code, said) = probe(&["--health", "--timeout", "300ms"], &file);
    assert!(code == 1 && said.contains("nothing within 300ms"), "{said}");
    manager.signal(nix::sys::signal::Signal::SIGCONT);
    drop(manager);
    let (code, said) = probe(&["--health"], Path::new("/no/such/status.json"));
    assert!(code == 1 && said.contains("cannot read /no/such/status.json"), "{said}");
}

/// A file of somebody else is not asked by.
#[test]
fn a_status_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("status.json");
    for text in ["", "[]", "{\"instance\":1}", "{\"instance\":\"a\",\"ports\":{\"health\":99999}}"]
    {
        std::fs::write(&file, text).unwrap();
        let (code, said) = probe(&["--health"], &file);
        assert!(code == 1 && said.contains("is no status of a manager"), "{text}: {said}");
    }
    std::fs::write(&file, "{\"instance\":\"a\",\"ports\":{}}").unwrap();
    assert!(probe(&["--health"], &file).1.contains("serves no health"));
    let bad = Command::new(HOLDFAST).args(["wait", "--health", "file:/etc"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}
