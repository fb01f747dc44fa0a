//! One node of the cluster: what it does when something comes in or time passes.

mod handshake;
mod own;
mod post;
mod state;
mod sync;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foca::OwnedNotification;

use crate::address::Pool;
use crate::book::Book;
use crate::crypto::{Dice, Key};
use crate::envelope::{Frame, Letter, Seal, Sealer, Window, referral};
use crate::event::{Input, Notice, Output, Peer, Status, Why};
use crate::identity::{Identity, NodeId};
use crate::message::Message;
use crate::mutant::Mutant;
use crate::record::{Claim, Record};
use crate::revocation::Revocation;
use crate::secret::{ClusterSecret, Keyring};
use crate::swim::{self, Seat, SharedBook, Swim, Timing};
use crate::time::{Now, Time};
use crate::token::{JoinToken, Tokens};

pub use own::{CommandError, Local};
pub use state::StateError;

use handshake::{Contact, Pending};

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it says of itself.
    pub local: Local,
    /// Where addresses of the mesh come from; the same at every node.
    pub pool: Pool,
    /// Where members may be heard. Nothing, for the node that others join.
    pub join: Vec<SocketAddr>,
    /// How quick and how patient it is.
    pub timing: Timing,
}

/// By what a node comes to be a member.
#[derive(Clone, Debug)]
pub enum Entry {
    /// It knows the cluster secret. A ring of secrets from an earlier start is kept if this one is on it.
    Secret(ClusterSecret),
    /// It was given a token.
    Token(JoinToken),
    /// It was a member before: all it needs is in its state.
    Resume,
}

/// One node. See the crate's documentation for how to drive it.
pub struct Membership {
    identity: Identity,
    config: Config,
    book: SharedBook,
    swim: Swim,
    sealer: Sealer,
    dice: Dice,
    /// As the others know it; grows when this node was taken for dead and comes back.
    generation: u64,
    /// What it came with, until it is let in.
    token: Option<JoinToken>,
    /// What it has made for others.
    tokens: Tokens,
    phase: Phase,
    claims: [Option<Claim>; 2],
    may_claim: bool,
    /// What the first member has listed: an address is claimed when all of it has come.
    wanting: Option<Wanting>,
    must_publish: bool,
    contacts: BTreeMap<SocketAddr, Contact>,
    pending: BTreeMap<NodeId, Pending>,
    pairs: BTreeMap<NodeId, Key>,
    windows: BTreeMap<NodeId, Window>,
    up: BTreeMap<NodeId, Seat>,
    /// The last message to each whose record is not known yet.
    queued: BTreeMap<NodeId, Vec<u8>>,
    told: BTreeMap<NodeId, Told>,
    /// When each removed node that still knocks was last told off.
    scolded: BTreeMap<NodeId, Time>,
    timers: BTreeMap<(Time, u64), Timer>,
    timers_set: u64,
    saving: bool,
    /// Whether [`Timer::SyncSoon`] runs.
    syncing_soon: bool,
    /// For how many members the failure detector is set.
    sized_for: usize,
    outputs: VecDeque<Output>,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// It has said goodbye, or was removed.
    Over,
}

#[derive(Default)]
struct Wanting {
    ids: BTreeSet<NodeId>,
    /// Whether the last listing was seen.
    listed: bool,
}

/// What was last said of a member.
struct Told {
    status: Status,
    since: Time,
    peer: Option<Peer>,
}

#[derive(Debug)]
enum Timer {
    /// One of SWIM's own.
    Swim(foca::Timer<Seat>),
    /// Compare what is known with somebody.
    Sync,
    /// The same, a little after somebody has come: gossip may have missed one.
    SyncSoon,
    /// Compare it again with one that had news; so many times at most.
    SyncAgain(NodeId, u8),
    /// Look for those who are out of reach.
    Rejoin,
    /// Knock again.
    Knock(SocketAddr),
    /// Nobody was found: take an address all the same.
    ClaimAlone,
    /// Forget who is gone for long.
    Reap,
    /// Keep what has changed.
    Save,
    /// Drop who has not renewed its proof since the ring of secrets changed.
    DropUnproved,
}

impl Membership {
    /// Starts a node. `seed` has to be 32 bytes fresh from the operating system at every start; `state` is
    /// what the last [`Output::Persist`] of this identity held.
    ///
    /// # Errors
    /// [`StartError`], if the state is damaged or another node's, if there is nothing to be admitted by, or if
    /// the node cannot say of itself what it is to say.
    pub fn new(
        now: Now,
        identity: Identity,
        config: Config,
        entry: Entry,
        state: Option<&[u8]>,
        seed: &[u8; 32],
    ) -> Result<Self, StartError> {
        let kept = state.map(|bytes| state::decode(bytes, identity.id())).transpose()?;
        let (ring, token) = state::entry(entry, kept.as_ref().and_then(|k| k.ring.clone()))?;
        let last = kept.as_ref().map_or(0, |kept| kept.generation);
        let generation = now.wall.0.max(last.saturating_add(1));
        let own = identity.id();
        let addr = *config.local.gossip.first().ok_or(StartError::NoEndpoint)?;
        let book = Arc::new(Mutex::new(Book::new(own, config.pool.clone(), ring)));
        let mut dice = Dice::new(seed, "membership");
        let seat = Seat { id: own, generation, addr };
        let choices = u64::from_be_bytes(dice.bytes());
        let swim = swim::new(seat, &config.timing, choices, &book);
        let sealer = Sealer::new(own, generation, dice.bytes());
        let mut node = Self {
            identity,
            book,
            swim,
            sealer,
            dice,
            generation,
            token,
            tokens: Tokens::default(),
            phase: Phase::Running,
            claims: [None, None],
            may_claim: config.join.is_empty(),
            wanting: None,
            must_publish: true,
            contacts: BTreeMap::new(),
            pending: BTreeMap::new(),
            pairs: BTreeMap::new(),
            windows: BTreeMap::new(),
            up: BTreeMap::new(),
            queued: BTreeMap::new(),
            told: BTreeMap::new(),
            scolded: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            saving: false,
            syncing_soon: false,
            sized_for: 1,
            outputs: VecDeque::new(),
            mutant: None,
            config,
        };
        node.resume(kept)?;
        node.start(now)?;
        Ok(node)
    }

    fn start(&mut self, now: Now) -> Result<(), StartError> {
        self.publish().map_err(StartError::Draft)?;
        let timing = self.config.timing.clone();
        let jitter = self.jitter(timing.sync_interval);
        self.after(now, jitter, Timer::Sync);
        self.after(now, timing.rejoin_interval, Timer::Rejoin);
        self.after(now, timing.reap_after / 8, Timer::Reap);
        if !self.may_claim {
            self.after(now, timing.claim_alone_after, Timer::ClaimAlone);
        }
        self.knock_at_list(now);
        self.settle(now);
        Ok(())
    }

    /// Takes note of what happened. Ask [`Membership::poll`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Datagram { from, bytes } => self.datagram(now, from, bytes),
            Input::Join(list) => {
                self.config.join = list;
                if self.up.is_empty() {
                    self.knock_at_list(now);
                }
            }
        }
        while self.phase == Phase::Running
            && let Some(first) = self.timers.first_entry()
            && first.key().0 <= now.time
        {
            let timer = first.remove();
            self.fire(now, timer);
        }
        self.settle(now);
    }

    /// What to do next; `None` when all is said.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When an [`Input::Tick`] is due if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let first = self.timers.keys().next().map(|(at, _)| *at);
        first.filter(|_| self.phase == Phase::Running)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.id()
    }

    /// This node's own record, as it was last published.
    #[must_use]
    pub fn record(&self) -> Option<Arc<Record>> {
        self.lock().record(&self.id()).cloned()
    }

    /// This node's addresses in the mesh, IPv4 and IPv6.
    #[must_use]
    pub fn addresses(&self) -> [Option<IpAddr>; 2] {
        self.claims.map(|claim| claim.map(|claim| claim.ip))
    }

    /// The ring of secrets, once this node was let in.
    #[must_use]
    pub fn keyring(&self) -> Option<Keyring> {
        self.lock().keyring.clone()
    }

    /// All other members of which a record is known, with how they are.
    pub fn members(&self) -> impl Iterator<Item = (Status, &Peer)> {
        self.told.values().filter_map(|told| Some((told.status, told.peer.as_ref()?)))
    }

    /// How this node knows another to be.
    #[must_use]
    pub fn status(&self, id: &NodeId) -> Option<Status> {
        self.told.get(id).map(|told| told.status)
    }

    /// All who were removed.
    #[must_use]
    pub fn removed(&self) -> Vec<Arc<Revocation>> {
        self.lock().revocations().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        swim::lock(&self.book)
    }

    /// Tests plant a fault.
    #[cfg(test)]
    pub(crate) fn plant(&mut self, mutant: Option<Mutant>) {
        self.mutant = mutant;
        self.lock().mutant = mutant;
    }

    /// For tests that forge a datagram of this node.
    #[cfg(test)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// For tests in which this node spreads what it should not.
    #[cfg(test)]
    pub(crate) fn gossip(&mut self, item: &[u8]) {
        let _ = self.lock().offer(item, true);
        self.spread(item);
    }

    /// For tests: whether the failure detector has it among the living.
    #[cfg(test)]
    pub(crate) fn knows_up(&self, id: &NodeId) -> bool {
        self.swim.iter_members().any(|member| member.id().id == *id)
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn after(&mut self, now: Now, delay: Duration, timer: Timer) {
        self.timers_set += 1;
        self.timers.insert((now.time + delay, self.timers_set), timer);
    }

    /// Between three and five quarters of it, so that nodes do not act in step.
    fn jitter(&mut self, d: Duration) -> Duration {
        d * 3 / 4 + (d / 2).mul_f64(self.dice.below(1 << 20) as f64 / f64::from(1 << 20))
    }

    fn fire(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Swim(timer) => self.swim(now, |swim, wishes| swim.handle_timer(timer, wishes)),
            Timer::Sync => {
                let delay = self.jitter(self.config.timing.sync_interval);
                self.after(now, delay, Timer::Sync);
                self.sync();
            }
            Timer::SyncSoon => {
                self.syncing_soon = false;
                self.sync();
            }
            Timer::SyncAgain(id, left) => {
                if self.wanting.is_some() && left > 0 {
                    self.send_digest(id);
                    self.after(now, SYNC_AGAIN, Timer::SyncAgain(id, left - 1));
                }
            }
            Timer::Rejoin => {
                let delay = self.jitter(self.config.timing.rejoin_interval);
                self.after(now, delay, Timer::Rejoin);
                self.look_for_lost(now);
            }
            Timer::Knock(at) => self.knock_again(now, at),
            Timer::ClaimAlone => self.may_claim = self.lock().keyring.is_some() || self.may_claim,
            Timer::Reap => {
                self.after(now, self.config.timing.reap_after / 8, Timer::Reap);
                self.reap(now);
            }
            Timer::DropUnproved => self.drop_unproved(now),
            Timer::Save => {
                self.saving = false;
                self.save();
            }
        }
    }

    fn sync(&mut self) {
        if let Some(seat) = self.some_up(1).first() {
            self.send_digest(seat.id);
        }
    }

    fn datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        // What cannot be read is not worth an answer, nor a word: anybody can send anything.
        let Ok(frame) = Frame::parse(bytes) else { return };
        let (seal, header, salt, counter, text) = match frame {
            Frame::Sealed { seal, header, salt, counter, text } => {
                (seal, header, salt, counter, text)
            }
            Frame::Referral { salt, endpoints } => return self.referred(now, &salt, &endpoints),
        };
        let Some(key) = self.key(seal) else {
            if let Seal::Token { owner, .. } = seal {
                self.refer(from, owner, &salt, bytes.len());
            }
            return;
        };
        let Some(letter) = Letter::open(&key, header, salt, counter, text) else { return };
        if letter.sender == self.id() {
            // This node is on its own list.
            self.contacts.remove(&from);
        } else if Message::is_open(letter.kind) {
            self.handshake(now, from, seal, &letter);
        } else if matches!(seal, Seal::Cluster(_)) {
            self.letter(now, from, &letter);
        }
    }

    /// A message from a member, if it is one.
    fn letter(&mut self, now: Now, from: SocketAddr, letter: &Letter) {
        let sender = letter.sender;
        let removed = self.lock().revocation(&sender).cloned();
        if let Some(revocation) = removed
            && !self.is(Mutant::RemovalOutlived)
        {
            return self.scold(now, from, &revocation);
        }
        let Some(pair) = self.pair(&sender) else {
            return self.knock(now, from, Some(sender), false);
        };
        let body = match letter.body(&pair) {
            None if self.is(Mutant::NoPairCheck) => letter.body_unchecked(),
            None => return,
            Some(body) => body,
        };
        let window = self.windows.entry(sender);
        let new = window
            .or_insert_with(|| Window::new(letter.session))
            .take(letter.session, letter.counter);
        if !new && !self.is(Mutant::NoReplayWindow) {
            return;
        }
        let Ok(message) = Message::parse(letter.kind, body) else { return };
        if let Message::Swim(data) = message {
            self.lock().speaker = Some(sender);
            self.swim(now, |swim, wishes| swim.handle_data(data, wishes));
            self.lock().speaker = None;
        } else {
            self.exchange(now, sender, message);
        }
    }

    /// A removed node does not know it, or does not care. It is told, with the proof, but not too often.
    fn scold(&mut self, now: Now, from: SocketAddr, revocation: &Revocation) {
        let last = self.scolded.get(&revocation.node());
        if last.is_some_and(|last| now.time.since(*last) < SCOLD_EVERY) {
            return;
        }
        self.scolded.insert(revocation.node(), now.time);
        self.outputs.push_back(Output::Notice(Notice::RemovedKnocks(revocation.node())));
        let why = Why::Removed;
        let message = Message::Rejected { nonce: [0; 16], why, revocation: revocation.bytes() };
        self.send_open(from, None, &message);
    }

    /// Who has no token of ours, but one of somebody we know, is told where that is heard. The answer is
    /// smaller than the question, so that nobody is flooded by it.
    fn refer(&mut self, from: SocketAddr, owner: NodeId, salt: &[u8; 16], asked: usize) {
        let record = self.lock().record(&owner).cloned();
        if let Some(record) = record.filter(|_| owner != self.id()) {
            let bytes = referral(salt, &record.draft().gossip);
            if bytes.len() <= asked {
                self.outputs.push_back(Output::Send { to: from, bytes });
            }
        }
    }

    fn referred(&mut self, now: Now, salt: &[u8; 16], endpoints: &[SocketAddr]) {
        if let (Some(token), true) = (&self.token, salt == self.sealer.salt()) {
            let owner = token.owner();
            for endpoint in endpoints.iter().take(4) {
                self.knock(now, *endpoint, Some(owner), true);
            }
        }
    }

    fn note(&mut self, now: Now, news: OwnedNotification<Seat>) {
        match news {
            OwnedNotification::MemberUp(seat) => {
                self.up.insert(seat.id, seat);
                self.lock().touched.insert(seat.id);
                if !self.syncing_soon {
                    self.syncing_soon = true;
                    let delay = self.jitter(self.config.timing.sync_interval / 8);
                    self.after(now, delay, Timer::SyncSoon);
                }
            }
            OwnedNotification::MemberDown(seat) => {
                self.up.remove(&seat.id);
                self.lock().touched.insert(seat.id);
            }
            OwnedNotification::Rename(_, seat) => {
                if let Some(up) = self.up.get_mut(&seat.id) {
                    *up = seat;
                }
            }
            OwnedNotification::Rejoin(seat) => {
                // The others may have forgotten the record of who was gone for long.
                self.generation = seat.generation;
                self.must_publish = true;
            }
            OwnedNotification::Idle => self.knock_at_list(now),
            OwnedNotification::Active | OwnedNotification::Defunct => {}
        }
    }

    /// Some members that are there, at random, each once.
    fn some_up(&mut self, n: usize) -> Vec<Seat> {
        let mut all: Vec<Seat> = self.up.values().copied().collect();
        let n = n.min(all.len());
        for i in 0..n {
            let other = i + self.dice.below(all.len() - i);
            all.swap(i, other);
        }
        all.truncate(n);
        all
    }
}

/// Why a node cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// State.
    #[error(transparent)]
    State(#[from] StateError),
    /// No entry.
    #[error(
        "this node has no state of an earlier run: it needs the cluster secret or a join token"
    )]
    NoEntry,
    /// No gossip endpoint.
    #[error("no address is known at which other nodes can reach this node's gossip")]
    NoEndpoint,
    /// What it is to say of itself.
    #[error(transparent)]
    Draft(crate::record::DraftError),
}

const SYNC_AGAIN: Duration = Duration::from_millis(300);
const SCOLD_EVERY: Duration = Duration::from_secs(5);
