//! The cluster secret, the keys made of it, and the ring on which several are held while one replaces
//! another.
//!
//! From a secret three things are derived (HKDF-SHA256, salt `holdfast cluster v1`): four bytes that name
//! it, the key that datagrams are sealed under, and the key that credentials are made with. The secret
//! itself is never sent but sealed to a node that has been admitted.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::crypto::{self, Key};
use crate::identity::PublicKey;
use crate::wire::{Reader, WireError, Writer};

/// What every node of a cluster knows and nobody else does: `CLUSTER_AUTH_KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(Zeroizing<Vec<u8>>);

/// Why a text is not a cluster secret. The text itself is never part of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not base64.
    #[error("the cluster secret is not base64; make one with `head -c 32 /dev/urandom | base64`")]
    Base64,
    /// Too short or too long.
    #[error(
        "the cluster secret has {0} bytes, and has to have 32 to 255; make one with `head -c 32 /dev/urandom | base64`"
    )]
    Size(usize),
    /// Obviously not random.
    #[error(
        "the cluster secret consists of one byte repeated: everybody can guess it; make one with `head -c 32 /dev/urandom | base64`"
    )]
    Guessable,
}

impl ClusterSecret {
    /// Takes 32 to 255 random bytes.
    ///
    /// # Errors
    /// [`SecretError`], if there are more or fewer, or if they are all the same.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        if !(32..=255).contains(&bytes.len()) {
            return Err(SecretError::Size(bytes.len()));
        }
        if bytes.iter().all(|b| *b == bytes[0]) {
            return Err(SecretError::Guessable);
        }
        Ok(Self(bytes))
    }

    /// Reads base64; white space around it does not matter.
    ///
    /// # Errors
    /// As [`ClusterSecret::new`], and if it is not base64.
    pub fn from_base64(text: &str) -> Result<Self, SecretError> {
        Self::new(BASE64.decode(text.trim()).map_err(|_| SecretError::Base64)?)
    }

    /// For a file that only its owner may read.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&*self.0))
    }

    /// Its public name.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let key = self.derive("key id");
        KeyId([key[0], key[1], key[2], key[3]])
    }

    fn derive(&self, purpose: &str) -> Key {
        crypto::derive(b"holdfast cluster v1", &self.0, purpose)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecret({})", self.key_id())
    }
}

/// Names a cluster secret without telling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The proof that whoever issued it knew the cluster secret: a MAC over a public key. It can be checked by
/// every member on its own, and says nothing about the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Under which secret.
    pub key: KeyId,
    pub(crate) mac: [u8; 32],
}

impl Credential {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.raw(&self.key.0).raw(&self.mac);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { key: KeyId(r.array("credential")?), mac: r.array("credential")? })
    }
}

/// One secret on the ring, with what is derived of it.
#[derive(Clone)]
struct Held {
    secret: ClusterSecret,
    id: KeyId,
    gossip: Key,
    admission: Key,
}

/// The secrets in use: datagrams are sealed under the primary one and opened under any.
///
/// A secret is replaced in three steps, each of which may take as long as it likes: *install* the new one
/// everywhere, *use* it, *remove* the old one. Each step makes a ring of the next epoch; of two rings
/// the one of the higher epoch wins everywhere, and of two of the same epoch the one whose content is
/// greater, byte by byte.
#[derive(Clone)]
pub struct Keyring {
    epoch: u64,
    /// The first is the primary one.
    keys: Vec<Held>,
}

/// Why a step of a rotation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No such secret.
    #[error("no secret {0} is on the ring; install it first")]
    Unknown(KeyId),
    /// In use.
    #[error("secret {0} is the one in use; use another before this one is removed")]
    Primary(KeyId),
    /// Full.
    #[error("{MAX_KEYS} secrets are on the ring already; remove one first")]
    Full,
}

impl Keyring {
    /// A ring with one secret, of epoch 0: what a node starts from.
    #[must_use]
    pub fn new(secret: ClusterSecret) -> Self {
        Self { epoch: 0, keys: vec![Held::new(secret)] }
    }

    /// Counts the steps that led to this ring.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The secret in use.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.keys[0].id
    }

    /// All secrets on the ring, that in use first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|held| held.id)
    }

    /// The first step: the secret opens, but nothing is sealed under it.
    ///
    /// # Errors
    /// [`KeyringError::Full`].
    pub fn install(&self, secret: ClusterSecret) -> Result<Self, KeyringError> {
        let mut next = self.next();
        if next.keys.iter().any(|held| held.id == secret.key_id()) {
            return Ok(self.clone());
        }
        if next.keys.len() == MAX_KEYS {
            return Err(KeyringError::Full);
        }
        next.keys.push(Held::new(secret));
        Ok(next)
    }

    /// The second step: from now on it seals.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn promote(&self, id: KeyId) -> Result<Self, KeyringError> {
        let mut next = self.next();
        let at = next.keys.iter().position(|held| held.id == id);
        next.keys[..=at.ok_or(KeyringError::Unknown(id))?].rotate_right(1);
        Ok(next)
    }

    /// The third step: what is sealed under it is not understood any more, and credentials made with it
    /// are worth nothing.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`], and [`KeyringError::Primary`] for the secret in use.
    pub fn remove(&self, id: KeyId) -> Result<Self, KeyringError> {
        let mut next = self.next();
        match next.keys.iter().position(|held| held.id == id) {
            None => Err(KeyringError::Unknown(id)),
            Some(0) => Err(KeyringError::Primary(id)),
            Some(at) => {
                next.keys.remove(at);
                Ok(next)
            }
        }
    }

    fn next(&self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), keys: self.keys.clone() }
    }

    /// Whether this ring replaces the other.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        (self.epoch, &*self.encode()) > (other.epoch, &*other.encode())
    }

    pub(crate) fn gossip_key(&self, id: KeyId) -> Option<&[u8; 32]> {
        self.held(id).map(|held| &*held.gossip)
    }

    /// A proof of admission for this key, made with the secret in use.
    pub(crate) fn credential(&self, public: &PublicKey) -> Credential {
        let held = &self.keys[0];
        Credential { key: held.id, mac: held.credential(public) }
    }

    /// Whether the proof is one for this key, by a secret on this ring.
    #[must_use]
    pub fn proves(&self, public: &PublicKey, credential: &Credential) -> bool {
        let held = self.held(credential.key);
        held.is_some_and(|held| crypto::same(&held.credential(public), &credential.mac))
    }

    fn held(&self, id: KeyId) -> Option<&Held> {
        self.keys.iter().find(|held| held.id == id)
    }

    /// All of it, secrets included: to be sealed, or for a file that only its owner may read.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::default();
        w.u64(self.epoch).u8(self.keys.len() as u8);
        for held in &self.keys {
            w.short(&held.secret.0);
        }
        Zeroizing::new(w.0)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader(bytes);
        let (epoch, count) = (r.u64("keyring")?, usize::from(r.u8("keyring")?));
        if !(1..=MAX_KEYS).contains(&count) {
            return Err(WireError::Invalid("number of secrets"));
        }
        let mut keys: Vec<Held> = Vec::with_capacity(count);
        for _ in 0..count {
            let secret = ClusterSecret::new(r.short("secret")?.to_vec());
            let held = Held::new(secret.map_err(|_| WireError::Invalid("secret"))?);
            if keys.iter().any(|other| other.id == held.id) {
                return Err(WireError::Invalid("second secret of one name"));
            }
            keys.push(held);
        }
        r.end()?;
        Ok(Self { epoch, keys })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<KeyId> = self.ids().collect();
        f.debug_struct("Keyring").field("epoch", &self.epoch).field("keys", &ids).finish()
    }
}

impl Held {
    fn new(secret: ClusterSecret) -> Self {
        let (gossip, admission) = (secret.derive("gossip key"), secret.derive("admission key"));
        Self { id: secret.key_id(), gossip, admission, secret }
    }

    fn credential(&self, public: &PublicKey) -> [u8; 32] {
        crypto::mac(&self.admission, &[b"holdfast credential v1\0", &public.0])
    }
}

const MAX_KEYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> ClusterSecret {
        ClusterSecret::new((0..32).map(|i| n ^ i).collect()).unwrap()
    }

    #[test]
    fn what_is_not_a_secret() {
        let cases = [
            ("?", SecretError::Base64),
            ("c2hvcnQ=", SecretError::Size(5)),
            (&*BASE64.encode([0; 32]), SecretError::Guessable),
        ];
        for (text, error) in cases {
            assert_eq!(ClusterSecret::from_base64(text), Err(error), "{text}");
        }
        let text = secret(1).to_base64();
        assert_eq!(ClusterSecret::from_base64(&format!(" {}\n", *text)), Ok(secret(1)));
    }

    #[test]
    fn nothing_that_is_printed_tells_the_secret() {
        let ring = Keyring::new(secret(1)).install(secret(2)).unwrap();
        let printed = format!("{:?} {ring:?}", secret(1));
        let raw = format!("{:?}", &*secret(1).0);
        for told in [&secret(1).to_base64()[..8], &raw[1..20], "0, 3, 2"] {
            assert!(!printed.contains(told), "{printed}");
        }
        assert!(printed.contains(&secret(1).key_id().to_string()));
    }

    #[test]
    fn a_rotation_in_three_steps() {
        let (old, new) = (secret(1).key_id(), secret(2).key_id());
        let ring = Keyring::new(secret(1));
        let node = PublicKey([7; 32]);
        let before = ring.credential(&node);
        assert_eq!(ring.promote(new).unwrap_err(), KeyringError::Unknown(new));
        assert_eq!(ring.remove(old).unwrap_err(), KeyringError::Primary(old));

        let both = ring.install(secret(2)).unwrap();
        assert_eq!((both.primary(), both.epoch()), (old, 1));
        assert!(both.proves(&node, &before));
        let used = both.promote(new).unwrap();
        assert_eq!((used.primary(), used.epoch()), (new, 2));
        let after = used.credential(&node);
        assert!(used.proves(&node, &before) && both.proves(&node, &after));
        assert!(!ring.proves(&node, &after), "a ring without the secret proves nothing by it");
        let done = used.remove(old).unwrap();
        assert_eq!(done.ids().collect::<Vec<_>>(), [new]);
        assert!(!done.proves(&node, &before) && done.proves(&node, &after));
        assert!(!done.proves(&PublicKey([8; 32]), &after));
        assert!(done.beats(&used) && !used.beats(&done));
    }

    #[test]
    fn of_two_rings_of_one_epoch_the_same_wins_everywhere() {
        let ring = Keyring::new(secret(1));
        let (a, b) = (ring.install(secret(2)).unwrap(), ring.install(secret(3)).unwrap());
        assert_ne!(a.beats(&b), b.beats(&a));
        assert!(!a.beats(&a.clone()));
    }

    #[test]
    fn a_ring_reads_back_and_a_damaged_one_does_not() {
        let ring = Keyring::new(secret(1)).install(secret(2)).unwrap();
        let bytes = ring.encode();
        assert_eq!(Keyring::decode(&bytes).unwrap().encode(), bytes);
        for len in 0..bytes.len() {
            assert!(Keyring::decode(&bytes[..len]).is_err(), "{len}");
        }
        let twice = [&bytes[..9], &bytes[9..42], &bytes[9..42]].concat();
        assert!(Keyring::decode(&twice).is_err());
        let full = (3..=4).fold(ring, |ring, n| ring.install(secret(n)).unwrap());
        assert_eq!(full.install(secret(9)).unwrap_err(), KeyringError::Full);
    }
}
