//! All peers, and the three ways to find one: by key, by the number that it has been given for its
//! packets to us, by the addresses that are behind it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::peer::{Identity, Peer};
use crate::allowed::Allowed;
use crate::config::PeerUpdate;
use crate::key::PublicKey;

/// A packet names its session by 32 bits, of which the tunnels use the last 8 for its sessions.
const INDEX_BITS: u32 = 24;

#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    free: Vec<usize>,
    by_key: HashMap<PublicKey, usize>,
    by_index: HashMap<u32, usize>,
    allowed: Allowed<usize>,
    /// Found by the last packet, and most likely by the next.
    last: Option<(u32, usize)>,
}

/// What is to be done for a peer that was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Which one; `None` if it is not there any more.
    pub(super) slot: Option<usize>,
    /// It is to be kept alive as of now.
    pub(super) keep_alive: bool,
}

impl Peers {
    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Peer> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }

    pub(super) fn by_key(&self, key: &PublicKey) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// By the number in a packet.
    pub(super) fn by_packet(&mut self, session: u32) -> Option<usize> {
        let index = session >> (u32::BITS - INDEX_BITS);
        if let Some((last, slot)) = self.last
            && last == index
        {
            return Some(slot);
        }
        let slot = *self.by_index.get(&index)?;
        self.last = Some((index, slot));
        Some(slot)
    }

    pub(super) fn by_address(&self, address: IpAddr) -> Option<usize> {
        self.allowed.find(address)
    }

    /// Makes a change; `ours` cannot be a peer of itself (as in the kernel's netlink.c: set_peer).
    pub(super) fn change(
        &mut self,
        update: PeerUpdate,
        identity: Option<&Identity>,
        now: Instant,
    ) -> Changed {
        let ours = identity.is_some_and(|identity| identity.public == update.public_key);
        let slot = self.by_key(&update.public_key);
        if update.remove || ours {
            if let Some(slot) = slot {
                self.remove(slot);
            }
            return Changed::default();
        }
        let slot = match slot {
            Some(slot) => slot,
            None if update.update_only => return Changed::default(),
            None => self.add(update.public_key, identity, now),
        };
        self.change_addresses(slot, &update);
        let Some(peer) = self.get(slot) else { return Changed::default() };
        if let Some(preshared) = update.preshared_key
            && preshared != peer.preshared
        {
            peer.preshared = preshared;
            peer.renew(identity);
        }
        if let Some(address) = update.endpoint
            && peer.endpoint.is_none_or(|endpoint| endpoint.address != address)
        {
            peer.endpoint = Some(super::udp::Endpoint::new(address, None));
        }
        let mut keep_alive = false;
        if let Some(seconds) = update.persistent_keepalive {
            let every = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            // The kernel sends one at once when it is turned on.
            keep_alive = every.is_some() && peer.keepalive.is_none();
            peer.keepalive = every;
        }
        Changed { slot: Some(slot), keep_alive }
    }

    fn change_addresses(&mut self, slot: usize, update: &PeerUpdate) {
        if update.replace_allowed_ips {
            let keep = |net: &IpNet| update.allowed_ips.contains(net);
            let Some(peer) = self.get(slot) else { return };
            let (kept, gone): (Vec<_>, Vec<_>) = peer.allowed.iter().copied().partition(keep);
            peer.allowed = kept;
            for net in gone {
                self.allowed.remove(net, slot);
            }
        }
        for net in update.disallowed_ips.iter().map(IpNet::trunc) {
            if self.allowed.remove(net, slot)
                && let Some(peer) = self.get(slot)
            {
                peer.allowed.retain(|other| *other != net);
            }
        }
        for net in update.allowed_ips.iter().map(IpNet::trunc) {
            let before = self.allowed.insert(net, slot);
            if before == Some(slot) {
                continue;
            }
            if let Some(other) = before.and_then(|before| self.get(before)) {
                other.allowed.retain(|other| *other != net);
            }
            if let Some(peer) = self.get(slot) {
                peer.allowed.push(net);
            }
        }
    }

    fn add(&mut self, key: PublicKey, identity: Option<&Identity>, now: Instant) -> usize {
        let index = self.index();
        let mut peer = Box::new(Peer::new(key, index, now));
        peer.renew(identity);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(peer);
        self.by_key.insert(key, slot);
        self.by_index.insert(index, slot);
        slot
    }

    /// A number that nobody has, and nobody can guess.
    fn index(&self) -> u32 {
        let mut bytes = [0; 4];
        // It cannot fail once the system has booted; numbers that can be guessed are no danger, either:
        // packets prove where they are from.
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
            bytes = [0; 4];
        }
        let mut index = u32::from_le_bytes(bytes) >> (u32::BITS - INDEX_BITS);
        while self.by_index.contains_key(&index) {
            index = (index + 1) & ((1 << INDEX_BITS) - 1);
        }
        index
    }

    pub(super) fn remove(&mut self, slot: usize) {
        let Some(peer) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        for net in &peer.allowed {
            self.allowed.remove(*net, slot);
        }
        self.by_key.remove(&peer.public);
        self.by_index.remove(&peer.index);
        self.last = None;
        self.free.push(slot);
    }

    /// The slots of all.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.by_key.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::new([number; 32])
    }

    fn with(number: u8, nets: &[&str]) -> PeerUpdate {
        let allowed_ips = nets.iter().map(|net| net.parse().unwrap()).collect();
        PeerUpdate { allowed_ips, ..PeerUpdate::new(key(number)) }
    }

    fn allowed(peers: &mut Peers, number: u8) -> Vec<String> {
        let slot = peers.by_key(&key(number)).unwrap();
        peers.get(slot).unwrap().allowed.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn an_address_has_one_peer() {
        let now = Instant::now();
        let mut peers = Peers::default();
        peers.change(with(1, &["10.0.0.0/8", "10.1.0.0/16"]), None, now);
        peers.change(with(2, &["10.1.0.0/16", "fd00::/8"]), None, now);
        assert_eq!(allowed(&mut peers, 1), ["10.0.0.0/8"]);
        assert_eq!(allowed(&mut peers, 2), ["10.1.0.0/16", "fd00::/8"]);
        let two = peers.by_key(&key(2));
        assert_eq!(peers.by_address("10.1.0.1".parse().unwrap()), two);
        // Replacing takes away what is not named again, and only that.
        let replace = PeerUpdate { replace_allowed_ips: true, ..with(2, &["fd00::/8"]) };
        peers.change(replace, None, now);
        assert_eq!(allowed(&mut peers, 2), ["fd00::/8"]);
        assert_eq!(peers.by_address("10.1.0.1".parse().unwrap()), peers.by_key(&key(1)));
        let minus = PeerUpdate {
            disallowed_ips: vec!["fd00::/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            ..with(2, &[])
        };
        peers.change(minus, None, now);
        assert_eq!(allowed(&mut peers, 2), [""; 0]);
        assert_eq!(allowed(&mut peers, 1), ["10.0.0.0/8"], "not another's");
    }

    #[test]
    fn removal_leaves_nothing() {
        let now = Instant::now();
        let mut peers = Peers::default();
        let changed = peers.change(PeerUpdate { update_only: true, ..with(1, &[]) }, None, now);
        assert_eq!((changed, peers.iter().count()), (Changed::default(), 0));
        for number in 1..=100 {
            peers.change(with(number, &[&format!("10.0.0.{number}/32")]), None, now);
        }
        let index = peers.iter().next().unwrap().index;
        assert!(peers.by_packet(index << 8 | 7).is_some());
        let kept = peers.by_key(&key(50)).unwrap();
        for slot in peers.slots().into_iter().filter(|slot| *slot != kept) {
            peers.remove(slot);
        }
        assert_eq!(peers.iter().count(), 1);
        assert_eq!(peers.by_packet(index << 8 | 7), None);
        assert_eq!(peers.by_address("10.0.0.1".parse().unwrap()), None);
        peers.change(PeerUpdate::removal(key(50)), None, now);
        assert_eq!((peers.by_index.len(), peers.by_key.len(), peers.free.len()), (0, 0, 100));
    }
}
