//! `--network pod`, in network namespaces of the tests' own.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{ContainerConfig, HostPort, PodUid, Runtime, SandboxConfig};
use holdfast_runtime::process::{Isolation, Network};
use nix::sched::CloneFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::harness::{World, pod, sandbox, sh, with};

crate::tests! {
    root:
        pods_have_addresses_and_reach_each_other,
        a_hostnetwork_pod_has_the_hosts,
        host_ports_lead_to_the_pod,
        a_taken_host_port_is_an_error,
        a_moved_port_on_the_hosts_network,
        everything_goes_with_the_end,
        a_subnet_that_is_taken_is_not_used;
    any:
}

/// Goes into a network namespace where the test is the host.
fn own_host() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip(&["link", "set", "lo", "up"]);
}

fn ip(args: &[&str]) -> String {
    let output = std::process::Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pods(test: impl AsyncFnOnce(&mut World)) {
    own_host();
    with(Isolation::Namespaces, Network::Pod, test);
}

fn other(name: &str) -> SandboxConfig {
    SandboxConfig { pod: PodUid::from(name), name: name.to_owned(), ..sandbox() }
}

/// The first argument of this program as one end of a connection.
pub const PEER: &str = "--holdfast-peer";

/// The life of such a peer: what a pod's programs do.
pub fn peer(kind: &str, address: &str) {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    let mut buffer = [0; 100];
    match kind {
        // Says hello to whoever connects, and repeats what it hears.
        "tcp" => {
            let listener = TcpListener::bind(address).unwrap();
            println!("up");
            loop {
                let (mut stream, from) = listener.accept().unwrap();
                let length = stream.read(&mut buffer).unwrap();
                let hello = format!("hello {}\n", from.ip());
                stream.write_all(&[hello.as_bytes(), &buffer[..length]].concat()).unwrap();
            }
        }
        // Sends back what it gets, reversed.
        "udp" => {
            let socket = UdpSocket::bind(address).unwrap();
            println!("up");
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                buffer[..length].reverse();
                socket.send_to(&buffer[..length], from).unwrap();
            }
        }
        // Connects, and prints the answer.
        _ => {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            println!("{answer}");
        }
    }
}

fn peer_in(number: u64, kind: &str, address: &str) -> ContainerConfig {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let mut config = sh(number, "");
    config.argv = [&exe, PEER, kind, address].map(str::to_owned).to_vec();
    config
}

async fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn pods_have_addresses_and_reach_each_other() {
    pods(async |world| {
        let start = Instant::now();
        let first = world.runtime.create_sandbox(&sandbox()).await.unwrap().unwrap();
        println!("a sandbox with a network took {:?}", start.elapsed());
        let second = world.runtime.create_sandbox(&other("second")).await.unwrap().unwrap();
        assert_ne!(first, second);
        world.start(peer_in(1, "tcp", "0.0.0.0:8080")).await.unwrap();
        world.line("up").await;
        // From the host …
        let answer = ask(SocketAddr::new(first, 8080)).await;
        assert!(answer.starts_with("hello 10.") && answer.ends_with(".1\nping"), "{answer}");
        // … from another pod …
        let mut there = peer_in(2, "client", &format!("{first}:8080"));
        there.pod = PodUid::from("second");
        let ended = world.run(there).await;
        assert!(ended.stdout.starts_with(&format!("hello {second}\n")), "{ended:?}");
        // … and from itself, by the loopback too.
        let ended = world.run(peer_in(3, "client", "127.0.0.1:8080")).await;
        assert!(ended.stdout.starts_with("hello 127.0.0.1\n"), "{ended:?}");
        let ended = world.sh(4, "ls /sys/class/net; ip -4 -o addr show eth0 | cut -d' ' -f7; ip route | head -1 | cut -d' ' -f1,2").await;
        let expected = format!("eth0\nlo\n{first}/22\ndefault via\n");
        assert_eq!(ended.stdout, expected, "{ended:?}");
    });
}

fn a_hostnetwork_pod_has_the_hosts() {
    pods(async |world| {
        let mut config = sandbox();
        config.host_network = true;
        assert_eq!(world.runtime.create_sandbox(&config).await.unwrap(), None);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let ended = world.sh(1, "readlink /proc/self/ns/net").await;
        assert_eq!(ended.stdout.trim(), own.to_str().unwrap());
    });
}

fn port(host: u16, container: u16, udp: bool) -> HostPort {
    HostPort { host, container, udp, ip: Some("127.0.0.1".parse().unwrap()) }
}

fn host_ports_lead_to_the_pod() {
    pods(async |world| {
        let mut config = sandbox();
        config.host_ports = vec![port(9090, 8080, false), port(9053, 53, true)];
        world.runtime.create_sandbox(&config).await.unwrap();
        world.start(peer_in(1, "tcp", "0.0.0.0:8080")).await.unwrap();
        world.line("up").await;
        for _ in 0..3 {
            let answer = ask("127.0.0.1:9090".parse().unwrap()).await;
            assert!(answer.ends_with("\nping"), "{answer}");
        }
        world.start(peer_in(2, "udp", "0.0.0.0:53")).await.unwrap();
        world.line("up").await;
        for text in ["abc", "def"] {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect("127.0.0.1:9053").await.unwrap();
            socket.send(text.as_bytes()).await.unwrap();
            let mut buffer = [0; 16];
            let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            let back: String = text.chars().rev().collect();
            assert_eq!(&buffer[..length], back.as_bytes());
        }
        world.runtime.stop_sandbox(&pod(), 0).await;
        assert!(TcpStream::connect("127.0.0.1:9090").await.is_err(), "the port is free again");
    });
}

fn a_taken_host_port_is_an_error() {
    pods(async |world| {
        let taken = TcpListener::bind("127.0.0.1:9090").await.unwrap();
        let mut config = sandbox();
        config.host_ports = vec![port(9091, 1, false), port(9090, 8080, false)];
        let error = world.runtime.create_sandbox(&config).await.unwrap_err();
        assert!(error.starts_with("host port 9090/TCP on 127.0.0.1: Address"), "{error}");
        drop(taken);
        world.runtime.create_sandbox(&config).await.unwrap();
    });
}

fn a_moved_port_on_the_hosts_network() {
    own_host();
    with(Isolation::Namespaces, Network::Host, async |world| {
        let mut config = sandbox();
        config.host_ports = vec![port(9090, 8080, false), port(8081, 8081, false)];
        assert_eq!(world.runtime.create_sandbox(&config).await.unwrap(), None);
        world.start(peer_in(1, "tcp", "0.0.0.0:8080")).await.unwrap();
        world.line("up").await;
        assert!(ask("127.0.0.1:9090".parse().unwrap()).await.ends_with("ping"));
        world.runtime.kill(InstanceId(1), false).await;
        world.ended(1).await;
    });
}

fn everything_goes_with_the_end() {
    pods(async |world| {
        world.runtime.create_sandbox(&sandbox()).await.unwrap();
        assert_eq!(ip(&["-o", "link"]).lines().count(), 2, "the loopback and one end of a pair");
        world.start(sh(1, "sleep 1000")).await.unwrap();
    });
    let start = Instant::now();
    // The kernel takes a namespace down in the background, and tells nobody.
    while ip(&["-o", "link"]).lines().count() > 1 {
        assert!(start.elapsed() < Duration::from_secs(5), "{}", ip(&["-o", "link"]));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_subnet_that_is_taken_is_not_used() {
    own_host();
    // Everything but the last quarter, 10.112.0.0/12, is taken.
    for taken in ["10.64.0.0/11", "10.96.0.0/12"] {
        ip(&["route", "add", taken, "dev", "lo"]);
    }
    with(Isolation::Namespaces, Network::Pod, async |world| {
        let address = world.runtime.create_sandbox(&sandbox()).await.unwrap().unwrap();
        let IpAddr::V4(address) = address else { panic!("{address}") };
        assert!(address.octets()[1] >= 112, "{address}");
    });
}
