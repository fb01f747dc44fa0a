//! Runs probe handlers: one call asks one container once and says what the kubelet would have said.
//!
//! *When* a probe runs and how many answers make a result is the engine's business. This module
//! only carries out one run ([`probe`]) with the clients of the kubelet's `pkg/probe`:
//!
//! | handler | success | failure | error (retried at once, then not counted) |
//! |---|---|---|---|
//! | `exec` | exit code 0 | any other exit code; time over | the command could not be run |
//! | `httpGet` | 200 to 399 | any other status; no answer | the body breaks off |
//! | `tcpSocket` | connected | not connected in time | – |
//! | `grpc` | `SERVING` | any other answer; no answer | – |
//!
//! The texts of failures are the kubelet's, which are those of Go's `net` and `net/http`: people
//! search for them, and tools match on them. Every run uses a new connection, and dropping the
//! future closes it: no task outlives its probe.

mod dial;
mod grpc;
pub(crate) mod http;
mod http2;
mod manifest;
pub(crate) mod text;
mod tls;
pub(crate) mod url;

use std::net::IpAddr;
use std::time::Duration;

use holdfast_lifecycle::ProbeResult;
use holdfast_lifecycle::backoff::go_duration;
use tokio::time::Instant;

use crate::contract::ExecOutcome;
use url::Url;

pub use manifest::HandlerError;
pub(crate) use manifest::http_get;

/// The pod that is asked, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pod's address: what a handler without a `host` asks.
    pub address: IpAddr,
    /// The minor version of Kubernetes 1.x, for the `User-Agent` header (`kube-probe/1.35`).
    pub kubernetes_minor: u32,
}

/// What a probe does: the handler of a manifest's probe with its port resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `exec`.
    Exec(Exec),
    /// `httpGet`.
    HttpGet(HttpGet),
    /// `tcpSocket`.
    TcpSocket(TcpSocket),
    /// `grpc`.
    Grpc(Grpc),
}

/// A command run inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments, not run by a shell.
    pub command: Vec<String>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Whether it goes over TLS. Certificates are not verified, as the kubelet does not.
    pub https: bool,
    /// Who is asked; the pod's address if `None`.
    pub host: Option<String>,
    /// Which port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, in order; a name may come again. `Host`, `User-Agent` and `Accept` replace what is
    /// sent by default, an empty `User-Agent` or `Accept` removes it.
    pub headers: Vec<(String, String)>,
}

/// A connection that is closed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Who is asked; the pod's address if `None`.
    pub host: Option<String>,
    /// Which port.
    pub port: u16,
}

/// A call of `grpc.health.v1.Health/Check`, without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Which port of the pod.
    pub port: u16,
    /// Which service is asked about; empty for the server as a whole.
    pub service: String,
}

/// Runs a probe once.
///
/// `exec` runs a command inside the container ([`crate::Runtime::exec`]); only a
/// [`Handler::Exec`] calls it. A run that ends in [`ProbeResult::Error`] is tried up to three times
/// at once, each time with the whole `timeout` (kubelet: `runProbeWithRetries`).
pub async fn probe(
    target: &Target,
    handler: &Handler,
    timeout: Duration,
    exec: impl AsyncFn(&[String], Option<Duration>) -> Result<ExecOutcome, String>,
) -> ProbeResult {
    let mut result = once(target, handler, timeout, &exec).await;
    for _ in 1..MAX_TRIES {
        if !matches!(result, ProbeResult::Error(_)) {
            break;
        }
        result = once(target, handler, timeout, &exec).await;
    }
    result
}

/// Connects once, as a `tcpSocket` probe does, and says to whom.
///
/// # Errors
/// Go's words for it.
pub async fn connect(host: &str, port: u16) -> Result<String, String> {
    let stream = dial::connect(host, port).await?;
    Ok(stream
        .peer_addr()
        .map_or_else(|_| "connected".to_owned(), |peer| format!("connected to {peer}")))
}

/// Asks once, as an `httpGet` probe does, and says the status of the answer. `get` names its host.
///
/// # Errors
/// Go's words for why there is no answer.
pub async fn http_status(get: &HttpGet, agent: &str, timeout: Duration) -> Result<u16, String> {
    let nobody =
        Target { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), kubernetes_minor: 0 };
    let deadline = Instant::now().checked_add(timeout);
    match http::get(get.url(&nobody), &get.headers, agent, deadline).await {
        Ok(answer) => Ok(answer.status),
        Err(error) => Err(error.to_string()),
    }
}

/// kubelet: `prober.runProbe`.
async fn once(
    target: &Target,
    handler: &Handler,
    timeout: Duration,
    exec: &impl AsyncFn(&[String], Option<Duration>) -> Result<ExecOutcome, String>,
) -> ProbeResult {
    match handler {
        Handler::Exec(Exec { command }) => match exec(command, Some(timeout)).await {
            Ok(ExecOutcome::Ended { code: 0, .. }) => ProbeResult::Success,
            Ok(ExecOutcome::Ended { output, .. }) => {
                ProbeResult::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Ok(ExecOutcome::TimedOut) => ProbeResult::Failure(format!(
                "command timed out: {:?} timed out after {}",
                command.join(" "),
                go_duration(timeout)
            )),
            Err(words) => ProbeResult::Error(words),
        },
        Handler::HttpGet(get) => {
            let agent = format!("kube-probe/1.{}", target.kubernetes_minor);
            let url = get.url(target);
            let deadline = Instant::now() + timeout;
            match http::get(url, &get.headers, &agent, Some(deadline)).await {
                Ok(answer) => judge(&answer),
                Err(e @ http::GetError::Body(_)) => ProbeResult::Error(e.to_string()),
                Err(e) => ProbeResult::Failure(e.to_string()),
            }
        }
        Handler::TcpSocket(TcpSocket { host, port }) => {
            let host = host.clone().unwrap_or_else(|| target.address.to_string());
            match tokio::time::timeout(timeout, dial::connect(&host, *port)).await {
                Ok(Ok(_)) => ProbeResult::Success,
                Ok(Err(e)) => ProbeResult::Failure(e),
                Err(_) => ProbeResult::Failure(format!(
                    "dial tcp {}: i/o timeout",
                    text::host_port(&host, *port)
                )),
            }
        }
        Handler::Grpc(service) => match grpc::check(target, service, timeout).await {
            Ok(()) => ProbeResult::Success,
            Err(e) => ProbeResult::Failure(e.to_string()),
        },
    }
}

/// What an answer means (`pkg/probe/http`: `DoHTTPProbe`). The message of a failure must not have
/// the body in it, which may hold secrets.
fn judge(answer: &http::Answer) -> ProbeResult {
    match answer.status {
        200..300 => ProbeResult::Success,
        300..400 => ProbeResult::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&answer.body)
        )),
        status => ProbeResult::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

impl HttpGet {
    /// What is asked for.
    pub(crate) fn url(&self, target: &Target) -> Url {
        let host = self.host.clone().unwrap_or_else(|| target.address.to_string());
        Url::new(if self.https { "https" } else { "http" }, &host, self.port, &self.path)
    }
}

/// kubelet: `maxProbeRetries`.
const MAX_TRIES: usize = 3;
