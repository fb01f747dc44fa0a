//! Credentials that others replace while we run: the authorities (`ca.crt` of the service account), client
//! certificates and what else a kubeconfig says. Token files are read again by those who send them.
//!
//! They are looked at every 10 s, since the kubelet swaps a symbolic link and does not touch the files; and at
//! once when the API server cannot be asked, which may be for that very reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_apiproxy::{Proxy, Upstream};
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;
use tower_service::Service;
use tracing::{info, warn};

use super::{ClusterError, configuration, upstream};
use crate::config::Cluster;

/// How we show the API server who we are, and know it; clients of all kinds go on with what is true now.
pub(crate) struct Credentials {
    cluster: Cluster,
    used: Mutex<Used>,
    /// There is a reason to look.
    doubt: Notify,
}

/// What is in use.
struct Used {
    config: kube::Config,
    upstream: Upstream,
    clients: Vec<(Way, Adjust)>,
}

/// What somebody wants otherwise in the configuration of a client of his own.
type Adjust = Box<dyn Fn(&mut kube::Config) + Send>;

impl Credentials {
    pub(super) fn new(cluster: Cluster, config: kube::Config) -> Result<Self, ClusterError> {
        let upstream = upstream(&config)?;
        let used = Mutex::new(Used { config, upstream, clients: Vec::new() });
        Ok(Self { cluster, used, doubt: Notify::new() })
    }

    /// The way to the API server as it is now.
    pub(crate) fn upstream(&self) -> Upstream {
        self.used().upstream.clone()
    }

    /// A client that is not shared with anybody, and always has the credentials of the moment.
    pub(crate) fn client(
        &self,
        adjust: impl Fn(&mut kube::Config) + Send + 'static,
    ) -> Result<Client, kube::Error> {
        let mut used = self.used();
        let way = Way(Arc::new(ArcSwap::from_pointee(made(&used.config, &adjust)?)));
        used.clients.push((way.clone(), Box::new(adjust)));
        Ok(Client::new(way, &used.config.default_namespace))
    }

    /// Something has failed for which old credentials can be the reason.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Looks again and again, for ever.
    pub(crate) async fn follow(&self, proxy: Option<Proxy>) {
        let mut every = tokio::time::interval(AGAIN);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = String::new();
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.doubt.notified() => {}
            }
            match self.look(proxy.as_ref()).await {
                Ok(changed) => {
                    said.clear();
                    if changed {
                        info!("Credentials for the API server read again");
                    }
                }
                // Half of a pair is there for a moment whenever a pair is replaced: not worth many lines.
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        warn!(
                            error,
                            "Cannot read the credentials for the API server again, keeping the old ones"
                        );
                    }
                    said = error;
                }
            }
        }
    }

    /// Reads them, and gives them to everybody if they are others: to all or, when they cannot be used, to none.
    /// The API server stays the same, whatever a kubeconfig says now.
    async fn look(&self, proxy: Option<&Proxy>) -> Result<bool, ClusterError> {
        let mut config = configuration(&self.cluster).await?;
        let mut used = self.used();
        config.cluster_url = used.config.cluster_url.clone();
        config.tls_server_name = used.config.tls_server_name.clone();
        let upstream = upstream(&config)?;
        if upstream == used.upstream {
            return Ok(false);
        }
        let new: Result<Vec<Client>, kube::Error> =
            used.clients.iter().map(|(_, adjust)| made(&config, adjust)).collect();
        let new = new?;
        if let Some(proxy) = proxy {
            proxy.replace_upstream(&upstream)?;
        }
        for ((way, _), client) in used.clients.iter().zip(new) {
            way.0.store(Arc::new(client));
        }
        used.upstream = upstream;
        used.config = config;
        Ok(true)
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        // Whatever panicked while holding it has replaced all or nothing of what counts.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(config: &kube::Config, adjust: &dyn Fn(&mut kube::Config)) -> Result<Client, kube::Error> {
    let mut config = config.clone();
    adjust(&mut config);
    Client::try_from(config)
}

/// The client of the moment.
#[derive(Clone)]
struct Way(Arc<ArcSwap<Client>>);

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.load_full();
        async move { client.send(request).await }.boxed()
    }
}

/// As often as serving certificates are looked at.
const AGAIN: Duration = Duration::from_secs(10);
