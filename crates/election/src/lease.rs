//! What is written in a Lease (coordination.k8s.io/v1), as far as an election reads it.

use std::time::Duration;

use crate::time::Wall;

/// A Lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `spec`.
    pub record: Record,
}

/// `spec` of a Lease; what it does not have is empty or zero (client-go: `LeaseSpecToLeaderElectionRecord`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// `holderIdentity`; empty if nobody holds it.
    pub holder: String,
    /// `leaseDurationSeconds`.
    pub duration_seconds: u32,
    /// `acquireTime`.
    pub acquired: Option<Wall>,
    /// `renewTime`.
    pub renewed: Option<Wall>,
    /// `leaseTransitions`: how often the holder has become another one.
    pub transitions: u32,
}

impl Record {
    /// For how long it is left alone when it does not change.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_seconds.into())
    }
}

/// A `resourceVersion`: a write that names it succeeds only if the object still has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub String);

impl Version {
    /// Whether this is the same or an older version, as far as that can be told.
    ///
    /// Versions of built-in objects are numbers that grow (guaranteed since Kubernetes 1.35). Only news
    /// of a watch are left out by this; a mistake costs a poll.
    pub(crate) fn is_not_newer_than(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(this), Ok(other)) => this <= other,
            _ => self == other,
        }
    }
}
