//! Our data plane among others' and its own kind, in network namespaces of the tests' own.
//!
//! ```text
//!   Host (a thread: network and mounts of its own)   veth   Host
//!     └─ Device, or wireguard-go ◀────────── UDP ──────────▶  └─ Device, or wireguard-go
//! ```
//! These tests need root, /dev/net/tun, and Debian's wireguard-go and wireguard-tools. Without root they
//! are skipped and say so; with `CI` set they fail instead, as they do whenever anything else is missing.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test program")]

mod kernel;
mod life;
mod many;
mod others;
mod talk;
mod tools;
mod trouble;
mod world;
