//! The way to the API server: verified TLS, HTTP/1.1, connections that are kept.
//!
//! ```text
//! Upstream::send ── Pool::take ──┐
//!       │                        ├── Wire::poll_answer ── Response<Download> ── Pool::put
//!       └─────── dial (TLS) ─────┘                      └─ 101: Link (a tunnel)
//! ```

mod body;
mod link;
mod message;
mod pool;
pub(crate) mod tls;
mod token;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Limits, Timeouts};
use crate::refusal::Refusal;

pub(crate) use body::{Progress, Upload};
pub(crate) use link::{Link, tune};
use pool::Pool;
pub use tls::TlsError;
use wire::{Answer, Wire};
pub(crate) use wire::{Download, WireError};

/// Why an upstream cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The URL is not `https://HOST:PORT`.
    #[error("the API server's URL {0:?} is not https://HOST:PORT without a path")]
    Url(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token cannot be used.
    #[error("{0}")]
    Token(String),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0}")]
    Credential(#[from] token::TokenError),
    #[error("the API server at {address} cannot be reached: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("the API server at {address} did not accept a connection within {after:?}")]
    ConnectTimeout { address: String, after: Duration },
    #[error(
        "TLS with the API server at {address} failed: {source}; is its certificate signed by the configured CA and for this name?"
    )]
    Handshake { address: String, source: std::io::Error },
    #[error("the API server closed the connection, or did not speak HTTP/1.1: {0}")]
    Http(#[source] WireError),
    #[error("the client's request ended half-way: {0}")]
    Client(#[source] WireError),
    #[error("the API server has not begun to answer within {0:?}")]
    Slow(Duration),
}

impl SendError {
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            // Nothing was sent: clients may repeat even what they must not do twice.
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Credential(_) => {
                Refusal::unavailable(self.to_string())
            }
            Self::Handshake { .. } | Self::Http(_) => {
                Refusal::new(StatusCode::BAD_GATEWAY, self.to_string())
            }
            Self::Client(_) => Refusal::bad_request(self.to_string()),
            Self::Slow(_) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, self.to_string()),
        }
    }
}

/// How a request is to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sending {
    /// Whose connections to the API server are used: the number of the lane.
    pub(crate) lane: usize,
    /// The answer may be silent for hours.
    pub(crate) patient: bool,
    /// The connection may become a tunnel, and is used for nothing else.
    pub(crate) upgrade: bool,
    /// Opened when the API server asks for the body.
    pub(crate) gate: Option<CancellationToken>,
    /// How far the body is, if there is one.
    pub(crate) progress: Option<Arc<Progress>>,
}

/// What came of a request.
pub(crate) enum Sent {
    /// An answer.
    Answer(Response<Download>),
    /// 101: the bytes belong to the client's connection now, these first.
    Tunnel(Response<()>, Link, Bytes),
}

/// A configured API server. The credential is looked up by the caller and set as a header.
pub(crate) struct Upstream {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<tls::Connector>,
    token: Option<token::Token>,
    /// One for each lane.
    pools: Vec<Arc<Pool>>,
    timeouts: Timeouts,
    headers: usize,
}

impl Upstream {
    /// With `anonymous` neither the token nor the client certificate exist for it.
    pub(crate) fn new(
        config: &config::Upstream,
        anonymous: bool,
        limits: &Limits,
        timeouts: &Timeouts,
    ) -> Result<Self, UpstreamError> {
        let bad_url = || UpstreamError::Url(config.url.clone());
        let uri: http::Uri = config.url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad_url()),
        };
        if !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(bad_url());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = https.then(|| {
            let name = config.server_name.as_deref().unwrap_or(&host);
            let client = config.client.as_ref().filter(|_| !anonymous);
            tls::Connector::new(&config.ca, client, name)
        });
        let token = config.token.as_ref().filter(|_| !anonymous);
        let token = token.map(token::Token::new).transpose();
        Ok(Self {
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: HeaderValue::try_from(authority.as_str()).map_err(|_| bad_url())?,
            tls: tls.transpose()?,
            token: token.map_err(|error| UpstreamError::Token(error.to_string()))?,
            pools: (0..=limits.threads)
                .map(|_| {
                    let limit = limits.idle_upstream.div_ceil(limits.threads.max(1));
                    Pool::new(limit, timeouts.upstream_idle)
                })
                .collect(),
            timeouts: timeouts.clone(),
            headers: limits.headers.max(100),
            host,
        })
    }

    /// The `Host` of requests to it.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The `Authorization` of the proxy itself.
    pub(crate) async fn credential(&self) -> Result<Option<HeaderValue>, SendError> {
        Ok(match &self.token {
            Some(token) => Some(token.authorization().await?),
            None => None,
        })
    }

    /// Sends `request` and waits for the answer's headers.
    ///
    /// It is sent once; twice only if the first connection turns out to be closed by the API server before
    /// it has answered anything, and the request changes nothing.
    pub(crate) async fn send(
        &self,
        request: Request<Upload>,
        sending: &Sending,
    ) -> Result<Sent, SendError> {
        let (head, upload) = request.into_parts();
        let has_body = !upload.is_end_stream();
        let changes_nothing = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let repeatable = changes_nothing && !has_body;
        let mut upload = has_body.then_some(upload);
        let pool = &self.pools[sending.lane];
        while !sending.upgrade
            && let Some(mut wire) = pool.take().await
        {
            wire.begin(&head, upload.take());
            let (mut wire, error) = match self.exchange(wire, &head.method, sending).await {
                Ok(sent) => return Ok(sent),
                Err(Failed { wire, error }) => (wire, error),
            };
            // It was closed while nobody used it, and what was sent arrived nowhere.
            let stale = matches!(&error, SendError::Http(WireError::Io(_) | WireError::Ended));
            if stale && wire.is_unsent() {
                upload = wire.take_upload();
            }
            let intact = upload.is_some() == has_body;
            if !(stale && intact && (wire.is_unsent() || repeatable && wire.is_unanswered())) {
                return Err(error);
            }
        }
        let mut wire = self.dial().await?;
        wire.begin(&head, upload);
        let sent = self.exchange(wire, &head.method, sending).await;
        sent.map_err(|failed| failed.error)
    }

    /// Waits for the answer to what was begun on `wire`.
    async fn exchange(
        &self,
        mut wire: Box<Wire>,
        method: &Method,
        sending: &Sending,
    ) -> Result<Sent, Failed> {
        let deadline = wire.since + self.timeouts.upstream_headers;
        let plain = sending.progress.is_none() && !sending.patient;
        let mut slow = (!plain).then(|| Box::pin(self.too_slow(sending)));
        let gate = sending.gate.as_ref();
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = wire.poll_answer(cx, method, self.headers, gate) {
                return Poll::Ready(Some(answer));
            }
            let late = match &mut slow {
                None => wire.poll_late(cx, deadline),
                Some(slow) => slow.as_mut().poll(cx),
            };
            late.map(|()| None)
        });
        let error = match answer.await {
            Some(Ok(answer)) => return Ok(self.answered(answer, wire, sending)),
            Some(Err(error @ (WireError::Client(_) | WireError::Length))) => {
                SendError::Client(error)
            }
            Some(Err(error)) => SendError::Http(error),
            None => SendError::Slow(self.timeouts.upstream_headers),
        };
        Err(Failed { wire, error })
    }

    fn answered(&self, answer: Answer, wire: Box<Wire>, sending: &Sending) -> Sent {
        let status = answer.head().status;
        if status == StatusCode::UNAUTHORIZED
            && let Some(token) = &self.token
        {
            token.refused();
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let (link, first) = wire.into_link();
            return Sent::Tunnel(Response::from_parts(answer.into_head(), ()), link, first);
        }
        let pool = (!sending.upgrade).then(|| &self.pools[sending.lane]);
        Sent::Answer(answer.download(wire, pool))
    }

    /// Ends when the API server should have begun to answer; and lets the body go when it was not asked for
    /// long enough.
    async fn too_slow(&self, sending: &Sending) {
        if let Some(progress) = &sending.progress {
            if let Some(gate) = &sending.gate {
                let waited = tokio::time::sleep(self.timeouts.expect_continue);
                tokio::select! {
                    () = waited => gate.cancel(),
                    () = gate.cancelled() => {}
                }
            }
            progress.done.cancelled().await;
        }
        if sending.patient {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.timeouts.upstream_headers).await;
    }

    /// A new connection.
    async fn dial(&self) -> Result<Box<Wire>, SendError> {
        let after = self.timeouts.connect;
        let dialled = tokio::time::timeout(after, async {
            let stream = TcpStream::connect((self.host.as_str(), self.port));
            let stream = stream
                .await
                .map_err(|source| SendError::Connect { address: self.address(), source })?;
            if let Err(error) = tune(&stream, self.timeouts.keepalive) {
                tracing::debug!(%error, "Cannot set options of a connection to the API server");
            }
            match &self.tls {
                None => Ok(Link::plain(stream)),
                Some(tls) => match tls.connect(stream).await {
                    Ok(stream) => Ok(Link::tls(stream)),
                    Err(source) => Err(SendError::Handshake { address: self.address(), source }),
                },
            }
        });
        let link = dialled
            .await
            .map_err(|_| SendError::ConnectTimeout { address: self.address(), after })??;
        Ok(Wire::new(link))
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A request that was not answered, and on which connection.
struct Failed {
    wire: Box<Wire>,
    error: SendError,
}
