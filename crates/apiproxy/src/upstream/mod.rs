//! The way to the API server: verified TLS, HTTP/1.1, connections that are kept.
//!
//! ```text
//! Upstream::send ── Pool::take ──┐
//!       │                        ├── Wire::drive ── Response<Download> ── Pool::put
//!       └─────── dial (TLS) ─────┘                └─ 101: Link (a tunnel)
//! ```

mod body;
mod link;
pub(crate) mod tls;
mod token;
mod wire;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Limits, Timeouts};
use crate::refusal::Refusal;

pub(crate) use body::{Progress, Upload};
pub(crate) use link::{Link, tune};
pub use tls::TlsError;
pub(crate) use wire::Download;
use wire::{Pool, Wire};

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
    Http(#[source] hyper::Error),
    #[error("the client's request ended half-way: {0}")]
    Client(#[source] hyper::Error),
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
    pool: Arc<Pool>,
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
            pool: Pool::new(limits.idle_upstream, timeouts.upstream_idle),
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
        mut request: Request<Upload>,
        sending: &Sending,
    ) -> Result<Sent, SendError> {
        if !sending.upgrade {
            while let Some(wire) = self.pool.take().await {
                let again = repeatable(&request).then(|| head(&request));
                match self.send_on(wire, request, sending).await {
                    Ok(sent) => return Ok(sent),
                    Err(Unsent::Returned(returned)) => request = *returned,
                    Err(Unsent::Stale(error)) => match again {
                        Some(again) => request = again,
                        None => return Err(error),
                    },
                    Err(Unsent::Failed(error)) => return Err(error),
                }
            }
        }
        let wire = self.dial().await?;
        self.send_on(wire, request, sending).await.map_err(|unsent| match unsent {
            Unsent::Failed(error) | Unsent::Stale(error) => error,
            Unsent::Returned(_) => SendError::Connect {
                address: self.address(),
                source: std::io::ErrorKind::ConnectionReset.into(),
            },
        })
    }

    async fn send_on(
        &self,
        mut wire: Box<Wire>,
        request: Request<Upload>,
        sending: &Sending,
    ) -> Result<Sent, Unsent> {
        let before = wire.bytes_read();
        let sent = {
            let mut answer = pin!(wire.sender.try_send_request(request));
            let exchange = poll_fn(|cx| {
                let _ = wire.drive(cx);
                answer.as_mut().poll(cx)
            });
            tokio::select! {
                biased;
                sent = exchange => sent,
                () = self.too_slow(sending) => {
                    let after = self.timeouts.upstream_headers;
                    return Err(Unsent::Failed(SendError::Slow(after)));
                }
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(mut unsent) => {
                if let Some(request) = unsent.take_message() {
                    return Err(Unsent::Returned(Box::new(request)));
                }
                let error = unsent.into_error();
                return Err(if error.is_user() {
                    Unsent::Failed(SendError::Client(error))
                } else if wire.bytes_read() == before {
                    Unsent::Stale(SendError::Http(error))
                } else {
                    Unsent::Failed(SendError::Http(error))
                });
            }
        };
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(token) = &self.token
        {
            token.refused();
        }
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (link, first) = wire.into_link().await;
            return Ok(Sent::Tunnel(Response::from_parts(parts, ()), link, first));
        }
        let pool = (!sending.upgrade).then(|| Arc::clone(&self.pool));
        let mut download = Download::new(body, wire, pool);
        if download.is_end_stream() {
            poll_fn(|cx| {
                download.release(cx);
                Poll::Ready(())
            })
            .await;
        }
        Ok(Sent::Answer(Response::from_parts(parts, download)))
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
        Wire::new(link, self.headers).await.map_err(SendError::Http)
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A request that was not answered.
enum Unsent {
    /// Not a byte of it was written.
    Returned(Box<Request<Upload>>),
    /// It was written, and the connection ended without a byte of an answer.
    Stale(SendError),
    Failed(SendError),
}

/// Whether sending it twice does no more than sending it once.
fn repeatable(request: &Request<Upload>) -> bool {
    use hyper::body::Body as _;
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && request.body().is_end_stream()
}

fn head(request: &Request<Upload>) -> Request<Upload> {
    let mut again = Request::new(Upload::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}
