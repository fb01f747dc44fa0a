//! All that is known of all nodes: records, removals, who holds which address, and a digest of it by which two
//! nodes find what one of them is missing.
//!
//! What is in the book depends on what was offered, not on the order: of two records of a node the greater
//! (version, bytes) stays, and a removal is greater than every record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::address::{Holders, Pool};
use crate::event::Notice;
use crate::identity::{NodeId, PublicKey};
use crate::mutant::Mutant;
use crate::record::{Record, RecordError};
use crate::revocation::{Revocation, RevocationError};
use crate::secret::Keyring;
use crate::time::Time;
use crate::wire::WireError;

/// Why a statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a statement.
    #[error("not a statement: {0}")]
    Wire(#[from] WireError),
    /// Not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Not a revocation.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// No proof of admission.
    #[error("{0} has no proof that it was admitted under a secret that is in use")]
    NotAdmitted(NodeId),
    /// Removed.
    #[error("{0} was removed from the cluster; it can come back only with a new identity")]
    Removed(NodeId),
    /// Another key with the same id.
    #[error("{0} is the id of another key: somebody has searched for a key with the same id")]
    OtherKey(NodeId),
    /// A revocation by a stranger.
    #[error("{node} was removed by {issuer}, which is no member")]
    Stranger {
        /// Who was to be removed.
        node: NodeId,
        /// Who says so.
        issuer: NodeId,
    },
}

pub(crate) struct Book {
    own: NodeId,
    pub(crate) pool: Pool,
    pub(crate) keyring: Option<Keyring>,
    records: BTreeMap<NodeId, Arc<Record>>,
    revocations: BTreeMap<NodeId, Arc<Revocation>>,
    /// Whose records were dropped, since they were gone for long, and may not come back by hearsay.
    forgotten: BTreeMap<NodeId, (u64, Time)>,
    pub(crate) holders: Holders,
    buckets: [u64; BUCKETS],
    /// About whom something may have changed.
    pub(crate) touched: BTreeSet<NodeId>,
    pub(crate) notices: Vec<Notice>,
    /// The version of a record of this node that it has not made itself, if that is not below its own.
    pub(crate) overtaken: Option<u64>,
    /// Whose datagram is being read: the codec holds its content to it.
    pub(crate) speaker: Option<NodeId>,
    pub(crate) mutant: Option<Mutant>,
}

/// What is known of a node, as it stands in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) id: NodeId,
    /// The version of its record; the greatest number for a node that was removed.
    pub(crate) version: u64,
    /// The beginning of the statement's hash.
    pub(crate) hash: [u8; 4],
}

impl Book {
    pub(crate) fn new(own: NodeId, pool: Pool, keyring: Option<Keyring>) -> Self {
        Self {
            own,
            pool,
            keyring,
            records: BTreeMap::new(),
            revocations: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            holders: Holders::default(),
            buckets: [0; BUCKETS],
            touched: BTreeSet::new(),
            notices: Vec::new(),
            overtaken: None,
            speaker: None,
            mutant: None,
        }
    }

    /// Offers a statement as [`item_of_record`] and [`item_of_revocation`] write it. True if it was news.
    /// `vouched` says that a member has sent it on, which has to have checked it itself.
    pub(crate) fn offer(&mut self, item: &[u8], vouched: bool) -> Result<bool, Refusal> {
        match item.split_first() {
            Some((&RECORD, bytes)) => self.offer_record(Record::shared(bytes)?),
            Some((&REVOCATION, bytes)) => self.offer_revocation(Revocation::parse(bytes)?, vouched),
            _ => Err(WireError::Invalid("kind of statement").into()),
        }
    }

    /// Whether the record could stand in the book.
    pub(crate) fn check(&self, record: &Record) -> Result<(), Refusal> {
        let id = record.id();
        if self.revocations.contains_key(&id) && self.mutant != Some(Mutant::RemovalOutlived) {
            return Err(Refusal::Removed(id));
        }
        if self.records.get(&id).is_some_and(|known| known.key() != record.key()) {
            return Err(Refusal::OtherKey(id));
        }
        if !self.admitted(&record.key(), record) && self.mutant != Some(Mutant::NoCredential) {
            return Err(Refusal::NotAdmitted(id));
        }
        Ok(())
    }

    fn admitted(&self, key: &PublicKey, record: &Record) -> bool {
        let credential = record.draft().credential.as_ref();
        let proved = credential.zip(self.keyring.as_ref());
        proved.is_some_and(|(credential, ring)| ring.proves(key, credential))
    }

    pub(crate) fn offer_record(&mut self, record: Arc<Record>) -> Result<bool, Refusal> {
        let (id, version) = (record.id(), record.draft().version);
        let known = self.records.get(&id);
        if known.is_some_and(|known| known.bytes() == record.bytes()) {
            return Ok(false);
        }
        self.check(&record)?;
        if id == self.own {
            // Only this node itself says what it is. Somebody has its key, or it has lost its memory.
            if known.is_some_and(|known| version >= known.draft().version) {
                self.overtaken = self.overtaken.max(Some(version));
            }
            return Ok(false);
        }
        if self.forgotten.get(&id).is_some_and(|(dropped, _)| version <= *dropped) {
            return Ok(false);
        }
        if let Some(known) = known {
            let (old, new) = (known.draft().version, version);
            if old == new {
                self.notices.push(Notice::Forked(id));
            }
            let newer = (new, record.bytes()) > (old, known.bytes());
            let newer = match self.mutant {
                Some(Mutant::OldRecordWins) => true,
                Some(Mutant::FirstForkStays) => new > old,
                _ => newer,
            };
            if !newer {
                return Ok(false);
            }
        }
        self.forgotten.remove(&id);
        self.insert(record);
        Ok(true)
    }

    /// This node's own record.
    pub(crate) fn set_own(&mut self, record: Arc<Record>) {
        debug_assert_eq!(record.id(), self.own);
        self.insert(record);
    }

    fn insert(&mut self, record: Arc<Record>) {
        let id = record.id();
        self.drop_record(&id);
        self.flip(&id, record.hash());
        self.touched.extend(self.holders.add(&self.pool, &record));
        self.touched.insert(id);
        self.records.insert(id, record);
    }

    fn drop_record(&mut self, id: &NodeId) -> Option<Arc<Record>> {
        let record = self.records.remove(id)?;
        self.flip(id, record.hash());
        self.touched.extend(self.holders.remove(&self.pool, &record));
        self.touched.insert(*id);
        Some(record)
    }

    fn offer_revocation(
        &mut self,
        revocation: Arc<Revocation>,
        vouched: bool,
    ) -> Result<bool, Refusal> {
        let node = revocation.node();
        if let Some(known) = self.revocations.get(&node) {
            // Two have removed it: both are right, and all keep the same.
            if known.bytes() <= revocation.bytes() {
                return Ok(false);
            }
        }
        if !self.may_remove(&revocation, vouched) {
            let issuer = NodeId::of(&revocation.issuer());
            return Err(Refusal::Stranger { node, issuer });
        }
        self.set_revocation(revocation);
        Ok(true)
    }

    fn may_remove(&self, revocation: &Revocation, vouched: bool) -> bool {
        let (issuer, credential) = (revocation.issuer(), revocation.credential());
        let id = NodeId::of(&issuer);
        let known = self.records.get(&id).is_some_and(|record| record.key() == issuer);
        let Some(ring) = &self.keyring else { return false };
        // Its secret may have been replaced since; then whoever sends it on has known that one.
        let before = vouched && ring.ids().all(|id| id != credential.key);
        known || self.revocations.contains_key(&id) || ring.proves(&issuer, credential) || before
    }

    pub(crate) fn set_revocation(&mut self, revocation: Arc<Revocation>) {
        let node = revocation.node();
        self.drop_record(&node);
        if let Some(old) = self.revocations.get(&node).cloned() {
            self.flip(&node, old.hash());
        }
        self.flip(&node, revocation.hash());
        self.touched.insert(node);
        self.revocations.insert(node, revocation);
    }

    /// Drops the record of a node that has been gone for long. Until `until` it does not come back by hearsay.
    pub(crate) fn forget(&mut self, id: &NodeId, until: Time) {
        if let Some(record) = self.drop_record(id) {
            self.forgotten.insert(*id, (record.draft().version, until));
        }
    }

    /// A forgotten node has proved that it is there.
    pub(crate) fn remember(&mut self, id: &NodeId) {
        self.forgotten.remove(id);
    }

    pub(crate) fn forgive(&mut self, now: Time) {
        self.forgotten.retain(|_, (_, until)| now < *until);
    }

    /// Drops the records whose proof the ring does not know. Returns whose.
    pub(crate) fn drop_unproved(&mut self) -> Vec<NodeId> {
        let unproved = |record: &&Arc<Record>| {
            record.id() != self.own && !self.admitted(&record.key(), record)
        };
        let gone: Vec<NodeId> = self.records.values().filter(unproved).map(|r| r.id()).collect();
        for id in &gone {
            self.drop_record(id);
        }
        gone
    }

    pub(crate) fn record(&self, id: &NodeId) -> Option<&Arc<Record>> {
        self.records.get(id)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    pub(crate) fn revocation(&self, id: &NodeId) -> Option<&Arc<Revocation>> {
        self.revocations.get(id)
    }

    pub(crate) fn revocations(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.revocations.values()
    }

    /// The statement about a node, as it is sent.
    pub(crate) fn item(&self, id: &NodeId) -> Option<Vec<u8>> {
        match (self.revocations.get(id), self.records.get(id)) {
            (Some(revocation), _) => Some(item_of_revocation(revocation)),
            (None, Some(record)) => Some(item_of_record(record)),
            (None, None) => None,
        }
    }

    /// What is known of the nodes from `from` to `to`, in order of their ids.
    pub(crate) fn entries(&self, from: NodeId, to: NodeId) -> Vec<Entry> {
        let hash = |h: &[u8; 32]| [h[0], h[1], h[2], h[3]];
        let records = self.records.range(from..=to).map(|(id, record)| Entry {
            id: *id,
            version: record.draft().version,
            hash: hash(record.hash()),
        });
        let removed = self.revocations.range(from..=to).map(|(id, revocation)| Entry {
            id: *id,
            version: u64::MAX,
            hash: hash(revocation.hash()),
        });
        let mut all: Vec<Entry> = records.chain(removed).collect();
        all.sort_unstable();
        all
    }

    /// Whether the statement behind this entry could be news.
    pub(crate) fn lacks(&self, entry: &Entry) -> bool {
        if self.forgotten.get(&entry.id).is_some_and(|(dropped, _)| entry.version <= *dropped) {
            return false;
        }
        let own = self.entries(entry.id, entry.id);
        own.first().is_none_or(|own| {
            entry.version > own.version || (entry.version == own.version && entry.hash != own.hash)
        })
    }

    /// A digest of each of 64 equal parts of all ids.
    pub(crate) fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    fn flip(&mut self, id: &NodeId, hash: &[u8; 32]) {
        let mut word = [0; 8];
        word.copy_from_slice(&hash[..8]);
        self.buckets[bucket(id)] ^= u64::from_be_bytes(word);
    }
}

/// In which part of all ids it is.
pub(crate) fn bucket(id: &NodeId) -> usize {
    usize::from(id.0[0] >> 2)
}

/// The first and the last id of a part.
pub(crate) fn ends(bucket: usize) -> (NodeId, NodeId) {
    let mut ends = ([0; 16], [0xff; 16]);
    let first = (bucket as u8) << 2;
    (ends.0[0], ends.1[0]) = (first, first | 3);
    (NodeId(ends.0), NodeId(ends.1))
}

pub(crate) fn item_of_record(record: &Record) -> Vec<u8> {
    [&[RECORD], record.bytes()].concat()
}

pub(crate) fn item_of_revocation(revocation: &Revocation) -> Vec<u8> {
    [&[REVOCATION], revocation.bytes()].concat()
}

const RECORD: u8 = 1;
const REVOCATION: u8 = 2;
pub(crate) const BUCKETS: usize = 64;
