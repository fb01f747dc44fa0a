//! SHA-256 digests, checked while reading.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A `sha256:…` digest in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest(String);

impl Digest {
    /// Reads `sha256:` and 64 lower-case hex digits. Other algorithms are not in use for images.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").ok_or_else(|| {
            format!("digest {text:?} is not sha256; other kinds are not supported")
        })?;
        Self::from_hex(hex).ok_or_else(|| format!("digest {text:?} is malformed"))
    }

    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        let valid = hex.len() == 64
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Self(hex.to_owned()))
    }

    pub(super) fn of(data: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(data))
    }

    fn from_hash(hash: Sha256) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from_hash(self.hash)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hash.update(&buffer[..got]);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::parse(empty).unwrap(), Digest::of(b""));
        let mut read = Hashing::new(&b"abc"[..]);
        io::copy(&mut read, &mut io::sink()).unwrap();
        assert_eq!(read.finish(), Digest::of(b"abc"));
        for bad in ["sha512:00", "sha256:00", "e3b0", &empty.to_uppercase(), "sha256:../../x"] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
