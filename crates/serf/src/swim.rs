//! Who answers: the SWIM protocol with memberlist's refinements (`state.go`).
//!
//! A node is alive until somebody suspects it, and then either refutes, with a higher incarnation, or is
//! dead. Each such step is gossiped. Probing is in [`crate::probe`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_bytes::ByteBuf;

use crate::event::{Alarm, Event, part_of};
use crate::io::Io;
use crate::probe::Probes;
use crate::queue::{About, Queue, Ticket};
use crate::settings::Timing;
use crate::time::Time;
use crate::wire::{
    self, Accusation, Alive, Malformed, PushNode, VERSIONS, address, address_bytes, kind,
    node_state,
};

/// Overheads of a compound message, and of each message in it.
pub(crate) const COMPOUND: usize = 2;
pub(crate) const PART: usize = 2;
/// How deep messages may be packed into each other: a compressed compound of compressed ones is deep enough.
const DEPTH: u8 = 4;
/// Most that a datagram may hold when it is unpacked.
const UNPACKED: usize = 64 << 10;
/// Most nodes that are kept. In clear, whoever can send could invent them.
const MOST_NODES: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Alive,
    Suspect,
    Dead,
    Left,
}

impl State {
    pub(crate) const fn is_gone(self) -> bool {
        matches!(self, Self::Dead | Self::Left)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Alive => node_state::ALIVE,
            Self::Suspect => node_state::SUSPECT,
            Self::Dead => node_state::DEAD,
            Self::Left => node_state::LEFT,
        }
    }
}

/// A suspicion: the more suspect, the sooner it is over (Lifeguard; memberlist: `suspicion.go`).
#[derive(Debug)]
struct Suspicion {
    number: u64,
    since: Time,
    by: BTreeSet<String>,
    wanted: u32,
    least: Duration,
    most: Duration,
}

impl Suspicion {
    /// When it is over, by how many confirm it.
    fn ends(&self) -> Time {
        let confirmed = self.by.len().saturating_sub(1) as f64;
        if self.wanted == 0 {
            return self.since + self.least;
        }
        let share = (confirmed + 1.0).ln() / (f64::from(self.wanted) + 1.0).ln();
        let range = self.most.saturating_sub(self.least);
        self.since + self.most.saturating_sub(range.mul_f64(share.clamp(0.0, 1.0))).max(self.least)
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) meta: Vec<u8>,
    pub(crate) versions: Vec<u8>,
    pub(crate) incarnation: u32,
    pub(crate) state: State,
    changed: Time,
    suspicion: Option<Suspicion>,
}

impl Node {
    /// Whether it reads checksums (memberlist's protocol 5).
    pub(crate) fn knows_checksums(&self) -> bool {
        self.versions.get(1).is_some_and(|most| *most >= 5)
    }
}

/// What the Serf layer has to know.
#[derive(Debug)]
pub(crate) enum Note {
    Joined(String),
    Updated(String),
    Gone(String),
    User { from: SocketAddr, message: Vec<u8> },
}

#[derive(Debug)]
pub(crate) struct Swim {
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) queue: Queue,
    pub(crate) notes: Vec<Note>,
    pub(crate) probes: Probes,
    pub(crate) leaving: bool,
    /// Of this node; taken numbers are not taken again.
    incarnation: u32,
    suspicions: u64,
}

impl Swim {
    pub(crate) fn new(name: String, address: SocketAddr, meta: Vec<u8>, timing: Timing) -> Self {
        let me = Node {
            address,
            meta,
            versions: VERSIONS.to_vec(),
            incarnation: 1,
            state: State::Alive,
            changed: Time::default(),
            suspicion: None,
        };
        Self {
            nodes: BTreeMap::from([(name.clone(), me)]),
            name,
            timing,
            queue: Queue::default(),
            notes: Vec::new(),
            probes: Probes::default(),
            leaving: false,
            incarnation: 1,
            suspicions: 0,
        }
    }

    pub(crate) fn start(&mut self, io: &mut Io) {
        let first = |io: &mut Io, every: Duration| {
            let random = io.random();
            io.now + part_of(every, random)
        };
        let (probe, gossip) =
            (first(io, self.timing.probe_interval), first(io, self.timing.gossip_interval));
        io.alarms.set(probe, Alarm::Probe);
        io.alarms.set(gossip, Alarm::Gossip);
        let exchange = first(io, self.timing.push_pull_interval);
        io.alarms.set(exchange, Alarm::PushPull);
        let alive = self.alive_message();
        self.queue.push(About::Node(self.name.clone()), alive);
    }

    pub(crate) fn me(&self) -> &Node {
        &self.nodes[&self.name]
    }

    fn me_mut(&mut self) -> &mut Node {
        self.nodes.get_mut(&self.name).expect("this node is put in first and never taken out")
    }

    /// How many nodes are not gone, this one among them.
    pub(crate) fn live(&self) -> usize {
        self.nodes.values().filter(|node| !node.state.is_gone()).count()
    }

    fn alive_message(&self) -> Vec<u8> {
        let me = self.me();
        wire::encode(
            kind::ALIVE,
            &Alive {
                incarnation: me.incarnation,
                node: self.name.clone(),
                addr: address_bytes(me.address.ip()),
                port: me.address.port(),
                meta: ByteBuf::from(me.meta.clone()),
                vsn: ByteBuf::from(me.versions.clone()),
            },
        )
    }

    /// Says again that this node is alive, with an incarnation above `said`.
    fn refute(&mut self, said: u32) {
        self.incarnation = self.incarnation.max(said).saturating_add(1);
        self.me_mut().incarnation = self.incarnation;
        self.probes.blame(1);
        let message = self.alive_message();
        self.queue.push(About::Node(self.name.clone()), message);
    }

    /// New meta data of this node (memberlist: `UpdateNode`).
    pub(crate) fn set_meta(&mut self, meta: Vec<u8>) {
        self.incarnation = self.incarnation.saturating_add(1);
        let incarnation = self.incarnation;
        let me = self.me_mut();
        (me.meta, me.incarnation) = (meta, incarnation);
        let message = self.alive_message();
        self.queue.push(About::Node(self.name.clone()), message);
    }

    /// Says that this node leaves; the ticket tells when it has been said often enough.
    pub(crate) fn leave(&mut self, now: Time) -> Ticket {
        self.leaving = true;
        let me = self.me_mut();
        (me.state, me.changed) = (State::Left, now);
        let said = Accusation {
            incarnation: me.incarnation,
            node: self.name.clone(),
            from: self.name.clone(),
        };
        self.queue.push(About::Node(self.name.clone()), wire::encode(kind::DEAD, &said))
    }

    /// A message of a datagram, unpacked and carried out.
    pub(crate) fn message(&mut self, io: &mut Io, from: SocketAddr, message: &[u8]) {
        if let Err(e) = self.dispatch(io, from, message, DEPTH) {
            io.refuse(Some(from), e);
        }
    }

    fn dispatch(
        &mut self,
        io: &mut Io,
        from: SocketAddr,
        message: &[u8],
        depth: u8,
    ) -> Result<(), Malformed> {
        let (&kind, body) =
            message.split_first().ok_or_else(|| Malformed::new("an empty message"))?;
        let deeper = depth.checked_sub(1).ok_or_else(|| Malformed::new("messages packed too deep"));
        match kind {
            kind::COMPOUND => {
                let deeper = deeper?;
                for part in wire::split_compound(body)? {
                    self.dispatch(io, from, part, deeper)?;
                }
            }
            kind::COMPRESSED => {
                let unpacked = wire::decompress(body, UNPACKED)?;
                self.dispatch(io, from, &unpacked, deeper?)?;
            }
            kind::PING => self.pinged(io, from, &wire::decode("ping", body)?),
            kind::INDIRECT_PING => {
                self.asked_to_ping(io, from, &wire::decode("indirect ping", body)?)
            }
            kind::ACK => self.acknowledged(io, wire::decode::<wire::Ack>("ack", body)?.seq_no),
            kind::NACK => self.probes.nack(wire::decode::<wire::Ack>("nack", body)?.seq_no),
            kind::SUSPECT => self.suspect(io, &wire::decode("suspicion", body)?),
            kind::DEAD => self.dead(io, &wire::decode("death", body)?),
            kind::ALIVE => self.alive(io, &wire::decode("sign of life", body)?),
            kind::USER => self.notes.push(Note::User { from, message: body.to_vec() }),
            other => return Err(Malformed::new(format!("a message of an unknown type {other}"))),
        }
        Ok(())
    }

    /// Somebody is said to be alive (`aliveNode`).
    pub(crate) fn alive(&mut self, io: &mut Io, said: &Alive) {
        let mine = said.node == self.name;
        if mine && self.leaving {
            return;
        }
        let Some(address) = address(&said.addr, said.port) else {
            return io.refuse(None, format!("{:?} is said to be at no address", said.node));
        };
        if let [least, most, now, ..] = **said.vsn
            && (least == 0 || most == 0 || least > most || now < least || now > most)
        {
            return io.refuse(Some(address), format!("{:?} speaks no protocol of ours", said.node));
        }
        if !self.nodes.contains_key(&said.node) {
            if said.node.is_empty() || self.nodes.len() >= MOST_NODES {
                return io.refuse(Some(address), "a node too many, or one without a name");
            }
            let node = Node {
                address,
                meta: said.meta.to_vec(),
                versions: said.vsn.to_vec(),
                incarnation: 0,
                state: State::Dead,
                changed: io.now,
                suspicion: None,
            };
            self.nodes.insert(said.node.clone(), node);
            let at = io.below(self.probes.order.len() + 1);
            self.probes.order.insert(at, said.node.clone());
        }
        let node = self.nodes.get_mut(&said.node).expect("it was put in above if it was not there");
        let mut moved = false;
        if node.address != address {
            // Only who has left may come back elsewhere; everyone else may be an impostor.
            moved = !mine && node.state == State::Left;
            if !moved {
                let holder = node.address;
                return io.event(Event::NameTaken {
                    name: said.node.clone(),
                    holder,
                    other: address,
                });
            }
        }
        if mine {
            // An echo, or an earlier life of this node: then it is outdone.
            let known = said.incarnation < node.incarnation
                || (said.incarnation == node.incarnation && said.meta.as_slice() == node.meta);
            if !known {
                self.refute(said.incarnation);
            }
            return;
        }
        if said.incarnation <= node.incarnation && !moved {
            return;
        }
        let was = node.state;
        let updated = node.meta != said.meta.as_slice() || moved;
        node.suspicion = None;
        node.address = address;
        node.meta = said.meta.to_vec();
        if !said.vsn.is_empty() {
            node.versions = said.vsn.to_vec();
        }
        node.incarnation = said.incarnation;
        if was != State::Alive {
            (node.state, node.changed) = (State::Alive, io.now);
        }
        self.queue.push(About::Node(said.node.clone()), wire::encode(kind::ALIVE, said));
        if was.is_gone() {
            self.notes.push(Note::Joined(said.node.clone()));
        } else if updated {
            self.notes.push(Note::Updated(said.node.clone()));
        }
    }

    /// Somebody is suspected (`suspectNode`).
    pub(crate) fn suspect(&mut self, io: &mut Io, said: &Accusation) {
        let count = self.nodes.len();
        let Some(node) = self.nodes.get_mut(&said.node) else { return };
        if said.incarnation < node.incarnation {
            return;
        }
        if let Some(suspicion) = &mut node.suspicion {
            let enough = suspicion.by.len() > suspicion.wanted as usize;
            if !enough && suspicion.by.insert(said.from.clone()) {
                let alarm = Alarm::Suspicion(said.node.clone(), suspicion.number);
                io.alarms.set(suspicion.ends(), alarm);
                self.queue.push(About::Node(said.node.clone()), wire::encode(kind::SUSPECT, said));
            }
            return;
        }
        if node.state != State::Alive {
            return;
        }
        if said.node == self.name {
            return self.refute(said.incarnation);
        }
        self.suspicions += 1;
        let least = self.timing.suspicion_least(count);
        // Nobody else can confirm in a cluster too small for it.
        let wanted = self.timing.suspicion_mult.saturating_sub(2);
        let suspicion = Suspicion {
            number: self.suspicions,
            since: io.now,
            by: BTreeSet::from([said.from.clone()]),
            wanted: if count < wanted as usize + 2 { 0 } else { wanted },
            least,
            most: least * self.timing.suspicion_max_mult,
        };
        io.alarms.set(suspicion.ends(), Alarm::Suspicion(said.node.clone(), suspicion.number));
        node.suspicion = Some(suspicion);
        node.incarnation = said.incarnation;
        (node.state, node.changed) = (State::Suspect, io.now);
        self.queue.push(About::Node(said.node.clone()), wire::encode(kind::SUSPECT, said));
    }

    /// A suspicion may be over.
    pub(crate) fn suspicion_over(&mut self, io: &mut Io, name: &str, number: u64) {
        let Some(node) = self.nodes.get(name) else { return };
        let Some(suspicion) = node.suspicion.as_ref().filter(|s| s.number == number) else {
            return;
        };
        if suspicion.ends() > io.now {
            return;
        }
        let said = Accusation {
            incarnation: node.incarnation,
            node: name.to_owned(),
            from: self.name.clone(),
        };
        self.dead(io, &said);
    }

    /// Somebody is said to be dead, or says so itself: then it left (`deadNode`).
    pub(crate) fn dead(&mut self, io: &mut Io, said: &Accusation) {
        let Some(node) = self.nodes.get_mut(&said.node) else { return };
        if said.incarnation < node.incarnation || node.state.is_gone() {
            return;
        }
        if said.node == self.name {
            return self.refute(said.incarnation);
        }
        node.suspicion = None;
        node.incarnation = said.incarnation;
        node.state = if said.node == said.from { State::Left } else { State::Dead };
        node.changed = io.now;
        self.queue.push(About::Node(said.node.clone()), wire::encode(kind::DEAD, said));
        self.notes.push(Note::Gone(said.node.clone()));
    }

    /// All nodes, for a full exchange.
    pub(crate) fn nodes_to_push(&self) -> Vec<PushNode> {
        let push = |(name, node): (&String, &Node)| PushNode {
            name: name.clone(),
            addr: address_bytes(node.address.ip()),
            port: node.address.port(),
            meta: ByteBuf::from(node.meta.clone()),
            incarnation: node.incarnation,
            state: node.state.code(),
            vsn: ByteBuf::from(node.versions.clone()),
        };
        self.nodes.iter().map(push).collect()
    }

    /// All that another node knows (`mergeState`).
    pub(crate) fn merge(&mut self, io: &mut Io, remote: Vec<PushNode>) {
        for node in remote {
            // That somebody is dead elsewhere is a reason to suspect it, not more.
            let from = match node.state {
                node_state::LEFT => node.name.clone(),
                _ => self.name.clone(),
            };
            match node.state {
                node_state::ALIVE => {
                    let said = Alive {
                        incarnation: node.incarnation,
                        node: node.name,
                        addr: node.addr,
                        port: node.port,
                        meta: node.meta,
                        vsn: node.vsn,
                    };
                    self.alive(io, &said);
                }
                node_state::LEFT => {
                    let said = Accusation { incarnation: node.incarnation, node: node.name, from };
                    self.dead(io, &said);
                }
                node_state::SUSPECT | node_state::DEAD => {
                    let said = Accusation { incarnation: node.incarnation, node: node.name, from };
                    self.suspect(io, &said);
                }
                _ => {}
            }
        }
    }

    /// Tells a few nodes what is queued (`gossip`).
    pub(crate) fn gossip(&mut self, io: &mut Io) {
        io.alarms.set(io.now + self.timing.gossip_interval, Alarm::Gossip);
        let told = |node: &Node| match node.state {
            State::Alive | State::Suspect => true,
            State::Dead | State::Left => {
                io.now.since(node.changed) <= self.timing.gossip_to_the_dead
            }
        };
        let mut candidates: Vec<(SocketAddr, bool)> = self
            .nodes
            .iter()
            .filter(|(name, node)| **name != self.name && told(node))
            .map(|(_, node)| (node.address, node.knows_checksums()))
            .collect();
        io.shuffle(&mut candidates);
        for (to, checksum) in candidates.into_iter().take(self.timing.gossip_nodes) {
            let (room, live) = (io.room() - COMPOUND, self.nodes.len());
            let mut messages = self.queue.take(PART, room, self.timing.retransmit_mult, live);
            match messages.len() {
                0 => return,
                1 => io.send(to, &messages.remove(0), checksum),
                _ => io.send(to, &wire::compound(&messages), checksum),
            }
        }
    }

    /// Sends a message, and in the same datagram what is queued and fits.
    pub(crate) fn send_with_gossip(&mut self, io: &mut Io, to: SocketAddr, message: Vec<u8>) {
        let checksum = self.nodes.values().any(|node| node.address == to && node.knows_checksums());
        let room = io.room().saturating_sub(COMPOUND + PART + message.len());
        let mut messages =
            self.queue.take(PART, room, self.timing.retransmit_mult, self.nodes.len());
        if messages.is_empty() {
            return io.send(to, &message, checksum);
        }
        messages.insert(0, message);
        io.send(to, &wire::compound(&messages), checksum);
    }

    /// Forgets nodes that are gone and have been told so for long enough (`resetNodes`).
    pub(crate) fn forget_the_dead(&mut self, now: Time) {
        let (limit, name) = (self.timing.gossip_to_the_dead, &self.name);
        self.nodes.retain(|n, node| {
            n == name || !node.state.is_gone() || now.since(node.changed) <= limit
        });
        let nodes = &self.nodes;
        self.probes.order.retain(|name| nodes.contains_key(name));
    }

    /// Some node to exchange everything with.
    pub(crate) fn partner(&self, io: &mut Io) -> Option<SocketAddr> {
        let live: Vec<SocketAddr> = self
            .nodes
            .iter()
            .filter(|(name, node)| **name != self.name && node.state == State::Alive)
            .map(|(_, node)| node.address)
            .collect();
        live.get(io.below(live.len())).copied()
    }
}
