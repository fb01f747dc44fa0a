//! What a device is told, and what it tells.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// A change of a device: what is `None` or empty stays as it is. The words are those of the UAPI and of
/// the kernel's netlink interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// A new identity: every session begins anew.
    pub private_key: Option<PrivateKey>,
    /// The UDP port to listen at, on all addresses of IPv4 and IPv6; 0 lets the kernel choose.
    pub listen_port: Option<u16>,
    /// The mark of the packets between the peers, for rules of routing; 0 is none.
    pub fwmark: Option<u32>,
    /// Whether all peers are removed first, with their sessions.
    pub replace_peers: bool,
    /// Peers to add, to change and to remove.
    pub peers: Vec<PeerUpdate>,
}

/// A change of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerUpdate {
    /// Which one.
    pub public_key: PublicKey,
    /// Remove it.
    pub remove: bool,
    /// Only if it is there: it is not added.
    pub update_only: bool,
    /// A secret beside the keys; `Some(None)` takes it away. One that is another ends the sessions.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Where packets are sent to, until the peer is heard from elsewhere.
    pub endpoint: Option<SocketAddr>,
    /// Send something at least this often (seconds), for the sake of NAT on the way; 0 is never.
    pub persistent_keepalive: Option<u16>,
    /// Whether allowed addresses that are not named here are taken away.
    pub replace_allowed_ips: bool,
    /// Where its packets may come from and what is sent to it. An address that another peer has goes
    /// over to this one.
    pub allowed_ips: Vec<IpNet>,
    /// Addresses that it loses.
    pub disallowed_ips: Vec<IpNet>,
}

impl PeerUpdate {
    /// A change of nothing: the peer is added if it is not there.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
            disallowed_ips: Vec::new(),
        }
    }

    /// Its removal.
    #[must_use]
    pub const fn removal(public_key: PublicKey) -> Self {
        let mut update = Self::new(public_key);
        update.remove = true;
        update
    }
}

/// A peer as it is to be, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Who it is.
    pub public_key: PublicKey,
    /// A secret beside the keys.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is, if that is known.
    pub endpoint: Option<SocketAddr>,
    /// Send something at least this often (seconds).
    pub persistent_keepalive: Option<u16>,
    /// Where its packets may come from and what is sent to it.
    pub allowed_ips: Vec<IpNet>,
}

impl Peer {
    /// What makes the peer so. Its endpoint is only told to one that has none, or that is new: where a
    /// peer was heard from last is better than where it was said to be.
    pub(crate) fn update(&self, before: Option<&PeerStatus>) -> PeerUpdate {
        let known = before.is_some_and(|before| before.endpoint.is_some());
        PeerUpdate {
            preshared_key: Some(self.preshared_key.clone()),
            endpoint: self.endpoint.filter(|_| !known),
            persistent_keepalive: Some(self.persistent_keepalive.unwrap_or(0)),
            replace_allowed_ips: true,
            allowed_ips: self.allowed_ips.clone(),
            ..PeerUpdate::new(self.public_key)
        }
    }
}

/// What is the case with a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Who it is, if it has been told.
    pub public_key: Option<PublicKey>,
    /// The UDP port it listens at, 0 if at none.
    pub listen_port: u16,
    /// The mark of its packets, 0 for none.
    pub fwmark: u32,
    /// Its peers, in the order of their keys.
    pub peers: Vec<PeerStatus>,
    /// What was not delivered; only our own data plane counts it.
    pub drops: Drops,
}

/// What is the case with a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Who it is.
    pub public_key: PublicKey,
    /// Whether there is a secret beside the keys.
    pub has_preshared_key: bool,
    /// Where it was last heard from, or else is said to be.
    pub endpoint: Option<SocketAddr>,
    /// When keys were last agreed upon.
    pub last_handshake: Option<SystemTime>,
    /// Bytes that came from it, as UDP carried them; only what was proved to be from it.
    pub rx_bytes: u64,
    /// Bytes that were sent to it, as UDP carried them.
    pub tx_bytes: u64,
    /// Seconds between two packets at most, if so.
    pub persistent_keepalive: Option<u16>,
    /// Where its packets may come from and what is sent to it.
    pub allowed_ips: Vec<IpNet>,
}

impl PeerStatus {
    /// For how long the last handshake has been over; `None` if there was none yet.
    #[must_use]
    pub fn handshake_age(&self) -> Option<Duration> {
        // A clock that was set back makes it a young one.
        self.last_handshake.map(|then| then.elapsed().unwrap_or_default())
    }
}

impl Status {
    /// The peer with this key.
    #[must_use]
    pub fn peer(&self, key: &PublicKey) -> Option<&PeerStatus> {
        self.peers.iter().find(|peer| peer.public_key == *key)
    }
}

/// Packets that were not delivered, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// From this machine, to an address that no peer has; answered with ICMP "host unreachable".
    pub without_peer: u64,
    /// From this machine, to a peer of which nobody has said where it is; answered as well.
    pub without_endpoint: u64,
    /// From this machine, not sent: the network refused it.
    pub unsent: u64,
    /// From a peer, with an inner source address that it may not have.
    pub spoofed: u64,
    /// From the network, no packet of WireGuard or none of a peer: wrong keys, unknown sessions.
    pub invalid: u64,
    /// From the network, and seen before, or too old to know.
    pub replayed: u64,
    /// Handshakes under load that were answered with a cookie instead.
    pub cookies: u64,
    /// Handshakes beyond what one address or one peer may ask for.
    pub limited: u64,
}
