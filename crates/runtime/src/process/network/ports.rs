//! `hostPort`: forwarders in user space, TCP and UDP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

use super::super::link::lock;
use super::NetworkError;
use crate::contract::HostPort;

/// How long a UDP client is remembered after its last datagram (as conntrack does for streams).
const UDP_IDLE: Duration = Duration::from_secs(120);

/// The forwarders of one pod; they end when this is dropped.
#[derive(Debug, Default)]
pub(in super::super) struct Forwarders(Vec<JoinHandle<()>>);

impl Drop for Forwarders {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Forwarders {
    /// Binds all ports, or none.
    pub(in super::super) async fn bind(
        ports: &[HostPort],
        pod: IpAddr,
    ) -> Result<Self, NetworkError> {
        let mut all = Self::default();
        for port in ports {
            let ip = port.ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let to = SocketAddr::new(pod, port.container);
            let protocol = if port.udp { "UDP" } else { "TCP" };
            let fail = |error| NetworkError::HostPort { port: port.host, protocol, ip, error };
            let task = if port.udp {
                let socket = UdpSocket::bind((ip, port.host)).await.map_err(fail)?;
                tokio::spawn(forward_udp(socket, to))
            } else {
                let listener = TcpListener::bind((ip, port.host)).await.map_err(fail)?;
                tokio::spawn(forward_tcp(listener, to))
            };
            all.0.push(task);
        }
        Ok(all)
    }
}

async fn forward_tcp(listener: TcpListener, to: SocketAddr) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => { connections.spawn(splice(client, to)); }
                // Out of descriptors, say: the next connection may do better, but not at once.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn splice(mut client: TcpStream, to: SocketAddr) {
    // A refused connection ends the client's: dropped, it sends what a closed port would not, but
    // nothing better is to be had after accepting.
    let Ok(mut pod) = TcpStream::connect(to).await else { return };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
}

type Clients = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

async fn forward_udp(socket: UdpSocket, to: SocketAddr) {
    let socket = Arc::new(socket);
    let clients = Clients::default();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65536];
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => continue, // an ICMP error of an earlier answer
            },
            Some(_) = answers.join_next() => continue,
        };
        let known = lock(&clients).get(&client).cloned();
        let pod = match known {
            Some(pod) => pod,
            None => {
                let Ok(pod) = connect_udp(to).await else { continue };
                let pod = Arc::new(pod);
                lock(&clients).insert(client, Arc::clone(&pod));
                let task =
                    answer(Arc::clone(&socket), Arc::clone(&pod), client, Arc::clone(&clients));
                answers.spawn(task);
                pod
            }
        };
        let _ = pod.send(&buffer[..length]).await;
    }
}

async fn connect_udp(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Brings a pod's answers back to one client until it has been silent for long.
async fn answer(socket: Arc<UdpSocket>, pod: Arc<UdpSocket>, client: SocketAddr, clients: Clients) {
    let mut buffer = vec![0; 65536];
    while let Ok(received) = tokio::time::timeout(UDP_IDLE, pod.recv(&mut buffer)).await {
        if let Ok(length) = received {
            let _ = socket.send_to(&buffer[..length], client).await;
        }
    }
    lock(&clients).remove(&client);
}
