//! Who a node is: an Ed25519 key that is made once and never silently made anew, and a name for it.
//!
//! The node id is the first 128 bits of `SHA-256("holdfast node id v1" ‖ 0 ‖ public key)`, written in 26
//! letters and digits (base32, lower case), so that it is a DNS label and can be read out. To find a key
//! for a given id takes 2¹²⁸ tries, to find two keys of one's own with the same id 2⁶⁴; and the whole
//! public key stands in the record that an id leads to, so that a second key for a known id is refused.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{self, Key};

/// The name of a node's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) [u8; 16]);

impl NodeId {
    /// The id of a key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = crypto::sha256(&[b"holdfast node id v1\0", &key.0]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }

    /// The id as it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a node id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node id: that is 26 of the letters a-z and the digits 2-7, as `holdfast mesh peers` shows them"
)]
pub struct NodeIdError(String);

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let bytes = unbase32(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| NodeIdError(text.chars().take(64).collect()))
    }
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether this key has signed `context ‖ 0 ‖ message`.
    #[must_use]
    pub fn has_signed(&self, context: &str, message: &[u8], signature: &[u8; 64]) -> bool {
        crypto::verify(&self.0, context, message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

/// A node's identity with its secret half.
pub struct Identity {
    seed: Key,
    pair: Ed25519KeyPair,
    sealing: x25519_dalek::StaticSecret,
    public: PublicKey,
    id: NodeId,
}

/// What `identity.json` holds: the names that ClusterOS used, too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    private_key: String,
    public_key: String,
    node_id: String,
}

impl Drop for File {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// Why the content of an identity file is refused. It is never replaced by a new identity: to the
/// others that would be another node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not the JSON object it should be. The parser's words are left out, since they may quote the key.
    #[error(
        "line {line}, column {column}: not an object with private_key, public_key and node_id; restore the file from a backup, or move it away to become a new node"
    )]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Not base64.
    #[error("{field} is not base64: the file is damaged; restore it from a backup")]
    Base64 {
        /// The field.
        field: &'static str,
    },
    /// A key of another size.
    #[error(
        "{field} has {found} bytes, not {expected}: the file is damaged, or of another program"
    )]
    Size {
        /// The field.
        field: &'static str,
        /// Its bytes.
        found: usize,
        /// What it should have.
        expected: usize,
    },
    /// The two halves are not of one key.
    #[error("public_key is not the public half of private_key: the file was put together from two")]
    Halves,
    /// The id is not of this key.
    #[error(
        "node_id is {found:?}, but the key's is {expected}: the file was edited, or is of another program"
    )]
    Id {
        /// What stands there.
        found: String,
        /// What should.
        expected: NodeId,
    },
}

impl Identity {
    /// The identity that belongs to a seed: 32 bytes fresh from the operating system make a new one.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = match Ed25519KeyPair::from_seed_unchecked(&*seed) {
            Ok(pair) => pair,
            Err(_) => unreachable!("every 32 bytes are a seed of Ed25519"),
        };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let public = PublicKey(public);
        let sealing = crypto::derive(b"holdfast identity v1", &*seed, "sealing key");
        let sealing = x25519_dalek::StaticSecret::from(*sealing);
        Self { id: NodeId::of(&public), seed, pair, sealing, public }
    }

    /// Reads what [`Identity::to_json`] has written, and checks all of it.
    ///
    /// # Errors
    /// [`IdentityError`] says what is wrong; nothing of the secret is in it.
    pub fn from_json(text: &str) -> Result<Self, IdentityError> {
        let file: File = serde_json::from_str(text)
            .map_err(|e| IdentityError::Json { line: e.line(), column: e.column() })?;
        let private = Zeroizing::new(sized(&file.private_key, "private_key", 64)?);
        let public = sized(&file.public_key, "public_key", 32)?;
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&private[..32]);
        let identity = Self::from_seed(*seed);
        if private[32..] != identity.public.0 || public != identity.public.0 {
            return Err(IdentityError::Halves);
        }
        if file.node_id != identity.id.to_string() {
            let found = file.node_id.chars().take(64).collect();
            return Err(IdentityError::Id { found, expected: identity.id });
        }
        Ok(identity)
    }

    /// The content of `identity.json`. The file has to be readable by its owner only.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let private = Zeroizing::new([*self.seed, self.public.0].concat());
        let private = Zeroizing::new(BASE64.encode(&*private));
        let (public, id) = (BASE64.encode(self.public.0), self.id);
        // All of it is base64 or base32: nothing to escape.
        Zeroizing::new(format!(
            "{{\n  \"private_key\": \"{}\",\n  \"public_key\": \"{public}\",\n  \"node_id\": \"{id}\"\n}}\n",
            *private
        ))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The public half of the key that others seal to: X25519, derived from the identity's seed.
    #[must_use]
    pub fn sealing_key(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&self.sealing).to_bytes()
    }

    /// Signs `context ‖ 0 ‖ message`. The context keeps a signature from being of use elsewhere.
    #[must_use]
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; 64] {
        let text = [context.as_bytes(), &[0], message].concat();
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(&text).as_ref());
        out
    }

    /// Opens what was sealed to this identity ([`Record::seal_to`](crate::record::Record::seal_to)).
    #[must_use]
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        crypto::open_from(&self.sealing, context, sealed)
    }

    /// The key that only this node and the owner of `sealing_key` know.
    pub(crate) fn pair_key(&self, other: &NodeId, sealing_key: &[u8; 32]) -> Option<Key> {
        let shared = crypto::agree(&self.sealing, sealing_key)?;
        let (low, high) = if self.id < *other { (self.id, *other) } else { (*other, self.id) };
        Some(crypto::derive(&[low.0, high.0].concat(), &*shared, "holdfast pair v1"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

fn sized(text: &str, field: &'static str, expected: usize) -> Result<Vec<u8>, IdentityError> {
    let bytes = BASE64.decode(text).map_err(|_| IdentityError::Base64 { field })?;
    if bytes.len() == expected {
        return Ok(bytes);
    }
    Err(IdentityError::Size { field, found: bytes.len(), expected })
}

/// RFC 4648's alphabet in lower case, without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    out
}

/// Only what [`base32`] writes: the bits left over must be zero and fewer than five.
pub(crate) fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let value = ALPHABET.iter().position(|&a| a == c)? as u32;
        held = (held << 5 | value) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(out)
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file() {
        let made = Identity::from_seed([9; 32]);
        let read = Identity::from_json(&made.to_json()).unwrap();
        assert_eq!((read.id(), read.public()), (made.id(), made.public()));
        assert_eq!(read.sealing_key(), made.sealing_key());
        let id = made.id().to_string();
        assert_eq!(id.len(), 26);
        assert_eq!(id.parse::<NodeId>(), Ok(made.id()));
    }

    /// RFC 8032, 7.1, test 1.
    #[test]
    fn the_key_is_ed25519() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(Identity::from_seed(seed).public().0, public);
    }

    fn hex(text: &str) -> [u8; 32] {
        let byte = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    #[test]
    fn a_damaged_file_is_refused_and_says_why_without_the_secret() {
        let whole = Identity::from_seed([9; 32]).to_json();
        let other = Identity::from_seed([8; 32]);
        let private = BASE64.encode([[9; 32], Identity::from_seed([9; 32]).public().0].concat());
        let id = Identity::from_seed([9; 32]).id().to_string();
        let public = BASE64.encode(Identity::from_seed([9; 32]).public().0);
        let cases: &[(&str, String, &str)] = &[
            ("empty", String::new(), "line 1, column 0"),
            ("cut", whole[..whole.len() / 2].to_owned(), "not an object with private_key"),
            ("more", whole.replace("\n}", ",\n  \"x\": 1\n}"), "not an object"),
            ("letters", whole.replace(&private, "?"), "private_key is not base64"),
            ("short", whole.replace(&private, &private[..44]), "private_key has 33 bytes, not 64"),
            ("no key", whole.replace(&public, ""), "public_key has 0 bytes, not 32"),
            ("two", whole.replace(&public, &BASE64.encode(other.public().0)), "put together"),
            ("id", whole.replace(&id, &other.id().to_string()), "but the key's is"),
        ];
        for (name, text, expected) in cases {
            let error = Identity::from_json(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
            assert!(!error.contains(&private[..20]), "{name}: {error}");
        }
        assert!(!format!("{:?}", Identity::from_seed([9; 32])).contains("seed"));
    }

    #[test]
    fn a_node_id_has_one_spelling() {
        let id = Identity::from_seed([1; 32]).id();
        let text = id.to_string();
        assert!(text.to_uppercase().parse::<NodeId>().is_err());
        assert!(text[1..].parse::<NodeId>().is_err());
        assert!(format!("{text}a").parse::<NodeId>().is_err());
        // The last letter carries three bits: its low two must be zero.
        assert!(format!("{}b", &text[..25]).parse::<NodeId>().is_err());
        assert_eq!(unbase32(&base32(b"any bytes")).unwrap(), b"any bytes");
    }

    #[test]
    fn both_ends_of_a_pair_have_one_key_and_a_third_has_not() {
        let [a, b, c] = [1, 2, 3].map(|n| Identity::from_seed([n; 32]));
        let key = a.pair_key(&b.id(), &b.sealing_key()).unwrap();
        assert_eq!(*key, *b.pair_key(&a.id(), &a.sealing_key()).unwrap());
        assert_ne!(*key, *c.pair_key(&a.id(), &a.sealing_key()).unwrap());
    }

    #[test]
    fn a_signature_is_for_one_context() {
        let a = Identity::from_seed([1; 32]);
        let sig = a.sign("one", b"text");
        assert!(a.public().has_signed("one", b"text", &sig));
        assert!(!a.public().has_signed("two", b"text", &sig));
        assert!(!a.public().has_signed("one", b"texT", &sig));
        assert!(!Identity::from_seed([2; 32]).public().has_signed("one", b"text", &sig));
    }
}
