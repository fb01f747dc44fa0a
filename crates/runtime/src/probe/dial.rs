//! Opens TCP connections.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};

use super::text;

/// Connects to a host given by address or name; of a name's addresses the first that answers.
///
/// The kubelet sets `SO_LINGER` to one second on its probe sockets to be rid of TIME_WAIT early. Not
/// so here: with it, closing a socket whose peer is gone blocks the thread that all pods share.
///
/// # Errors
/// Go's words for it (`dial tcp 10.0.0.1:80: connect: connection refused`); with several addresses,
/// those of the first one.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        let address = SocketAddr::new(ip, port);
        return TcpStream::connect(address).await.map_err(|e| refused(address, &e));
    }
    let addresses = lookup_host((host, port)).await.map_err(|e| not_found(host, &e))?;
    let mut first = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => {
                first.get_or_insert_with(|| refused(address, &e));
            }
        }
    }
    Err(first.unwrap_or_else(|| format!("dial tcp: lookup {host}: no such host")))
}

fn refused(address: SocketAddr, e: &io::Error) -> String {
    format!("dial tcp {address}: connect: {}", text::system_error(e))
}

/// The resolver's errors have no number: `failed to lookup address information: Name or …`.
fn not_found(host: &str, e: &io::Error) -> String {
    let words = text::system_error(e);
    let words = words.rsplit(": ").next().unwrap_or_default();
    let words = if words == "name or service not known" { "no such host" } else { words };
    format!("dial tcp: lookup {host}: {words}")
}
