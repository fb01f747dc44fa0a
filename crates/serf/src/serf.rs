//! A member: what Serf adds to memberlist's nodes (`serf.go`, `delegate.go`).
//!
//! Serf orders what members *intend*, to join or to leave, by a Lamport clock: so that who is gone either has
//! left, as it said, or has failed. It keeps members that are gone for a day, and tries those that failed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::connections::Connections;
use crate::event::{Alarm, Event, Input, Member, Output, Status, Stream};
use crate::io::{Entropy, Io};
use crate::queue::{About, Ticket};
use crate::settings::{Settings, SettingsError, Timing, check_tags};
use crate::swim::{Note, Swim};
use crate::time::Time;
use crate::wire::{
    self, Intents, Join, Leave, Malformed, decode_tags, encode_tags, kind, serf_kind,
};

/// From one look for members to forget to the next (Serf: `ReapInterval`).
const REAP_INTERVAL: Duration = Duration::from_secs(15);
/// How many intents of nodes not met yet are kept, and how many user events and queries are known again.
const RECENT: usize = 512;

/// A member with what orders its intents.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) member: Member,
    pub(crate) versions: Vec<u8>,
    status_time: u64,
    gone: Time,
}

/// How far leaving has come.
#[derive(Debug)]
enum Leaving {
    No,
    /// The intent is being told.
    Intent(Ticket, Time),
    /// That this node is gone is being told.
    Gone(Ticket, Time),
    /// It spreads until then.
    Spreading(Time),
    Done,
}

/// A member of a Serf cluster. See the crate's documentation.
#[derive(Debug)]
pub struct Serf {
    pub(crate) io: Io,
    pub(crate) swim: Swim,
    pub(crate) members: BTreeMap<String, Known>,
    pub(crate) connections: Connections,
    /// Of members' intents.
    clock: u64,
    pub(crate) event_clock: u64,
    pub(crate) query_clock: u64,
    /// Intents of nodes that are not known yet: whether it leaves, and when.
    intents: VecDeque<(String, bool, u64)>,
    pub(crate) seen: VecDeque<u64>,
    leaving: Leaving,
}

impl Serf {
    /// A member that knows nobody yet; [`Input::Join`] makes it meet others.
    ///
    /// # Errors
    /// If its name, address or tags cannot be used.
    pub fn new(now: Time, settings: Settings, entropy: Entropy) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut io = Io::new(settings.keyring, entropy);
        io.now = now;
        let meta = encode_tags(&settings.tags);
        let mut swim = Swim::new(settings.name.clone(), settings.advertise, meta, settings.timing);
        swim.start(&mut io);
        io.alarms.set(now + swim.timing.reconnect_interval, Alarm::Reconnect);
        io.alarms.set(now + REAP_INTERVAL, Alarm::Reap);
        let me = Known {
            member: Member {
                name: settings.name.clone(),
                address: settings.advertise,
                tags: settings.tags,
                status: Status::Alive,
            },
            versions: wire::VERSIONS.to_vec(),
            status_time: 1,
            gone: now,
        };
        Ok(Self {
            io,
            swim,
            members: BTreeMap::from([(settings.name, me)]),
            connections: Connections::default(),
            clock: 1,
            event_clock: 1,
            query_clock: 1,
            intents: VecDeque::new(),
            seen: VecDeque::new(),
            leaving: Leaving::No,
        })
    }

    /// Everything that happens comes in here.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.io.now = self.io.now.max(now);
        if matches!(self.leaving, Leaving::Done) {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Datagram { from, bytes } => match self.io.open(bytes) {
                Ok(message) => self.swim.message(&mut self.io, from, &message),
                Err(e) => self.io.refuse(Some(from), e),
            },
            Input::Accepted(stream) => self.accepted(stream),
            Input::Connected(stream) => self.connected(stream),
            Input::Received(stream, bytes) => self.received(stream, bytes),
            Input::Closed(stream) => self.closed(stream),
            Input::Join(through) => self.exchange(through, true, true),
            Input::Leave => self.leave(),
        }
        while let Some(alarm) = self.io.alarms.due(self.io.now) {
            self.ring(alarm);
        }
        self.take_notes();
    }

    /// What is to be done, in order; ask until there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.io.out.pop_front()
    }

    /// When to call [`Serf::handle`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.io.alarms.first()
    }

    /// Everyone that is known, this member included, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|known| &known.member)
    }

    /// The keys in use, if anything is encrypted.
    #[must_use]
    pub fn keyring(&self) -> Option<&crate::Keyring> {
        self.io.keyring.as_ref()
    }

    /// See [`Timing::detection_bound`].
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.swim.timing
    }

    /// Shows other tags from now on.
    ///
    /// # Errors
    /// [`SettingsError::Tags`]; then the old ones stay.
    pub fn set_tags(
        &mut self,
        now: Time,
        tags: BTreeMap<String, String>,
    ) -> Result<(), SettingsError> {
        check_tags(&tags)?;
        self.io.now = self.io.now.max(now);
        self.swim.set_meta(encode_tags(&tags));
        let name = self.swim.name.clone();
        if let Some(me) = self.members.get_mut(&name) {
            me.member.tags = tags;
        }
        Ok(())
    }

    fn ring(&mut self, alarm: Alarm) {
        let Self { io, swim, .. } = self;
        match alarm {
            Alarm::Probe => swim.probe(io),
            Alarm::ProbeIndirectly(number) => {
                swim.probe_indirectly(io, number);
                self.probe_by_stream(number);
            }
            Alarm::ProbeOver(number) => swim.probe_over(io, number),
            Alarm::NoAnswerFor(number) => swim.no_answer_for(io, number),
            Alarm::Gossip => {
                swim.gossip(io);
                self.leave_further();
            }
            Alarm::PushPull => {
                let every = swim.timing.push_pull(swim.live());
                io.alarms.set(io.now + every, Alarm::PushPull);
                if let Some(partner) = swim.partner(io) {
                    self.exchange(partner, false, false);
                }
            }
            Alarm::Suspicion(name, number) => swim.suspicion_over(io, &name, number),
            Alarm::StreamOver(stream) => self.stream_over(stream),
            Alarm::Reconnect => self.reconnect(),
            Alarm::Reap => self.reap(),
            Alarm::Leave => self.leave_further(),
        }
    }

    /// What memberlist's part has found, in Serf's terms.
    pub(crate) fn take_notes(&mut self) {
        while !self.swim.notes.is_empty() {
            for note in std::mem::take(&mut self.swim.notes) {
                match note {
                    Note::Joined(name) => self.joined(&name),
                    Note::Updated(name) => self.updated(&name),
                    Note::Gone(name) => self.gone(&name),
                    Note::User { from, message } => {
                        if let Err(e) = self.user_message(&message) {
                            self.io.refuse(Some(from), e);
                        }
                    }
                }
            }
        }
    }

    fn joined(&mut self, name: &str) {
        let Some(node) = self.swim.nodes.get(name) else { return };
        let mut member = Member {
            name: name.to_owned(),
            address: node.address,
            tags: decode_tags(&node.meta),
            status: Status::Alive,
        };
        let versions = node.versions.clone();
        let mut status_time = self.members.get(name).map_or(0, |known| known.status_time);
        // What it intended may have come before it did.
        for (_, leaves, time) in self.intents.iter().filter(|(n, ..)| n == name) {
            if *time > status_time {
                status_time = *time;
                member.status = if *leaves { Status::Leaving } else { Status::Alive };
            }
        }
        self.intents.retain(|(n, ..)| n != name);
        let known = Known { member: member.clone(), versions, status_time, gone: self.io.now };
        self.members.insert(name.to_owned(), known);
        self.io.event(Event::Joined(member));
    }

    fn updated(&mut self, name: &str) {
        let (Some(node), Some(known)) = (self.swim.nodes.get(name), self.members.get_mut(name))
        else {
            return;
        };
        known.member.address = node.address;
        known.member.tags = decode_tags(&node.meta);
        known.versions.clone_from(&node.versions);
        self.io.event(Event::Updated(known.member.clone()));
    }

    /// A node is no more: it left if it had said so (`handleNodeLeave`).
    fn gone(&mut self, name: &str) {
        let Some(known) = self.members.get_mut(name) else { return };
        known.gone = self.io.now;
        known.member.status = match known.member.status {
            Status::Leaving => Status::Left,
            Status::Alive => Status::Failed,
            Status::Left | Status::Failed => return,
        };
        let member = known.member.clone();
        self.io.event(match member.status {
            Status::Left => Event::Left(member),
            _ => Event::Failed(member),
        });
    }

    fn witness(clock: &mut u64, seen: u64) {
        if seen >= *clock {
            *clock = seen.saturating_add(1);
        }
    }

    pub(crate) fn witness_event(&mut self, seen: u64) {
        Self::witness(&mut self.event_clock, seen);
    }

    pub(crate) fn witness_query(&mut self, seen: u64) {
        Self::witness(&mut self.query_clock, seen);
    }

    fn remember_intent(&mut self, node: &str, leaves: bool, time: u64) -> bool {
        if self.intents.iter().any(|(n, _, t)| n == node && *t >= time) {
            return false;
        }
        self.intents.retain(|(n, ..)| n != node);
        if self.intents.len() >= RECENT {
            self.intents.pop_front();
        }
        self.intents.push_back((node.to_owned(), leaves, time));
        true
    }

    /// A node says that it joins (`handleNodeJoinIntent`); whether that is news.
    pub(crate) fn join_intent(&mut self, said: &Join) -> bool {
        Self::witness(&mut self.clock, said.time);
        let Some(known) = self.members.get_mut(&said.node) else {
            return self.remember_intent(&said.node, false, said.time);
        };
        if said.time <= known.status_time {
            return false;
        }
        known.status_time = said.time;
        if known.member.status == Status::Leaving && said.node != self.swim.name {
            known.member.status = Status::Alive;
        }
        true
    }

    /// A node says that it leaves, or is said to (`handleNodeLeaveIntent`); whether that is news.
    pub(crate) fn leave_intent(&mut self, said: &Leave) -> bool {
        Self::witness(&mut self.clock, said.time);
        let Some(known) = self.members.get_mut(&said.node) else {
            return self.remember_intent(&said.node, true, said.time);
        };
        if said.time <= known.status_time {
            return false;
        }
        if said.node == self.swim.name && matches!(self.leaving, Leaving::No) {
            // Of an earlier life, or by `serf force-leave`: this one has just not left.
            self.tell_join();
            return false;
        }
        known.status_time = said.time;
        match known.member.status {
            Status::Alive => known.member.status = Status::Leaving,
            Status::Failed => {
                known.member.status = Status::Left;
                known.gone = self.io.now;
                let member = known.member.clone();
                self.io.event(Event::Left(member));
            }
            Status::Leaving | Status::Left => {}
        }
        if said.prune && matches!(known.member.status, Status::Left | Status::Failed) {
            let member = known.member.clone();
            self.members.remove(&said.node);
            self.io.event(Event::Reaped(member));
        }
        true
    }

    /// Tells everyone that this node is in.
    pub(crate) fn tell_join(&mut self) {
        let join = Join { time: self.clock, node: self.swim.name.clone() };
        self.clock += 1;
        if let Some(me) = self.members.get_mut(&join.node) {
            me.status_time = join.time;
        }
        self.tell(serf_kind::JOIN, &join);
    }

    /// Gossips one of Serf's messages.
    fn tell<T: serde::Serialize>(&mut self, kind: u8, message: &T) -> Ticket {
        let message = wire::encode(kind, message);
        self.tell_raw(&message)
    }

    pub(crate) fn tell_raw(&mut self, message: &[u8]) -> Ticket {
        self.swim.queue.push(About::Itself, [&[kind::USER], message].concat())
    }

    /// Serf's part of a full exchange.
    pub(crate) fn state_to_push(&self) -> Vec<u8> {
        let times = self.members.iter().map(|(name, known)| (name.clone(), known.status_time));
        let left = self.members.values().filter(|known| known.member.status == Status::Left);
        let state = Intents {
            time: self.clock,
            status_times: times.collect(),
            left: left.map(|known| known.member.name.clone()).collect(),
            event_time: self.event_clock,
            query_time: self.query_clock,
        };
        wire::encode(serf_kind::PUSH_PULL, &state)
    }

    /// What another member knows of intents (`MergeRemoteState`).
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn merge_state(&mut self, state: &[u8]) -> Result<(), Malformed> {
        let body = match state {
            [] => return Ok(()),
            [serf_kind::PUSH_PULL, body @ ..] => body,
            [other, ..] => return Err(Malformed::new(format!("state of an unknown type {other}"))),
        };
        let state: Intents = wire::decode("state", body)?;
        // Each is the next time, which no message has yet.
        Self::witness(&mut self.clock, state.time.saturating_sub(1));
        self.witness_event(state.event_time.saturating_sub(1));
        self.witness_query(state.query_time.saturating_sub(1));
        for node in &state.left {
            let time = state.status_times.get(node).copied().unwrap_or(0);
            self.leave_intent(&Leave { time, node: node.clone(), prune: false });
        }
        for (node, time) in state.status_times.into_iter().filter(|(n, _)| !state.left.contains(n))
        {
            self.join_intent(&Join { time, node });
        }
        Ok(())
    }

    /// Tries one of the failed members again, each about once an interval among all who try (`reconnect`).
    fn reconnect(&mut self) {
        self.io.alarms.set(self.io.now + self.swim.timing.reconnect_interval, Alarm::Reconnect);
        let failed: Vec<SocketAddr> = self
            .members
            .values()
            .filter(|known| known.member.status == Status::Failed)
            .map(|known| known.member.address)
            .collect();
        let alive = self.members().filter(|member| member.status == Status::Alive).count().max(1);
        if !failed.is_empty() && self.io.below(alive) < failed.len() {
            let to = failed[self.io.below(failed.len())];
            self.exchange(to, true, false);
        }
    }

    /// Forgets members that are long gone (`handleReap`).
    fn reap(&mut self) {
        self.io.alarms.set(self.io.now + REAP_INTERVAL, Alarm::Reap);
        let (now, timing) = (self.io.now, &self.swim.timing);
        let over = |known: &Known| match known.member.status {
            Status::Failed => now.since(known.gone) > timing.reconnect_timeout,
            Status::Left => now.since(known.gone) > timing.tombstone_timeout,
            Status::Alive | Status::Leaving => false,
        };
        let names: Vec<String> = self
            .members
            .iter()
            .filter(|(_, known)| over(known))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(known) = self.members.remove(&name) {
                self.io.event(Event::Reaped(known.member));
            }
        }
    }

    fn leave(&mut self) {
        if !matches!(self.leaving, Leaving::No) {
            return;
        }
        let said = Leave { time: self.clock, node: self.swim.name.clone(), prune: false };
        self.clock += 1;
        if let Some(me) = self.members.get_mut(&said.node) {
            me.status_time = said.time;
            me.member.status = Status::Leaving;
        }
        let ticket = self.tell(serf_kind::LEAVE, &said);
        self.leaving = Leaving::Intent(ticket, self.deadline(self.swim.timing.broadcast_timeout));
        self.leave_further();
    }

    /// An instant that an alarm is set for.
    fn deadline(&mut self, wait: Duration) -> Time {
        let at = self.io.now + wait;
        self.io.alarms.set(at, Alarm::Leave);
        at
    }

    fn leave_further(&mut self) {
        let alone = self.swim.live() <= 1 || self.swim.leaving && self.swim.live() == 0;
        let now = self.io.now;
        let said = |swim: &Swim, ticket: Ticket, until: Time| {
            alone || now >= until || !swim.queue.holds(ticket)
        };
        match self.leaving {
            Leaving::Intent(ticket, until) if said(&self.swim, ticket, until) => {
                let gone = self.swim.leave(now);
                self.leaving =
                    Leaving::Gone(gone, self.deadline(self.swim.timing.broadcast_timeout));
                self.leave_further();
            }
            Leaving::Gone(ticket, until) if said(&self.swim, ticket, until) => {
                let wait =
                    if alone { Duration::ZERO } else { self.swim.timing.leave_propagate_delay };
                self.leaving = Leaving::Spreading(self.deadline(wait));
                self.leave_further();
            }
            Leaving::Spreading(until) if now >= until => {
                self.leaving = Leaving::Done;
                self.io.alarms.clear();
                self.swim.probes.stop();
                for stream in self.connections.all() {
                    self.io.out.push_back(Output::Close(stream));
                }
                if let Some(me) = self.members.get_mut(&self.swim.name) {
                    me.member.status = Status::Left;
                    let member = me.member.clone();
                    self.io.event(Event::Left(member));
                }
            }
            _ => {}
        }
    }

    fn stream_over(&mut self, stream: Stream) {
        if self.connections.knows(stream) {
            self.io.out.push_back(Output::Close(stream));
            self.ended(stream, "it took too long");
        }
    }
}
