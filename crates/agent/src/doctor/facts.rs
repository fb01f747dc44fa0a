//! What can be seen of a machine without changing it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Where to look; tests have their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/`.
    pub root: PathBuf,
    /// Directories with programs.
    pub path: Vec<PathBuf>,
}

impl Places {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { root: "/".into(), path: std::env::split_paths(&path).collect() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }
}

/// How processes can be limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2, with these controllers.
    Two(BTreeSet<String>),
    /// Version 1, alone or with an empty version 2 beside it.
    One,
    /// Nothing is mounted.
    Missing,
}

/// An address that something listens on, or the reason why nobody can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Nobody.
    Free,
    /// Somebody else.
    Taken,
    /// It cannot be known; why.
    Unknown(String),
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The effective user.
    pub uid: u32,
    /// Whether user ids are mapped: root here is somebody else outside.
    pub in_user_namespace: bool,
    /// Whether `/proc` shows processes.
    pub has_proc: bool,
    /// See [`Cgroups`].
    pub cgroups: Cgroups,
    /// Whether `/dev/kmsg` is there and can be opened.
    pub kmsg: Result<(), String>,
    /// Whether `/dev/net/tun` is there and can be opened.
    pub tun: Result<(), String>,
    /// Whether the kernel itself has WireGuard.
    pub has_kernel_wireguard: bool,
    /// File systems that the kernel has now.
    pub file_systems: BTreeSet<String>,
    /// Whether `/dev/fuse` is there.
    pub has_fuse: bool,
    /// Whether packets of a bridge go through the firewall: `None` if `br_netfilter` is not loaded.
    pub bridge_filter: Option<bool>,
    /// Whether IPv4 is forwarded.
    pub forwards: bool,
    /// Where programs are.
    pub programs: Vec<(&'static str, Option<PathBuf>)>,
    /// TCP ports.
    pub tcp: Vec<(u16, Port)>,
    /// UDP ports.
    pub udp: Vec<(u16, Port)>,
    /// Networks that the machine has routes to: address, prefix length, interface.
    pub routes: Vec<(Ipv4Addr, u8, String)>,
}

/// Programs that are looked for.
const PROGRAMS: [&str; 2] = ["k3s", "fuse-overlayfs"];

impl Facts {
    /// Looks at a machine; TCP and UDP ports are tried by binding to them for a moment.
    #[must_use]
    pub fn gather(places: &Places, tcp: &[u16], udp: &[u16]) -> Self {
        let sysctl = |path: &str| places.read(path).map(|text| text.trim() == "1");
        Self {
            uid: rustix::process::geteuid().as_raw(),
            in_user_namespace: places
                .read("/proc/self/uid_map")
                .is_some_and(|map| !is_identity(&map)),
            has_proc: places.at("/proc/self/stat").exists(),
            cgroups: cgroups(places),
            kmsg: device(&places.at("/dev/kmsg"), false),
            tun: device(&places.at("/dev/net/tun"), true),
            has_kernel_wireguard: places.at("/sys/module/wireguard").exists(),
            file_systems: file_systems(&places.read("/proc/filesystems").unwrap_or_default()),
            has_fuse: places.at("/dev/fuse").exists(),
            bridge_filter: sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            forwards: sysctl("/proc/sys/net/ipv4/ip_forward") == Some(true),
            programs: PROGRAMS.map(|name| (name, program(places, name))).to_vec(),
            tcp: tcp.iter().map(|port| (*port, tried(TcpListener::bind(any(*port))))).collect(),
            udp: udp.iter().map(|port| (*port, tried(UdpSocket::bind(any(*port))))).collect(),
            routes: routes(&places.read("/proc/net/route").unwrap_or_default()),
        }
    }

    /// Where a program is.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Path> {
        self.programs.iter().find(|(n, _)| *n == name)?.1.as_deref()
    }
}

/// All of the addresses; only to see whether somebody has one of them.
fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

fn tried<T>(bound: io::Result<T>) -> Port {
    match bound {
        Ok(_) => Port::Free,
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Port::Taken,
        Err(e) => Port::Unknown(e.to_string()),
    }
}

/// `0 0 4294967295`: everybody is who they are.
fn is_identity(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn cgroups(places: &Places) -> Cgroups {
    let controllers = |path: &str| -> Option<BTreeSet<String>> {
        Some(places.read(path)?.split_whitespace().map(str::to_owned).collect())
    };
    let at = "/sys/fs/cgroup";
    match controllers(&format!("{at}/cgroup.controllers")) {
        Some(all) => Cgroups::Two(all),
        None if ["memory", "cpu", "pids", "unified"]
            .iter()
            .any(|c| places.at(&format!("{at}/{c}")).exists()) =>
        {
            Cgroups::One
        }
        None => Cgroups::Missing,
    }
}

fn device(path: &Path, write: bool) -> Result<(), String> {
    let kind = fs::metadata(path).map_err(|e| e.to_string())?.file_type();
    // `/dev/kmsg` may be a link to the console, as k3s' own documentation suggests in containers.
    if !kind.is_char_device() && !kind.is_file() && !kind.is_fifo() {
        return Err("it is not a device".to_owned());
    }
    fs::File::options().read(true).write(write).open(path).map(drop).map_err(|e| e.to_string())
}

/// The names of `/proc/filesystems`.
fn file_systems(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

fn program(places: &Places, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    places.path.iter().map(|dir| dir.join(name)).find(runs)
}

/// The networks of `/proc/net/route` (numbers in the machine's byte order), the default route left out.
fn routes(text: &str) -> Vec<(Ipv4Addr, u8, String)> {
    let row = |line: &str| {
        let mut cells = line.split_whitespace();
        let interface = cells.next()?.to_owned();
        let number = |cell: Option<&str>| u32::from_str_radix(cell?, 16).ok();
        let network = Ipv4Addr::from(number(cells.next())?.to_ne_bytes());
        let mask = number(cells.nth(5))?;
        let length = u8::try_from(mask.count_ones()).ok()?;
        (length > 0).then_some((network, length, interface))
    };
    text.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t00002A0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(text), [(Ipv4Addr::new(10, 42, 0, 0), 16, "eth0".to_owned())]);
    }

    #[test]
    fn a_machine_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/uid_map", "         0     100000      65536\n");
        write("proc/filesystems", "nodev\tproc\n\text4\nnodev\toverlay\n");
        write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        write("proc/sys/net/bridge/bridge-nf-call-iptables", "0\n");
        let places = Places { root: dir.path().to_owned(), path: vec![dir.path().join("bin")] };
        write("bin/k3s", "");
        let facts = Facts::gather(&places, &[], &[]);
        assert!(facts.in_user_namespace && !facts.has_proc && !facts.forwards);
        assert!(facts.file_systems.contains("overlay") && facts.file_systems.contains("ext4"));
        let controllers = ["cpu", "memory", "pids"].map(str::to_owned).into();
        assert_eq!(facts.cgroups, Cgroups::Two(controllers));
        assert_eq!(facts.bridge_filter, Some(false));
        assert!(facts.kmsg.is_err() && facts.program("k3s").is_none(), "it cannot be executed");
    }

    #[test]
    fn a_port_that_somebody_has_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let facts = Facts::gather(&Places::here(), &[port], &[]);
        assert_eq!(facts.tcp, [(port, Port::Taken)]);
    }
}
