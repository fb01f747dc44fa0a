//! Debian's wireguard-go and wg.

use std::process::Child;
use std::time::{Duration, Instant};

use holdfast_wireguard::{PrivateKey, PublicKey};

use crate::world::{Host, PATIENCE};

/// wireguard-go on a host, as wg0, with the addresses 10.44.0.N and fd44::N.
pub struct WireguardGo {
    child: Child,
    pub key: PublicKey,
}

impl WireguardGo {
    /// `peer` is what follows `[Peer]` in its configuration.
    pub fn start(host: &Host, number: u8, port: u16, peer: &str) -> Self {
        let private = PrivateKey::generate();
        let child = host.start("env LOG_LEVEL=silent wireguard-go -f wg0");
        let go = Self { child, key: private.public() };
        let begin = Instant::now();
        while !host.run(|| std::path::Path::new("/run/wireguard/wg0.sock").exists()) {
            assert!(
                begin.elapsed() < PATIENCE,
                "wireguard-go (Debian: wireguard-go) does not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let configuration = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\n[Peer]\n{peer}\n",
            private.expose_base64()
        );
        host.must("wg setconf wg0 /dev/stdin", &configuration);
        host.ip(&format!("addr add 10.44.0.{number}/24 dev wg0"));
        host.ip(&format!("addr add fd44::{number}/64 dev wg0"));
        host.ip("link set wg0 mtu 1420 up");
        go
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of the peers' lines of `wg show wg0 dump`: key, preshared key, endpoint, allowed addresses,
/// time of handshake, received, sent, keepalive.
pub fn dump(host: &Host) -> Vec<Vec<String>> {
    let text = host.must("wg show wg0 dump", "");
    let words = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().skip(1).map(words).collect()
}
