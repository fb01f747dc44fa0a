//! A network of nodes in virtual time, where every fault happens that a seed asks for: loss, delay, partitions,
//! crashes, restarts. The same seed gives the same run.

mod attacks;
mod chaos;
mod cluster;
mod scale;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::address::{Pool, PoolConfig};
use crate::crypto::{self, Dice, Key};
use crate::event::{Input, MemberEvent, Notice, Output, Snapshot, Status};
use crate::identity::{Identity, NodeId};
use crate::machine::{Config, Entry, Local, Membership};
use crate::mutant::Mutant;
use crate::record::Record;
use crate::secret::ClusterSecret;
use crate::swim::Timing;
use crate::time::{Now, Time, Wall};

thread_local! {
    static CHEAP: Cell<bool> = const { Cell::new(false) };
}

/// In worlds of many nodes the keys of pairs are made of their ids: there would be a million agreements.
pub(crate) fn cheap_pair(identity: &Identity, record: &Record) -> Option<Key> {
    let (a, b) = (identity.id().min(record.id()), identity.id().max(record.id()));
    CHEAP.get().then(|| Key::new(crypto::sha256(&[&a.0, &b.0])))
}

pub(super) struct World {
    pub(super) time: Time,
    pub(super) nodes: Vec<Node>,
    wire: BTreeMap<(Time, u64), Flight>,
    wakes: BTreeSet<(Time, usize)>,
    by_addr: BTreeMap<SocketAddr, usize>,
    dice: Dice,
    sent: u64,
    /// Of a thousand datagrams so many are lost.
    pub(super) loss: usize,
    /// How long one is on its way.
    pub(super) delay: [Duration; 2],
    /// Only nodes of one group reach each other.
    pub(super) groups: Vec<u8>,
    /// Every datagram that was sent, if wanted.
    pub(super) capture: Option<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
    pub(super) pool: Pool,
    pub(super) timing: Timing,
    pub(super) mutant: Option<Mutant>,
    seed: u64,
}

struct Flight {
    to: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

pub(super) struct Node {
    pub(super) it: Option<Membership>,
    pub(super) key: u8,
    index: usize,
    pub(super) addr: SocketAddr,
    /// What was persisted last.
    pub(super) state: Option<Vec<u8>>,
    wake: Option<Time>,
    starts: u64,
    pub(super) events: Vec<MemberEvent>,
    pub(super) notices: Vec<Notice>,
    pub(super) said: Vec<Output>,
}

pub(super) fn secret(n: u8) -> ClusterSecret {
    ClusterSecret::new((0..32).map(|i| n ^ (i * 7)).collect()).unwrap()
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 168, (index / 250) as u8, (index % 250) as u8 + 1], 7946))
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        CHEAP.set(false);
        Self {
            time: Time::from_millis(1),
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            wakes: BTreeSet::new(),
            by_addr: BTreeMap::new(),
            dice: Dice::new(&crypto::sha256(&[&seed.to_be_bytes()]), "world"),
            sent: 0,
            loss: 0,
            delay: [Duration::from_micros(200), Duration::from_millis(2)],
            groups: Vec::new(),
            capture: None,
            pool: Pool::new(PoolConfig::default()).unwrap(),
            timing: Timing::default(),
            mutant: None,
            seed,
        }
    }

    pub(super) fn cheap(self) -> Self {
        CHEAP.set(true);
        self
    }

    /// A small subnet, so that claims collide.
    pub(super) fn subnet(mut self, v4: &str) -> Self {
        let config = PoolConfig { v4: Some(v4.parse().unwrap()), v6: None, ..Default::default() };
        self.pool = Pool::new(config).unwrap();
        self
    }

    pub(super) fn now(&self) -> Now {
        let wall = Wall(1_700_000_000 + self.time.as_nanos() / 1_000_000_000);
        Now { time: self.time, wall }
    }

    /// Starts a new node that joins the first.
    pub(super) fn add(&mut self, entry: Entry) -> usize {
        let index = self.nodes.len();
        let join = if index == 0 { vec![] } else { vec![address(0)] };
        self.add_joining(entry, join)
    }

    pub(super) fn add_joining(&mut self, entry: Entry, join: Vec<SocketAddr>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node {
            it: None,
            key: 0,
            index,
            addr: address(index),
            state: None,
            wake: None,
            starts: 0,
            events: Vec::new(),
            notices: Vec::new(),
            said: Vec::new(),
        });
        self.by_addr.insert(address(index), index);
        self.groups.push(0);
        self.start(index, entry, join);
        index
    }

    pub(super) fn identity(&self, index: usize) -> Identity {
        Identity::from_seed(crypto::sha256(&[
            &self.seed.to_be_bytes(),
            &index.to_be_bytes(),
            &[self.nodes[index].key],
        ]))
    }

    /// Starts a node with what it has persisted.
    pub(super) fn start(&mut self, index: usize, entry: Entry, join: Vec<SocketAddr>) {
        self.nodes[index].starts += 1;
        let starts = self.nodes[index].starts.to_be_bytes();
        let seed = [self.seed.to_be_bytes(), index.to_be_bytes(), starts].concat();
        let seed = crypto::sha256(&[b"start", &seed]);
        let config = Config { join, ..self.config_of(index) };
        let (now, identity) = (self.now(), self.identity(index));
        let state = self.nodes[index].state.clone();
        let it = Membership::new(now, identity, config, entry, state.as_deref(), &seed);
        let mut it = it.unwrap();
        it.plant(self.mutant);
        self.nodes[index].it = Some(it);
        self.after(index);
    }

    pub(super) fn config_of(&self, index: usize) -> Config {
        let addr = self.nodes[index].addr;
        let local = Local {
            name: format!("node-{index}"),
            wireguard_key: [index as u8; 32],
            gossip: vec![addr],
            wireguard: vec![SocketAddr::new(addr.ip(), 51820)],
            roles: vec![],
        };
        let (pool, timing) = (self.pool.clone(), self.timing.clone());
        Config { local, pool, join: vec![], timing }
    }

    pub(super) fn cluster(&mut self, n: usize) {
        for _ in 0..n {
            self.add(Entry::Secret(secret(1)));
        }
    }

    /// The power is gone.
    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].it = None;
        if let Some(wake) = self.nodes[index].wake.take() {
            self.wakes.remove(&(wake, index));
        }
    }

    pub(super) fn restart(&mut self, index: usize) {
        self.kill(index);
        let join = if index == 0 { vec![] } else { vec![address(0)] };
        self.start(index, Entry::Secret(secret(1)), join);
    }

    pub(super) fn id(&self, index: usize) -> NodeId {
        self.identity(index).id()
    }

    pub(super) fn it(&mut self, index: usize) -> &mut Membership {
        self.nodes[index].it.as_mut().unwrap()
    }

    /// Does something to a node, now.
    pub(super) fn with<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Membership, Now) -> T,
    ) -> T {
        let now = self.now();
        let done = act(self.it(index), now);
        self.after(index);
        done
    }

    /// Puts a datagram in front of a node.
    pub(super) fn inject(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) {
        self.with(index, |it, now| it.handle(now, Input::Datagram { from, bytes }));
    }

    fn after(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(it) = &mut node.it else { return };
        let from = node.addr;
        let mut sends = Vec::new();
        while let Some(output) = it.poll() {
            match output {
                Output::Send { to, bytes } => sends.push((to, bytes)),
                Output::Persist(snapshot) => node.state = Some(snapshot.0.to_vec()),
                Output::Member(event) => node.events.push(event),
                Output::Notice(notice) => node.notices.push(notice),
                other => node.said.push(other),
            }
        }
        let wake = it.poll_timeout();
        if wake != node.wake {
            if let Some(old) = node.wake {
                self.wakes.remove(&(old, index));
            }
            node.wake = wake;
            self.wakes.extend(wake.map(|wake| (wake, index)));
        }
        for (to, bytes) in sends {
            self.send(index, from, to, bytes);
        }
    }

    fn send(&mut self, index: usize, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= 1400, "{} bytes", bytes.len());
        if let Some(capture) = &mut self.capture {
            capture.push((from, to, bytes.clone()));
        }
        let Some(&target) = self.by_addr.get(&to) else { return };
        let cut = self.groups[index] != self.groups[target];
        if cut || (self.loss > 0 && self.dice.below(1000) < self.loss) {
            return;
        }
        let [least, most] = self.delay;
        let extra = (most - least).as_micros() as usize;
        let extra = if extra == 0 { 0 } else { self.dice.below(extra) };
        let at = self.time + least + Duration::from_micros(extra as u64);
        self.sent += 1;
        self.wire.insert((at, self.sent), Flight { to: target, from, bytes });
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, d: Duration) {
        let end = self.time + d;
        loop {
            let flight = self.wire.first_key_value().map(|(key, _)| key.0);
            let wake = self.wakes.first().map(|wake| wake.0);
            let Some(at) = flight.into_iter().chain(wake).min().filter(|at| *at <= end) else {
                break;
            };
            self.time = self.time.max(at);
            let now = self.now();
            if flight == Some(at) {
                let Some((_, flight)) = self.wire.pop_first() else { break };
                let input = Input::Datagram { from: flight.from, bytes: &flight.bytes };
                if let Some(it) = &mut self.nodes[flight.to].it {
                    it.handle(now, input);
                    self.after(flight.to);
                }
            } else if let Some((_, index)) = self.wakes.pop_first() {
                self.nodes[index].wake = None;
                if let Some(it) = &mut self.nodes[index].it {
                    it.handle(now, Input::Tick);
                    self.after(index);
                }
            }
        }
        self.time = end;
    }

    /// Runs until it is so, looking every 200 ms; how long that took.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        so: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let start = self.time;
        loop {
            let Err(why) = so(self) else { return Ok(self.time.since(start)) };
            if self.time.since(start) >= limit {
                return Err(format!("seed {}, after {limit:?}: {why}", self.seed));
            }
            self.run(Duration::from_millis(200));
        }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (&Node, &Membership)> {
        self.nodes.iter().filter_map(|node| Some((node, node.it.as_ref()?)))
    }

    /// Every node that is up knows every other to be there, knows the same of it, and each has an address
    /// that all others know to be its own.
    pub(super) fn converged(&self) -> Result<(), String> {
        let mut holders: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut truth: BTreeMap<NodeId, ([Option<IpAddr>; 2], [u8; 32])> = BTreeMap::new();
        for (node, it) in self.live() {
            let families = [self.pool.config().v4.is_some(), self.pool.config().v6.is_some()];
            for (ip, wanted) in it.addresses().into_iter().zip(families) {
                if ip.is_some() != wanted {
                    return Err(format!("node {} has address {ip:?}", node.index));
                }
                if let Some(other) = ip.and_then(|ip| holders.insert(ip, node.index)) {
                    return Err(format!("nodes {other} and {} both have {ip:?}", node.index));
                }
            }
            let record = it.record().ok_or("no record")?;
            truth.insert(it.id(), (it.addresses(), *record.hash()));
        }
        for (node, it) in self.live() {
            let mut seen = 0;
            for (status, peer) in it.members().filter(|(status, _)| *status == Status::Alive) {
                let known = ([peer.v4, peer.v6], *peer.record.hash());
                if truth.get(&peer.record.id()) != Some(&known) {
                    let who = peer.record.draft();
                    return Err(format!("node {} has {status:?} {who:?}", node.index));
                }
                seen += 1;
            }
            if seen + 1 != truth.len() {
                let of = truth.len() - 1;
                return Err(format!("node {} sees {seen} of {of} others", node.index));
            }
        }
        Ok(())
    }
}
