//! Making processes: what is checked before, the clone itself, and the shim of containers without a
//! PID namespace of their own.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::child::{Birth, Kind, become_container};
use super::context::Context;
use super::memory::Volumes;
use super::parent::Parent;
use super::protocol::{Failure, Mode, Pids, Propagation, Root, Spec};
use super::sandbox::Sandbox;
use super::{rootfs, shim};
use crate::caps::Caps;
use crate::cgroup::Cgroup;
use crate::clone::{Cloned, Pid, clone3};
use crate::signals;

/// A process on its way to its program.
#[derive(Debug)]
pub(super) struct Launched {
    /// The launcher's child: the main process, or its shim.
    pub(super) pid: Pid,
    /// Closes at exec; says what went wrong before.
    pub(super) status: OwnedFd,
    /// Its leaf.
    pub(super) cgroup: Option<Cgroup>,
    /// For the user.
    pub(super) warnings: Vec<String>,
}

/// Whether a container needs a shim: without a PID namespace of its own nothing else would keep hold
/// of what its main process leaves behind.
pub(super) fn needs_shim(context: &Context, sandbox: &Sandbox) -> bool {
    context.mode == Mode::Plain || sandbox.pids == Pids::Host
}

/// Starts a container.
pub(super) fn start(
    context: &Context,
    sandbox: &Sandbox,
    memory: &mut Volumes,
    spec: &Spec,
    output: [&OwnedFd; 2],
    probe: bool,
) -> Result<Launched, Failure> {
    let mut warnings = Vec::new();
    let caps = check(context, spec, &mut warnings)?;
    let sources = if context.mode == Mode::Plain {
        Vec::new()
    } else {
        rootfs::open_sources(context, memory, spec)?
    };
    let cgroup = match &sandbox.cgroup {
        Some(pod) => Some(leaf(context, pod, spec, &mut warnings)?),
        None => {
            limit(context, None, spec, &mut warnings)?;
            None
        }
    };
    let kind = if probe { Kind::Probe(&sources) } else { Kind::Main(&sources) };
    let output = output.map(AsFd::as_fd);
    let birth = Birth { context, sandbox, spec, caps, output, kind };
    let result = if needs_shim(context, sandbox) {
        in_pipe(|status| clone_shim(&birth, cgroup.as_ref(), status, None))
    } else {
        in_pipe(|status| clone_main(&birth, cgroup.as_ref(), status))
    };
    match result {
        Ok((pid, status)) => Ok(Launched { pid, status, cgroup, warnings }),
        Err(error) => {
            if let Some(cgroup) = &cgroup {
                let _ = cgroup.remove();
            }
            Err(Failure::run(format!("cannot make a process: {}", rootfs::words(&error))))
        }
    }
}

const NO_CGROUP: &str = "limits are not kept: there is no writable cgroup v2 here";

/// Makes the container's leaf and sets its limits.
fn leaf(
    context: &Context,
    pod: &Cgroup,
    spec: &Spec,
    warnings: &mut Vec<String>,
) -> Result<Cgroup, Failure> {
    let fail =
        |error: io::Error| Failure::create(format!("cannot make the container's cgroup: {error}"));
    let leaf = pod.child(&spec.instance.to_string());
    leaf.create().map_err(fail)?;
    match limit(context, Some(&leaf), spec, warnings) {
        Ok(()) => Ok(leaf),
        Err(failure) => {
            let _ = leaf.remove();
            Err(failure)
        }
    }
}

/// Sets the container's limits, as far as they can be kept.
pub(super) fn limit(
    context: &Context,
    leaf: Option<&Cgroup>,
    spec: &Spec,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let Some(leaf) = leaf else {
        if spec.limits != crate::cgroup::Limits::default() {
            warnings.push(NO_CGROUP.to_owned());
        }
        return Ok(());
    };
    leaf.prepare_leaf(&context.controllers, &spec.limits)
        .map_err(|error| Failure::create(format!("cannot set the container's limits: {error}")))?;
    warnings.extend(context.controllers.not_kept(&spec.limits));
    Ok(())
}

/// Runs `act` with a new status pipe and keeps the reading end.
pub(super) fn in_pipe(act: impl FnOnce(OwnedFd) -> io::Result<Pid>) -> io::Result<(Pid, OwnedFd)> {
    let (read, write) = status_pipe()?;
    Ok((act(write)?, read))
}

fn status_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
    Ok(rustix::pipe::pipe_with(flags)?)
}

fn clone_main(birth: &Birth<'_>, cgroup: Option<&Cgroup>, status: OwnedFd) -> io::Result<Pid> {
    let context = birth.context;
    let into = cgroup.map(Cgroup::open).transpose()?;
    let mut flags = libc::CLONE_NEWNS;
    if birth.sandbox.pids == Pids::Container {
        flags |= libc::CLONE_NEWPID;
    }
    // SAFETY: the launcher has one thread (checked when it was forked).
    let clone = |more| unsafe { clone3(flags | more, into.as_ref().map(AsFd::as_fd)) };
    let cloned = match &birth.sandbox.holder {
        Some((_, pids)) => context.own.clone_into(pids, clone)?,
        None => clone(0)?,
    };
    match cloned {
        Cloned::Parent(pid) => Ok(pid),
        Cloned::Child => become_container(birth, &Parent::Launcher(context.alive.as_fd()), &status),
    }
}

fn clone_shim(
    birth: &Birth<'_>,
    cgroup: Option<&Cgroup>,
    status: OwnedFd,
    report: Option<OwnedFd>,
) -> io::Result<Pid> {
    let into = cgroup.map(Cgroup::open).transpose()?;
    // SAFETY: the launcher has one thread (checked when it was forked).
    match unsafe { clone3(0, into.as_ref().map(AsFd::as_fd)) }? {
        Cloned::Parent(pid) => Ok(pid),
        Cloned::Child => shim::run(birth, &status, report),
    }
}

/// A command on its way to its program.
pub(super) struct Executed {
    /// The launcher's child: the command, or its shim.
    pub(super) pid: Pid,
    /// Closes at exec; says what went wrong before.
    pub(super) status: OwnedFd,
    /// Where a shim reports the exit code.
    pub(super) report: Option<OwnedFd>,
}

/// Starts a command inside a running container whose main process is `main`.
pub(super) fn exec(
    context: &Context,
    sandbox: &Sandbox,
    spec: &Spec,
    cgroup: Option<&Cgroup>,
    main: Pid,
    argv: &[String],
    output: &OwnedFd,
) -> Result<Executed, Failure> {
    let caps = check(context, spec, &mut Vec::new())?;
    let gone = |_| Failure::run("the container is not running");
    let pidfd = if context.mode == Mode::Plain {
        None
    } else {
        let pid = rustix::process::Pid::from_raw(main).ok_or_else(|| gone(()))?;
        let flags = rustix::process::PidfdFlags::empty();
        Some(rustix::process::pidfd_open(pid, flags).map_err(|_| gone(()))?)
    };
    let kind = Kind::Join { pidfd: pidfd.as_ref(), argv };
    let birth = Birth { context, sandbox, spec, caps, output: [output.as_fd(); 2], kind };
    let enter = |error: io::Error| {
        Failure::run(format!("cannot enter the container: {}", rootfs::words(&error)))
    };
    if needs_shim(context, sandbox) {
        let (report, reporter) = status_pipe().map_err(enter)?;
        let made = in_pipe(|status| clone_shim(&birth, cgroup, status, Some(reporter)));
        let (pid, status) = made.map_err(enter)?;
        return Ok(Executed { pid, status, report: Some(report) });
    }
    let made = in_pipe(|status| {
        let into = cgroup.map(Cgroup::open).transpose()?;
        let pids: OwnedFd = fs::File::open(format!("/proc/{main}/ns/pid"))?.into();
        // SAFETY: the launcher has one thread (checked when it was forked).
        let clone = |more| unsafe { clone3(more, into.as_ref().map(AsFd::as_fd)) };
        match context.own.clone_into(&pids, clone)? {
            Cloned::Parent(pid) => Ok(pid),
            Cloned::Child => {
                become_container(&birth, &Parent::Launcher(context.alive.as_fd()), &status)
            }
        }
    });
    let (pid, status) = made.map_err(enter)?;
    Ok(Executed { pid, status, report: None })
}

/// Refuses what cannot be done here, so that nothing is silently left out; the answer is what the
/// container may keep.
pub(super) fn check(
    context: &Context,
    spec: &Spec,
    warnings: &mut Vec<String>,
) -> Result<Caps, Failure> {
    if spec.argv.is_empty() {
        return Err(Failure::create("no command specified"));
    }
    if !spec.cwd.is_absolute() {
        return Err(Failure::create(format!(
            "workingDir \"{}\" is not absolute",
            spec.cwd.display()
        )));
    }
    match context.mode {
        Mode::Root => {}
        Mode::Rootless => check_rootless(spec, warnings)?,
        Mode::Plain => check_plain(spec)?,
    }
    if context.mode != Mode::Rootless {
        check_user(context, spec)?;
    }
    let Some(wanted) = spec.caps else { return Ok(context.caps) };
    let lacking = wanted.without(context.caps).without(Caps::defaults());
    if !lacking.is_empty() {
        return Err(Failure::create(format!(
            "capability {lacking} cannot be given: holdfast does not have it itself"
        )));
    }
    Ok(wanted.intersect(context.caps))
}

fn check_user(context: &Context, spec: &Spec) -> Result<(), Failure> {
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    let other = spec.uid.is_some_and(|wanted| wanted != uid)
        || spec.gid.is_some_and(|wanted| wanted != gid)
        || spec.groups.iter().any(|group| *group != gid);
    if other && !context.caps.contains(Caps::SET_IDS) {
        return Err(Failure::create(format!(
            "cannot run as user {} with group {}: holdfast itself runs as user {uid}, group {gid}, \
             without the right to change them; run it as root",
            spec.uid.unwrap_or(uid),
            spec.gid.unwrap_or(gid),
        )));
    }
    Ok(())
}

fn check_rootless(spec: &Spec, warnings: &mut Vec<String>) -> Result<(), Failure> {
    if let Some(mount) = spec.mounts.iter().find(|mount| mount.propagation == Propagation::Both) {
        return Err(Failure::create(format!(
            "the mount at \"{}\" cannot be Bidirectional: that needs root",
            mount.target.display()
        )));
    }
    let own = spec.gid.unwrap_or(0);
    if spec.groups.iter().any(|group| *group != own) {
        warnings.push(
            "supplementary groups (fsGroup, supplementalGroups) are left out: a user namespace made \
             without root has one group"
                .to_owned(),
        );
    }
    Ok(())
}

/// The files that Kubernetes writes for each pod. Plain processes see the host's instead; the notice at
/// the start says so.
const GENERATED: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

fn check_plain(spec: &Spec) -> Result<(), Failure> {
    let refuse = |what: String| {
        Err(Failure::create(format!(
            "{what} needs namespaces, which this machine does not allow (or --isolation none forbids)"
        )))
    };
    if spec.root != Root::Host {
        return refuse("an image other than the host's files".to_owned());
    }
    let other = |target: &std::path::Path| {
        !GENERATED.iter().any(|known| target == std::path::Path::new(known))
    };
    if let Some(mount) = spec.mounts.iter().find(|mount| other(&mount.target)) {
        return refuse(format!("a volume mounted at \"{}\"", mount.target.display()));
    }
    if spec.read_only_root {
        return refuse("readOnlyRootFilesystem".to_owned());
    }
    Ok(())
}

/// Kills what has been launched, before its program runs or after.
pub(super) fn kill(pid: Pid, shim: bool, cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup
        && cgroup.kill().is_ok()
    {
        return;
    }
    if shim {
        signals::queue(pid, signals::kill_all(), 0);
    } else {
        signals::kill(pid, libc::SIGKILL);
        // Where it is not the PID 1 whose end takes the others along: at least its process group.
        signals::kill(-pid, libc::SIGKILL);
    }
}
