//! `--network pod`, in network namespaces of the tests' own.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{HostPort, PodUid, Runtime, SandboxConfig};
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

/// A program that answers every connection on a port with one line.
fn server(number: u64, port: u16) -> holdfast_runtime::ContainerConfig {
    let script = format!(
        "import socket,sys\n\
         s=socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         s.bind(('0.0.0.0',{port}))\ns.listen()\nprint('up',flush=True)\n\
         while True:\n c,a=s.accept()\n c.sendall(('hello '+a[0]+'\\n').encode()+c.recv(100))\n c.close()\n"
    );
    let mut config = sh(number, "");
    config.argv = vec!["python3".to_owned(), "-c".to_owned(), script];
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
        world.start(server(1, 8080)).await.unwrap();
        world.line("up").await;
        // From the host …
        let answer = ask(SocketAddr::new(first, 8080)).await;
        assert!(answer.starts_with("hello 10.") && answer.ends_with(".1\nping"), "{answer}");
        // … from another pod …
        let client = |number, to: IpAddr| {
            let mut config = sh(number, "");
            let script = format!(
                "import socket\ns=socket.create_connection(('{to}',8080),5)\ns.sendall(b'x')\nprint(s.recv(100).decode())"
            );
            config.argv = vec!["python3".to_owned(), "-c".to_owned(), script];
            config
        };
        let mut there = client(2, first);
        there.pod = PodUid::from("second");
        let ended = world.run(there).await;
        assert!(ended.stdout.starts_with(&format!("hello {second}\n")), "{ended:?}");
        // … and from itself, by the loopback too.
        let ended = world.run(client(3, "127.0.0.1".parse().unwrap())).await;
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
        world.start(server(1, 8080)).await.unwrap();
        world.line("up").await;
        for _ in 0..3 {
            let answer = ask("127.0.0.1:9090".parse().unwrap()).await;
            assert!(answer.ends_with("\nping"), "{answer}");
        }
        let mut echo = sh(2, "");
        let script = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('0.0.0.0',53))\n\
                      print('ready',flush=True)\nwhile True:\n d,a=s.recvfrom(100)\n s.sendto(d[::-1],a)\n";
        echo.argv = vec!["python3".to_owned(), "-c".to_owned(), script.to_owned()];
        world.start(echo).await.unwrap();
        world.line("ready").await;
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
        world.start(server(1, 8080)).await.unwrap();
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
