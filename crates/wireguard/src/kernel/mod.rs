//! The kernel's data plane, by netlink: an interface of kind `wireguard` is made, told and asked.
//!
//! Requests to the kernel are answered within the system call, so they are made without a runtime. The
//! sockets are those of the network namespace that the device was made in; the interface is removed by
//! them when the device is dropped. A process that is killed leaves it behind, as the kernel's
//! interfaces are nobody's: the next one that makes an interface of that name finds it taken, and says so.

mod netlink;
mod words;

use std::io;

use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use rustix::io::Errno;

use crate::config::{Status, Update};
use netlink::Line;

/// A device of the kernel; its interface is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    name: String,
    route: Line,
    generic: Line,
    /// The number that the kernel gave to its WireGuard.
    family: u16,
}

fn link(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

impl Kernel {
    /// Makes an interface. `None` if the kernel has no WireGuard.
    ///
    /// # Errors
    /// If it is refused: EEXIST if there is an interface of that name, EPERM without CAP_NET_ADMIN.
    pub(crate) fn create(name: &str) -> io::Result<Option<Self>> {
        let (route, generic) = (Line::open(NETLINK_ROUTE)?, Line::open(NETLINK_GENERIC)?);
        let mut message = link(name);
        let kind = LinkInfo::Kind(InfoKind::Wireguard);
        message.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
        match route.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut device = Self { name: name.to_owned(), route, generic, family: 0 };
        device.family = device.family()?;
        Ok(Some(device))
    }

    fn family(&self) -> io::Result<u16> {
        let request = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(WireguardMessage::family_name().to_owned())],
        };
        let answers = self.generic.ask(GenlMessage::from_payload(request), 0)?;
        let mut attributes = answers.into_iter().flat_map(|answer| answer.payload.nlas);
        let number = attributes.find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(number) => Some(number),
            _ => None,
        });
        number.ok_or_else(|| io::Error::other("the kernel does not say which its WireGuard is"))
    }

    fn ask(&self, message: WireguardMessage, flags: u16) -> io::Result<Vec<WireguardMessage>> {
        let mut message = GenlMessage::from_payload(message);
        message.set_resolved_family_id(self.family);
        let answers = self.generic.ask(message, flags)?;
        Ok(answers.into_iter().map(|answer| answer.payload).collect())
    }

    /// Makes a change. One that does not fit into one message is made in several; what the kernel can
    /// refuse, the port and the mark, is in the first.
    ///
    /// # Errors
    /// What the kernel says: EADDRINUSE if the port is taken.
    pub(crate) fn update(&self, update: &Update) -> io::Result<()> {
        words::messages(&self.name, update)
            .into_iter()
            .try_for_each(|message| self.ask(message, 0).map(drop))
    }

    /// What is the case.
    ///
    /// # Errors
    /// ENODEV if somebody has removed it.
    pub(crate) fn status(&self) -> io::Result<Status> {
        let request = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![WireguardAttribute::IfName(self.name.clone())],
        };
        Ok(words::status(self.ask(request, NLM_F_DUMP)?))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Err(error) = self.route.ask(RouteNetlinkMessage::DelLink(link(&self.name)), 0)
            && error.raw_os_error() != Some(Errno::NODEV.raw_os_error())
        {
            tracing::warn!("the interface {} is left behind: {error}", self.name);
        }
    }
}
