//! What the launcher knows once it is ready: its own namespaces, its staging area, the host's mounts.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Rlimit;

use super::host::{self, Part};
use super::protocol::Mode;
use crate::caps::Caps;
use crate::cgroup::{Cgroup, Controllers};
use crate::clone::{Cloned, Pid, clone3, exit_now};
use crate::mountinfo::MountEntry;
use crate::rundir::RunDir;
use crate::{mount, mountinfo, paths, signals};

/// The launcher's standing.
#[derive(Debug)]
pub(super) struct Context {
    /// How containers are kept apart.
    pub(super) mode: Mode,
    /// Whether the launcher is in a user namespace, its own or one around `holdfast`: there the mounts
    /// of the outside are locked, and owners and devices cannot be made at will.
    pub(super) in_userns: bool,
    /// Whether overlays can be mounted.
    pub(super) overlay: bool,
    /// The run's directory.
    pub(super) dir: RunDir,
    /// The run's cgroup.
    pub(super) cgroup: Option<Cgroup>,
    /// What can be limited there.
    pub(super) controllers: Controllers,
    /// Whether `/sys/fs/cgroup` is cgroup v2 alone, so that a container can have its own view of it.
    pub(super) unified: bool,
    /// What the launcher may do.
    pub(super) caps: Caps,
    /// The launcher itself, to see whether it still lives.
    pub(super) alive: OwnedFd,
    /// The limit of open files that containers get: the launcher's own is raised.
    pub(super) open_files: Rlimit,
    /// The signals that the launcher ignores, which a container must not.
    pub(super) ignored: Vec<i32>,
    /// `/dev/null`.
    pub(super) null: OwnedFd,
    /// The namespaces the launcher itself is in.
    pub(super) own: Own,
    /// The host's mounts, as a container with the host's root gets them.
    pub(super) host: HostMounts,
}

/// Descriptors of the launcher's own namespaces, to come back to.
#[derive(Debug)]
pub(super) struct Own {
    pid: OwnedFd,
    uts: OwnedFd,
    ipc: OwnedFd,
    mounts: OwnedFd,
    /// The mount namespace of the host, where a bidirectional mount must be copied from.
    host_mounts: Option<OwnedFd>,
    /// Whether these namespaces belong to a user namespace around ours, so that there is no way back
    /// into them.
    pub(super) one_way: bool,
}

/// Opens one of the caller's own namespaces.
pub(super) fn own_namespace(kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(Path::new("/proc/self/ns").join(kind))?.into())
}

impl Own {
    /// Opens them; `host_mounts` is the mount namespace from before [`stage`].
    pub(super) fn open(host_mounts: Option<OwnedFd>, one_way: bool) -> io::Result<Self> {
        Ok(Self {
            pid: own_namespace("pid")?,
            uts: own_namespace("uts")?,
            ipc: own_namespace("ipc")?,
            mounts: own_namespace("mnt")?,
            host_mounts,
            one_way,
        })
    }

    /// Does something in a new UTS namespace, a new IPC namespace or both, and comes back.
    pub(super) fn in_new<T>(
        &self,
        kinds: CloneFlags,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        unshare(kinds)?;
        let result = act();
        for (kind, own) in
            [(CloneFlags::CLONE_NEWUTS, &self.uts), (CloneFlags::CLONE_NEWIPC, &self.ipc)]
        {
            if kinds.contains(kind) {
                come_back(own, kind);
            }
        }
        result
    }

    /// Leaves the launcher's mount namespace for good, and everything mounted in it with it. False if
    /// there is no way back to the host's.
    pub(super) fn leave_mounts(self) -> bool {
        self.host_mounts.is_some_and(|host| setns(host, CloneFlags::CLONE_NEWNS).is_ok())
    }

    /// Clones a process into a PID namespace; `clone` is given further flags.
    pub(super) fn clone_into(
        &self,
        pids: &OwnedFd,
        clone: impl FnOnce(libc::c_int) -> io::Result<Cloned>,
    ) -> io::Result<Cloned> {
        if self.one_way {
            return clone_by_another(pids, clone);
        }
        setns(pids, CloneFlags::CLONE_NEWPID)?;
        let result = clone(0);
        // The child is in the namespace, from which there is no way back, and wants none.
        if !matches!(result, Ok(Cloned::Child)) {
            come_back(&self.pid, CloneFlags::CLONE_NEWPID);
        }
        result
    }

    /// Copies a mount tree of the host's own mount namespace, so that it stays its peer.
    pub(super) fn clone_from_host(&self, path: &Path) -> io::Result<OwnedFd> {
        let Some(host) = &self.host_mounts else {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        };
        setns(host, CloneFlags::CLONE_NEWNS)?;
        let result =
            paths::open_canonical(path).and_then(|at| mount::clone_tree_at(at.as_fd(), true));
        come_back(&self.mounts, CloneFlags::CLONE_NEWNS);
        result
    }
}

/// Returns to one of the launcher's own namespaces. That cannot fail for one that we left with the
/// right to do so; going on in the wrong one would put the next container there, so we would rather
/// die: the containers die with us and `holdfast` says so.
fn come_back(namespace: &OwnedFd, kind: CloneFlags) {
    if setns(namespace, kind).is_err() {
        std::process::abort();
    }
}

/// Clones a process into a PID namespace by means of a process that goes there for good; the child is
/// still the launcher's.
fn clone_by_another(
    pids: &OwnedFd,
    clone: impl FnOnce(libc::c_int) -> io::Result<Cloned>,
) -> io::Result<Cloned> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the launcher has one thread (checked when it was forked).
    let another = match unsafe { clone3(0, None) }? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            let entered = setns(pids, CloneFlags::CLONE_NEWPID).map_err(io::Error::from);
            let answer = match entered.and_then(|()| clone(libc::CLONE_PARENT)) {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent(pid)) => pid,
                Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
            };
            let _ = rustix::io::write(&write, &answer.to_ne_bytes());
            exit_now(0)
        }
    };
    drop(write);
    let mut answer = [0; 4];
    let read = File::from(read).read_exact(&mut answer);
    signals::wait(another);
    read?;
    match Pid::from_ne_bytes(answer) {
        pid if pid > 0 => Ok(Cloned::Parent(pid)),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Gives the launcher a mount namespace of its own with the staging area in it ([`RunDir::staging`]): a
/// memory file system that only that namespace and its copies have.
pub(super) fn stage(dir: &RunDir) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount::make_all_slaves()?;
    let staging = dir.staging();
    fs::create_dir_all(&staging)?;
    mount::mount("tmpfs", &staging, "mode=711,size=16m")?;
    mount::make_private(&staging)?;
    // Where a container's own staging area goes, and what covers the directories it may not see.
    fs::create_dir(staging.join("c"))?;
    fs::create_dir(staging.join("empty"))?;
    fs::set_permissions(staging.join("empty"), fs::Permissions::from_mode(0o555))
}

/// Whether `/sys/fs/cgroup` is cgroup v2 and nothing else.
pub(super) fn unified(mounts: &[MountEntry]) -> bool {
    let place = Path::new("/sys/fs/cgroup");
    mounts.iter().any(|entry| entry.fstype == "cgroup2" && entry.target == place)
}

/// The host's mounts, read again only when they have changed.
#[derive(Debug)]
pub(super) struct HostMounts {
    file: File,
    parts: Vec<Part>,
    fresh: bool,
    /// What the list says of others than ourselves, and how often that has changed.
    others: String,
    version: u64,
}

impl Context {
    /// Brings [`HostMounts`] up to date.
    pub(super) fn refresh_mounts(&mut self) -> io::Result<()> {
        if self.mode == Mode::Plain {
            return Ok(());
        }
        self.host.refresh(self.in_userns, &self.dir.staging())
    }
}

impl HostMounts {
    /// Opens the kernel's list.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/mountinfo")?,
            parts: Vec::new(),
            fresh: false,
            others: String::new(),
            version: 0,
        })
    }

    /// Reads the list again if it has changed; the launcher's own mounts change it too.
    pub(super) fn refresh(&mut self, locked: bool, staging: &Path) -> io::Result<()> {
        // The file polls as an exception after every change (proc(5)).
        let mut fds = [PollFd::new(&self.file, PollFlags::PRI)];
        let changed = poll(&mut fds, Some(&Timespec::default()))? > 0;
        if self.fresh && !changed {
            return Ok(());
        }
        // Until it has been read to its end: the kernel tells of a change once.
        self.fresh = false;
        let mut text = String::with_capacity(mountinfo::USUAL_SIZE);
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let all = mountinfo::parse(&text);
        self.parts = host::parts(&mountinfo::visible(&all), locked, staging);
        let own = staging.to_str();
        let is_other = |line: &&str| own.is_none_or(|own| !line.contains(own));
        let others: String = text.split_inclusive('\n').filter(is_other).collect();
        if others != self.others {
            self.others = others;
            self.version += 1;
        }
        self.fresh = true;
        Ok(())
    }

    /// Changes with the host's mounts, and not with the launcher's own.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The parts of a root made of them.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// Opens `/dev/null`.
pub(super) fn open_null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

/// Makes `fd` the descriptor `number`, which then survives an exec.
pub(super) fn put(fd: impl AsFd, number: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: dup2 touches no memory; what was open at `number` (0, 1 or 2) is owned by no Rust value.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
