//! Follows an interface by rtnetlink: whether it is there and up, and its addresses.
//!
//! Two sockets: one hears the kernel's events and asks nothing, since a socket is not told of what it
//! changed itself; the other asks. An event is only a hint to ask again, so that it does not matter if
//! the kernel had to drop some (`ENOBUFS`, which is reported in their place).

use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What is the case with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// It is not there or not up, and why: the end of a sentence.
    Absent(String),
    /// It is up and has no address that a program can bind to, and why: the end of a sentence.
    WithoutAddress(String),
    /// It is up and has these addresses, at least one: those of IPv4 first, link-local ones left out.
    Up(Vec<IpAddr>),
}

impl Interface {
    /// Its addresses, if it is up and has any.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Up(addresses) => addresses,
            Self::Absent(_) | Self::WithoutAddress(_) => &[],
        }
    }

    /// Why it cannot be used, if that is so.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Up(_) => None,
            Self::Absent(why) | Self::WithoutAddress(why) => Some(why),
        }
    }
}

/// Looks at the interface, and then follows it for as long as anybody holds the receiver: its value is
/// what is the case now. That the kernel cannot be asked is a state too, which ends when it can.
///
/// Runs inside of a tokio runtime with I/O and time; sees the network namespace of the calling thread.
pub async fn follow(name: &str) -> watch::Receiver<Interface> {
    let mut socket = None;
    let first = look(&mut socket, name).await;
    let (sender, receiver) = watch::channel(first);
    let name = name.to_owned();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = changed(&mut socket) => {}
            }
            let now = look(&mut socket, &name).await;
            sender.send_if_modified(|before| {
                let other = *before != now;
                *before = now;
                other
            });
        }
    });
    receiver
}

/// How long to wait before trying to have sockets again.
const NO_SOCKET: Duration = Duration::from_millis(200);

struct Sockets {
    questions: Handle,
    /// A message for each change of any interface.
    changes: BoxStream<'static, ()>,
    tasks: [AbortHandle; 2],
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn open() -> std::io::Result<Sockets> {
    let (hearing, _, changes) = new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    let (asking, questions, _) = new_connection()?;
    let tasks = [tokio::spawn(hearing).abort_handle(), tokio::spawn(asking).abort_handle()];
    Ok(Sockets { questions, changes: changes.map(drop).boxed(), tasks })
}

/// Waits for a change of any interface; several at once are one.
async fn changed(sockets: &mut Option<Sockets>) {
    if let Some(open) = sockets
        && open.changes.next().await.is_some()
    {
        while let Some(Some(())) = open.changes.next().now_or_never() {}
        return;
    }
    // They are gone, or could not be had: the next look opens others.
    *sockets = None;
    tokio::time::sleep(NO_SOCKET).await;
}

async fn look(sockets: &mut Option<Sockets>, name: &str) -> Interface {
    // Listening begins before the first look, so that nothing is missed between the two.
    let open = match sockets.take() {
        Some(open) => open,
        None => match open() {
            Ok(open) => open,
            Err(error) => {
                return Interface::Absent(format!("cannot listen to rtnetlink: {error}"));
            }
        },
    };
    let questions = sockets.insert(open).questions.clone();
    match ask(&questions, name).await {
        Ok(found) => found,
        Err(error) => {
            let words = format!("cannot ask the kernel: {error}");
            *sockets = None;
            Interface::Absent(words)
        }
    }
}

async fn ask(questions: &Handle, name: &str) -> Result<Interface, rtnetlink::Error> {
    let found = questions.link().get().match_name(name.to_owned()).execute().try_next().await;
    let link = match found {
        Ok(Some(link)) => link,
        // ENODEV, in words.
        Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => {
            return Ok(Interface::Absent("there is no such interface".to_owned()));
        }
        Err(error) => return Err(error),
    };
    if !link.header.flags.contains(LinkFlags::Up) {
        return Ok(Interface::Absent("it is down".to_owned()));
    }
    let index = link.header.index;
    let mut messages = questions.address().get().set_link_index_filter(index).execute();
    let mut addresses = Vec::new();
    let mut why = NO_ADDRESS;
    while let Some(message) = messages.try_next().await? {
        match usable(&message) {
            Ok(Some(address)) => addresses.push(address),
            Ok(None) => {}
            // That an address is being checked says more than that there is a link-local one.
            Err(LINK_LOCAL) if why != NO_ADDRESS => {}
            Err(reason) => why = reason,
        }
    }
    if addresses.is_empty() {
        return Ok(Interface::WithoutAddress(why.to_owned()));
    }
    // The kernel's order within a family: the primary address first.
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(Interface::Up(addresses))
}

const NO_ADDRESS: &str = "it is up and has no address";
const LINK_LOCAL: &str = "it is up and has only a link-local address";

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
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        return Err(LINK_LOCAL);
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
