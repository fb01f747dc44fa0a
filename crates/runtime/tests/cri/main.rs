//! The CRI runtime against a runtime of our own, for what a real one cannot be made to do. Against a
//! real containerd it is tested with the whole program (crate `cli`).

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a test program")]

mod bench;
mod containers;
mod endpoint;
mod fake;
mod images;
mod outages;
mod sandboxes;
