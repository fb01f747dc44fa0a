//! Bytes to the server and back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ApiError;
use super::kubeconfig::Config;

/// The connections to one server.
#[derive(Clone)]
pub(super) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    server: String,
    many: TlsConnector,
    one: TlsConnector,
    /// The connection that requests share, if there is one that still works.
    shared: Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("server", &self.inner.server).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(config: Config) -> Self {
        let connector = |protocol: &[u8]| {
            let mut tls = config.tls.clone();
            tls.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(tls))
        };
        let inner = Inner {
            many: connector(b"h2"),
            one: connector(b"http/1.1"),
            server: config.server,
            shared: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Sends a request on the shared connection and reads the whole answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ApiError> {
        let fails = |what: String| self.fails(&method, path, what);
        let mut builder = Request::builder()
            .method(method.clone())
            .uri(format!("https://{}{path}", self.inner.server))
            .header(ACCEPT, "application/json, */*");
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        let request = builder.body(Full::new(body)).map_err(|e| fails(e.to_string()))?;
        let mut sender = self.shared(&method, path).await?;
        let response = sender.send_request(request).await.map_err(|e| fails(causes(&e)))?;
        let status = response.status();
        Ok((status, collect(response.into_body(), path).await?))
    }

    /// Starts a request whose answer goes on and on, on a connection of its own.
    pub(super) async fn stream(&self, path: &str) -> Result<(StatusCode, Incoming), ApiError> {
        let fails = |what: String| self.fails(&Method::GET, path, what);
        let stream = self.connect(&self.inner.one).await.map_err(fails)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| fails(causes(&e)))?;
        // Ends when the body is dropped.
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(HOST, &self.inner.server)
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|e| fails(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| fails(causes(&e)))?;
        Ok((response.status(), response.into_body()))
    }

    /// The shared connection, made anew if the last one has ended.
    async fn shared(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<http2::SendRequest<Full<Bytes>>, ApiError> {
        let fails = |what: String| self.fails(method, path, what);
        let mut shared = self.inner.shared.lock().await;
        if let Some(sender) = shared.as_mut()
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let stream = self.connect(&self.inner.many).await.map_err(fails)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| fails(causes(&e)))?;
        // Ends when the last sender is dropped, or with the runtime that it was made in.
        tokio::spawn(connection);
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, String> {
        let server = &self.inner.server;
        let tcp = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        connector.connect(name, tcp).await.map_err(|e| format!("TLS: {e}"))
    }

    fn fails(&self, method: &Method, path: &str, what: String) -> ApiError {
        ApiError::Transport {
            method: method.clone(),
            server: self.inner.server.clone(),
            path: path.to_owned(),
            what,
        }
    }
}

/// Reads a body to its end.
pub(super) async fn collect(body: Incoming, path: &str) -> Result<Bytes, ApiError> {
    let whole = body
        .collect()
        .await
        .map_err(|e| ApiError::Answer { path: path.to_owned(), what: causes(&e) })?;
    Ok(whole.to_bytes())
}

/// An error with its causes: hyper's own words name only the outermost.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
