//! The test bench itself: clusters come up, work, and leave nothing.
//!
//! Needs root, Debian's apt and Go. Without root the tests are skipped and say so; with `CI` set they fail
//! instead.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test program")]

mod api;
mod beside;
mod candidate;
mod deploy;
mod election;
mod ending;
mod network;
mod node_labels;
mod place;
mod relay;
mod replicas;
mod units;
