//! The interface comes late, never, goes, comes back, and changes its address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::release::{PATIENCE, Release, said};
use crate::place::possible;

/// A manager's pod, seen from the host.
struct Seen<'a> {
    release: &'a Release,
    name: String,
    ip: String,
}

impl<'a> Seen<'a> {
    async fn new(release: &'a Release) -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            if let [name] = release.pods().as_slice()
                && let Some(ip) = release.pod(name)["status"]["podIP"].as_str()
            {
                return Self { release, name: name.clone(), ip: ip.to_owned() };
            }
            assert!(Instant::now() < end, "{}", release.trouble());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What its health server says, with or without success.
    fn health(&self, path: &str) -> String {
        let server = format!("http://{}:8081", self.ip);
        said(&self.release.kubectl(&["--server", &server, "get", "--raw", path]).output().unwrap())
    }

    async fn until(&self, path: &str, words: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.health(path);
            if said.contains(words) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{path} says {said:?}, not {words:?}: {}",
                self.release.trouble()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn in_netclient(&self, script: &str) -> String {
        self.release.ask(&["exec", &self.name, "-c", "netclient", "--", "sh", "-c", script])
    }

    /// What listens in the pod on the proxy's port, of all addresses.
    fn listening(&self) -> Vec<SocketAddr> {
        let table = self.in_netclient("netstat -ltn");
        let local = table.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse().ok());
        let all: Vec<SocketAddr> = local.collect();
        all.into_iter().filter(|at| at.port() == 8085).collect()
    }

    fn restarts(&self) -> u64 {
        let pod = self.release.pod(&self.name);
        let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
        statuses.iter().map(|status| status["restartCount"].as_u64().unwrap()).sum()
    }
}

const LATE: &str = "netclient.env[0].name=JOIN_AFTER";

/// Nothing but the manager itself orders the two: alive while it waits, ready when it serves, and it follows
/// the interface from then on.
#[tokio::test]
async fn the_manager_follows_the_interface() {
    if !possible() {
        return;
    }
    let settings = [LATE, "netclient.env[0].value=12"];
    let release = Release::install("follows", "side-by-side", &settings).await;
    let pod = Seen::new(&release).await;
    pod.until("/healthz", "ok").await;
    pod.until("/readyz", "[-]wireguard failed").await;
    assert_eq!(pod.listening(), []);
    release.ready(1).await;
    let [first] = pod.listening()[..] else { panic!("{:?}", pod.listening()) };
    assert!(first.ip().to_string().starts_with("10.101."), "{first}");
    let log = release.ask(&["logs", &pod.name, "-c", "manager"]);
    for line in [
        "Searching for WireGuard interfaces with retry logic",
        "Attempting to find WireGuard interface",
        "Interface not found yet",
        "Waiting before retry",
        "Found WireGuard interface",
        "Found IP address",
        "Binding proxy to specific IP",
    ] {
        assert!(log.contains(line), "no {line:?} in:\n{log}");
    }

    pod.in_netclient("netclient down");
    pod.until("/readyz", "[-]wireguard failed").await;
    assert_eq!(pod.listening(), []);
    assert_eq!(pod.health("/healthz"), "ok");
    pod.in_netclient("ADDRESS=10.101.77.7/16 netclient up");
    pod.until("/readyz", "ok").await;
    assert_eq!(pod.listening(), ["10.101.77.7:8085".parse().unwrap()]);
    // With the first address of a network the kernel takes the others too.
    pod.in_netclient(
        "ip addr del 10.101.77.7/16 dev netmaker; ip addr add 10.101.77.8/16 dev netmaker",
    );
    let end = Instant::now() + PATIENCE;
    while pod.listening() != ["10.101.77.8:8085".parse().unwrap()] {
        assert!(Instant::now() < end, "{:?}: {}", pod.listening(), release.trouble());
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
        LATE,
        "netclient.env[0].value=never",
        "manager.retry.maxAttempts=2",
        "manager.retry.baseDelaySeconds=1",
        "probes.startup.failureThreshold=1000",
    ];
    let release = Release::install("never", "side-by-side", &settings).await;
    let pod = Seen::new(&release).await;
    pod.until("/readyz", "[-]wireguard failed").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((pod.listening(), pod.restarts()), (vec![], 0));
    assert_eq!(pod.health("/healthz"), "ok");
    // And when it comes after all, it is bound at once.
    pod.in_netclient("netclient up");
    release.ready(1).await;
    assert_eq!(pod.listening().len(), 1);
}

/// netclient says on a volume that it has joined; the manager's program starts then, on ports of its own.
#[tokio::test]
async fn a_status_volume_orders_them_too() {
    if !possible() {
        return;
    }
    let settings = [LATE, "netclient.env[0].value=6"];
    let release = Release::install("volume", "status-volume", &settings).await;
    release.ready(1).await;
    let log = release.ask(&["logs", "deployment/holdfast", "-c", "manager"]);
    assert!(
        log.contains("Found WireGuard interface") && !log.contains("Waiting before retry"),
        "{log}"
    );
}
