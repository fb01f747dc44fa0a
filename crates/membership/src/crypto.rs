//! The few primitives that everything rests on, all from `ring` and `x25519-dalek`: SHA-256, HMAC and
//! HKDF with it, Ed25519, X25519, ChaCha20-Poly1305; and dice that are seeded once.

use ring::{aead, digest, hkdf, hmac, signature};
use zeroize::Zeroizing;

/// A key of 256 bits that is wiped when it is dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// What the authentication tag of an AEAD adds.
pub(crate) const TAG: usize = 16;

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// HMAC-SHA256 over the parts, one after the other: they must be of fixed length, or the last one.
pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Whether two are the same, in a time that does not depend on where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |d, (a, b)| std::hint::black_box(d | (a ^ b))) == 0
}

/// HKDF-SHA256 to one key.
pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &str) -> Key {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let mut out = Zeroizing::new([0; 32]);
    let info = [info.as_bytes()];
    // 32 bytes were asked for and are taken: there is no other failure.
    if let Ok(okm) = prk.expand(&info, hkdf::HKDF_SHA256) {
        let filled = okm.fill(&mut *out);
        debug_assert!(filled.is_ok());
    }
    out
}

/// Seals in place; the tag is appended. A pair of key and nonce must be used once only.
pub(crate) fn seal(key: &[u8; 32], nonce: u64, aad: &[u8], text: &mut Vec<u8>) {
    let sealed =
        less_safe(key).seal_in_place_append_tag(counter(nonce), aead::Aad::from(aad), text);
    // Fails for texts of more than 256 GiB only.
    debug_assert!(sealed.is_ok());
}

/// Opens in place.
pub(crate) fn open<'a>(
    key: &[u8; 32],
    nonce: u64,
    aad: &[u8],
    text: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    less_safe(key).open_in_place(counter(nonce), aead::Aad::from(aad), text).ok()
}

fn less_safe(key: &[u8; 32]) -> aead::LessSafeKey {
    match aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key) {
        Ok(key) => aead::LessSafeKey::new(key),
        Err(_) => unreachable!("the key has the 32 bytes that this algorithm asks for"),
    }
}

fn counter(nonce: u64) -> aead::Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&nonce.to_be_bytes());
    aead::Nonce::assume_unique_for_key(bytes)
}

/// Whether it is the signature of this key over `context ‖ 0 ‖ message`.
pub(crate) fn verify(public: &[u8; 32], context: &str, message: &[u8], sig: &[u8; 64]) -> bool {
    let text = [context.as_bytes(), &[0], message].concat();
    signature::UnparsedPublicKey::new(&signature::ED25519, public).verify(&text, sig).is_ok()
}

/// X25519. `None` if the other side's key is one of the few that make every result the same.
pub(crate) fn agree(secret: &x25519_dalek::StaticSecret, public: &[u8; 32]) -> Option<Key> {
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
}

/// Seals to whoever has the secret half of `to`: a fresh key agrees with it, and what comes out of that
/// seals the text. Says nothing about who sealed.
pub(crate) fn seal_to(to: &[u8; 32], context: &str, text: &[u8], entropy: Key) -> Option<Vec<u8>> {
    let ephemeral = x25519_dalek::StaticSecret::from(*entropy);
    let public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
    let shared = agree(&ephemeral, to)?;
    let key = derive(&[public, *to].concat(), &*shared, context);
    let mut sealed = text.to_vec();
    seal(&key, 0, &public, &mut sealed);
    Some([&public[..], &sealed].concat())
}

/// Opens what [`seal_to`] has sealed.
pub(crate) fn open_from(
    secret: &x25519_dalek::StaticSecret,
    context: &str,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (public, text) = sealed.split_first_chunk::<32>()?;
    let own = x25519_dalek::PublicKey::from(secret).to_bytes();
    let key = derive(&[*public, own].concat(), &*agree(secret, public)?, context);
    let mut text = Zeroizing::new(text.to_vec());
    let len = open(&key, 0, public, &mut text)?.len();
    text.truncate(len);
    Some(text)
}

/// Random numbers for nonces, salts and keys, all from one seed: the crate has no dice of its own.
///
/// The seed has to be fresh from the operating system at every start of the program.
pub(crate) struct Dice {
    key: Key,
    rolled: u64,
}

impl Dice {
    pub(crate) fn new(seed: &[u8; 32], purpose: &str) -> Self {
        Self { key: derive(b"holdfast dice v1", seed, purpose), rolled: 0 }
    }

    pub(crate) fn key(&mut self) -> Key {
        self.rolled += 1;
        Zeroizing::new(mac(&self.key, &[&self.rolled.to_be_bytes()]))
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        let key = self.key();
        let mut out = [0; N];
        out.copy_from_slice(&key[..N]);
        out
    }

    /// From 0 to `n` − 1; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let roll = u64::from_be_bytes(self.bytes());
        // Of 2⁶⁴, so that the unevenness does not matter for the choices this is for.
        usize::try_from(roll % (n.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_as_it_was_sealed() {
        let key = [7; 32];
        let mut sealed = b"text".to_vec();
        seal(&key, 1, b"head", &mut sealed);
        assert_eq!(sealed.len(), 4 + TAG);
        let opens = |key: &[u8; 32], nonce, aad: &[u8], sealed: &[u8]| {
            open(key, nonce, aad, &mut sealed.to_vec()).map(|t| t.to_vec())
        };
        assert_eq!(opens(&key, 1, b"head", &sealed).as_deref(), Some(&b"text"[..]));
        assert_eq!(opens(&[8; 32], 1, b"head", &sealed), None);
        assert_eq!(opens(&key, 2, b"head", &sealed), None);
        assert_eq!(opens(&key, 1, b"hEad", &sealed), None);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(opens(&key, 1, b"head", &bad), None, "{at}");
        }
    }

    #[test]
    fn sealed_to_one_only_that_one_opens() {
        let (a, b) = ([1; 32].into(), x25519_dalek::StaticSecret::from([2; 32]));
        let to = x25519_dalek::PublicKey::from(&a).to_bytes();
        let sealed = seal_to(&to, "for tests", b"hush", Zeroizing::new([3; 32])).unwrap();
        assert_eq!(open_from(&a, "for tests", &sealed).unwrap().as_slice(), b"hush");
        assert!(open_from(&b, "for tests", &sealed).is_none());
        assert!(open_from(&a, "for others", &sealed).is_none());
        assert!(open_from(&a, "for tests", &sealed[..40]).is_none());
        assert!(seal_to(&[0; 32], "for tests", b"hush", Zeroizing::new([3; 32])).is_none());
    }

    /// RFC 5869, A.1 has another length; this is the same by hand: T(1) = HMAC(PRK, info ‖ 1).
    #[test]
    fn keys_are_derived_as_rfc_5869_says() {
        let prk = mac(&[0; 32], &[b"ikm"]);
        let t1 = mac(&prk, &[b"info", &[1]]);
        assert_eq!(*derive(&[0; 32], b"ikm", "info"), t1);
    }

    #[test]
    fn the_comparison_compares() {
        assert!(same(b"abc", b"abc") && same(b"", b""));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
