//! The operator: an API proxy on the WireGuard address, its health, and leader election among replicas.

#![forbid(unsafe_code)]

pub mod config;
pub mod election;
pub mod health;
pub mod node;
