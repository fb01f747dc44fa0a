//! Sending: which keys a datagram needs, and what SWIM wants sent.

use std::net::SocketAddr;

use super::{Membership, Timer};
use crate::crypto::Key;
use crate::envelope::Seal;
use crate::event::Output;
use crate::identity::{Identity, NodeId};
use crate::message::Message;
use crate::record::Record;
use crate::swim::{Seat, Swim, Wishes};
use crate::time::Now;

impl Membership {
    pub(super) fn key(&self, seal: Seal) -> Option<Key> {
        match seal {
            Seal::Cluster(id) => self.lock().keyring.as_ref()?.gossip_key(id).map(|k| Key::new(*k)),
            Seal::Token { owner, id } if owner == self.id() => {
                self.tokens.key(id).map(|key| Key::new(*key))
            }
            Seal::Token { owner, id } => {
                let token = self.token.as_ref()?;
                (token.owner() == owner && token.id() == id).then(|| token.key())
            }
        }
    }

    /// The key shared with a member.
    pub(super) fn pair(&mut self, id: &NodeId) -> Option<Key> {
        let record = self.lock().record(id).cloned()?;
        if let Some(key) = self.pairs.get(id) {
            return Some(key.clone());
        }
        let key = pair_key(&self.identity, &record)?;
        self.pairs.insert(*id, key.clone());
        Some(key)
    }

    /// Sends to a member. Nothing if it is none.
    pub(super) fn send(&mut self, to: SocketAddr, id: NodeId, message: &Message<'_>) {
        let (kind, body) = (message.kind(), message.encode());
        self.send_body(to, id, kind, &body);
    }

    pub(super) fn send_body(&mut self, to: SocketAddr, id: NodeId, kind: u8, body: &[u8]) {
        let Some(pair) = self.pair(&id) else { return };
        let Some((seal, key)) = self.primary() else { return };
        let bytes = self.sealer.seal(seal, &key, Some(&pair), kind, body);
        self.outputs.push_back(Output::Send { to, bytes });
    }

    /// Sends a message of the handshake, sealed as the other side's was, or under the secret in use.
    pub(super) fn send_open(&mut self, to: SocketAddr, seal: Option<Seal>, message: &Message<'_>) {
        let sealed = match seal {
            Some(seal) => self.key(seal).map(|key| (seal, key)),
            None => self.primary(),
        };
        let Some((seal, key)) = sealed else { return };
        let bytes = self.sealer.seal(seal, &key, None, message.kind(), &message.encode());
        self.outputs.push_back(Output::Send { to, bytes });
    }

    pub(super) fn primary(&self) -> Option<(Seal, Key)> {
        let seal = Seal::Cluster(self.lock().keyring.as_ref()?.primary());
        Some((seal, self.key(seal)?))
    }

    /// Lets SWIM do something, and does what it wants done.
    pub(super) fn swim(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Swim, &mut Wishes) -> Result<(), foca::Error>,
    ) {
        let mut wishes = Wishes::default();
        // An error says that a datagram was not worth reading, or that a timer came late; nothing is lost.
        let _ = act(&mut self.swim, &mut wishes);
        for (timer, delay) in wishes.timers {
            self.after(now, delay, Timer::Swim(timer));
        }
        for news in wishes.news {
            self.note(now, news);
        }
        for (seat, data) in wishes.sends {
            self.send_swim(now, seat, data);
        }
        let members = self.swim.num_members() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            let set = self.swim.set_config(self.config.timing.foca(members));
            debug_assert!(set.is_ok(), "no period has changed");
        }
    }

    pub(super) fn send_swim(&mut self, now: Now, seat: Seat, data: Vec<u8>) {
        if self.lock().revocation(&seat.id).is_some() {
            return;
        }
        if self.lock().record(&seat.id).is_some() {
            self.send(seat.addr, seat.id, &Message::Swim(&data));
        } else if self.lock().keyring.is_some() {
            if self.queued.len() < MAX_QUEUED {
                self.queued.insert(seat.id, data);
            }
            self.knock(now, seat.addr, Some(seat.id), false);
        }
    }
}

fn pair_key(identity: &Identity, record: &Record) -> Option<Key> {
    #[cfg(test)]
    if let Some(key) = crate::sim::cheap_pair(identity, record) {
        return Some(key);
    }
    identity.pair_key(&record.id(), record.sealing_key())
}

const MAX_QUEUED: usize = 1000;
