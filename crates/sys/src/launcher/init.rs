//! Getting ready: the run directory, the cgroup, and what this machine allows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::context::{self, Context, HostMounts, Own};
use super::launch;
use super::memory::Volumes;
use super::protocol::{Failure, Init, Isolation, Mode, Pids, Ready, Root, Spec};
use super::sandbox::Sandbox;
use crate::caps::Caps;
use crate::cgroup::{self, Cgroup, Limits};
use crate::clone::{Cloned, clone3, exit_now};
use crate::rundir::{self, RunDir};
use crate::{signals, userns};

/// Gets ready.
pub(super) fn init(init: &Init) -> Result<(Context, Ready), Failure> {
    let mut notices = rundir::cleanup_stale(&init.state);
    let dir = RunDir::create(&init.state, &init.run).map_err(|error| {
        Failure::create(format!(
            "cannot make the run directory {}: {error}",
            init.state.join(&init.run).display()
        ))
    })?;
    let cgroup = make_cgroup(&dir, &init.run);
    let mut context = match open_context(dir, cgroup) {
        Ok(context) => context,
        Err(error) => {
            return Err(Failure::create(format!("cannot read this machine's state: {error}")));
        }
    };
    match isolate(&mut context, init.isolation) {
        Ok(()) => {}
        Err(why) if init.isolation == Isolation::Auto => {
            context.mode = Mode::Plain;
            notices.push(not_isolated(&why));
        }
        Err(why) => {
            let failure = Failure::create(format!("namespaces cannot be made here: {why}"));
            let _ = context.cgroup.take().map(|cgroup| cgroup.remove());
            let _ = context.dir.remove();
            return Err(failure);
        }
    }
    if init.isolation == Isolation::None {
        notices.push(not_isolated("asked for by --isolation none"));
    }
    if context.mode != Mode::Plain && !context.overlay {
        notices.push(
            "overlayfs cannot be mounted here: the root of every container is read-only, and mount \
             points must exist in it"
                .to_owned(),
        );
    }
    let ready = Ready {
        dir: context.dir.path().to_owned(),
        mode: context.mode,
        cgroup: context.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
        notices,
    };
    Ok((context, ready))
}

fn not_isolated(why: &str) -> String {
    format!(
        "no isolation ({why}): containers are plain processes that share this machine's files, \
         processes, host name and network; volumes and images are refused, termination messages come \
         from logs only"
    )
}

fn open_context(dir: RunDir, cgroup: Option<Cgroup>) -> io::Result<Context> {
    Ok(Context {
        mode: Mode::Plain,
        in_userns: userns::inside()?,
        overlay: true,
        dir,
        unified: cgroup.is_some() && context::unified(),
        cgroup,
        caps: Caps::own()?,
        alive: rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )?,
        open_files: crate::limits::raise_open_files(),
        null: context::open_null()?,
        own: Own::open(None, false)?,
        host: HostMounts::open()?,
    })
}

/// Makes the run's cgroup, if this machine lets us.
fn make_cgroup(dir: &RunDir, run: &str) -> Option<Cgroup> {
    let base = cgroup::base(nix::unistd::geteuid().is_root()).ok()??;
    let cgroup = Cgroup::at(base.join(format!("{}{run}", cgroup::PREFIX)));
    dir.record_cgroup(&cgroup).ok()?;
    cgroup.create().ok()?;
    // Made, but may we put a process into a child of it? Only a try tells.
    let trial = cgroup.child("trial");
    let works = trial.create().and_then(|()| {
        let into = trial.open()?;
        // SAFETY: the launcher has one thread (checked when it was forked).
        match unsafe { clone3(0, Some(into.as_fd())) }? {
            Cloned::Child => exit_now(0),
            Cloned::Parent(_) => {
                let _ = signals::reap(true);
                Ok(())
            }
        }
    });
    let _ = trial.remove();
    if works.is_err() {
        let _ = cgroup.remove();
        return None;
    }
    Some(cgroup)
}

/// Puts the launcher into the state in which it can make namespaces, and proves it. The error says why
/// that is not possible.
fn isolate(context: &mut Context, isolation: Isolation) -> Result<(), String> {
    if isolation == Isolation::None {
        return Ok(());
    }
    if nix::unistd::geteuid().is_root() && context.caps.contains(Caps::SYS_ADMIN) {
        return enter(context, Mode::Root);
    }
    // There is no way back out of a user namespace, so a child tries it first.
    try_in_child(context)?;
    enter(context, Mode::Rootless)
}

fn enter(context: &mut Context, mode: Mode) -> Result<(), String> {
    let during = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut host_mounts = None;
    if mode == Mode::Rootless {
        userns::enter(0, 0).map_err(during("user namespaces are forbidden"))?;
    } else {
        host_mounts = context::own_namespace("mnt").ok();
    }
    context::stage(context.dir.path()).map_err(during("mounts are forbidden"))?;
    context.caps = Caps::own().map_err(during("capabilities cannot be read"))?;
    context.own = Own::open(host_mounts, mode == Mode::Rootless)
        .map_err(during("namespaces cannot be opened"))?;
    context.host = HostMounts::open().map_err(during("mounts cannot be listed"))?;
    context.mode = mode;
    context.in_userns |= mode == Mode::Rootless;
    context.overlay = true;
    if probe(context).is_ok() {
        return Ok(());
    }
    context.overlay = false;
    probe(context).map_err(|failure| failure.message)
}

fn try_in_child(context: &mut Context) -> Result<(), String> {
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|error| error.to_string())?;
    // SAFETY: the launcher has one thread (checked when it was forked).
    match unsafe { clone3(0, None) }.map_err(|error| error.to_string())? {
        Cloned::Child => {
            let answer = enter(context, Mode::Rootless).err().unwrap_or_default();
            let _ = rustix::io::write(&write, answer.as_bytes());
            exit_now(0)
        }
        Cloned::Parent(_) => {
            drop(write);
            let mut answer = String::new();
            let read = io::Read::read_to_string(&mut std::fs::File::from(read), &mut answer);
            let ended = signals::reap(true);
            if read.is_err() || ended.is_none_or(|ended| ended.code != 0) {
                return Err("a trial of user namespaces crashed".to_owned());
            }
            if answer.is_empty() { Ok(()) } else { Err(answer) }
        }
    }
}

/// Goes through the whole start of a container with the host's root, up to its exec.
fn probe(context: &mut Context) -> Result<(), Failure> {
    let staging = context::staging(context.dir.path());
    context
        .host
        .refresh(context.in_userns, &staging)
        .map_err(|error| Failure::run(format!("mounts cannot be listed: {error}")))?;
    let sandbox = Sandbox {
        pids: Pids::Container,
        uts: None,
        ipc: None,
        net: None,
        holder: None,
        shm: None,
        cgroup: None,
    };
    let null = context.null.as_fd();
    let output = [null.try_clone_to_owned(), null.try_clone_to_owned()];
    let [Ok(stdout), Ok(stderr)] = output else {
        return Err(Failure::run("no more descriptors"));
    };
    let (spec, mut memory) = (probe_spec(), Volumes::default());
    let launched = launch::start(context, &sandbox, &mut memory, &spec, [&stdout, &stderr], true)?;
    let ended = signals::reap(true);
    match read_failure(&launched.status) {
        Some(failure) => Err(failure),
        None if ended.is_some_and(|ended| ended.code == 0) => Ok(()),
        None => Err(Failure::run("a trial container crashed")),
    }
}

fn read_failure(status: &OwnedFd) -> Option<Failure> {
    let mut buffer = [0; 4096];
    let read = rustix::io::read(status, &mut buffer).ok()?;
    serde_json::from_slice(&buffer[..read]).ok()
}

fn probe_spec() -> Spec {
    Spec {
        instance: 0,
        sandbox: 0,
        pod: String::new(),
        name: String::new(),
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        cwd: Path::new("/").to_owned(),
        root: Root::Host,
        read_only_root: false,
        mounts: Vec::new(),
        uid: None,
        gid: None,
        groups: Vec::new(),
        privileged: false,
        caps: Some(Caps::defaults()),
        no_new_privs: false,
        limits: Limits::default(),
    }
}
