//! What is said over connections: full exchanges (push/pull), pings where datagrams fail, user messages.

use crate::io::{Io, STREAM_HEADER};
use crate::keyring::Keyring;
use crate::wire::{
    self, Ack, Malformed, Ping, PushNode, PushPullHeader, RemoteError, end_of_object, kind,
};

/// Most bytes that one message of a connection may have (memberlist: `maxPushStateBytes`).
const LIMIT: usize = 20 << 20;

/// One message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    PushPull { nodes: Vec<PushNode>, join: bool, user_state: Vec<u8> },
    Ping(Ping),
    Ack(Ack),
    User(Vec<u8>),
    Error(String),
}

/// A full exchange, as it is sent.
pub(crate) fn push_pull(io: &mut Io, nodes: &[PushNode], join: bool, user_state: &[u8]) -> Vec<u8> {
    let header =
        PushPullHeader { nodes: nodes.len() as u32, user_state_len: user_state.len() as u32, join };
    let mut message = wire::encode(kind::PUSH_PULL, &header);
    nodes.iter().for_each(|node| wire::append(&mut message, node));
    message.extend(user_state);
    io.seal_stream(message)
}

/// Collects the bytes of one message.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// Up to where whole objects have been found; 0 before the first.
    passed: usize,
    /// How many objects have been found.
    objects: u32,
}

impl Reader {
    /// More bytes; the message, once it is whole.
    ///
    /// # Errors
    /// If it is none, too large, or encrypted otherwise than it should be.
    pub(crate) fn read(
        &mut self,
        ring: Option<&Keyring>,
        more: &[u8],
    ) -> Result<Option<Message>, Malformed> {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > LIMIT + STREAM_HEADER {
            return Err(too_large());
        }
        let Some(&first) = self.bytes.first() else { return Ok(None) };
        match (ring, first) {
            (Some(ring), kind::ENCRYPTED) => {
                let Some((header, rest)) = self.bytes.split_first_chunk::<STREAM_HEADER>() else {
                    return Ok(None);
                };
                let [_, a, b, c, d] = *header;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if length > LIMIT {
                    return Err(too_large());
                }
                let Some(sealed) = rest.get(..length) else { return Ok(None) };
                let plain = ring.open(sealed, header)?;
                whole(&plain)
            }
            (Some(_), _) => Err(Malformed::new("it is not encrypted, as everything here is")),
            (None, kind::ENCRYPTED) => {
                Err(Malformed::new("it is encrypted, and there are no keys here"))
            }
            (None, kind::COMPRESSED) => match end_of_object(&self.bytes[1..])? {
                Some(end) => whole(&self.bytes[..=end]),
                None => Ok(None),
            },
            (None, _) => self.clear(),
        }
    }

    /// A message in clear: as many objects as it needs, and what follows them.
    fn clear(&mut self) -> Result<Option<Message>, Malformed> {
        let body = &self.bytes[1..];
        while self.objects == 0 || self.objects <= self.expected()? {
            let Some(end) = end_of_object(&body[self.passed..])? else { return Ok(None) };
            self.passed += end;
            self.objects += 1;
        }
        let following = match self.bytes[0] {
            kind::PUSH_PULL => header(body)?.user_state_len as usize,
            kind::USER => user_length(body)?,
            _ => 0,
        };
        let end = self.passed.saturating_add(following);
        if end > LIMIT {
            return Err(too_large());
        }
        if body.len() < end { Ok(None) } else { parse(&self.bytes[..=end]).map(Some) }
    }

    /// How many objects follow the first.
    fn expected(&self) -> Result<u32, Malformed> {
        match self.bytes[0] {
            kind::PUSH_PULL => Ok(header(&self.bytes[1..])?.nodes),
            _ => Ok(0),
        }
    }
}

fn too_large() -> Malformed {
    Malformed::new(format!("a message of more than {LIMIT} bytes"))
}

/// The first object of a body, and what follows it.
fn first(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = end_of_object(body)?.ok_or_else(|| Malformed::new("a message that is cut short"))?;
    Ok(body.split_at(end))
}

fn header(body: &[u8]) -> Result<PushPullHeader, Malformed> {
    wire::decode("push/pull", first(body)?.0)
}

/// `userMsgHeader`.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UserHeader {
    user_msg_len: u32,
}

fn user_length(body: &[u8]) -> Result<usize, Malformed> {
    Ok(wire::decode::<UserHeader>("user message", first(body)?.0)?.user_msg_len as usize)
}

/// A message that is known to be all there, perhaps compressed.
fn whole(message: &[u8]) -> Result<Option<Message>, Malformed> {
    match message {
        [kind::COMPRESSED, body @ ..] => parse(&wire::decompress(body, LIMIT)?).map(Some),
        _ => parse(message).map(Some),
    }
}

fn parse(message: &[u8]) -> Result<Message, Malformed> {
    let (&kind, body) = message.split_first().ok_or_else(|| Malformed::new("an empty message"))?;
    match kind {
        kind::PUSH_PULL => {
            let header = header(body)?;
            let mut rest = first(body)?.1;
            let mut nodes = Vec::new();
            for _ in 0..header.nodes {
                let (node, after) = first(rest)?;
                nodes.push(wire::decode("node", node)?);
                rest = after;
            }
            let user_state = rest
                .get(..header.user_state_len as usize)
                .ok_or_else(|| Malformed::new("a push/pull that is cut short"))?;
            Ok(Message::PushPull { nodes, join: header.join, user_state: user_state.to_vec() })
        }
        kind::PING => Ok(Message::Ping(wire::decode("ping", first(body)?.0)?)),
        kind::ACK => Ok(Message::Ack(wire::decode("ack", first(body)?.0)?)),
        kind::USER => {
            let length = user_length(body)?;
            let message = first(body)?.1.get(..length);
            let message =
                message.ok_or_else(|| Malformed::new("a user message that is cut short"))?;
            Ok(Message::User(message.to_vec()))
        }
        kind::ERROR => {
            Ok(Message::Error(wire::decode::<RemoteError>("error", first(body)?.0)?.error))
        }
        other => Err(Malformed::new(format!("a message of an unknown type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keyring::Key;

    fn io(keys: Option<u8>) -> Io {
        let ring = keys.map(|byte| Keyring::new(Key::new(&[byte; 32]).unwrap()));
        Io::new(ring, Box::new(|bytes| bytes.fill(9)))
    }

    fn nodes(count: usize) -> Vec<PushNode> {
        (0..count)
            .map(|i| PushNode { name: format!("node-{i}"), port: 7946, ..PushNode::default() })
            .collect()
    }

    proptest! {
        #[test]
        fn an_exchange_is_read_from_pieces_of_any_size(
            count in 0_usize..30, state in prop::collection::vec(any::<u8>(), 0..300),
            piece in 1_usize..200, encrypted in any::<bool>(), join in any::<bool>(),
        ) {
            let mut io = io(encrypted.then_some(1));
            let sent = push_pull(&mut io, &nodes(count), join, &state);
            let mut reader = Reader::default();
            let mut got = None;
            for piece in sent.chunks(piece) {
                prop_assert!(got.is_none(), "before its end");
                got = reader.read(io.keyring.as_ref(), piece).unwrap();
            }
            prop_assert_eq!(got, Some(Message::PushPull { nodes: nodes(count), join, user_state: state }));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Reader::default().read(None, &bytes);
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn what_is_encrypted_otherwise_than_here_is_refused() {
        let clear = push_pull(&mut io(None), &[], false, b"");
        let sealed = push_pull(&mut io(Some(1)), &[], false, b"");
        let (one, two) = (io(Some(1)), io(Some(2)));
        let read = |ring: Option<&Keyring>, bytes: &[u8]| Reader::default().read(ring, bytes);
        assert!(read(one.keyring.as_ref(), &sealed).unwrap().is_some());
        for (ring, bytes) in
            [(None, &sealed), (one.keyring.as_ref(), &clear), (two.keyring.as_ref(), &sealed)]
        {
            read(ring, bytes).unwrap_err();
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        let mut message = vec![kind::ENCRYPTED];
        message.extend(u32::MAX.to_be_bytes());
        let ring = io(Some(1)).keyring;
        assert!(
            Reader::default()
                .read(ring.as_ref(), &message)
                .unwrap_err()
                .to_string()
                .contains("more than")
        );
        let header = PushPullHeader { nodes: 0, user_state_len: u32::MAX, join: false };
        let message = wire::encode(kind::PUSH_PULL, &header);
        assert!(
            Reader::default().read(None, &message).unwrap_err().to_string().contains("more than")
        );
    }
}
