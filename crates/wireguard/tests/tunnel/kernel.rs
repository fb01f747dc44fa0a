//! The kernel's WireGuard, told and asked by us, with our own data plane as its peer.
//!
//! Where the kernel has none these tests hold that this is found out; `cargo xtask vm wireguard` runs
//! them on a kernel that has it.

use holdfast_wireguard::{
    Backend, CreateError, Device, Options, Peer, PeerUpdate, PresharedKey, PublicKey, Update,
};

use crate::talk::{is_silent, reaches, socket, stream, talk};
use crate::world::{Host, Ours, can_run, options, peer, runtime, wire};

fn kernels(number: u8) -> Options {
    Options { backend: Backend::Kernel, ..options(number) }
}

/// Whether the kernel has WireGuard; where it must, or must not be thought to, that is held.
fn has_kernel(host: &Host) -> bool {
    let options = kernels(1);
    let device = host.wait(async move { Device::create(&options).await });
    match device {
        Ok(device) => {
            assert_eq!(device.backend(), Backend::Kernel);
            true
        }
        Err(CreateError::NoKernel) => {
            assert!(std::env::var_os("HOLDFAST_VM").is_none(), "the machine's kernel has one");
            assert!(!host.program("ip link show wg0", "").status.success());
            let automatic = host.device(Options { backend: Backend::Auto, ..kernels(1) });
            assert_eq!(automatic.backend(), Backend::Userspace);
            false
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

#[test]
fn with_the_kernels() {
    if !can_run("with the kernel's") {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    if !has_kernel(&a) {
        return;
    }
    assert!(!a.program("ip link show wg0", "").status.success(), "it is left behind");
    wire(&a, &b);
    let mut first = kernels(1);
    first.listen_port = 4321;
    let (kernel, ours) = (Ours::new(&a, first), Ours::new(&b, options(2)));
    let secret = PresharedKey::generate();
    let with = |mut peer: Peer| {
        peer.preshared_key = Some(secret.clone());
        peer
    };
    let endpoint = format!("192.0.2.2:{}", ours.port());
    kernel.set_peers(&[with(peer(ours.key, 2, Some(&endpoint)))]);
    ours.set_peers(&[with(peer(kernel.key, 1, None))]);
    talk(&a, "10.44.0.1", &b, "10.44.0.2");
    talk(&b, "fd44::2", &a, "fd44::1");
    stream(&a, &b, "10.44.0.2", 2 << 20);
    stream(&b, &a, "fd44::1", 2 << 20);
    let status = kernel.status();
    assert_eq!(status.public_key, Some(kernel.key));
    assert_eq!(status.listen_port, 4321);
    let told = kernel.peer(ours.key);
    assert!(told.has_preshared_key && told.handshake_age().unwrap().as_secs() < 60);
    assert!(told.rx_bytes > 2 << 20 && told.tx_bytes > 2 << 20, "{told:?}");
    assert_eq!(told.endpoint.unwrap().to_string(), endpoint);
    assert_eq!(told.allowed_ips.len(), 2);
    // Ours moves, and the kernel follows.
    let (here, there) = (socket(&a, "10.44.0.1"), socket(&b, "10.44.0.2"));
    ours.update(Update { listen_port: Some(0), ..Update::default() });
    reaches(&there, &here, b"from another port");
    assert_eq!(kernel.peer(ours.key).endpoint.unwrap().port(), ours.port());
    // Told where it was, the kernel keeps to where it was heard from.
    kernel.set_peers(&[with(peer(ours.key, 2, Some(&endpoint)))]);
    reaches(&here, &there, b"to it");
    // Keys are renewed by us, the kernel answers; and by the kernel, when a peer is new to it.
    let before = kernel.peer(ours.key).last_handshake;
    runtime().block_on(ours.device.handshake(kernel.key)).unwrap();
    kernel.becomes("renewed", |status| status.peers[0].last_handshake > before);
    reaches(&there, &here, b"y");
    // Nothing goes to one that is removed.
    kernel.update(Update { peers: vec![PeerUpdate::removal(ours.key)], ..Update::default() });
    there.send_to(b"x", here.local_addr().unwrap()).unwrap();
    is_silent(&here);
    assert!(kernel.status().peers.is_empty());
}

/// More than one message to the kernel holds, and than one of its answers.
#[test]
fn many_peers_of_the_kernels() {
    if !can_run("many peers of the kernel's") {
        return;
    }
    let a = Host::new();
    if !has_kernel(&a) {
        return;
    }
    let device = Ours::new(&a, kernels(1));
    let mut peers: Vec<Peer> = (0..700_u16)
        .map(|number| {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            let [high, low] = number.to_be_bytes();
            let net = format!("10.{}.{low}.0/24", 100 + high);
            Peer {
                allowed_ips: vec![net.parse().unwrap()],
                ..peer(PublicKey::new(key), 9, Some("192.0.2.9:9"))
            }
        })
        .collect();
    peers[350].allowed_ips =
        (0..3000_u32).map(|n| format!("11.0.{}.{}/32", n >> 8, n & 255).parse().unwrap()).collect();
    device.set_peers(&peers);
    let status = device.status();
    assert_eq!(status.peers.len(), 700);
    let all: usize = status.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
    assert_eq!(all, 699 + 3000);
    device.set_peers(&peers[..1]);
    assert_eq!(device.status().peers.len(), 1);
    // There is one of that name.
    let again = kernels(1);
    let error = a.wait(async move { Device::create(&again).await }).map(drop).unwrap_err();
    assert!(matches!(error, CreateError::Kernel { .. }), "{error}");
    drop(device);
    assert!(!a.program("ip link show wg0", "").status.success(), "it is left behind");
}
