//! Listeners, connections, and the end of both.

mod audit;
mod connection;
mod counters;
mod handler;
mod lanes;
mod peers;
mod reply;
mod tls;
mod tunnel;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, Limits, Mode, Timeouts};
use crate::identity::{
    Identity, IdentityError, IdentityTable, Impersonation, Unmapped, valid_until,
};
use crate::rules::Hosts;
use crate::upstream::{Sending, Sent, Upload, Upstream, UpstreamError};

pub use counters::{Counters, Snapshot};
pub use tls::ServingTls;

/// A proxy to one API server. Clones are the same proxy; when the last of them is dropped, its connections are cut.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    lanes: Arc<lanes::Lanes>,
}

/// What requests share.
pub(crate) struct Shared {
    mode: Mode,
    hosts: Hosts,
    limits: Limits,
    timeouts: Timeouts,
    upstream: ArcSwap<Upstream>,
    identities: ArcSwap<IdentityTable>,
    /// Held while identities are replaced and sessions ended, so that replacements do not overtake.
    replacing: Mutex<()>,
    replaced: Arc<Notify>,
    watched: AtomicBool,
    dropped: Dropped,
    peers: Arc<peers::Peers>,
    counters: Counters,
    /// Connections and tunnels.
    tasks: TaskTracker,
    /// Nothing new; what is under way is finished.
    drain: CancellationToken,
    /// Watches end now.
    cut: CancellationToken,
    /// Everything ends now.
    kill: CancellationToken,
}

/// Why a proxy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The default user cannot be used.
    #[error("the default user of peers without a mapping cannot be used: {0}")]
    Unmapped(#[from] IdentityError),
    /// The API server cannot be used as configured.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// There are no threads for its connections.
    #[error("cannot start the proxy's threads: {0}; is there a limit on processes or open files?")]
    Threads(#[source] std::io::Error),
}

/// Why the API server is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
    /// No answer.
    #[error("{0}")]
    Unanswered(String),
    /// The proxy's own credential is not accepted.
    #[error(
        "the API server does not accept the proxy's credential ({0}): is the token current, is the client certificate signed by its CA?"
    )]
    Refused(StatusCode),
    /// It is not ready.
    #[error("the API server says {0} to /readyz")]
    NotReady(StatusCode),
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and tunnels that had not ended by themselves at the deadline.
    pub cut: usize,
}

impl Proxy {
    /// A proxy without listeners.
    ///
    /// # Errors
    ///
    /// If what `config` says cannot be used; nothing is connected to yet.
    pub fn new(config: Config) -> Result<Self, NewError> {
        let Config { mode, upstream, hosts, limits, timeouts } = config;
        let anonymous = mode == Mode::NoAuth;
        let identities = match &mode {
            Mode::NoAuth => IdentityTable::initial(None, true),
            Mode::Auth { unmapped, allowed, await_mappings } => {
                let unmapped = match unmapped {
                    Unmapped::Refuse => None,
                    Unmapped::As(identity) => {
                        Some(Arc::new(Impersonation::new(identity.clone(), allowed)?))
                    }
                };
                IdentityTable::initial(unmapped, *await_mappings)
            }
        };
        let kill = CancellationToken::new();
        let upstream = Upstream::new(&upstream, anonymous, &limits, &timeouts)?;
        Ok(Self {
            lanes: Arc::new(lanes::Lanes::start(limits.threads).map_err(NewError::Threads)?),
            shared: Arc::new(Shared {
                upstream: ArcSwap::from_pointee(upstream),
                identities: ArcSwap::from_pointee(identities),
                mode,
                hosts,
                limits,
                timeouts,
                replacing: Mutex::default(),
                replaced: Arc::default(),
                watched: AtomicBool::new(false),
                dropped: Dropped(kill.child_token()),
                peers: peers::Peers::new(kill.clone()),
                counters: Counters::default(),
                tasks: TaskTracker::new(),
                drain: CancellationToken::new(),
                cut: CancellationToken::new(),
                kill,
            }),
        })
    }

    /// Who peers are from now on, all of them at once: who is not in `mappings` is unmapped. Sessions of peers
    /// that are someone else now, or nobody, end. Unless replaced again within `age_limit`, everyone is refused
    /// and all sessions end.
    ///
    /// Returns the mappings that cannot be used; these peers are refused.
    pub fn replace_identities(
        &self,
        mappings: HashMap<IpAddr, Identity>,
        age_limit: Option<Duration>,
    ) -> Vec<(IpAddr, IdentityError)> {
        let allowed = match &self.shared.mode {
            Mode::NoAuth => return Vec::new(),
            Mode::Auth { allowed, .. } => allowed,
        };
        let now = Instant::now();
        let _one_at_a_time = self.shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shared.identities.load_full();
        let new = Arc::new(old.successor(mappings, allowed, valid_until(now, age_limit)));
        let refused = new.refused();
        self.shared.identities.store(Arc::clone(&new));
        // Sessions that began before this see the old table, and are registered.
        self.shared.end_sessions(|peer| !old.same(&new, peer, now));
        self.shared.replaced.notify_one();
        refused
    }

    /// Another way to the API server, or other credentials, for requests from now on.
    ///
    /// # Errors
    ///
    /// If it cannot be used; then the old one stays.
    pub fn replace_upstream(&self, upstream: &config::Upstream) -> Result<(), UpstreamError> {
        let shared = &self.shared;
        let anonymous = shared.mode == Mode::NoAuth;
        let new = Upstream::new(upstream, anonymous, &shared.limits, &shared.timeouts)?;
        shared.upstream.store(Arc::new(new));
        Ok(())
    }

    /// Accepts connections until `stop` or [`Proxy::drain`]. Connections live on when it returns.
    ///
    /// The future must be polled in a tokio runtime with IO and time.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<ServingTls>,
        stop: CancellationToken,
    ) {
        self.serve_at(listener, tls, stop, CancellationToken::new()).await;
    }

    /// The same on an address that may go: the connections that came by it, and all that came of them, end when
    /// it is `gone`, also after this has returned.
    pub async fn serve_at(
        &self,
        listener: TcpListener,
        tls: Option<ServingTls>,
        stop: CancellationToken,
        gone: CancellationToken,
    ) {
        let shared = &self.shared;
        if shared.mode == Mode::NoAuth && tls.is_none() {
            tracing::warn!(
                "The proxy listens without TLS in noauth mode: kubectl sends no credentials to http:// servers"
            );
        }
        if !shared.watched.swap(true, Ordering::Relaxed) {
            let (dropped, replaced) = (shared.dropped.0.clone(), Arc::clone(&shared.replaced));
            tokio::spawn(watch_age(Arc::downgrade(shared), replaced, dropped));
        }
        let until_stopped = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = shared.drain.cancelled() => {}
            }
        };
        let accept = connection::accept(shared, &self.lanes, &listener, tls.as_ref(), &gone);
        tokio::select! {
            () = until_stopped => {}
            () = accept => {}
        }
    }

    /// Ends well: nothing new is accepted, requests under way are finished. After `deadline` watches are ended
    /// (their clients begin others elsewhere) and all else is cut, tunnels included.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let shared = &self.shared;
        shared.drain.cancel();
        shared.tasks.close();
        if tokio::time::timeout(deadline, shared.tasks.wait()).await.is_ok() {
            shared.kill.cancel();
            return Drained { cut: 0 };
        }
        let cut = shared.tasks.len();
        shared.cut.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, shared.tasks.wait()).await;
        shared.kill.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, shared.tasks.wait()).await;
        Drained { cut }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Asks the API server whether it is ready, with the proxy's own credential (in noauth mode without any,
    /// where every answer shows that it can be reached).
    ///
    /// # Errors
    ///
    /// Says why it is not, or why that cannot be known.
    pub async fn check_upstream(&self, within: Duration) -> Result<(), CheckError> {
        let check = async {
            let upstream = self.shared.upstream.load_full();
            let unanswered =
                |error: crate::upstream::SendError| CheckError::Unanswered(error.to_string());
            let mut request = Request::new(Upload::empty());
            *request.uri_mut() = Uri::from_static("/readyz");
            let headers = request.headers_mut();
            headers.insert(header::HOST, upstream.authority().clone());
            headers.insert(header::USER_AGENT, USER_AGENT);
            if let Some(credential) = upstream.credential().await.map_err(unanswered)? {
                headers.insert(header::AUTHORIZATION, credential);
            }
            let sent = upstream.send(request, &Sending::default()).await;
            match sent.map_err(unanswered)? {
                Sent::Answer(response) => Ok(response.status()),
                Sent::Tunnel(response, ..) => Ok(response.status()),
            }
        };
        let status = tokio::time::timeout(within, check)
            .await
            .map_err(|_| CheckError::TimedOut(within))??;
        let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match self.shared.mode {
            _ if status.is_success() => Ok(()),
            Mode::NoAuth if refused => Ok(()),
            Mode::Auth { .. } if refused => Err(CheckError::Refused(status)),
            _ => Err(CheckError::NotReady(status)),
        }
    }
}

impl Shared {
    fn end_sessions(&self, someone_else: impl Fn(IpAddr) -> bool) {
        let ended = self.peers.end(someone_else) as u64;
        if ended > 0 {
            counters::add(&self.counters.ended_sessions, ended);
            tracing::info!(
                connections = ended,
                "Ended the sessions of peers whose user mapping has changed or expired"
            );
        }
    }
}

/// Tells when nobody has the proxy any more, neither its owner nor a connection; or when all has ended.
struct Dropped(CancellationToken);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Ends all sessions when the identities are past their age limit. Keeps nothing alive: it ends with the proxy.
async fn watch_age(shared: Weak<Shared>, replaced: Arc<Notify>, dropped: CancellationToken) {
    loop {
        let Some(until) = shared.upgrade().map(|shared| shared.identities.load().valid_until)
        else {
            return;
        };
        let expired = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = dropped.cancelled() => return,
            () = replaced.notified() => continue,
            () = expired => {}
        }
        if let Some(shared) = shared.upgrade() {
            let _one_at_a_time = shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.identities.load().expired(Instant::now()) {
                shared.end_sessions(|_| true);
            }
        }
        tokio::select! {
            () = dropped.cancelled() => return,
            () = replaced.notified() => {}
        }
    }
}

/// How long what is ended at the deadline of a drain has to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

const USER_AGENT: HeaderValue = HeaderValue::from_static("holdfast");
