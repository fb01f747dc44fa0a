//! Small HTTP servers: a handful of paths that are answered at once, under limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// All our answers are short.
pub(crate) type Body = Full<Bytes>;

/// Open connections of one server; more wait.
const CONNECTIONS: usize = 128;
/// How long a client may take for the head of a request, and so how long it may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long requests may take that are under way when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// A pause when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// What a server does with a request.
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers it.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves plain HTTP until `stop`, then lets the requests that are under way end.
pub(crate) async fn serve(listener: TcpListener, stop: CancellationToken, who: Arc<impl Answer>) {
    serve_with(listener, stop, who, |stream| async { Some(stream) }).await;
}

/// The same with a handshake before each connection; `None` ends it.
pub(crate) async fn serve_with<S, F>(
    listener: TcpListener,
    stop: CancellationToken,
    who: Arc<impl Answer>,
    handshake: impl Fn(TcpStream) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<S>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot take a connection");
                tokio::time::sleep(NO_ROOM).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (handshake, who, stop) = (handshake(stream), Arc::clone(&who), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let Ok(Some(stream)) = tokio::time::timeout(HEAD, handshake).await else { return };
            connection(stream, stop, who).await;
        });
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(LAST_ANSWERS, tasks.wait()).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    stop: CancellationToken,
    who: Arc<impl Answer>,
) {
    let service = service_fn(|request| {
        let who = Arc::clone(&who);
        async move { Ok::<_, Infallible>(who.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_ANSWERS, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended badly");
    }
}

/// Plain text, as Go's server names it.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", body)
}

/// A body of this type.
pub(crate) fn typed(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
