//! WireGuard interfaces: someone else's (netclient's, tailscale's, wg-quick's), found and followed by
//! rtnetlink events, and our own.
//!
//! ```text
//!   kernel ── events ──▶ ┌────────┐ ── Interface ──▶ watch: who binds to it, waits for it, shows it
//!          ◀─ questions ─│ follow │
//!          ── answers ──▶└────────┘
//!
//!   Update ─────────────▶ ┌────────┐ ◀─▶ the interface ◀─▶ programs
//!   Status ◀──────────────│ Device │
//!   `wg`   ◀─▶ uapi ◀───▶ └────────┘ ◀─▶ UDP ◀─▶ peers
//! ```
//!
//! An interface is a name. What has that name may go, come back as another one, lose its address and get
//! another: [`follow`] says what is the case now, as often as that changes, and never by asking in turns.
//!
//! A [`Device`] is an interface that is made here. It needs nothing but `/dev/net/tun`; `docs/wireguard.md`
//! says what it can and what it costs.

#![forbid(unsafe_code)]

mod allowed;
mod config;
mod device;
mod follow;
mod health;
mod kernel;
mod key;
mod link;
pub mod retry;
pub mod uapi;
mod userspace;

pub use config::{Drops, Peer, PeerStatus, PeerUpdate, Status, Update};
pub use device::{Backend, CreateError, Device, DeviceError, MTU, Options};
pub use follow::{Interface, follow};
pub use health::{Health, ping};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use link::mtu_for;
