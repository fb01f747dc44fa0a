//! Packets over a `SOCK_SEQPACKET` socket: JSON with descriptors beside it. What does not fit a packet
//! travels in a memory file whose descriptor comes first.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::Packet;

/// The largest message put into a packet itself; far under the smallest usual socket buffer.
const INLINE: usize = 48 * 1024;
/// No more descriptors than this come with one packet.
pub(super) const MAX_FDS: usize = 32;
/// In front of a packet: the message follows, or it is in the first descriptor.
const HERE: u8 = b'h';
const IN_FILE: u8 = b'f';

/// A received message.
#[derive(Debug)]
pub struct Received<T> {
    /// It.
    pub packet: Packet<T>,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
}

/// A message ready to be sent.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
    fds: Vec<OwnedFd>,
}

/// Prepares a message.
///
/// # Errors
/// If it cannot be written as JSON (a path that is not UTF-8), or no memory file could be made.
pub fn prepare<T: Serialize>(packet: &Packet<T>, fds: Vec<OwnedFd>) -> io::Result<Outgoing> {
    prepare_within(packet, fds, INLINE)
}

/// As [`prepare`], for an inbox that takes so many bytes.
pub(super) fn prepare_within<T: Serialize>(
    packet: &Packet<T>,
    fds: Vec<OwnedFd>,
    limit: usize,
) -> io::Result<Outgoing> {
    let mut bytes = vec![HERE];
    serde_json::to_writer(&mut bytes, packet)?;
    if bytes.len() <= limit {
        return Ok(Outgoing { bytes, file: None, fds });
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("holdfast-message", flags)?);
    file.write_all(&bytes[1..])?;
    file.rewind()?;
    Ok(Outgoing { bytes: vec![IN_FILE], file: Some(file.into()), fds })
}

/// Sends a message; blocks or says `WouldBlock` as the socket does.
///
/// # Errors
/// EPIPE when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, message: &Outgoing) -> io::Result<()> {
    let fds: Vec<RawFd> = message.file.iter().chain(&message.fds).map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    let bytes = [IoSlice::new(&message.bytes)];
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &bytes, control, flags, None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Where messages are received. It is kept from message to message: clearing so much memory each time
/// would make every process that the launcher clones copy it.
#[derive(Debug)]
pub struct Inbox(Vec<u8>);

impl Default for Inbox {
    fn default() -> Self {
        Self(vec![0; INLINE])
    }
}

impl Inbox {
    /// For messages made by [`prepare_within`] of the same limit.
    pub(super) fn of(limit: usize) -> Self {
        Self(vec![0; limit])
    }

    /// Receives a message; blocks or says `WouldBlock` as the socket does. `None` when the other side
    /// is gone.
    ///
    /// # Errors
    /// What the socket says, and `InvalidData` for something that is no message.
    pub fn receive<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> io::Result<Option<Received<T>>> {
        receive_into(&mut self.0, socket)
    }
}

fn receive_into<T: DeserializeOwned>(
    buffer: &mut [u8],
    socket: BorrowedFd<'_>,
) -> io::Result<Option<Received<T>>> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (length, raw_fds) = {
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut raw_fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                raw_fds.extend(fds);
            }
        }
        (message.bytes, raw_fds)
    };
    // SAFETY: the kernel made these descriptors for us just now; nobody else owns them.
    let own = |fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) };
    let mut fds: Vec<OwnedFd> = raw_fds.into_iter().map(own).collect();
    let packet = match buffer[..length].split_first() {
        None => return Ok(None),
        Some((&HERE, json)) => serde_json::from_slice(json)?,
        Some((&IN_FILE, _)) if !fds.is_empty() => {
            let mut json = Vec::new();
            std::fs::File::from(fds.remove(0)).read_to_end(&mut json)?;
            serde_json::from_slice(&json)?
        }
        Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "no message")),
    };
    Ok(Some(Received { packet, fds }))
}

/// A connected pair of packet sockets.
///
/// # Errors
/// EMFILE and its kin.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn small_and_large_messages_arrive_with_their_descriptors() {
        let (a, b) = pair().unwrap();
        let mut inbox = Inbox::default();
        for size in [1, INLINE - 100, INLINE, 3_000_000] {
            let text = "x".repeat(size);
            let extra = rustix::fs::memfd_create("extra", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let message = prepare(&Packet { id: 7, body: text.clone() }, vec![extra]).unwrap();
            send(a.as_fd(), &message).unwrap();
            let got: Received<String> = inbox.receive(b.as_fd()).unwrap().unwrap();
            assert_eq!((got.packet.id, got.packet.body.len(), got.fds.len()), (7, size, 1));
        }
        drop(a);
        assert!(inbox.receive::<String>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_an_error() {
        let (a, b) = pair().unwrap();
        let mut inbox = Inbox::default();
        rustix::io::write(&a, b"hnonsense").unwrap();
        assert!(inbox.receive::<String>(b.as_fd()).is_err());
        rustix::io::write(&a, b"f").unwrap();
        assert!(inbox.receive::<String>(b.as_fd()).is_err());
    }
}
