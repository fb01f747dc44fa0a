//! A device: the kernel's, or our own.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::watch;

use crate::config::{Peer, PeerUpdate, Status, Update};
use crate::health::{Health, ping};
use crate::kernel::Kernel;
use crate::key::PublicKey;
use crate::link::Links;
use crate::uapi::{Server, ServerError, socket_path};
use crate::userspace::{Part, Userspace};

/// What fits into Ethernet's 1500 bytes with an underlay of IPv6; what everybody's WireGuard has.
pub const MTU: u16 = 1420;

/// Who answers that many handshakes a second spends about a tenth of a processor on them.
const LOAD: u32 = 500;

/// Whose data plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's if it has one, else our own.
    #[default]
    Auto,
    /// The kernel's.
    Kernel,
    /// Our own.
    Userspace,
}

/// How a device is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The name of the interface, up to 15 bytes.
    pub name: String,
    /// Whose data plane.
    pub backend: Backend,
    /// The UDP port to listen at, 0 for one of the kernel's choice.
    pub listen_port: u16,
    /// The longest packet of the interface, in bytes; see [`crate::mtu_for`].
    pub mtu: u16,
    /// The addresses of the interface; with each a route to its network.
    pub addresses: Vec<IpNet>,
    /// Whether `wg` can talk to a device of our own: `/var/run/wireguard/NAME.sock`.
    pub uapi: bool,
    /// Of our own: how many handshakes a second are answered before those who begin one have to prove
    /// their address by a cookie.
    pub handshakes_per_second: u32,
}

impl Options {
    /// What is usual.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            backend: Backend::default(),
            listen_port: 0,
            mtu: MTU,
            addresses: Vec::new(),
            uapi: true,
            handshakes_per_second: LOAD,
        }
    }
}

/// Why there is no device.
#[derive(Debug, Error)]
pub enum CreateError {
    /// A name that no interface can have.
    #[error(
        "{name:?} cannot be the name of an interface: 1 to 15 bytes, without space, slash, colon"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The kernel has no WireGuard, and its own was wanted.
    #[error(
        "the kernel has no WireGuard: load its module wireguard, or take the userspace data plane"
    )]
    NoKernel,
    /// The kernel has WireGuard, and makes no interface.
    #[error("cannot make the WireGuard interface {name}: {hint}")]
    Kernel {
        /// Its name.
        name: String,
        /// What to do about it.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No interface.
    #[error("cannot make the interface {name}: {hint}")]
    Tun {
        /// Its name.
        name: String,
        /// What to do about it.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No socket for the peers.
    #[error("cannot listen at UDP port {port}: another program, or another interface, may have it")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread of the data plane")]
    Thread(#[source] io::Error),
    /// The interface is there, and does not get its addresses.
    #[error("cannot configure the interface {name}")]
    Configure {
        /// Its name.
        name: String,
        /// Why.
        source: rtnetlink::Error,
    },
    /// Netlink cannot be had.
    #[error("cannot speak to the kernel by netlink")]
    Netlink(#[source] io::Error),
    /// No socket for `wg`.
    #[error(transparent)]
    Uapi(#[from] ServerError),
}

/// Why a device did not do what it was asked to.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// It is gone, or refuses.
    #[error("the WireGuard interface {name} cannot be {what}")]
    Refused {
        /// Its name.
        name: String,
        /// What it was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A peer that it does not have.
    #[error("the WireGuard interface {name} has no peer {peer}")]
    NoPeer {
        /// Its name.
        name: String,
        /// The key of the peer.
        peer: PublicKey,
    },
}

/// A WireGuard interface that is ours. It is gone when this is dropped; one of our own data plane also
/// when the process is killed.
#[derive(Debug)]
pub struct Device {
    name: String,
    /// Ends before the data plane: fields are dropped in their order.
    _uapi: Option<Server>,
    plane: Plane,
}

#[derive(Debug)]
enum Plane {
    Kernel(Kernel, watch::Sender<Option<String>>),
    Userspace(Userspace),
}

impl Device {
    /// Makes the interface, without peers, and brings it up, in the network namespace of the calling
    /// thread. Runs inside of a tokio runtime with I/O.
    ///
    /// # Errors
    /// If it cannot be had; then nothing is left of it.
    pub async fn create(options: &Options) -> Result<Self, CreateError> {
        let name = &options.name;
        if !is_name(name) {
            return Err(CreateError::Name { name: name.clone() });
        }
        let plane = match options.backend {
            Backend::Userspace => userspace(options)?,
            backend => match (kernel(options)?, backend) {
                (Some(plane), _) => plane,
                (None, Backend::Kernel) => return Err(CreateError::NoKernel),
                (None, _) => userspace(options)?,
            },
        };
        let configure = |source| CreateError::Configure { name: name.clone(), source };
        let links = Links::open().map_err(CreateError::Netlink)?;
        let index = links.index(name).await.map_err(configure)?;
        links.bring_up(index, options.mtu, &options.addresses).await.map_err(configure)?;
        let uapi = match &plane {
            Plane::Userspace(plane) if options.uapi => {
                Some(Server::start(&socket_path(name), plane.answerer())?)
            }
            // `wg` asks the kernel itself.
            _ => None,
        };
        Ok(Self { name: name.clone(), _uapi: uapi, plane })
    }

    /// Whose data plane it is.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match self.plane {
            Plane::Kernel(..) => Backend::Kernel,
            Plane::Userspace(_) => Backend::Userspace,
        }
    }

    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a change, as a whole or not at all; traffic goes on meanwhile.
    ///
    /// # Errors
    /// If a port is taken, a mark not allowed, or the interface gone.
    pub async fn update(&self, update: Update) -> Result<(), DeviceError> {
        let result = match &self.plane {
            Plane::Kernel(kernel, _) => kernel.update(&update),
            Plane::Userspace(plane) => plane.update(update).await,
        };
        result.map_err(|source| self.refused("changed", source))
    }

    /// Makes these its peers. Those that stay keep their sessions, and their endpoints if they have been
    /// heard from.
    ///
    /// # Errors
    /// If the interface is gone.
    pub async fn set_peers(&self, peers: &[Peer]) -> Result<(), DeviceError> {
        let before = self.status().await?;
        let wanted: HashSet<PublicKey> = peers.iter().map(|peer| peer.public_key).collect();
        let gone = before.peers.iter().filter(|peer| !wanted.contains(&peer.public_key));
        let gone = gone.map(|peer| PeerUpdate::removal(peer.public_key));
        let stay = peers.iter().map(|peer| peer.update(before.peer(&peer.public_key)));
        self.update(Update { peers: gone.chain(stay).collect(), ..Update::default() }).await
    }

    /// What is the case.
    ///
    /// # Errors
    /// If the interface is gone.
    pub async fn status(&self) -> Result<Status, DeviceError> {
        let result = match &self.plane {
            Plane::Kernel(kernel, _) => kernel.status(),
            Plane::Userspace(plane) => plane.tell().await.map(|everything| everything.status),
        };
        result.map_err(|source| self.refused("asked", source))
    }

    /// Begins a handshake with a peer now, whether or not there is a session: its end shows in the
    /// status. The kernel cannot be asked to: it begins one when there is something to send.
    ///
    /// # Errors
    /// If there is no such peer, the interface is gone, or it is the kernel's (`Unsupported`).
    pub async fn handshake(&self, peer: PublicKey) -> Result<(), DeviceError> {
        let result = match &self.plane {
            Plane::Kernel(..) => Err(io::ErrorKind::Unsupported.into()),
            Plane::Userspace(plane) => plane.handshake(peer).await,
        };
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(DeviceError::NoPeer { name: self.name.clone(), peer }),
            Err(source) => Err(self.refused("asked", source)),
        }
    }

    /// How a peer is: how old its keys are, and whether `address`, one of those that are behind it,
    /// answers within `patience`. In the network namespace of the interface.
    ///
    /// # Errors
    /// If there is no such peer, the interface is gone, or without CAP_NET_RAW.
    pub async fn health(
        &self,
        peer: PublicKey,
        address: IpAddr,
        patience: Duration,
    ) -> Result<Health, DeviceError> {
        let echo = ping(&self.name, address, patience).await;
        let round_trip = echo.map_err(|source| self.refused("probed", source))?;
        let status = self.status().await?;
        let Some(status) = status.peer(&peer) else {
            return Err(DeviceError::NoPeer { name: self.name.clone(), peer });
        };
        Ok(Health { handshake_age: status.handshake_age(), round_trip })
    }

    /// Becomes the reason why the interface has ended, should somebody remove it. Of the kernel's, that
    /// is for [`crate::follow`] to see.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<Option<String>> {
        match &self.plane {
            Plane::Kernel(_, sender) => sender.subscribe(),
            Plane::Userspace(plane) => plane.ended(),
        }
    }

    fn refused(&self, what: &'static str, source: io::Error) -> DeviceError {
        DeviceError::Refused { name: self.name.clone(), what, source }
    }
}

fn userspace(options: &Options) -> Result<Plane, CreateError> {
    let Options { name, listen_port: port, .. } = options;
    let started = Userspace::start(name, *port, options.handshakes_per_second);
    started.map(Plane::Userspace).map_err(|(part, source)| match part {
        Part::Tun => CreateError::Tun { name: name.clone(), hint: hint(&source), source },
        Part::Udp => CreateError::Listen { port: *port, source },
        Part::Thread => CreateError::Thread(source),
    })
}

/// `None` if the kernel has no WireGuard.
fn kernel(options: &Options) -> Result<Option<Plane>, CreateError> {
    let (name, port) = (&options.name, options.listen_port);
    let refused = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AlreadyExists => "there is an interface of that name (ip link del it?)",
            io::ErrorKind::PermissionDenied => "that takes CAP_NET_ADMIN",
            _ => "the kernel refuses",
        };
        CreateError::Kernel { name: name.clone(), hint, source }
    };
    let Some(kernel) = Kernel::create(name).map_err(refused)? else { return Ok(None) };
    // It listens once it is up; that the port is taken shows then.
    let update = Update { listen_port: Some(port), ..Update::default() };
    kernel.update(&update).map_err(|source| CreateError::Listen { port, source })?;
    Ok(Some(Plane::Kernel(kernel, watch::Sender::new(None))))
}

/// The kernel: dev_valid_name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b':' | b'%' | 0);
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/net/tun (module tun)",
        io::ErrorKind::PermissionDenied => "that takes CAP_NET_ADMIN and access to /dev/net/tun",
        io::ErrorKind::ResourceBusy => {
            "there is an interface of that name, which another program has"
        }
        io::ErrorKind::InvalidInput => "there is an interface of that name that is no TUN",
        _ => "the kernel refuses a TUN interface",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["wg0", "a", "fifteen-bytes-x", "wg.0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "w g", "w/g", "w:g", "w%d", "w\0"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
