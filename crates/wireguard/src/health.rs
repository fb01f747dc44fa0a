//! Whether a peer can be reached: how old its keys are, and whether it answers through the tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

/// What is the case with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// How long ago keys were last agreed upon; `None` if never. With traffic it is at most about three
    /// minutes.
    pub handshake_age: Option<Duration>,
    /// How long an echo took, through the tunnel; `None` if there was none in time.
    pub round_trip: Option<Duration>,
}

/// Asks again that often: a packet may be lost, or wait for a handshake.
const AGAIN: Duration = Duration::from_millis(250);

const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;

/// Sends ICMP echo requests by an interface until one is answered, and says how long that one took;
/// `None` if none is within `patience`. In the network namespace of the calling thread, inside of a tokio
/// runtime with I/O and time.
///
/// # Errors
/// If there is no such interface, or without CAP_NET_RAW. That the address cannot be reached is no error.
pub async fn ping(
    interface: &str,
    address: IpAddr,
    patience: Duration,
) -> io::Result<Option<Duration>> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    // Only what comes from there is received.
    socket.connect(&SocketAddr::new(address, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let begin = Instant::now();
    let mut token = [0; 8];
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
    let mut sent = Vec::new();
    let mut buffer = [0; 256];
    while begin.elapsed() < patience {
        let request = request(address, sent.len(), token);
        sent.push(Instant::now());
        // "Unreachable" is an answer, too, but not the last: a handshake may be under way.
        let _ = socket.send(&request).await;
        let until = (Instant::now() + AGAIN).min(begin + patience);
        while let Ok(received) = timeout_at(until.into(), socket.recv(&mut buffer)).await {
            let number = received.ok().and_then(|length| answer(address, &buffer[..length], token));
            if let Some(then) = number.and_then(|number| sent.get(number)) {
                return Ok(Some(then.elapsed()));
            }
        }
    }
    Ok(None)
}

fn request(address: IpAddr, number: usize, token: [u8; 8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = if address.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
    bytes[4..6].copy_from_slice(&token[..2]);
    bytes[6..8].copy_from_slice(&(number as u16).to_be_bytes());
    bytes[8..].copy_from_slice(&token);
    // Of IPv6 the kernel computes it.
    if address.is_ipv4() {
        let sum: u32 =
            bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        bytes[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    bytes
}

/// The number of the request that this answers, if it does.
fn answer(address: IpAddr, bytes: &[u8], token: [u8; 8]) -> Option<usize> {
    let (message, kind) = match address {
        IpAddr::V4(_) => (bytes.get(usize::from(bytes.first()? & 15) * 4..)?, 0),
        IpAddr::V6(_) => (bytes, ECHO_V6 + 1),
    };
    let ours = message.first() == Some(&kind) && message.get(8..16) == Some(&token[..]);
    let number = message.get(6..8).filter(|_| ours)?;
    Some(usize::from(u16::from_be_bytes([number[0], number[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_its_request() {
        let token = [1, 2, 3, 4, 5, 6, 7, 8];
        for address in ["10.0.0.1", "fd00::1"] {
            let address: IpAddr = address.parse().unwrap();
            let mut reply = request(address, 7, token).to_vec();
            reply[0] = if address.is_ipv4() { 0 } else { 129 };
            if address.is_ipv4() {
                let mut whole = vec![0x45; 20];
                whole.append(&mut reply);
                reply = whole;
            }
            assert_eq!(answer(address, &reply, token), Some(7));
            assert_eq!(answer(address, &reply, [0; 8]), None, "somebody else's");
            for length in 0..reply.len() {
                assert_eq!(answer(address, &reply[..length], token), None);
            }
        }
    }
}
