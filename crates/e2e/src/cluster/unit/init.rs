//! Process 1 of a unit: makes the namespaces, then serves.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};

use super::super::cgroups;
use super::super::layout::Layout;
use super::{READY, mounts, supervisor};

/// `cluster init DIR UNIT`. Ends only with an error; the lifeline ends it otherwise.
pub(in super::super) fn init(layout: &Layout, unit: &str) -> Result<()> {
    nix::unistd::setsid().context("setsid")?;
    // First, so that the cgroup namespace begins at the unit's own cgroup.
    cgroups::join(layout, unit)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .context("no namespaces can be made; are you root?")?;
    nix::unistd::sethostname(unit).context("sethostname")?;
    mounts::build(layout, unit)?;
    cgroups::leaf()?;
    for (name, value) in SYSCTLS {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).context(*name)?;
    }
    let listener = supervisor::listen(&layout.unit(unit))?;
    writeln!(std::io::stdout(), "{READY}")?;
    std::thread::spawn(|| {
        // The keeper never writes: this ends when it does, and with this process everything here.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    supervisor::serve(listener, layout, unit)
}

/// What the unit's network does.
const SYSCTLS: &[(&str, &str)] = &[
    ("ip_forward", "1"),
    // Connections of killed processes hold a network namespace, with all its links and rules, for as
    // long as the kernel says goodbye to the other side: minutes, if that is gone as well.
    ("tcp_fin_timeout", "1"),
    ("tcp_orphan_retries", "1"),
];
