//! The one thread that has everything: it waits for packets, for commands and for its timers, and shares
//! nothing, so that a packet takes no lock.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::inbound::Inbound;
use super::limit::{Bucket, Sources};
use super::outbound::Outbound;
use super::peer::Identity;
use super::peers::Peers;
use super::tun::Tun;
use super::udp::Udp;
use super::wheel::Wheel;
use crate::config::{Drops, Status, Update};
use crate::key::PublicKey;
use crate::uapi::Everything;

/// What the thread is asked to do.
pub(super) enum Command {
    Update(Update, oneshot::Sender<io::Result<()>>),
    Tell(oneshot::Sender<Everything>),
    /// Begin a handshake; the answer is whether there is such a peer.
    Handshake(PublicKey, oneshot::Sender<bool>),
    End,
}

/// As long a packet that no session is there for can be: a handshake, at most.
pub(super) const SMALL: usize = 256;

pub(super) struct Engine {
    pub(super) tun: Tun,
    pub(super) udp: Udp,
    pub(super) fwmark: u32,
    pub(super) identity: Option<Identity>,
    /// Handshakes a second without a cookie.
    pub(super) load: u32,
    pub(super) peers: Peers,
    pub(super) wheel: Wheel,
    pub(super) drops: Drops,
    pub(super) sources: Sources,
    /// For answers that say "unreachable".
    pub(super) unreachable: Bucket,
    /// Of this round: packets do not ask for the time.
    pub(super) now: Instant,
    pub(super) mtu: usize,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
}

impl Engine {
    pub(super) fn new(
        tun: Tun,
        udp: Udp,
        load: u32,
        commands: Receiver<Command>,
        wake: Arc<OwnedFd>,
    ) -> Self {
        let now = Instant::now();
        Self {
            mtu: tun.mtu().unwrap_or(usize::from(crate::device::MTU)),
            tun,
            udp,
            fwmark: 0,
            identity: None,
            load,
            peers: Peers::default(),
            wheel: Wheel::new(now),
            drops: Drops::default(),
            sources: Sources::default(),
            unreachable: Bucket::new(now),
            now,
            commands,
            wake,
        }
    }

    /// Works until it is told to end; else the interface has gone, and why is the error.
    pub(super) fn run(mut self) -> io::Result<()> {
        let (mut inbound, mut outbound) = (Inbound::new(), Outbound::new());
        let mut due = Vec::new();
        loop {
            let ready = self.wait()?;
            self.now = Instant::now();
            if ready.commands && self.obey() {
                return Ok(());
            }
            for half in 0..2 {
                if ready.udp[half] {
                    self.inbound(&mut inbound, half);
                }
            }
            if ready.tun {
                self.outbound(&mut outbound)?;
            }
            self.wheel.advance(self.now, &mut due);
            for slot in due.drain(..) {
                self.tick(slot);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::new(&*self.wake, PollFlags::IN));
        fds.push(PollFd::new(&self.tun, PollFlags::IN));
        fds.extend(self.udp.halves().map(|half| PollFd::new(half, PollFlags::IN)));
        let timeout = self.wheel.deadline().map(|deadline| {
            // A little later is not too early.
            let left = deadline.saturating_duration_since(Instant::now());
            timespec(left + Duration::from_millis(1))
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready { commands: is(0), tun: is(1), udp: [is(2), is(3)] })
    }

    /// Does what it is asked to do; whether that is to end.
    fn obey(&mut self) -> bool {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Update(update, answer)) => {
                    // Nobody may wait for the answer any more.
                    let _ = answer.send(self.update(update));
                }
                Ok(Command::Tell(answer)) => drop(answer.send(self.tell())),
                Ok(Command::Handshake(key, answer)) => {
                    let slot = self.peers.by_key(&key);
                    slot.into_iter().for_each(|slot| self.with_small(slot, super::peer::Peer::ask));
                    let _ = answer.send(slot.is_some());
                }
                Ok(Command::End) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Makes a change. What can fail comes first, so that a change is made as a whole or not at all.
    fn update(&mut self, update: Update) -> io::Result<()> {
        let fwmark = update.fwmark.unwrap_or(self.fwmark);
        match update.listen_port {
            Some(port) if port == 0 || port != self.udp.port => self.udp = Udp::open(port, fwmark)?,
            _ if fwmark != self.fwmark => self.udp.set_mark(fwmark)?,
            _ => {}
        }
        self.fwmark = fwmark;
        if let Some(private) = update.private_key
            && self.identity.as_ref().is_none_or(|identity| identity.private != private)
        {
            self.identity = (!private.is_zero()).then(|| Identity::new(private, self.load));
            for peer in self.peers.iter_mut() {
                peer.renew(self.identity.as_ref());
            }
            let ours = self.identity.as_ref().and_then(|own| self.peers.by_key(&own.public));
            ours.into_iter().for_each(|slot| self.peers.remove(slot));
        }
        if update.replace_peers {
            for slot in self.peers.slots() {
                self.peers.remove(slot);
            }
        }
        for peer in update.peers {
            let changed = self.peers.change(peer, self.identity.as_ref(), self.now);
            if let Some(slot) = changed.slot.filter(|_| changed.keep_alive) {
                self.with_small(slot, super::peer::Peer::keep_alive);
            }
        }
        Ok(())
    }

    fn tell(&self) -> Everything {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_unstable_by_key(|peer| peer.public);
        Everything {
            status: Status {
                public_key: self.identity.as_ref().map(|identity| identity.public),
                listen_port: self.udp.port,
                fwmark: self.fwmark,
                peers: peers.iter().map(|peer| peer.status()).collect(),
                drops: self.drops,
            },
            private_key: self.identity.as_ref().map(|identity| identity.private.clone()),
            preshared_keys: peers.iter().map(|peer| peer.preshared.clone()).collect(),
        }
    }

    /// A peer's time has come.
    fn tick(&mut self, slot: usize) {
        let Some(peer) = self.peers.get(slot) else { return };
        peer.in_wheel = false;
        if let Ok(mtu) = self.tun.mtu() {
            self.mtu = mtu;
        }
        self.with_small(slot, super::peer::Peer::tick);
        self.enter(slot);
    }

    /// Enters a peer into the wheel, if it is not there and anything can come of it.
    pub(super) fn enter(&mut self, slot: usize) {
        let now = self.now;
        if let Some(peer) = self.peers.get(slot)
            && !peer.in_wheel
            && let Some(steps) = peer.rest(now)
        {
            peer.in_wheel = true;
            self.wheel.insert(now, slot, steps);
        }
    }

    /// Sends what a peer makes of a small buffer.
    pub(super) fn with_small(
        &mut self,
        slot: usize,
        make: impl FnOnce(&mut super::peer::Peer, Instant, &mut [u8]) -> Option<usize>,
    ) {
        let mut buffer = [0; SMALL];
        let now = self.now;
        let made = self.peers.get(slot).and_then(|peer| make(peer, now, &mut buffer));
        if let Some(length) = made {
            self.send(slot, &buffer[..length], length);
        }
    }

    /// Sends datagrams of `size` bytes each to a peer.
    pub(super) fn send(&mut self, slot: usize, bytes: &[u8], size: usize) {
        let Some(peer) = self.peers.get(slot) else { return };
        let count = bytes.len().div_ceil(size.max(1)) as u64;
        let Some(endpoint) = &mut peer.endpoint else {
            self.drops.without_endpoint += count;
            return self.enter(slot);
        };
        let result = self.udp.send(endpoint, bytes, size);
        match result {
            Ok(()) => {
                peer.tx += bytes.len() as u64;
                peer.traversed = self.now;
            }
            Err(error) => {
                tracing::debug!("{count} packets to {} are lost: {error}", endpoint.address);
                self.drops.unsent += count;
            }
        }
        self.enter(slot);
    }
}

/// What there is something to do for.
struct Ready {
    commands: bool,
    tun: bool,
    udp: [bool; 2],
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
