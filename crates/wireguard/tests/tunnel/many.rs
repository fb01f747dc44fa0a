//! A hundred peers.

use std::net::UdpSocket;
use std::time::Instant;

use holdfast_wireguard::{Options, Peer};

use crate::talk::{reaches, socket};
use crate::world::{Host, Ours, PATIENCE, can_run, options, peer, wire};

const COUNT: u8 = 100;

/// A hundred devices on one host, each a peer of one on another: all of them shake hands at once, and
/// each gets what is for it.
#[test]
fn a_hundred() {
    if !can_run("a hundred peers") {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    wire(&a, &b);
    let hub = Ours::new(&a, options(200));
    let endpoint = format!("192.0.2.1:{}", hub.port());
    let mut spokes = Vec::new();
    for number in 1..=COUNT {
        let options = Options {
            name: format!("wg{number}"),
            addresses: vec![format!("10.44.0.{number}/32").parse().unwrap()],
            uapi: false,
            ..options(number)
        };
        let spoke = Ours::new(&b, options);
        spoke.set_peers(&[peer(hub.key, 200, Some(&endpoint))]);
        spokes.push(spoke);
    }
    let peers: Vec<Peer> =
        (1..).zip(&spokes).map(|(number, spoke)| peer(spoke.key, number, None)).collect();
    hub.set_peers(&peers);
    let middle = socket(&a, "10.44.0.200");
    let to = middle.local_addr().unwrap();
    let ends: Vec<UdpSocket> = (1..=COUNT)
        .map(|number| {
            let end = socket(&b, &format!("10.44.0.{number}"));
            // All of them lead to the same address.
            let device = nix::sys::socket::sockopt::BindToDevice;
            let name = std::ffi::OsString::from(format!("wg{number}"));
            nix::sys::socket::setsockopt(&end, device, &name).unwrap();
            end
        })
        .collect();
    for (number, end) in (0..).zip(&ends) {
        end.send_to(&[number], to).unwrap();
    }
    let mut seen = vec![false; ends.len()];
    let begin = Instant::now();
    while seen.iter().any(|seen| !seen) {
        assert!(begin.elapsed() < PATIENCE, "{} are missing", seen.iter().filter(|s| !**s).count());
        let mut buffer = [0; 8];
        if let Ok((1, from)) = middle.recv_from(&mut buffer) {
            assert_eq!(
                from.to_string().split(':').next().unwrap(),
                format!("10.44.0.{}", buffer[0] + 1)
            );
            seen[usize::from(buffer[0])] = true;
        }
    }
    for (number, end) in (0_u8..).zip(&ends) {
        reaches(&middle, end, &[number; 100]);
    }
    let status = hub.status();
    assert_eq!(status.peers.len(), usize::from(COUNT));
    assert!(status.peers.iter().all(|peer| peer.last_handshake.is_some() && peer.rx_bytes > 0));
}
