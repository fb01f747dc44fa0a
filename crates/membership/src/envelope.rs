//! How a datagram is sealed, and how it is known who sent it.
//!
//! ```text
//! 1 │ key id 4 │ salt 16 │ counter 8 ║ sealed: sender 16 │ session 8 │ kind 1 │ body │ pair tag 16
//! 2 │ owner 16 │ token 5 │ salt 16 │ counter 8 ║ sealed: sender 16 │ session 8 │ kind 1 │ body
//! 3 │ salt 16 │ endpoints                        (in clear: where the owner of a token is heard)
//! ```
//!
//! A datagram is sealed under a key made of the cluster secret (or of a token) and a salt that its sender
//! has drawn when it started; the counter, which never goes back, is the nonce. So the same key and nonce
//! never meet twice, however many nodes share the secret.
//!
//! Since all members know the secret, the seal says only that a member has sent it. Which one, the
//! tag inside says: a MAC under the key that exactly two nodes share (X25519 of the sealing keys in their
//! records). A node that was removed knows the secret, too, until it is replaced, but nobody keeps a pair key
//! with it. Only the messages of the handshake go without this tag; they are signed.

use std::net::SocketAddr;

use crate::crypto::{self, Key, TAG};
use crate::identity::NodeId;
use crate::secret::KeyId;
use crate::token::TokenId;
use crate::wire::{Reader, WireError, Writer};

/// What a datagram is sealed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    Cluster(KeyId),
    Token { owner: NodeId, id: TokenId },
}

/// A datagram as it came: what can be seen of it without a key.
pub(crate) enum Frame<'a> {
    Sealed { seal: Seal, header: &'a [u8], salt: [u8; 16], counter: u64, text: &'a [u8] },
    Referral { salt: [u8; 16], endpoints: Vec<SocketAddr> },
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader(bytes);
        let seal = match r.u8("frame")? {
            CLUSTER => Seal::Cluster(KeyId(r.array("key id")?)),
            TOKEN => {
                Seal::Token { owner: NodeId(r.array("owner")?), id: TokenId(r.array("token")?) }
            }
            REFERRAL => {
                let salt = r.array("salt")?;
                let count = r.u8("endpoints")?;
                let endpoints: Result<_, _> = (0..count).map(|_| r.socket("endpoint")).collect();
                r.end()?;
                return Ok(Self::Referral { salt, endpoints: endpoints? });
            }
            _ => return Err(WireError::Invalid("frame")),
        };
        let (salt, counter) = (r.array("salt")?, r.u64("counter")?);
        let header = &bytes[..bytes.len() - r.0.len()];
        Ok(Self::Sealed { seal, header, salt, counter, text: r.0 })
    }
}

/// The sealed part, opened.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) sender: NodeId,
    /// When the sender was started, as a number that grows from start to start.
    pub(crate) session: u64,
    pub(crate) counter: u64,
    pub(crate) kind: u8,
    header: Vec<u8>,
    text: Vec<u8>,
}

impl Letter {
    /// Opens; `None` if it was not sealed under this key, or was changed since.
    pub(crate) fn open(
        key: &[u8; 32],
        header: &[u8],
        salt: [u8; 16],
        counter: u64,
        text: &[u8],
    ) -> Option<Self> {
        let key = datagram_key(key, &salt);
        let mut text = text.to_vec();
        let len = crypto::open(&key, counter, header, &mut text)?.len();
        text.truncate(len);
        let mut r = Reader(&text);
        let sender = NodeId(r.array("sender").ok()?);
        let (session, kind) = (r.u64("session").ok()?, r.u8("kind").ok()?);
        Some(Self { sender, session, counter, kind, header: header.to_vec(), text })
    }

    /// What it says, if it is a message of the handshake.
    pub(crate) fn open_body(&self) -> &[u8] {
        &self.text[INNER..]
    }

    /// What it says, if it is from who it says it is.
    pub(crate) fn body(&self, pair: &[u8; 32]) -> Option<&[u8]> {
        let end = self.text.len().checked_sub(TAG).filter(|end| *end >= INNER)?;
        let (said, tag) = self.text.split_at(end);
        let made = crypto::mac(pair, &[&self.header, said]);
        crypto::same(&made[..TAG], tag).then(|| &said[INNER..])
    }

    /// The same without looking: for a test that wants to see this found.
    pub(crate) fn body_unchecked(&self) -> &[u8] {
        &self.text[INNER..self.text.len().saturating_sub(TAG).max(INNER)]
    }
}

/// Seals the datagrams of one node from its start to its end.
pub(crate) struct Sealer {
    own: NodeId,
    session: u64,
    salt: [u8; 16],
    counter: u64,
}

impl Sealer {
    pub(crate) fn new(own: NodeId, session: u64, salt: [u8; 16]) -> Self {
        Self { own, session, salt, counter: 0 }
    }

    /// For a forger who is ahead.
    #[cfg(test)]
    pub(crate) fn skip(&mut self) {
        self.counter += 1;
    }

    pub(crate) fn salt(&self) -> &[u8; 16] {
        &self.salt
    }

    pub(crate) fn seal(
        &mut self,
        seal: Seal,
        key: &[u8; 32],
        pair: Option<&Key>,
        kind: u8,
        body: &[u8],
    ) -> Vec<u8> {
        self.counter += 1;
        let mut header = Writer::default();
        match seal {
            Seal::Cluster(id) => header.u8(CLUSTER).raw(&id.0),
            Seal::Token { owner, id } => header.u8(TOKEN).raw(&owner.0).raw(&id.0),
        };
        let header = header.raw(&self.salt).u64(self.counter).0.clone();
        let mut text = Writer(Vec::with_capacity(INNER + body.len() + 2 * TAG));
        text.raw(&self.own.0).u64(self.session).u8(kind).raw(body);
        let mut text = text.0;
        if let Some(pair) = pair {
            let tag = crypto::mac(pair, &[&header, &text]);
            text.extend_from_slice(&tag[..TAG]);
        }
        crypto::seal(&datagram_key(key, &self.salt), self.counter, &header, &mut text);
        [header, text].concat()
    }
}

/// Where the owner of a token is heard, for a joiner that asked somebody else. It is not sealed: the
/// joiner has no key in common with who answers. At most it can make the joiner knock at a wrong door.
pub(crate) fn referral(salt: &[u8; 16], endpoints: &[SocketAddr]) -> Vec<u8> {
    let mut w = Writer::default();
    w.u8(REFERRAL).raw(salt).u8(endpoints.len() as u8);
    for endpoint in endpoints {
        w.socket(*endpoint);
    }
    w.0
}

fn datagram_key(key: &[u8; 32], salt: &[u8; 16]) -> Key {
    Key::new(crypto::mac(key, &[b"holdfast datagram v1\0", salt]))
}

/// Which datagrams of a sender have been seen: none is taken twice, and none of an earlier start.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    session: u64,
    top: u64,
    /// Bit `i` stands for `top - i`.
    seen: u128,
}

impl Window {
    pub(crate) fn new(session: u64) -> Self {
        Self { session, top: 0, seen: 0 }
    }

    /// The sender has proved that this is its present start, whatever number it has.
    pub(crate) fn restart(&mut self, session: u64) {
        if session != self.session {
            *self = Self::new(session);
        }
    }

    /// Whether a datagram is new; it is not new another time.
    pub(crate) fn take(&mut self, session: u64, counter: u64) -> bool {
        if session != self.session {
            if session < self.session {
                return false;
            }
            *self = Self::new(session);
        }
        if counter > self.top {
            let shift = u32::try_from(counter - self.top).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.top = counter;
            return true;
        }
        let bit = u32::try_from(self.top - counter).unwrap_or(u32::MAX);
        let Some(bit) = 1u128.checked_shl(bit) else { return false };
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}

const CLUSTER: u8 = 1;
const TOKEN: u8 = 2;
const REFERRAL: u8 = 3;
/// Sender, session and kind.
const INNER: usize = 16 + 8 + 1;
/// What comes to the body of a message between members.
pub(crate) const OVERHEAD: usize = 1 + 4 + 16 + 8 + INNER + TAG + TAG;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn sealed() -> (Vec<u8>, Key) {
        let mut sealer = Sealer::new(Identity::from_seed([1; 32]).id(), 5, [9; 16]);
        let pair = Key::new([3; 32]);
        let seal = Seal::Cluster(KeyId([1, 2, 3, 4]));
        (sealer.seal(seal, &[7; 32], Some(&pair), 16, b"body"), pair)
    }

    fn open(bytes: &[u8], key: &[u8; 32]) -> Option<Letter> {
        match Frame::parse(bytes).ok()? {
            Frame::Sealed { header, salt, counter, text, .. } => {
                Letter::open(key, header, salt, counter, text)
            }
            Frame::Referral { .. } => None,
        }
    }

    #[test]
    fn a_letter_opens_with_its_keys_and_only_whole() {
        let (bytes, pair) = sealed();
        assert_eq!(bytes.len(), OVERHEAD + 4);
        let letter = open(&bytes, &[7; 32]).unwrap();
        assert_eq!((letter.kind, letter.session, letter.counter), (16, 5, 1));
        assert_eq!(letter.body(&pair), Some(&b"body"[..]));
        assert_eq!(letter.body(&[4; 32]), None, "of another pair");
        assert!(open(&bytes, &[8; 32]).is_none(), "of another cluster");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            // All of the header is under the seal; the frame and the key id say which key opens it.
            assert!(open(&bad, &[7; 32]).is_none(), "{at}");
            assert!(open(&bytes[..at], &[7; 32]).is_none(), "{at}");
        }
    }

    #[test]
    fn nothing_of_it_can_be_read_on_the_wire() {
        let (bytes, _) = sealed();
        let sender = Identity::from_seed([1; 32]).id();
        assert!(!bytes.windows(4).any(|w| w == b"body" || w == &sender.0[..4]));
    }

    #[test]
    fn a_letter_cannot_be_put_into_another_frame() {
        let (bytes, pair) = sealed();
        // Somebody who knows the cluster's key opens it and seals it again under another counter.
        let letter = open(&bytes, &[7; 32]).unwrap();
        let mut header = bytes[..29].to_vec();
        header[28] ^= 2;
        let mut text = letter.text.clone();
        crypto::seal(&datagram_key(&[7; 32], &[9; 16]), 3, &header, &mut text);
        let again = open(&[header, text].concat(), &[7; 32]).unwrap();
        assert_eq!(again.body(&pair), None);
    }

    #[test]
    fn a_window_takes_each_once() {
        let mut window = Window::new(3);
        let cases = [
            (3, 5, true),
            (3, 5, false),
            (3, 4, true),
            (3, 4, false),
            (3, 200, true),
            (3, 73, true),
            (3, 73, false),
            (3, 72, false),
            (2, 300, false),
            (4, 1, true),
            (3, 201, false),
            (4, u64::MAX, true),
            (4, 2, false),
            (4, u64::MAX - 1, true),
        ];
        for (session, counter, new) in cases {
            assert_eq!(window.take(session, counter), new, "{session} {counter}");
        }
    }

    #[test]
    fn a_referral_reads_back() {
        let endpoints = vec!["10.0.0.1:7946".parse().unwrap()];
        let bytes = referral(&[1; 16], &endpoints);
        let Ok(Frame::Referral { salt, endpoints: read }) = Frame::parse(&bytes) else { panic!() };
        assert_eq!((salt, read), ([1; 16], endpoints));
        assert!(Frame::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(Frame::parse(&[]).is_err() && Frame::parse(&[9]).is_err());
    }
}
