//! What there is to see of a manager's pod.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::release::{PATIENCE, Release, said};

/// A manager's pod, seen from the host.
pub struct Seen<'a> {
    release: &'a Release,
    pub name: String,
    pub ip: String,
}

impl<'a> Seen<'a> {
    /// The only one.
    pub async fn new(release: &'a Release) -> Self {
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

    /// This one of several, which runs.
    pub fn of(release: &'a Release, name: &str) -> Self {
        let ip = release.pod(name)["status"]["podIP"].as_str().unwrap().to_owned();
        Self { release, name: name.to_owned(), ip }
    }

    /// What its health server says, with or without success.
    pub fn health(&self, path: &str) -> String {
        let server = format!("http://{}:8081", self.ip);
        said(&self.release.kubectl(&["--server", &server, "get", "--raw", path]).output().unwrap())
    }

    pub async fn until(&self, path: &str, words: &str) {
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

    /// What a script prints in the container beside.
    pub fn in_netclient(&self, script: &str) -> String {
        self.release.ask(&["exec", &self.name, "-c", "netclient", "--", "sh", "-c", script])
    }

    /// All that listens in the pod, by the kernel's own table.
    pub fn listening(&self) -> Vec<SocketAddr> {
        let table = self.in_netclient("netstat -ltn");
        let lines = table.lines().filter(|line| line.starts_with("tcp"));
        let places = lines.map(|line| line.split_whitespace().nth(3).unwrap());
        // Of IPv6 without brackets.
        let places = places.map(|place| {
            let (ip, port) = place.rsplit_once(':').unwrap();
            SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
        });
        let mut places: Vec<SocketAddr> = places.collect();
        places.sort_unstable();
        places
    }

    /// What listens in it on the proxy's port.
    pub fn proxies(&self) -> Vec<SocketAddr> {
        self.listening().into_iter().filter(|at| at.port() == 8085).collect()
    }

    /// Every address that the pod has, and of which interface it is.
    pub fn addresses(&self) -> Vec<(IpAddr, String)> {
        let table = self.in_netclient("ip -o addr");
        let lines = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| ["inet", "inet6"].contains(word))?;
            let ip = words[at + 1].split('/').next()?.parse().unwrap();
            Some((ip, words[1].to_owned()))
        });
        lines.collect()
    }

    /// How often its containers were started again.
    pub fn restarts(&self) -> u64 {
        let pod = self.release.pod(&self.name);
        let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
        statuses.iter().map(|status| status["restartCount"].as_u64().unwrap()).sum()
    }
}
