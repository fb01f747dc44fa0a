//! What follows from the facts, a sentence each.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::facts::{Cgroups, Facts, Port};

/// What the machine is to be used for; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Pods as processes: `holdfast run` and `holdfast agent`.
    Pods,
    /// A WireGuard interface of one's own, and members that find each other.
    Mesh,
    /// A kubelet.
    Kubernetes,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// It goes without, but worse.
    Worse,
    /// It does not go without.
    Missing,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// For whom it matters.
    pub purpose: Purpose,
    /// See [`Level`].
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

/// The ports a Kubernetes node and a mesh member listen on.
pub const TCP: [u16; 3] = [6443, 7946, 10250];
/// And by UDP.
pub const UDP: [u16; 2] = [7946, 51820];

/// k3s' default ranges of pods and services.
const RANGES: [(&str, Ipv4Addr, u8); 2] =
    [("pods", Ipv4Addr::new(10, 42, 0, 0), 16), ("services", Ipv4Addr::new(10, 43, 0, 0), 16)];

/// Judges what a purpose needs, everything that it includes first.
#[must_use]
pub fn judge(facts: &Facts, purpose: Purpose) -> Vec<Finding> {
    let mut all = vec![root(facts), proc(facts), cgroups(facts, purpose)];
    all.extend([
        wireguard(facts),
        port(facts, "gossip port", 7946),
        port(facts, "WireGuard port", 51820),
    ]);
    all.extend([kmsg(facts), overlay(facts), bridge(facts), forwarding(facts), k3s(facts)]);
    all.extend([
        port(facts, "API server port", 6443),
        port(facts, "kubelet port", 10250),
        ranges(facts),
    ]);
    all.retain(|finding| finding.purpose <= purpose);
    all
}

fn good(what: &'static str, purpose: Purpose, found: impl Into<String>) -> Finding {
    Finding { what, purpose, level: Level::Good, found: found.into(), advice: None }
}

fn bad(
    (what, purpose, level): (&'static str, Purpose, Level),
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding { what, purpose, level, found: found.into(), advice: Some(advice.into()) }
}

fn root(facts: &Facts) -> Finding {
    let what = "user";
    match (facts.uid, facts.in_user_namespace) {
        (0, false) => good(what, Purpose::Pods, "root"),
        (0, true) => bad(
            (what, Purpose::Pods, Level::Worse),
            "root of a user namespace",
            "devices and mounts of the machine are out of reach; k3s needs KubeletInUserNamespace here",
        ),
        (uid, _) => bad(
            (what, Purpose::Pods, Level::Worse),
            format!("user {uid}"),
            "pods run rootless: no users of their own, no limits, no network of their own; run as root for these",
        ),
    }
}

fn proc(facts: &Facts) -> Finding {
    if facts.has_proc {
        return good("/proc", Purpose::Pods, "mounted");
    }
    bad(
        ("/proc", Purpose::Pods, Level::Missing),
        "not mounted",
        "start the agent with --mount-missing, or: mount -t proc proc /proc",
    )
}

fn cgroups(facts: &Facts, purpose: Purpose) -> Finding {
    let what = "cgroups";
    let needed = ["cpu", "memory", "pids"];
    match &facts.cgroups {
        Cgroups::Two(all) => {
            let lacking: Vec<&str> = needed.into_iter().filter(|c| !all.contains(*c)).collect();
            if lacking.is_empty() {
                return good(what, Purpose::Pods, "version 2 with cpu, memory and pids");
            }
            bad(
                (what, Purpose::Pods, Level::Worse),
                format!("version 2 without {}", lacking.join(", ")),
                "limits of these are not kept; in a container, give it its own cgroup namespace with delegated controllers",
            )
        }
        Cgroups::One => bad(
            (what, Purpose::Pods, Level::Worse),
            "version 1",
            "limits of pods are not kept; a kubelet from 1.35 on starts only with failCgroupV1: false",
        ),
        Cgroups::Missing => {
            let level = if purpose == Purpose::Kubernetes { Level::Missing } else { Level::Worse };
            bad(
                (what, Purpose::Pods, level),
                "not mounted",
                "start the agent with --mount-missing, or: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )
        }
    }
}

fn wireguard(facts: &Facts) -> Finding {
    let what = "WireGuard";
    match (&facts.tun, facts.has_kernel_wireguard) {
        (_, true) => good(what, Purpose::Mesh, "in the kernel"),
        (Ok(()), false) => {
            good(what, Purpose::Mesh, "not in the kernel; in a process, by /dev/net/tun")
        }
        (Err(why), false) => bad(
            (what, Purpose::Mesh, Level::Missing),
            format!("not in the kernel, and no /dev/net/tun: {why}"),
            "modprobe wireguard, or modprobe tun; in a container, pass the device /dev/net/tun and the right NET_ADMIN",
        ),
    }
}

fn port(facts: &Facts, whose: &'static str, number: u16) -> Finding {
    let purpose = if matches!(number, 6443 | 10250) { Purpose::Kubernetes } else { Purpose::Mesh };
    let of = |list: &[(u16, Port)]| list.iter().find(|(n, _)| *n == number).map(|(_, p)| p.clone());
    let both = [("tcp", of(&facts.tcp)), ("udp", of(&facts.udp))];
    for (kind, port) in &both {
        match port {
            Some(Port::Taken) => {
                return bad(
                    (whose, purpose, Level::Missing),
                    format!("{number} ({kind}) is taken"),
                    format!(
                        "ss -lnp 'sport = {number}' says by whom: end it, or choose another port"
                    ),
                );
            }
            Some(Port::Unknown(why)) => {
                return bad(
                    (whose, purpose, Level::Worse),
                    format!("{number} ({kind}) cannot be tried: {why}"),
                    "try again as root",
                );
            }
            Some(Port::Free) | None => {}
        }
    }
    good(whose, purpose, format!("{number} is free"))
}

fn kmsg(facts: &Facts) -> Finding {
    let what = "/dev/kmsg";
    match &facts.kmsg {
        Ok(()) => good(what, Purpose::Kubernetes, "readable"),
        Err(why) => bad(
            (what, Purpose::Kubernetes, Level::Missing),
            why.clone(),
            "the kubelet does not start without: pass the device into the container, or ln -s /dev/console /dev/kmsg; a \
             server without a kubelet goes by --disable-agent",
        ),
    }
}

fn overlay(facts: &Facts) -> Finding {
    let what = "overlayfs";
    if facts.file_systems.contains("overlay") {
        return good(what, Purpose::Kubernetes, "in the kernel");
    }
    match (facts.has_fuse, facts.program("fuse-overlayfs")) {
        (true, Some(_)) => bad(
            (what, Purpose::Kubernetes, Level::Worse),
            "not in the kernel; fuse-overlayfs is there",
            "modprobe overlay is faster; without it, k3s takes --snapshotter fuse-overlayfs",
        ),
        _ => bad(
            (what, Purpose::Kubernetes, Level::Worse),
            "neither in the kernel nor as fuse-overlayfs",
            "modprobe overlay, or install fuse-overlayfs; without both, k3s takes --snapshotter native, which copies \
             every layer",
        ),
    }
}

fn bridge(facts: &Facts) -> Finding {
    let what = "br_netfilter";
    match facts.bridge_filter {
        Some(true) => good(what, Purpose::Kubernetes, "packets of bridges pass the firewall"),
        Some(false) => bad(
            (what, Purpose::Kubernetes, Level::Worse),
            "packets of bridges do not pass the firewall",
            "sysctl -w net.bridge.bridge-nf-call-iptables=1; else pods of one node do not reach each other by Services",
        ),
        None => bad(
            (what, Purpose::Kubernetes, Level::Worse),
            "not loaded",
            "modprobe br_netfilter; else pods of one node do not reach each other by Services",
        ),
    }
}

fn forwarding(facts: &Facts) -> Finding {
    let what = "forwarding";
    if facts.forwards {
        return good(what, Purpose::Kubernetes, "IPv4 is forwarded");
    }
    bad(
        (what, Purpose::Kubernetes, Level::Worse),
        "IPv4 is not forwarded",
        "sysctl -w net.ipv4.ip_forward=1; k3s does that itself where it may",
    )
}

fn k3s(facts: &Facts) -> Finding {
    match facts.program("k3s") {
        Some(path) => good("k3s", Purpose::Kubernetes, path.display().to_string()),
        None => bad(
            ("k3s", Purpose::Kubernetes, Level::Missing),
            "not found in PATH",
            "install it from https://docs.k3s.io, in the version that the cluster has",
        ),
    }
}

fn ranges(facts: &Facts) -> Finding {
    let what = "address ranges";
    let overlaps = |a: Ipv4Addr, a_length: u8, b: Ipv4Addr, b_length: u8| {
        let shift = 32 - u32::from(a_length.min(b_length));
        let cut = |address: Ipv4Addr| u64::from(u32::from(address)) >> shift;
        cut(a) == cut(b)
    };
    for (network, length, interface) in &facts.routes {
        let own = interface.starts_with("cni") || interface.starts_with("flannel");
        let hit = RANGES.iter().find(|(_, range, bits)| overlaps(*network, *length, *range, *bits));
        if let Some((whose, range, bits)) = hit.filter(|_| !own) {
            return bad(
                (what, Purpose::Kubernetes, Level::Missing),
                format!(
                    "{network}/{length} of {interface} is in k3s' range of {whose}, {range}/{bits}"
                ),
                "choose others with k3s' --cluster-cidr and --service-cidr, or another network for the interface",
            );
        }
    }
    good(what, Purpose::Kubernetes, "no route is in k3s' ranges")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn perfect() -> Facts {
        let set = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
        Facts {
            uid: 0,
            in_user_namespace: false,
            has_proc: true,
            cgroups: Cgroups::Two(set(&["cpu", "memory", "pids"])),
            kmsg: Ok(()),
            tun: Ok(()),
            has_kernel_wireguard: true,
            file_systems: set(&["overlay"]),
            has_fuse: true,
            bridge_filter: Some(true),
            forwards: true,
            programs: vec![("k3s", Some("/usr/bin/k3s".into()))],
            tcp: TCP.map(|port| (port, Port::Free)).to_vec(),
            udp: UDP.map(|port| (port, Port::Free)).to_vec(),
            routes: vec![(Ipv4Addr::new(192, 0, 2, 0), 24, "eth0".into())],
        }
    }

    /// What is not good about a machine.
    fn not_good(facts: &Facts) -> Vec<(&'static str, Level)> {
        let all = judge(facts, Purpose::Kubernetes).into_iter();
        all.filter(|f| f.level > Level::Good).map(|f| (f.what, f.level)).collect()
    }

    #[test]
    fn a_perfect_machine_lacks_nothing() {
        assert_eq!(not_good(&perfect()), []);
        assert_eq!(judge(&perfect(), Purpose::Pods).len(), 3);
    }

    #[test]
    fn each_fault_is_found_and_only_that() {
        use Level::{Missing, Worse};
        type Spoil = fn(&mut Facts);
        let faults: [(&str, Level, Spoil); 15] = [
            ("user", Worse, |f| f.uid = 1000),
            ("user", Worse, |f| f.in_user_namespace = true),
            ("/proc", Missing, |f| f.has_proc = false),
            ("cgroups", Worse, |f| f.cgroups = Cgroups::One),
            ("cgroups", Missing, |f| f.cgroups = Cgroups::Missing),
            ("cgroups", Worse, |f| f.cgroups = Cgroups::Two(BTreeSet::new())),
            ("WireGuard", Missing, |f| {
                (f.tun, f.has_kernel_wireguard) = (Err("no".into()), false);
            }),
            ("/dev/kmsg", Missing, |f| f.kmsg = Err("no".into())),
            ("overlayfs", Worse, |f| f.file_systems.clear()),
            ("br_netfilter", Worse, |f| f.bridge_filter = None),
            ("forwarding", Worse, |f| f.forwards = false),
            ("k3s", Missing, |f| f.programs.clear()),
            ("API server port", Missing, |f| f.tcp[0].1 = Port::Taken),
            ("gossip port", Missing, |f| f.udp[0].1 = Port::Taken),
            ("address ranges", Missing, |f| {
                f.routes.push((Ipv4Addr::new(10, 0, 0, 0), 8, "eth1".into()));
            }),
        ];
        for (what, level, spoil) in faults {
            let mut facts = perfect();
            spoil(&mut facts);
            assert_eq!(not_good(&facts), [(what, level)]);
        }
        // What is bad for a kubelet is not always bad for a pod.
        let mut facts = perfect();
        facts.cgroups = Cgroups::Missing;
        assert_eq!(judge(&facts, Purpose::Pods)[2].level, Worse);
        facts.routes = vec![(Ipv4Addr::new(10, 42, 3, 0), 24, "cni0".into())];
        assert!(
            judge(&facts, Purpose::Kubernetes)
                .iter()
                .any(|f| f.what == "address ranges" && f.level == Level::Good)
        );
    }
}
