//! The operator: an API proxy on the WireGuard address, its health, and leader election among replicas.
//!
//! ```text
//!  config ─▶ run ─┬─ search ── addresses ─▶ bind ─┬─▶ proxy (apiproxy)      on the WireGuard address
//!                 │                               └─▶ api                   on the WireGuard address
//!                 ├─ users ─── who is who ──────────▲ proxy
//!                 ├─ cluster ─ the API server, and the pod's annotation
//!                 ├─ election ─ who leads
//!                 └─ health, metrics, status.json ◀── what all of them know
//! ```
//!
//! Every part says what it knows in a `watch`; health asks there and never waits. Nothing listens on
//! another address than the interface's, unless somebody gave one explicitly.

#![forbid(unsafe_code)]

mod api;
mod bind;
mod cluster;
pub mod config;
pub mod election;
pub mod health;
pub mod log;
mod metrics;
pub mod node;
mod ports;
mod run;
mod search;
mod serve;
pub mod status;
pub mod users;

pub use cluster::ClusterError;
pub use ports::ReserveError;
pub use run::{RunError, run};
