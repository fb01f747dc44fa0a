//! What is kept from start to start.

use zeroize::Zeroizing;

use super::{Entry, Membership, StartError};
use crate::book;
use crate::crypto;
use crate::event::Snapshot;
use crate::identity::NodeId;
use crate::record::Record;
use crate::secret::Keyring;
use crate::swim;
use crate::token::{JoinToken, Tokens};
use crate::wire::{Reader, WireError, Writer};

/// Why a kept state is not used. It is never thrown away silently: a node without it would come back with
/// tokens unspent and removed nodes forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Damaged.
    #[error(
        "the membership state is damaged ({0}); restore it from a backup, or move it away: the node then has to be admitted again, and does not know who was removed until another tells it"
    )]
    Damaged(&'static str),
    /// Not read.
    #[error("the membership state cannot be read ({0}): it is of another version of this program")]
    Wire(#[from] WireError),
    /// Another node's.
    #[error(
        "the membership state is that of node {found}, and this is {own}: identity and state are not of one node"
    )]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Who this is.
        own: NodeId,
    },
}

pub(super) struct Kept {
    pub(super) generation: u64,
    pub(super) ring: Option<Keyring>,
    own: Option<Vec<u8>>,
    items: Vec<Vec<u8>>,
    tokens: Tokens,
}

impl Membership {
    pub(super) fn snapshot(&self) -> Snapshot {
        let book = self.lock();
        let mut w = Writer::default();
        w.raw(MAGIC).raw(&self.id().0).u64(self.generation);
        match &book.keyring {
            Some(ring) => w.long(&ring.encode()),
            None => w.long(&[]),
        };
        w.long(book.record(&self.id()).map_or(&[], |record| record.bytes()));
        let removed = book.revocations().map(|revocation| book::item_of_revocation(revocation));
        let others = book.records().filter(|record| record.id() != self.id());
        for item in removed.chain(others.map(|record| book::item_of_record(record))) {
            w.u8(1).long(&item);
        }
        self.tokens.write(w.u8(0));
        let sum = crypto::sha256(&[&w.0]);
        w.raw(&sum);
        Snapshot(Zeroizing::new(w.0))
    }

    /// Takes up what was kept.
    pub(super) fn resume(&mut self, kept: Option<Kept>) -> Result<(), StartError> {
        let Some(kept) = kept else { return Ok(()) };
        self.tokens = kept.tokens;
        let mut book = swim::lock(&self.book);
        for item in &kept.items {
            // What was believed under secrets that are gone is not believed any more.
            let _ = book.offer(item, true);
        }
        if let Some(bytes) = kept.own {
            let record = Record::shared(&bytes).map_err(|_| StateError::Damaged("own record"))?;
            if record.id() != self.identity.id() {
                return Err(StateError::Damaged("own record").into());
            }
            self.claims = [record.draft().v4, record.draft().v6];
            // An address that it had is its own until somebody shows an older claim.
            self.may_claim |= book.keyring.is_some() && record.claims().next().is_some();
            book.set_own(record);
        }
        Ok(())
    }
}

/// The ring that a node starts with, or the token by which it will get one.
pub(super) fn entry(
    entry: Entry,
    kept: Option<Keyring>,
) -> Result<(Option<Keyring>, Option<JoinToken>), StartError> {
    match (entry, kept) {
        (Entry::Secret(secret), Some(ring)) if ring.ids().any(|id| id == secret.key_id()) => {
            Ok((Some(ring), None))
        }
        (Entry::Secret(secret), _) => Ok((Some(Keyring::new(secret)), None)),
        // It was let in before: the token has served.
        (Entry::Token(_) | Entry::Resume, Some(ring)) => Ok((Some(ring), None)),
        (Entry::Token(token), None) => Ok((None, Some(token))),
        (Entry::Resume, None) => Err(StartError::NoEntry),
    }
}

pub(super) fn decode(bytes: &[u8], own: NodeId) -> Result<Kept, StateError> {
    let whole = bytes.split_last_chunk::<32>();
    let (body, sum) = whole.ok_or(StateError::Damaged("too short"))?;
    if crypto::sha256(&[body]) != *sum {
        return Err(StateError::Damaged("its checksum is wrong"));
    }
    let mut r = Reader(body);
    if r.take(MAGIC.len(), "beginning")? != MAGIC {
        return Err(WireError::Invalid("beginning").into());
    }
    let found = NodeId(r.array("node id")?);
    if found != own {
        return Err(StateError::OtherNode { found, own });
    }
    let generation = r.u64("generation")?;
    let ring = match r.long("ring")? {
        [] => None,
        bytes => Some(Keyring::decode(bytes)?),
    };
    let record = r.long("own record")?;
    let mut items = Vec::new();
    while r.u8("statement")? == 1 {
        items.push(r.long("statement")?.to_vec());
    }
    let tokens = Tokens::read(&mut r)?;
    r.end()?;
    let own = (!record.is_empty()).then(|| record.to_vec());
    Ok(Kept { generation, ring, own, items, tokens })
}

const MAGIC: &[u8] = b"holdfast membership state v1\n";
