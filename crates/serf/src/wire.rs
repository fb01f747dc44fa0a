//! The messages, as they are on the wire: a byte for the type, then a MessagePack map with Go's field names.
//!
//! Types 0 to 13 are memberlist's (`net.go`), and inside its user messages and user state stand Serf's own
//! (`messages.go`). Go writes byte strings as MessagePack strings (the old `raw`), empty ones as `nil`, and
//! leaves out what is unset: all of that is read, and what is unknown is passed over.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteBuf;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// memberlist's `messageType`.
pub(crate) mod kind {
    pub(crate) const PING: u8 = 0;
    pub(crate) const INDIRECT_PING: u8 = 1;
    pub(crate) const ACK: u8 = 2;
    pub(crate) const SUSPECT: u8 = 3;
    pub(crate) const ALIVE: u8 = 4;
    pub(crate) const DEAD: u8 = 5;
    pub(crate) const PUSH_PULL: u8 = 6;
    pub(crate) const COMPOUND: u8 = 7;
    pub(crate) const USER: u8 = 8;
    pub(crate) const COMPRESSED: u8 = 9;
    pub(crate) const ENCRYPTED: u8 = 10;
    pub(crate) const NACK: u8 = 11;
    pub(crate) const CHECKSUM: u8 = 12;
    pub(crate) const ERROR: u8 = 13;
}

/// Serf's `messageType`.
pub(crate) mod serf_kind {
    pub(crate) const LEAVE: u8 = 0;
    pub(crate) const JOIN: u8 = 1;
    pub(crate) const PUSH_PULL: u8 = 2;
    pub(crate) const USER_EVENT: u8 = 3;
    pub(crate) const QUERY: u8 = 4;
    pub(crate) const QUERY_RESPONSE: u8 = 5;
    pub(crate) const CONFLICT_RESPONSE: u8 = 6;
    pub(crate) const KEY_REQUEST: u8 = 7;
    pub(crate) const KEY_RESPONSE: u8 = 8;
}

/// `nodeStateType`.
pub(crate) mod node_state {
    pub(crate) const ALIVE: u8 = 0;
    pub(crate) const SUSPECT: u8 = 1;
    pub(crate) const DEAD: u8 = 2;
    pub(crate) const LEFT: u8 = 3;
}

/// What we speak: memberlist's protocol (least, most, now), then Serf's, in the order of `Vsn`.
pub(crate) const VERSIONS: [u8; 6] = [1, 5, 2, 2, 5, 5];

/// Serf's magic byte before tags in a node's meta data (`tagMagicByte`).
const TAGS: u8 = 255;
/// Most bytes of meta data, tags included (memberlist: `MetaMaxSize`).
pub const META_MAX: usize = 512;

fn nil_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn is_empty(bytes: &ByteBuf) -> bool {
    bytes.is_empty()
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ping {
    pub(crate) seq_no: u32,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) node: String,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nil_is_default")]
    pub(crate) source_addr: ByteBuf,
    pub(crate) source_port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) source_node: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IndirectPing {
    pub(crate) seq_no: u32,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) target: ByteBuf,
    pub(crate) port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) node: String,
    pub(crate) nack: bool,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nil_is_default")]
    pub(crate) source_addr: ByteBuf,
    pub(crate) source_port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) source_node: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ack {
    pub(crate) seq_no: u32,
}

/// `suspect` and `dead` are the same map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Accusation {
    pub(crate) incarnation: u32,
    pub(crate) node: String,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) from: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Alive {
    pub(crate) incarnation: u32,
    pub(crate) node: String,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) addr: ByteBuf,
    pub(crate) port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) meta: ByteBuf,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) vsn: ByteBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PushPullHeader {
    pub(crate) nodes: u32,
    pub(crate) user_state_len: u32,
    pub(crate) join: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PushNode {
    pub(crate) name: String,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) addr: ByteBuf,
    pub(crate) port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) meta: ByteBuf,
    pub(crate) incarnation: u32,
    pub(crate) state: u8,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) vsn: ByteBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Compressed {
    pub(crate) algo: u8,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) buf: ByteBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RemoteError {
    pub(crate) error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Join {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "Node")]
    pub(crate) node: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Leave {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "Node")]
    pub(crate) node: String,
    #[serde(rename = "Prune")]
    pub(crate) prune: bool,
}

/// Serf's part of a push/pull. Its recent user events are not kept, and so not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Intents {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "StatusLTimes", deserialize_with = "nil_is_default")]
    pub(crate) status_times: BTreeMap<String, u64>,
    #[serde(rename = "LeftMembers", deserialize_with = "nil_is_default")]
    pub(crate) left: Vec<String>,
    #[serde(rename = "EventLTime")]
    pub(crate) event_time: u64,
    #[serde(rename = "QueryLTime")]
    pub(crate) query_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserEvent {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "Name")]
    pub(crate) name: String,
    #[serde(rename = "Payload", deserialize_with = "nil_is_default")]
    pub(crate) payload: ByteBuf,
    #[serde(rename = "CC")]
    pub(crate) coalesce: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "ID")]
    pub(crate) id: u32,
    #[serde(rename = "Addr", deserialize_with = "nil_is_default")]
    pub(crate) addr: ByteBuf,
    #[serde(rename = "Port")]
    pub(crate) port: u16,
    #[serde(rename = "Filters", deserialize_with = "nil_is_default")]
    pub(crate) filters: Vec<ByteBuf>,
    #[serde(rename = "Flags")]
    pub(crate) flags: u32,
    /// Nanoseconds.
    #[serde(rename = "Timeout")]
    pub(crate) timeout: i64,
    #[serde(rename = "Name")]
    pub(crate) name: String,
    #[serde(rename = "Payload", deserialize_with = "nil_is_default")]
    pub(crate) payload: ByteBuf,
}

impl Query {
    /// The asker wants to hear from everyone who got the query (`queryFlagAck`).
    pub(crate) const ACK: u32 = 1;
    /// Not to be passed on (`queryFlagNoBroadcast`).
    pub(crate) const NO_BROADCAST: u32 = 2;
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct QueryResponse {
    #[serde(rename = "LTime")]
    pub(crate) time: u64,
    #[serde(rename = "ID")]
    pub(crate) id: u32,
    #[serde(rename = "From")]
    pub(crate) from: String,
    /// 1: a bare acknowledgement (`queryFlagAck`).
    #[serde(rename = "Flags")]
    pub(crate) flags: u32,
    #[serde(rename = "Payload", deserialize_with = "nil_is_default")]
    pub(crate) payload: ByteBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct KeyRequest {
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) key: ByteBuf,
}

/// Keys are in base64 here, and only here.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct KeyResponse {
    pub(crate) result: bool,
    pub(crate) message: String,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) keys: Vec<String>,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) primary_key: String,
}

/// Serf's `Member`, the answer to who holds a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MemberInfo {
    pub(crate) name: String,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) addr: ByteBuf,
    pub(crate) port: u16,
    #[serde(deserialize_with = "nil_is_default")]
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) status: u8,
    pub(crate) protocol_min: u8,
    pub(crate) protocol_max: u8,
    pub(crate) protocol_cur: u8,
    pub(crate) delegate_min: u8,
    pub(crate) delegate_max: u8,
    pub(crate) delegate_cur: u8,
}

/// A type and its map.
pub(crate) fn encode<T: Serialize>(kind: u8, message: &T) -> Vec<u8> {
    let mut out = vec![kind];
    append(&mut out, message);
    out
}

/// A map after what is there already.
pub(crate) fn append<T: Serialize>(out: &mut Vec<u8>, message: &T) {
    message
        .serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
        .expect("writing numbers, strings and maps of them into memory does not fail");
}

/// The map after a type.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Malformed> {
    rmp_serde::from_slice(body).map_err(|e| Malformed::new(format!("cannot read a {what}: {e}")))
}

/// An address as Go writes it: 4 or 16 bytes, an IPv4 address also in 16.
pub(crate) fn address(bytes: &[u8], port: u16) -> Option<SocketAddr> {
    let ip = match *bytes {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    (port != 0 && !ip.is_unspecified()).then_some(SocketAddr::new(ip, port))
}

/// The other way.
pub(crate) fn address_bytes(ip: IpAddr) -> ByteBuf {
    match ip.to_canonical() {
        IpAddr::V4(v4) => ByteBuf::from(v4.octets().to_vec()),
        IpAddr::V6(v6) => ByteBuf::from(v6.octets().to_vec()),
    }
}

/// Tags as a node's meta data.
pub(crate) fn encode_tags(tags: &BTreeMap<String, String>) -> Vec<u8> {
    encode(TAGS, tags)
}

/// The tags in meta data; before Serf had tags there was one, the role.
pub(crate) fn decode_tags(meta: &[u8]) -> BTreeMap<String, String> {
    match meta {
        [] => BTreeMap::new(),
        [TAGS, body @ ..] => decode("set of tags", body).unwrap_or_default(),
        role => BTreeMap::from([("role".to_owned(), String::from_utf8_lossy(role).into_owned())]),
    }
}

/// Several messages as one (`makeCompoundMessage`); at most 255.
pub(crate) fn compound(messages: &[Vec<u8>]) -> Vec<u8> {
    debug_assert!(messages.len() <= usize::from(u8::MAX));
    let mut out = vec![kind::COMPOUND, messages.len() as u8];
    for message in messages {
        out.extend((message.len() as u16).to_be_bytes());
    }
    messages.iter().for_each(|message| out.extend(message));
    out
}

/// The messages of a compound one, after its type.
///
/// # Errors
/// If it is cut short.
pub(crate) fn split_compound(body: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let short = || Malformed::new("a compound message is cut short");
    let (&count, rest) = body.split_first().ok_or_else(short)?;
    let (lengths, mut rest) = rest.split_at_checked(usize::from(count) * 2).ok_or_else(short)?;
    let mut parts = Vec::with_capacity(usize::from(count));
    for length in lengths.chunks_exact(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (part, after) = rest.split_at_checked(length).ok_or_else(short)?;
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// What a compressed message holds (`decompressBuffer`: LZW, least significant bit first, of 8 bits).
///
/// # Errors
/// If it is not LZW, or becomes larger than `limit`.
pub(crate) fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>, Malformed> {
    let packed: Compressed = decode("compressed message", body)?;
    if packed.algo != 0 {
        return Err(Malformed::new(format!("unknown compression {}", packed.algo)));
    }
    let mut decoder = weezl::decode::Decoder::new(weezl::BitOrder::Lsb, 8);
    let (mut out, mut at, mut block) = (Vec::new(), 0, [0_u8; 4096]);
    loop {
        let step = decoder.decode_bytes(&packed.buf[at..], &mut block);
        at += step.consumed_in;
        out.extend_from_slice(&block[..step.consumed_out]);
        if out.len() > limit {
            return Err(Malformed::new(format!(
                "a message of more than {limit} bytes when unpacked"
            )));
        }
        match step.status {
            Ok(weezl::LzwStatus::Done) => return Ok(out),
            Ok(weezl::LzwStatus::Ok) => {}
            Ok(weezl::LzwStatus::NoProgress) => {
                return Err(Malformed::new("a compressed message is cut short"));
            }
            Err(e) => return Err(Malformed::new(format!("cannot unpack a message: {e}"))),
        }
    }
}

/// Where the MessagePack object at the start of `bytes` ends; `None` if it goes on past them.
///
/// Nothing is kept, so that asking again for each piece that arrives costs little.
///
/// # Errors
/// At a byte that begins nothing.
pub(crate) fn end_of_object(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let (mut at, mut left) = (0_usize, 1_u64);
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    while left > 0 {
        let Some(&marker) = bytes.get(at) else { return Ok(None) };
        at += 1;
        left -= 1;
        // How many bytes give a length, how many follow that are not counted in it, objects per unit.
        let (size, fixed, objects) = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0, 0),
            0x80..=0x8f => {
                left += u64::from(marker & 0x0f) * 2;
                (0, 0, 0)
            }
            0x90..=0x9f => {
                left += u64::from(marker & 0x0f);
                (0, 0, 0)
            }
            0xa0..=0xbf => (0, usize::from(marker & 0x1f), 0),
            0xcc | 0xd0 => (0, 1, 0),
            0xcd | 0xd1 => (0, 2, 0),
            0xca | 0xce | 0xd2 => (0, 4, 0),
            0xcb | 0xcf | 0xd3 => (0, 8, 0),
            0xd4..=0xd8 => (0, 1 + (1 << (marker - 0xd4)), 0),
            0xc4 | 0xd9 => (1, 0, 0),
            0xc5 | 0xda => (2, 0, 0),
            0xc6 | 0xdb => (4, 0, 0),
            0xc7 => (1, 1, 0),
            0xc8 => (2, 1, 0),
            0xc9 => (4, 1, 0),
            0xdc => (2, 0, 1),
            0xdd => (4, 0, 1),
            0xde => (2, 0, 2),
            0xdf => (4, 0, 2),
            0xc1 => return Err(Malformed::new("a byte that begins nothing in MessagePack")),
        };
        let mut skip = fixed;
        if size > 0 {
            let Some(length) = number(at, size) else { return Ok(None) };
            at += size;
            if objects == 0 {
                skip += length as usize;
            } else {
                left += length * objects;
            }
        }
        at = at.saturating_add(skip);
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_of_an_object_is_where_the_reader_stops(
            name in ".{0,300}", meta in prop::collection::vec(any::<u8>(), 0..70_000), more in any::<[u8; 4]>(),
        ) {
            let node = PushNode { name, meta: ByteBuf::from(meta), incarnation: 70_000, ..PushNode::default() };
            let mut bytes = Vec::new();
            append(&mut bytes, &node);
            let end = bytes.len();
            prop_assert_eq!(end_of_object(&bytes[..end - 1]).unwrap(), None);
            bytes.extend(more);
            prop_assert_eq!(end_of_object(&bytes).unwrap(), Some(end));
            prop_assert_eq!(decode::<PushNode>("node", &bytes[..end]).unwrap(), node);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = end_of_object(&bytes);
            let _ = split_compound(&bytes);
            let _ = decompress(&bytes, 1 << 16);
            let _ = decode::<Query>("query", &bytes);
            let _ = decode::<Intents>("state", &bytes);
            decode_tags(&bytes);
        }

        #[test]
        fn a_compound_message_comes_apart_again(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..255)) {
            let whole = compound(&parts);
            prop_assert_eq!(split_compound(&whole[1..]).unwrap(), parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_go_leaves_out_or_writes_as_nil_is_read() {
        // {"SeqNo": 7, "Node": nil}
        let bytes = b"\x82\xa5SeqNo\x07\xa4Node\xc0";
        assert_eq!(decode::<Ping>("ping", bytes).unwrap(), Ping { seq_no: 7, ..Ping::default() });
        // Meta as a string of bytes that are not UTF-8, Vsn as nil, and a field of the future.
        let bytes = b"\x83\xa4Meta\xa2\xff\xfe\xa3Vsn\xc0\xa6Future\x93\x01\x02\x03";
        assert_eq!(decode::<Alive>("alive", bytes).unwrap().meta.as_slice(), [0xff, 0xfe]);
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut packer = weezl::encode::Encoder::new(weezl::BitOrder::Lsb, 8);
        let packed = packer.encode(&vec![0; 1 << 20]).unwrap();
        let message = encode(kind::COMPRESSED, &Compressed { algo: 0, buf: ByteBuf::from(packed) });
        assert_eq!(decompress(&message[1..], 1 << 20).unwrap().len(), 1 << 20);
        assert!(
            decompress(&message[1..], (1 << 20) - 1).unwrap_err().to_string().contains("more than")
        );
    }
}
