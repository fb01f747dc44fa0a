//! The network of a cluster.
//!
//! ```text
//! host          hfb77 10.77.0.254 ──veth── up0 ┐
//! control                                      br0 10.77.0.1   (API server, DNS)
//! node-1        eth0 10.77.0.11 ────veth── n1  ┤   pods 10.77.129.0/24
//! node-2        eth0 10.77.0.12 ────veth── n2  ┘   pods 10.77.130.0/24
//! ```
//!
//! Every cluster has a /16 that nothing else on the host has a route to. All of it is routed, none of it is
//! translated but for Services, so that a pod sees who talks to it, and the host can talk to nodes, pods
//! and (by way of node-1) Services. The host sees one link; it goes when the control unit does, and its
//! name is the claim on the /16: the kernel gives a name only once.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::Layout;
use super::unit::Control;

/// The addresses of a cluster: `10.{0}.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block(u8);

impl Block {
    pub(super) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 0, 254)
    }

    pub(super) fn control(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 0, 1)
    }

    /// The `number`th node, from 1.
    pub(super) fn node(self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 0, 10 + octet(number))
    }

    /// The pods of the `number`th node.
    pub(super) fn pods_of(self, number: usize) -> String {
        format!("10.{}.{}.0/24", self.0, 128 + octet(number))
    }

    pub(super) fn pods(self) -> String {
        format!("10.{}.128.0/17", self.0)
    }

    pub(super) fn services(self) -> String {
        format!("10.{}.16.0/20", self.0)
    }

    /// The Service `kubernetes`: always the first of the range.
    pub(super) fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 16, 1)
    }

    /// The Service `kube-dns`.
    pub(super) fn dns_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 16, 10)
    }

    /// The host's link.
    fn link(self) -> String {
        format!("hfb{}", self.0)
    }

    fn all(self) -> String {
        format!("10.{}.0.0/16", self.0)
    }
}

/// Takes a free block by making its link, the other end of which is in the control unit (whose process
/// 1 is `init`), and connects the two.
pub(super) async fn claim(layout: &Layout, control: &Control, init: i32) -> Result<Block> {
    let taken = taken()?;
    // The same directory tends to get the same addresses.
    let start = u8::from_str_radix(&layout.id()[..2], 16).unwrap_or(0);
    let blocks = (0..COUNT).map(|i| Block(FIRST + start.wrapping_add(i) % COUNT));
    for block in blocks.filter(|block| !taken.contains(&block.0)) {
        let link = block.link();
        let pid = init.to_string();
        let made =
            ip(&["link", "add", &link, "type", "veth", "peer", "name", "up0", "netns", &pid]);
        match made {
            Ok(_) => {
                // Whose it is, should everything else be lost.
                ip(&["link", "set", &link, "alias", &layout.cgroup()])?;
                connect(block, control).await?;
                return Ok(block);
            }
            Err(e) if format!("{e:#}").contains("File exists") => {}
            Err(e) => return Err(e),
        }
    }
    bail!(
        "no block 10.{FIRST}.0.0/16 … is free: take down other clusters (`cargo xtask cluster down`)"
    )
}

async fn connect(block: Block, control: &Control) -> Result<()> {
    let own = format!("{}/24", block.control());
    for words in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", "br0", "type", "bridge", "forward_delay", "0"],
        &["addr", "add", &own, "dev", "br0"],
        &["link", "set", "br0", "up"],
        &["link", "set", "up0", "master", "br0", "up"],
    ] {
        control.run(&[&["ip"], words].concat()).await?;
    }
    let link = block.link();
    ip(&["addr", "add", &format!("{}/24", block.host()), "dev", &link])?;
    ip(&["link", "set", &link, "up"])?;
    ip(&["route", "add", &block.all(), "via", &block.control().to_string(), "dev", &link])?;
    Ok(())
}

/// Connects the units of nodes, given with their process 1, to that of the control plane.
pub(super) async fn join(
    block: Block,
    control: (&Control, i32),
    nodes: &[(Control, i32)],
) -> Result<()> {
    let gateway = block.control().to_string();
    for (number, (node, init)) in (1..).zip(nodes) {
        let port = format!("n{number}");
        // Both process ids are the host's, so that it takes the host to connect them.
        let there = format!("--net=/proc/{}/ns/net", control.1);
        let pid = init.to_string();
        run(Command::new("nsenter").arg(there).args([
            "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ]))?;
        control.0.run(&["ip", "link", "set", &port, "master", "br0", "up"]).await?;
        let own = format!("{}/24", block.node(number));
        for words in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &own, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", &gateway],
        ] {
            node.run(&[&["ip"], words].concat()).await?;
        }
    }
    // Pods are behind their node, for the control plane and for every other node.
    for number in 1..=nodes.len() {
        let (pods, via) = (block.pods_of(number), block.node(number).to_string());
        let others = (1..).zip(nodes).filter(|(other, _)| *other != number);
        for unit in others.map(|(_, (unit, _))| unit).chain([control.0]) {
            unit.run(&["ip", "route", "add", &pods, "via", &via]).await?;
        }
    }
    if !nodes.is_empty() {
        let via = block.node(1).to_string();
        control.0.run(&["ip", "route", "add", &block.services(), "via", &via]).await?;
    }
    Ok(())
}

/// Second octets of networks 10.x that the host knows already.
fn taken() -> Result<Vec<u8>> {
    let routes: Value = serde_json::from_str(&ip(&["-j", "-4", "route", "show", "table", "all"])?)
        .context("`ip -j route`")?;
    let mut taken = Vec::new();
    for route in routes.as_array().into_iter().flatten() {
        let Some(destination) = route.get("dst").and_then(Value::as_str) else { continue };
        let (address, length) = destination.split_once('/').unwrap_or((destination, "32"));
        let (Ok(address), Ok(length)) = (address.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
            continue;
        };
        let mask = u32::MAX.checked_shl(32 - length.clamp(1, 16)).unwrap_or(0);
        taken.extend((FIRST..FIRST + COUNT).filter(|octet| {
            let block = u32::from(Ipv4Addr::new(10, *octet, 0, 0));
            length > 0 && (block ^ u32::from(address)) & mask == 0
        }));
    }
    Ok(taken)
}

/// The host's links of a cluster.
pub(super) fn links(layout: &Layout) -> Result<Vec<String>> {
    let links: Value =
        serde_json::from_str(&ip(&["-j", "link", "show"])?).context("`ip -j link`")?;
    let word = |link: &Value, key: &str| link.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| word(link, "ifalias").as_deref() == Some(&layout.cgroup()))
        .filter_map(|link| word(link, "ifname"))
        .collect())
}

/// Runs `ip` on the host.
fn ip(words: &[&str]) -> Result<String> {
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}`: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Node numbers are at most [`MAX_NODES`], which [`super::Options`] holds.
fn octet(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX).min(MAX_NODES)
}

/// As many as there are pod networks in a block.
pub(super) const MAX_NODES: u8 = 99;
/// Second octets to choose from: 10.64 to 10.127.
const FIRST: u8 = 64;
const COUNT: u8 = 64;
