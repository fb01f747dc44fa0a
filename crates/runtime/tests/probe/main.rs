//! Probes and hooks against real servers on loopback.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exec;
mod grpc;
mod hook;
mod http;
mod server;
mod tcp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use holdfast_lifecycle::ProbeResult;
use holdfast_runtime::contract::ExecOutcome;
use holdfast_runtime::probe::{Handler, Target, probe};

/// A pod at 127.0.0.1.
const LOCAL: Target = Target { address: IpAddr::V4(Ipv4Addr::LOCALHOST), kubernetes_minor: 35 };

/// A pod at ::1.
const LOCAL6: Target = Target { address: IpAddr::V6(Ipv6Addr::LOCALHOST), kubernetes_minor: 35 };

/// Time enough for anything that is to succeed.
const LONG: Duration = Duration::from_secs(10);

/// Long enough to connect to loopback, and short to wait for.
const SHORT: Duration = Duration::from_millis(150);

/// Runs a probe that executes nothing.
async fn ask(target: Target, handler: Handler, timeout: Duration) -> ProbeResult {
    probe(&target, &handler, timeout, no_exec).await
}

async fn no_exec(argv: &[String], _: Option<Duration>) -> Result<ExecOutcome, String> {
    panic!("nothing should run {argv:?}")
}

fn failure(words: impl Into<String>) -> ProbeResult {
    ProbeResult::Failure(words.into())
}

/// A port of loopback on which nobody listens (yet): bound, so that no other test gets it.
fn closed_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}
