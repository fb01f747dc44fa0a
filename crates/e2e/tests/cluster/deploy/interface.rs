//! The interface comes late, never, goes, comes back, and changes its address.

use std::time::{Duration, Instant};

use super::guide;
use super::release::{PATIENCE, Release, said};
use super::seen::Seen;
use crate::place::possible;

/// Nothing but the manager itself orders the two: alive while it waits, ready when it serves, and it follows
/// the interface from then on.
#[tokio::test]
async fn the_manager_follows_the_interface() {
    if !possible() {
        return;
    }
    let release = Release::apply("follows", "side-by-side", &[("JOIN_AFTER", "60")]).await;
    let pod = Seen::new(&release).await;
    pod.until("/healthz", "ok").await;
    pod.until("/readyz", "[-]wireguard failed").await;
    assert_eq!(pod.proxies(), []);
    let health = ["exec", &pod.name, "-c", "manager", "--", "/holdfast", "wait", "--health"];
    let health = said(&release.kubectl(&health).output().unwrap());
    assert!(
        health.contains("the WireGuard interface netmaker cannot be used: there is no"),
        "{health}"
    );
    release.ready(1).await;
    let [first] = pod.proxies()[..] else { panic!("{:?}", pod.proxies()) };
    assert!(first.ip().to_string().starts_with("10.101."), "{first}");
    assert_eq!(pod.restarts(), 0);
    // Why it took so long is in the kubelet's events.
    guide::shows(&release, "describe pods", &["Startup probe failed"]);
    // What the ordering guide says that one sees.
    let lines = [
        "Searching for WireGuard interfaces with retry logic",
        "Attempting to find WireGuard interface",
        "Interface not found yet",
        "Waiting before retry\t{\"delay\":\"2s\",\"nextAttempt\":2}",
        "Waiting before retry\t{\"delay\":\"12s\",\"nextAttempt\":7}",
        "Found WireGuard interface",
        "Found IP address",
        "Binding proxy to specific IP",
    ];
    guide::shows(&release, "grep -i", &lines);

    pod.in_netclient("netclient down");
    pod.until("/readyz", "[-]wireguard failed").await;
    assert_eq!(pod.proxies(), []);
    assert_eq!(pod.health("/healthz"), "ok");
    pod.in_netclient("ADDRESS=10.101.77.7/16 netclient up");
    pod.until("/readyz", "ok").await;
    assert_eq!(pod.proxies(), ["10.101.77.7:8085".parse().unwrap()]);
    // With the first address of a network the kernel takes the others too.
    pod.in_netclient(
        "ip addr del 10.101.77.7/16 dev netmaker; ip addr add 10.101.77.8/16 dev netmaker",
    );
    let end = Instant::now() + PATIENCE;
    while pod.proxies() != ["10.101.77.8:8085".parse().unwrap()] {
        assert!(Instant::now() < end, "{:?}: {}", pod.proxies(), release.trouble());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(pod.restarts(), 0);
}

/// Without an interface there is nothing to be reached at, for ever; it says so, and lives.
#[tokio::test]
async fn an_interface_that_never_comes_is_waited_for() {
    if !possible() {
        return;
    }
    let settings = [
        "netclient.env[0].name=JOIN_AFTER",
        "netclient.env[0].value=never",
        "manager.retry.maxAttempts=2",
        "manager.retry.baseDelaySeconds=1",
        "probes.startup.failureThreshold=1000",
    ];
    let release = Release::install("never", "side-by-side", &settings).await;
    let pod = Seen::new(&release).await;
    pod.until("/readyz", "[-]wireguard failed").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((pod.proxies(), pod.restarts()), (vec![], 0));
    assert_eq!(pod.health("/healthz"), "ok");
    // And when it comes after all, it is bound at once.
    pod.in_netclient("netclient up");
    release.ready(1).await;
    assert_eq!(pod.proxies().len(), 1);
}

/// netclient says on a volume that it has joined; the manager's program starts then, on ports of its own.
#[tokio::test]
async fn a_status_volume_orders_them_too() {
    if !possible() {
        return;
    }
    let release = Release::apply("volume", "status-volume", &[("JOIN_AFTER", "6")]).await;
    release.ready(1).await;
    let log = release.ask(&["logs", "deployment/holdfast", "-c", "manager"]);
    assert!(
        log.contains("Found WireGuard interface") && !log.contains("Waiting before retry"),
        "{log}"
    );
}
