//! A peer: its tunnel, where it is, and what has gone to and fro.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use ipnet::IpNet;

use super::limit::Bucket;
use super::udp::Endpoint;
use crate::config::PeerStatus;
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// Who this device is.
pub(super) struct Identity {
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
    /// Checks handshakes before anything is computed for them, and asks for cookies under load.
    pub(super) guard: RateLimiter,
    /// For the tunnels, each of which checks again: it has been done.
    pub(super) checked: Arc<RateLimiter>,
}

impl Identity {
    /// `load` is how many handshakes a second are answered without a cookie.
    pub(super) fn new(private: PrivateKey, load: u32) -> Self {
        let public = private.public();
        Self {
            guard: RateLimiter::new(&public.dalek(), load.into()),
            checked: Arc::new(RateLimiter::new(&public.dalek(), u64::MAX)),
            private,
            public,
        }
    }

    /// A tunnel to a peer. `index` is what the peer names it by, of 24 bits.
    pub(super) fn tunnel(
        &self,
        peer: PublicKey,
        preshared: Option<&PresharedKey>,
        index: u32,
    ) -> Box<Tunn> {
        let preshared = preshared.map(|key| *key.expose());
        let checked = Some(Arc::clone(&self.checked));
        Box::new(Tunn::new(self.private.dalek(), peer.dalek(), preshared, None, index, checked))
    }
}

/// How old the tunnel's own clock may be when a packet is handled.
const FRESH: Duration = Duration::from_millis(200);

/// Sessions end after 180 s (REJECT_AFTER_TIME), and their last traces after three times that.
const SESSIONS: Duration = Duration::from_secs(190);
const TRACES: Duration = Duration::from_secs(550);

pub(super) struct Peer {
    pub(super) public: PublicKey,
    pub(super) preshared: Option<PresharedKey>,
    /// None as long as the device has no key.
    pub(super) tunnel: Option<Box<Tunn>>,
    pub(super) index: u32,
    pub(super) endpoint: Option<Endpoint>,
    /// In the order in which they were given.
    pub(super) allowed: Vec<IpNet>,
    pub(super) keepalive: Option<Duration>,
    pub(super) rx: u64,
    pub(super) tx: u64,
    pub(super) last_handshake: Option<SystemTime>,
    /// A session that the peer began, and has not used yet: the handshake is complete when it does.
    pub(super) unconfirmed: Option<u32>,
    /// Since when we are asking for a session.
    pub(super) asking: bool,
    /// When anything was last agreed upon or asked for.
    pub(super) handshake_seen: Option<Instant>,
    /// When a packet last went to or came from it.
    pub(super) traversed: Instant,
    /// When its tunnel was last told the time.
    ticked: Instant,
    /// Whether it is in the timer wheel.
    pub(super) in_wheel: bool,
    pub(super) begun: Bucket,
}

/// What a tunnel wants to be sent: so many bytes at the beginning of the buffer.
pub(super) type ToSend = Option<usize>;

impl Peer {
    pub(super) fn new(public: PublicKey, index: u32, now: Instant) -> Self {
        Self {
            public,
            preshared: None,
            tunnel: None,
            index,
            endpoint: None,
            allowed: Vec::new(),
            keepalive: None,
            rx: 0,
            tx: 0,
            last_handshake: None,
            unconfirmed: None,
            asking: false,
            handshake_seen: None,
            traversed: now,
            // So that the first packet sets the tunnel's clock.
            ticked: now.checked_sub(FRESH).unwrap_or(now),
            in_wheel: false,
            begun: Bucket::new(now.checked_sub(FRESH).unwrap_or(now)),
        }
    }

    /// Begins anew: no session is left.
    pub(super) fn renew(&mut self, identity: Option<&Identity>) {
        self.tunnel = identity
            .map(|identity| identity.tunnel(self.public, self.preshared.as_ref(), self.index));
        self.unconfirmed = None;
        self.asking = false;
    }

    /// A packet has proved to be from the peer: that is where it is now.
    pub(super) fn heard(
        &mut self,
        from: SocketAddr,
        ours: Option<std::net::IpAddr>,
        length: usize,
        now: Instant,
    ) {
        self.rx += length as u64;
        self.traversed = now;
        if self.endpoint.is_none_or(|endpoint| !endpoint.is(from, ours)) {
            self.endpoint = Some(Endpoint::new(from, ours));
        }
    }

    /// Both have the keys of a session.
    pub(super) fn agreed(&mut self, now: Instant) {
        self.last_handshake = Some(SystemTime::now());
        self.handshake_seen = Some(now);
        self.asking = false;
        self.unconfirmed = None;
    }

    /// Tells the tunnel the time if it has not been told for a while: its timers have no other.
    pub(super) fn freshen(&mut self, now: Instant, buffer: &mut [u8]) -> ToSend {
        if now.saturating_duration_since(self.ticked) < FRESH {
            None
        } else {
            self.tick(now, buffer)
        }
    }

    /// What is due by time: handshakes that are to be repeated or renewed, keepalives.
    pub(super) fn tick(&mut self, now: Instant, buffer: &mut [u8]) -> ToSend {
        self.ticked = now;
        let tunnel = self.tunnel.as_mut()?;
        if let TunnResult::WriteToNetwork(packet) = tunnel.update_timers(buffer) {
            let length = packet.len();
            self.note_asking(buffer, length, now);
            return Some(length);
        }
        if tunnel.is_expired() {
            // Nobody answered for 90 s: packets begin anew.
            self.asking = false;
        }
        let every = self.keepalive?;
        if now.saturating_duration_since(self.traversed) < every {
            return None;
        }
        self.keep_alive(now, buffer)
    }

    /// An empty packet, or what must come before there can be one.
    pub(super) fn keep_alive(&mut self, now: Instant, buffer: &mut [u8]) -> ToSend {
        self.traversed = now;
        let tunnel = self.tunnel.as_mut()?;
        let result = if tunnel.time_since_last_handshake().is_some() {
            tunnel.encapsulate(&[], buffer)
        } else {
            tunnel.format_handshake_initiation(buffer, false)
        };
        let TunnResult::WriteToNetwork(packet) = result else { return None };
        let length = packet.len();
        self.note_asking(buffer, length, now);
        Some(length)
    }

    /// Asks for a new session now.
    pub(super) fn ask(&mut self, now: Instant, buffer: &mut [u8]) -> ToSend {
        let tunnel = self.tunnel.as_mut()?;
        let TunnResult::WriteToNetwork(packet) = tunnel.format_handshake_initiation(buffer, true)
        else {
            return None;
        };
        let length = packet.len();
        self.note_asking(buffer, length, now);
        Some(length)
    }

    /// Takes note if the packet begins a handshake.
    pub(super) fn note_asking(&mut self, packet: &[u8], length: usize, now: Instant) {
        if packet.first() == Some(&1) && length > 0 {
            self.asking = true;
            self.handshake_seen = Some(now);
        }
    }

    /// In how many steps of the wheel it is to be looked at again; `None` if nothing can come of that.
    pub(super) fn rest(&self, now: Instant) -> Option<usize> {
        let seen = self.handshake_seen.map(|seen| now.saturating_duration_since(seen));
        match seen {
            _ if self.tunnel.is_none() => None,
            Some(_) if self.asking => Some(1),
            Some(age) if age < SESSIONS => Some(4),
            _ if self.keepalive.is_some() => Some(4),
            Some(age) if age < TRACES => Some(16),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            public_key: self.public,
            has_preshared_key: self.preshared.is_some(),
            endpoint: self.endpoint.map(|endpoint| endpoint.address),
            last_handshake: self.last_handshake,
            rx_bytes: self.rx,
            tx_bytes: self.tx,
            persistent_keepalive: self
                .keepalive
                .and_then(|every| u16::try_from(every.as_secs()).ok()),
            allowed_ips: self.allowed.clone(),
        }
    }
}
