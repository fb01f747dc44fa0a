//! A proxy to a Kubernetes API server: header rules as pure functions, and the connections around them.
//!
//! ```text
//! client ── server ── rules::forward ── upstream ── API server
//!             │            │
//!          peers.rs    identity.rs        (who is it, how much may it take)
//! ```
//!
//! A [`Proxy`] lives as long as the program; listeners come and go ([`Proxy::serve`]). The identities of
//! peers are replaced as a whole from outside ([`Proxy::replace_identities`]), and sessions of peers that
//! are someone else then end at once.

#![forbid(unsafe_code)]

mod config;
mod identity;
mod refusal;
mod request_info;
pub mod rules;
mod server;
mod upstream;

pub use config::{ClientCertificate, Config, Limits, Mode, Timeouts, Token, Upstream};
pub use identity::{Identity, IdentityError, Impersonation, SystemNames, Unmapped};
pub use refusal::Refusal;
pub use request_info::RequestInfo;
pub use rules::Hosts;
pub use server::{CheckError, Counters, Drained, NewError, Proxy, ServingTls, Snapshot};
pub use upstream::{TlsError, UpstreamError};
