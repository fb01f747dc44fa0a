//! What a node says of itself, signed: its record.
//!
//! A record is replaced by one of a higher version only, so that an old one that is played again is
//! worth nothing. Two records of one version with different content can only come from two programs with
//! one identity (a machine that was cloned, a state directory that was restored); then the greater one, byte
//! by byte, wins everywhere, and it is reported.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::crypto::{self, Key};
use crate::identity::{Identity, NodeId, PublicKey};
use crate::secret::Credential;
use crate::time::Wall;
use crate::wire::{Reader, WireError, Writer};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Grows with every change.
    pub version: u64,
    /// Whether the node has said goodbye.
    pub left: bool,
    /// Its name: lower-case letters, digits, `-` and `.`, up to 63.
    pub name: String,
    /// The public key of its WireGuard interface, which it may change at any time.
    pub wireguard_key: [u8; 32],
    /// Where its gossip is heard, up to four; the first is tried first.
    pub gossip: Vec<SocketAddr>,
    /// Where its WireGuard is heard, up to four.
    pub wireguard: Vec<SocketAddr>,
    /// The address that it claims in the IPv4 mesh.
    pub v4: Option<Claim>,
    /// The address that it claims in the IPv6 mesh.
    pub v6: Option<Claim>,
    /// What it is for, sorted, up to eight of up to 32 lower-case letters, digits and `-`.
    pub roles: Vec<String>,
    /// The epoch of the keyring that it holds: how far it is in a rotation of the secret.
    pub epoch: u64,
    /// The proof of its admission.
    pub credential: Option<Credential>,
}

/// An address that a node says is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The address.
    pub ip: IpAddr,
    /// Since when: of two that claim one address, who has longer keeps it.
    pub since: Wall,
}

/// A draft with its node's key and signature, which have been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    id: NodeId,
    key: PublicKey,
    sealing_key: [u8; 32],
    draft: Draft,
    bytes: Vec<u8>,
    hash: [u8; 32],
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not encoded as records are.
    #[error("not a node record: {0}")]
    Wire(#[from] WireError),
    /// Not signed by its key.
    #[error("record of {0} is not signed by its key: forged, or damaged on the way")]
    Signature(NodeId),
}

/// Why a node cannot say this of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Name.
    #[error(
        "node name {0:?}: has to be 1 to 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
    )]
    Name(String),
    /// Roles.
    #[error(
        "roles {0:?}: have to be up to 8, sorted, each 1 to 32 lower-case letters, digits and '-'"
    )]
    Roles(Vec<String>),
    /// Endpoints.
    #[error("{0} endpoints for {1}: have to be up to 4, none of them an IPv4 address in IPv6 form")]
    Endpoints(usize, &'static str),
    /// Claim.
    #[error("{0} is claimed as an address of the other family")]
    Family(IpAddr),
}

impl Draft {
    /// Whether a record can be made of it.
    ///
    /// # Errors
    /// [`DraftError`] names what cannot be said.
    pub fn check(&self) -> Result<(), DraftError> {
        if !is_name(&self.name) {
            return Err(DraftError::Name(self.name.clone()));
        }
        let sorted = self.roles.windows(2).all(|w| w[0] < w[1]);
        if !sorted || self.roles.len() > 8 || !self.roles.iter().all(|role| is_role(role)) {
            return Err(DraftError::Roles(self.roles.clone()));
        }
        for (list, of) in [(&self.gossip, "gossip"), (&self.wireguard, "WireGuard")] {
            let mapped =
                |a: &SocketAddr| matches!(a.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
            if list.len() > MAX_ENDPOINTS || list.iter().any(mapped) {
                return Err(DraftError::Endpoints(list.len(), of));
            }
        }
        match (self.v4, self.v6) {
            (Some(c), _) if !c.ip.is_ipv4() => Err(DraftError::Family(c.ip)),
            (_, Some(c)) if !c.ip.is_ipv6() => Err(DraftError::Family(c.ip)),
            _ => Ok(()),
        }
    }

    fn write(&self, key: &PublicKey, sealing_key: &[u8; 32]) -> Writer {
        let mut w = Writer::default();
        w.u8(FORMAT).raw(&key.0).raw(sealing_key).u64(self.version).u8(u8::from(self.left));
        w.short(self.name.as_bytes()).raw(&self.wireguard_key);
        for list in [&self.gossip, &self.wireguard] {
            w.u8(list.len() as u8);
            for addr in list {
                w.socket(*addr);
            }
        }
        for claim in [&self.v4, &self.v6] {
            w.u8(u8::from(claim.is_some()));
            if let Some(claim) = claim {
                w.ip(claim.ip).u64(claim.since.0);
            }
        }
        w.u8(self.roles.len() as u8);
        for role in &self.roles {
            w.short(role.as_bytes());
        }
        w.u64(self.epoch).u8(u8::from(self.credential.is_some()));
        if let Some(credential) = &self.credential {
            credential.write(&mut w);
        }
        w
    }
}

impl Record {
    /// Signs.
    ///
    /// # Errors
    /// [`DraftError`], if the draft says what cannot be said.
    pub fn sign(identity: &Identity, draft: Draft) -> Result<Self, DraftError> {
        draft.check()?;
        let (key, sealing_key) = (identity.public(), identity.sealing_key());
        let mut bytes = draft.write(&key, &sealing_key).0;
        let signature = identity.sign(CONTEXT, &bytes);
        bytes.extend_from_slice(&signature);
        let hash = crypto::sha256(&[&bytes]);
        Ok(Self { id: identity.id(), key, sealing_key, draft, bytes, hash })
    }

    /// Reads a record and checks its signature.
    ///
    /// # Errors
    /// [`RecordError`], if the bytes are not exactly what [`Record::sign`] has made.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_SIZE {
            return Err(WireError::Trailing(bytes.len() - MAX_SIZE).into());
        }
        let mut r = Reader(bytes);
        let (key, sealing_key, draft) = read(&mut r)?;
        let body = &bytes[..bytes.len() - r.0.len()];
        let signature = r.array("signature")?;
        r.end()?;
        let id = NodeId::of(&key);
        if !key.has_signed(CONTEXT, body, &signature) {
            return Err(RecordError::Signature(id));
        }
        let hash = crypto::sha256(&[bytes]);
        Ok(Self { id, key, sealing_key, draft, bytes: bytes.to_vec(), hash })
    }

    /// [`Record::parse`]. In tests a record is checked once in a thread however many nodes there are.
    pub(crate) fn shared(bytes: &[u8]) -> Result<Arc<Self>, RecordError> {
        #[cfg(test)]
        return tests::memo(bytes);
        #[cfg(not(test))]
        Self::parse(bytes).map(Arc::new)
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The key that it is signed with.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The key that others seal to.
    #[must_use]
    pub fn sealing_key(&self) -> &[u8; 32] {
        &self.sealing_key
    }

    /// What it says.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Record::bytes`].
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The claims of both families.
    pub fn claims(&self) -> impl Iterator<Item = Claim> + use<> {
        [self.draft.v4, self.draft.v6].into_iter().flatten()
    }

    /// Seals a text to this node: nobody else can open it ([`Identity::open`]), and nothing says who sealed
    /// it. `entropy` is 32 bytes fresh from the operating system. `None` for a node whose key is of no use.
    #[must_use]
    pub fn seal_to(&self, context: &str, text: &[u8], entropy: [u8; 32]) -> Option<Vec<u8>> {
        crypto::seal_to(&self.sealing_key, context, text, Key::new(entropy))
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("draft", &self.draft)
            .finish_non_exhaustive()
    }
}

fn read(r: &mut Reader<'_>) -> Result<(PublicKey, [u8; 32], Draft), WireError> {
    if r.u8("format")? != FORMAT {
        return Err(WireError::Invalid("format"));
    }
    let (key, sealing_key) = (PublicKey(r.array("key")?), r.array("sealing key")?);
    let draft = Draft {
        version: r.u64("version")?,
        left: flag(r, "state")?,
        name: r.text("name")?.to_owned(),
        wireguard_key: r.array("WireGuard key")?,
        gossip: endpoints(r)?,
        wireguard: endpoints(r)?,
        v4: claim(r)?,
        v6: claim(r)?,
        roles: roles(r)?,
        epoch: r.u64("epoch")?,
        credential: if flag(r, "credential")? { Some(Credential::read(r)?) } else { None },
    };
    if draft.version == u64::MAX {
        // Nothing could follow it; and a removed node stands in lists with this number.
        return Err(WireError::Invalid("version"));
    }
    draft.check().map_err(|e| {
        WireError::Invalid(match e {
            DraftError::Name(_) => "name",
            DraftError::Roles(_) => "roles",
            DraftError::Endpoints(..) => "endpoints",
            DraftError::Family(_) => "claim",
        })
    })?;
    Ok((key, sealing_key, draft))
}

fn flag(r: &mut Reader<'_>, what: &'static str) -> Result<bool, WireError> {
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Invalid(what)),
    }
}

fn endpoints(r: &mut Reader<'_>) -> Result<Vec<SocketAddr>, WireError> {
    (0..r.u8("endpoints")?).map(|_| r.socket("endpoint")).collect()
}

fn claim(r: &mut Reader<'_>) -> Result<Option<Claim>, WireError> {
    if !flag(r, "claim")? {
        return Ok(None);
    }
    Ok(Some(Claim { ip: r.ip("claim")?, since: Wall(r.u64("claim")?) }))
}

fn roles(r: &mut Reader<'_>) -> Result<Vec<String>, WireError> {
    (0..r.u8("roles")?).map(|_| r.text("role").map(str::to_owned)).collect()
}

fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = bytes.first().is_some_and(|&c| plain(c)) && bytes.last().is_some_and(|&c| plain(c));
    ends && bytes.len() <= 63 && bytes.iter().all(|&c| plain(c) || c == b'-' || c == b'.')
}

fn is_role(role: &str) -> bool {
    let fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=32).contains(&role.len()) && role.bytes().all(fine)
}

const FORMAT: u8 = 1;
const CONTEXT: &str = "holdfast node record v1";
const MAX_ENDPOINTS: usize = 4;
/// More than the largest record there can be, and less than a datagram has room for.
pub(crate) const MAX_SIZE: usize = 1024;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        static SEEN: RefCell<HashMap<Vec<u8>, Arc<Record>>> = RefCell::default();
    }

    pub(super) fn memo(bytes: &[u8]) -> Result<Arc<Record>, RecordError> {
        if let Some(known) = SEEN.with_borrow(|seen| seen.get(bytes).cloned()) {
            return Ok(known);
        }
        let record = Arc::new(Record::parse(bytes)?);
        SEEN.with_borrow_mut(|seen| seen.insert(bytes.to_vec(), record.clone()));
        Ok(record)
    }

    pub(crate) fn draft() -> Draft {
        Draft {
            version: 3,
            left: false,
            name: "node-1.lan".into(),
            wireguard_key: [4; 32],
            gossip: vec!["10.0.0.1:7946".parse().unwrap(), "[2001:db8::1]:7946".parse().unwrap()],
            wireguard: vec!["10.0.0.1:51820".parse().unwrap()],
            v4: Some(Claim { ip: "10.213.0.7".parse().unwrap(), since: Wall(1_700_000_000) }),
            v6: None,
            roles: vec!["k3s-agent".into(), "mesh".into()],
            epoch: 0,
            credential: Some(Credential { key: crate::secret::KeyId([1; 4]), mac: [2; 32] }),
        }
    }

    #[test]
    fn a_record_reads_back_and_no_other_bytes_do() {
        let identity = Identity::from_seed([1; 32]);
        let record = Record::sign(&identity, draft()).unwrap();
        assert_eq!(Record::parse(record.bytes()).as_ref(), Ok(&record));
        for len in 0..record.bytes().len() {
            assert!(Record::parse(&record.bytes()[..len]).is_err(), "{len}");
        }
        for at in 0..record.bytes().len() * 8 {
            let mut bad = record.bytes().to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Record::parse(&bad).is_err(), "bit {at}");
        }
        let longer = [record.bytes(), &[0]].concat();
        assert_eq!(Record::parse(&longer), Err(WireError::Trailing(1).into()));
    }

    #[test]
    fn a_record_of_another_key_is_forged() {
        let record = Record::sign(&Identity::from_seed([1; 32]), draft()).unwrap();
        let other = Identity::from_seed([2; 32]);
        let body = &record.bytes()[..record.bytes().len() - 64];
        let forged = [body, &other.sign(CONTEXT, body)].concat();
        assert_eq!(Record::parse(&forged), Err(RecordError::Signature(record.id())));
        let elsewhere = [body, &Identity::from_seed([1; 32]).sign("elsewhere", body)].concat();
        assert_eq!(Record::parse(&elsewhere), Err(RecordError::Signature(record.id())));
    }

    #[test]
    fn what_a_node_cannot_say() {
        let with = |change: fn(&mut Draft)| {
            let mut draft = draft();
            change(&mut draft);
            draft.check().unwrap_err().to_string()
        };
        let cases = [
            (with(|d| d.name = String::new()), "node name"),
            (with(|d| d.name = "Upper".into()), "node name"),
            (with(|d| d.name = "-a".into()), "node name"),
            (with(|d| d.name = "a".repeat(64)), "node name"),
            (with(|d| d.roles.reverse()), "sorted"),
            (with(|d| d.roles = vec!["a".into(), "a".into()]), "sorted"),
            (with(|d| d.roles = vec!["a b".into()]), "roles"),
            (with(|d| d.gossip = vec!["10.0.0.1:1".parse().unwrap(); 5]), "5 endpoints"),
            (with(|d| d.gossip = vec!["[::ffff:1.2.3.4]:1".parse().unwrap()]), "IPv6 form"),
            (with(|d| d.v6 = d.v4), "other family"),
        ];
        for (message, part) in cases {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_largest_record_fits() {
        let mut large = draft();
        large.name = "n".repeat(63);
        large.gossip = vec!["[2001:db8::1]:7946".parse().unwrap(); 4];
        large.wireguard = large.gossip.clone();
        large.v6 = Some(Claim { ip: "fd00::1".parse().unwrap(), since: Wall(1) });
        large.roles = (0..8).map(|i| format!("{i}{}", "r".repeat(31))).collect();
        let record = Record::sign(&Identity::from_seed([1; 32]), large).unwrap();
        assert!(record.bytes().len() <= MAX_SIZE, "{}", record.bytes().len());
        assert!(Record::parse(record.bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Record::parse(&bytes).is_err());
        }

        /// Damaged anywhere, in any way, it is refused.
        #[test]
        fn a_damaged_record_is_refused(
            at in 0usize..400, with in prop::collection::vec(any::<u8>(), 0..9), gone in 0usize..9,
        ) {
            let record = Record::sign(&Identity::from_seed([1; 32]), draft()).unwrap();
            let mut bytes = record.bytes().to_vec();
            let at = at.min(bytes.len());
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, with);
            prop_assert_eq!(Record::parse(&bytes).is_ok(), bytes == record.bytes());
        }
    }
}
