//! Interfaces that are followed, in a network namespace of the test's own.
//!
//! These tests need root. Without it they are skipped and say so; with `CI` set they fail instead.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test program")]

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_wireguard::{Interface, follow};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::watch::Receiver;

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a network of its own, on one thread.
fn in_own_network(test: &str, work: impl AsyncFnOnce()) {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{test} needs root, and CI is set");
    if !root {
        println!("{test}: skipped, it needs root");
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    reactor.block_on(work());
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

fn up(addresses: &[&str]) -> Interface {
    Interface::Up(addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect())
}

async fn becomes(
    state: &mut Receiver<Interface>,
    wanted: impl Fn(&Interface) -> bool,
) -> Interface {
    let found = tokio::time::timeout(PATIENCE, state.wait_for(wanted)).await;
    found.expect("it never becomes what it should").unwrap().clone()
}

fn fault(state: &Receiver<Interface>) -> String {
    state.borrow().fault().unwrap_or_default().to_owned()
}

#[test]
fn a_whole_life() {
    in_own_network("a whole life", async || {
        let mut state = follow("wg0").await;
        assert_eq!(fault(&state), "there is no such interface");
        ip("link add wg0 type veth peer name other");
        becomes(&mut state, |now| now.fault() == Some("it is down")).await;
        ip("link set other up");
        // Without a link-local address of its own.
        ip("link set wg0 addrgenmode none");
        ip("link set wg0 up");
        let now = becomes(&mut state, |now| matches!(now, Interface::WithoutAddress(_))).await;
        assert_eq!(now.fault(), Some("it is up and has no address"));
        ip("addr add 169.254.1.1/16 dev wg0");
        let only = "it is up and has only a link-local address";
        becomes(&mut state, |now| now.fault() == Some(only)).await;
        // IPv4 first, whatever came first.
        ip("addr add fd00::1/64 dev wg0 nodad");
        becomes(&mut state, |now| *now == up(&["fd00::1"])).await;
        ip("addr add 10.0.0.1/24 dev wg0");
        becomes(&mut state, |now| *now == up(&["10.0.0.1", "fd00::1"])).await;
        ip("link set wg0 down");
        becomes(&mut state, |now| matches!(now, Interface::Absent(_))).await;
        ip("link set wg0 up");
        becomes(&mut state, |now| *now == up(&["10.0.0.1"])).await;
        // Another one by the same name.
        ip("link del wg0");
        ip("link add wg0 type veth peer name other");
        ip("link set wg0 up");
        ip("addr add 10.0.0.2/24 dev wg0");
        becomes(&mut state, |now| *now == up(&["10.0.0.2"])).await;
        ip("link set wg0 down");
        ip("link set wg0 name wg1");
        becomes(&mut state, |now| now.fault() == Some("there is no such interface")).await;
    });
}

/// An address that the kernel still checks cannot be bound to; that it is done is an event.
#[test]
fn duplicate_address_detection() {
    in_own_network("duplicate address detection", async || {
        ip("link add wg0 type veth peer name other");
        ip("link set other up");
        ip("link set wg0 up");
        let mut state = follow("wg0").await;
        ip("addr add fd00::1/64 dev wg0");
        becomes(&mut state, |now| now.fault().is_some_and(|why| why.contains("tentative"))).await;
        becomes(&mut state, |now| *now == up(&["fd00::1"])).await;
    });
}

/// More events than the kernel keeps for one who does not listen: what is the case at the end is known.
#[test]
fn events_that_the_kernel_had_to_drop() {
    in_own_network("dropped events", async || {
        ip("link add wg0 type veth peer name other");
        ip("link set wg0 up");
        let mut state = follow("wg0").await;
        let mut batch =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut commands = String::new();
        for _ in 0..4000 {
            commands.push_str("addr add 10.0.0.1/24 dev wg0\naddr del 10.0.0.1/24 dev wg0\n");
        }
        commands.push_str("addr add 10.0.0.2/24 dev wg0\n");
        batch.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        // Nobody listens: this thread is the reactor's.
        assert!(batch.wait().unwrap().success());
        becomes(&mut state, |now| *now == up(&["10.0.0.2"])).await;
        ip("addr add 10.0.0.3/24 dev wg0");
        becomes(&mut state, |now| *now == up(&["10.0.0.2", "10.0.0.3"])).await;
    });
}

/// An event, and not the next of some rounds.
#[test]
fn soon() {
    in_own_network("soon", async || {
        ip("link add wg0 type veth peer name other");
        ip("link set wg0 up");
        let mut state = follow("wg0").await;
        let mut took: Vec<Duration> = Vec::new();
        for last in 1..=20 {
            let address = format!("10.0.0.{last}");
            let adding = Command::new("ip")
                .args(["addr", "add", &format!("{address}/24"), "dev", "wg0"])
                .spawn()
                .unwrap();
            let ip: IpAddr = address.parse().unwrap();
            let begin = Instant::now();
            becomes(&mut state, |now| now.addresses().contains(&ip)).await;
            took.push(begin.elapsed());
            assert!(adding.wait_with_output().unwrap().status.success());
        }
        took.sort();
        println!(
            "from starting `ip addr add` to the news: median {:?}, worst {:?}",
            took[10], took[19]
        );
        assert!(took[10] < Duration::from_millis(500), "{took:?}");
    });
}
