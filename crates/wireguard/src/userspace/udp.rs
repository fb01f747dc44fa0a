//! The sockets between the peers: many datagrams a call, by the kernel's segmentation of UDP.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel's default loses most of what comes in bursts.
const BUFFER: usize = 4 << 20;

/// The largest datagram, or as many of them as the kernel joins.
const LONGEST: usize = 65_536;

/// So many of one size go in one call (the kernel: `UDP_MAX_SEGMENTS`, 64 in older ones).
pub(super) const SEGMENTS: usize = 64;

/// As many bytes go in one call, headers apart.
pub(super) const SEND: usize = 65_000;

/// How long a full socket is waited for; the network is slower than we are by then.
const FULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How often other ports are tried, if the one that the kernel chose for IPv4 is taken in IPv6.
const ATTEMPTS: usize = 16;

/// Where a peer is, and from which of our addresses it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// The address that it sent to: it may know us by that only.
    pub(super) ours: Option<IpAddr>,
    /// Whether the path takes no joined datagrams.
    pub(super) single: bool,
}

impl Endpoint {
    pub(super) const fn new(address: SocketAddr, ours: Option<IpAddr>) -> Self {
        Self { address, ours, single: false }
    }

    /// Whether it is the same place, seen from the same address of ours.
    pub(super) fn is(&self, address: SocketAddr, ours: Option<IpAddr>) -> bool {
        self.address == address && self.ours == ours
    }
}

/// A socket for each family; that of a family that the machine does not have is missing.
#[derive(Debug)]
pub(super) struct Udp {
    pub(super) port: u16,
    v4: Option<Half>,
    v6: Option<Half>,
}

#[derive(Debug)]
pub(super) struct Half {
    socket: Socket,
    state: UdpSocketState,
}

impl Udp {
    /// Listens at a port, or at one of the kernel's choice if that is 0.
    pub(super) fn open(port: u16, fwmark: u32) -> io::Result<Self> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::try_open(port, fwmark) {
                Err(error)
                    if port == 0 && attempt < ATTEMPTS && error.kind() == ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
    }

    fn try_open(wanted: u16, fwmark: u32) -> io::Result<Self> {
        let mut port = wanted;
        let v4 = there(Half::open(Domain::IPV4, &mut port, fwmark))?;
        let v6 = there(Half::open(Domain::IPV6, &mut port, fwmark))?;
        if v4.is_none() && v6.is_none() {
            return Err(Errno::AFNOSUPPORT.into());
        }
        Ok(Self { port, v4, v6 })
    }

    pub(super) fn set_mark(&self, fwmark: u32) -> io::Result<()> {
        self.halves().try_for_each(|half| half.socket.set_mark(fwmark))
    }

    pub(super) fn halves(&self) -> impl Iterator<Item = &Half> {
        self.v4.iter().chain(&self.v6)
    }

    /// Sends datagrams of `size` bytes each, the last of which may be shorter. If the path does not take
    /// them joined, or from that address of ours, the endpoint is changed accordingly.
    pub(super) fn send(&self, to: &mut Endpoint, bytes: &[u8], size: usize) -> io::Result<()> {
        let half = if to.address.is_ipv4() { &self.v4 } else { &self.v6 };
        let half = half.as_ref().ok_or(Errno::AFNOSUPPORT)?;
        if !to.single || bytes.len() <= size {
            match half.send(to, bytes, size) {
                // No such segments on this device (EIO), or a path that is too narrow for them.
                Err(error)
                    if bytes.len() > size
                        && is(&error, &[Errno::IO, Errno::INVAL, Errno::MSGSIZE]) =>
                {
                    to.single = true;
                }
                result => return result,
            }
        }
        bytes.chunks(size).try_for_each(|datagram| half.send(to, datagram, size))
    }
}

fn is(error: &io::Error, errors: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

/// What is missing because the machine has no such family is no error.
fn there(half: io::Result<Half>) -> io::Result<Option<Half>> {
    match half {
        Err(error) if is(&error, &[Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]) => Ok(None),
        result => result.map(Some),
    }
}

impl Half {
    fn open(domain: Domain, port: &mut u16, fwmark: u32) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        let v6 = domain == Domain::IPV6;
        let any: IpAddr =
            if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        if v6 {
            socket.set_only_v6(true)?;
        }
        if fwmark != 0 {
            socket.set_mark(fwmark)?;
        }
        // Beyond the limit of the machine, if that is allowed; else up to it.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
            socket.set_send_buffer_size(BUFFER)?;
        }
        socket.bind(&SocketAddr::new(any, *port).into())?;
        let state = UdpSocketState::new((&socket).into())?;
        // As the kernel's WireGuard: what is too large for a path is fragmented, not lost.
        holdfast_sys::udp::allow_fragments(socket.as_fd(), v6)?;
        if let Some(address) = socket.local_addr()?.as_socket() {
            *port = address.port();
        }
        Ok(Self { socket, state })
    }

    fn send(&self, to: &mut Endpoint, bytes: &[u8], size: usize) -> io::Result<()> {
        let mut waited = false;
        loop {
            let transmit = Transmit {
                destination: to.address,
                ecn: None,
                contents: bytes,
                segment_size: (bytes.len() > size).then_some(size),
                src_ip: to.ours,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !waited => {
                    waited = true;
                    let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&FULL));
                }
                // The address is no longer ours, or leads nowhere from here.
                Err(error)
                    if to.ours.is_some()
                        && bytes.len() <= size
                        && is(&error, &[Errno::INVAL, Errno::ADDRNOTAVAIL, Errno::NETUNREACH]) =>
                {
                    to.ours = None;
                }
                result => return result,
            }
        }
    }

    /// Receives what is there; nothing if there is nothing.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        batch.count = 0;
        let mut buffers = batch.buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
            IoSliceMut::new(buffers.next().map_or(&mut [], |buffer| &mut buffer[..]))
        });
        match self.state.recv((&self.socket).into(), &mut slices, &mut batch.meta) {
            Ok(count) => batch.count = count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl AsFd for Half {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What was received at once.
pub(super) struct Batch {
    buffers: Vec<Box<[u8]>>,
    meta: [RecvMeta; BATCH_SIZE],
    count: usize,
}

impl Batch {
    /// Pages of it are only used up as far as they are filled.
    pub(super) fn new() -> Self {
        let buffers = (0..BATCH_SIZE).map(|_| vec![0; LONGEST].into_boxed_slice()).collect();
        Self { buffers, meta: [RecvMeta::default(); BATCH_SIZE], count: 0 }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count == BATCH_SIZE
    }

    /// The datagrams, with where each is from and to which of our addresses it was sent.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, Option<IpAddr>, &[u8])> {
        self.buffers.iter().zip(&self.meta).take(self.count).flat_map(|(buffer, meta)| {
            let bytes = &buffer[..meta.len.min(buffer.len())];
            bytes.chunks(meta.stride.max(1)).map(|datagram| (meta.addr, meta.dst_ip, datagram))
        })
    }
}
