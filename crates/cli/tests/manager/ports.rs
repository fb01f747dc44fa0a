//! Replicas that share the network of one node.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;

use super::process::{Manager, get};
use super::{ip, netmaker, own_network, until};

/// 32-bit FNV-1a, written down once more.
fn offset(name: &str) -> u64 {
    let mut hash: u32 = 2_166_136_261;
    for byte in name.bytes() {
        hash ^= u32::from(byte);
        hash = hash.wrapping_mul(16_777_619);
    }
    u64::from(hash % 1000)
}

fn ports(manager: &Manager) -> [u64; 3] {
    let file = manager.status_file();
    until("the status", || file.exists());
    let status: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    ["health", "proxy", "api"].map(|name| status["ports"][name].as_u64().unwrap())
}

fn replica(name: &str) -> Manager {
    let pod = format!("POD_NAME={name}");
    Manager::with_proxy(&[&pod, "HOST_NETWORK=true", "ENABLE_LEADER_ELECTION=false"])
}

#[test]
fn three_replicas_on_one_node() {
    if !own_network("three replicas") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    // Two whose hashes differ by as much as the bases do, so that the sums are the same: searched for.
    let name = |n: u32| format!("manager-6d5f-{n}");
    let (a, b) = (0..2000)
        .flat_map(|a| (0..40).map(move |b| (a, b)))
        .find(|(a, b)| offset(&name(*a)) == offset(&name(*b)) + 4)
        .unwrap();
    let replicas = [name(a), name(b), name(a)].map(|name| (offset(&name), replica(&name)));
    let mut all = BTreeSet::new();
    for (offset, manager) in &replicas {
        let found = ports(manager);
        for (port, base) in found.iter().zip([8081, 8085, 8086]) {
            assert!((base + offset..base + offset + 10).contains(port), "{found:?}: {offset}");
        }
        all.extend(found);
        manager.says("Ports of this replica");
        let at = |ip: [u8; 4], port: u64| SocketAddr::from((ip, u16::try_from(port).unwrap()));
        until("ready", || {
            get(at([127, 0, 0, 1], found[0]), "/readyz").is_some_and(|(code, _)| code == 200)
        });
        assert_eq!(get(at([10, 90, 0, 1], found[2]), "/ready").unwrap().0, 200);
        // Held everywhere, and listening only there.
        assert!(TcpListener::bind(at([10, 90, 0, 1], found[1])).is_err());
        assert_eq!(get(at([127, 0, 0, 1], found[1]), "/"), None);
    }
    assert_eq!(all.len(), 9, "{all:?}");
}

/// A port is ours from the start, before there is an interface to listen on.
#[test]
fn ports_are_held_before_there_is_an_interface() {
    if !own_network("held ports") {
        return;
    }
    let (one, two) = (replica("same-name"), replica("same-name"));
    let (one_has, two_has) = (ports(&one), ports(&two));
    let both: BTreeSet<u64> = one_has.into_iter().chain(two_has).collect();
    assert_eq!(both.len(), 6, "{both:?}");
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    for (manager, has) in [(&one, one_has), (&two, two_has)] {
        manager.says("Binding proxy to specific IP");
        let api = SocketAddr::from(([10, 90, 0, 1], u16::try_from(has[2]).unwrap()));
        until("it answers", || get(api, "/health").is_some());
    }
}

#[test]
fn an_explicit_port_wins_and_is_not_given_away() {
    if !own_network("explicit ports") {
        return;
    }
    let name = "some-pod";
    // The port that the hash would give to the proxy is the API server's, explicitly.
    let api = format!("API_PORT={}", 8085 + offset(name));
    let pod = format!("POD_NAME={name}");
    let words =
        [&pod, "HOST_NETWORK=true", "ENABLE_LEADER_ELECTION=false", "HEALTH_PROBE_PORT=7001", &api];
    let manager = Manager::with_proxy(&words);
    assert_eq!(ports(&manager), [7001, 8085 + offset(name) + 1, 8085 + offset(name)]);
}

/// Health is asked for by a kubelet that knows one port only: taken is an error, not another port.
#[test]
fn a_health_port_that_is_taken_is_an_error() {
    if !own_network("health port") {
        return;
    }
    let _taken = TcpListener::bind("0.0.0.0:8081").unwrap();
    let mut manager = Manager::start(&[]);
    let (status, _) = manager.ends();
    assert_eq!(status.code(), Some(1));
    manager.says("cannot serve health on [::]:8081");
}
