//! The interface late, never, flapping, with another address, with IPv6; and nothing anywhere else.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::process::{Manager, get};
use super::{HOLDFAST, SOON, ip, netmaker, own_network, until};

/// A wait so long that only an event can end it in a test's time.
const LONG_WAIT: &str = "WIREGUARD_RETRY_BASE_DELAY_SECONDS=30";

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

fn open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// What listens in this network: address and port, from the kernel's own list.
fn listeners() -> Vec<String> {
    let output = Command::new("ss").args(["-Hltn"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<String> =
        text.lines().filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned())).collect();
    found.sort();
    found
}

/// What of it is the manager's, without health.
fn servers() -> Vec<String> {
    let ours = |entry: &String| entry.ends_with(":8085") || entry.ends_with(":8086");
    listeners().into_iter().filter(ours).collect()
}

#[test]
fn k10_bound_as_soon_as_there_is_an_address() {
    if !own_network("an address that comes late") {
        return;
    }
    let manager = Manager::with_proxy(&[LONG_WAIT]);
    manager.says("Waiting before retry");
    assert_eq!(get(at("127.0.0.1", 8081), "/healthz"), Some((200, "ok".to_owned())));
    let (code, text) = get(at("127.0.0.1", 8081), "/readyz?verbose").unwrap();
    let reason = "[-]wireguard failed: the WireGuard interface netmaker cannot be used: \
                  there is no such interface\n";
    assert!(code == 500 && text.contains(reason), "{text}");
    assert_eq!(servers(), [""; 0]);
    netmaker();
    until("up without an address", || {
        let text = get(at("127.0.0.1", 8081), "/readyz/wireguard").unwrap().1;
        text.contains("it is up and has no address") || text.contains("only a link-local address")
    });
    assert_eq!(servers(), [""; 0]);
    ip("addr add 10.90.0.1/24 dev netmaker");
    let begin = Instant::now();
    until("the proxy listens", || open(at("10.90.0.1", 8085)));
    let took = begin.elapsed();
    println!("from the address to the first connection: {took:?}");
    assert!(took < SOON, "{took:?}");
    manager.ready(true);
    // There, and nowhere else: not on the loopback, not on the other addresses.
    assert_eq!(servers(), ["10.90.0.1:8085", "10.90.0.1:8086"]);
    assert!(!open(at("127.0.0.1", 8085)) && !open(at("::1", 8085)));
}

/// The lines that the ordering guide has people grep, in its order and with its fields.
#[test]
fn the_lines_of_the_guide() {
    if !own_network("the lines of the guide") {
        return;
    }
    let manager = Manager::with_proxy(&["WIREGUARD_RETRY_BASE_DELAY_SECONDS=1"]);
    manager.says("{\"attempt\":2,\"maxRetries\":10}");
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    manager.says("\"port\":\"8086\"");
    let log = manager.log();
    let mut rest = log.as_str();
    for words in [
        "Searching for WireGuard interfaces with retry logic\t{\"interfaces\":\"netmaker\"}",
        "Attempting to find WireGuard interface\t{\"attempt\":1,\"maxRetries\":10}",
        "Interface not found yet\t{\"interface\":\"netmaker\",\"attempt\":1,\
         \"error\":\"there is no such interface\"}",
        "Waiting before retry\t{\"delay\":\"1s\",\"nextAttempt\":2}",
        "Attempting to find WireGuard interface\t{\"attempt\":2,\"maxRetries\":10}",
        "Found WireGuard interface\t{\"interface\":\"netmaker\",\"attempt\":2}",
        "Found IP address\t{\"interface\":\"netmaker\",\"ip\":\"10.90.0.1\",\"attempt\":2}",
        "Binding proxy to specific IP\t{\"ip\":\"10.90.0.1\",\"port\":\"8085\"}",
    ] {
        let at =
            rest.find(words).unwrap_or_else(|| panic!("{words:?} is not in its place:\n{log}"));
        rest = &rest[at + words.len()..];
    }
    // Time, level, logger, message, fields: with tabs between.
    let line = log.lines().find(|line| line.contains("Searching")).unwrap();
    let columns: Vec<&str> = line.split('\t').collect();
    let [time, level, logger, ..] = columns[..] else { panic!("{line}") };
    assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
    assert_eq!((level, logger, columns.len()), ("INFO", "manager.wireguard", 5), "{line}");
}

/// When attempts are spent it goes on watching, and is not ready.
#[test]
fn s7_never_and_then_after_all() {
    if !own_network("an interface that never comes") {
        return;
    }
    let manager = Manager::with_proxy(&[
        "WIREGUARD_RETRY_MAX_ATTEMPTS=2",
        "WIREGUARD_RETRY_BASE_DELAY_SECONDS=1",
    ]);
    manager.says("WireGuard interface not found");
    manager.ready(false);
    assert_eq!(manager.said("Attempting to find"), 2);
    assert_eq!(servers(), [""; 0]);
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let took = until("the proxy listens", || open(at("10.90.0.1", 8085)));
    assert!(took < SOON, "{took:?}");
    manager.ready(true);
}

#[test]
fn p7_it_goes_comes_back_and_changes_its_address() {
    if !own_network("an interface that flaps") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let manager = Manager::with_proxy(&[LONG_WAIT]);
    manager.ready(true);
    let pid = manager.pid();
    for round in 0..3 {
        ip("link del netmaker");
        until("the listeners are closed", || servers().is_empty());
        manager.ready(false);
        netmaker();
        ip(&format!("addr add 10.90.{round}.1/24 dev netmaker"));
        let took = until("the proxy listens", || open(at(&format!("10.90.{round}.1"), 8085)));
        assert!(took < SOON, "{took:?}");
        manager.ready(true);
    }
    // Another address beside, then only that one.
    ip("addr add 10.91.0.1/24 dev netmaker");
    until("both", || servers().len() == 4);
    ip("addr del 10.90.2.1/24 dev netmaker");
    until("only the new one", || servers() == ["10.91.0.1:8085", "10.91.0.1:8086"]);
    manager.ready(true);
    // Down and up again, many times in a moment.
    for _ in 0..20 {
        ip("link set netmaker down");
        ip("link set netmaker up");
    }
    until("it listens again", || open(at("10.91.0.1", 8085)));
    manager.ready(true);
    assert_eq!(servers(), ["10.91.0.1:8085", "10.91.0.1:8086"]);
    assert_eq!(manager.pid(), pid);
}

/// The manager's connections that are open.
fn connections() -> usize {
    let mut command = Command::new("ss");
    let output = command.args(["-Htn", "state", "established", "sport", "=", ":8085"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().lines().count()
}

/// An interface that is made anew takes nobody's connection; one that is gone for good takes all of them.
#[test]
fn p7_connections_of_an_address_that_goes() {
    if !own_network("connections of an address that goes") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let manager = Manager::with_proxy(&[LONG_WAIT]);
    manager.ready(true);
    let address = at("10.90.0.1", 8085);
    let mut client = TcpStream::connect(address).unwrap();
    let mut asks = || {
        write!(client, "GET /version HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let (mut text, mut part) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"\r\n\r\nok") {
            let count = client.read(&mut part).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&part[..count]);
        }
        assert!(text.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&text));
    };
    asks();
    assert_eq!(connections(), 1);
    for _ in 0..2 {
        ip("link del netmaker");
        until("the listener is closed", || servers().is_empty());
        netmaker();
        ip("addr add 10.90.0.1/24 dev netmaker");
        until("it listens again", || servers() == ["10.90.0.1:8085", "10.90.0.1:8086"]);
        asks();
    }
    ip("link del netmaker");
    until("the listener is closed", || servers().is_empty());
    assert_eq!(connections(), 1, "it may come back");
    let took = until("the connection is closed", || connections() == 0);
    assert!(took < Duration::from_secs(3) + SOON, "{took:?}");
    // Whoever comes by the next address has nothing to do with it.
    netmaker();
    ip("addr add 10.91.0.1/24 dev netmaker");
    until("it listens there", || open(at("10.91.0.1", 8085)));
}

#[test]
fn p7_ipv6_beside_ipv4_and_alone() {
    if !own_network("IPv6") {
        return;
    }
    netmaker();
    ip("addr add fd90::1/64 dev netmaker nodad");
    let manager = Manager::with_proxy(&[LONG_WAIT]);
    manager.ready(true);
    assert_eq!(servers(), ["[fd90::1]:8085", "[fd90::1]:8086"]);
    assert!(open(at("fd90::1", 8085)));
    ip("addr add 10.90.0.1/24 dev netmaker");
    until("both families", || servers().len() == 4);
    let (code, text) = get(at("fd90::1", 8086), "/health").unwrap();
    let expected = "{\"api\":\"netmaker-k8s-api\",\"status\":\"healthy\"}";
    assert_eq!((code, text.as_str()), (200, expected));
}

/// The user's own choice, even of every address; then no interface is looked for.
#[test]
fn addresses_that_were_given() {
    if !own_network("PROXY_BIND_IP") {
        return;
    }
    let manager = Manager::with_proxy(&["PROXY_BIND_IP=127.0.0.1", "API_BIND_IP=0.0.0.0"]);
    manager.ready(true);
    assert_eq!(servers(), ["0.0.0.0:8086", "127.0.0.1:8085"]);
    assert!(manager.says("listens on every address").contains("WARN"));
    assert_eq!(manager.said("Searching for WireGuard"), 0);
    drop(manager);
    // One of the two: the other follows the interface.
    let manager = Manager::with_proxy(&["API_BIND_IP=127.0.0.1", "IFACE_NAME=wg7"]);
    until("the API server", || servers() == ["127.0.0.1:8086"]);
    let (code, text) = get(at("127.0.0.1", 8086), "/ready").unwrap();
    let expected = "{\"api\":\"netmaker-k8s-api\",\"failing\":\"proxy, wireguard\",\
                    \"status\":\"not ready\"}";
    until("the API server answers for itself", || {
        get(at("127.0.0.1", 8086), "/ready").is_some_and(|(_, text)| text == expected)
    });
    assert_eq!(code, 503, "{text}");
    manager.says("{\"interfaces\":\"wg7\"}");
}

/// A port that is taken is had as soon as it is free, without a restart.
#[test]
fn a_port_that_is_taken() {
    if !own_network("a port that is taken") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let taken = std::net::TcpListener::bind("10.90.0.1:8085").unwrap();
    let manager = Manager::with_proxy(&[]);
    manager.says("Cannot listen");
    let text = get(at("127.0.0.1", 8081), "/readyz?verbose").unwrap().1;
    let words = "[-]proxy failed: the proxy does not listen: cannot listen on 10.90.0.1:8085: ";
    assert!(text.contains(words) && text.contains("[+]wireguard ok"), "{text}");
    drop(taken);
    manager.ready(true);
    drop(manager);
    // An address that was given too.
    let taken = std::net::TcpListener::bind("127.0.0.1:8085").unwrap();
    let manager = Manager::with_proxy(&["PROXY_BIND_IP=127.0.0.1"]);
    manager.says("Cannot listen");
    drop(taken);
    manager.ready(true);
}

/// A machine takes what is sent to its addresses by any interface; whoever wants peers only says so.
#[test]
fn only_what_comes_in_by_the_interface() {
    if !own_network("PROXY_PEERS_ONLY") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    // A peer, with the interface's other end; and a neighbour on another network, with a route to us.
    let [peer, neighbour] = [Elsewhere::new(), Elsewhere::new()];
    ip(&format!("link set other netns {}", peer.pid()));
    peer.ip("addr add 10.90.0.2/24 dev other");
    peer.ip("link set other up");
    ip("link add lan type veth peer name far");
    ip(&format!("link set far netns {}", neighbour.pid()));
    ip("addr add 192.0.2.1/24 dev lan");
    ip("link set lan up");
    neighbour.ip("addr add 192.0.2.2/24 dev far");
    neighbour.ip("link set far up");
    neighbour.ip("route add 10.90.0.0/24 via 192.0.2.1");
    let both = |elsewhere: &Elsewhere| ["8085", "8086"].map(|port| elsewhere.reaches(port));
    let manager = Manager::with_proxy(&[]);
    manager.ready(true);
    assert_eq!((both(&peer), both(&neighbour)), ([true; 2], [true; 2]));
    drop(manager);
    let manager = Manager::with_proxy(&["PROXY_PEERS_ONLY=true"]);
    manager.ready(true);
    assert_eq!((both(&peer), both(&neighbour)), ([true; 2], [false; 2]));
    // To the kernel, what a machine sends to itself comes in by the interface that has the address.
    assert!(open(at("10.90.0.1", 8085)));
}

/// A network of somebody else, for as long as this lives.
struct Elsewhere(std::process::Child);

impl Elsewhere {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo there; exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut there = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut there).unwrap();
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn inside(&self, words: &[&str]) -> bool {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n"]).args(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn ip(&self, args: &str) {
        let words: Vec<&str> = std::iter::once("ip").chain(args.split(' ')).collect();
        assert!(self.inside(&words), "{args}");
    }

    fn reaches(&self, port: &str) -> bool {
        let target = format!("tcp://10.90.0.1:{port}");
        self.inside(&[HOLDFAST, "wait", "--once", "--timeout", "2s", &target])
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
