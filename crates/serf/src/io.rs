//! What goes out: sealed, framed, queued; and how what comes in is opened.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::event::{Alarms, Event, Output};
use crate::keyring::{Keyring, OVERHEAD};
use crate::time::Time;
use crate::wire::{Malformed, kind};

/// Most bytes that a datagram is filled with (memberlist: `UDPBufferSize`).
const DATAGRAM: usize = 1400;
/// Of a stream: type and length of what is encrypted.
pub(crate) const STREAM_HEADER: usize = 5;

/// Where random bytes come from: the operating system, since nonces are made of them.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// Everything that the two machines share.
pub(crate) struct Io {
    pub(crate) now: Time,
    pub(crate) out: VecDeque<Output>,
    pub(crate) alarms: Alarms,
    pub(crate) keyring: Option<Keyring>,
    entropy: Entropy,
}

impl Io {
    pub(crate) fn new(keyring: Option<Keyring>, entropy: Entropy) -> Self {
        Self {
            now: Time::default(),
            out: VecDeque::new(),
            alarms: Alarms::default(),
            keyring,
            entropy,
        }
    }

    pub(crate) fn random(&mut self) -> u32 {
        let mut bytes = [0; 4];
        (self.entropy)(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.random() as usize % end }
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut bytes = [0; 12];
        (self.entropy)(&mut bytes);
        bytes
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    pub(crate) fn refuse(&mut self, from: Option<SocketAddr>, why: impl ToString) {
        self.event(Event::Refused { from, reason: why.to_string() });
    }

    /// How many bytes of messages a datagram has room for.
    pub(crate) fn room(&self) -> usize {
        DATAGRAM - if self.keyring.is_some() { OVERHEAD } else { 5 }
    }

    /// Sends a message, with a checksum where the receiver knows them and nothing better guards it.
    pub(crate) fn send(&mut self, to: SocketAddr, message: &[u8], checksum: bool) {
        let nonce = self.nonce();
        let bytes = match &self.keyring {
            Some(ring) => ring.seal(&nonce, message, b""),
            None if checksum => {
                let mut framed = vec![kind::CHECKSUM];
                framed.extend(crc32fast::hash(message).to_be_bytes());
                framed.extend(message);
                framed
            }
            None => message.to_vec(),
        };
        self.out.push_back(Output::Send { to, bytes });
    }

    /// What a datagram holds.
    ///
    /// # Errors
    /// If it is empty, altered, in clear though it should not be, or encrypted by other keys.
    pub(crate) fn open(&self, datagram: &[u8]) -> Result<Vec<u8>, Malformed> {
        let message = match &self.keyring {
            Some(ring) => ring.open(datagram, b"")?,
            None => datagram.to_vec(),
        };
        match *message {
            [] => Err(Malformed::new("an empty message")),
            [kind::CHECKSUM, a, b, c, d, ref body @ ..] => {
                if crc32fast::hash(body) != u32::from_be_bytes([a, b, c, d]) {
                    return Err(Malformed::new("the checksum does not fit"));
                }
                Ok(body.to_vec())
            }
            _ => Ok(message),
        }
    }

    /// A message as it is written to a stream.
    pub(crate) fn seal_stream(&mut self, message: Vec<u8>) -> Vec<u8> {
        let nonce = self.nonce();
        let Some(ring) = &self.keyring else { return message };
        let mut out = vec![kind::ENCRYPTED];
        out.extend(((message.len() + OVERHEAD) as u32).to_be_bytes());
        let sealed = ring.seal(&nonce, &message, &out);
        out.extend(sealed);
        out
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("now", &self.now).field("out", &self.out).finish_non_exhaustive()
    }
}
