//! The API proxy beside `kubectl proxy` and nginx, before an API server that is faster than all of them.

mod inside;
mod processes;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::{Row, Section};
use processes::{Load, Setup};

pub use inside::{Role, run};

/// How large the measurement is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How often each is measured, in turns.
    pub rounds: usize,
    /// For how many seconds at a time.
    pub seconds: u64,
    /// How many watches are held open.
    pub watches: usize,
}

impl Size {
    /// About two minutes.
    pub const FULL: Self = Self { rounds: 5, seconds: 4, watches: 1000 };
}

/// Requests a second, latency and memory of all that are on this machine.
///
/// # Errors
/// If holdfast's proxy, wrk or the API server do not run; peers that are not there are said to be missing.
pub fn report(size: Size) -> Result<Section> {
    let mut section = Section::new(
        "API proxy",
        "`wrk -t2 -c32` in turns; behind each proxy the same API server: TLS, a fixed answer of 260 bytes, on the \
         same machine. The proxies listen without TLS, verify the API server, and set the proxy's token; \
         holdfast's and nginx' also set a user and a group. Median of the rounds, memory at its highest.",
    );
    let setup = Setup::new()?;
    let upstream = setup.start(Role::Upstream, None)?;
    let ours = setup.start(Role::Proxy, Some(upstream.address))?;
    let audited = setup.start(Role::Audited, Some(upstream.address))?;
    let mut peers = vec![
        setup.peer("the API server itself", &upstream, true),
        setup.peer("holdfast", &ours, false),
        setup.peer("holdfast, with audit lines", &audited, false),
    ];
    let kubectl = setup.kubectl_proxy(upstream.address);
    let nginx = setup.nginx(upstream.address);
    for (name, peer) in [("kubectl proxy", &kubectl), ("nginx", &nginx)] {
        match peer {
            Ok(peer) => peers.push(setup.peer(name, peer, false)),
            Err(error) => section.note(format!("No comparison with {name}: {error:#}.")),
        }
    }
    let mut loads: Vec<Vec<Load>> = vec![Vec::new(); peers.len()];
    for _ in 0..size.rounds {
        for (peer, loads) in peers.iter().zip(&mut loads) {
            loads.push(peer.load(size.seconds)?);
        }
    }
    let medians: Option<Vec<Load>> = loads.iter_mut().map(|loads| Load::median(loads)).collect();
    let medians = medians.context("nothing was measured")?;
    let of = |name: &str| {
        let at = peers.iter().position(|peer| peer.name == name)?;
        Some((medians[at], peers[at].highest_rss_kib().ok()?))
    };
    for (peer, load) in peers.iter().zip(&medians) {
        let rss = peer.highest_rss_kib()? as f64 / 1024.0;
        section.push(Row::new(peer.name).got(&format!(
            "{:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms, {rss:.1} MiB",
            load.rate, load.p50, load.p99
        )));
    }
    let (own, own_rss) = of("holdfast").context("holdfast was not measured")?;
    if let Some((kubectl, rss)) = of("kubectl proxy") {
        section.push(ratio("requests/s, to kubectl proxy", own.rate / kubectl.rate, 2.0));
        let part = own_rss as f64 / rss as f64;
        section.push(
            Row::new("memory, to kubectl proxy")
                .wanted("≤ 0.33")
                .got(&format!("{part:.2}"))
                .ok(part <= 0.334),
        );
    }
    if let Some((nginx, _)) = of("nginx") {
        section.push(ratio("requests/s, to nginx", own.rate / nginx.rate, 0.9));
    }
    let watched = setup.start(Role::Proxy, Some(upstream.address))?;
    let idle = watched.rss_kib()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watches(watched.address, size.watches))?;
    let highest = watched.highest_rss_kib()?;
    section.push(
        Row::new("memory while idle").wanted("≤ 15 MiB").got(&mib(idle)).ok(idle <= 15 << 10),
    );
    section
        .push(Row::new(&format!("memory with {} open watches", size.watches)).got(&mib(highest)));
    Ok(section)
}

fn ratio(what: &str, is: f64, wanted: f64) -> Row {
    Row::new(what).wanted(&format!("≥ {wanted}")).got(&format!("{is:.2}")).ok(is >= wanted)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// Opens `count` watches and waits until each has had two events.
async fn watches(proxy: SocketAddr, count: usize) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.write_all(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n").await?;
        open.push(stream);
    }
    for stream in &mut open {
        let mut got = Vec::new();
        while got.windows(8).filter(|window| *window == b"{\"a\": 1}").count() < 2 {
            let mut part = [0; 1024];
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut part));
            let read = read.await.context("a watch got no event for 20 s")??;
            ensure!(read > 0, "a watch ended: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&part[..read]);
        }
    }
    Ok(())
}
