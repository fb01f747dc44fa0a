//! Changes and answers in the kernel's words (include/uapi/linux/wireguard.h).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAllowedIpFlags,
    WireguardAttribute, WireguardCmd, WireguardDeviceFlags, WireguardMessage, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags, WireguardTimeSpec,
};

use crate::config::{Drops, PeerStatus, PeerUpdate, Status, Update};
use crate::key::PublicKey;

/// An attribute has no more than 65,535 bytes, and all peers of a message are one. So many peers and
/// addresses fit for sure: 256 bytes for a peer, 48 for an address.
const WEIGHT: usize = 48_000;
const PEER_WEIGHT: usize = 256;
const ADDRESS_WEIGHT: usize = 48;

/// The messages that make a change, in their order.
pub(super) fn messages(name: &str, update: &Update) -> Vec<WireguardMessage> {
    let mut first = vec![WireguardAttribute::IfName(name.to_owned())];
    if let Some(key) = &update.private_key {
        first.push(WireguardAttribute::PrivateKey(*key.expose()));
    }
    if let Some(port) = update.listen_port {
        first.push(WireguardAttribute::ListenPort(port));
    }
    if let Some(fwmark) = update.fwmark {
        first.push(WireguardAttribute::Fwmark(fwmark));
    }
    if update.replace_peers {
        first.push(WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers));
    }
    let mut messages = vec![first];
    let (mut peers, mut weight) = (Vec::new(), 0);
    for (peer, its) in update.peers.iter().flat_map(parts) {
        if weight + its > WEIGHT {
            put(&mut messages, name, std::mem::take(&mut peers));
            weight = 0;
        }
        weight += its;
        peers.push(peer);
    }
    if !peers.is_empty() {
        put(&mut messages, name, peers);
    }
    let message = |attributes| WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
    messages.into_iter().map(message).collect()
}

/// Puts peers into the first message if it has none, else into another.
fn put(messages: &mut Vec<Vec<WireguardAttribute>>, name: &str, peers: Vec<WireguardPeer>) {
    let has = |attribute: &WireguardAttribute| matches!(attribute, WireguardAttribute::Peers(_));
    match &mut messages[..] {
        [only] if !only.iter().any(has) => only.push(WireguardAttribute::Peers(peers)),
        _ => messages.push(vec![
            WireguardAttribute::IfName(name.to_owned()),
            WireguardAttribute::Peers(peers),
        ]),
    }
}

/// A peer, in parts if it has many addresses; with each part what it weighs.
fn parts(update: &PeerUpdate) -> Vec<(WireguardPeer, usize)> {
    let more = update.allowed_ips.iter().map(|net| address(*net, false));
    let fewer = update.disallowed_ips.iter().map(|net| address(*net, true));
    let addresses: Vec<_> = fewer.chain(more).collect();
    let mut chunks = addresses.chunks((WEIGHT - PEER_WEIGHT) / ADDRESS_WEIGHT);
    let first = chunks.next().unwrap_or_default();
    let mut parts = vec![part(whole(update), first)];
    // What follows is only added to a peer that there is by then.
    let again = || {
        vec![
            WireguardPeerAttribute::PublicKey(*update.public_key.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
        ]
    };
    parts.extend(chunks.map(|chunk| part(again(), chunk)));
    parts
}

fn part(
    mut attributes: Vec<WireguardPeerAttribute>,
    addresses: &[WireguardAllowedIp],
) -> (WireguardPeer, usize) {
    if !addresses.is_empty() {
        attributes.push(WireguardPeerAttribute::AllowedIps(addresses.to_vec()));
    }
    (WireguardPeer(attributes), PEER_WEIGHT + addresses.len() * ADDRESS_WEIGHT)
}

/// A peer but for its addresses.
fn whole(update: &PeerUpdate) -> Vec<WireguardPeerAttribute> {
    let mut flags = WireguardPeerFlags::empty();
    flags.set(WireguardPeerFlags::RemoveMe, update.remove);
    flags.set(WireguardPeerFlags::UpdateOnly, update.update_only);
    flags.set(WireguardPeerFlags::ReplaceAllowedIps, update.replace_allowed_ips);
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(*update.public_key.as_bytes()),
        WireguardPeerAttribute::Flags(flags),
    ];
    if let Some(key) = &update.preshared_key {
        let key = key.as_ref().map_or([0; 32], |key| *key.expose());
        attributes.push(WireguardPeerAttribute::PresharedKey(key));
    }
    if let Some(endpoint) = update.endpoint {
        attributes.push(WireguardPeerAttribute::Endpoint(endpoint));
    }
    if let Some(seconds) = update.persistent_keepalive {
        attributes.push(WireguardPeerAttribute::PersistentKeepalive(seconds));
    }
    attributes
}

fn address(net: IpNet, remove: bool) -> WireguardAllowedIp {
    let family = match net {
        IpNet::V4(_) => WireguardAddressFamily::Ipv4,
        IpNet::V6(_) => WireguardAddressFamily::Ipv6,
    };
    let mut attributes = vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.network()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ];
    if remove {
        attributes.push(WireguardAllowedIpAttr::Flags(WireguardAllowedIpFlags::RemoveMe));
    }
    WireguardAllowedIp(attributes)
}

/// What is the case, of the messages that tell it; a peer with many addresses comes in several.
pub(super) fn status(messages: Vec<WireguardMessage>) -> Status {
    let mut status = Status::default();
    let mut peers: BTreeMap<PublicKey, PeerStatus> = BTreeMap::new();
    for attribute in messages.into_iter().flat_map(|message| message.attributes) {
        match attribute {
            WireguardAttribute::PublicKey(key) => status.public_key = Some(PublicKey::new(key)),
            WireguardAttribute::ListenPort(port) => status.listen_port = port,
            WireguardAttribute::Fwmark(fwmark) => status.fwmark = fwmark,
            WireguardAttribute::Peers(some) => {
                some.into_iter().for_each(|peer| take(&mut peers, peer));
            }
            _ => {}
        }
    }
    status.peers = peers.into_values().collect();
    // The kernel does not say.
    status.drops = Drops::default();
    status
}

fn take(peers: &mut BTreeMap<PublicKey, PeerStatus>, peer: WireguardPeer) {
    let key = peer.0.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(PublicKey::new(*key)),
        _ => None,
    });
    let Some(key) = key else { return };
    let peer_status = peers.entry(key).or_insert(PeerStatus {
        public_key: key,
        has_preshared_key: false,
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        persistent_keepalive: None,
        allowed_ips: Vec::new(),
    });
    for attribute in peer.0 {
        match attribute {
            WireguardPeerAttribute::PresharedKey(key) => {
                peer_status.has_preshared_key = key != [0; 32];
            }
            WireguardPeerAttribute::Endpoint(endpoint) => peer_status.endpoint = Some(endpoint),
            WireguardPeerAttribute::PersistentKeepalive(seconds) => {
                peer_status.persistent_keepalive = (seconds > 0).then_some(seconds);
            }
            WireguardPeerAttribute::LastHandshake(time) => {
                peer_status.last_handshake = since_epoch(time).map(|since| UNIX_EPOCH + since);
            }
            WireguardPeerAttribute::RxBytes(bytes) => peer_status.rx_bytes = bytes,
            WireguardPeerAttribute::TxBytes(bytes) => peer_status.tx_bytes = bytes,
            WireguardPeerAttribute::AllowedIps(addresses) => {
                peer_status.allowed_ips.extend(addresses.iter().filter_map(net));
            }
            _ => {}
        }
    }
}

/// `None` if there was none yet.
fn since_epoch(time: WireguardTimeSpec) -> Option<Duration> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanoseconds = u32::try_from(time.nano_seconds).ok().filter(|nano| *nano < 1_000_000_000)?;
    Some(Duration::new(seconds, nanoseconds)).filter(|since| !since.is_zero())
}

fn net(address: &WireguardAllowedIp) -> Option<IpNet> {
    let ip = address.0.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::IpAddr(ip) => Some(*ip),
        _ => None,
    });
    let length = address.0.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::Cidr(length) => Some(*length),
        _ => None,
    });
    let ip: IpAddr = ip?;
    IpNet::new(ip, length?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{PresharedKey, PrivateKey};

    /// What is said to the kernel, read as if it were its answer.
    fn back(messages: Vec<WireguardMessage>) -> Status {
        status(messages)
    }

    #[test]
    fn what_is_said_is_what_is_meant() {
        let private = PrivateKey::generate();
        let one = PeerUpdate {
            preshared_key: Some(Some(PresharedKey::generate())),
            endpoint: Some("[2001:db8::1]:5".parse().unwrap()),
            persistent_keepalive: Some(25),
            replace_allowed_ips: true,
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..PeerUpdate::new(PublicKey::new([1; 32]))
        };
        let update = Update {
            private_key: Some(private.clone()),
            listen_port: Some(7),
            fwmark: Some(8),
            replace_peers: true,
            peers: vec![one.clone()],
        };
        let messages = messages("wg0", &update);
        let [message] = &messages[..] else { panic!("not one message") };
        assert_eq!(message.attributes[0], WireguardAttribute::IfName("wg0".to_owned()));
        let key = WireguardAttribute::PrivateKey(*private.expose());
        assert!(message.attributes.contains(&key));
        let flags = WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers);
        assert!(message.attributes.contains(&flags));
        let status = back(messages);
        assert_eq!((status.listen_port, status.fwmark), (7, 8));
        let peer = &status.peers[0];
        assert!(peer.has_preshared_key);
        assert_eq!(peer.endpoint, one.endpoint);
        assert_eq!(peer.persistent_keepalive, Some(25));
        assert_eq!(peer.allowed_ips, one.allowed_ips);
        assert_eq!(peer.last_handshake, None);
    }

    /// No attribute is longer than it can be, and nothing is lost or said twice.
    #[test]
    fn much_is_said_in_parts() {
        let net = |number: u32| IpNet::new(IpAddr::V4(number.into()), 32).unwrap();
        let many = PeerUpdate {
            replace_allowed_ips: true,
            allowed_ips: (0..5000).map(net).collect(),
            ..PeerUpdate::new(PublicKey::new([255; 32]))
        };
        let mut peers: Vec<_> = (0..600_u32)
            .map(|number| {
                let mut key = [0; 32];
                key[..4].copy_from_slice(&number.to_le_bytes());
                PeerUpdate {
                    allowed_ips: vec![net(100_000 + number)],
                    ..PeerUpdate::new(PublicKey::new(key))
                }
            })
            .collect();
        peers.push(many.clone());
        let update = Update { replace_peers: true, peers, ..Update::default() };
        let messages = messages("wg0", &update);
        assert!(messages.len() > 5);
        let replaces = |message: &WireguardMessage| {
            message.attributes.iter().any(|a| matches!(a, WireguardAttribute::Flags(_)))
        };
        assert_eq!(messages.iter().filter(|message| replaces(message)).count(), 1);
        assert!(replaces(&messages[0]));
        for message in &messages {
            use rtnetlink::packet_core::Emitable as _;
            assert!(message.buffer_len() < 65_535, "{}", message.buffer_len());
        }
        let status = back(messages);
        assert_eq!(status.peers.len(), 601);
        let all: usize = status.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
        assert_eq!(all, 5600);
        assert_eq!(status.peer(&many.public_key).unwrap().allowed_ips, many.allowed_ips);
    }

    #[test]
    fn removal() {
        let update = PeerUpdate::removal(PublicKey::new([1; 32]));
        let flags = WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe);
        assert!(whole(&update).contains(&flags));
    }
}
