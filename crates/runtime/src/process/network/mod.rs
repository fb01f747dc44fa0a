//! `--network pod`: each pod has a network namespace and an address that this machine and the other
//! pods of the run reach.
//!
//! ```text
//!   host                      switch (a hidden network namespace)         pod
//!   hf-<run> 10.x.y.1/22 ───── uplink ── bridge ── p2 ─────────────────── eth0 10.x.y.2/22
//!                                          └────── p3 ─────────────────── eth0 10.x.y.3/22
//! ```
//! The bridge is not in the host's namespace on purpose: nobody but this process holds the switch, so
//! when it dies, by whatever signal, the kernel removes the switch, the bridge and every pair of
//! interfaces, the host's end included. Nothing is left to be cleaned up by anyone.
//!
//! There is no way from a pod to beyond this machine unless the host forwards and translates addresses.

mod addresses;
mod netns;
mod ports;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::link::lock;
use addresses::{Pool, Subnet};
pub(super) use ports::Forwarders;

/// Why a network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A namespace or a socket could not be made.
    #[error("cannot make a network namespace: {0}")]
    Namespace(#[from] std::io::Error),
    /// The kernel refused.
    #[error("cannot {0}: {1}")]
    Netlink(&'static str, rtnetlink::Error),
    /// Every subnet that we would use is taken.
    #[error(
        "no free subnet for the pods in 10.64.0.0/10: every one overlaps a route of this machine"
    )]
    NoSubnet,
    /// The subnet is used up.
    #[error("no free address for the pod in {0}")]
    NoAddress(Subnet),
    /// A host port is taken.
    #[error("host port {port}/{protocol} on {ip}: {error}; is another program using it?")]
    HostPort {
        /// Which.
        port: u16,
        /// TCP or UDP.
        protocol: &'static str,
        /// The host's address.
        ip: IpAddr,
        /// What binding said.
        error: std::io::Error,
    },
}

fn during(what: &'static str) -> impl Fn(rtnetlink::Error) -> NetworkError {
    move |error| NetworkError::Netlink(what, error)
}

/// The bridge's index in the switch: anything but the loopback's 1.
const BRIDGE: u32 = 2;
/// The index of `eth0` in every pod.
const ETH0: u32 = 2;
const LOOPBACK: u32 = 1;

/// The network of a run.
#[derive(Debug)]
pub(super) struct PodNetwork {
    /// Speaks to the switch; the socket keeps that namespace alive.
    switch: Handle,
    pool: Mutex<Pool>,
}

/// A pod's place in it.
pub(super) struct Attached {
    /// Its network namespace.
    pub(super) namespace: OwnedFd,
    /// Its address.
    pub(super) address: Ipv4Addr,
}

impl PodNetwork {
    /// Makes the switch and its way to the host.
    pub(super) async fn create(run: &str, state: &Path) -> Result<Self, NetworkError> {
        let switch = netns::create().await?;
        let bridge = LinkBridge::new("pods").index(BRIDGE).up().build();
        switch.netlink.link().add(bridge).execute().await.map_err(during("make a bridge"))?;

        let host = netns::here()?;
        let own = File::open("/proc/thread-self/ns/net")?;
        // Two runs that start at once must not choose the same subnet.
        let _guard = one_at_a_time(state)?;
        let subnet = free_subnet(&host, run).await?;
        let name = format!("hf-{run}");
        let peer = LinkUnspec::new_with_name(&name).setns_by_fd(own.as_raw_fd()).build();
        let pair = veth("uplink", peer);
        let made = switch.netlink.link().add(pair).execute().await;
        made.map_err(during("connect the pods' network to the host"))?;
        let index = index_of(&name)?;
        let gateway = subnet.gateway().into();
        let add = host.address().add(index, gateway, Subnet::PREFIX).execute().await;
        add.map_err(during("give the host an address in the pods' network"))?;
        up(&host, index).await?;
        let pool = Mutex::new(Pool::new(subnet));
        Ok(Self { switch: switch.netlink, pool })
    }

    /// Makes a pod's namespace and connects it.
    pub(super) async fn attach(&self) -> Result<Attached, NetworkError> {
        let (address, subnet) = {
            let mut pool = lock(&self.pool);
            let subnet = pool.subnet();
            (pool.take().ok_or(NetworkError::NoAddress(subnet))?, subnet)
        };
        match self.connect(address, subnet).await {
            Ok(namespace) => Ok(Attached { namespace, address }),
            Err(error) => {
                self.release(address);
                Err(error)
            }
        }
    }

    async fn connect(&self, address: Ipv4Addr, subnet: Subnet) -> Result<OwnedFd, NetworkError> {
        let pod = netns::create().await?;
        let peer = LinkUnspec::new_with_index(ETH0)
            .name("eth0")
            .setns_by_fd(pod.namespace.as_raw_fd())
            .build();
        // The address' last bits are unique as long as it is taken.
        let pair = veth(&format!("p{}", subnet.number_of(address)), peer);
        let made = self.switch.link().add(pair).execute().await;
        made.map_err(during("connect the pod to its network"))?;
        up(&pod.netlink, LOOPBACK).await?;
        let add = pod.netlink.address().add(ETH0, address.into(), Subnet::PREFIX).execute().await;
        add.map_err(during("give the pod its address"))?;
        up(&pod.netlink, ETH0).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(subnet.gateway()).build();
        let add = pod.netlink.route().add(route).execute().await;
        add.map_err(during("give the pod a default route"))?;
        Ok(pod.namespace)
    }

    /// Takes a pod's address back. Its interfaces go with its namespace.
    pub(super) fn release(&self, address: Ipv4Addr) {
        lock(&self.pool).give_back(address);
    }
}

/// A pair of interfaces, one of them on the bridge.
fn veth(name: &str, peer: LinkMessage) -> LinkMessage {
    LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .controller(BRIDGE)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

async fn up(netlink: &Handle, index: u32) -> Result<(), NetworkError> {
    let change = LinkUnspec::new_with_index(index).up().build();
    netlink.link().change(change).execute().await.map_err(during("bring an interface up"))
}

fn index_of(name: &str) -> Result<u32, NetworkError> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|error| NetworkError::Namespace(std::io::Error::from(error)))
}

/// Holds a lock until it is dropped.
fn one_at_a_time(state: &Path) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).open(state.join(".lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Chooses a subnet that no route of the host leads to.
async fn free_subnet(host: &Handle, run: &str) -> Result<Subnet, NetworkError> {
    let mut taken = Vec::new();
    let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = host.route().get(query).execute();
    while let Some(route) = routes.try_next().await.map_err(during("list this machine's routes"))? {
        if route.header.address_family != AddressFamily::Inet {
            continue;
        }
        let prefix = route.header.destination_prefix_length;
        for attribute in &route.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
                taken.push((*address, prefix));
            }
        }
    }
    let seed = u32::from_str_radix(run, 16).unwrap_or_default();
    Subnet::choose(seed, &taken).ok_or(NetworkError::NoSubnet)
}
