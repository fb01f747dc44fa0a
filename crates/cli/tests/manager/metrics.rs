//! Metrics, and who may read them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::process::{Manager, answer, get};
use super::tls::{Tls, unverified};
use super::{ip, netmaker, own_network, until};

#[test]
fn for_everybody_if_that_was_asked_for() {
    if !own_network("metrics") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let manager =
        Manager::with_proxy(&["--metrics-bind-address=127.0.0.1:9100", "--metrics-secure=false"]);
    manager.ready(true);
    let proxy = SocketAddr::from(([10, 90, 0, 1], 8085));
    assert_eq!(get(proxy, "/version").unwrap(), (200, "ok".to_owned()));
    let at = SocketAddr::from(([127, 0, 0, 1], 9100));
    until("the request is counted", || {
        get(at, "/metrics").unwrap().1.contains("holdfast_proxy_requests_total{code=\"200\"} 1\n")
    });
    let (code, text) = get(at, "/metrics").unwrap();
    assert_eq!(code, 200);
    for words in
        ["# TYPE holdfast_proxy_connections gauge\n", "holdfast_proxy_tunnels 0\n", "# EOF\n"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(get(at, "/"), Some((404, "404 page not found\n".to_owned())));
}

/// Off by default, whatever port one tries.
#[test]
fn off_by_default() {
    if !own_network("metrics off") {
        return;
    }
    let manager = Manager::start(&[]);
    manager.ready(true);
    for port in [8080, 8443] {
        assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/metrics"), None);
    }
}

/// The API server is asked who somebody is, and whether he may.
#[test]
fn only_for_those_who_may() {
    if !own_network("secure metrics") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(dir.path());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = tls.serve(move |request| {
        let review = |kind: &str, status: &str| {
            answer(201, &format!("{{\"kind\":\"{kind}\",\"spec\":{{}},\"status\":{status}}}"))
        };
        if request.contains("/tokenreviews") {
            counted.fetch_add(1, Ordering::Relaxed);
            let user = if request.contains("\"token\":\"one\"") { "reader" } else { "stranger" };
            let known = !request.contains("\"token\":\"three\"");
            return review(
                "TokenReview",
                &format!("{{\"authenticated\":{known},\"user\":{{\"username\":\"{user}\"}}}}"),
            );
        }
        if request.contains("/subjectaccessreviews") {
            assert!(request.contains("\"path\":\"/metrics\""), "{request}");
            let allowed = request.contains("\"user\":\"reader\"");
            return review("SubjectAccessReview", &format!("{{\"allowed\":{allowed}}}"));
        }
        let version = ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate"];
        let more = ["goVersion", "compiler", "platform"];
        let fields = version.iter().chain(&more).map(|name| format!("\"{name}\":\"1\""));
        answer(200, &format!("{{{}}}", fields.collect::<Vec<_>>().join(",")))
    });
    let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
    let manager = Manager::start_in(&["--metrics-bind-address=127.0.0.1:9443", &kubeconfig], dir);
    manager.ready(true);
    let at = SocketAddr::from(([127, 0, 0, 1], 9443));
    let ask = |token: &str| {
        let line = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        unverified(
            at,
            &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{line}Connection: close\r\n\r\n"),
        )
    };
    assert_eq!(ask(""), 401);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(ask("one"), 200);
    // Remembered.
    assert_eq!(ask("one"), 200);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(ask("two"), 403);
    assert_eq!(ask("three"), 401);
    // Without TLS there is no answer.
    assert_eq!(get(at, "/metrics"), None);
}
