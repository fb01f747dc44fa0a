//! The server of `/healthz` and `/readyz`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::{Chosen, Config, Health, RunError, Tasks};
use crate::bind::{listen, listen_everywhere};
use crate::health::{Check, Endpoint, not_found};
use crate::serve::{Answer, Body, serve};
use crate::status::INSTANCE;

/// Differs from start to start, so that an answer shows whose it is.
static INSTANCE_ID: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let text = crate::config::random();
    // Hexadecimal digits and dashes.
    let value = HeaderValue::try_from(&text).unwrap_or(HeaderValue::from_static("unknown"));
    (text, value)
});

/// This start of the manager.
pub(super) fn instance() -> &'static str {
    &INSTANCE_ID.0
}

struct Probes {
    live: Endpoint,
    ready: Arc<Endpoint>,
}

impl Answer for Probes {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answer = self.live.answer(&request).or_else(|| self.ready.answer(&request));
        let mut response = answer.unwrap_or_else(not_found);
        response.headers_mut().insert(INSTANCE, INSTANCE_ID.1.clone());
        response
    }
}

/// Serves health until the very end; the address at which it can be asked on this machine.
pub(super) async fn start(
    config: &Config,
    chosen: &Chosen,
    ready: &Arc<Endpoint>,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>, RunError> {
    let (Some(health), Some(port)) = (config.health, chosen.ports.health) else { return Ok(None) };
    let listener = open(health, port)?;
    let bound = listener.local_addr().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let ip = health.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let live = Endpoint::new("/healthz", vec![Check::ping("healthz")]);
    let probes = Arc::new(Probes { live, ready: Arc::clone(ready) });
    tasks.spawn_to_the_end(|stop| serve(listener, stop, probes));
    Ok(Some(SocketAddr::new(ip, bound.port())))
}

/// Kubelets ask by IPv4 or IPv6: on every address both are meant.
fn open(health: Health, port: u16) -> Result<TcpListener, RunError> {
    let opened = match health.ip.map(|ip| SocketAddr::new(ip, port)) {
        Some(address) => listen(address, None).map_err(|error| (address, error)),
        None => listen_everywhere(port),
    };
    opened.map_err(|(address, error)| RunError::Health { address, error })
}
