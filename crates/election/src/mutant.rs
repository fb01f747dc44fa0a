//! Faults that tests put into the machine on purpose, to see that they would be found.

/// A fault. Outside of tests there is none.
#[cfg_attr(not(test), allow(dead_code, reason = "tests ask for them, the machine only looks"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// Writes do not name the version that they replace (as a merge patch without one).
    Unguarded,
    /// Whether a lease has ended is judged by its `renewTime` and the own wall clock.
    WallClock,
    /// The renew deadline counts from the next try after a successful renewal's answer, as client-go's does,
    /// not from when that was sent.
    DeadlineFromAnswer,
    /// Who leads does so until another's name is in the lease.
    NoDeadline,
    /// An answer that comes after the deadline makes a leader all the same.
    LateAnswerLeads,
    /// The lease is released while the work still runs.
    EarlyRelease,
    /// A lease that is seen for the first time is taken for ended.
    FirstSightEnded,
    /// A renewal by the holder does not begin its duration anew.
    RenewalUnseen,
}
