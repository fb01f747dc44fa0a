//! The socket that `wg` talks to: the cross-platform interface of userspace WireGuard
//! (<https://www.wireguard.com/xplatform/>), at `/var/run/wireguard/NAME.sock`.
//!
//! ```text
//!   wg show wg0 ──▶ get=1 ⏎⏎                    ──▶ status ──▶ public_key=… ⏎ … errno=0 ⏎⏎
//!   wg set wg0 … ─▶ set=1 ⏎ public_key=… ⏎ … ⏎⏎ ──▶ update ──▶ errno=0 ⏎⏎
//! ```

mod request;
mod response;
mod server;

pub use request::{Request, RequestError, parse};
pub use response::write;
pub use server::{Answerer, Server, ServerError, socket_path};

/// What `get=1` tells: the status, and the secrets that `wg showconf` wants to know.
#[derive(Clone, Debug)]
pub struct Everything {
    /// What is the case.
    pub status: crate::config::Status,
    /// The secret that the device is.
    pub private_key: Option<crate::key::PrivateKey>,
    /// The secrets shared with peers, in the order of the peers.
    pub preshared_keys: Vec<Option<crate::key::PresharedKey>>,
}
