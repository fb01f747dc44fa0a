//! What the machine looks like to a pod: the node of a cluster of one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// The node a pod runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `spec.nodeName` of its pods.
    pub name: String,
    /// Its labels (`holdfast.yaml`).
    pub labels: BTreeMap<String, String>,
    /// Its addresses, the preferred family first; `status.hostIP` is the first.
    pub ips: Vec<IpAddr>,
    /// What a container without limits could use.
    pub allocatable: Allocatable,
}

impl Node {
    /// This machine under a name (its own host name if `None`), with the labels every node has and
    /// `labels` on top.
    pub fn of_this_machine(
        name: Option<String>,
        labels: BTreeMap<String, String>,
        state_dir: &Path,
    ) -> Self {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = match host_name.trim() {
            "" => "localhost",
            name => name,
        };
        let name = name.unwrap_or_else(|| host_name.to_lowercase());
        let arch = crate::image::architecture();
        let mut all = BTreeMap::from([
            ("kubernetes.io/arch".to_owned(), arch.to_owned()),
            ("kubernetes.io/hostname".to_owned(), name.clone()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ]);
        all.extend(labels);
        let allocatable = Allocatable::of_this_machine(state_dir);
        Self { name, labels: all, ips: own_addresses(), allocatable }
    }
}

/// The addresses that lead out of this machine, IPv4 first; loopback if there is none.
fn own_addresses() -> Vec<IpAddr> {
    // Documentation addresses: connecting a UDP socket sends nothing, it only asks for the route.
    let outside: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    let address = |outside: &IpAddr| {
        let any: IpAddr = match outside {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(*outside, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let found: Vec<IpAddr> = outside.iter().filter_map(address).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

/// `status.allocatable` of the node: the limit of a container that has none
/// (kubelet: `defaultPodLimitsForDownwardAPI`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub ephemeral_storage: u64,
}

impl Allocatable {
    /// This machine's: the cores this process may use, all memory, and the size of the file system
    /// that holds `state_dir`. What cannot be found out is 0.
    pub fn of_this_machine(state_dir: &Path) -> Self {
        // The call looks at the affinity mask and at cgroup quotas.
        let cores = std::thread::available_parallelism().map_or(0, |n| n.get() as u64);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let disk = rustix::fs::statvfs(state_dir).map_or(0, |stat| stat.f_blocks * stat.f_frsize);
        Self { cpu_milli: cores * 1000, memory: total_memory(&memory), ephemeral_storage: disk }
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores_and_memory() {
        let found = Allocatable::of_this_machine(Path::new("/"));
        assert!(found.cpu_milli >= 1000 && found.memory > 1 << 20 && found.ephemeral_storage > 0);
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
        assert_eq!(total_memory("nonsense"), 0);
    }

    #[test]
    fn the_node_has_a_name_labels_and_an_address() {
        let own = BTreeMap::from([("kubernetes.io/os".to_owned(), "mine".to_owned())]);
        let node = Node::of_this_machine(None, own, Path::new("/"));
        assert!(!node.name.is_empty() && !node.ips.is_empty());
        assert_eq!(node.labels["kubernetes.io/hostname"], node.name);
        assert_eq!(node.labels["kubernetes.io/os"], "mine");
        let named = Node::of_this_machine(Some("n".into()), BTreeMap::new(), Path::new("/"));
        assert_eq!(
            (named.name.as_str(), named.labels["kubernetes.io/os"].as_str()),
            ("n", "linux")
        );
    }
}
