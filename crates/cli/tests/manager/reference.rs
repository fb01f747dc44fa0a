//! Health beside the health of a manager that is made with controller-runtime: the same requests to both, and the
//! same answers, headers too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::{Manager, get};
use super::{ip, netmaker, own_network, until};

const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
const THEIRS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8181);

/// What kubelets, monitors and people ask.
const REQUESTS: &[&str] = &[
    "GET /healthz",
    "GET /healthz/",
    "GET /healthz?verbose",
    "GET /healthz/healthz",
    "GET /healthz/nothing",
    "GET /readyz",
    "GET /readyz/",
    "GET /readyz?verbose",
    "GET /readyz?verbose=1",
    "GET /readyz?verbose=false",
    "GET /readyz/?verbose=true",
    "GET /readyz?verbose&verbose",
    "GET /readyz?Verbose",
    "GET /readyz?exclude=wireguard",
    "GET /readyz?exclude=wireguard&exclude=proxy",
    "GET /readyz?exclude=wireguard,proxy",
    "GET /readyz?verbose&exclude=wireguard&exclude=proxy",
    "GET /readyz?verbose&exclude=wireguard&exclude=wireguard",
    "GET /readyz?exclude=nothing",
    "GET /readyz?verbose&exclude=nothing",
    "GET /readyz?verbose&exclude=wireguard&exclude=proxy&exclude=nothing",
    "GET /readyz?verbose&exclude=a%20%22quoted%22+name%0a",
    "GET /readyz?verbose&exclude=%C3%BC%E2%80%A8%F0%9F%90%AC",
    "GET /readyz?verbose&exclude=%ff%C3",
    "GET /readyz?verbose&exclude=%00%07%1b%7f%C2%A0%27%22%5c",
    "GET /readyz?verbose&exclude=e%CC%81",
    "GET /readyz?verbose&exclude=%zz&exclude=proxy",
    "GET /readyz?verbose&exclude=a;b",
    "GET /readyz?verbose&exclude=",
    "GET /readyz?verbose&exclude",
    "GET /readyz/wireguard",
    "GET /readyz/wireguard/",
    "GET /readyz/wireguard?verbose",
    "GET /readyz/wireguard?exclude=wireguard",
    "GET /readyz/apiserver",
    "GET /readyz/readyz",
    "GET /readyz/nothing",
    "GET /readyz/wireguard/nothing",
    "GET /readyz/Wireguard",
    "GET /readyzz",
    "GET /",
    "GET /livez",
    "GET /metrics",
    "HEAD /readyz",
    "HEAD /readyz/wireguard",
    "POST /readyz",
    "DELETE /healthz",
];

#[test]
fn health_is_controller_runtimes() {
    if !own_network("controller-runtime beside it") {
        return;
    }
    let program = match holdfast_e2e::go::health() {
        Ok(program) => program,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, and {error:#}");
            println!("controller-runtime beside it: skipped, {error:#}");
            return;
        }
    };
    let manager = Manager::with_proxy(&["WIREGUARD_RETRY_BASE_DELAY_SECONDS=30"]);
    until("only the interface is missing", || {
        let text = get(OURS, "/readyz?verbose").map(|(_, text)| text).unwrap_or_default();
        text.contains("[+]apiserver ok") && text.contains("there is no such interface")
    });
    let mut failing = 0;
    for state in ["without an interface", "ready"] {
        if state == "ready" {
            netmaker();
            ip("addr add 10.90.0.1/24 dev netmaker");
            manager.ready(true);
        }
        // The checks that there are, as they are: the reference has the same.
        let checks = checks();
        failing += checks.iter().filter(|check| check.contains(':')).count();
        let reference = Reference::start(&program, &checks);
        for request in REQUESTS {
            let (ours, theirs) = (answer(OURS, request), answer(THEIRS, request));
            let ours = if request.contains("verbose") { withheld(&ours) } else { ours };
            assert_eq!(ours, theirs, "{state}: {request}");
        }
        drop(reference);
    }
    assert_eq!(failing, 2, "wireguard and proxy, and only at first");
}

/// Of `/healthz` and `/readyz`: `PATH=NAME`, and `:REASON` behind those that fail.
fn checks() -> Vec<String> {
    let mut checks = Vec::new();
    for path in ["healthz", "readyz"] {
        let (_, text) = get(OURS, &format!("/{path}?verbose")).unwrap();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("[+]").and_then(|line| line.strip_suffix(" ok")) {
                checks.push(format!("{path}={name}"));
            } else if let Some((name, reason)) =
                line.strip_prefix("[-]").and_then(|line| line.split_once(" failed: "))
            {
                checks.push(format!("{path}={name}:{reason}"));
            }
        }
    }
    assert_eq!(checks.len(), 6, "{checks:?}");
    checks
}

/// Without what is ours alone: with `?verbose` a check that fails says why.
fn withheld(answer: &str) -> String {
    let mut out = String::new();
    let mut less = 0;
    for line in answer.split_inclusive('\n') {
        match line.split_once(" failed: ") {
            Some((check, reason)) if check.starts_with("[-]") => {
                let words = " failed: reason withheld\n";
                less += " failed: ".len() + reason.len();
                less -= words.len();
                out.push_str(check);
                out.push_str(words);
            }
            _ => out.push_str(line),
        }
    }
    // The length is a header of its own.
    let length = out.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: Option<usize> = length.map(|text| text.parse().unwrap());
    match length {
        Some(length) => out.replace(
            &format!("content-length: {length}"),
            &format!("content-length: {}", length - less),
        ),
        None => out,
    }
}

/// Status line, headers in order of their names, and body; without what differs from moment to moment.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let mut headers: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            format!("{}: {value}", name.to_ascii_lowercase())
        })
        .filter(|line| !line.starts_with("date: ") && !line.starts_with("x-holdfast-instance: "))
        .collect();
    headers.sort();
    format!("{status}\n{}\n\n{body}", headers.join("\n"))
}

/// A manager of controller-runtime, for as long as this lives.
struct Reference(Child);

impl Reference {
    fn start(program: &std::path::Path, checks: &[String]) -> Self {
        let mut command = Command::new(program);
        command.arg(THEIRS.to_string()).args(checks);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let reference = Self(command.spawn().unwrap());
        until("controller-runtime answers", || get(THEIRS, "/healthz").is_some());
        reference
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
