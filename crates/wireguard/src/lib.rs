//! WireGuard interfaces. Now: someone else's (netclient's, tailscale's, wg-quick's), found and followed
//! by rtnetlink events.
//!
//! ```text
//!   kernel ── events ──▶ ┌────────┐ ── Interface ──▶ watch: who binds to it, waits for it, shows it
//!          ◀─ questions ─│ follow │
//!          ── answers ──▶└────────┘
//! ```
//!
//! An interface is a name. What has that name may go, come back as another one, lose its address and get
//! another: [`follow`] says what is the case now, as often as that changes, and never by asking in turns.

#![forbid(unsafe_code)]

mod follow;
pub mod retry;

pub use follow::{Interface, follow};
