//! Puts the parts together, from the first line of the log to the last.

mod probes;
mod servers;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::bind::Bound;
use crate::cluster::{self, ClusterError, Connection, Reachable};
use crate::config::{Config, Health, Port};
use crate::election::{self, Elected};
use crate::health::{Check, Endpoint, Verdict};
use crate::metrics::{self, Sources};
use crate::ports::{self, ReserveError, Reserved};
use crate::status::{File, Ports, Status};

use servers::Servers;

/// Why the manager ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No port on the node.
    #[error(transparent)]
    Ports(#[from] ReserveError),
    /// Health cannot be served.
    #[error(
        "cannot serve health on {address}: {error}; another replica on this node? \
         (HEALTH_PROBE_PORT, --health-probe-bind-address)"
    )]
    Health {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Metrics cannot be served.
    #[error("cannot serve metrics: {0}")]
    Metrics(String),
    /// The file that was asked for cannot be written.
    #[error("cannot write {path}: {error}", path = path.display())]
    StatusFile {
        /// Its path.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The cluster is needed and cannot be used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// This replica cannot take part in the election.
    #[error(transparent)]
    Election(#[from] election::StartError),
    /// The proxy cannot be made.
    #[error("cannot make the proxy: {0}")]
    Proxy(#[from] holdfast_apiproxy::NewError),
    /// Its certificate cannot be used.
    #[error("cannot use the certificate of PROXY_TLS_CERT_FILE and PROXY_TLS_KEY_FILE: {0}")]
    Tls(#[from] holdfast_apiproxy::TlsError),
    /// The system has no room for signals.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
}

/// The two signals that end it well.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs the manager until SIGTERM or SIGINT, and stops it: what is under way ends, the lease is released.
/// A second signal ends it at once.
///
/// # Errors
/// Only what cannot get better by itself; everything else is a check that fails.
pub async fn run(config: Config) -> Result<(), RunError> {
    // Whoever makes a TLS client takes this one; that there is one already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Before anything else, so that a signal during the start is not one that kills.
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    info!(version = env!("CARGO_PKG_VERSION"), "starting manager");
    for words in &config.warnings {
        warn!("{words}");
    }
    let stop = CancellationToken::new();
    let work = manage(&config, &stop);
    let ended = async {
        let name = signals.next().await;
        info!(signal = name, "Stopping: nothing new is taken, what is under way may end");
        stop.cancel();
        let name = signals.next().await;
        warn!(signal = name, "Ending at once");
    };
    tokio::select! {
        result = work => result,
        () = ended => Ok(()),
    }
}

async fn manage(config: &Config, stop: &CancellationToken) -> Result<(), RunError> {
    let chosen = Chosen::new(config)?;
    let file = status_file(config)?;
    let cluster = match (cluster::connect(&config.cluster).await, &config.proxy, &config.election) {
        (Ok(connection), ..) => Some(connection),
        // Without a proxy and an election nobody needs it.
        (Err(error), None, None) => {
            warn!(%error, "Without the API server: its check is left out");
            None
        }
        (Err(error), ..) => return Err(error.into()),
    };
    let tasks = Tasks::default();
    let servers = match (&config.proxy, &cluster) {
        (Some(proxy), Some(cluster)) => Some(Servers::new(config, proxy, cluster, &chosen.ports)?),
        _ => None,
    };
    let elected = match (&config.election, &cluster) {
        // Nothing is led yet: egress and ingress will be.
        (Some(settings), Some(cluster)) => {
            let client = |adjust| cluster.credentials.client(adjust);
            Some(election::start_with(settings, None, client)?)
        }
        _ => None,
    };
    let mut checks = vec![Check::ping("readyz"), stopping(stop.clone())];
    if let Some(cluster) = &cluster {
        checks.push(watch_api_server(&tasks, cluster, servers.as_ref()));
        let (credentials, proxy) = (Arc::clone(&cluster.credentials), servers.as_ref());
        let proxy = proxy.map(Servers::proxy);
        tasks.spawn(async move { credentials.follow(proxy).await });
    }
    checks.extend(elected.iter().map(Elected::check));
    if let Some(servers) = &servers {
        checks.extend(servers.checks());
    }
    let ready = Arc::new(Endpoint::new("/readyz", checks));
    let health = probes::start(config, &chosen, &ready, &tasks).await?;
    serve_metrics(config, cluster.as_ref(), elected.as_ref(), servers.as_ref(), &tasks)?;
    publish(config, &chosen, health, file, cluster.as_ref(), servers.as_ref(), &tasks);
    if let Some(servers) = &servers {
        servers.start(&ready, stop, &tasks);
    }
    stop.cancelled().await;
    // At the same time: nothing that is led goes on in the proxy's requests, and the next leader need not
    // wait for them.
    let let_go = async {
        if let Some(elected) = elected {
            elected.stop().await;
        }
    };
    let drain = async {
        if let Some(servers) = servers {
            servers.stop(config.drain).await;
        }
    };
    tokio::join!(let_go, drain);
    tasks.end().await;
    info!("Stopped");
    Ok(())
}

/// Everything that runs beside, and ends last.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs it until the end.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Runs it, and lets it see the end for itself.
    pub(crate) fn spawn_to_the_end<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work(self.stop.clone()));
    }

    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The ports, and what holds those of the host network.
pub(crate) struct Chosen {
    pub(crate) ports: Ports,
    /// Whether any of them is not the one that everybody expects.
    hashed: bool,
    _reserved: Vec<Reserved>,
}

impl Chosen {
    fn new(config: &Config) -> Result<Self, ReserveError> {
        let proxy = config.proxy.as_ref();
        let wishes = [
            config.health.map(|health| health.port),
            proxy.map(|proxy| proxy.proxy.port),
            proxy.map(|proxy| proxy.api.port),
        ];
        let fixed = wishes.iter().filter_map(|wish| match wish {
            Some(Port::Fixed(port)) => Some(*port),
            Some(Port::Above(_)) | None => None,
        });
        let fixed: Vec<u16> = fixed.collect();
        let name = config.pod.name.as_deref().unwrap_or_default();
        let mut reserved = Vec::new();
        let mut choose = |wish: Option<Port>| -> Result<Option<u16>, ReserveError> {
            Ok(match wish {
                None => None,
                Some(Port::Fixed(port)) => Some(port),
                Some(Port::Above(base)) => {
                    let taken = ports::reserve(base, name, &fixed)?;
                    let port = taken.port;
                    reserved.push(taken);
                    Some(port)
                }
            })
        };
        let [health, proxy, api] = wishes;
        let ports = Ports { health: choose(health)?, proxy: choose(proxy)?, api: choose(api)? };
        Ok(Self { ports, hashed: !reserved.is_empty(), _reserved: reserved })
    }
}

/// The file, if it can be had; an error only for one that was asked for.
fn status_file(config: &Config) -> Result<Option<File>, RunError> {
    let wish = &config.status_file;
    match File::new(&wish.path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if wish.explicit => Err(RunError::StatusFile { path: wish.path.clone(), error }),
        Err(error) => {
            warn!(
                path = %wish.path.display(), %error,
                "Cannot write the status: `holdfast wait --health` will not find this manager \
                 (--status-file, STATUS_FILE)"
            );
            Ok(None)
        }
    }
}

/// A manager that ends is not ready, so that nothing new comes to it.
fn stopping(stop: CancellationToken) -> Check {
    Check::new("shutdown", move || match stop.is_cancelled() {
        true => Verdict::Failed("the manager is stopping".to_owned()),
        false => Verdict::Ok,
    })
}

fn watch_api_server(tasks: &Tasks, cluster: &Connection, servers: Option<&Servers>) -> Check {
    let reachable = Reachable::default();
    let check = reachable.check();
    let proxy = servers.map(Servers::proxy);
    let cluster = cluster.clone();
    tasks.spawn(async move {
        let ask = move || -> BoxFuture<'static, Result<(), String>> {
            let (proxy, cluster) = (proxy.clone(), cluster.clone());
            Box::pin(async move {
                let answer = match proxy {
                    // The way that requests go, with the proxy's own credential.
                    Some(proxy) => {
                        let asked = proxy.check_upstream(cluster::API_PATIENCE).await;
                        asked.map_err(|error| error.to_string())
                    }
                    None => cluster::answers(&cluster.client).await,
                };
                if answer.is_err() {
                    cluster.credentials.doubt();
                }
                answer
            })
        };
        reachable.keep_asking(ask).await;
    });
    check
}

fn serve_metrics(
    config: &Config,
    cluster: Option<&Connection>,
    election: Option<&Elected>,
    servers: Option<&Servers>,
    tasks: &Tasks,
) -> Result<(), RunError> {
    let Some(metrics) = config.metrics else { return Ok(()) };
    let sources =
        Sources { proxy: servers.map(Servers::proxy), users: servers.and_then(Servers::users) };
    let client = cluster.map(|cluster| cluster.client.clone());
    let serve = metrics::start(metrics, sources, election, client).map_err(RunError::Metrics)?;
    tasks.spawn_to_the_end(serve);
    Ok(())
}

/// Tells everybody who wants to know which ports it has become: the log, the file, the pod.
fn publish(
    config: &Config,
    chosen: &Chosen,
    health: Option<SocketAddr>,
    file: Option<File>,
    cluster: Option<&Connection>,
    servers: Option<&Servers>,
    tasks: &Tasks,
) {
    let mut ports = chosen.ports;
    ports.health = health.map(|address| address.port());
    info!(health = ports.health, proxy = ports.proxy, api = ports.api, "Ports of this replica");
    let pod = &config.pod;
    if let (Some(cluster), Some(name), Some(namespace)) = (cluster, &pod.name, &pod.namespace) {
        let (client, namespace, name) = (cluster.client.clone(), namespace.clone(), name.clone());
        tasks.spawn(async move { cluster::annotate(client, &namespace, &name, ports).await });
    } else if chosen.hashed {
        warn!(
            "The pod is not annotated with its ports: POD_NAMESPACE or the API server is not known"
        );
    }
    let Some(file) = file else { return };
    let status = Status {
        instance: probes::instance().to_owned(),
        pod: pod.name.clone(),
        health,
        ports,
        ..Status::default()
    };
    let bound = servers.map(Servers::bound);
    tasks.spawn(async move { keep_status(&file, status, bound).await });
}

/// Writes the file whenever a listener opens or closes.
async fn keep_status(file: &File, mut status: Status, bound: Option<[watch::Receiver<Bound>; 2]>) {
    let mut bound = bound;
    loop {
        if let Some([proxy, api]) = &mut bound {
            let addresses = |bound: &Bound| match bound {
                Bound::At(addresses) => addresses.clone(),
                Bound::Not(_) => Vec::new(),
            };
            status.proxy = addresses(&proxy.borrow_and_update());
            status.api = addresses(&api.borrow_and_update());
        }
        if let Err(error) = file.write(&status) {
            warn!(%error, "Cannot write the status");
        }
        let changed = match &mut bound {
            Some([proxy, api]) => tokio::select! {
                changed = proxy.changed() => changed,
                changed = api.changed() => changed,
            },
            None => std::future::pending().await,
        };
        if changed.is_err() {
            // The servers have ended: the file stays until the manager has.
            return std::future::pending().await;
        }
    }
}
