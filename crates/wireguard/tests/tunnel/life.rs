//! Ours and ours, and the life of a device.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use holdfast_wireguard::{CreateError, Device, Peer, PeerUpdate, PresharedKey, Update};

use crate::talk::{reaches, socket, stream, talk};
use crate::tools::dump;
use crate::world::{Host, Ours, PATIENCE, Pair, can_run, options, peer, runtime, wire};

#[test]
fn both_ways() {
    if !can_run("both ways") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    talk(a, "10.44.0.1", b, "10.44.0.2");
    talk(b, "fd44::2", a, "fd44::1");
    stream(a, b, "10.44.0.2", 16 << 20);
    stream(b, a, "fd44::1", 16 << 20);
    // As large as a packet can be without being cut, one byte more, and as large as a datagram can be.
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    for length in [1392, 1393, 60_000] {
        let message: Vec<u8> = (0..length).map(|at| at as u8).collect();
        reaches(&here, &there, &message);
        reaches(&there, &here, &message);
    }
    let (here, there) = (one.status(), two.status());
    assert!(here.peers[0].tx_bytes > 16 << 20 && there.peers[0].rx_bytes > 16 << 20);
    assert_eq!(here.drops.spoofed + here.drops.replayed + here.drops.unsent, 0, "{here:?}");
}

/// With a secret that only one of them has there is no session; with one that both have, there is.
#[test]
fn preshared_keys() {
    if !can_run("preshared keys") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    let key = PresharedKey::generate();
    let with = |mut peer: Peer| {
        peer.preshared_key = Some(key.clone());
        peer
    };
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    one.set_peers(&[with(peer(two.key, 2, None))]);
    here.send_to(b"x", there.local_addr().unwrap()).unwrap();
    one.becomes("refused", |status| status.drops.invalid > 0);
    crate::talk::is_silent(&there);
    two.set_peers(&[with(peer(one.key, 1, None))]);
    reaches(&there, &here, b"y");
    assert!(one.peer(two.key).has_preshared_key);
}

/// A path that is narrower than the tunnel's packets: they are cut, not lost.
#[test]
fn a_narrow_path() {
    if !can_run("a narrow path") {
        return;
    }
    let pair = Pair::new();
    let Pair { a, b, .. } = &pair;
    for host in [a, b] {
        host.ip("link set wire mtu 1300");
    }
    talk(a, "10.44.0.1", b, "10.44.0.2");
    stream(a, b, "10.44.0.2", 1 << 20);
    stream(b, a, "10.44.0.1", 1 << 20);
    let endpoint = pair.one.status().peers[0].endpoint.unwrap();
    let mtu = a.run(move || holdfast_wireguard::mtu_for([endpoint]));
    assert_eq!(mtu, 1280, "IPv6 takes no less");
}

/// Peers come, go and change while others' packets flow.
#[test]
fn changes_while_packets_flow() {
    if !can_run("changes while packets flow") {
        return;
    }
    let Pair { one, two, a, b } = &Pair::new();
    let (here, there) = (socket(a, "10.44.0.1"), socket(b, "10.44.0.2"));
    reaches(&here, &there, b"first");
    let handshake = one.peer(two.key).last_handshake;
    for number in 0..100_u8 {
        let other = holdfast_wireguard::PublicKey::new([number + 1; 32]);
        let added = Peer {
            allowed_ips: vec![format!("10.99.0.{number}/32").parse().unwrap()],
            ..peer(other, 9, Some("192.0.2.77:1"))
        };
        let stays = peer(two.key, 2, Some("192.0.2.66:6"));
        let both = [stays, added];
        one.set_peers(if number % 2 == 0 { &both } else { &both[..1] });
        here.send_to(&[number], there.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(there.recv(&mut buffer).expect("a packet is lost"), 1);
        assert_eq!(buffer[0], number);
    }
    assert_eq!(one.status().peers.len(), 1);
    // The same session, and the peer is where it was heard from.
    assert_eq!(one.peer(two.key).last_handshake, handshake);
    assert_eq!(
        one.peer(two.key).endpoint.unwrap().to_string(),
        format!("192.0.2.2:{}", two.port())
    );
}

#[test]
fn wg_show_and_wg_set() {
    if !can_run("wg show and wg set") {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    wire(&a, &b);
    let mut first = options(1);
    first.listen_port = 4321;
    let device = a.device(first);
    let two = Ours::new(&b, options(2));
    // All of it by `wg`.
    let private = holdfast_wireguard::PrivateKey::generate();
    let key = private.public();
    a.must("wg set wg0 private-key /dev/stdin", &private.expose_base64());
    two.set_peers(&[peer(key, 1, None)]);
    let words = format!(
        "wg set wg0 fwmark 0x10 peer {} allowed-ips 10.44.0.2/32,fd44::2/128 endpoint \
         192.0.2.2:{} persistent-keepalive 25",
        two.key,
        two.port()
    );
    a.must(&words, "");
    talk(&a, "10.44.0.1", &b, "10.44.0.2");
    assert_eq!(a.must("wg show interfaces", "").trim(), "wg0");
    assert_eq!(a.must("wg show wg0 public-key", "").trim(), key.to_string());
    assert_eq!(a.must("wg show wg0 listen-port", "").trim(), "4321");
    assert_eq!(a.must("wg show wg0 fwmark", "").trim(), "0x10");
    let lines = dump(&a);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0][0], two.key.to_string());
    assert_eq!(lines[0][2], format!("192.0.2.2:{}", two.port()));
    assert_eq!(lines[0][3], "10.44.0.2/32,fd44::2/128");
    assert!(lines[0][4].parse::<u64>().unwrap() > 1_700_000_000, "{lines:?}");
    assert!(lines[0][5].parse::<u64>().unwrap() > 0 && lines[0][6].parse::<u64>().unwrap() > 0);
    assert_eq!(lines[0][7], "25");
    assert!(a.must("wg show wg0", "").contains("latest handshake: "));
    // What it writes it also reads, and changes nothing by that.
    let configuration = a.must("wg showconf wg0", "");
    assert!(configuration.contains(&private.expose_base64()));
    let before = runtime().block_on(device.status()).unwrap();
    a.must("wg syncconf wg0 /dev/stdin", &configuration);
    let after = runtime().block_on(device.status()).unwrap();
    assert_eq!(before.peers[0].last_handshake, after.peers[0].last_handshake);
    // Another configuration is another: nothing is left of what was before.
    let secret = PresharedKey::generate().expose_base64();
    a.must(&format!("wg set wg0 peer {} preshared-key /dev/stdin", two.key), &secret);
    a.must("wg setconf wg0 /dev/stdin", &configuration);
    let status = runtime().block_on(device.status()).unwrap();
    assert!(!status.peers[0].has_preshared_key);
    a.must(&format!("wg set wg0 peer {} remove", two.key), "");
    assert!(runtime().block_on(device.status()).unwrap().peers.is_empty());
    // A port that is taken is refused, and nothing changes.
    let taken = a.run(|| std::net::UdpSocket::bind("0.0.0.0:4322")).unwrap();
    let output = a.program("wg set wg0 listen-port 4322", "");
    assert!(!output.status.success());
    assert_eq!(a.must("wg show wg0 listen-port", "").trim(), "4321");
    drop(taken);
    // There, where its socket is.
    a.run(move || drop(device));
    assert!(!a.run(|| Path::new("/run/wireguard/wg0.sock").exists()));
    assert!(!a.program("ip link show wg0", "").status.success(), "the interface is still there");
}

/// A peer is well as long as it answers through the tunnel.
#[test]
fn health() {
    if !can_run("health") {
        return;
    }
    let Pair { one, two, a, b: _b } = Pair::new();
    let Ours { device, .. } = one;
    let key = two.key;
    let (device, first) = a.wait(async move {
        let probe = async |address: &str, patience| {
            let patience = Duration::from_millis(patience);
            device.health(key, address.parse().unwrap(), patience).await.unwrap()
        };
        let all = [probe("10.44.0.2", 20_000).await, probe("fd44::2", 20_000).await];
        (device, all)
    });
    for health in first {
        assert!(health.handshake_age.is_some() && health.round_trip.is_some(), "{health:?}");
    }
    two.set_peers(&[]);
    let lost = a.wait(async move {
        let patience = Duration::from_millis(600);
        device.health(key, "10.44.0.2".parse().unwrap(), patience).await.unwrap()
    });
    assert!(lost.handshake_age.is_some() && lost.round_trip.is_none(), "{lost:?}");
}

/// Somebody removes the interface.
#[test]
fn the_interface_is_removed() {
    if !can_run("the interface is removed") {
        return;
    }
    let a = Host::new();
    let device = a.device(options(1));
    let mut ended = device.ended();
    assert!(ended.borrow().is_none());
    a.ip("link del wg0");
    let waiting = async {
        tokio::time::timeout(PATIENCE, ended.wait_for(Option::is_some))
            .await
            .unwrap()
            .unwrap()
            .clone()
    };
    let why = runtime().block_on(waiting);
    assert!(why.unwrap().contains("removed"));
    let error = runtime().block_on(device.status()).unwrap_err();
    assert!(error.to_string().contains("wg0"), "{error}");
    drop(device);
    // Another one of that name can be had at once.
    a.device(options(1));
}

#[test]
fn what_is_taken_is_refused() {
    if !can_run("what is taken") {
        return;
    }
    let a = Host::new();
    let device = a.device(options(1));
    let create = |options| a.wait(async move { Device::create(&options).await }).map(drop);
    let error = create(options(1)).unwrap_err();
    assert!(matches!(error, CreateError::Tun { .. }), "{error}");
    let port = runtime().block_on(device.status()).unwrap().listen_port;
    let other = holdfast_wireguard::Options { listen_port: port, ..options(2) };
    let error =
        create(holdfast_wireguard::Options { name: "wg1".to_owned(), ..other }).unwrap_err();
    let CreateError::Listen { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
    assert!(!a.program("ip link show wg1", "").status.success(), "something is left of it");
}

/// Without traffic a peer is kept alive if that is wanted; a device without peers does nothing at all.
#[test]
fn keepalive() {
    if !can_run("keepalive") {
        return;
    }
    let Pair { one, two, a: _a, b: _b } = &Pair::new();
    let keep = PeerUpdate { persistent_keepalive: Some(1), ..PeerUpdate::new(two.key) };
    one.update(Update { peers: vec![keep], ..Update::default() });
    // Nobody sends anything: the handshake, and then one empty packet a second.
    let first = two.becomes("alive", |status| status.peers[0].last_handshake.is_some());
    let received = first.peers[0].rx_bytes;
    two.becomes("kept alive", |status| status.peers[0].rx_bytes >= received + 2 * 32);
    let off = PeerUpdate { persistent_keepalive: Some(0), ..PeerUpdate::new(two.key) };
    one.update(Update { peers: vec![off], ..Update::default() });
    let sent = one.peer(two.key).tx_bytes;
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(one.peer(two.key).tx_bytes, sent, "it goes on");
}
