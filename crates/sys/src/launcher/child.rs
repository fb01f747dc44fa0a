//! A container's process from its clone to its exec.
//!
//! It is a copy of the launcher, which has one thread, so ordinary Rust (and malloc) is safe here. What
//! goes wrong is written as a [`Failure`] into a pipe that closes at exec: an empty pipe is success.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::Resource;

use super::context::{Context, put};
use super::parent::{Parent, close_on_exec, die_with};
use super::protocol::{Failure, Mode, Spec};
use super::rootfs::{Builder, During, Sources, words};
use super::sandbox::Sandbox;
use crate::caps::{self, Caps};
use crate::clone::exit_now;
use crate::{signals, userns};

/// What a new process is to become.
pub(super) struct Birth<'a> {
    pub(super) context: &'a Context,
    pub(super) sandbox: &'a Sandbox,
    pub(super) spec: &'a Spec,
    /// The capabilities it keeps.
    pub(super) caps: Caps,
    /// Its stdout and stderr.
    pub(super) output: [BorrowedFd<'a>; 2],
    pub(super) kind: Kind<'a>,
}

/// The two ways into a container.
pub(super) enum Kind<'a> {
    /// Its main process builds it; with the sources of its mounts.
    Main(&'a Sources),
    /// As the main process, but only to see whether all of that works here.
    Probe(&'a Sources),
    /// A command joins the namespaces of the main process.
    Join {
        /// The main process, `None` where there are no namespaces.
        pidfd: Option<&'a OwnedFd>,
        /// What to run.
        argv: &'a [String],
    },
}

/// Where containerd looks without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process of [`Kind::Probe`] says when all has gone well.
pub(super) const PROBED: u8 = b'+';

/// Goes on as the container's process; never returns.
pub(super) fn become_container(birth: &Birth<'_>, parent: &Parent<'_>, status: &OwnedFd) -> ! {
    birth.context.dir.forget_lock_in_child();
    match prepare(birth, parent) {
        Ok(never) => match never {},
        Err(stop) => end(stop, status),
    }
}

/// Ends a process that has become nothing, and says why.
pub(super) fn end(stop: Stop, status: &OwnedFd) -> ! {
    let failure = match stop {
        Stop::Probed => {
            let _ = rustix::io::write(status, &[PROBED]);
            exit_now(0)
        }
        Stop::Failed(failure) => failure,
    };
    // A pipe takes this much at once; there is nobody to tell if it does not.
    let text = serde_json::to_vec(&failure).unwrap_or_default();
    let _ = rustix::io::write(status, &text);
    exit_now(127)
}

/// Why there was no exec.
pub(super) enum Stop {
    /// It went wrong.
    Failed(Failure),
    /// It went well, and was only to be tried.
    Probed,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn prepare(birth: &Birth<'_>, parent: &Parent<'_>) -> Result<Infallible, Stop> {
    let argv = match &birth.kind {
        Kind::Main(sources) | Kind::Probe(sources) => {
            build(birth, sources)?;
            &birth.spec.argv
        }
        Kind::Join { pidfd, argv } => {
            begin();
            if let Some(pidfd) = pidfd {
                join(birth, pidfd)?;
            }
            *argv
        }
    };
    finish(birth, parent, argv)
}

fn begin() {
    // runc: containers of containerd are sessions of their own.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::empty());
}

/// The first half of a main process: its namespaces and its root.
pub(super) fn build(birth: &Birth<'_>, sources: &Sources) -> Result<(), Failure> {
    begin();
    enter_sandbox(birth, sources)
}

/// The second half: who it is, and its program.
pub(super) fn finish(
    birth: &Birth<'_>,
    parent: &Parent<'_>,
    argv: &[String],
) -> Result<Infallible, Stop> {
    let (uid, gid) = identity(birth);
    own_output(birth, uid, gid);
    put(&birth.context.null, 0)
        .and_then(|()| put(birth.output[0], 1))
        .and_then(|()| put(birth.output[1], 2))
        .during(|| "cannot connect stdin, stdout and stderr".to_owned())?;
    drop_rights(birth, uid, gid)?;
    let cwd = &birth.spec.cwd;
    rustix::process::chdir(cwd).map_err(|error| {
        let error = words(&error.into());
        Failure::run(format!(
            "chdir to cwd (\"{}\") set in config.json failed: {error}",
            cwd.display()
        ))
    })?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    signals::reset(&birth.context.ignored);
    // What the launcher raised for itself.
    rustix::process::setrlimit(Resource::Nofile, birth.context.open_files)
        .during(|| "cannot restore the limit of open files".to_owned())?;
    die_with(parent, libc::SIGKILL).during(|| "cannot be tied to the launcher".to_owned())?;
    if matches!(birth.kind, Kind::Probe(_)) {
        return Err(Stop::Probed);
    }
    close_on_exec().during(|| "cannot close what is not the container's".to_owned())?;
    Err(Stop::Failed(exec(argv, &environment(birth, uid))))
}

/// Enters the pod's namespaces and builds the root.
fn enter_sandbox(birth: &Birth<'_>, sources: &Sources) -> Result<(), Failure> {
    if birth.context.mode == Mode::Plain {
        return Ok(());
    }
    let shared = [
        (&birth.sandbox.uts, CloneFlags::CLONE_NEWUTS),
        (&birth.sandbox.ipc, CloneFlags::CLONE_NEWIPC),
        (&birth.sandbox.net, CloneFlags::CLONE_NEWNET),
    ];
    for (namespace, flag) in shared {
        if let Some(namespace) = namespace {
            setns(namespace, flag).during(|| "cannot enter the pod's namespaces".to_owned())?;
        }
    }
    if birth.sandbox.cgroup.is_some() {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .during(|| "cannot make a cgroup namespace".to_owned())?;
    }
    let rehearsal = matches!(birth.kind, Kind::Probe(_));
    Builder::new(birth.context, birth.sandbox, birth.spec, rehearsal).build(sources)
}

/// Enters the namespaces of the main process; the PID namespace was entered by the clone.
fn join(birth: &Birth<'_>, pidfd: &OwnedFd) -> Result<(), Failure> {
    // Those it shares with us we are in already, and may have no right to enter.
    let sandbox = birth.sandbox;
    let mut flags = CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWUTS, sandbox.uts.is_some());
    flags.set(CloneFlags::CLONE_NEWIPC, sandbox.ipc.is_some());
    flags.set(CloneFlags::CLONE_NEWNET, sandbox.net.is_some());
    flags.set(CloneFlags::CLONE_NEWCGROUP, sandbox.cgroup.is_some());
    flags.set(CloneFlags::CLONE_NEWUSER, has_user_namespace(birth));
    setns(pidfd, flags).during(|| "cannot enter the container".to_owned())
}

/// Whether the container has a user namespace of its own: only there can a caller without rights
/// appear as anyone but root.
fn has_user_namespace(birth: &Birth<'_>) -> bool {
    birth.context.mode == Mode::Rootless && identity(birth) != (0, 0)
}

/// Who it will be.
fn identity(birth: &Birth<'_>) -> (u32, u32) {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    (birth.spec.uid.unwrap_or(own.0), birth.spec.gid.unwrap_or(own.1))
}

/// Lets the container's user open `/dev/stdout` again, as runc does (`fixStdioPermissions`).
fn own_output(birth: &Birth<'_>, uid: u32, gid: u32) {
    for fd in birth.output {
        // Not possible with another mapping; then the user is the owner anyway.
        let _ = nix::unistd::fchown(fd, Some(uid.into()), Some(gid.into()));
    }
}

/// Gives up everything the container is not to have.
fn drop_rights(birth: &Birth<'_>, uid: u32, gid: u32) -> Result<(), Failure> {
    let spec = birth.spec;
    let joining = matches!(birth.kind, Kind::Join { .. });
    if has_user_namespace(birth) && !joining {
        userns::enter(uid, gid).during(|| format!("cannot become user {uid}, group {gid}"))?;
    }
    caps::limit_bounding(birth.caps).during(|| "cannot limit the capabilities".to_owned())?;
    if birth.context.mode != Mode::Rootless {
        become_user(birth, uid, gid)?;
    }
    if spec.no_new_privs {
        rustix::thread::set_no_new_privs(true).during(|| "cannot set no_new_privs".to_owned())?;
    }
    // After a change to an ordinary user there is nothing left to keep.
    let own = Caps::own().unwrap_or_default();
    caps::set(birth.caps.intersect(own)).during(|| "cannot set the capabilities".to_owned())
}

fn become_user(birth: &Birth<'_>, uid: u32, gid: u32) -> Result<(), Failure> {
    let spec = birth.spec;
    let asked = spec.uid.is_some() || spec.gid.is_some() || !spec.groups.is_empty();
    // A plain process nobody said anything about stays who it is, with the caller's other groups.
    if !asked && birth.context.mode == Mode::Plain {
        return Ok(());
    }
    let may = Caps::own().unwrap_or_default().contains(Caps::SET_IDS);
    if may {
        let groups: Vec<nix::unistd::Gid> = spec.groups.iter().map(|gid| (*gid).into()).collect();
        nix::unistd::setgroups(&groups).during(|| "cannot set the groups".to_owned())?;
    }
    nix::unistd::setresgid(gid.into(), gid.into(), gid.into())
        .during(|| format!("cannot become group {gid}"))?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into())
        .during(|| format!("cannot become user {uid}"))
}

/// The environment, with `HOME` from the container's `/etc/passwd` if it is not set (as runc does).
fn environment(birth: &Birth<'_>, uid: u32) -> Vec<(String, String)> {
    let mut env = birth.spec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        env.push(("HOME".to_owned(), home_of(&passwd, uid).unwrap_or("/").to_owned()));
    }
    env
}

fn home_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let this: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?;
        (this == uid && !home.is_empty()).then_some(home)
    })
}

/// Replaces the process; only comes back with what went wrong, in the words of runc.
fn exec(argv: &[String], env: &[(String, String)]) -> Failure {
    let Some(name) = argv.first() else {
        return Failure::create("no command specified");
    };
    let program = match find(name, env) {
        Ok(program) => program,
        Err(why) => return Failure::run(format!("exec: \"{name}\": {why}")),
    };
    let zero = |_| {
        Failure::create(format!("exec: \"{name}\": a NUL byte in its arguments or environment"))
    };
    let c_strings = |texts: &mut dyn Iterator<Item = String>| {
        texts.map(CString::new).collect::<Result<Vec<_>, _>>()
    };
    let prepared = c_strings(&mut argv.iter().cloned()).and_then(|argv| {
        let env = c_strings(&mut env.iter().map(|(name, value)| format!("{name}={value}")))?;
        Ok((CString::new(program.clone())?, argv, env))
    });
    let (path, argv, env) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return zero(error),
    };
    let Err(error) = nix::unistd::execve(&path, &argv, &env);
    Failure::run(format!("exec {program}: {}", words(&error.into())))
}

/// Finds a program as Go's `exec.LookPath` does, and says what is wrong in its words.
fn find(name: &str, env: &[(String, String)]) -> Result<String, String> {
    if name.contains('/') {
        return executable(name).map(|()| name.to_owned()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("stat {name}: no such file or directory"),
            _ => words(&error),
        });
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        if executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err("executable file not found in $PATH".to_owned())
}

fn executable(path: &str) -> io::Result<()> {
    let meta = fs::metadata(Path::new(path))?;
    if meta.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if meta.mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_runc_does() {
        let env = vec![("PATH".to_owned(), "/nowhere:/bin".to_owned())];
        assert_eq!(find("true", &env).unwrap(), "/bin/true");
        assert_eq!(find("nope", &env).unwrap_err(), "executable file not found in $PATH");
        assert_eq!(find("/nope", &env).unwrap_err(), "stat /nope: no such file or directory");
        assert_eq!(find("/etc/passwd", &env).unwrap_err(), "permission denied");
        assert_eq!(find("/tmp", &env).unwrap_err(), "is a directory");
    }

    #[test]
    fn home_comes_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33:web::/bin/sh\n";
        assert_eq!(home_of(passwd, 0), Some("/root"));
        assert_eq!(home_of(passwd, 33), None);
        assert_eq!(home_of(passwd, 1), None);
    }
}
