//! Finding out who does not answer (memberlist: `probe`, `probeNode`, `awareness.go`).
//!
//! Once an interval the next node, in an order that is shuffled each round, is sent a ping. If it does not answer,
//! a few others are asked to try, and a connection is tried as well, since it may be datagrams only that do not
//! get through. If nothing has come of it by the end of the interval, the node is suspected. A node that misses
//! answers that others get takes longer before it accuses anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::event::Alarm;
use crate::io::Io;
use crate::swim::{State, Swim};
use crate::wire::{self, Accusation, Ack, IndirectPing, Ping, address, address_bytes, kind};

/// How distrustful of itself a node gets at most (memberlist: `AwarenessMaxMultiplier`).
const MOST_BLAME: u32 = 8;
/// How many answers are waited for at once, most of them on others' behalf.
const MOST_WAITING: usize = 1024;

#[derive(Debug)]
enum Waiting {
    /// For the node that is probed.
    Probe { node: String, helpers: u32, refusals: u32 },
    /// For somebody else, who is to be told as `number`.
    OnBehalf { of: SocketAddr, number: u32, nack: bool },
}

/// What has been sent and not been answered.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Names in the order in which they are probed.
    pub(crate) order: Vec<String>,
    next: usize,
    last_number: u32,
    waiting: BTreeMap<u32, Waiting>,
    blame: u32,
}

impl Probes {
    fn number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    /// This node seems slow itself.
    pub(crate) fn blame(&mut self, more: u32) {
        self.blame = (self.blame + more).min(MOST_BLAME - 1);
    }

    /// Somebody who was asked to try has tried, in vain: so it is not this node that hears nothing.
    pub(crate) fn nack(&mut self, number: u32) {
        if let Some(Waiting::Probe { refusals, .. }) = self.waiting.get_mut(&number) {
            *refusals += 1;
        }
    }

    fn is_probing(&self) -> bool {
        self.waiting.values().any(|w| matches!(w, Waiting::Probe { .. }))
    }

    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
        self.order.clear();
    }
}

impl Swim {
    /// A ping to `node`, to be answered as `number`.
    pub(crate) fn ping(&self, node: &str, number: u32) -> Vec<u8> {
        let me = self.me();
        wire::encode(
            kind::PING,
            &Ping {
                seq_no: number,
                node: node.to_owned(),
                source_addr: address_bytes(me.address.ip()),
                source_port: me.address.port(),
                source_node: self.name.clone(),
            },
        )
    }

    /// Probes the next node.
    pub(crate) fn probe(&mut self, io: &mut Io) {
        io.alarms.set(io.now + self.timing.probe_interval, Alarm::Probe);
        if self.probes.is_probing() {
            return;
        }
        let Some(name) = self.next_to_probe(io) else { return };
        let node = &self.nodes[&name];
        let (to, suspected) = (node.address, node.state == State::Suspect);
        let accusation = Accusation {
            incarnation: node.incarnation,
            node: name.clone(),
            from: self.name.clone(),
        };
        let number = self.probes.number();
        let slower = self.probes.blame + 1;
        io.alarms.set(io.now + self.timing.probe_timeout * slower, Alarm::ProbeIndirectly(number));
        io.alarms.set(io.now + self.timing.probe_interval * slower, Alarm::ProbeOver(number));
        let mut ping = self.ping(&name, number);
        if suspected {
            // So that it knows at once, and can refute.
            ping = wire::compound(&[ping, wire::encode(kind::SUSPECT, &accusation)]);
        }
        self.probes.waiting.insert(number, Waiting::Probe { node: name, helpers: 0, refusals: 0 });
        if suspected {
            let checksum = self.nodes.values().any(|n| n.address == to && n.knows_checksums());
            io.send(to, &ping, checksum);
        } else {
            self.send_with_gossip(io, to, ping);
        }
    }

    fn next_to_probe(&mut self, io: &mut Io) -> Option<String> {
        for round in 0..2 {
            while let Some(name) = self.probes.order.get(self.probes.next) {
                self.probes.next += 1;
                if self.nodes.get(name).is_some_and(|node| !node.state.is_gone()) {
                    return Some(name.clone());
                }
            }
            if round == 0 {
                self.forget_the_dead(io.now);
                let mut order = std::mem::take(&mut self.probes.order);
                io.shuffle(&mut order);
                (self.probes.order, self.probes.next) = (order, 0);
            }
        }
        None
    }

    /// Whom a probe is about, and where it is, while it is not answered.
    pub(crate) fn probed(&self, number: u32) -> Option<(String, SocketAddr)> {
        match self.probes.waiting.get(&number)? {
            Waiting::Probe { node, .. } => Some((node.clone(), self.nodes.get(node)?.address)),
            Waiting::OnBehalf { .. } => None,
        }
    }

    /// Asks a few others to try.
    pub(crate) fn probe_indirectly(&mut self, io: &mut Io, number: u32) {
        let Some((name, at)) = self.probed(number) else { return };
        let me = self.me().address;
        let request = wire::encode(
            kind::INDIRECT_PING,
            &IndirectPing {
                seq_no: number,
                target: address_bytes(at.ip()),
                port: at.port(),
                node: name.clone(),
                nack: true,
                source_addr: address_bytes(me.ip()),
                source_port: me.port(),
                source_node: self.name.clone(),
            },
        );
        let mut others: Vec<SocketAddr> = self
            .nodes
            .iter()
            .filter(|(n, node)| **n != self.name && **n != name && node.state == State::Alive)
            .map(|(_, node)| node.address)
            .collect();
        io.shuffle(&mut others);
        others.truncate(self.timing.indirect_checks);
        if let Some(Waiting::Probe { helpers, .. }) = self.probes.waiting.get_mut(&number) {
            *helpers = others.len() as u32;
        }
        for to in others {
            self.send_with_gossip(io, to, request.clone());
        }
    }

    /// Nothing has come of a probe.
    pub(crate) fn probe_over(&mut self, io: &mut Io, number: u32) {
        let Some(Waiting::Probe { node, helpers, refusals }) = self.probes.waiting.remove(&number)
        else {
            return;
        };
        // Who was asked and said nothing either way may be out of *our* reach.
        self.probes.blame(if helpers > 0 { helpers.saturating_sub(refusals) } else { 1 });
        let Some(known) = self.nodes.get(&node) else { return };
        let said = Accusation { incarnation: known.incarnation, node, from: self.name.clone() };
        self.suspect(io, &said);
    }

    /// An answer came, by datagram or stream.
    pub(crate) fn acknowledged(&mut self, io: &mut Io, number: u32) {
        match self.probes.waiting.remove(&number) {
            Some(Waiting::Probe { .. }) => self.probes.blame = self.probes.blame.saturating_sub(1),
            Some(Waiting::OnBehalf { of, number, .. }) => {
                let ack = wire::encode(kind::ACK, &Ack { seq_no: number });
                self.send_with_gossip(io, of, ack);
            }
            None => {}
        }
    }

    /// Somebody probes this node, or the one that had its address before: then nobody answers.
    pub(crate) fn pinged(&mut self, io: &mut Io, from: SocketAddr, ping: &Ping) {
        if !ping.node.is_empty() && ping.node != self.name {
            return io.refuse(Some(from), format!("it takes this node for {:?}", ping.node));
        }
        let to = address(&ping.source_addr, ping.source_port).unwrap_or(from);
        let ack = wire::encode(kind::ACK, &Ack { seq_no: ping.seq_no });
        self.send_with_gossip(io, to, ack);
    }

    /// Somebody does not reach a node, and asks whether this one does.
    pub(crate) fn asked_to_ping(&mut self, io: &mut Io, from: SocketAddr, asked: &IndirectPing) {
        let Some(target) = address(&asked.target, asked.port) else { return };
        if self.probes.waiting.len() >= MOST_WAITING {
            return io.refuse(Some(from), "too many nodes ask to have others probed");
        }
        let of = address(&asked.source_addr, asked.source_port).unwrap_or(from);
        let number = self.probes.number();
        self.probes
            .waiting
            .insert(number, Waiting::OnBehalf { of, number: asked.seq_no, nack: asked.nack });
        io.alarms.set(io.now + self.timing.probe_timeout, Alarm::NoAnswerFor(number));
        let ping = self.ping(&asked.node, number);
        self.send_with_gossip(io, target, ping);
    }

    /// A ping on somebody's behalf has not been answered.
    pub(crate) fn no_answer_for(&mut self, io: &mut Io, number: u32) {
        if let Some(Waiting::OnBehalf { of, number, nack: true }) =
            self.probes.waiting.remove(&number)
        {
            io.send(of, &wire::encode(kind::NACK, &Ack { seq_no: number }), false);
        }
    }
}
