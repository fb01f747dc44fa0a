//! Faults that tests put into the machine on purpose, to see that they would be found.

/// A fault. Outside of tests there is none.
#[cfg_attr(not(test), allow(dead_code, reason = "tests ask for them, the machine only looks"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// A record of a lower version replaces one of a higher.
    OldRecordWins,
    /// Of two records of one version the one that came first stays.
    FirstForkStays,
    /// A record is believed without a proof of admission.
    NoCredential,
    /// A removed node is let in again if its record has a higher version.
    RemovalOutlived,
    /// A node that finds its address claimed by another keeps it and goes on.
    LoserStays,
    /// Of two that claim one address each node takes itself, or whom it heard of first, for the holder.
    FirstHeardHolds,
    /// Records are spread by gossip only.
    NoAntiEntropy,
    /// Nobody looks for those who are out of reach.
    NoRejoin,
    /// Who sent a datagram is who it says it is.
    NoPairCheck,
    /// The same datagram is taken twice.
    NoReplayWindow,
    /// A challenge is answered by any signature of that key, however old.
    StaleProof,
    /// A token can be used by any number of nodes.
    TokenUnspent,
}
