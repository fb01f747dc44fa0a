//! What the manager is told: the only reader of its environment and flags.
//!
//! Names and defaults are those of the Netmaker operator, so that changing the image is enough; where its
//! code and its guides disagree, `docs/manager.md` says which one holds here. An empty variable is one
//! that is not set. A value that makes no sense is an error; settings that contradict each other are
//! warned about, and the safer one holds.

mod flags;
mod read;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_wireguard::retry::Retry;

pub(crate) use read::random;
pub use values::BindAddress;

/// Everything the manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How it logs (`--zap-*`).
    pub log: Log,
    /// The WireGuard interface (`IFACE_NAME`).
    pub interface: String,
    /// How long it is looked for before people are told (`WIREGUARD_RETRY_*`).
    pub retry: Retry,
    /// The proxy and the small API server; `None` if `PROXY_MODE` is not set.
    pub proxy: Option<Proxy>,
    /// Where health is asked for; `None` if `--health-probe-bind-address` is `0`.
    pub health: Option<Health>,
    /// Metrics; `None` unless `--metrics-bind-address` says where.
    pub metrics: Option<Metrics>,
    /// Which pod this is.
    pub pod: Pod,
    /// How the API server is found.
    pub cluster: Cluster,
    /// Leader election, if it is on.
    pub election: Option<Election>,
    /// Where the ports that are really bound are written.
    pub status_file: StatusFile,
    /// How long open requests get to end on a clean stop (`DRAIN_TIMEOUT_SECONDS`).
    pub drain: Duration,
    /// Settings that contradict each other or mean nothing here: one sentence each.
    pub warnings: Vec<String>,
}

/// The format and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `--zap-encoder`: by default `console`, and `json` with `--zap-devel=false`.
    pub json: bool,
    /// `--zap-log-level`, `ZAP_LOG_LEVEL`: from which level on.
    pub level: tracing::Level,
    /// `--zap-time-encoding`.
    pub time: TimeEncoding,
}

/// How points in time are written, by zap's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEncoding {
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// `2026-11-22T01:02:03.000Z`.
    Iso8601,
    /// Milliseconds since 1970, with a fraction.
    Millis,
    /// Nanoseconds since 1970.
    Nano,
    /// `2026-11-22T01:02:03Z`.
    Rfc3339,
    /// The same, with nanoseconds.
    Rfc3339Nano,
}

/// What the proxy does with who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests are made in the name of the peer's user.
    Auth,
    /// Requests keep their own credentials; the proxy has none.
    NoAuth,
}

/// The two servers on the WireGuard address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `PROXY_MODE`.
    pub mode: Mode,
    /// `PROXY_BIND_IP`, `PROXY_PORT`.
    pub proxy: Place,
    /// The small API server: `API_BIND_IP`, `API_PORT`.
    pub api: Place,
    /// `PROXY_IMPERSONATE_USER` and `PROXY_IMPERSONATE_GROUPS`, for peers that no mapping names: if it is
    /// set, or if no mappings are synchronised at all. Else such peers are refused.
    pub unmapped: Option<User>,
    /// `PROXY_TLS_CERT_FILE` and `PROXY_TLS_KEY_FILE`: the listener speaks TLS with these.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `PROXY_PEERS_ONLY`: servers on the interface's addresses take only what comes in by the interface.
    pub peers_only: bool,
    /// `PROXY_ACCEPT_HOSTS`: names that requests may ask for besides its own addresses.
    pub accept_hosts: Vec<String>,
    /// The synchronisation of users; `None` if `API_SERVER_DOMAIN` is not set.
    pub users: Option<Users>,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// An address that was given explicitly, instead of the interface's.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: Port,
}

/// A port, or how one is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// This one: it was given explicitly, or it is the default where pods have addresses of their own.
    Fixed(u16),
    /// On the host network: above this base by the hash of the pod's name.
    Above(u16),
}

impl Port {
    /// The port before any hash.
    #[must_use]
    pub fn base(self) -> u16 {
        match self {
            Self::Fixed(port) | Self::Above(port) => port,
        }
    }
}

/// The server of `/healthz` and `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// `--health-probe-bind-address`; `None` is every address.
    pub ip: Option<IpAddr>,
    /// Its port, `HEALTH_PROBE_PORT`.
    pub port: Port,
}

/// The server of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `--metrics-bind-address`.
    pub address: BindAddress,
    /// `--metrics-secure`: TLS, and only for those whom the API server allows to read `/metrics`.
    pub secure: bool,
}

/// Which pod this is, as far as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `POD_NAME`.
    pub name: Option<String>,
    /// `POD_NAMESPACE`, or the namespace of the service account.
    pub namespace: Option<String>,
    /// Whether it shares the network of its node.
    pub host_network: bool,
}

/// How the API server is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// By the service account that the kubelet gives to a pod.
    InCluster,
    /// By a kubeconfig.
    Kubeconfig(PathBuf),
    /// Nothing says how.
    Unknown,
}

/// Leader election among replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The Lease, `--leader-election-id`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Who we are; random in part, so that a restarted pod is somebody else.
    pub identity: String,
    /// After this time without a renewal others may take the Lease.
    pub lease: Duration,
    /// After this time without success the leader gives up.
    pub renew: Duration,
    /// The time between tries.
    pub retry: Duration,
}

/// Where users come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    /// `API_SERVER_DOMAIN`: host, or host and port.
    pub server: String,
    /// `SERVER_HOST`: who says whether it is Netmaker Pro.
    pub pro_server: String,
    /// How we show who we are.
    pub token: Token,
    /// `API_SYNC_INTERVAL`.
    pub interval: Duration,
    /// `API_SYNC_MAX_AGE`: mappings that could not be confirmed for this long count no more.
    pub max_age: Duration,
    /// `API_CA_FILE`: certificates to trust besides the usual ones.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token.
        f.debug_struct("Users").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// `API_TOKEN`.
    Text(String),
    /// `API_TOKEN_FILE`: read anew each time.
    File(PathBuf),
}

/// Where the ports that are really bound are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// Its path.
    pub path: PathBuf,
    /// Whether somebody asked for it: then it is an error if it cannot be written.
    pub explicit: bool,
}

/// Files that say where we are; tests have their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// What the kubelet writes for every container: `/etc/hosts`.
    pub hosts: PathBuf,
    /// Where the kubelet puts the service account.
    pub service_account: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

/// Why the manager cannot start with what it is told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag that is not understood.
    #[error("flag {arg:?}: {cause}")]
    Flag {
        /// As it was given.
        arg: String,
        /// What is wrong.
        cause: String,
    },
    /// A setting that is not understood.
    #[error("{name}={value:?}: {cause}")]
    Value {
        /// A variable or a flag.
        name: String,
        /// As it was given.
        value: String,
        /// What is wrong, and what would be right.
        cause: String,
    },
    /// A setting that another one needs.
    #[error("{0}")]
    Missing(String),
}

impl Config {
    /// Reads flags and environment.
    ///
    /// # Errors
    /// The first flag or variable that makes no sense, and what would.
    pub fn read(
        args: &[String],
        env: &BTreeMap<String, String>,
        places: &Places,
    ) -> Result<Self, ConfigError> {
        read::read(args, env, places)
    }
}

/// Where `status.json` is unless somebody says otherwise.
pub const STATUS_FILE: &str = "/run/holdfast/status.json";

/// The ports before any hash: health, proxy, API server.
pub const BASES: [u16; 3] = [8081, 8085, 8086];

/// The Lease of the Netmaker operator.
const ELECTION_ID: &str = "3820d23d.netmaker.io";
