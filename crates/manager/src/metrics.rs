//! `/metrics`: who leads, what the proxy does, how old the users are. Off unless
//! `--metrics-bind-address` says where; with `--metrics-secure` (the default) by TLS with a certificate of
//! its own making, and only for those whom the API server allows to read it.

mod authorize;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_apiproxy::Proxy;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use kube::Client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::bind::{listen, listen_everywhere};
use crate::config::Metrics;
use crate::election::Elected;
use crate::health::not_found;
use crate::serve::{Answer, Body, serve, serve_with, text, typed};
use crate::users::Sync;

use authorize::Authorizer;

/// Where the values come from, at the moment they are asked for.
pub(crate) struct Sources {
    pub(crate) proxy: Option<Proxy>,
    pub(crate) users: Option<Sync>,
}

struct Server {
    registry: Registry,
    /// `None`: for everybody.
    authorizer: Option<Authorizer>,
}

/// Binds, and serves until it is told to end.
///
/// # Errors
/// In words: what cannot be had.
pub(crate) fn start(
    metrics: Metrics,
    sources: Sources,
    election: Option<&Elected>,
    client: Option<Client>,
) -> Result<impl FnOnce(CancellationToken) -> futures_util::future::BoxFuture<'static, ()>, String>
{
    let authorizer = match (metrics.secure, client) {
        (false, _) => None,
        (true, Some(client)) => Some(Authorizer::new(client)),
        (true, None) => {
            return Err("--metrics-secure needs the API server to ask who may read them".to_owned());
        }
    };
    let address = metrics.address;
    let opened = match address.ip.map(|ip| SocketAddr::new(ip, address.port)) {
        Some(address) => listen(address, None).map_err(|error| (address, error)),
        None => listen_everywhere(address.port),
    };
    let listener = opened.map_err(|(address, error)| {
        format!("cannot listen on {address}: {error} (--metrics-bind-address)")
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, secure = metrics.secure, "Serving metrics");
    }
    let tls = metrics.secure.then(acceptor).transpose()?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Values(sources)));
    if let Some(election) = election {
        election.register(&mut registry);
    }
    let server = Arc::new(Server { registry, authorizer });
    Ok(move |stop| -> futures_util::future::BoxFuture<'static, ()> {
        match tls {
            None => Box::pin(serve(listener, stop, server)),
            Some(tls) => Box::pin(serve_with(listener, stop, server, move |stream| {
                let accepted = tls.accept(stream);
                async move { accepted.await.ok() }
            })),
        }
    })
}

/// As controller-runtime does it: whoever reads metrics by TLS without a certificate that he knows is asked
/// to skip verification, and is himself verified.
fn acceptor() -> Result<TlsAcceptor, String> {
    let words = |error: &dyn fmt::Display| format!("cannot make a certificate: {error}");
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| words(&e))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| words(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .map_err(|e| words(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Answer for Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/metrics" {
            return not_found();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        if let Some(authorizer) = &self.authorizer
            && let Err((status, words)) =
                authorizer.may_read(request.headers().get(header::AUTHORIZATION)).await
        {
            return text(status, format!("{words}\n"));
        }
        let mut out = String::new();
        match encode(&mut out, &self.registry) {
            Ok(()) => typed(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                out,
            ),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

struct Values(Sources);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}

impl Collector for Values {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(proxy) = &self.0.proxy {
            encode_proxy(&mut to, proxy)?;
        }
        if let Some((age, users)) = self.0.users.as_ref().and_then(Sync::age) {
            let help = "How long ago the user mappings that hold were asked for";
            gauge(&mut to, "holdfast_user_sync_age_seconds", help, age.as_secs_f64())?;
            let users = i64::try_from(users).unwrap_or(i64::MAX);
            gauge(&mut to, "holdfast_user_mappings", "Addresses that have a user", users)?;
        }
        Ok(())
    }
}

fn encode_proxy(to: &mut DescriptorEncoder<'_>, proxy: &Proxy) -> fmt::Result {
    let now = proxy.counters().snapshot();
    let help = "Ended requests by the code that the client got; 0 if it had gone";
    let mut family =
        to.encode_descriptor("holdfast_proxy_requests", help, None, MetricType::Counter)?;
    for (code, count) in &now.requests {
        let value = ConstCounter::new(*count);
        value.encode(family.encode_family(&[("code", code.to_string())])?)?;
    }
    for (name, help, value) in [
        ("requests_in_flight", "Requests under way, watches and tunnels included", now.in_flight),
        ("tunnels", "Open tunnels of exec, attach and port-forward", now.tunnels),
        ("connections", "Open connections of clients", now.connections),
    ] {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        gauge(to, &format!("holdfast_proxy_{name}"), help, value)?;
    }
    for (name, help, value) in [
        ("tunnels_opened", "Tunnels ever opened", now.tunnels_total),
        ("connections_accepted", "Connections ever accepted", now.connections_total),
        (
            "connections_refused",
            "Connections closed at once because of a limit",
            now.refused_connections,
        ),
        ("tls_handshake_errors", "TLS handshakes of clients that failed", now.handshake_errors),
        ("received_bytes", "Bytes of bodies and tunnels from clients", now.received_bytes),
        ("sent_bytes", "Bytes of bodies and tunnels to clients", now.sent_bytes),
        ("upstream_errors", "Requests that the API server did not answer", now.upstream_errors),
        (
            "sessions_ended",
            "Connections cut because the peer's user has changed or expired",
            now.ended_sessions,
        ),
    ] {
        let value = ConstCounter::new(value);
        let name = format!("holdfast_proxy_{name}");
        value.encode(to.encode_descriptor(&name, help, None, MetricType::Counter)?)?;
    }
    Ok(())
}

fn gauge<N>(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    ConstGauge::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
