//! From the peers to the interface.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};

use super::engine::{Engine, SMALL};
use super::udp::Batch;
use super::{BEGIN, COOKIE, DATA, RESPONSE};
use crate::key::PublicKey;

/// After so many batches the other direction has its turn.
const BATCHES: usize = 2;

/// A session ends with this many packets (the paper, 6.2: REJECT_AFTER_MESSAGES). Nobody gets there by
/// counting.
const LAST_COUNTER: u64 = u64::MAX - (1 << 13);

/// One peer may begin so many handshakes a second (the kernel: INITIATIONS_PER_SECOND).
const BEGIN_EVERY: Duration = Duration::from_millis(20);

/// The longest packet that waited for a handshake.
const LONGEST: usize = 65_536 + SMALL;

/// Packets on their way in.
pub(super) struct Inbound {
    batch: Batch,
}

/// A datagram, and how it came.
#[derive(Clone, Copy)]
struct Datagram<'a> {
    from: SocketAddr,
    ours: Option<IpAddr>,
    bytes: &'a [u8],
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self { batch: Batch::new() }
    }
}

impl Engine {
    /// Decrypts and delivers what peers have sent.
    pub(super) fn inbound(&mut self, inbound: &mut Inbound, half: usize) {
        for _ in 0..BATCHES {
            let Some(socket) = self.udp.halves().nth(half) else { return };
            if let Err(error) = socket.receive(&mut inbound.batch) {
                tracing::debug!("cannot receive: {error}");
                return;
            }
            for (from, ours, bytes) in inbound.batch.datagrams() {
                self.datagram(Datagram { from, ours, bytes });
            }
            self.tun.flush();
            if !inbound.batch.is_full() {
                return;
            }
        }
    }

    fn datagram(&mut self, datagram: Datagram<'_>) {
        match datagram.bytes {
            [DATA, 0, 0, 0, ..] => self.data(datagram),
            [BEGIN | RESPONSE, 0, 0, 0, ..] => self.handshake(datagram),
            [COOKIE, 0, 0, 0, ..] => self.cookie(datagram),
            _ => self.drops.invalid += 1,
        }
    }

    fn data(&mut self, datagram: Datagram<'_>) {
        let Datagram { from, ours, bytes } = datagram;
        let (Some(session), Some(counter)) = (u32_at(bytes, 4), u64_at(bytes, 8)) else {
            self.drops.invalid += 1;
            return;
        };
        let slot = self.peers.by_packet(session);
        let Some(slot) = slot.filter(|_| counter < LAST_COUNTER) else {
            self.drops.invalid += 1;
            return;
        };
        let now = self.now;
        self.with_small(slot, super::peer::Peer::freshen);
        let Some(peer) = self.peers.get(slot) else { return };
        let Some(tunnel) = &mut peer.tunnel else { return };
        let mut buffer = self.tun.buffer();
        let result = tunnel.decapsulate(None, bytes, buffer.packet(bytes.len()));
        let (length, source) = match result {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), Some(IpAddr::V4(source))),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), Some(IpAddr::V6(source))),
            // It only says that the peer is there.
            TunnResult::Done => (0, None),
            TunnResult::Err(error) => {
                let replayed = matches!(
                    error,
                    WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter
                );
                let count =
                    if replayed { &mut self.drops.replayed } else { &mut self.drops.invalid };
                *count += 1;
                return self.tun.give_back(buffer);
            }
            TunnResult::WriteToNetwork(_) => return self.tun.give_back(buffer),
        };
        peer.heard(from, ours, bytes.len(), now);
        let confirmed = peer.unconfirmed == Some(session);
        if confirmed {
            peer.agreed(now);
        }
        match source {
            None => self.tun.give_back(buffer),
            Some(source) if self.peers.by_address(source) == Some(slot) => {
                buffer.set_packet(length);
                self.tun.write(buffer);
            }
            Some(source) => {
                tracing::debug!("a packet from {source}, which is not an address of its peer");
                self.drops.spoofed += 1;
                self.tun.give_back(buffer);
            }
        }
        if confirmed {
            self.send_waiting(slot);
        }
        self.enter(slot);
    }

    /// A handshake's first or second message. Nothing is computed for one that does not know our public
    /// key (mac1), or, under load, has not proved its address (mac2).
    fn handshake(&mut self, datagram: Datagram<'_>) {
        let Datagram { from, bytes, .. } = datagram;
        let Some(identity) = &self.identity else {
            self.drops.invalid += 1;
            return;
        };
        identity.guard.reset_count();
        let mut answer = [0; SMALL];
        let packet = match identity.guard.verify_packet(Some(from.ip()), bytes, &mut answer) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.drops.cookies += 1;
                let length = cookie.len();
                return self.answer(datagram, &answer[..length]);
            }
            Err(_) => {
                self.drops.invalid += 1;
                return;
            }
        };
        if has_cookie(bytes) && !self.sources.take(self.now, from.ip()) {
            // It has proved its address, and uses it too often.
            self.drops.limited += 1;
            return;
        }
        match packet {
            Packet::HandshakeInit(message) => {
                let (private, public) = (identity.private.dalek(), identity.public.dalek());
                let key = parse_handshake_anon(&private, &public, &message)
                    .map(|half| PublicKey::new(half.peer_static_public));
                match key.ok().and_then(|key| self.peers.by_key(&key)) {
                    Some(slot) => self.begun(slot, datagram),
                    None => self.drops.invalid += 1,
                }
            }
            Packet::HandshakeResponse(message) => {
                match self.peers.by_packet(message.receiver_idx) {
                    Some(slot) => self.responded(slot, datagram),
                    None => self.drops.invalid += 1,
                }
            }
            _ => self.drops.invalid += 1,
        }
    }

    /// A peer wants a session.
    fn begun(&mut self, slot: usize, datagram: Datagram<'_>) {
        let Datagram { from, ours, bytes } = datagram;
        let now = self.now;
        self.with_small(slot, super::peer::Peer::freshen);
        let Some(peer) = self.peers.get(slot) else { return };
        if !peer.begun.take(now, BEGIN_EVERY, 1) {
            self.drops.limited += 1;
            return;
        }
        let Some(tunnel) = &mut peer.tunnel else { return };
        let mut answer = [0; SMALL];
        let TunnResult::WriteToNetwork(response) = tunnel.decapsulate(None, bytes, &mut answer)
        else {
            // Not its key, or one that was seen before.
            self.drops.invalid += 1;
            return;
        };
        let length = response.len();
        peer.heard(from, ours, bytes.len(), now);
        peer.unconfirmed = u32_at(&answer, 4);
        peer.handshake_seen = Some(now);
        self.send(slot, &answer[..length], length);
    }

    /// A peer has agreed to a session.
    fn responded(&mut self, slot: usize, datagram: Datagram<'_>) {
        let Datagram { from, ours, bytes } = datagram;
        let now = self.now;
        self.with_small(slot, super::peer::Peer::freshen);
        let Some(peer) = self.peers.get(slot) else { return };
        let Some(tunnel) = &mut peer.tunnel else { return };
        let mut answer = [0; SMALL];
        let TunnResult::WriteToNetwork(confirmation) = tunnel.decapsulate(None, bytes, &mut answer)
        else {
            self.drops.invalid += 1;
            return;
        };
        let length = confirmation.len();
        peer.heard(from, ours, bytes.len(), now);
        peer.agreed(now);
        self.send(slot, &answer[..length], length);
        self.send_waiting(slot);
    }

    /// A peer is under load; the next try proves our address. That is said by nobody in particular, so
    /// it does not tell where the peer is.
    fn cookie(&mut self, datagram: Datagram<'_>) {
        let slot = u32_at(datagram.bytes, 4).and_then(|session| self.peers.by_packet(session));
        let tunnel =
            slot.and_then(|slot| self.peers.get(slot)).and_then(|peer| peer.tunnel.as_mut());
        let mut nothing = [0; SMALL];
        let result = tunnel.map(|tunnel| tunnel.decapsulate(None, datagram.bytes, &mut nothing));
        if !matches!(result, Some(TunnResult::Done)) {
            self.drops.invalid += 1;
        }
    }

    /// Sends what has waited for the session.
    fn send_waiting(&mut self, slot: usize) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let tunnel = self.peers.get(slot).and_then(|peer| peer.tunnel.as_mut());
            let result = tunnel.map(|tunnel| tunnel.decapsulate(None, &[], &mut buffer));
            let Some(TunnResult::WriteToNetwork(packet)) = result else { return };
            let length = packet.len();
            self.send(slot, &buffer[..length], length);
            if buffer[0] != DATA {
                return;
            }
        }
    }

    /// Answers somebody who may be anybody.
    fn answer(&mut self, to: Datagram<'_>, bytes: &[u8]) {
        let mut to = super::udp::Endpoint::new(to.from, to.ours);
        if self.udp.send(&mut to, bytes, bytes.len()).is_err() {
            self.drops.unsent += 1;
        }
    }
}

/// Whether a handshake's message carries a cookie: its last 16 bytes are not zero.
fn has_cookie(bytes: &[u8]) -> bool {
    bytes.last_chunk::<16>().is_some_and(|mac| *mac != [0; 16])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
