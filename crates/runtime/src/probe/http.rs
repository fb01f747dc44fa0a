//! An HTTP client that behaves as the kubelet's: one GET on a new connection, redirects followed on
//! the same host only, at most 10 KiB of the body read, no certificate verified.

use std::cell::Cell;
use std::pin::pin;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::tls::{self, HandshakeError};
use super::url::{Url, scheme_of};
use super::{dial, http2, text};

/// The last answer of a chain of redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The beginning of the body, at most 10 KiB.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer; in the words of Go's `net/http`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// The peer was asked by TLS and answered in plain HTTP.
    #[error("Get {url:?}: {}", HandshakeError::PlainHttp)]
    PlainHttp {
        /// What was asked for.
        url: String,
    },
    /// No answer came, for any other reason.
    #[error("Get {url:?}: {cause}")]
    NoAnswer {
        /// What was asked for.
        url: String,
        /// Why.
        cause: String,
    },
    /// An answer began and its body broke off.
    #[error("{0}")]
    Body(String),
}

/// Gets a URL.
///
/// `headers` are those of the manifest, `agent` is sent as `User-Agent` unless they have one.
/// `deadline` bounds everything together, redirects and body included.
///
/// # Errors
/// See [`GetError`].
pub(crate) async fn get(
    mut url: Url,
    headers: &[(String, String)],
    agent: &str,
    deadline: Option<Instant>,
) -> Result<Answer, GetError> {
    let no_answer = |url: &Url, cause: String| GetError::NoAnswer { url: url.to_string(), cause };
    let (mut headers, mut host) =
        request_headers(headers, agent).map_err(|e| no_answer(&url, e))?;
    let origin = url.host.clone();
    let mut sent = 0;
    loop {
        sent += 1;
        let in_body = Cell::new(false);
        let exchange = exchange(&url, host.as_ref(), &headers, &origin, &in_body);
        let reply = match deadline {
            None => exchange.await?,
            Some(deadline) => match timeout_at(deadline, exchange).await {
                Ok(reply) => reply?,
                Err(_) if in_body.get() => {
                    let words = "context deadline exceeded \
                                 (Client.Timeout or context cancellation while reading body)";
                    return Err(GetError::Body(words.to_owned()));
                }
                Err(_) => {
                    let words = "context deadline exceeded \
                                 (Client.Timeout exceeded while awaiting headers)";
                    return Err(no_answer(&url, words.to_owned()));
                }
            },
        };
        let Redirect { to, location } = match reply {
            Reply::Answer(answer) => return Ok(answer),
            Reply::Redirect(redirect) => redirect,
        };
        if sent >= MAX_REQUESTS {
            let cause = format!("stopped after {MAX_REQUESTS} redirects");
            return Err(GetError::NoAnswer { url: location, cause });
        }
        // Go keeps a Host header of the manifest only as long as the redirects are relative.
        if scheme_of(&location).is_some() {
            host = None;
        }
        if !(url.scheme == "https" && to.scheme == "http")
            && let Ok(from) = HeaderValue::try_from(url.to_string())
        {
            headers.entry(header::REFERER).or_insert(from);
        }
        url = to;
    }
}

/// What came of one request.
enum Reply {
    Answer(Answer),
    Redirect(Redirect),
}

/// A redirect to follow.
struct Redirect {
    to: Url,
    /// As it was written.
    location: String,
}

/// Sends one request and reads what of its answer is needed. `in_body` is set once the head of an
/// answer is there.
async fn exchange(
    url: &Url,
    host: Option<&HeaderValue>,
    headers: &HeaderMap,
    origin: &str,
    in_body: &Cell<bool>,
) -> Result<Reply, GetError> {
    let no_answer = |cause: String| GetError::NoAnswer { url: url.to_string(), cause };
    let conversation = Conversation { url, host, headers, origin, in_body };
    if !matches!(url.scheme.as_str(), "http" | "https") {
        return Err(no_answer(format!("unsupported protocol scheme {:?}", url.scheme)));
    }
    let stream = dial::connect(&url.host, url.port()).await.map_err(no_answer)?;
    let ends = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => format!("read tcp {local}->{peer}: read"),
        _ => "read tcp".to_owned(),
    };
    let talked = if url.scheme == "http" {
        conversation.by_http1(stream).await
    } else {
        match tls::handshake(&url.host, stream).await {
            Ok(session) if session.get_ref().1.alpn_protocol() == Some(b"h2") => {
                conversation.by_http2(session).await
            }
            Ok(session) => conversation.by_http1(session).await,
            Err(HandshakeError::PlainHttp) => {
                return Err(GetError::PlainHttp { url: url.to_string() });
            }
            Err(e) => return Err(no_answer(e.to_string())),
        }
    };
    talked.map_err(|e| match (e, in_body.get()) {
        (Broken::Redirect(cause), _) => no_answer(cause),
        (Broken::Transport(e), false) => no_answer(transport_words(&*e, &ends)),
        (Broken::Transport(e), true) => GetError::Body(transport_words(&*e, &ends)),
    })
}

/// Why an exchange ended early.
enum Broken {
    /// The `Location` of an answer makes no sense.
    Redirect(String),
    /// The connection or the protocol failed.
    Transport(Box<dyn std::error::Error>),
}

impl<E: std::error::Error + 'static> From<E> for Broken {
    fn from(e: E) -> Self {
        Self::Transport(Box::new(e))
    }
}

/// One request and its answer on an open connection.
struct Conversation<'a> {
    url: &'a Url,
    host: Option<&'a HeaderValue>,
    headers: &'a HeaderMap,
    origin: &'a str,
    in_body: &'a Cell<bool>,
}

impl Conversation<'_> {
    async fn by_http1<S>(&self, stream: S) -> Result<Reply, Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await?;
        let mut request = Request::get(&self.url.target).body(Empty::new())?;
        let headers = request.headers_mut();
        let host = match self.host {
            Some(host) => host.clone(),
            None => HeaderValue::try_from(self.url.authority())?,
        };
        headers.insert(header::HOST, host);
        headers.extend(self.headers.clone());
        headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
        let talk = async {
            let (head, mut body) = sender.send_request(request).await?.into_parts();
            if let Some(redirect) = self.judge(&head)? {
                return Ok(Reply::Redirect(redirect));
            }
            let mut start = Vec::new();
            while start.len() < MAX_BODY
                && let Some(frame) = body.frame().await
            {
                keep(&mut start, frame?.data_ref().map_or(&[], |data| data));
            }
            Ok(Reply::Answer(Answer { status: head.status.as_u16(), body: start }))
        };
        alongside(talk, connection).await
    }

    async fn by_http2<S>(&self, stream: S) -> Result<Reply, Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let authority = match self.host {
            Some(host) => host.to_str()?.to_owned(),
            None => self.url.authority(),
        };
        let target = format!("{}://{authority}{}", self.url.scheme, self.url.target);
        let mut request = Request::get(target).body(())?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().remove(header::CONNECTION);
        http2::converse(stream, async |mut sender, _| {
            let (answer, _) = sender.send_request(request, true)?;
            let (head, mut body) = answer.await?.into_parts();
            if let Some(redirect) = self.judge(&head)? {
                return Ok(Reply::Redirect(redirect));
            }
            let mut start = Vec::new();
            while start.len() < MAX_BODY
                && let Some(data) = body.data().await
            {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                keep(&mut start, &data);
            }
            Ok(Reply::Answer(Answer { status: head.status.as_u16(), body: start }))
        })
        .await?
    }

    /// Where the answer sends us, if it does and we go there (`pkg/probe/http`: `RedirectChecker`).
    /// A redirect to another host, or to nowhere, is an answer like any other.
    fn judge(&self, head: &response::Parts) -> Result<Option<Redirect>, Broken> {
        self.in_body.set(true);
        if !matches!(
            head.status,
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        ) {
            return Ok(None);
        }
        let location = head.headers.get(header::LOCATION).map_or(&[][..], HeaderValue::as_bytes);
        let location = String::from_utf8_lossy(location).into_owned();
        if location.is_empty() {
            return Ok(None);
        }
        let to = self.url.join(&location).map_err(|e| {
            Broken::Redirect(format!("failed to parse Location header {location:?}: {e}"))
        })?;
        Ok((to.host == self.origin).then_some(Redirect { to, location }))
    }
}

/// Adds to the kept start of a body.
fn keep(start: &mut Vec<u8>, data: &[u8]) {
    start.extend_from_slice(&data[..data.len().min(MAX_BODY - start.len())]);
}

/// Runs `work` while `connection` is kept going beside it; the end of the connection alone ends
/// nothing, `work` learns of it by itself.
pub(super) async fn alongside<T>(
    work: impl Future<Output = T>,
    connection: impl Future<Output: Sized>,
) -> T {
    let mut connection = pin!(async {
        connection.await;
        std::future::pending::<std::convert::Infallible>().await
    });
    tokio::select! {
        biased;
        result = work => result,
        never = &mut connection => match never {},
    }
}

/// The headers of all requests of a chain, and the `Host` that replaces the URL's.
///
/// Source: `pkg/probe/http` (`newProbeRequest`) for the defaults, Go's `Request.write` for the
/// headers that a client does not let its user set.
fn request_headers(
    wanted: &[(String, String)],
    agent: &str,
) -> Result<(HeaderMap, Option<HeaderValue>), String> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        let name: HeaderName =
            name.parse().map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        let value = HeaderValue::try_from(value.trim_matches([' ', '\t']))
            .map_err(|_| format!("net/http: invalid header field value for {name:?}"))?;
        headers.append(name, value);
    }
    let host = headers.remove(header::HOST).filter(|host| !host.is_empty());
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER] {
        headers.remove(name);
    }
    for (name, default) in [(header::USER_AGENT, agent), (header::ACCEPT, "*/*")] {
        match headers.get(&name) {
            Some(value) if value.is_empty() => {
                headers.remove(name);
            }
            Some(_) => {}
            None => {
                let default = HeaderValue::try_from(default).map_err(|e| e.to_string())?;
                headers.insert(name, default);
            }
        }
    }
    Ok((headers, host))
}

/// What Go says of a connection that broke.
fn transport_words(e: &(dyn std::error::Error + 'static), ends: &str) -> String {
    if let Some(e) = e.downcast_ref::<hyper::Error>()
        && e.is_incomplete_message()
    {
        return "EOF".to_owned();
    }
    let mut cause = Some(e);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && io.raw_os_error().is_some()
        {
            return format!("{ends}: {}", text::system_error(io));
        }
        cause = e.source();
    }
    if let Some(parse) = e.downcast_ref::<hyper::Error>().filter(|e| e.is_parse()) {
        let words = parse.to_string();
        return format!(
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response: {words}"
        );
    }
    match e.source() {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    }
}

/// `pkg/probe/http`: `maxRespBodyLength`.
const MAX_BODY: usize = 10 << 10;

/// After this many requests Go's client follows no redirect any more.
const MAX_REQUESTS: usize = 10;
