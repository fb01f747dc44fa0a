//! Follows a network interface by rtnetlink: whether it is up and has an address.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::task::AbortHandle;

/// Looks at interfaces, and listens to what becomes of them.
#[derive(Default)]
pub(super) struct Interfaces {
    socket: Option<Socket>,
}

struct Socket {
    handle: Handle,
    /// A message for each change of any interface.
    changes: futures_util::stream::BoxStream<'static, ()>,
    task: AbortHandle,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Interfaces {
    /// Looks at one: its address, or why it is of no use yet.
    pub(super) async fn look(&mut self, name: &str) -> Result<String, String> {
        // Listening begins before the first look, so that nothing is missed between the two.
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open().map_err(|e| format!("cannot listen to rtnetlink: {e}"))?,
        };
        let Socket { handle, .. } = self.socket.insert(socket);
        let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await;
        let link = match found {
            Ok(Some(link)) => link,
            // ENODEV, in words.
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => {
                return Err("there is no such interface".to_owned());
            }
            Err(error) => return Err(format!("cannot ask the kernel: {error}")),
        };
        if !link.header.flags.contains(LinkFlags::Up) {
            return Err("it is down".to_owned());
        }
        let mut addresses =
            handle.address().get().set_link_index_filter(link.header.index).execute();
        let mut why = "it is up and has no address";
        loop {
            match addresses.try_next().await {
                Ok(Some(message)) => match usable(&message) {
                    Ok(Some(address)) => return Ok(address.to_string()),
                    Ok(None) => {}
                    Err(reason) => why = reason,
                },
                Ok(None) => return Err(why.to_owned()),
                Err(error) => return Err(format!("cannot ask the kernel: {error}")),
            }
        }
    }

    /// Waits for a change of any interface.
    pub(super) async fn changed(&mut self) {
        if let Some(socket) = &mut self.socket
            && socket.changes.next().await.is_some()
        {
            return;
        }
        // The socket is gone, or could not be had: the next look opens another.
        self.socket = None;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn open() -> std::io::Result<Socket> {
    let (connection, handle, changes) = new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    let task = tokio::spawn(connection).abort_handle();
    Ok(Socket { handle, changes: changes.map(drop).boxed(), task })
}

/// The address, if programs can bind to it. A link-local address says nothing: every interface that is
/// up gives one to itself.
fn usable(message: &AddressMessage) -> Result<Option<IpAddr>, &'static str> {
    let mut address = None;
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            // Of a tunnel `Address` is the other end.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(own) => address = address.or(Some(*own)),
            AddressAttribute::Flags(more) => flags = *more,
            _ => {}
        }
    }
    let Some(address) = address else { return Ok(None) };
    if let IpAddr::V6(v6) = address
        && v6.is_unicast_link_local()
    {
        return Err("it is up and has only a link-local address");
    }
    let header = message.header.flags;
    if flags.contains(AddressFlags::Dadfailed) || header.contains(AddressHeaderFlags::Dadfailed) {
        return Err(
            "its address is in use by another machine (duplicate address detection failed)",
        );
    }
    if flags.contains(AddressFlags::Tentative) || header.contains(AddressHeaderFlags::Tentative) {
        return Err("its address is tentative: duplicate address detection goes on");
    }
    Ok(Some(address))
}
