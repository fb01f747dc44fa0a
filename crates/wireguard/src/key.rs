//! Keys: those that are secret are never shown, and wiped from memory when they are dropped.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use boringtun::x25519;
use secrecy::{ExposeSecret, SecretBox};
use thiserror::Error;

/// The length of every key, in bytes.
const LENGTH: usize = 32;

/// Why a text is no key. The text itself is not repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the 44 characters that `wg genkey` prints.
    #[error("a key is 32 bytes in base64, 44 characters that end with =, as `wg genkey` prints it")]
    Base64,
    /// Not 64 hexadecimal digits.
    #[error("a key is 64 hexadecimal digits here")]
    Hex,
}

fn from_base64(text: &str) -> Result<[u8; LENGTH], KeyError> {
    let mut bytes = [0; LENGTH + 1];
    match BASE64_STANDARD.decode_slice(text, &mut bytes) {
        Ok(LENGTH) => Ok(std::array::from_fn(|at| bytes[at])),
        _ => Err(KeyError::Base64),
    }
}

fn from_hex(text: &str) -> Result<[u8; LENGTH], KeyError> {
    let mut key = [0; LENGTH];
    if text.len() != 2 * LENGTH {
        return Err(KeyError::Hex);
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(KeyError::Hex);
        let value = digit(pair[0])? << 4 | digit(pair[1])?;
        *byte = u8::try_from(value).map_err(|_| KeyError::Hex)?;
    }
    Ok(key)
}

fn to_hex(key: &[u8; LENGTH]) -> String {
    let digits = b"0123456789abcdef";
    let nibbles = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(digits[usize::from(nibble)])).collect()
}

/// What an interface is known by, and what a peer is named by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// From its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// From 64 hexadecimal digits, as the UAPI writes keys.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        from_hex(text).map(Self)
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        to_hex(&self.0)
    }

    pub(crate) fn dalek(self) -> x25519::PublicKey {
        self.0.into()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// From base64, as `wg pubkey` prints it.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_base64(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret of 32 bytes.
struct Secret(SecretBox<[u8; LENGTH]>);

impl Secret {
    fn new(bytes: [u8; LENGTH]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    fn bytes(&self) -> &[u8; LENGTH] {
        self.0.expose_secret()
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::new(*self.bytes())
    }
}

impl PartialEq for Secret {
    /// Takes as long whatever the keys are.
    fn eq(&self, other: &Self) -> bool {
        let difference =
            self.bytes().iter().zip(other.bytes()).fold(0, |sum, (one, two)| sum | (one ^ two));
        difference == 0
    }
}

macro_rules! secret_key {
    ($name:ident, $what:literal) => {
        impl $name {
            /// From its bytes.
            #[must_use]
            pub fn new(bytes: [u8; LENGTH]) -> Self {
                Self(Secret::new(bytes))
            }

            /// Its bytes: for the kernel and for files that only their owner can read.
            #[must_use]
            pub fn expose(&self) -> &[u8; LENGTH] {
                self.0.bytes()
            }

            /// From 64 hexadecimal digits, as the UAPI writes keys.
            ///
            /// # Errors
            /// If it is anything else.
            pub fn from_hex(text: &str) -> Result<Self, KeyError> {
                from_hex(text).map(Self::new)
            }

            /// As 64 hexadecimal digits.
            #[must_use]
            pub fn expose_hex(&self) -> String {
                to_hex(self.expose())
            }

            /// As base64.
            #[must_use]
            pub fn expose_base64(&self) -> String {
                BASE64_STANDARD.encode(self.expose())
            }

            /// Whether all of it is zero, by which the UAPI and the kernel mean that there is none.
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.expose().iter().all(|byte| *byte == 0)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            /// From base64, as `wg genkey` and `wg genpsk` print it.
            fn from_str(text: &str) -> Result<Self, KeyError> {
                from_base64(text).map(Self::new)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!("(", $what, ")"))
            }
        }
    };
}

/// The secret that an interface is. Two that are the same are equal; neither `Debug` nor any error
/// shows it.
#[derive(Clone, PartialEq)]
pub struct PrivateKey(Secret);
secret_key!(PrivateKey, "a private key");

/// A secret that two peers share beside their keys.
#[derive(Clone, PartialEq)]
pub struct PresharedKey(Secret);
secret_key!(PresharedKey, "a preshared key");

impl PrivateKey {
    /// A new one, of the kernel's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(x25519::StaticSecret::random().to_bytes())
    }

    /// What others know it by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.dalek()).to_bytes())
    }

    pub(crate) fn dalek(&self) -> x25519::StaticSecret {
        (*self.expose()).into()
    }
}

impl PresharedKey {
    /// A new one, of the kernel's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(x25519::StaticSecret::random().to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_wg_pubkey_has_it() {
        let public = PrivateKey::new([1; 32]).public();
        assert_eq!(public.to_string(), "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=");
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = PrivateKey::new([1; 32]);
        assert_eq!(format!("{key:?}"), "(a private key)");
        assert_eq!(format!("{:?}", PresharedKey::generate()), "(a preshared key)");
    }

    #[test]
    fn texts() {
        let key = PrivateKey::generate();
        assert!(key != PrivateKey::generate());
        assert!(key == key.expose_base64().parse().unwrap());
        assert!(key == PrivateKey::from_hex(&key.expose_hex()).unwrap());
        let public = key.public();
        assert_eq!(public, public.to_string().parse().unwrap());
        assert_eq!(public, PublicKey::from_hex(&public.to_hex()).unwrap());
        for wrong in ["", "=", &"A".repeat(44), &"A".repeat(43), &format!("{}==", "A".repeat(42))] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(KeyError::Base64), "{wrong}");
        }
        for wrong in ["", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"ä".repeat(32)] {
            assert_eq!(PublicKey::from_hex(wrong), Err(KeyError::Hex), "{wrong}");
        }
    }
}
