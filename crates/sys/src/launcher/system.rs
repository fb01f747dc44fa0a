//! What every container has of the system: `/proc`, `/sys`, `/dev`, and what of it is kept from it.
//! The choices are those of containerd's default specification and of runc.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, Mode as FileMode};

use super::protocol::{Failure, Pids};
use super::rootfs::{Builder, During, words};
use crate::mount::{self, Change, attr};
use crate::paths;

const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

fn place(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Failure> {
    paths::open_or_create(root, Path::new(path), true).map_err(|error| {
        Failure::run(format!("cannot make the mount point {path}: {}", words(&error)))
    })
}

/// `/proc` of the container's PID namespace.
pub(super) fn proc(builder: &Builder<'_>, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let target = place(root, "/proc")?;
    let proc = match mount::new_fs("proc", &[], SAFE) {
        // The host's PID namespace is not a user namespace's to mount anew.
        Err(_) if builder.sandbox.pids == Pids::Host => mount::clone_tree(Path::new("/proc"), true),
        other => other,
    };
    let proc = proc.during(|| "error mounting \"proc\" to rootfs at \"/proc\"".to_owned())?;
    mount::attach(proc.as_fd(), target.as_fd()).during(|| "cannot mount /proc".to_owned())
}

/// `/sys`: of the pod's network if it has one, else the host's; read-only unless privileged.
pub(super) fn sys(builder: &Builder<'_>, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let target = place(root, "/sys")?;
    let read_only = if builder.spec.privileged { 0 } else { attr::RDONLY };
    let change = Change { set: read_only | SAFE, propagation: libc::MS_PRIVATE, recursive: true };
    let mounted = || -> io::Result<()> {
        let cgroups = Path::new("/sys/fs/cgroup");
        if builder.sandbox.net.is_some() {
            let sys = mount::new_fs("sysfs", &[], SAFE | read_only)?;
            mount::attach(sys.as_fd(), target.as_fd())?;
        } else {
            let sys = mount::clone_tree(Path::new("/sys"), true)?;
            mount::set_attr(sys.as_fd(), change)?;
            mount::attach(sys.as_fd(), target.as_fd())?;
        }
        // Only its own leaf, where the machine has cgroup v2 alone; else what the host shows.
        let own = builder.context.unified && builder.sandbox.cgroup.is_some();
        let cgroup = match own.then(|| mount::new_fs("cgroup2", &[], SAFE | read_only)) {
            Some(Ok(cgroup)) => cgroup,
            _ if builder.sandbox.net.is_none() => return Ok(()),
            _ => {
                let Ok(cgroup) = mount::clone_tree(cgroups, true) else { return Ok(()) };
                mount::set_attr(cgroup.as_fd(), change)?;
                cgroup
            }
        };
        let Ok(target) = paths::open(root, cgroups) else { return Ok(()) };
        mount::attach(cgroup.as_fd(), target.as_fd())
    };
    mounted().map_err(|error| {
        Failure::run(format!("error mounting \"sysfs\" to rootfs at \"/sys\": {}", words(&error)))
    })
}

/// The devices of a container (runc: `AllowedDevices`).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// `/dev` with a few harmless devices; all the host's if privileged.
pub(super) fn dev(builder: &Builder<'_>, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let target = place(root, "/dev")?;
    let made = || -> io::Result<()> {
        let options = [("mode", Some("755")), ("size", Some("65536k"))];
        let dev = mount::new_fs("tmpfs", &options, attr::NOSUID)?;
        mount::attach(dev.as_fd(), target.as_fd())?;
        let dev = dev.as_fd();
        for (name, major, minor) in DEVICES {
            device(dev, Path::new(name), FileType::CharacterDevice, 0o666, (major, minor))?;
        }
        for (name, to) in LINKS {
            rustix::fs::symlinkat(to, dev, name)?;
        }
        if builder.spec.privileged {
            host_devices(dev, Path::new(""), 0)?;
        }
        pts(builder, dev)?;
        shm(builder, dev)?;
        mqueue(builder, dev)
    };
    made().map_err(|error| {
        Failure::run(format!("cannot make the container's /dev: {}", words(&error)))
    })
}

/// Makes a device, or binds the host's where devices cannot be made (user namespaces).
fn device(
    dev: BorrowedFd<'_>,
    name: &Path,
    kind: FileType,
    mode: u32,
    (major, minor): (u32, u32),
) -> io::Result<()> {
    let number = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(dev, name, kind, FileMode::from_raw_mode(mode), number) {
        Err(rustix::io::Errno::PERM) => {}
        other => return Ok(other?),
    }
    let host = mount::clone_tree(&Path::new("/dev").join(name), false)?;
    let target = paths::open_or_create(dev, name, false)?;
    mount::attach(host.as_fd(), target.as_fd())
}

/// The host's other devices (containerd: `oci.WithHostDevices`, which leaves out the same).
fn host_devices(dev: BorrowedFd<'_>, below: &Path, depth: usize) -> io::Result<()> {
    const NOT: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev"];
    if depth > 8 {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(Path::new("/dev").join(below)) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let path = below.join(&name);
        let known = DEVICES.iter().any(|(known, ..)| path == Path::new(known));
        if known || NOT.iter().any(|not| path == Path::new(not)) {
            continue;
        }
        if kind.is_dir() {
            drop(paths::open_or_create(dev, &path, true)?);
            host_devices(dev, &path, depth + 1)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let stat = entry.metadata()?;
            let number = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
            let kind = FileType::from_raw_mode(stat.mode());
            // One that is gone by now, or refused, is simply not there.
            let _ = device(dev, &path, kind, stat.mode() & 0o7777, number);
        }
    }
    Ok(())
}

fn pts(builder: &Builder<'_>, dev: BorrowedFd<'_>) -> io::Result<()> {
    let mut options =
        vec![("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];
    if !builder.in_userns() {
        options.push(("gid", Some("5"))); // tty, on every Linux
    }
    let pts = mount::new_fs("devpts", &options, attr::NOSUID | attr::NOEXEC)?;
    let target = paths::make_directory(dev, "pts")?;
    mount::attach(pts.as_fd(), target.as_fd())
}

fn shm(builder: &Builder<'_>, dev: BorrowedFd<'_>) -> io::Result<()> {
    let target = paths::make_directory(dev, "shm")?;
    let source = builder.sandbox.shm.as_deref().unwrap_or(Path::new("/dev/shm"));
    let shm = mount::clone_tree(source, false)?;
    let set = SAFE;
    mount::set_attr(shm.as_fd(), Change { set, propagation: libc::MS_PRIVATE, recursive: false })?;
    mount::attach(shm.as_fd(), target.as_fd())
}

fn mqueue(builder: &Builder<'_>, dev: BorrowedFd<'_>) -> io::Result<()> {
    let mqueue = match mount::new_fs("mqueue", &[], SAFE) {
        Ok(mqueue) => mqueue,
        // The host's IPC namespace is not a user namespace's; some kernels have no message queues.
        Err(_) if builder.sandbox.ipc.is_none() => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
        Err(error) => return Err(error),
    };
    let target = paths::make_directory(dev, "mqueue")?;
    mount::attach(mqueue.as_fd(), target.as_fd())
}

/// Hidden from unprivileged containers (containerd: `oci.populateDefaultUnixSpec`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only to unprivileged containers.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hides and protects parts of `/proc` and `/sys`.
pub(super) fn mask(builder: &Builder<'_>, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let empty = builder.context.dir.staging().join("empty");
    let apply = || -> io::Result<()> {
        let change =
            Change { set: attr::RDONLY | SAFE, propagation: libc::MS_PRIVATE, recursive: true };
        for path in READ_ONLY {
            let Ok(target) = paths::open(root, Path::new(path)) else { continue };
            let tree = mount::clone_tree_at(target.as_fd(), true)?;
            mount::set_attr(tree.as_fd(), change)?;
            mount::attach(tree.as_fd(), target.as_fd())?;
        }
        for path in MASKED {
            let Ok(target) = paths::open(root, Path::new(path)) else { continue };
            let directory = paths::is_directory(target.as_fd())?;
            let source = if directory { empty.as_path() } else { Path::new("/dev/null") };
            let cover = mount::clone_tree(source, false)?;
            let set = if directory { attr::RDONLY | SAFE } else { 0 };
            mount::set_attr(
                cover.as_fd(),
                Change { set, propagation: libc::MS_PRIVATE, recursive: false },
            )?;
            mount::attach(cover.as_fd(), target.as_fd())?;
        }
        Ok(())
    };
    apply().map_err(|error| Failure::run(format!("cannot mask paths of /proc: {}", words(&error))))
}
