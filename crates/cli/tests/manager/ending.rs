//! How it ends: soon, well, and leaving nothing behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::{Manager, answer, get};
use super::tls::Tls;
use super::{SOON, ip, netmaker, own_network, until};

#[test]
fn p6_a_signal_during_the_wait_ends_it_at_once() {
    if !own_network("a signal during the wait") {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut manager = Manager::with_proxy(&["WIREGUARD_RETRY_BASE_DELAY_SECONDS=30"]);
        manager.says("Waiting before retry");
        until("the status", || manager.status_file().exists());
        manager.signal(signal);
        let (status, took) = manager.ends();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(took < SOON, "{took:?}");
        assert!(!manager.status_file().exists());
        assert_eq!(manager.said("Stopped"), 1);
    }
}

/// A request that is under way when the signal comes is answered; nothing new is taken.
#[test]
fn what_is_under_way_ends_well() {
    if !own_network("a drain") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(dir.path());
    let server = tls.serve(|head| {
        if head.starts_with("GET /slow") {
            std::thread::sleep(Duration::from_secs(2));
        }
        answer(200, "the answer")
    });
    let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
    let mut manager = Manager::start_in(&["PROXY_MODE=auth", &kubeconfig], dir);
    manager.ready(true);
    let proxy = SocketAddr::from(([10, 90, 0, 1], 8085));
    let mut stream = TcpStream::connect(proxy).unwrap();
    write!(stream, "GET /slow HTTP/1.1\r\nHost: {proxy}\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    manager.signal(Signal::SIGTERM);
    until("nothing new is taken", || TcpStream::connect(proxy).is_err());
    // Alive, and not ready, while it drains.
    let health = SocketAddr::from(([127, 0, 0, 1], 8081));
    assert_eq!(get(health, "/healthz").unwrap().0, 200);
    let text = get(health, "/readyz?verbose").unwrap().1;
    assert!(text.contains("[-]shutdown failed: the manager is stopping"), "{text}");
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("the answer"), "{said}");
    let (status, _) = manager.ends();
    assert_eq!(status.code(), Some(0), "{status}");
}

/// What does not end by itself does not hold it longer than it was told; a second signal ends it at once.
#[test]
fn what_does_not_end_is_cut() {
    if !own_network("a drain that takes too long") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let begun = |drain: &str| {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(dir.path());
        let server = tls.serve(|head| {
            if head.starts_with("GET /never") {
                std::thread::sleep(Duration::from_secs(60));
            }
            answer(200, "ok")
        });
        let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(server).display());
        let manager = Manager::start_in(&["PROXY_MODE=auth", &kubeconfig, drain], dir);
        manager.ready(true);
        let mut stream = TcpStream::connect("10.90.0.1:8085").unwrap();
        write!(stream, "GET /never HTTP/1.1\r\nHost: 10.90.0.1\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        (manager, stream)
    };
    let (mut manager, _stream) = begun("DRAIN_TIMEOUT_SECONDS=1");
    manager.signal(Signal::SIGTERM);
    let (status, took) = manager.ends();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!((Duration::from_millis(900)..Duration::from_secs(6)).contains(&took), "{took:?}");
    drop(manager);
    let (mut manager, _stream) = begun("DRAIN_TIMEOUT_SECONDS=60");
    manager.signal(Signal::SIGTERM);
    manager.says("Stopping");
    manager.signal(Signal::SIGTERM);
    let (status, took) = manager.ends();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < SOON, "{took:?}");
}
