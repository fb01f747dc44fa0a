//! The handshake by which two nodes prove to each other, over numbers that both have just drawn, who they are
//! and that they know the secret (or the token). `docs/membership.md` has its picture and its argument.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Membership, Timer};
use crate::book::{Refusal, item_of_record, item_of_revocation};
use crate::crypto;
use crate::envelope::{Letter, Seal, Window};
use crate::event::{Notice, Output, Status, Why};
use crate::identity::{NodeId, PublicKey};
use crate::message::{Message, Nonce, Nonces};
use crate::mutant::Mutant;
use crate::record::Record;
use crate::secret::Keyring;
use crate::swim::Seat;
use crate::time::{Now, Time};
use crate::token::TokenError;

/// A handshake that this node has begun.
pub(super) struct Contact {
    nonce: Nonce,
    /// Who should be there, if it is known.
    pub(super) expect: Option<NodeId>,
    /// Whether it is to join there, or only to become acquainted.
    join: bool,
    tries: u32,
    /// This node's record as it was sent.
    record: Arc<Record>,
    /// What the other side was, once it has proved it.
    met: Option<(Nonces, Arc<Record>)>,
}

/// A handshake that another node has begun.
pub(super) struct Pending {
    nonces: Nonces,
    record: Arc<Record>,
    /// This node's record as it was sent.
    own: Arc<Record>,
    seal: Seal,
    at: Time,
}

impl Membership {
    /// Begins a handshake, unless one is under way there.
    pub(super) fn knock(&mut self, now: Now, to: SocketAddr, expect: Option<NodeId>, join: bool) {
        if let Some(contact) = self.contacts.get_mut(&to) {
            contact.join |= join;
            return;
        }
        let Some(record) = self.record() else { return };
        if self.contacts.len() >= MAX_HANDSHAKES || to.port() == 0 {
            return;
        }
        let nonce = self.dice.bytes();
        let expect = self.token.as_ref().map(|token| token.owner()).or(expect);
        self.contacts.insert(to, Contact { nonce, expect, join, tries: 0, record, met: None });
        self.knock_again(now, to);
    }

    pub(super) fn knock_again(&mut self, now: Now, to: SocketAddr) {
        let Some(record) = self.record() else { return };
        let Some(contact) = self.contacts.get_mut(&to) else { return };
        if contact.tries >= MAX_TRIES {
            self.contacts.remove(&to);
            return;
        }
        contact.record = record.clone();
        let delay = FIRST_RETRY * (1 << contact.tries);
        contact.tries += 1;
        let hello = Message::Hello { nonce: contact.nonce, record: record.bytes() };
        let seal = self.token.as_ref().map(|t| Seal::Token { owner: t.owner(), id: t.id() });
        self.send_open(to, seal, &hello);
        self.after(now, delay, Timer::Knock(to));
    }

    pub(super) fn knock_at_list(&mut self, now: Now) {
        for to in self.config.join.clone() {
            self.knock(now, to, None, true);
        }
    }

    /// Those on the list and those in the book that are not there: a few of them at a time.
    pub(super) fn look_for_lost(&mut self, now: Now) {
        if self.is(Mutant::NoRejoin) {
            return;
        }
        if self.up.is_empty() {
            self.knock_at_list(now);
        } else if !self.config.join.is_empty() {
            let to = self.config.join[self.dice.below(self.config.join.len())];
            if !self.up.values().any(|seat| seat.addr == to)
                && !self.config.local.gossip.contains(&to)
            {
                self.knock(now, to, None, true);
            }
        }
        let lost = |(status, _): &(Status, _)| matches!(status, Status::Absent | Status::Failed);
        let lost: Vec<(NodeId, SocketAddr)> = self
            .members()
            .filter(lost)
            .flat_map(|(_, peer)| {
                let id = peer.record.id();
                peer.record.draft().gossip.iter().map(move |to| (id, *to))
            })
            .collect();
        for _ in 0..2.min(lost.len()) {
            let (id, to) = lost[self.dice.below(lost.len())];
            self.knock(now, to, Some(id), true);
        }
    }

    pub(super) fn handshake(&mut self, now: Now, from: SocketAddr, seal: Seal, letter: &Letter) {
        match Message::parse(letter.kind, letter.open_body()) {
            Ok(Message::Hello { nonce, record }) => {
                self.hello(now, from, seal, letter, nonce, record);
            }
            Ok(Message::Challenge { nonces, signature, record }) => {
                self.challenge(from, seal, letter, nonces, &signature, record);
            }
            Ok(Message::Proof { nonces, signature }) => {
                self.proof(now, from, seal, letter, nonces, &signature);
            }
            Ok(Message::Welcome { nonces, signature, seat, ring }) => {
                self.welcome(now, seal, letter, nonces, &signature, seat, ring);
            }
            Ok(Message::Rejected { nonce, why, revocation }) => {
                self.rejected(from, nonce, why, revocation);
            }
            _ => {}
        }
    }

    fn hello(
        &mut self,
        now: Now,
        from: SocketAddr,
        seal: Seal,
        letter: &Letter,
        nonce: Nonce,
        record: &[u8],
    ) {
        let Ok(record) = Record::shared(record) else { return };
        let Some(own) = self.record() else { return };
        if record.id() != letter.sender {
            return;
        }
        if let Err(why) = self.may_join(now, seal, &record) {
            return self.reject(from, seal, nonce, why, record.id());
        }
        self.pending.retain(|_, pending| now.time.since(pending.at) < FORGET_HANDSHAKE);
        let known = self.pending.get(&record.id()).filter(|pending| {
            pending.nonces.joiner == nonce && pending.record == record && pending.own == own
        });
        // Asked twice, it answers twice the same, or else the first answer would be of no use.
        let responder = known.map_or_else(|| self.dice.bytes(), |pending| pending.nonces.responder);
        let nonces = Nonces { joiner: nonce, responder };
        if self.pending.len() >= MAX_HANDSHAKES && !self.pending.contains_key(&record.id()) {
            return;
        }
        let Some(transcript) = self.transcript(seal, RESPONDER, nonces, [&record, &own], &[0; 32])
        else {
            return;
        };
        let signature = self.identity.sign(CONTEXT, &transcript);
        let id = record.id();
        self.pending.insert(id, Pending { nonces, record, own: own.clone(), seal, at: now.time });
        let message = Message::Challenge { nonces, signature, record: own.bytes() };
        self.send_open(from, Some(seal), &message);
    }

    fn may_join(&mut self, now: Now, seal: Seal, record: &Record) -> Result<(), Why> {
        let book = self.lock();
        let removed = book.revocation(&record.id()).is_some();
        if removed && !self.is(Mutant::RemovalOutlived) {
            return Err(Why::Removed);
        }
        match seal {
            Seal::Cluster(_) => match book.check(record) {
                Ok(()) => Ok(()),
                Err(Refusal::Removed(_)) => Err(Why::Removed),
                Err(_) => Err(Why::NotAdmitted),
            },
            Seal::Token { .. } if book.keyring.is_none() => Err(Why::NotReady),
            Seal::Token { id, .. } => {
                self.tokens.check(id, record.id(), now.wall).or_else(|e| self.forgive_spent(e))
            }
        }
    }

    fn forgive_spent(&self, error: TokenError) -> Result<(), Why> {
        match error {
            TokenError::Spent if self.is(Mutant::TokenUnspent) => Ok(()),
            TokenError::Spent => Err(Why::TokenSpent),
            TokenError::Expired => Err(Why::TokenExpired),
            TokenError::Revoked => Err(Why::TokenRevoked),
            TokenError::Unknown | TokenError::Full => Err(Why::TokenUnknown),
        }
    }

    fn reject(&mut self, to: SocketAddr, seal: Seal, nonce: Nonce, why: Why, id: NodeId) {
        let revocation = self.lock().revocation(&id).cloned();
        let bytes = revocation.as_ref().map_or(&[][..], |revocation| revocation.bytes());
        self.send_open(to, Some(seal), &Message::Rejected { nonce, why, revocation: bytes });
    }

    fn challenge(
        &mut self,
        from: SocketAddr,
        seal: Seal,
        letter: &Letter,
        nonces: Nonces,
        signature: &[u8; 64],
        record: &[u8],
    ) {
        let Some(at) = self.contact(&nonces.joiner) else { return };
        let Ok(record) = Record::shared(record) else { return };
        let contact = &self.contacts[&at];
        let expected = contact.expect.is_none_or(|id| id == record.id());
        let own = contact.record.clone();
        if record.id() != letter.sender || !expected || !self.sealed_as_asked(seal) {
            return;
        }
        let both = [&own, &record];
        if !self.signed(seal, RESPONDER, nonces, both, &[0; 32], &record.key(), signature) {
            return;
        }
        if matches!(seal, Seal::Cluster(_)) && !self.acquaint(letter, &record) {
            return;
        }
        let Some(transcript) = self.transcript(seal, JOINER, nonces, both, &[0; 32]) else {
            return;
        };
        let signature = self.identity.sign(CONTEXT, &transcript);
        if let Some(contact) = self.contacts.get_mut(&at) {
            contact.met = Some((nonces, record));
        }
        self.send_open(from, Some(seal), &Message::Proof { nonces, signature });
    }

    /// A node that comes with a token talks under that, and one that has a ring under a secret on it.
    fn sealed_as_asked(&self, seal: Seal) -> bool {
        self.token.is_some() == matches!(seal, Seal::Token { .. })
    }

    /// A node has proved who it is, just now.
    fn acquaint(&mut self, letter: &Letter, record: &Arc<Record>) -> bool {
        let news = {
            let mut book = self.lock();
            if book.check(record).is_err() {
                return false;
            }
            book.remember(&record.id());
            book.offer_record(record.clone()) == Ok(true)
        };
        if news {
            self.spread(&item_of_record(record));
        }
        // It may have lost its memory, and count its starts from a lower number than before.
        let window = self.windows.entry(letter.sender);
        window.or_insert_with(|| Window::new(letter.session)).restart(letter.session);
        true
    }

    fn proof(
        &mut self,
        now: Now,
        from: SocketAddr,
        seal: Seal,
        letter: &Letter,
        nonces: Nonces,
        signature: &[u8; 64],
    ) {
        let Some(pending) = self.pending.get(&letter.sender) else { return };
        let stale = pending.nonces != nonces && !self.is(Mutant::StaleProof);
        if stale || pending.seal != seal {
            return;
        }
        let (record, own) = (pending.record.clone(), pending.own.clone());
        let both = [&record, &own];
        if !self.signed(seal, JOINER, nonces, both, &[0; 32], &record.key(), signature) {
            return;
        }
        let ring = match seal {
            Seal::Cluster(_) => {
                if !self.acquaint(letter, &record) {
                    return self.reject(from, seal, nonces.joiner, Why::NotAdmitted, record.id());
                }
                Vec::new()
            }
            Seal::Token { id, .. } => {
                let spent = self.tokens.spend(id, record.id(), now.wall);
                match spent.or_else(|e| self.forgive_spent(e).map(|()| false)) {
                    Err(why) => return self.reject(from, seal, nonces.joiner, why, record.id()),
                    Ok(true) => {
                        // On the disk before the answer is out: after a crash it must be used up, too.
                        self.save();
                        let by = record.id();
                        let notice = Notice::TokenUsed { token: id, by };
                        self.outputs.push_back(Output::Notice(notice));
                    }
                    Ok(false) => {}
                }
                let Some(ring) = self.ring_for(&record) else { return };
                ring
            }
        };
        let generation = self.generation;
        let seat = Seat { id: self.id(), generation, addr: self.config.local.gossip[0] };
        let extra = crypto::sha256(&[&ring]);
        let Some(transcript) = self.transcript(seal, WELCOME, nonces, both, &extra) else { return };
        let signature = self.identity.sign(CONTEXT, &transcript);
        self.send_open(
            from,
            Some(seal),
            &Message::Welcome { nonces, signature, seat, ring: &ring },
        );
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn welcome(
        &mut self,
        now: Now,
        seal: Seal,
        letter: &Letter,
        nonces: Nonces,
        signature: &[u8; 64],
        seat: Seat,
        ring: &[u8],
    ) {
        let Some(at) = self.contact(&nonces.joiner) else { return };
        let contact = &self.contacts[&at];
        let (own, join) = (contact.record.clone(), contact.join);
        let Some((met, record)) = contact.met.clone() else { return };
        if met != nonces || record.id() != letter.sender || seat.id != letter.sender {
            return;
        }
        let extra = crypto::sha256(&[ring]);
        let both = [&own, &record];
        if !self.signed(seal, WELCOME, nonces, both, &extra, &record.key(), signature) {
            return;
        }
        self.contacts.remove(&at);
        match seal {
            Seal::Token { .. } => {
                let Some(bytes) = self.identity.open(RING, ring) else { return };
                let Ok(ring) = Keyring::decode(&bytes) else { return };
                self.token = None;
                self.adopt(now, ring);
                self.knock_after_publishing(now, at, record.id());
            }
            Seal::Cluster(_) if join => {
                self.outputs.push_back(Output::Admitted { by: seat.id });
                self.swim(now, |swim, wishes| swim.announce(seat, wishes));
                self.send_digest_to(at, seat.id);
                if !self.may_claim {
                    self.after(now, super::SYNC_AGAIN, Timer::SyncAgain(seat.id, 5));
                }
            }
            Seal::Cluster(_) => {}
        }
    }

    /// With the ring, this node can prove what every member asks for: once more, as a member.
    fn knock_after_publishing(&mut self, now: Now, at: SocketAddr, id: NodeId) {
        // What it says was checked when it was set.
        let published = self.publish();
        debug_assert!(published.is_ok(), "{published:?}");
        self.contacts.clear();
        self.knock(now, at, Some(id), true);
    }

    fn rejected(&mut self, from: SocketAddr, nonce: Nonce, why: Why, revocation: &[u8]) {
        // A removal stands for itself. Everything else is believed only as an answer.
        if let Ok(revocation) = crate::revocation::Revocation::parse(revocation)
            && revocation.node() == self.id()
        {
            let item = item_of_revocation(&revocation);
            // Nobody vouches for it here: it has to prove its issuer itself.
            if self.lock().offer(&item, false) == Ok(true) {
                return;
            }
        }
        if let Some(at) = self.contact(&nonce) {
            self.contacts.remove(&at);
            self.outputs.push_back(Output::Rejected { by: from, why });
        }
    }

    fn contact(&self, nonce: &Nonce) -> Option<SocketAddr> {
        self.contacts.iter().find(|(_, contact)| contact.nonce == *nonce).map(|(at, _)| *at)
    }

    /// The ring of secrets, sealed to who it is for.
    pub(super) fn ring_for(&mut self, record: &Record) -> Option<Vec<u8>> {
        let entropy = *self.dice.key();
        let ring = self.lock().keyring.as_ref()?.encode();
        record.seal_to(RING, &ring, entropy)
    }

    /// What both sides sign, each in its role: who, with whom, over which numbers, under which key.
    fn transcript(
        &self,
        seal: Seal,
        role: u8,
        nonces: Nonces,
        [joiner, responder]: [&Arc<Record>; 2],
        extra: &[u8; 32],
    ) -> Option<[u8; 32]> {
        let key = self.key(seal)?;
        let ids = [joiner.id().0, responder.id().0];
        let parts: [&[u8]; 9] = [
            b"holdfast handshake v1\0",
            &[role],
            &ids[0],
            &ids[1],
            &nonces.joiner,
            &nonces.responder,
            joiner.hash(),
            responder.hash(),
            extra,
        ];
        Some(crypto::mac(&key, &parts))
    }

    #[allow(clippy::too_many_arguments, reason = "all that is signed, and by whom")]
    fn signed(
        &self,
        seal: Seal,
        role: u8,
        nonces: Nonces,
        both: [&Arc<Record>; 2],
        extra: &[u8; 32],
        by: &PublicKey,
        signature: &[u8; 64],
    ) -> bool {
        let transcript = self.transcript(seal, role, nonces, both, extra);
        transcript.is_some_and(|transcript| by.has_signed(CONTEXT, &transcript, signature))
    }
}

const CONTEXT: &str = "holdfast handshake v1";
/// What a ring of secrets is sealed for.
pub(super) const RING: &str = "holdfast ring v1";
const RESPONDER: u8 = 1;
const JOINER: u8 = 2;
const WELCOME: u8 = 3;
const FIRST_RETRY: Duration = Duration::from_millis(150);
/// The last is tried about 10 s after the first.
const MAX_TRIES: u32 = 7;
const FORGET_HANDSHAKE: Duration = Duration::from_secs(20);
const MAX_HANDSHAKES: usize = 2048;
