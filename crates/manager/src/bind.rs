//! Listeners that follow addresses: they open when an address comes, close when it goes, and open
//! elsewhere when it changes. There is never one on another address than was asked for.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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
/// `serve` has a listener and what ends it.
pub(crate) async fn follow<F>(
    server: Server,
    mut found: watch::Receiver<Found>,
    bound: &watch::Sender<Bound>,
    stop: CancellationToken,
    serve: impl Fn(TcpListener, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Server { name: server, port, device } = server;
    let mut listening: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut again = AGAIN.0;
    while !stop.is_cancelled() {
        let wanted = found.borrow_and_update().clone();
        let addresses: Vec<SocketAddr> =
            wanted.addresses().iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        listening.retain(|address, end| {
            let stays = addresses.contains(address);
            if !stays {
                info!(server, %address, "Closing the listener: its address is gone");
                end.cancel();
            }
            stays
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
                    let end = stop.child_token();
                    let (served, ended) = (serve(listener, end.clone()), end.clone());
                    let address = *address;
                    tasks.spawn(async move {
                        served.await;
                        (address, ended)
                    });
                    listening.insert(address, end);
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
        tokio::select! {
            () = stop.cancelled() => {}
            () = changed => {}
            () = pause => {}
            Some(ended) = tasks.join_next() => {
                // One that nobody has asked to end is opened again.
                if let Ok((address, end)) = ended && !end.is_cancelled() {
                    listening.remove(&address);
                }
            }
        }
    }
    for end in listening.values() {
        end.cancel();
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
