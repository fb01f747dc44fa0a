//! A client's connection: within limits, TLS, HTTP/1.1 or HTTP/2, and its orderly end.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::counters::{add, less};
use super::handler::handle;
use super::lanes::Lanes;
use super::peers::Membership;
use super::tls::ServingTls;
use crate::refusal::Refusal;
use crate::upstream::{Link, tune};

/// Accepts connections for ever; they end when the listener's address is `gone`.
pub(super) async fn accept(
    shared: &Arc<Shared>,
    lanes: &Lanes,
    listener: &TcpListener,
    tls: Option<&ServingTls>,
    gone: &CancellationToken,
) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, usually, until other connections end; or a client that left early.
                tracing::warn!(%error, "Cannot accept a connection, trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let counters = &shared.counters;
        add(&counters.connections_total, 1);
        if counters.connections.load(Ordering::Relaxed) >= shared.limits.connections as u64 {
            add(&counters.refused_connections, 1);
            continue;
        }
        let limit = shared.limits.connections_per_peer;
        let mut peer = shared.peers.enter(remote.ip(), limit, gone.clone());
        let open = Open::new(shared);
        let tls = tls.cloned();
        // A drain waits from now on, and not only when the thread has come to it.
        let awaited = shared.tasks.token();
        let carried = lanes.carry(stream, move |stream, lane| {
            peer.lane = Some(lane);
            let peer = Arc::new(peer);
            tokio::spawn(async move {
                let shared = Arc::clone(&open.0);
                peer.during(connection(shared, Arc::clone(&peer), stream, tls)).await;
                drop((open, awaited));
            });
        });
        if let Err(error) = carried {
            tracing::warn!(%error, "Cannot carry a connection");
        }
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        add(&shared.counters.connections, 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        less(&self.0.counters.connections);
    }
}

async fn connection(
    shared: Arc<Shared>,
    peer: Arc<Membership>,
    stream: TcpStream,
    tls: Option<ServingTls>,
) {
    if let Err(error) = tune(&stream, shared.timeouts.keepalive) {
        tracing::debug!(%error, peer = %peer.address, "Cannot set options of a client's connection");
    }
    if !peer.within_limit {
        add(&shared.counters.refused_connections, 1);
        if tls.is_none() {
            refuse(stream, &peer, shared.limits.connections_per_peer).await;
        }
        return;
    }
    let Some(tls) = tls else {
        let link = Link::plain(stream).lingering(Arc::clone(&peer.answered_early));
        return http1(shared, peer, link).await;
    };
    let accept = TlsAcceptor::from(tls.config).accept(stream);
    let accept = tokio::time::timeout(shared.timeouts.client_handshake, accept);
    let Some(accepted) = shared.drain.run_until_cancelled(accept).await else {
        return;
    };
    match accepted {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(shared, peer, Link::tls(stream)).await;
        }
        Ok(Ok(stream)) => {
            let link = Link::tls(stream).lingering(Arc::clone(&peer.answered_early));
            http1(shared, peer, link).await;
        }
        Ok(Err(error)) => {
            add(&shared.counters.handshake_errors, 1);
            tracing::debug!(%error, peer = %peer.address, "TLS handshake failed");
        }
        Err(_) => {
            add(&shared.counters.handshake_errors, 1);
            tracing::debug!(peer = %peer.address, "TLS handshake took too long");
        }
    }
}

async fn http1(shared: Arc<Shared>, peer: Arc<Membership>, link: Link) {
    let mut builder = http1::Builder::new();
    // The library's own refusals have no body: it refuses what is twice too large, the handler what is too large.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.timeouts.client_headers)
        .max_headers(2 * shared.limits.headers)
        .max_header_size(2 * shared.limits.header_bytes)
        .max_buf_size((4 * shared.limits.header_bytes).max(128 << 10));
    let address = peer.address;
    let service = {
        let shared = Arc::clone(&shared);
        service_fn(move |request| handle(Arc::clone(&shared), Arc::clone(&peer), request))
    };
    let connection = builder.serve_connection(TokioIo::new(link), service).with_upgrades();
    until_drained(&shared, address, connection, |c| c.graceful_shutdown()).await;
}

async fn http2(shared: Arc<Shared>, peer: Arc<Membership>, link: Link) {
    let executor = Bound(peer.end.clone());
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(shared.limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(4 * STREAM_WINDOW)
        .keep_alive_interval(shared.timeouts.keepalive / 2)
        .keep_alive_timeout(shared.timeouts.keepalive / 2);
    let address = peer.address;
    let service = {
        let shared = Arc::clone(&shared);
        service_fn(move |request| handle(Arc::clone(&shared), Arc::clone(&peer), request))
    };
    let connection = builder.serve_connection(TokioIo::new(link), service);
    until_drained(&shared, address, connection, |c| c.graceful_shutdown()).await;
}

/// Serves a connection to its end, which comes after the requests that are under way when the proxy drains.
async fn until_drained<C: Future<Output = hyper::Result<()>>>(
    shared: &Shared,
    peer: IpAddr,
    connection: C,
    end_well: impl FnOnce(Pin<&mut C>),
) {
    let mut connection = pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = shared.drain.cancelled() => {
            end_well(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "A client's connection ended");
    }
}

/// Runs the streams of a connection, and no longer than the peer's sessions.
#[derive(Clone)]
struct Bound(CancellationToken);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Bound {
    fn execute(&self, stream: F) {
        let end = self.0.clone();
        tokio::spawn(async move {
            end.run_until_cancelled(stream).await;
        });
    }
}

/// Tells a peer with too many connections, and closes: after its request has come in, or else it would see
/// a reset instead of the answer.
async fn refuse(mut stream: TcpStream, peer: &Membership, limit: usize) {
    let refusal = Refusal::too_many_requests(format!(
        "peer {} has {limit} connections, which is as many as it may",
        peer.address
    ));
    let body = refusal.body();
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let tell = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), tell).await;
}

/// As many as Go's server allows.
const STREAMS: u32 = 250;
const STREAM_WINDOW: u32 = 256 << 10;
