//! Runs a program in a unit, from outside.

use std::ffi::OsString;
use std::fs::File;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::super::cgroups;
use super::super::layout::Layout;

/// `cluster enter DIR UNIT -- COMMAND…`: as if started there. Signals are handed on to the command, and
/// it is killed when this process is.
pub(in super::super) fn enter(
    layout: &Layout,
    unit: &str,
    init: i32,
    command: &[OsString],
) -> Result<ExitStatus> {
    let dir = std::env::current_dir()?;
    cgroups::join_from_outside(layout, unit)?;
    // All before the first is entered: /proc is another one afterwards. The mounts come last.
    let spaces = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let files =
        spaces.map(|(name, flag)| (File::open(format!("/proc/{init}/ns/{name}")), name, flag));
    for (file, name, flag) in files {
        file.map_err(anyhow::Error::from)
            .and_then(|file| setns(file, flag).map_err(Into::into))
            .with_context(|| format!("the {name} namespace of unit {unit} (process {init})"))?;
    }
    // Entering a mount namespace moves to its root.
    std::env::set_current_dir(&dir).with_context(|| dir.display().to_string())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(command))
}

async fn run(command: &[OsString]) -> Result<ExitStatus> {
    let mut child = tokio::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(command)
        .spawn()
        .context("cannot start setpriv, which is of util-linux")?;
    let pid = Pid::from_raw(child.id().context("it has just been started")?.cast_signed());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hangup.recv() => Signal::SIGHUP,
            _ = quit.recv() => Signal::SIGQUIT,
        };
        // If it has just ended, the next turn of the loop sees it.
        let _ = kill(pid, signal);
    }
}
