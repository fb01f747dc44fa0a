//! What must not get through.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use holdfast_wireguard::{Peer, PeerUpdate, PrivateKey, Update};

use crate::talk::{is_silent, reaches, socket, talk};
use crate::world::{PATIENCE, Pair, can_run, options, peer};

#[test]
fn a_removed_peer_gets_and_gives_nothing() {
    if !can_run("a removed peer") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    reaches(&here, &there, b"first");
    one.update(Update { peers: vec![PeerUpdate::removal(two.key)], ..Update::default() });
    let before = one.status().drops;
    // To it: the answer is that it cannot be reached.
    for address in ["10.44.0.2:9", "[fd44::2]:9"] {
        let address: SocketAddr = address.parse().unwrap();
        let error = a.run(move || TcpStream::connect_timeout(&address, PATIENCE)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{error}");
    }
    here.send_to(b"x", there.local_addr().unwrap()).unwrap();
    one.becomes("dropped", |status| status.drops.without_peer >= before.without_peer + 3);
    // From it: its session is unknown.
    there.send_to(b"y", here.local_addr().unwrap()).unwrap();
    one.becomes("refused", |status| status.drops.invalid > before.invalid);
    is_silent(&there);
    is_silent(&here);
}

#[test]
fn a_wrong_key_gets_nothing() {
    if !can_run("a wrong key") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    // The second takes the first for somebody else, and the first for who it is.
    let stranger = PrivateKey::generate().public();
    let endpoint = format!("192.0.2.1:{}", one.port());
    two.set_peers(&[peer(stranger, 1, Some(&endpoint))]);
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    here.send_to(b"x", there.local_addr().unwrap()).unwrap();
    two.becomes("refused", |status| status.drops.invalid > 0);
    there.send_to(b"y", here.local_addr().unwrap()).unwrap();
    one.becomes("refused", |status| status.drops.invalid > 0);
    is_silent(&here);
    is_silent(&there);
    assert_eq!(one.peer(two.key).last_handshake, None);
    assert_eq!(two.peer(stranger).last_handshake, None);
}

#[test]
fn an_inner_source_that_is_not_its_own() {
    if !can_run("a spoofed source") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    talk(a, "10.44.0.1", b, "10.44.0.2");
    b.ip("addr add 10.44.0.77/32 dev wg0");
    let (here, other) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.77"));
    other.send_to(b"x", here.local_addr().unwrap()).unwrap();
    one.becomes("refused", |status| status.drops.spoofed == 1);
    is_silent(&here);
    // Now it may.
    let more = PeerUpdate {
        allowed_ips: vec!["10.44.0.77/32".parse().unwrap()],
        ..PeerUpdate::new(two.key)
    };
    one.update(Update { peers: vec![more], ..Update::default() });
    reaches(&other, &here, b"y");
}

/// Everything that goes from the first to the second also comes a second time, from elsewhere.
#[test]
fn replayed_packets() {
    if !can_run("replayed packets") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    let relay = socket(b, "192.0.2.2");
    let elsewhere = socket(b, "192.0.2.2");
    let through = relay.local_addr().unwrap();
    let (ours, theirs) = (
        SocketAddr::new("192.0.2.1".parse().unwrap(), one.port()),
        SocketAddr::new("192.0.2.2".parse().unwrap(), two.port()),
    );
    let ending = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ending);
    let thread = thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !end.load(Ordering::SeqCst) {
            let Ok((length, from)) = relay.recv_from(&mut buffer) else { continue };
            let packet = &buffer[..length];
            if from == ours {
                relay.send_to(packet, theirs).unwrap();
                elsewhere.send_to(packet, theirs).unwrap();
            } else {
                relay.send_to(packet, ours).unwrap();
            }
        }
    });
    one.set_peers(&[]);
    one.set_peers(&[peer(two.key, 2, Some(&through.to_string()))]);
    two.set_peers(&[]);
    two.set_peers(&[peer(one.key, 1, None)]);
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    reaches(&here, &there, b"first");
    let drain = |socket: &UdpSocket| while socket.recv(&mut [0; 64]).is_ok() {};
    drain(&there);
    let before = two.status().drops.replayed;
    for number in 0..50_u8 {
        here.send_to(&[number], there.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(there.recv(&mut buffer).expect("a packet is lost"), 1);
        assert_eq!(buffer[0], number, "no packet comes twice");
    }
    two.becomes("refused", |status| status.drops.replayed >= before + 50);
    is_silent(&there);
    // What was replayed does not say where the peer is.
    assert_eq!(two.peer(one.key).endpoint, Some(through));
    ending.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}

/// Nothing that anybody can send ends a device, nor moves a peer.
#[test]
fn rubbish() {
    if !can_run("rubbish") {
        return;
    }
    let Pair { two, a, b, .. } = &Pair::new();
    talk(a, "10.44.0.1", b, "10.44.0.2");
    let before = two.status();
    let attacker = socket(a, "192.0.2.1");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sent = 0;
    for round in 0..4000_usize {
        let mut bytes = vec![0; [0, 1, 3, 4, 16, 31, 32, 64, 92, 148, 149, 1400][round % 12]];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
        if bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[(round / 12 % 6) as u8, 0, 0, 0]);
        }
        attacker.send_to(&bytes, ("192.0.2.2", two.port())).unwrap();
        sent += 1;
        if round % 100 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(sent, 4000);
    talk(a, "10.44.0.1", b, "10.44.0.2");
    let after = two.becomes("refused", |status| status.drops.invalid > before.drops.invalid + 3000);
    assert_eq!(after.peers[0].endpoint, before.peers[0].endpoint);
    assert_eq!(after.peers[0].last_handshake, before.peers[0].last_handshake);
}

/// Who floods with handshakes that it has no key for costs one computation each, up to the limit; then
/// it is asked for a cookie. A peer with a session does not notice.
#[test]
fn a_flood_of_handshakes() {
    if !can_run("a flood of handshakes") {
        return;
    }
    let mut second = options(2);
    second.handshakes_per_second = 20;
    let Pair { one, two, a, b } = &Pair::with(options(1), second);
    talk(a, "10.44.0.1", b, "10.44.0.2");
    // Real first messages of somebody who is no peer, taken from a device of its own.
    let sink = socket(a, "192.0.2.1");
    let stranger = crate::world::Ours::new(
        a,
        holdfast_wireguard::Options { uapi: false, ..holdfast_wireguard::Options::new("wg1") },
    );
    let endpoint = sink.local_addr().unwrap().to_string();
    let target = Peer { allowed_ips: Vec::new(), ..peer(two.key, 2, Some(&endpoint)) };
    stranger.set_peers(&[target]);
    let mut buffer = [0; 256];
    for _ in 0..60 {
        crate::world::runtime().block_on(stranger.device.handshake(two.key)).unwrap();
        // Cookies come there, too.
        while sink.recv(&mut buffer).unwrap() != 148 {}
        sink.send_to(&buffer[..148], ("192.0.2.2", two.port())).unwrap();
    }
    let status = two.becomes("asked for cookies", |status| status.drops.cookies > 0);
    assert!(status.drops.invalid > 0, "before that they were computed: {status:?}");
    assert!(one.peer(two.key).last_handshake.is_some());
    talk(a, "10.44.0.1", b, "10.44.0.2");
}
