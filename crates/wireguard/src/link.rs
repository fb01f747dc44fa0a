//! What an interface is beside its peers: up, with an MTU and addresses. By rtnetlink, in the network
//! namespace of the calling thread.

use std::net::SocketAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::{Error, Handle, LinkUnspec, new_connection};
use tokio::task::AbortHandle;

/// What WireGuard adds to a packet at most: 40 bytes of IPv6, 8 of UDP, 32 of its own.
const OVERHEAD: u32 = 80;

/// The smallest that IPv6 works with.
const SMALLEST: u32 = 1280;

/// The MTU of an interface whose peers are at these endpoints: what the narrowest known path takes, less
/// what is added; 1420 if no path is known. Never below 1280, without which there is no IPv6: what is
/// too large for its path then is fragmented.
#[must_use]
pub fn mtu_for(endpoints: impl IntoIterator<Item = SocketAddr>) -> u16 {
    let paths = endpoints.into_iter().filter_map(|to| holdfast_sys::udp::path_mtu(to).ok());
    let mtu = paths.min().map(|path| path.saturating_sub(OVERHEAD).max(SMALLEST));
    // Datagrams have no more than 65,535 bytes.
    mtu.and_then(|mtu| u16::try_from(mtu.min(65_355)).ok()).unwrap_or(crate::device::MTU)
}

/// A line to the kernel.
pub(crate) struct Links {
    handle: Handle,
    task: AbortHandle,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Links {
    pub(crate) fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self { handle, task: tokio::spawn(connection).abort_handle() })
    }

    pub(crate) async fn index(&self, name: &str) -> Result<u32, Error> {
        let links = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = std::pin::pin!(links).try_next().await?;
        link.map(|link| link.header.index).ok_or(Error::RequestFailed)
    }

    /// Brings it up.
    pub(crate) async fn bring_up(
        &self,
        index: u32,
        mtu: u16,
        addresses: &[IpNet],
    ) -> Result<(), Error> {
        let link = || LinkUnspec::new_with_index(index);
        self.handle.link().set(link().mtu(mtu.into()).build()).execute().await?;
        for net in addresses {
            let address = self.handle.address().add(index, net.addr(), net.prefix_len());
            address.replace().execute().await?;
        }
        self.handle.link().set(link().up().build()).execute().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_narrowest_path() {
        assert_eq!(mtu_for([]), 1420);
        assert_eq!(
            mtu_for(["127.0.0.1:1".parse().unwrap()]),
            65_355,
            "the loopback's, but for UDP"
        );
    }
}
