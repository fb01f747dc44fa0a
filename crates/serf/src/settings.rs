//! Who a member is, and how fast things go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::keyring::Keyring;
use crate::wire::{META_MAX, encode_tags};

/// Why a member cannot be made, or its tags not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Serf: `validateNodeName`, and what memberlist cannot do without.
    #[error(
        "node name {0:?} cannot be used: 1 to 128 letters, digits, dashes, dots and underscores are allowed"
    )]
    Name(String),
    /// Others have to know where to send to.
    #[error("{0} cannot be advertised: other members could not send there")]
    Advertise(SocketAddr),
    /// Serf: tags travel as a node's meta data.
    #[error(
        "the tags take {0} bytes as Serf writes them, and {META_MAX} is the most: shorten or drop some"
    )]
    Tags(usize),
}

/// memberlist's and Serf's configuration, as far as it is ours to choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Unique in the cluster.
    pub name: String,
    /// Where others reach this member, by UDP and TCP.
    pub advertise: SocketAddr,
    /// Shown to everyone; at most [`META_MAX`] bytes as they are sent.
    pub tags: BTreeMap<String, String>,
    /// Without one, everything is in clear, and what is encrypted is refused; with one, what is in clear is.
    pub keyring: Option<Keyring>,
    /// See [`Timing`].
    pub timing: Timing,
}

/// How often and how long; the defaults are what `serf agent` uses in its profile `lan`.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From one probe of a node to the next.
    pub probe_interval: Duration,
    /// How long an answer may take before others are asked to try.
    pub probe_timeout: Duration,
    /// How many are asked.
    pub indirect_checks: usize,
    /// From one round of gossip to the next.
    pub gossip_interval: Duration,
    /// To how many nodes a round goes.
    pub gossip_nodes: usize,
    /// How long a node that died is still told things, among them that it is thought to have died.
    pub gossip_to_the_dead: Duration,
    /// Times ⌈log10(n+1)⌉ is how often a message is sent.
    pub retransmit_mult: u32,
    /// Times log10(n) times the probe interval is the least time from suspect to dead.
    pub suspicion_mult: u32,
    /// The most time, as a multiple of the least.
    pub suspicion_max_mult: u32,
    /// From one full exchange with some node to the next (longer in clusters of more than 32).
    pub push_pull_interval: Duration,
    /// How long a connection may take for all that it does.
    pub stream_timeout: Duration,
    /// From one attempt to reach a failed member again to the next.
    pub reconnect_interval: Duration,
    /// How long a failed member is remembered.
    pub reconnect_timeout: Duration,
    /// How long a member that left is remembered.
    pub tombstone_timeout: Duration,
    /// How long a message of one's own leaving may take to be sent as often as it should.
    pub broadcast_timeout: Duration,
    /// And how long it is then given to spread.
    pub leave_propagate_delay: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            probe_interval: seconds(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            gossip_to_the_dead: seconds(30),
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            push_pull_interval: seconds(30),
            stream_timeout: seconds(10),
            reconnect_interval: seconds(30),
            reconnect_timeout: seconds(24 * 3600),
            tombstone_timeout: seconds(24 * 3600),
            broadcast_timeout: seconds(5),
            leave_propagate_delay: seconds(1),
        }
    }
}

impl Timing {
    /// The least time from suspect to dead in a cluster of so many nodes (`suspicionTimeout`).
    #[must_use]
    pub fn suspicion_least(&self, nodes: usize) -> Duration {
        let scale = (nodes.max(1) as f64).log10().max(1.0);
        self.probe_interval.mul_f64(f64::from(self.suspicion_mult) * scale)
    }

    /// In what time a member that dies is found out by a cluster of `nodes`, at most and if no message is lost: each
    /// of the others probes it within as many intervals as there are nodes, twice in the worst order of its shuffled
    /// rounds; then the longest suspicion.
    #[must_use]
    pub fn detection_bound(&self, nodes: usize) -> Duration {
        let rounds = 2 * u32::try_from(nodes).unwrap_or(u32::MAX);
        self.probe_interval.saturating_mul(rounds.saturating_add(1))
            + self.suspicion_least(nodes) * self.suspicion_max_mult
    }

    /// From one full exchange to the next in a cluster of so many nodes (`pushPullScale`).
    pub(crate) fn push_pull(&self, nodes: usize) -> Duration {
        const THRESHOLD: f64 = 32.0;
        let nodes = nodes as f64;
        if nodes <= THRESHOLD {
            return self.push_pull_interval;
        }
        self.push_pull_interval.mul_f64((nodes.log2() - THRESHOLD.log2()).ceil() + 1.0)
    }
}

impl Settings {
    /// A member without tags and encryption, in Serf's pace for a LAN.
    #[must_use]
    pub fn new(name: impl Into<String>, advertise: SocketAddr) -> Self {
        Self {
            name: name.into(),
            advertise,
            tags: BTreeMap::new(),
            keyring: None,
            timing: Timing::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.chars().all(fits) {
            return Err(SettingsError::Name(self.name.clone()));
        }
        if self.advertise.ip().is_unspecified() || self.advertise.port() == 0 {
            return Err(SettingsError::Advertise(self.advertise));
        }
        check_tags(&self.tags)
    }
}

pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), SettingsError> {
    match encode_tags(tags).len() {
        size if size > META_MAX => Err(SettingsError::Tags(size)),
        _ => Ok(()),
    }
}
