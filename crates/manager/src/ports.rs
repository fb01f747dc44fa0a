//! Ports of replicas that share the network of one node.
//!
//! Each takes base + hash of its pod's name, and goes upward past what is taken. A port is taken by
//! binding to it: two replicas cannot do that at the same time, whichever of the bases their sums come
//! from. The socket that holds a port never listens, so that a port can be held on every address before
//! it is known on which one there will be a listener.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Which.
    pub(crate) port: u16,
    _socket: Socket,
}

/// No port of a base could be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// All of them are taken.
    #[error(
        "no port from {first} to {last} is free on this node; stop what holds them, or set the port \
         explicitly"
    )]
    Taken {
        /// The first that was tried.
        first: u16,
        /// The last that was tried.
        last: u16,
    },
    /// The system does not let us try.
    #[error("cannot bind to port {port}: {error}")]
    System {
        /// The port that was tried.
        port: u16,
        /// What it said.
        error: io::Error,
    },
}

/// How many ports above a base replicas are spread over.
const SPREAD: u32 = 1000;

/// 32-bit FNV-1a of a pod's name, by which replicas spread (`POD_NAME` hash of the multi-replica guide).
#[must_use]
pub(crate) fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Takes a port above `base` for the pod of this name, none of `not`.
///
/// # Errors
/// If a thousand ports are all taken, or the system does not let us bind at all.
pub(crate) fn reserve(base: u16, name: &str, not: &[u16]) -> Result<Reserved, ReserveError> {
    // Below 1000, so that it fits.
    let first = base.saturating_add(u16::try_from(hash(name) % SPREAD).unwrap_or_default());
    let last = first.saturating_add(u16::try_from(SPREAD).unwrap_or_default());
    for port in (first..=last).filter(|port| !not.contains(port)) {
        match hold(port) {
            Ok(socket) => return Ok(Reserved { port, _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(ReserveError::System { port, error }),
        }
    }
    Err(ReserveError::Taken { first, last })
}

/// Binds to a port of every address, without listening.
fn hold(port: u16) -> io::Result<Socket> {
    let all = [
        (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
    ];
    let mut without = None;
    for (domain, address) in all {
        let socket = match Socket::new(domain, Type::STREAM, Some(Protocol::TCP)) {
            Ok(socket) => socket,
            // A kernel without IPv6.
            Err(error) => {
                without = Some(error);
                continue;
            }
        };
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        // Without SO_REUSEADDR, so that it fails beside any other socket of this port, listening or not.
        match socket.bind(&address.into()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                // IPv6 is there and turned off.
                without = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        }
        // From now on our own listeners, which have it too, may share the port with this socket, as long
        // as it does not listen; another replica's `hold` still may not.
        socket.set_reuse_address(true)?;
        return Ok(socket);
    }
    Err(without.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the algorithm's authors.
    #[test]
    fn fnv_1a() {
        for (text, value) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(hash(text), value, "{text}");
        }
    }
}
