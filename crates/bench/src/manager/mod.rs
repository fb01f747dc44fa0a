//! `holdfast manager`: how long nobody leads, and how long the interface is there before the proxy is.

mod bind;
mod failover;

use anyhow::Result;

use crate::report::{Row, Section};
use crate::run::Holdfast;
use crate::stats::Samples;

pub use bind::inside;

/// How often each is tried.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Leaders that end, are killed or are frozen, each.
    pub leaders: usize,
    /// Addresses that appear, of each family.
    pub addresses: usize,
    /// Starts with the interface already there.
    pub starts: usize,
}

impl Size {
    /// What the numbers are made with.
    pub const FULL: Self = Self { leaders: 7, addresses: 200, starts: 30 };
}

/// Measures the manager. Needs root, and brings up a control plane.
///
/// # Errors
/// If the control plane does not come up, or a manager does not do what it should.
pub fn report(holdfast: &Holdfast, size: Size) -> Result<Section> {
    let mut section = Section::new(
        "The manager",
        "Three replicas at a time, processes on this machine, and a real API server; durations of the election as \
         by default (lease 15 s, renewal 10 s, retry 2 s). From the signal to the moment when another replica \
         says that it has the lease. Addresses come to an interface in a network namespace of its own; from the \
         command to `ip` until the proxy's port takes a connection there. The Netmaker operator was measured on \
         such a machine before, its figures are in the wanted column.",
    );
    for (end, times) in failover::measure(holdfast, size.leaders)? {
        section.push(match end {
            failover::End::Clean => row("the leader gets SIGTERM → another leads", &times)
                .wanted("median ≤ 200 ms (operator: 18.3 s)")
                .ok(times.median() <= 200.0),
            failover::End::Killed => row("the leader gets `kill -9` → another leads", &times)
                .wanted("≤ 15 s and one retry of 2 s (operator: 18.0 s)")
                .ok(times.max() <= 17_000.0),
            failover::End::Frozen => row("the leader gets SIGSTOP → another leads", &times)
                .wanted("≤ 15 s and one retry of 2 s")
                .ok(times.max() <= 17_000.0),
        });
    }
    let times = bind::measure(holdfast, size)?;
    for (family, times) in [("an address of IPv4", &times.v4), ("an address of IPv6", &times.v6)] {
        let row = row(&format!("{family} → the proxy listens there"), times);
        let wanted = "always ≤ 50 ms (operator: 0.1 to 14 s)";
        section.push(row.wanted(wanted).ok(times.max() <= 50.0));
    }
    let row = row("start with the interface already there → the proxy listens", &times.start);
    section.push(row.wanted("less (operator: 5.1 s)").ok(times.start.max() < 5_100.0));
    Ok(section)
}

fn row(what: &str, times: &Samples) -> Row {
    // Of milliseconds one decimal, of seconds none.
    let digits = usize::from(times.max() < 1_000.0);
    Row::new(&format!("{what} ({} times)", times.len())).got(&format!(
        "min {:.digits$}, median {:.digits$}, max {:.digits$} ms",
        times.min(),
        times.median(),
        times.max()
    ))
}
