//! Getting ready: the run directory, the cgroup, and what this machine allows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::child::PROBED;
use super::context::{self, Context, HostMounts, Own};
use super::launch::{self, Launched};
use super::memory::Volumes;
use super::protocol::{Failure, Init, Isolation, Mode, Pids, Ready, Spec};
use super::sandbox::Sandbox;
use crate::caps::Caps;
use crate::cgroup::{self, Cgroup, Controllers};
use crate::clone::{Cloned, clone3, exit_now};
use crate::mountinfo::{self, MountEntry};
use crate::rundir::{self, RunDir};
use crate::{mount, signals, userns};

/// A launcher that is ready.
pub(super) struct Begun {
    pub(super) context: Context,
    pub(super) ready: Ready,
    /// The leaf of the trial container, whose last process is still on its way out.
    pub(super) trial: Option<Cgroup>,
}

/// Gets ready.
pub(super) fn init(init: &Init) -> Result<Begun, Failure> {
    let dir = RunDir::create(&init.state, &init.run).map_err(|error| {
        Failure::create(format!(
            "cannot make the run directory {}: {error}",
            init.state.join(&init.run).display()
        ))
    })?;
    let mut context = open_context(dir, &init.run)
        .map_err(|error| Failure::create(format!("cannot read this machine's state: {error}")))?;
    let mut notices = Vec::new();
    let mut trial = None;
    // While the trial container is on its way: nobody waits for this one.
    let meanwhile = || notices.extend(rundir::cleanup_stale(&init.state));
    match isolate(&mut context, init.isolation, meanwhile) {
        Ok(leaf) => trial = leaf,
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
    Ok(Begun { context, ready, trial })
}

fn not_isolated(why: &str) -> String {
    format!(
        "no isolation ({why}): containers are plain processes that share this machine's files, \
         processes, host name and network; volumes and images are refused, termination messages come \
         from logs only"
    )
}

fn open_context(dir: RunDir, run: &str) -> io::Result<Context> {
    let mounts = mountinfo::read()?;
    let (cgroup, controllers) = make_cgroup(&dir, &mounts, run).unzip();
    Ok(Context {
        mode: Mode::Plain,
        in_userns: userns::inside()?,
        overlay: true,
        dir,
        unified: cgroup.is_some() && context::unified(&mounts),
        cgroup,
        controllers: controllers.unwrap_or_default(),
        caps: Caps::own()?,
        alive: rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )?,
        open_files: crate::limits::raise_open_files(),
        ignored: signals::ignored(),
        null: context::open_null()?,
        own: Own::open(None, false)?,
        host: HostMounts::open()?,
    })
}

/// Makes the run's cgroup, if this machine lets us, and finds out what can be limited there.
fn make_cgroup(dir: &RunDir, mounts: &[MountEntry], run: &str) -> Option<(Cgroup, Controllers)> {
    let base = Cgroup::at(cgroup::base(mounts, nix::unistd::geteuid().is_root()).ok()??);
    let cgroup = base.child(&format!("{}{run}", cgroup::PREFIX));
    dir.record_cgroup(&cgroup).ok()?;
    cgroup.create().ok()?;
    let controllers = cgroup.take_controllers(&base);
    Some((cgroup, controllers))
}

/// Gives the run's cgroup up if no process may be put into a child of it. Only a try tells.
fn try_cgroup(context: &mut Context) {
    let Some(cgroup) = &context.cgroup else { return };
    let trial = cgroup.child("trial");
    let works = trial.create().and_then(|()| {
        let into = trial.open()?;
        // SAFETY: the launcher has one thread (checked when it was forked).
        match unsafe { clone3(0, Some(into.as_fd())) }? {
            Cloned::Child => exit_now(0),
            Cloned::Parent(pid) => Ok(signals::wait(pid)),
        }
    });
    let _ = trial.remove();
    if works.is_err() {
        let _ = cgroup.remove();
        context.cgroup = None;
        context.unified = false;
    }
}

/// Puts the launcher into the state in which it can make namespaces, and proves it. The error says why
/// that is not possible. The answer is the leaf of the trial.
fn isolate(
    context: &mut Context,
    isolation: Isolation,
    meanwhile: impl FnOnce(),
) -> Result<Option<Cgroup>, String> {
    let root = nix::unistd::geteuid().is_root() && context.caps.contains(Caps::SYS_ADMIN);
    if isolation != Isolation::None && root {
        return enter(context, Mode::Root, meanwhile);
    }
    meanwhile();
    try_cgroup(context);
    if isolation == Isolation::None {
        return Ok(None);
    }
    // There is no way back out of a user namespace, so a child tries it first.
    try_in_child(context)?;
    enter(context, Mode::Rootless, || {})
}

fn enter(
    context: &mut Context,
    mode: Mode,
    meanwhile: impl FnOnce(),
) -> Result<Option<Cgroup>, String> {
    let during = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut host_mounts = None;
    if mode == Mode::Rootless {
        userns::enter(0, 0).map_err(during("user namespaces are forbidden"))?;
    } else {
        host_mounts = context::own_namespace("mnt").ok();
    }
    context::stage(&context.dir).map_err(during("mounts are forbidden"))?;
    context.caps = Caps::own().map_err(during("capabilities cannot be read"))?;
    context.own = Own::open(host_mounts, mode == Mode::Rootless)
        .map_err(during("namespaces cannot be opened"))?;
    context.host = HostMounts::open().map_err(during("mounts cannot be listed"))?;
    context.mode = mode;
    context.in_userns |= mode == Mode::Rootless;
    context.overlay = true;
    prove(context, meanwhile).map_err(|failure| failure.message)
}

/// Finds out whether containers can be made, and what they have to do without.
fn prove(context: &mut Context, meanwhile: impl FnOnce()) -> Result<Option<Cgroup>, Failure> {
    // Only the kernel itself could refuse something then, and it says so to whom asks: a whole container
    // takes five times as long, in which nobody can start anything.
    if context.mode == Mode::Root
        && is_unconfined(context)
        && let Ok(leaf) = try_parts(context)
    {
        meanwhile();
        return Ok(leaf);
    }
    let trial = begin_trial(context);
    meanwhile();
    if let Ok(leaf) = trial.and_then(end_trial) {
        return Ok(leaf);
    }
    if context.mode == Mode::Root {
        try_cgroup(context);
        if let Ok(leaf) = begin_trial(context).and_then(end_trial) {
            return Ok(leaf);
        }
    }
    context.overlay = false;
    begin_trial(context).and_then(end_trial)
}

/// Whether no rule but the kernel's own applies to us: every capability of the machine itself, no
/// seccomp filter and no profile of a security module.
fn is_unconfined(context: &Context) -> bool {
    // Where no such module is active, reading is refused.
    let profile = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    !context.in_userns
        && context.caps.contains(Caps::all())
        && !signals::is_filtered()
        && matches!(profile.trim_end_matches(['\0', '\n']), "" | "unconfined")
}

/// Tries what a kernel may have been built without, or have a limit for: an overlay of the host's root,
/// and a process in a PID namespace and a cgroup. The answer is the cgroup's leaf, on its way out.
fn try_parts(context: &Context) -> io::Result<Option<Cgroup>> {
    let place = context.dir.staging().join("trial");
    let (upper, work) = (place.join("u"), place.join("w"));
    std::fs::create_dir(&place)?;
    std::fs::create_dir(&upper)?;
    std::fs::create_dir(&work)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or(io::ErrorKind::InvalidInput);
    let (upper, work) = (text(&upper)?, text(&work)?);
    let options = [("lowerdir", Some("/")), ("upperdir", Some(&*upper)), ("workdir", Some(&*work))];
    mount::try_fs("overlay", &options)?;
    let leaf = context.cgroup.as_ref().map(|run| run.child("trial"));
    let made = || {
        leaf.as_ref().map_or(Ok(()), Cgroup::create)?;
        let into = leaf.as_ref().map(Cgroup::open).transpose()?;
        // SAFETY: the launcher has one thread (checked when it was forked).
        match unsafe { clone3(libc::CLONE_NEWPID, into.as_ref().map(AsFd::as_fd)) }? {
            Cloned::Child => exit_now(0),
            // Whoever reaps for this process reaps it.
            Cloned::Parent(_) => Ok(()),
        }
    };
    let made = made();
    if let (Err(_), Some(leaf)) = (&made, &leaf) {
        let _ = leaf.remove();
    }
    made.map(|()| leaf)
}

fn try_in_child(context: &mut Context) -> Result<(), String> {
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|error| error.to_string())?;
    // SAFETY: the launcher has one thread (checked when it was forked).
    match unsafe { clone3(0, None) }.map_err(|error| error.to_string())? {
        Cloned::Child => {
            let answer = enter(context, Mode::Rootless, || {}).err().unwrap_or_default();
            let _ = rustix::io::write(&write, answer.as_bytes());
            exit_now(0)
        }
        Cloned::Parent(pid) => {
            drop(write);
            let mut answer = String::new();
            let read = io::Read::read_to_string(&mut std::fs::File::from(read), &mut answer);
            let ended = signals::wait(pid);
            if read.is_err() || ended.is_none_or(|ended| ended.code != 0) {
                return Err("a trial of user namespaces crashed".to_owned());
            }
            if answer.is_empty() { Ok(()) } else { Err(answer) }
        }
    }
}

/// Starts a container with the host's root that goes through everything up to its exec.
fn begin_trial(context: &mut Context) -> Result<Launched, Failure> {
    context
        .refresh_mounts()
        .map_err(|error| Failure::run(format!("mounts cannot be listed: {error}")))?;
    let sandbox = Sandbox {
        pids: Pids::Container,
        uts: None,
        ipc: None,
        net: None,
        holder: None,
        shm: None,
        // That of the others has been tried by itself, outside of the user namespace.
        cgroup: context.cgroup.clone().filter(|_| context.mode == Mode::Root),
    };
    let null = context.null.as_fd();
    let output = [null.try_clone_to_owned(), null.try_clone_to_owned()];
    let [Ok(stdout), Ok(stderr)] = output else {
        return Err(Failure::run("no more descriptors"));
    };
    let (spec, mut memory) = (Spec::any(), Volumes::default());
    launch::start(context, &sandbox, &mut memory, &spec, [&stdout, &stderr], true)
}

/// Waits for the verdict of a trial. The answer is its leaf, if it has one.
fn end_trial(trial: Launched) -> Result<Option<Cgroup>, Failure> {
    // Not for its end, which takes as long as all it did before: the kernel takes its mounts down, and
    // waits for every processor. Whoever reaps for this process reaps it.
    match verdict(&trial.status) {
        Ok(()) => Ok(trial.cgroup),
        Err(failure) => {
            signals::wait(trial.pid);
            let _ = trial.cgroup.map(|leaf| leaf.remove());
            Err(failure)
        }
    }
}

/// What the trial container says before it ends.
fn verdict(status: &OwnedFd) -> Result<(), Failure> {
    // The pipe does not block by itself, for the sake of the launcher's loop.
    let wait = poll(&mut [PollFd::new(status, PollFlags::IN)], None);
    let mut buffer = [0; 4096];
    let read = wait.and_then(|_| rustix::io::read(status, &mut buffer));
    match read.map(|read| &buffer[..read]) {
        Ok([PROBED]) => Ok(()),
        Ok(said) if !said.is_empty() => Err(serde_json::from_slice(said).unwrap_or_else(|_| {
            Failure::run(format!("a trial container failed: {}", String::from_utf8_lossy(said)))
        })),
        _ => Err(Failure::run("a trial container crashed")),
    }
}
