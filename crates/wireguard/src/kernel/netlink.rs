//! A netlink socket that asks and waits for the answer.

use std::fmt::Debug;
use std::io;
use std::sync::{Mutex, PoisonError};

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// Larger than what the kernel sends at once.
const LARGEST: usize = 1 << 17;

#[derive(Debug)]
pub(super) struct Line(Mutex<State>);

struct State {
    socket: Socket,
    sequence: u32,
}

impl Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a netlink socket at request {}", self.sequence)
    }
}

impl Line {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(Mutex::new(State { socket, sequence: 0 })))
    }

    /// Sends a request and returns all that it is answered with.
    pub(super) fn ask<T>(&self, request: T, flags: u16) -> io::Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        // A request that panicked was sent or not; the numbers tell which answers are ours.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.sequence = state.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = state.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let sent = state.socket.send(&bytes, 0);
        // There may be keys in it.
        bytes.fill(0);
        sent?;
        let mut answers = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(LARGEST);
            state.socket.recv(&mut buffer, 0)?;
            if read(&buffer, state.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Reads a datagram; whether it is the end of the answer.
fn read<T: NetlinkDeserializable>(
    mut bytes: &[u8],
    sequence: u32,
    answers: &mut Vec<T>,
) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<T>::deserialize(bytes).map_err(io::Error::other)?;
        let length = message.header.length as usize;
        if message.header.sequence_number == sequence {
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                // Of a dump, and with its own code.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                // An error without a code is an acknowledgement.
                NetlinkPayload::Error(_) => return Ok(true),
                _ => {}
            }
        }
        // Messages begin at multiples of four.
        bytes = bytes.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}
