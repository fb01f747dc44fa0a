//! What the proxy is told: plain data, checked when the proxy is made.

use std::path::PathBuf;
use std::time::Duration;

use crate::identity::{SystemNames, Unmapped};
use crate::rules::Hosts;

/// Everything a proxy is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who clients are to the API server.
    pub mode: Mode,
    /// The API server.
    pub upstream: Upstream,
    /// Under which names the proxy may be called.
    pub hosts: Hosts,
    /// How much one peer, and all together, may take.
    pub limits: Limits,
    /// How long is too long.
    pub timeouts: Timeouts,
}

/// Who clients are to the API server. Never changes while a proxy lives, least of all from auth to noauth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The user to whom the peer's address is mapped.
    Auth {
        /// What peers without a mapping are.
        unmapped: Unmapped,
        /// The `system:` names that mappings may carry.
        allowed: SystemNames,
        /// Whether mappings come from a synchronisation: until the first has come, everyone is refused.
        await_mappings: bool,
    },
    /// Who they say, with credentials of their own; the proxy presents none, even if it has some.
    NoAuth,
}

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `https://HOST:PORT`, or `http://` for tests; without a path.
    pub url: String,
    /// PEM of the authorities that may sign the API server's certificate. TLS is always verified.
    pub ca: Vec<u8>,
    /// A client certificate of the proxy; not used in noauth mode.
    pub client: Option<ClientCertificate>,
    /// The proxy's token; not used in noauth mode.
    pub token: Option<Token>,
    /// The name in the certificate, if it is not the URL's host.
    pub server_name: Option<String>,
}

/// A certificate by which the proxy identifies itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM of the certificate and those that signed it.
    pub chain: Vec<u8>,
    /// PEM of the private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// A file that is read again, since the kubelet replaces it (about hourly).
    File(PathBuf),
    /// One that never changes.
    Static(String),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Static(_) => f.debug_tuple("Static").finish_non_exhaustive(),
        }
    }
}

/// How much is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all peers together; more are closed.
    pub connections: usize,
    /// Connections of one peer; more are answered with 429 and closed.
    pub connections_per_peer: usize,
    /// Requests of one peer under way, watches and tunnels included; more are answered with 429.
    pub requests_per_peer: usize,
    /// Bytes of a request's headers; more are answered with 431.
    pub header_bytes: usize,
    /// Number of a request's headers; more are answered with 431.
    pub headers: usize,
    /// Connections to the API server that are kept open while unused, by all threads together.
    pub idle_upstream: usize,
    /// Threads that carry connections; with 0 they are carried by the runtime that serves.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_peer: 2_048,
            requests_per_peer: 2_048,
            header_bytes: 64 << 10,
            headers: 100,
            idle_upstream: 256,
            // More than that is not a proxy's for the peers of one network.
            threads: std::thread::available_parallelism().map_or(1, |count| count.get().min(8)),
        }
    }
}

/// How long is too long. There is none for a request as a whole: watches last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a client has sent the headers of its next request; so also how long an unused connection lasts.
    pub client_headers: Duration,
    /// Until a client's TLS handshake is done.
    pub client_handshake: Duration,
    /// Until a connection to the API server is there, TLS included: else 503.
    pub connect: Duration,
    /// From the end of the request until the API server's headers: else 504. It does not hold for requests
    /// that may be silent for hours (watch, log, exec, attach, port-forward, proxy).
    pub upstream_headers: Duration,
    /// How long a client that expects `100 Continue` is left without: then the body is asked for anyway.
    pub expect_continue: Duration,
    /// How long an unused connection to the API server is kept; the API server itself closes after 90 s.
    pub upstream_idle: Duration,
    /// How long the answer to a refused upgrade may take, before both connections are closed
    /// (apimachinery: `UpgradeAwareHandler`).
    pub refused_upgrade: Duration,
    /// TCP keepalive on both sides: after how long of silence a dead peer is found out.
    pub keepalive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client_headers: Duration::from_secs(90),
            client_handshake: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            // The API server's own limit for such requests is 60 s.
            upstream_headers: Duration::from_secs(75),
            expect_continue: Duration::from_secs(1),
            upstream_idle: Duration::from_secs(60),
            refused_upgrade: Duration::from_secs(10),
            keepalive: Duration::from_secs(120),
        }
    }
}
