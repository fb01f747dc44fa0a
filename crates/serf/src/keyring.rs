//! Encryption of what is on the wire (memberlist: `security.go`, `keyring.go`).
//!
//! A message is a byte for the version, a nonce of 12 bytes, and AES-GCM's cipher text with its tag: in version 1
//! as it is, in version 0 padded as PKCS #7 does. The first key of the ring seals; any of them opens.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, Nonce};
use zeroize::Zeroizing;

use crate::wire::Malformed;

const NONCE: usize = 12;
const TAG: usize = 16;
/// What sealing adds to a message.
pub(crate) const OVERHEAD: usize = 1 + NONCE + TAG;

/// Why a key was not taken, or a ring not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Serf's words, since Serf's users see them.
    #[error("key size must be 16, 24 or 32 bytes")]
    Size,
    /// Only a key of the ring can become the first.
    #[error("requested key is not in the keyring")]
    Unknown,
    /// The first key seals, so it cannot go.
    #[error("removing the primary key is not allowed")]
    Primary,
}

/// An AES key of 16, 24 or 32 bytes; its bytes are not shown, and wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// A key of these bytes.
    ///
    /// # Errors
    /// [`KeyError::Size`].
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        matches!(bytes.len(), 16 | 24 | 32)
            .then(|| Self(Zeroizing::new(bytes.to_vec())))
            .ok_or(KeyError::Size)
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    fn seal(&self, nonce: &[u8; NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>> {
        let nonce = Nonce::from(*nonce);
        match self.0.len() {
            16 => Aes128Gcm::new_from_slice(&self.0).ok()?.encrypt(&nonce, payload),
            24 => AesGcm::<Aes192, U12>::new_from_slice(&self.0).ok()?.encrypt(&nonce, payload),
            _ => Aes256Gcm::new_from_slice(&self.0).ok()?.encrypt(&nonce, payload),
        }
        .ok()
    }

    fn open(&self, nonce: &[u8; NONCE], payload: Payload<'_, '_>) -> Option<Vec<u8>> {
        let nonce = Nonce::from(*nonce);
        match self.0.len() {
            16 => Aes128Gcm::new_from_slice(&self.0).ok()?.decrypt(&nonce, payload),
            24 => AesGcm::<Aes192, U12>::new_from_slice(&self.0).ok()?.decrypt(&nonce, payload),
            _ => Aes256Gcm::new_from_slice(&self.0).ok()?.decrypt(&nonce, payload),
        }
        .ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// The keys of a cluster; the first seals, all open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of one key.
    #[must_use]
    pub fn new(primary: Key) -> Self {
        Self { keys: vec![primary] }
    }

    /// The keys, the one that seals first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Takes a key that opens; nothing if it is there already.
    pub fn install(&mut self, key: Key) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// Seals with this key from now on.
    ///
    /// # Errors
    /// [`KeyError::Unknown`].
    pub fn use_key(&mut self, key: &Key) -> Result<(), KeyError> {
        let at = self.keys.iter().position(|k| k == key).ok_or(KeyError::Unknown)?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Opens with this key no more; nothing if it is not there.
    ///
    /// # Errors
    /// [`KeyError::Primary`].
    pub fn remove(&mut self, key: &Key) -> Result<(), KeyError> {
        if self.keys[0] == *key {
            return Err(KeyError::Primary);
        }
        self.keys.retain(|k| k != key);
        Ok(())
    }

    /// `message` sealed by the first key, bound to `beside` (which is sent in clear).
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], message: &[u8], beside: &[u8]) -> Vec<u8> {
        let sealed = self.keys[0]
            .seal(nonce, Payload { msg: message, aad: beside })
            .expect("AES-GCM seals anything below 64 GiB, and no message comes near that");
        let mut out = Vec::with_capacity(1 + NONCE + sealed.len());
        out.push(1);
        out.extend(nonce);
        out.extend(sealed);
        out
    }

    /// What was sealed by any of the keys.
    ///
    /// # Errors
    /// If none opens it.
    pub(crate) fn open(&self, sealed: &[u8], beside: &[u8]) -> Result<Vec<u8>, Malformed> {
        if sealed.len() < OVERHEAD {
            return Err(Malformed::new("too short to be encrypted"));
        }
        let (version, rest) = (sealed[0], &sealed[1..]);
        if version > 1 {
            return Err(Malformed::new(format!("encryption of an unknown version {version}")));
        }
        let (nonce, cipher) =
            rest.split_first_chunk::<NONCE>().ok_or_else(|| Malformed::new("no nonce"))?;
        let mut plain = self
            .keys
            .iter()
            .find_map(|key| key.open(nonce, Payload { msg: cipher, aad: beside }))
            .ok_or_else(|| Malformed::new("no key of the ring opens it"))?;
        if version == 0 {
            let padding = usize::from(plain.last().copied().unwrap_or(0));
            if padding == 0 || padding > 16 || padding > plain.len() {
                return Err(Malformed::new("wrongly padded"));
            }
            plain.truncate(plain.len() - padding);
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, size: usize) -> Key {
        Key::new(&vec![byte; size]).unwrap()
    }

    #[test]
    fn every_size_seals_and_opens_and_no_other_key_does() {
        for size in [16, 24, 32] {
            let ring = Keyring::new(key(1, size));
            let sealed = ring.seal(&[7; NONCE], b"hello", b"beside");
            assert_eq!(sealed.len(), 5 + OVERHEAD);
            assert_eq!(ring.open(&sealed, b"beside").unwrap(), b"hello");
            assert!(ring.open(&sealed, b"besides").is_err());
            assert!(Keyring::new(key(2, size)).open(&sealed, b"beside").is_err());
            for at in 0..sealed.len() {
                let mut spoilt = sealed.clone();
                spoilt[at] ^= 1;
                assert!(ring.open(&spoilt, b"beside").is_err(), "byte {at}");
            }
        }
        assert_eq!(Key::new(&[0; 20]), Err(KeyError::Size));
    }

    #[test]
    fn keys_change_without_a_gap() {
        let (old, new) = (key(1, 16), key(2, 32));
        let mut a = Keyring::new(old.clone());
        let mut b = a.clone();
        assert_eq!(a.use_key(&new), Err(KeyError::Unknown));
        a.install(new.clone());
        b.install(new.clone());
        a.use_key(&new).unwrap();
        // Half of the cluster seals by the new key, the other by the old one: both are opened by both.
        assert!(b.open(&a.seal(&[0; NONCE], b"x", b""), b"").is_ok());
        assert!(a.open(&b.seal(&[0; NONCE], b"x", b""), b"").is_ok());
        assert_eq!(a.remove(&new), Err(KeyError::Primary));
        a.remove(&old).unwrap();
        assert!(a.open(&b.seal(&[0; NONCE], b"x", b""), b"").is_err());
        assert_eq!(format!("{a:?}"), "Keyring { keys: [Key(32 bytes)] }");
    }
}
