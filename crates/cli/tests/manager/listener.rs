//! The proxy's listener: TLS of its own, and by which names it may be called.

use std::net::SocketAddr;

use super::process::{Manager, get};
use super::tls::{Tls, unverified};
use super::{ip, netmaker, own_network};

const PROXY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 90, 0, 1)), 8085);

fn ask(host: &str) -> String {
    format!("GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// kubectl sends no credentials to servers without TLS.
#[test]
fn s10_it_speaks_tls_where_it_is_told_to() {
    if !own_network("a TLS listener") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["10.90.0.1".to_owned()]).unwrap();
    let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let words = [
        format!("PROXY_TLS_CERT_FILE={}", chain.display()),
        format!("PROXY_TLS_KEY_FILE={}", key.display()),
    ];
    let manager = Manager::with_proxy(&words.each_ref().map(String::as_str));
    manager.ready(true);
    assert_eq!(unverified(PROXY, &ask("10.90.0.1:8085")), 200);
    assert_eq!(get(PROXY, "/version"), None, "and nothing else");
    drop(manager);
    // A key that is another's is found at the start.
    let other = Tls::new(dir.path());
    std::fs::copy(other.ca(), &chain).unwrap();
    let mut manager = Manager::with_proxy(&words.each_ref().map(String::as_str));
    let (status, _) = manager.ends();
    assert_eq!(status.code(), Some(1), "{status}");
    manager.says("PROXY_TLS_CERT_FILE");
}

/// A page whose name has been made to point here is not let in; names that somebody wrote down are.
#[test]
fn s11_it_is_called_by_its_names_only() {
    if !own_network("names of the proxy") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let manager = Manager::with_proxy(&["PROXY_ACCEPT_HOSTS=k8s.mesh.example,.internal.example"]);
    manager.ready(true);
    let called = |host: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(PROXY).unwrap();
        stream.write_all(ask(host).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    for host in ["10.90.0.1:8085", "localhost", "k8s.mesh.example:8085", "a.internal.example"] {
        assert_eq!(called(host), "200", "{host}");
    }
    for host in ["rebound.example", "mesh.example", "k8s.mesh.example.evil.example"] {
        assert_eq!(called(host), "403", "{host}");
    }
}
