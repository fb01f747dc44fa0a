//! From flags and variables to a `Config`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_wireguard::retry::Retry;

use super::values::{bind_address, boolean, duration, interface, ip, port, seconds, server};
use super::{
    BASES, Cluster, Config, ConfigError, ELECTION_ID, Election, Health, Log, Metrics, Mode, Place,
    Places, Pod, Port, Proxy, STATUS_FILE, StatusFile, TimeEncoding, Token, User, Users, flags,
};

/// What is read from, and what is noticed on the way.
struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    flags: BTreeMap<&'static str, String>,
    places: &'a Places,
    warnings: Vec<String>,
}

pub(super) fn read(
    args: &[String],
    env: &BTreeMap<String, String>,
    places: &Places,
) -> Result<Config, ConfigError> {
    let flags = flags::parse(args)?;
    let mut reader = Reader { env, flags, places, warnings: Vec::new() };
    let pod = reader.pod()?;
    let proxy = reader.proxy(&pod)?;
    let config = Config {
        log: reader.log()?,
        interface: reader.parsed("IFACE_NAME", interface)?.unwrap_or_else(|| "netmaker".to_owned()),
        retry: reader.retry()?,
        health: reader.health(&pod)?,
        metrics: reader.metrics()?,
        cluster: reader.cluster()?,
        election: reader.election(&pod)?,
        status_file: reader.status_file(),
        drain: reader.parsed("DRAIN_TIMEOUT_SECONDS", |text| seconds(text, 0))?.unwrap_or(DRAIN),
        proxy,
        pod,
        warnings: Vec::new(),
    };
    Ok(Config { warnings: reader.warnings, ..config })
}

/// Shorter than the 10 s of grace that the operator's Deployment has, so that the lease is released too.
const DRAIN: Duration = Duration::from_secs(8);

impl Reader<'_> {
    /// A variable; an empty one is not set.
    fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.var(name).map(|value| parse(value).map_err(bad(name, value))).transpose()
    }

    fn flag<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.flags.get(name);
        value.map(|value| parse(value).map_err(bad(&format!("--{name}"), value))).transpose()
    }

    fn warn(&mut self, words: impl Into<String>) {
        self.warnings.push(words.into());
    }

    fn log(&mut self) -> Result<Log, ConfigError> {
        let devel = self.flag("zap-devel", boolean)?.unwrap_or(true);
        let json = self.flag("zap-encoder", |text| match text.to_ascii_lowercase().as_str() {
            "json" => Ok(true),
            "console" => Ok(false),
            _ => Err("expected json or console".to_owned()),
        })?;
        let level = match self.flag("zap-log-level", level)? {
            Some(level) => Some(level),
            // The operator's chart sets it and nothing read it: no reason to refuse to start.
            None => match self.parsed("ZAP_LOG_LEVEL", level) {
                Ok(level) => level,
                Err(error) => {
                    self.warn(format!("{error}; it is ignored"));
                    None
                }
            },
        };
        let usual = if devel { tracing::Level::DEBUG } else { tracing::Level::INFO };
        let time =
            self.flag("zap-time-encoding", |text| match text.to_ascii_lowercase().as_str() {
                "epoch" => Ok(TimeEncoding::Epoch),
                "millis" => Ok(TimeEncoding::Millis),
                "nano" => Ok(TimeEncoding::Nano),
                "iso8601" => Ok(TimeEncoding::Iso8601),
                "rfc3339" => Ok(TimeEncoding::Rfc3339),
                "rfc3339nano" => Ok(TimeEncoding::Rfc3339Nano),
                _ => {
                    Err("expected epoch, millis, nano, iso8601, rfc3339 or rfc3339nano".to_owned())
                }
            })?;
        // Nothing here has stack traces; the flag is accepted, and its value is looked at.
        self.flag("zap-stacktrace-level", |text| match text.to_ascii_lowercase().as_str() {
            "info" | "warn" | "error" | "panic" => Ok(()),
            _ => Err("expected info, error or panic".to_owned()),
        })?;
        Ok(Log {
            json: json.unwrap_or(!devel),
            level: level.unwrap_or(usual),
            time: time.unwrap_or(TimeEncoding::Rfc3339),
        })
    }

    fn retry(&self) -> Result<Retry, ConfigError> {
        let usual = Retry::default();
        let attempts = self.parsed("WIREGUARD_RETRY_MAX_ATTEMPTS", |text| {
            let number = text.parse().ok().filter(|n| (1..=1_000_000).contains(n));
            number.ok_or_else(|| "expected a number from 1 to 1000000".to_owned())
        })?;
        let base = self.parsed("WIREGUARD_RETRY_BASE_DELAY_SECONDS", |text| seconds(text, 1))?;
        let cap = self.parsed("WIREGUARD_RETRY_MAX_DELAY_SECONDS", |text| seconds(text, 1))?;
        Ok(Retry {
            attempts: attempts.unwrap_or(usual.attempts),
            base: base.unwrap_or(usual.base),
            cap: cap.unwrap_or(usual.cap),
        })
    }

    fn pod(&mut self) -> Result<Pod, ConfigError> {
        let name = self.var("POD_NAME").map(str::to_owned);
        let namespace = self
            .var("POD_NAMESPACE")
            .map(str::to_owned)
            .or_else(|| text_of(&self.places.service_account.join("namespace")));
        let host_network = match self.parsed("HOST_NETWORK", boolean)? {
            Some(told) => told,
            None => self.on_host_network(),
        };
        if host_network && name.is_none() {
            self.warn(
                "the pod is on the host network and POD_NAME is not set: ports are the defaults, \
                 and replicas on one node take them from each other",
            );
        }
        Ok(Pod { name, namespace, host_network })
    }

    /// The kubelet says it in the first line of every container's `/etc/hosts` (kubelet:
    /// `managedHostsHeaderWithHostNetwork`). Where that file is another one, a pod whose address is that
    /// of its node is on the host network.
    fn on_host_network(&self) -> bool {
        const MANAGED: &str = "# Kubernetes-managed hosts file";
        let hosts = std::fs::read_to_string(&self.places.hosts).unwrap_or_default();
        match hosts.lines().next().and_then(|line| line.strip_prefix(MANAGED)) {
            Some(rest) => rest.contains("host network"),
            None => {
                matches!((self.var("POD_IP"), self.var("HOST_IP")), (Some(a), Some(b)) if a == b)
            }
        }
    }

    /// A port that was given, or how it is found.
    fn port_or(&self, given: Option<u16>, base: u16, pod: &Pod) -> Port {
        match given {
            Some(port) => Port::Fixed(port),
            None if pod.host_network && pod.name.is_some() => Port::Above(base),
            None => Port::Fixed(base),
        }
    }

    fn health(&mut self, pod: &Pod) -> Result<Option<Health>, ConfigError> {
        const FLAG: &str = "health-probe-bind-address";
        let port = self.parsed("HEALTH_PROBE_PORT", port)?;
        let address = self.flag(FLAG, bind_address)?;
        if let (Some(port), Some(address)) = (port, address)
            && address.is_none_or(|address| address.port != port)
        {
            self.warn(format!(
                "HEALTH_PROBE_PORT={port} holds, and not --{FLAG}={}",
                self.flags[FLAG]
            ));
        }
        Ok(match (port, address) {
            // As in the operator, the variable stands for every address.
            (Some(port), _) => Some(Health { ip: None, port: Port::Fixed(port) }),
            (None, Some(None)) => None,
            (None, Some(Some(address))) => {
                Some(Health { ip: address.ip, port: Port::Fixed(address.port) })
            }
            (None, None) => Some(Health { ip: None, port: self.port_or(None, BASES[0], pod) }),
        })
    }

    fn metrics(&mut self) -> Result<Option<Metrics>, ConfigError> {
        let address = self.flag("metrics-bind-address", bind_address)?.flatten();
        let secure = self.flag("metrics-secure", boolean)?.unwrap_or(true);
        if self.flag("enable-http2", boolean)? == Some(true) {
            self.warn("--enable-http2 means nothing here: metrics are served by HTTP/1.1");
        }
        Ok(address.map(|address| Metrics { address, secure }))
    }

    fn cluster(&mut self) -> Result<Cluster, ConfigError> {
        let flag = self.flags.get("kubeconfig").filter(|path| !path.is_empty()).cloned();
        let told = self.parsed("IN_CLUSTER", boolean)?;
        let var = self.var("KUBECONFIG").map(PathBuf::from);
        if let Some(path) = flag {
            if told == Some(true) {
                self.warn("--kubeconfig holds, and not IN_CLUSTER=true");
            }
            return Ok(Cluster::Kubeconfig(path.into()));
        }
        if told == Some(true) {
            if var.is_some() {
                self.warn("IN_CLUSTER=true holds, and not KUBECONFIG");
            }
            return Ok(Cluster::InCluster);
        }
        if let Some(path) = var {
            return Ok(Cluster::Kubeconfig(path));
        }
        let inside = self.var("KUBERNETES_SERVICE_HOST").is_some()
            && self.places.service_account.join("token").exists();
        if told.is_none() && inside {
            return Ok(Cluster::InCluster);
        }
        let home = self.var("HOME").map(|home| Path::new(home).join(".kube/config"));
        Ok(home.filter(|path| path.exists()).map_or(Cluster::Unknown, Cluster::Kubeconfig))
    }

    fn election(&mut self, pod: &Pod) -> Result<Option<Election>, ConfigError> {
        let flag = self.flag("leader-elect", boolean)?;
        let var = self.parsed("ENABLE_LEADER_ELECTION", boolean)?;
        if let (Some(flag), Some(var)) = (flag, var)
            && flag != var
        {
            self.warn(format!("ENABLE_LEADER_ELECTION={var} holds, and not --leader-elect={flag}"));
        }
        let usual = |name, usual| Ok(self.flag(name, duration)?.unwrap_or(usual));
        let lease = usual("leader-elect-lease-duration", Duration::from_secs(15))?;
        let renew = usual("leader-elect-renew-deadline", Duration::from_secs(10))?;
        let retry = usual("leader-elect-retry-period", Duration::from_secs(2))?;
        // client-go: NewLeaderElector.
        if lease <= renew || renew <= retry.mul_f64(1.2) {
            return Err(ConfigError::Missing(format!(
                "leader election needs lease duration ({lease:?}) > renew deadline ({renew:?}) > 1.2 × \
                 retry period ({retry:?})"
            )));
        }
        if !var.or(flag).unwrap_or(pod.name.is_some()) {
            return Ok(None);
        }
        let told = self.flags.get("leader-election-namespace").cloned();
        let Some(namespace) = told.or_else(|| pod.namespace.clone()) else {
            return Err(ConfigError::Missing(
                "leader election needs a namespace: set POD_NAMESPACE or --leader-election-namespace, \
                 or turn it off with ENABLE_LEADER_ELECTION=false"
                    .to_owned(),
            ));
        };
        let name = self.flags.get("leader-election-id").map_or(ELECTION_ID, String::as_str);
        let who = pod.name.clone().or_else(host_name).unwrap_or_else(|| "holdfast".to_owned());
        let identity = format!("{who}_{}", random());
        Ok(Some(Election { name: name.to_owned(), namespace, identity, lease, renew, retry }))
    }

    fn status_file(&self) -> StatusFile {
        let told = self.flags.get("status-file").map(String::as_str).or(self.var("STATUS_FILE"));
        StatusFile { path: told.unwrap_or(STATUS_FILE).into(), explicit: told.is_some() }
    }

    fn proxy(&mut self, pod: &Pod) -> Result<Option<Proxy>, ConfigError> {
        let mode = self.parsed("PROXY_MODE", |text| match text.to_ascii_lowercase().as_str() {
            "auth" => Ok(Mode::Auth),
            "noauth" => Ok(Mode::NoAuth),
            _ => Err("expected auth or noauth, or nothing for no proxy".to_owned()),
        })?;
        // Looked at in any case: a mistake here should not wait for the proxy to be turned on.
        let place = |ip_name: &str, port_name: &str, base| -> Result<Place, ConfigError> {
            let given = self.parsed(port_name, port)?;
            let port = self.port_or(given, base, pod);
            Ok(Place { ip: self.parsed(ip_name, ip)?, port })
        };
        let proxy = place("PROXY_BIND_IP", "PROXY_PORT", BASES[1])?;
        let api = place("API_BIND_IP", "API_PORT", BASES[2])?;
        let skip = self.parsed("PROXY_SKIP_TLS_VERIFY", boolean)?;
        let peers_only = self.parsed("PROXY_PEERS_ONLY", boolean)?.unwrap_or(false);
        let users = self.users(mode)?;
        let named = self.var("PROXY_IMPERSONATE_USER").map(str::to_owned);
        let groups = list(self.var("PROXY_IMPERSONATE_GROUPS"));
        let accept_hosts = list(self.var("PROXY_ACCEPT_HOSTS")).unwrap_or_default();
        let tls = match (self.var("PROXY_TLS_CERT_FILE"), self.var("PROXY_TLS_KEY_FILE")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => {
                return Err(ConfigError::Missing(
                    "PROXY_TLS_CERT_FILE and PROXY_TLS_KEY_FILE belong together: one is not set"
                        .to_owned(),
                ));
            }
        };
        let Some(mode) = mode else { return Ok(None) };
        for (name, place) in [("PROXY_BIND_IP", &proxy), ("API_BIND_IP", &api)] {
            if let Some(ip) = place.ip.filter(|ip| ip.is_unspecified()) {
                self.warn(format!(
                    "{name}={ip} listens on every address: anybody who reaches this machine or pod \
                     reaches it, not only WireGuard peers"
                ));
            }
        }
        if proxy.ip == api.ip && proxy.port == api.port {
            return Err(ConfigError::Missing(format!(
                "PROXY_PORT and API_PORT are both {}: they listen on the same address",
                proxy.port.base()
            )));
        }
        if peers_only && proxy.ip.is_some() && api.ip.is_some() {
            self.warn(
                "PROXY_PEERS_ONLY means nothing with PROXY_BIND_IP and API_BIND_IP: these addresses may be \
                 of any interface",
            );
        }
        if skip == Some(true) {
            self.warn(
                "PROXY_SKIP_TLS_VERIFY=true is not honoured: certificates are always verified, with \
                 the service account's or kubeconfig's CA",
            );
        }
        if mode == Mode::NoAuth && (named.is_some() || groups.is_some() || users.is_some()) {
            self.warn(
                "PROXY_MODE=noauth: PROXY_IMPERSONATE_* and the mappings of API_SERVER_DOMAIN mean \
                 nothing, since requests keep their own credentials",
            );
        }
        if mode == Mode::NoAuth && tls.is_none() {
            self.warn(
                "PROXY_MODE=noauth without PROXY_TLS_CERT_FILE: kubectl sends no credentials to a \
                 server without TLS, so that everybody is anonymous",
            );
        }
        // Without mappings everybody is nobody in particular; with them, only whom somebody named.
        let unmapped = match (named, &users) {
            (Some(name), _) => Some(name),
            (None, None) => Some("wireguard-peer".to_owned()),
            (None, Some(_)) => None,
        };
        if unmapped.is_none() && groups.is_some() {
            self.warn(
                "PROXY_IMPERSONATE_GROUPS without PROXY_IMPERSONATE_USER: peers without a mapping are \
                 refused, so that nobody gets these groups",
            );
        }
        let groups = groups.unwrap_or_else(|| {
            vec!["system:authenticated".to_owned(), "wireguard-peers".to_owned()]
        });
        let unmapped = unmapped.map(|name| User { name, groups });
        Ok(Some(Proxy { mode, proxy, api, unmapped, tls, peers_only, accept_hosts, users }))
    }

    fn users(&mut self, mode: Option<Mode>) -> Result<Option<Users>, ConfigError> {
        let domain = self.parsed("API_SERVER_DOMAIN", server)?;
        let pro_server = self.parsed("SERVER_HOST", server)?;
        let interval = self
            .parsed("API_SYNC_INTERVAL", |text| seconds(text, 1))?
            .unwrap_or(Duration::from_secs(30));
        let max_age = self.parsed("API_SYNC_MAX_AGE", |text| seconds(text, 1))?;
        let ca_file = self.var("API_CA_FILE").map(PathBuf::from);
        let token = match (self.var("API_TOKEN_FILE"), self.var("API_TOKEN")) {
            (Some(file), text) => {
                let twice = text.is_some();
                let token = Token::File(file.into());
                if twice {
                    self.warn("API_TOKEN_FILE holds, and not API_TOKEN");
                }
                Some(token)
            }
            (None, Some(text)) => Some(Token::Text(text.to_owned())),
            (None, None) => None,
        };
        let Some(server) = domain else {
            if token.is_some() || pro_server.is_some() {
                self.warn(
                    "API_SERVER_DOMAIN is not set: no users are synchronised, and API_TOKEN and \
                     SERVER_HOST mean nothing",
                );
            }
            return Ok(None);
        };
        let Some(token) = token else {
            let words = "API_SERVER_DOMAIN is set, and neither API_TOKEN nor API_TOKEN_FILE: users \
                         cannot be synchronised without a token";
            // Not to be taken for "no mappings": then everybody would be the default user.
            if mode == Some(Mode::Auth) {
                return Err(ConfigError::Missing(words.to_owned()));
            }
            self.warn(words);
            return Ok(None);
        };
        if max_age.is_some_and(|age| age < interval) {
            return Err(ConfigError::Missing(format!(
                "API_SYNC_MAX_AGE is shorter than API_SYNC_INTERVAL ({} s): mappings would expire \
                 before they are asked for again",
                interval.as_secs()
            )));
        }
        let max_age = max_age.unwrap_or((interval * 5).max(Duration::from_secs(300)));
        let pro_server = pro_server.unwrap_or_else(|| server.clone());
        Ok(Some(Users { server, pro_server, token, interval, max_age, ca_file }))
    }
}

fn bad<'a>(name: &'a str, value: &'a str) -> impl FnOnce(String) -> ConfigError + 'a {
    move |cause| ConfigError::Value { name: name.to_owned(), value: value.to_owned(), cause }
}

/// `a, b` is two of them.
fn list(text: Option<&str>) -> Option<Vec<String>> {
    let parts = text?.split(',').map(str::trim).filter(|part| !part.is_empty());
    Some(parts.map(str::to_owned).collect())
}

/// zap's levels; a number is a verbosity of debug messages.
fn level(text: &str) -> Result<tracing::Level, String> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" => Ok(tracing::Level::WARN),
        "error" | "panic" => Ok(tracing::Level::ERROR),
        number => match number.parse::<u8>() {
            Ok(1) => Ok(tracing::Level::DEBUG),
            Ok(2..) => Ok(tracing::Level::TRACE),
            _ => Err("expected debug, info, error, panic or a number above 0".to_owned()),
        },
    }
}

fn text_of(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn host_name() -> Option<String> {
    text_of(Path::new("/proc/sys/kernel/hostname"))
}

/// Differs from start to start. controller-runtime takes a UUID; the kernel has some ready.
pub(crate) fn random() -> String {
    text_of(Path::new("/proc/sys/kernel/random/uuid")).unwrap_or_else(|| {
        // Keyed from the kernel's randomness by the standard library.
        let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
        format!("{number:016x}")
    })
}
