//! What a node says of itself, and what it is told to do: its record, its addresses, tokens, removals, the
//! rotation of the secret, goodbye.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Membership, Phase, Timer};
use crate::book::{item_of_record, item_of_revocation};
use crate::event::{Notice, Output, Status};
use crate::identity::NodeId;
use crate::message::Message;
use crate::mutant::Mutant;
use crate::record::{Claim, Draft, DraftError, Record};
use crate::revocation::Revocation;
use crate::secret::{ClusterSecret, KeyId, Keyring, KeyringError};
use crate::swim::Seat;
use crate::time::Now;
use crate::token::{JoinToken, TokenError, TokenId, TokenInfo};

/// What a node says of itself by its configuration. [`Draft`] has the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// The public key of its WireGuard interface.
    pub wireguard_key: [u8; 32],
    /// Where its gossip is heard. At least one; the first is what others use.
    pub gossip: Vec<SocketAddr>,
    /// Where its WireGuard is heard.
    pub wireguard: Vec<SocketAddr>,
    /// What it is for, sorted.
    pub roles: Vec<String>,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It has left or was removed.
    #[error("this node has left the cluster, or was removed from it; start it again")]
    Over,
    /// It is not in yet.
    #[error(
        "this node has not been admitted yet: it has a join token and waits for the node that made it"
    )]
    NotAdmitted,
    /// Itself.
    #[error("a node does not remove itself: let it leave, or remove it at another")]
    Oneself,
    /// Token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Ring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What it is to say of itself.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// Too early.
    #[error("{} members do not have the secrets of the last step yet: {}", .0.len(), list(.0))]
    Behind(Vec<NodeId>),
}

impl Membership {
    /// Makes a join token.
    ///
    /// # Errors
    /// [`CommandError::NotAdmitted`], if this node is not in a cluster itself; [`TokenError::Full`].
    pub fn create_token(
        &mut self,
        now: Now,
        valid: Duration,
        note: &str,
    ) -> Result<JoinToken, CommandError> {
        self.admitted()?;
        let owner = self.id();
        let entropy = (&self.dice.bytes(), &self.dice.bytes());
        let token = self.tokens.create(owner, now.wall, valid, note, entropy)?;
        self.save();
        Ok(token)
    }

    /// The tokens that this node has made and what became of them.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenInfo> {
        self.tokens.list()
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], and [`TokenError::Spent`] if it is too late.
    pub fn revoke_token(&mut self, id: TokenId) -> Result<(), CommandError> {
        self.tokens.revoke(id)?;
        self.save();
        Ok(())
    }

    /// Removes a node for ever, everywhere. It keeps what it knows of the secret: if it is in other hands,
    /// replace that, too.
    ///
    /// # Errors
    /// [`CommandError::Oneself`], [`CommandError::NotAdmitted`], [`CommandError::Over`].
    pub fn remove(&mut self, now: Now, node: NodeId, reason: &str) -> Result<(), CommandError> {
        let ring = self.admitted()?;
        if node == self.id() {
            return Err(CommandError::Oneself);
        }
        if self.lock().revocation(&node).is_some() {
            return Ok(());
        }
        let credential = ring.credential(&self.identity.public());
        let made = Revocation::sign(&self.identity, credential, node, reason, now.wall);
        let item = item_of_revocation(&made);
        let at = self.address_of(&node);
        self.lock().set_revocation(Arc::new(made.clone()));
        self.save();
        self.spread(&item);
        self.tell_some(&item);
        if let Some(at) = at {
            self.scold(now, at, &made);
        }
        self.settle(now);
        Ok(())
    }

    /// The first step of a rotation: gives a new secret to all members, who do not use it yet.
    ///
    /// # Errors
    /// [`KeyringError::Full`], and as [`Membership::remove`].
    pub fn install_secret(&mut self, now: Now, secret: ClusterSecret) -> Result<(), CommandError> {
        let ring = self.admitted()?.install(secret)?;
        self.rotate(now, ring);
        Ok(())
    }

    /// The second step: all use it.
    ///
    /// # Errors
    /// [`CommandError::Behind`] while a member that is there does not have it, since it would be cut off.
    pub fn use_secret(&mut self, now: Now, id: KeyId) -> Result<(), CommandError> {
        let ring = self.admitted()?.promote(id)?;
        self.all_in_step()?;
        self.rotate(now, ring);
        Ok(())
    }

    /// The third step: the old one is forgotten. Who was away since before the first step has no secret in
    /// common with the others from here on, and has to be given the new one by hand.
    ///
    /// # Errors
    /// [`KeyringError::Primary`], and [`CommandError::Behind`] while a member that is there does not use
    /// the new one.
    pub fn remove_secret(&mut self, now: Now, id: KeyId) -> Result<(), CommandError> {
        let ring = self.admitted()?.remove(id)?;
        self.all_in_step()?;
        self.rotate(now, ring);
        Ok(())
    }

    /// Members that are there and have not yet said that they have the ring of this node.
    #[must_use]
    pub fn behind(&self) -> Vec<NodeId> {
        let epoch = self.keyring().map_or(0, |ring| ring.epoch());
        let late = self
            .members()
            .filter(|(status, peer)| *status == Status::Alive && peer.record.draft().epoch < epoch);
        late.map(|(_, peer)| peer.record.id()).collect()
    }

    /// Says something else of this node: another WireGuard key, other endpoints, other roles.
    ///
    /// # Errors
    /// [`CommandError::Draft`], if it cannot be said; then nothing is changed.
    pub fn update(&mut self, now: Now, local: Local) -> Result<(), CommandError> {
        if self.phase == Phase::Over {
            return Err(CommandError::Over);
        }
        let Some(addr) = local.gossip.first().copied() else {
            return Err(DraftError::Endpoints(0, "gossip").into());
        };
        let old = std::mem::replace(&mut self.config.local, local);
        if let Err(e) = self.draft(0).check() {
            self.config.local = old;
            return Err(e.into());
        }
        if old.gossip.first() != Some(&addr) {
            self.generation = self.generation.saturating_add(1);
            let seat = Seat { id: self.id(), generation: self.generation, addr };
            self.swim(now, |swim, wishes| swim.change_identity(seat, wishes));
        }
        self.must_publish = true;
        self.settle(now);
        Ok(())
    }

    /// Says goodbye. [`Output::Left`] comes when that is on its way, and then nothing any more.
    pub fn leave(&mut self, now: Now) {
        if self.phase == Phase::Over {
            return;
        }
        let left = self.publish_as(true);
        debug_assert!(left.is_ok(), "{left:?}");
        if let Some(record) = self.record() {
            self.tell_some(&item_of_record(&record));
        }
        self.swim(now, |swim, wishes| swim.leave_cluster(wishes));
        self.phase = Phase::Over;
        self.timers.clear();
        self.outputs.push_back(Output::Left);
    }

    fn admitted(&self) -> Result<Keyring, CommandError> {
        if self.phase == Phase::Over {
            return Err(CommandError::Over);
        }
        self.keyring().ok_or(CommandError::NotAdmitted)
    }

    fn all_in_step(&self) -> Result<(), CommandError> {
        let behind = self.behind();
        if behind.is_empty() { Ok(()) } else { Err(CommandError::Behind(behind)) }
    }

    fn rotate(&mut self, now: Now, ring: Keyring) {
        if self.keyring().is_some_and(|own| !ring.beats(&own)) {
            return;
        }
        self.adopt(now, ring);
        self.pass_ring_on();
        self.settle(now);
    }

    /// Takes a ring over.
    pub(super) fn adopt(&mut self, now: Now, ring: Keyring) {
        let (epoch, primary) = (ring.epoch(), ring.primary());
        self.lock().keyring = Some(ring);
        self.outputs.push_back(Output::Notice(Notice::Keyring { epoch, primary }));
        // Who has a proof by a secret that is gone may have made another one, which is on its way.
        let grace = self.config.timing.sync_interval * 3;
        self.after(now, grace, Timer::DropUnproved);
        self.must_publish = true;
        self.save();
    }

    /// Ends all dealings with those who cannot prove that they were admitted under a secret of the ring.
    pub(super) fn drop_unproved(&mut self, now: Now) {
        let gone = self.lock().drop_unproved();
        for id in gone {
            self.outputs.push_back(Output::Notice(Notice::Unproved(id)));
            self.cut_off(now, id);
        }
    }

    /// Tells some members directly, enough that one of them will hear it, and spread it.
    fn tell_some(&mut self, item: &[u8]) {
        let n = 4 + self.up.len().checked_ilog2().unwrap_or(0) as usize;
        for seat in self.some_up(n) {
            self.send(seat.addr, seat.id, &Message::Statements(vec![item]));
        }
    }

    pub(super) fn publish(&mut self) -> Result<(), DraftError> {
        self.publish_as(false)
    }

    fn publish_as(&mut self, left: bool) -> Result<(), DraftError> {
        self.must_publish = false;
        let version = {
            let mut book = self.lock();
            let own = book.record(&self.id()).map_or(0, |record| record.draft().version);
            own.max(book.overtaken.take().unwrap_or(0)).saturating_add(1)
        };
        let mut draft = self.draft(version);
        draft.left = left;
        let record = Arc::new(Record::sign(&self.identity, draft)?);
        self.lock().set_own(record.clone());
        // On the disk before it is out: a version must not be used twice.
        self.save();
        if record.draft().credential.is_some() {
            self.spread(&item_of_record(&record));
        }
        Ok(())
    }

    fn draft(&self, version: u64) -> Draft {
        let local = self.config.local.clone();
        let ring = self.keyring();
        Draft {
            version,
            left: false,
            name: local.name,
            wireguard_key: local.wireguard_key,
            gossip: local.gossip,
            wireguard: local.wireguard,
            v4: self.claims[0],
            v6: self.claims[1],
            roles: local.roles,
            epoch: ring.as_ref().map_or(0, Keyring::epoch),
            credential: ring.map(|ring| ring.credential(&self.identity.public())),
        }
    }

    /// Takes an address in each family, and another where the one it has is somebody else's.
    pub(super) fn claim(&mut self, now: Now) {
        if !self.may_claim {
            return;
        }
        let old = self.addresses();
        for v4 in [true, false] {
            let family = usize::from(!v4);
            let new = self.claim_in(now, v4, self.claims[family]);
            self.claims[family] = new;
        }
        let new = self.addresses();
        if old != new {
            self.must_publish = true;
            self.outputs.push_back(Output::AddressChanged { old, new });
        }
    }

    fn claim_in(&mut self, now: Now, v4: bool, claim: Option<Claim>) -> Option<Claim> {
        let (own, name) = (self.id(), &self.config.local.name);
        let (picked, lost) = {
            let book = self.lock();
            let other = |ip: IpAddr| book.holders.holder(ip).filter(|holder| *holder != own);
            let reserved = book.pool.reserved_for(v4, &own, name);
            let fits = |ip: IpAddr| match reserved {
                Some(reserved) => ip == reserved,
                None => book.pool.may_have(ip, &own, name),
            };
            let lost = claim.and_then(|claim| Some((claim.ip, other(claim.ip)?)));
            if let Some(claim) = claim
                && fits(claim.ip)
                && (lost.is_none() || self.is(Mutant::LoserStays))
            {
                return Some(claim);
            }
            let net = if v4 {
                book.pool.config().v4.map(IpNet::V4)
            } else {
                book.pool.config().v6.map(IpNet::V6)
            };
            let ip = book.pool.pick(v4, &own, name, |ip| other(ip).is_some());
            (ip.ok_or(net), lost)
        };
        if let Some((ip, holder)) = lost {
            self.outputs.push_back(Output::Notice(Notice::AddressLost { ip, holder }));
        }
        match picked {
            Ok(ip) => Some(Claim { ip, since: now.wall }),
            Err(net) => {
                if let (Some(net), Some(_)) = (net, claim) {
                    self.outputs.push_back(Output::Notice(Notice::NoAddressLeft(net)));
                }
                None
            }
        }
    }

    /// Keeps what there is, now.
    pub(super) fn save(&mut self) {
        let snapshot = self.snapshot();
        // Of several in a row only the last matters.
        if let Some(Output::Persist(last)) = self.outputs.back_mut() {
            *last = snapshot;
        } else {
            self.outputs.push_back(Output::Persist(snapshot));
        }
    }

    /// Keeps what there is, soon: nothing is lost but what others know, too.
    pub(super) fn save_later(&mut self, now: Now) {
        if !self.saving {
            self.saving = true;
            self.after(now, self.config.timing.save_after, Timer::Save);
        }
    }
}

fn list(ids: &[NodeId]) -> String {
    let shown: Vec<String> = ids.iter().take(5).map(NodeId::to_string).collect();
    format!("{}{}", shown.join(", "), if ids.len() > 5 { ", …" } else { "" })
}
