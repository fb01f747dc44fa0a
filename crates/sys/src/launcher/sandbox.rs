//! A sandbox: the namespaces that the containers of one pod share, held by descriptors.
//!
//! No process is needed to hold them, except for a shared PID namespace: its PID 1 is a child of the
//! launcher that does nothing but reap.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sched::CloneFlags;

use super::context::Context;
use super::parent::{Parent, close_all_but, die_with};
use super::protocol::{Failure, Mode, Pids, Sandbox as Wish};
use crate::cgroup::Cgroup;
use crate::clone::{Cloned, Pid, clone3, exit_now};
use crate::signals::SignalFd;
use crate::{mount, signals};

/// One sandbox.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Who shares PIDs.
    pub(super) pids: Pids,
    /// Its UTS namespace.
    pub(super) uts: Option<OwnedFd>,
    /// Its IPC namespace.
    pub(super) ipc: Option<OwnedFd>,
    /// Its network namespace.
    pub(super) net: Option<OwnedFd>,
    /// The PID 1 of its shared PID namespace, and that namespace.
    pub(super) holder: Option<(Pid, OwnedFd)>,
    /// Its `/dev/shm` in the staging area; `None` means the host's.
    pub(super) shm: Option<PathBuf>,
    /// Its cgroup, the parent of the containers' leaves.
    pub(super) cgroup: Option<Cgroup>,
}

/// The size of a pod's `/dev/shm`, as containerd makes it.
const SHM: &str = "mode=1777,size=64m";

impl Sandbox {
    /// Makes one.
    pub(super) fn create(
        context: &Context,
        wish: &Wish,
        net: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let fail = |what: &'static str| {
            move |error: io::Error| {
                Failure::create(format!("cannot make the pod's {what}: {error}"))
            }
        };
        let cgroup = context.cgroup.as_ref().map(|run| run.child(&wish.name));
        if let Some(cgroup) = &cgroup {
            let made = cgroup
                .create()
                .and_then(|()| cgroup.prepare_pod(&context.controllers, wish.cpu_request_milli));
            if let Err(error) = made {
                let _ = cgroup.remove();
                return Err(fail("cgroup")(error));
            }
        }
        let mut sandbox =
            Self { pids: wish.pids, uts: None, ipc: None, net, holder: None, shm: None, cgroup };
        if context.mode == Mode::Plain {
            return Ok(sandbox);
        }
        let made = sandbox.fill(context, wish).map_err(fail("namespaces"));
        if let Err(failure) = made {
            let _ = sandbox.end();
            sandbox.forget();
            return Err(failure);
        }
        Ok(sandbox)
    }

    fn fill(&mut self, context: &Context, wish: &Wish) -> io::Result<()> {
        [self.uts, self.ipc] = new_namespaces(context, wish.hostname.as_deref(), wish.ipc)?;
        if wish.ipc {
            let shm = context.dir.staging().join(format!("shm-{}", wish.sandbox));
            fs::create_dir(&shm)?;
            self.shm = Some(shm.clone());
            mount::mount("tmpfs", &shm, SHM)?;
            fs::set_permissions(&shm, fs::Permissions::from_mode(0o1777))?;
        }
        if wish.pids == Pids::Pod {
            self.holder = Some(hold_pids(context, self.cgroup.as_ref())?);
        }
        Ok(())
    }

    /// Ends it, once its containers are gone. The answer is its cgroup if somebody in it is still dying.
    pub(super) fn end(&mut self) -> Option<Cgroup> {
        if let Some((pid, _)) = self.holder.take() {
            // Its end kills what is left in the namespace; the launcher's reaping finds it.
            signals::kill(pid, libc::SIGKILL);
        }
        self.cgroup.take().filter(|cgroup| cgroup.remove().is_err())
    }

    /// Lets go of what only the launcher sees.
    pub(super) fn forget(self) {
        if let Some(shm) = self.shm {
            let _ = mount::detach(&shm);
            let _ = fs::remove_dir(&shm);
        }
    }
}

/// Makes a UTS namespace with a host name, and an IPC namespace.
fn new_namespaces(
    context: &Context,
    hostname: Option<&str>,
    ipc: bool,
) -> io::Result<[Option<OwnedFd>; 2]> {
    let mut kinds = CloneFlags::empty();
    kinds.set(CloneFlags::CLONE_NEWUTS, hostname.is_some());
    kinds.set(CloneFlags::CLONE_NEWIPC, ipc);
    if kinds.is_empty() {
        return Ok([None, None]);
    }
    if context.own.one_way {
        return namespaces_of_another(kinds, hostname);
    }
    context.own.in_new(kinds, || {
        hostname.map_or(Ok(()), nix::unistd::sethostname)?;
        open_namespaces("self", kinds)
    })
}

/// Opens the UTS and the IPC namespace of a process, those of them that are wanted.
fn open_namespaces(pid: &str, kinds: CloneFlags) -> io::Result<[Option<OwnedFd>; 2]> {
    let open = |kind: CloneFlags, name: &str| -> io::Result<Option<OwnedFd>> {
        if !kinds.contains(kind) {
            return Ok(None);
        }
        Ok(Some(File::open(format!("/proc/{pid}/ns/{name}"))?.into()))
    };
    Ok([open(CloneFlags::CLONE_NEWUTS, "uts")?, open(CloneFlags::CLONE_NEWIPC, "ipc")?])
}

/// As [`new_namespaces`], by a process of their own: from inside a user namespace there would be no
/// way back for the launcher.
fn namespaces_of_another(
    kinds: CloneFlags,
    hostname: Option<&str>,
) -> io::Result<[Option<OwnedFd>; 2]> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let ((answer, said), (lifeline, ours)) = (pipe()?, pipe()?);
    // SAFETY: the launcher has one thread (checked when it was forked).
    let maker = match unsafe { clone3(kinds.bits(), None) }? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            drop(ours);
            let named = hostname.map_or(Ok(()), nix::unistd::sethostname);
            let error = named.map_or_else(|error| error as i32, |()| 0);
            let _ = rustix::io::write(&said, &error.to_ne_bytes());
            // Until the launcher has opened the namespaces, or is gone.
            let _ = rustix::io::read(&lifeline, &mut [0]);
            exit_now(0)
        }
    };
    drop(said);
    let mut error = [0; 4];
    let made =
        File::from(answer).read_exact(&mut error).and_then(|()| match i32::from_ne_bytes(error) {
            0 => open_namespaces(&maker.to_string(), kinds),
            error => Err(io::Error::from_raw_os_error(error)),
        });
    drop(ours);
    signals::wait(maker);
    made
}

/// Starts the PID 1 of a shared PID namespace.
fn hold_pids(context: &Context, pod: Option<&Cgroup>) -> io::Result<(Pid, OwnedFd)> {
    let leaf = pod.map(|pod| pod.child("sandbox"));
    if let Some(leaf) = &leaf {
        leaf.create()?;
    }
    let into = leaf.as_ref().map(Cgroup::open).transpose()?;
    // SAFETY: the launcher has one thread (checked when it was forked).
    match unsafe { clone3(libc::CLONE_NEWPID, into.as_ref().map(AsFd::as_fd)) }? {
        Cloned::Parent(pid) => match File::open(format!("/proc/{pid}/ns/pid")) {
            Ok(namespace) => Ok((pid, namespace.into())),
            Err(error) => {
                signals::kill(pid, libc::SIGKILL);
                Err(error)
            }
        },
        Cloned::Child => hold(context),
    }
}

/// The life of a PID-namespace holder.
fn hold(context: &Context) -> ! {
    let _ = rustix::thread::set_name(c"hf-pause");
    let _ = rustix::process::setsid();
    if die_with(&Parent::Launcher(context.alive.as_fd()), libc::SIGKILL).is_err() {
        exit_now(1);
    }
    close_all_but(None);
    let news = SignalFd::new(&[libc::SIGCHLD], true);
    loop {
        while signals::reap(true).is_some() {}
        // No children at all: the next thing to happen is that an orphan is given to us and ends.
        match &news {
            Ok(news) => drop(news.take()),
            Err(_) => exit_now(1),
        }
    }
}
