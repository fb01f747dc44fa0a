//! The keeper: holds a unit from outside and clears away what its end leaves on the host.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::cgroups;
use super::super::layout::{Layout, tail};
use super::super::state::State;
use super::READY;

/// The keeper of a unit, as `up` sees it. When this is dropped, the unit stays if the cluster's state says
/// that it is up, and ends otherwise. So all units of a cluster stay, or none, whenever `up` is killed.
pub(in super::super) struct Keeper {
    _lifeline: ChildStdin,
    /// The unit's process 1, as the host counts processes.
    pub(in super::super) init: i32,
}

impl Keeper {
    /// Starts a unit and returns when its init answers. `program` is this program.
    pub(in super::super) fn start(program: &Path, layout: &Layout, unit: &str) -> Result<Self> {
        let log = layout.log(unit, "init");
        std::fs::create_dir_all(log.parent().unwrap_or(layout.dir()))?;
        let mut child = command(program, "keep", layout, unit)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lifeline = child.stdin.take().context("the keeper has a pipe for stdin")?;
        let stdout = child.stdout.take().context("the keeper has a pipe for stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        // From here on it is waited for by whoever inherits it: it outlives `up`.
        match line.trim().parse() {
            Ok(init) => Ok(Self { _lifeline: lifeline, init }),
            Err(_) => {
                drop(lifeline);
                child.wait()?;
                bail!(
                    "unit {unit} did not come up; its log ({}) ends:\n{}",
                    log.display(),
                    tail(&log)
                )
            }
        }
    }
}

/// `cluster keep DIR UNIT`: what a keeper does.
pub(in super::super) fn keep(layout: &Layout, unit: &str) -> Result<()> {
    nix::unistd::setsid().context("setsid")?;
    // Children of this process are in a new process namespace; the first of them is its process 1.
    unshare(CloneFlags::CLONE_NEWPID).context("no process namespace can be made; are you root?")?;
    cgroups::create(layout, unit)?;
    let ended = hold(layout, unit);
    cgroups::remove(layout, Some(unit))?;
    ended
}

/// Runs init until it ends, or `up` does.
fn hold(layout: &Layout, unit: &str) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut init = command(&program, "init", layout, unit)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start init")?;
    let lifeline = init.stdin.take();
    if let Some(stdout) = init.stdout.take() {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() == READY {
            // Nobody may be listening any more; then the pipe that is read next has ended as well.
            let _ = writeln!(std::io::stdout(), "{}", init.id());
        }
    }
    watch(layout, &init, lifeline)?;
    init.wait().context("init")?;
    Ok(())
}

/// Returns when init has ended, having dropped its `lifeline` if `up` ended before the cluster was up.
///
/// One thread has to do for both: a process whose children are in another process namespace can have no
/// second one (clone(2), EINVAL).
fn watch(layout: &Layout, init: &Child, mut lifeline: Option<ChildStdin>) -> Result<()> {
    let init = pidfd_open(Pid::from_child(init), PidfdFlags::empty()).context("init")?;
    let stdin = std::io::stdin();
    let mut up = true;
    loop {
        let mut events = vec![PollFd::new(&init, PollFlags::IN)];
        if up {
            events.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        let [ended, spoke] = [0, 1].map(|i| events.get(i).is_some_and(|e| !e.revents().is_empty()));
        if ended {
            return Ok(());
        }
        if spoke {
            up = false;
            // Nothing is ever written to it: this is its end.
            if !State::read(layout).is_some_and(|state| state.up) {
                drop(lifeline.take());
            }
        }
    }
}

/// This program as a part of a cluster. The words are what `down` finds it by.
fn command(program: &Path, role: &str, layout: &Layout, unit: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["cluster", role]).arg(layout.dir()).arg(unit);
    command
}
