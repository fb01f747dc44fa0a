//! Answers.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use super::Everything;
use crate::config::PeerStatus;
use crate::key::PresharedKey;

/// What `get=1` is answered with, but for the `errno` at the end.
#[must_use]
pub fn write(everything: &Everything) -> String {
    let Everything { status, private_key, preshared_keys } = everything;
    let mut text = String::new();
    if let Some(key) = private_key {
        line(&mut text, "private_key", key.expose_hex());
    }
    line(&mut text, "listen_port", status.listen_port);
    if status.fwmark != 0 {
        line(&mut text, "fwmark", status.fwmark);
    }
    let keys = preshared_keys.iter().map(Option::as_ref).chain(std::iter::repeat(None));
    for (peer, key) in status.peers.iter().zip(keys) {
        write_peer(&mut text, peer, key);
    }
    text
}

fn write_peer(text: &mut String, peer: &PeerStatus, preshared: Option<&PresharedKey>) {
    line(text, "public_key", peer.public_key.to_hex());
    if let Some(key) = preshared {
        line(text, "preshared_key", key.expose_hex());
    }
    line(text, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        line(text, "endpoint", endpoint);
    }
    let handshake = peer.last_handshake.and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    let handshake = handshake.unwrap_or_default();
    line(text, "last_handshake_time_sec", handshake.as_secs());
    line(text, "last_handshake_time_nsec", handshake.subsec_nanos());
    line(text, "tx_bytes", peer.tx_bytes);
    line(text, "rx_bytes", peer.rx_bytes);
    line(text, "persistent_keepalive_interval", peer.persistent_keepalive.unwrap_or(0));
    for net in &peer.allowed_ips {
        line(text, "allowed_ip", net);
    }
}

fn line(text: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key}={value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Drops, Status};
    use crate::key::{PrivateKey, PublicKey};

    #[test]
    fn as_wg_reads_it() {
        let peer = PeerStatus {
            public_key: PublicKey::new([1; 32]),
            has_preshared_key: true,
            endpoint: Some("[2001:db8::1]:5".parse().unwrap()),
            last_handshake: Some(UNIX_EPOCH + Duration::new(7, 8)),
            rx_bytes: 1,
            tx_bytes: 2,
            persistent_keepalive: Some(25),
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()],
        };
        let status = Status {
            public_key: None,
            listen_port: 9,
            fwmark: 16,
            peers: vec![peer],
            drops: Drops::default(),
        };
        let text = write(&Everything {
            status,
            private_key: Some(PrivateKey::new([2; 32])),
            preshared_keys: vec![Some(PresharedKey::new([3; 32]))],
        });
        let expected = format!(
            "private_key={}\nlisten_port=9\nfwmark=16\npublic_key={}\npreshared_key={}\n\
             protocol_version=1\nendpoint=[2001:db8::1]:5\nlast_handshake_time_sec=7\n\
             last_handshake_time_nsec=8\ntx_bytes=2\nrx_bytes=1\n\
             persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\n",
            "02".repeat(32),
            "01".repeat(32),
            "03".repeat(32)
        );
        assert_eq!(text, expected);
    }
}
