//! Listeners that follow addresses: they open when an address comes, close when it goes, and open
//! elsewhere when it changes. There is never one on another address than was asked for.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::search::Found;

/// Where a server listens now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Nowhere, or not everywhere it should, and why.
    Not(String),
    /// Here, as was asked for.
    At(Vec<SocketAddr>),
}

/// A port that is taken by something else is tried again: no event tells that it is free. At first soon,
/// since it may be our own listener of a moment ago, and then seldom.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Waiting connections of a listener; the kernel's own bound (`net.core.somaxconn`) holds too.
const BACKLOG: u32 = 1024;

/// How long connections are kept whose address is gone. An interface that is made anew has the same one again
/// in a moment, and they go on then; otherwise nothing that is sent on them can arrive any more.
const GRACE: Duration = Duration::from_secs(3);

/// What ends a server on one address.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Nothing new.
    pub(crate) stop: CancellationToken,
    /// The address is gone: what came by it ends too.
    pub(crate) gone: CancellationToken,
}

/// A server that follows addresses.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// What it is called in the log.
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Only what comes in by this interface is for it.
    pub(crate) device: Option<String>,
}

/// Keeps a server on the addresses of `found` until `stop`; returns when all its listeners have ended.
/// `serve` has a listener and what ends it, and what came by it.
pub(crate) async fn follow<F>(
    server: Server,
    mut found: watch::Receiver<Found>,
    bound: &watch::Sender<Bound>,
    stop: CancellationToken,
    serve: impl Fn(TcpListener, Ends) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Server { name: server, port, device } = server;
    let mut listening: BTreeMap<SocketAddr, Ends> = BTreeMap::new();
    // Addresses that are gone, until when they may come back, and what tells those who came by them.
    let mut leaving: BTreeMap<SocketAddr, (Instant, CancellationToken)> = BTreeMap::new();
    // Sockets of one interface only do not work on the next, whatever its address.
    let grace = if device.is_some() { Duration::ZERO } else { GRACE };
    let mut tasks = JoinSet::new();
    let mut again = AGAIN.0;
    while !stop.is_cancelled() {
        let wanted = found.borrow_and_update().clone();
        let addresses: Vec<SocketAddr> =
            wanted.addresses().iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        listening.retain(|address, ends| {
            let stays = addresses.contains(address);
            if !stays {
                info!(server, %address, "Closing the listener: its address is gone");
                ends.stop.cancel();
                leaving.insert(*address, (Instant::now() + grace, ends.gone.clone()));
            }
            stays
        });
        leaving.retain(|address, (until, gone)| {
            let over = *until <= Instant::now();
            if over {
                debug!(server, %address, "Ending its connections");
                gone.cancel();
            }
            !over
        });
        let mut faults = Vec::new();
        for address in &addresses {
            if listening.contains_key(address) {
                continue;
            }
            match listen(*address, device.as_deref()) {
                Ok(listener) => {
                    let (ip, port) = (address.ip(), port.to_string());
                    info!(%ip, port, "Binding {server} to specific IP");
                    // Back in time: what has come by it before goes on.
                    let gone = leaving.remove(address).map(|(_, gone)| gone).unwrap_or_default();
                    let ends = Ends { stop: stop.child_token(), gone };
                    let (served, ended) = (serve(listener, ends.clone()), ends.stop.clone());
                    let address = *address;
                    tasks.spawn(async move {
                        served.await;
                        (address, ended)
                    });
                    listening.insert(address, ends);
                }
                Err(error) => faults.push(format!("cannot listen on {address}: {error}")),
            }
        }
        let now = match (&wanted, faults.is_empty()) {
            (Found::Not(why), _) => Bound::Not(why.clone()),
            (_, true) => Bound::At(addresses),
            (_, false) => Bound::Not(faults.join("; ")),
        };
        bound.send_if_modified(|before| {
            let other = *before != now;
            if let Bound::Not(reason) = &now
                && other
                && !faults.is_empty()
            {
                warn!(server, reason, "Cannot listen; trying again");
            }
            *before = now;
            other
        });
        again = if faults.is_empty() { AGAIN.0 } else { (again * 2).min(AGAIN.1) };
        let changed = async {
            // If nobody will ever say anything else, it stays as it is.
            if found.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let pause = async {
            if faults.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(again).await;
        };
        let over = leaving.values().map(|(until, _)| *until).min();
        let over = async {
            match over {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = changed => {}
            () = pause => {}
            () = over => {}
            Some(ended) = tasks.join_next() => {
                // One that nobody has asked to end is opened again.
                if let Ok((address, end)) = ended && !end.is_cancelled() {
                    listening.remove(&address);
                }
            }
        }
    }
    for ends in listening.values() {
        ends.stop.cancel();
    }
    while tasks.join_next().await.is_some() {}
}

/// Listens on exactly this address; of a `device`, only to what comes in by that interface, and from this
/// machine itself. Without one the kernel takes what is sent to the address by any of them.
pub(crate) fn listen(address: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of a listener that was closed a moment ago do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind_device(device.map(str::as_bytes))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on every address, of IPv6 and IPv4 where there are both.
///
/// # Errors
/// With the address that could not be had.
pub(crate) fn listen_everywhere(port: u16) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match listen(both, None) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err((both, error)),
        // No IPv6 here.
        Err(_) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            listen(address, None).map_err(|error| (address, error))
        }
    }
}
