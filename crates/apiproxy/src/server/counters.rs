//! What has happened since the start, for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Counters of a proxy; read them with [`Counters::snapshot`].
#[derive(Debug)]
pub struct Counters {
    /// By code; the last one is for requests that ended without an answer.
    requests: [AtomicU64; 501],
    pub(crate) in_flight: AtomicU64,
    pub(crate) tunnels: AtomicU64,
    pub(crate) tunnels_total: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) handshake_errors: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) upstream_errors: AtomicU64,
    pub(crate) ended_sessions: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Ended requests by the code that the client got; 0 for none, because it had gone.
    pub requests: BTreeMap<u16, u64>,
    /// Requests under way, watches and tunnels included.
    pub in_flight: u64,
    /// Tunnels (exec, attach, port-forward) open.
    pub tunnels: u64,
    /// Tunnels ever opened.
    pub tunnels_total: u64,
    /// Connections of clients open.
    pub connections: u64,
    /// Connections ever accepted.
    pub connections_total: u64,
    /// Connections closed at once because of a limit.
    pub refused_connections: u64,
    /// TLS handshakes of clients that failed.
    pub handshake_errors: u64,
    /// Bytes of bodies and tunnels from clients.
    pub received_bytes: u64,
    /// Bytes of bodies and tunnels to clients.
    pub sent_bytes: u64,
    /// Requests that the API server did not answer: unreachable, closed half-way, too slow.
    pub upstream_errors: u64,
    /// Connections cut because the peer's user mapping had changed or expired.
    pub ended_sessions: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; 501],
            in_flight: AtomicU64::default(),
            tunnels: AtomicU64::default(),
            tunnels_total: AtomicU64::default(),
            connections: AtomicU64::default(),
            connections_total: AtomicU64::default(),
            refused_connections: AtomicU64::default(),
            handshake_errors: AtomicU64::default(),
            received: AtomicU64::default(),
            sent: AtomicU64::default(),
            upstream_errors: AtomicU64::default(),
            ended_sessions: AtomicU64::default(),
        }
    }
}

impl Counters {
    pub(crate) fn request(&self, code: Option<StatusCode>) {
        let index = code.map_or(NO_ANSWER, |code| usize::from(code.as_u16()).saturating_sub(100));
        add(&self.requests[index.min(NO_ANSWER)], 1);
    }

    /// All counters now.
    pub fn snapshot(&self) -> Snapshot {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_code = |(index, counter): (usize, &AtomicU64)| {
            let code = if index == NO_ANSWER { 0 } else { index + 100 };
            let count = value(counter);
            (count > 0).then(|| Some((u16::try_from(code).ok()?, count)))?
        };
        Snapshot {
            requests: self.requests.iter().enumerate().filter_map(by_code).collect(),
            in_flight: value(&self.in_flight),
            tunnels: value(&self.tunnels),
            tunnels_total: value(&self.tunnels_total),
            connections: value(&self.connections),
            connections_total: value(&self.connections_total),
            refused_connections: value(&self.refused_connections),
            handshake_errors: value(&self.handshake_errors),
            received_bytes: value(&self.received),
            sent_bytes: value(&self.sent),
            upstream_errors: value(&self.upstream_errors),
            ended_sessions: value(&self.ended_sessions),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(crate) fn less(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

const NO_ANSWER: usize = 500;
