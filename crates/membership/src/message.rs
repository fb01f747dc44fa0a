//! What nodes say to each other.

use foca::Member;

use crate::book::{BUCKETS, Entry};
use crate::event::Why;
use crate::identity::NodeId;
use crate::swim::{self, Seat};
use crate::wire::{Reader, WireError, Writer};

pub(crate) type Nonce = [u8; 16];

/// The two numbers that a handshake is about: the joiner's and the responder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonces {
    pub(crate) joiner: Nonce,
    pub(crate) responder: Nonce,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time lives, on the stack")]
pub(crate) enum Message<'a> {
    /// This is me; prove that you are you.
    Hello { nonce: Nonce, record: &'a [u8] },
    /// I am; prove that you are.
    Challenge { nonces: Nonces, signature: [u8; 64], record: &'a [u8] },
    /// I am.
    Proof { nonces: Nonces, signature: [u8; 64] },
    /// You are in. With a ring of secrets, sealed, for who came with a token.
    Welcome { nonces: Nonces, signature: [u8; 64], seat: Seat, ring: &'a [u8] },
    /// You are not.
    Rejected { nonce: Nonce, why: Why, revocation: &'a [u8] },

    /// A message of SWIM.
    Swim(&'a [u8]),
    /// What I know, in short; what do you know that I do not?
    Digest { epoch: u64, book: [u64; BUCKETS], roster: [u64; ROSTER] },
    /// The same as you.
    InSync,
    /// All that I know of from one id to another.
    Listing { from: NodeId, to: NodeId, last: bool, entries: Vec<Entry> },
    /// Tell me about these.
    Want(Vec<NodeId>),
    /// This is known.
    Statements(Vec<&'a [u8]>),
    /// These are there.
    Roster(Vec<Member<Seat>>),
    /// The secrets, sealed to you.
    Ring(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Whether it goes without the tag of a pair.
    pub(crate) fn is_open(kind: u8) -> bool {
        kind < SWIM
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Challenge { .. } => 2,
            Self::Proof { .. } => 3,
            Self::Welcome { .. } => 4,
            Self::Rejected { .. } => 5,
            Self::Swim(_) => SWIM,
            Self::Digest { .. } => 17,
            Self::InSync => 18,
            Self::Listing { .. } => 19,
            Self::Want(_) => 20,
            Self::Statements(_) => 21,
            Self::Roster(_) => 22,
            Self::Ring(_) => 23,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Hello { nonce, record } => w.raw(nonce).long(record),
            Self::Challenge { nonces, signature, record } => {
                nonces.write(&mut w).raw(signature).long(record)
            }
            Self::Proof { nonces, signature } => nonces.write(&mut w).raw(signature),
            Self::Welcome { nonces, signature, seat, ring } => {
                nonces.write(&mut w).raw(signature);
                seat.write(&mut w);
                w.long(ring)
            }
            Self::Rejected { nonce, why, revocation } => {
                let why = WHY.iter().position(|w| w == why).unwrap_or(0);
                w.raw(nonce).u8(why as u8).long(revocation)
            }
            Self::Swim(bytes) | Self::Ring(bytes) => w.raw(bytes),
            Self::Digest { epoch, book, roster } => {
                w.u64(*epoch);
                for word in book.iter().chain(roster) {
                    w.u64(*word);
                }
                &mut w
            }
            Self::InSync => &mut w,
            Self::Listing { from, to, last, entries } => {
                w.raw(&from.0).raw(&to.0).u8(u8::from(*last));
                for entry in entries {
                    w.raw(&entry.id.0).u64(entry.version).raw(&entry.hash);
                }
                &mut w
            }
            Self::Want(ids) => {
                for id in ids {
                    w.raw(&id.0);
                }
                &mut w
            }
            Self::Statements(items) => {
                for item in items {
                    w.long(item);
                }
                &mut w
            }
            Self::Roster(members) => {
                for member in members {
                    swim::write_member(member, &mut w);
                }
                &mut w
            }
        };
        w.0
    }

    pub(crate) fn parse(kind: u8, bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader(bytes);
        let message = match kind {
            1 => Self::Hello { nonce: r.array("nonce")?, record: r.long("record")? },
            2 => Self::Challenge {
                nonces: Nonces::read(&mut r)?,
                signature: r.array("signature")?,
                record: r.long("record")?,
            },
            3 => Self::Proof { nonces: Nonces::read(&mut r)?, signature: r.array("signature")? },
            4 => Self::Welcome {
                nonces: Nonces::read(&mut r)?,
                signature: r.array("signature")?,
                seat: Seat::read(&mut r)?,
                ring: r.long("ring")?,
            },
            5 => Self::Rejected {
                nonce: r.array("nonce")?,
                why: *WHY.get(usize::from(r.u8("why")?)).ok_or(WireError::Invalid("why"))?,
                revocation: r.long("revocation")?,
            },
            SWIM => Self::Swim(r.take(r.0.len(), "SWIM")?),
            17 => {
                let mut digest = (r.u64("epoch")?, [0; BUCKETS], [0; ROSTER]);
                for word in digest.1.iter_mut().chain(&mut digest.2) {
                    *word = r.u64("digest")?;
                }
                Self::Digest { epoch: digest.0, book: digest.1, roster: digest.2 }
            }
            18 => Self::InSync,
            19 => listing(&mut r)?,
            20 => Self::Want(all(&mut r, |r| Ok(NodeId(r.array("node id")?)))?),
            21 => Self::Statements(all(&mut r, |r| r.long("statement"))?),
            22 => Self::Roster(all(&mut r, swim::read_member)?),
            23 => Self::Ring(r.take(r.0.len(), "ring")?),
            _ => return Err(WireError::Invalid("kind of message")),
        };
        r.end()?;
        Ok(message)
    }
}

fn listing<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let (from, to) = (NodeId(r.array("node id")?), NodeId(r.array("node id")?));
    let last = match r.u8("last")? {
        last @ (0 | 1) => last == 1,
        _ => return Err(WireError::Invalid("last")),
    };
    let entries = all(r, |r| {
        let (id, version) = (NodeId(r.array("node id")?), r.u64("version")?);
        Ok(Entry { id, version, hash: r.array("hash")? })
    })?;
    let sorted = entries.windows(2).all(|w| w[0].id < w[1].id);
    let inside = entries.iter().all(|entry| from <= entry.id && entry.id <= to);
    if from > to || !sorted || !inside {
        return Err(WireError::Invalid("listing"));
    }
    Ok(Message::Listing { from, to, last, entries })
}

fn all<'a, T>(
    r: &mut Reader<'a>,
    one: impl Fn(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut all = Vec::new();
    while !r.is_empty() {
        all.push(one(r)?);
    }
    Ok(all)
}

impl Nonces {
    fn write<'w>(&self, w: &'w mut Writer) -> &'w mut Writer {
        w.raw(&self.joiner).raw(&self.responder)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { joiner: r.array("nonce")?, responder: r.array("nonce")? })
    }
}

/// Any bytes as a message of any kind: for the fuzzer. Panics if one reads back as another.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    if let Ok(message) = Message::parse(*kind, body) {
        assert_eq!(message.encode(), body, "one message, two encodings");
    }
}

/// In how many parts the members that are there are compared.
pub(crate) const ROSTER: usize = 16;
const SWIM: u8 = 16;
const WHY: [Why; 7] = [
    Why::Removed,
    Why::NotAdmitted,
    Why::TokenUnknown,
    Why::TokenExpired,
    Why::TokenSpent,
    Why::TokenRevoked,
    Why::NotReady,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    #[test]
    fn every_message_reads_back_and_cut_off_ones_do_not() {
        let nonces = Nonces { joiner: [1; 16], responder: [2; 16] };
        let seat = Seat { id: id(1), generation: 7, addr: "10.0.0.1:7946".parse().unwrap() };
        let entries = [1, 2].map(|n| Entry { id: id(n), version: 3, hash: [4; 4] }).to_vec();
        let fixed = [
            Message::Hello { nonce: [1; 16], record: b"record" },
            Message::Challenge { nonces, signature: [3; 64], record: b"record" },
            Message::Proof { nonces, signature: [3; 64] },
            Message::Welcome { nonces, signature: [3; 64], seat, ring: b"ring" },
            Message::Rejected { nonce: [1; 16], why: Why::TokenSpent, revocation: b"" },
            Message::Digest { epoch: 1, book: [5; BUCKETS], roster: [6; ROSTER] },
        ];
        let open = [
            Message::Swim(b"swim"),
            Message::InSync,
            Message::Listing { from: id(1), to: id(9), last: true, entries },
            Message::Want(vec![id(1), id(2)]),
            Message::Statements(vec![b"one", b"two"]),
            Message::Roster(vec![Member::alive(seat), Member::down(seat)]),
            Message::Ring(b"sealed"),
        ];
        for message in fixed.iter().chain(&open) {
            let bytes = message.encode();
            assert_eq!(Message::parse(message.kind(), &bytes).as_ref(), Ok(message));
            for len in 0..bytes.len() {
                let cut = Message::parse(message.kind(), &bytes[..len]);
                let fits = open.contains(message) && cut.is_ok();
                assert!(cut.is_err() || fits, "{message:?} {len}");
                assert_ne!(cut.as_ref(), Ok(message));
            }
        }
    }

    #[test]
    fn a_listing_is_in_order_and_within_its_range() {
        let entry = |n| Entry { id: id(n), version: 1, hash: [0; 4] };
        for (from, to, entries) in [(9, 1, vec![]), (1, 9, vec![2, 1]), (1, 3, vec![4])] {
            let entries = entries.into_iter().map(entry).collect();
            let bad = Message::Listing { from: id(from), to: id(to), last: false, entries };
            assert!(Message::parse(19, &bad.encode()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in 0..30 {
                fuzz(&[&[kind], &bytes[..]].concat());
            }
        }
    }
}
