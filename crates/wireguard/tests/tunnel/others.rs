//! Ours and wireguard-go's.

use std::time::{Duration, SystemTime};

use holdfast_wireguard::{PeerUpdate, PresharedKey, Update};

use crate::talk::{reaches, socket, stream, talk};
use crate::tools::{WireguardGo, dump};
use crate::world::{Host, Ours, can_run, options, peer, wire};

/// A host with ours (10.44.0.1), one with wireguard-go (10.44.0.2) that knows where ours is.
struct Both {
    ours: Ours,
    go: WireguardGo,
    a: Host,
    b: Host,
}

const GO_PORT: u16 = 4567;

fn both(underlay: [&str; 2], preshared: Option<&PresharedKey>) -> Both {
    let (a, b) = (Host::new(), Host::new());
    wire(&a, &b);
    let ours = Ours::new(&a, options(1));
    let mut configuration = format!(
        "PublicKey = {}\nAllowedIPs = 10.44.0.1/32, fd44::1/128\nEndpoint = {}:{}\n",
        ours.key,
        underlay[0],
        ours.port()
    );
    if let Some(key) = preshared {
        configuration += &format!("PresharedKey = {}\n", key.expose_base64());
    }
    let go = WireguardGo::start(&b, 2, GO_PORT, &configuration);
    let endpoint = format!("{}:{GO_PORT}", underlay[1]);
    let mut theirs = peer(go.key, 2, Some(&endpoint));
    theirs.preshared_key = preshared.cloned();
    ours.set_peers(&[theirs]);
    Both { ours, go, a, b }
}

fn everything_goes(both: &Both) {
    let Both { ours, go, a, b } = both;
    talk(a, "10.44.0.1", b, "10.44.0.2");
    talk(b, "fd44::2", a, "fd44::1");
    stream(a, b, "10.44.0.2", 4 << 20);
    stream(b, a, "10.44.0.1", 4 << 20);
    stream(a, b, "fd44::2", 1 << 20);
    let peer = ours.peer(go.key);
    assert!(peer.handshake_age().unwrap() < Duration::from_secs(60));
    assert!(peer.rx_bytes > 4 << 20 && peer.tx_bytes > 4 << 20, "{peer:?}");
}

#[test]
fn over_ipv4() {
    if can_run("over IPv4") {
        everything_goes(&both(["192.0.2.1", "192.0.2.2"], None));
    }
}

#[test]
fn over_ipv6_with_a_preshared_key() {
    if can_run("over IPv6") {
        let key = PresharedKey::generate();
        let both = both(["[2001:db8::1]", "[2001:db8::2]"], Some(&key));
        everything_goes(&both);
        // Only one of them has another secret now: no handshake succeeds.
        let other = PresharedKey::generate();
        let update =
            PeerUpdate { preshared_key: Some(Some(other)), ..PeerUpdate::new(both.go.key) };
        both.ours.update(Update { peers: vec![update], ..Update::default() });
        let (one, two) = (socket(&both.a, "10.44.0.1"), socket(&both.b, "10.44.0.2"));
        let before = both.ours.status();
        one.send_to(b"x", two.local_addr().unwrap()).unwrap();
        both.ours.becomes("refused", |status| status.drops.invalid > before.drops.invalid);
        crate::talk::is_silent(&two);
    }
}

/// wireguard-go begins, and ours has no idea where it is until then.
#[test]
fn they_begin() {
    if !can_run("they begin") {
        return;
    }
    let both = both(["192.0.2.1", "192.0.2.2"], None);
    both.ours.set_peers(&[]);
    both.ours.set_peers(&[peer(both.go.key, 2, None)]);
    talk(&both.b, "10.44.0.2", &both.a, "10.44.0.1");
    let endpoint = both.ours.peer(both.go.key).endpoint.unwrap();
    assert_eq!(endpoint.to_string(), format!("192.0.2.2:{GO_PORT}"));
}

/// Each moves to another port, and to another address; the other follows.
#[test]
fn roaming() {
    if !can_run("roaming") {
        return;
    }
    let both = both(["192.0.2.1", "192.0.2.2"], None);
    let Both { ours, go, a, b } = &both;
    let (one, two) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    reaches(&one, &two, b"first");
    b.must("wg set wg0 listen-port 5678", "");
    reaches(&two, &one, b"from another port");
    assert_eq!(ours.peer(go.key).endpoint.unwrap().to_string(), "192.0.2.2:5678");
    b.ip("addr add 192.0.2.3/24 dev wire");
    b.ip("addr del 192.0.2.2/24 dev wire");
    reaches(&two, &one, b"from another address");
    let endpoint = ours.peer(go.key).endpoint.unwrap().to_string();
    assert!(endpoint.starts_with("192.0.2.3:"), "{endpoint}");
    reaches(&one, &two, b"to it");
    // Ours moves.
    ours.update(Update { listen_port: Some(0), ..Update::default() });
    reaches(&one, &two, b"from another port of ours");
    assert_eq!(dump(b)[0][2], format!("192.0.2.1:{}", ours.port()));
    a.ip("addr add 192.0.2.9/24 dev wire");
    a.ip("addr del 192.0.2.1/24 dev wire");
    reaches(&one, &two, b"from another address of ours");
    assert_eq!(dump(b)[0][2], format!("192.0.2.9:{}", ours.port()));
    reaches(&two, &one, b"back");
}

/// Keys are renewed while packets flow, and none is lost.
#[test]
fn rekey() {
    if !can_run("rekey") {
        return;
    }
    let both = both(["192.0.2.1", "192.0.2.2"], None);
    let Both { ours, go, a, b } = &both;
    let (one, two) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    reaches(&one, &two, b"first");
    let mut last = ours.peer(go.key).last_handshake.unwrap();
    for round in 0_u8..12 {
        crate::world::runtime().block_on(ours.device.handshake(go.key)).unwrap();
        for part in 0..20 {
            for (from, to) in [(&one, &two), (&two, &one)] {
                from.send_to(&[round, part], to.local_addr().unwrap()).unwrap();
                let mut buffer = [0; 16];
                let (length, _) = to.recv_from(&mut buffer).expect("a packet is lost");
                assert_eq!(buffer[..length], [round, part]);
            }
        }
        let newer = |time: Option<SystemTime>| time.is_some_and(|time| time > last);
        let status = ours.becomes("renewed", |status| newer(status.peers[0].last_handshake));
        last = status.peers[0].last_handshake.unwrap();
        // wireguard-go answers no more than 50 a second.
        std::thread::sleep(Duration::from_millis(25));
    }
    // And they have the same idea of it.
    let theirs: u64 = dump(b)[0][4].parse().unwrap();
    let ours = last.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(theirs.abs_diff(ours) <= 1, "{theirs} {ours}");
}

/// Under load an initiator has to prove its address first.
#[test]
fn a_cookie() {
    if !can_run("a cookie") {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    wire(&a, &b);
    let mut options = options(1);
    options.handshakes_per_second = 0;
    let ours = Ours::new(&a, options);
    let configuration = format!(
        "PublicKey = {}\nAllowedIPs = 10.44.0.1/32\nEndpoint = 192.0.2.1:{}\n",
        ours.key,
        ours.port()
    );
    let go = WireguardGo::start(&b, 2, GO_PORT, &configuration);
    ours.set_peers(&[peer(go.key, 2, None)]);
    talk(&b, "10.44.0.2", &a, "10.44.0.1");
    assert!(ours.status().drops.cookies > 0);
}
