//! Packets between programs on hosts.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{Host, PATIENCE};

/// A UDP socket of a host.
pub fn socket(host: &Host, address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = host.run(move || UdpSocket::bind((address, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Sends until it is received, as programs do: the first packets may be lost to a handshake that was lost.
pub fn reaches(from: &UdpSocket, to: &UdpSocket, message: &[u8]) {
    let address = to.local_addr().unwrap();
    let begin = Instant::now();
    let mut buffer = vec![0; 65_536];
    while begin.elapsed() < PATIENCE {
        from.send_to(message, address).unwrap();
        if let Ok((length, source)) = to.recv_from(&mut buffer) {
            assert_eq!(buffer[..length], *message);
            assert_eq!(source, from.local_addr().unwrap());
            return;
        }
    }
    panic!("nothing comes from {} to {address}", from.local_addr().unwrap());
}

/// Packets go to and fro between two hosts.
pub fn talk(a: &Host, one: &str, b: &Host, two: &str) {
    let (one, two) = (socket(a, one), socket(b, two));
    reaches(&one, &two, b"there");
    reaches(&two, &one, b"back");
}

/// A stream of `length` bytes from one host to another; they arrive as they were sent.
pub fn stream(from: &Host, to: &Host, address: &str, length: usize) {
    let address: IpAddr = address.parse().unwrap();
    let listener = to.run(move || TcpListener::bind((address, 0))).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut sender = from.run(move || TcpStream::connect_timeout(&address, PATIENCE)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let byte = |at: usize| (at.wrapping_mul(31) >> 7) as u8;
    let sending = thread::spawn(move || {
        let bytes: Vec<u8> = (0..length).map(byte).collect();
        sender.set_write_timeout(Some(PATIENCE)).unwrap();
        sender.write_all(&bytes).unwrap();
    });
    let mut bytes = Vec::with_capacity(length);
    receiver.read_to_end(&mut bytes).unwrap();
    sending.join().unwrap();
    assert_eq!(bytes.len(), length);
    assert!(bytes.iter().enumerate().all(|(at, got)| *got == byte(at)), "bytes are others");
}

/// Nothing is to be had from a socket.
pub fn is_silent(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
        panic!("{length} bytes came from {from}");
    }
}
