//! How two members find out what one of them is missing: of the book, of who is there, and of the secrets.
//!
//! One sends a digest: 64 numbers for the book, 16 for who is there. The other answers with listings of those
//! parts that differ; then each sends what it has newer and asks for what it lacks. Nothing of this is
//! acknowledged: what is lost on the way is found missing the next time.

use std::net::SocketAddr;

use foca::Member;

use super::{Membership, Timer};
use crate::book::{self, BUCKETS, Entry};
use crate::crypto;
use crate::identity::NodeId;
use crate::message::{Message, ROSTER};
use crate::mutant::Mutant;
use crate::secret::Keyring;
use crate::swim::{MAX_BODY, Seat, admitted_only};
use crate::time::Now;

impl Membership {
    pub(super) fn send_digest(&mut self, id: NodeId) {
        if let Some(to) = self.address_of(&id) {
            self.send_digest_to(to, id);
        }
    }

    pub(super) fn send_digest_to(&mut self, to: SocketAddr, id: NodeId) {
        if self.is(Mutant::NoAntiEntropy) {
            return;
        }
        let (epoch, book) = {
            let book = self.lock();
            (book.keyring.as_ref().map_or(0, Keyring::epoch), *book.buckets())
        };
        self.send(to, id, &Message::Digest { epoch, book, roster: self.roster() });
    }

    pub(super) fn exchange(&mut self, now: Now, sender: NodeId, message: Message<'_>) {
        let Some(to) = self.address_of(&sender) else { return };
        match message {
            Message::Digest { epoch, book, roster } => {
                self.compare(to, sender, &book, &roster);
                self.compare_rings(to, sender, epoch);
            }
            Message::InSync => self.in_sync(),
            Message::Listing { from, to: end, last, entries } => {
                self.listed(now, to, sender, (from, end), last, &entries);
            }
            Message::Want(ids) => self.send_statements(to, sender, &ids),
            Message::Statements(items) => {
                for item in items {
                    let news = self.lock().offer(item, true);
                    if news == Ok(true) {
                        self.spread_if_fresh(item);
                    }
                }
            }
            Message::Roster(members) => {
                let members: Vec<Member<Seat>> = {
                    let book = self.lock();
                    members.into_iter().map(|member| admitted_only(&book, member)).collect()
                };
                self.swim(now, |swim, wishes| swim.apply_many(members.into_iter(), false, wishes));
            }
            Message::Ring(sealed) => self.ring_came(now, sealed),
            // The rest never comes here.
            _ => {}
        }
    }

    /// Where a member is heard: as it said to SWIM, else as its record says.
    pub(super) fn address_of(&self, id: &NodeId) -> Option<SocketAddr> {
        let up = self.up.get(id).map(|seat| seat.addr);
        up.or_else(|| self.lock().record(id)?.draft().gossip.first().copied())
    }

    fn compare(
        &mut self,
        to: SocketAddr,
        id: NodeId,
        theirs: &[u64; BUCKETS],
        roster: &[u64; ROSTER],
    ) {
        let own = *self.lock().buckets();
        let differing: Vec<usize> = (0..BUCKETS).filter(|i| own[*i] != theirs[*i]).collect();
        let listings = self.listings(&differing);
        if listings.is_empty() {
            self.send(to, id, &Message::InSync);
        }
        let count = listings.len();
        for (i, (from, end, entries)) in listings.into_iter().enumerate() {
            let last = i + 1 == count;
            self.send(to, id, &Message::Listing { from, to: end, last, entries });
        }
        let own = self.roster();
        let state: Vec<Member<Seat>> = self
            .swim
            .iter_membership_state()
            .chain([&Member::alive(*self.swim.identity())])
            .filter(|member| {
                let part = part(&member.id().id);
                own[part] != roster[part]
            })
            .cloned()
            .collect();
        for members in state.chunks(MAX_BODY / MEMBER) {
            self.send(to, id, &Message::Roster(members.to_vec()));
        }
    }

    /// What this node knows in these parts, in pieces that fit into a datagram each.
    fn listings(&self, buckets: &[usize]) -> Vec<(NodeId, NodeId, Vec<Entry>)> {
        let book = self.lock();
        let mut all: Vec<(NodeId, NodeId, Vec<Entry>)> = Vec::new();
        for run in buckets.chunk_by(|a, b| a + 1 == *b) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (mut from, end) = (book::ends(*first).0, book::ends(*last).1);
            let entries = book.entries(from, end);
            let mut chunks = entries.chunks(MAX_ENTRIES).peekable();
            while let Some(chunk) = chunks.next() {
                let to = chunks.peek().and(chunk.last()).map_or(end, |entry| entry.id);
                all.push((from, to, chunk.to_vec()));
                from = after(to);
            }
            if entries.is_empty() {
                all.push((from, end, Vec::new()));
            }
        }
        all
    }

    fn listed(
        &mut self,
        now: Now,
        to: SocketAddr,
        sender: NodeId,
        (from, end): (NodeId, NodeId),
        last: bool,
        theirs: &[Entry],
    ) {
        let (wants, gives) = {
            let book = self.lock();
            let wants: Vec<NodeId> =
                theirs.iter().filter(|entry| book.lacks(entry)).map(|entry| entry.id).collect();
            let known = |own: &Entry| {
                let at = theirs.binary_search_by_key(&own.id, |entry| entry.id);
                at.is_ok_and(|at| theirs[at].version > own.version || theirs[at] == *own)
            };
            let entries = book.entries(from, end);
            let gives: Vec<NodeId> =
                entries.iter().filter(|own| !known(own)).map(|own| own.id).collect();
            (wants, gives)
        };
        self.send_statements(to, sender, &gives);
        for ids in wants.chunks(MAX_BODY / 16) {
            self.send(to, sender, &Message::Want(ids.to_vec()));
        }
        if !self.may_claim {
            let wanting = self.wanting.get_or_insert_default();
            wanting.ids.extend(wants);
            wanting.listed |= last;
            self.after(now, super::SYNC_AGAIN, Timer::SyncAgain(sender, 5));
        }
    }

    fn in_sync(&mut self) {
        self.wanting = None;
        self.may_claim = self.may_claim || self.lock().keyring.is_some();
    }

    fn send_statements(&mut self, to: SocketAddr, id: NodeId, about: &[NodeId]) {
        let items: Vec<Vec<u8>> = {
            let book = self.lock();
            about.iter().filter_map(|id| book.item(id)).collect()
        };
        let (mut batch, mut size): (Vec<&[u8]>, usize) = (Vec::new(), 0);
        for item in &items {
            if size + item.len() + 2 > MAX_BODY {
                self.send(to, id, &Message::Statements(std::mem::take(&mut batch)));
                size = 0;
            }
            size += item.len() + 2;
            batch.push(item);
        }
        if !batch.is_empty() {
            self.send(to, id, &Message::Statements(batch));
        }
    }

    /// Gossip a statement to all.
    pub(super) fn spread(&mut self, item: &[u8]) {
        // It can only be refused for its size, and none is that large.
        let added = self.swim.add_broadcast(item);
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// What came by comparison is spread on if this node is in step otherwise: a joiner that learns the whole
    /// book need not tell everybody.
    fn spread_if_fresh(&mut self, item: &[u8]) {
        if self.may_claim && self.swim.custom_broadcast_backlog() < MAX_BACKLOG {
            self.spread(item);
        }
    }

    /// A digest of who is there, in 16 parts.
    fn roster(&self) -> [u64; ROSTER] {
        let mut parts = [0; ROSTER];
        let own = (self.id(), *self.swim.identity());
        for seat in self.up.values().chain([&own.1]) {
            let hash = crypto::sha256(&[&seat.id.0, &seat.generation.to_be_bytes()]);
            let mut word = [0; 8];
            word.copy_from_slice(&hash[..8]);
            parts[part(&seat.id)] ^= u64::from_be_bytes(word);
        }
        parts
    }

    fn compare_rings(&mut self, to: SocketAddr, id: NodeId, theirs: u64) {
        let own = self.lock().keyring.as_ref().map_or(0, Keyring::epoch);
        if own > theirs {
            self.send_ring(to, id);
        }
    }

    pub(super) fn send_ring(&mut self, to: SocketAddr, id: NodeId) {
        let Some(record) = self.lock().record(&id).cloned() else { return };
        if let Some(sealed) = self.ring_for(&record) {
            self.send(to, id, &Message::Ring(&sealed));
        }
    }

    fn ring_came(&mut self, now: Now, sealed: &[u8]) {
        let Some(bytes) = self.identity.open(super::handshake::RING, sealed) else { return };
        let Ok(ring) = Keyring::decode(&bytes) else { return };
        let newer = self.lock().keyring.as_ref().is_some_and(|own| ring.beats(own));
        if newer {
            self.adopt(now, ring);
            self.pass_ring_on();
        }
    }

    /// Some members, enough that all have it soon; who is missed finds out by the next digest.
    pub(super) fn pass_ring_on(&mut self) {
        let n = 4 + self.up.len().checked_ilog2().unwrap_or(0) as usize;
        for seat in self.some_up(n) {
            self.send_ring(seat.addr, seat.id);
        }
    }
}

/// The next id, so that listings follow one another without a gap.
fn after(id: NodeId) -> NodeId {
    NodeId(u128::from_be_bytes(id.0).saturating_add(1).to_be_bytes())
}

fn part(id: &NodeId) -> usize {
    usize::from(id.0[0] >> 4)
}

/// The largest that a member is written.
const MEMBER: usize = 16 + 8 + 17 + 2 + 2 + 1;
const MAX_ENTRIES: usize = (MAX_BODY - 33) / 28;
const MAX_BACKLOG: usize = 200;
