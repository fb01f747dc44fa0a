//! The signed statement that a node is no longer a member, and never will be again.
//!
//! There is no way back from it and no order in which it could lose: it wins against every record of that
//! identity, whatever its version, and once known it is kept for ever.

use std::sync::Arc;

use crate::crypto;
use crate::identity::{Identity, NodeId, PublicKey};
use crate::secret::Credential;
use crate::time::Wall;
use crate::wire::{Reader, WireError, Writer};

/// A node was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    node: NodeId,
    issuer: PublicKey,
    credential: Credential,
    at: Wall,
    reason: String,
    bytes: Vec<u8>,
    hash: [u8; 32],
}

/// Why bytes are not a revocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Not encoded as revocations are.
    #[error("not a revocation: {0}")]
    Wire(#[from] WireError),
    /// Not signed by who says so.
    #[error("revocation of {node} is not signed by {issuer}: forged, or damaged on the way")]
    Signature {
        /// Who would be removed.
        node: NodeId,
        /// Who is said to have done it.
        issuer: NodeId,
    },
}

impl Revocation {
    /// Signs. Of the reason the first 200 bytes are kept.
    pub(crate) fn sign(
        issuer: &Identity,
        credential: Credential,
        node: NodeId,
        reason: &str,
        at: Wall,
    ) -> Self {
        let cut = (0..=200.min(reason.len())).rev().find(|&i| reason.is_char_boundary(i));
        let reason = reason[..cut.unwrap_or(0)].to_owned();
        let mut w = Writer::default();
        w.u8(FORMAT).raw(&node.0).raw(&issuer.public().0);
        credential.write(&mut w);
        w.u64(at.0).short(reason.as_bytes());
        let mut bytes = w.0;
        let signature = issuer.sign(CONTEXT, &bytes);
        bytes.extend_from_slice(&signature);
        let hash = crypto::sha256(&[&bytes]);
        Self { node, issuer: issuer.public(), credential, at, reason, bytes, hash }
    }

    /// Reads a revocation and checks its signature; whether its issuer was a member is not known here.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub fn parse(bytes: &[u8]) -> Result<Arc<Self>, RevocationError> {
        let mut r = Reader(bytes);
        if r.u8("format")? != FORMAT {
            return Err(WireError::Invalid("format").into());
        }
        let node = NodeId(r.array("node")?);
        let issuer = PublicKey(r.array("issuer")?);
        let credential = Credential::read(&mut r)?;
        let at = Wall(r.u64("time")?);
        let reason = r.text("reason")?.to_owned();
        let body = &bytes[..bytes.len() - r.0.len()];
        let signature = r.array("signature")?;
        r.end()?;
        if !issuer.has_signed(CONTEXT, body, &signature) {
            return Err(RevocationError::Signature { node, issuer: NodeId::of(&issuer) });
        }
        let hash = crypto::sha256(&[bytes]);
        let bytes = bytes.to_vec();
        Ok(Arc::new(Self { node, issuer, credential, at, reason, bytes, hash }))
    }

    /// Who was removed.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Who removed it.
    #[must_use]
    pub fn issuer(&self) -> PublicKey {
        self.issuer
    }

    /// The proof that the issuer was admitted.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// When, by the issuer's wall clock.
    #[must_use]
    pub fn at(&self) -> Wall {
        self.at
    }

    /// Why, in the issuer's words. Print it with care: another node wrote it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Revocation::bytes`].
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

const FORMAT: u8 = 1;
const CONTEXT: &str = "holdfast revocation v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::KeyId;

    fn signed(reason: &str) -> Revocation {
        let (issuer, node) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]).id());
        let credential = Credential { key: KeyId([1; 4]), mac: [2; 32] };
        Revocation::sign(&issuer, credential, node, reason, Wall(5))
    }

    #[test]
    fn a_revocation_reads_back_and_no_other_bytes_do() {
        let made = signed("stolen");
        assert_eq!(*Revocation::parse(made.bytes()).unwrap(), made);
        for len in 0..made.bytes().len() {
            assert!(Revocation::parse(&made.bytes()[..len]).is_err(), "{len}");
        }
        for at in 0..made.bytes().len() {
            let mut bad = made.bytes().to_vec();
            bad[at] ^= 0x40;
            assert!(Revocation::parse(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let made = signed(&"ü".repeat(150));
        assert_eq!(made.reason().len(), 200);
        let odd = signed(&format!("x{}", "ü".repeat(150)));
        assert_eq!(odd.reason().len(), 199);
        assert_eq!(*Revocation::parse(odd.bytes()).unwrap(), odd);
    }
}
