//! What the machine looks like to a pod: the node of a cluster of one.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
    pub fn of_this_machine(state_dir: &std::path::Path) -> Self {
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
        let found = Allocatable::of_this_machine(std::path::Path::new("/"));
        assert!(found.cpu_milli >= 1000 && found.memory > 1 << 20 && found.ephemeral_storage > 0);
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
        assert_eq!(total_memory("nonsense"), 0);
    }
}
