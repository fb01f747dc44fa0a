//! SWIM: who is there. The protocol is foca's; here are what it asks for (an identity, an encoding, a place for
//! its broadcasts) and the rules that a cluster with proofs of admission adds.

use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut};
use foca::{
    BroadcastHandler, Codec, Config, Foca, Header, Identity, Invalidates, Member, Message,
    OwnedNotification, PeriodicParams, Runtime, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::book::{Book, Refusal};
use crate::identity::NodeId;
use crate::wire::{Reader, WireError, Writer};

/// A node as SWIM knows it: who, since which start, and where it is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) id: NodeId,
    /// Grows with every start, and whenever the node was taken for dead and comes back.
    pub(crate) generation: u64,
    pub(crate) addr: SocketAddr,
}

impl Identity for Seat {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.addr) > (adversary.generation, adversary.addr)
    }
}

impl Seat {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.raw(&self.id.0).u64(self.generation).socket(self.addr);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: NodeId(r.array("node id")?),
            generation: r.u64("generation")?,
            addr: r.socket("address")?,
        })
    }
}

pub(crate) type Swim = Foca<Seat, Encoding, SmallRng, Spreading>;
pub(crate) type SharedBook = Arc<Mutex<Book>>;

/// Nothing that holds the lock can panic half-way through a change: what is there is whole.
pub(crate) fn lock(book: &SharedBook) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How quick and how patient the failure detector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a node asks one other whether it is there. Each is asked at least once in as many of
    /// these as there are members, and once in 1.6 of them on average.
    pub probe_period: Duration,
    /// How long it waits for the answer before it asks others to ask. Less than half a period.
    pub probe_timeout: Duration,
    /// For how long a suspect may say that it is there, in periods; times log₁₀ of the members, at least 1.
    pub suspicion: u32,
    /// How often news is sent on.
    pub gossip_interval: Duration,
    /// To how many.
    pub gossip_fanout: usize,
    /// How often a node compares what it knows with another.
    pub sync_interval: Duration,
    /// How often those are tried again that are out of reach: others may have been cut off, or we.
    pub rejoin_interval: Duration,
    /// How long a node that has found nobody waits before it takes an address all the same.
    pub claim_alone_after: Duration,
    /// How long news of others may wait until it is kept on disk.
    pub save_after: Duration,
    /// How long a member may be gone before it is forgotten and its address is free.
    pub reap_after: Duration,
}

impl Default for Timing {
    /// For a local network: a dead node is out in about 5 s, in a cluster of up to ten.
    fn default() -> Self {
        Self {
            probe_period: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(400),
            suspicion: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            sync_interval: Duration::from_secs(10),
            rejoin_interval: Duration::from_secs(5),
            claim_alone_after: Duration::from_secs(3),
            save_after: Duration::from_secs(2),
            reap_after: Duration::from_secs(72 * 3600),
        }
    }
}

impl Timing {
    /// For a cluster of so many.
    pub(crate) fn foca(&self, members: usize) -> Config {
        // Exact enough: both are multiplied by a small number and rounded.
        let digits = ((members + 1) as f64).log10();
        let periodic = |frequency, n: usize| {
            let num_members = NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
            Some(PeriodicParams { frequency, num_members })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_timeout,
            num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            max_transmissions: NonZeroU8::new((digits * 4.0).ceil().clamp(6.0, 255.0) as u8)
                .unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self
                .probe_period
                .mul_f64(f64::from(self.suspicion.max(1)) * digits.max(1.0)),
            remove_down_after: Some(self.reap_after.min(Duration::from_secs(3600))),
            max_packet_size: NonZeroUsize::new(MAX_BODY).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: periodic(Duration::from_secs(30), 1),
            periodic_announce_to_down_members: periodic(self.rejoin_interval, 2),
            periodic_gossip: periodic(self.gossip_interval, self.gossip_fanout),
        }
    }
}

pub(crate) fn new(seat: Seat, timing: &Timing, seed: u64, book: &SharedBook) -> Swim {
    let rng = SmallRng::seed_from_u64(seed);
    let (encoding, spreading) = (Encoding(book.clone()), Spreading(book.clone()));
    Foca::with_custom_broadcast(seat, timing.foca(1), rng, encoding, spreading)
}

/// foca's messages in this crate's encoding.
pub(crate) struct Encoding(SharedBook);

/// Why a message of SWIM is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("speaks for another node than the one that has sealed it")]
    Speaker,
    #[error("does not fit")]
    Full,
}

impl Codec<Seat> for Encoding {
    type Error = CodecError;

    fn encode_header(&mut self, h: &Header<Seat>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut w = Writer::default();
        h.src.write(&mut w);
        w.u16(h.src_incarnation);
        h.dst.write(&mut w);
        let (kind, seat, probe) = match &h.message {
            Message::Ping(n) => (1, None, Some(*n)),
            Message::Ack(n) => (2, None, Some(*n)),
            Message::PingReq { target, probe_number } => (3, Some(target), Some(*probe_number)),
            Message::IndirectPing { origin, probe_number } => {
                (4, Some(origin), Some(*probe_number))
            }
            Message::IndirectAck { target, probe_number } => (5, Some(target), Some(*probe_number)),
            Message::ForwardedAck { origin, probe_number } => {
                (6, Some(origin), Some(*probe_number))
            }
            Message::Announce => (7, None, None),
            Message::Feed => (8, None, None),
            Message::Gossip => (9, None, None),
            Message::Broadcast => (10, None, None),
            Message::TurnUndead => (11, None, None),
        };
        w.u8(kind);
        if let Some(seat) = seat {
            seat.write(&mut w);
        }
        if let Some(probe) = probe {
            w.u8(probe);
        }
        put(&w.0, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Seat>, CodecError> {
        let (header, used) = {
            let mut r = Reader(buf.chunk());
            let header = read_header(&mut r)?;
            (header, buf.remaining() - r.0.len())
        };
        buf.advance(used);
        if lock(&self.0).speaker.is_some_and(|id| id != header.src.id) {
            return Err(CodecError::Speaker);
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Seat>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut w = Writer::default();
        write_member(member, &mut w);
        put(&w.0, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Seat>, CodecError> {
        let (member, used) = {
            let mut r = Reader(buf.chunk());
            let member = read_member(&mut r)?;
            (member, buf.remaining() - r.0.len())
        };
        buf.advance(used);
        Ok(admitted_only(&lock(&self.0), member))
    }
}

/// Whatever others say of it, a node that was removed is down.
pub(crate) fn admitted_only(book: &Book, member: Member<Seat>) -> Member<Seat> {
    if book.revocation(&member.id().id).is_some() {
        return Member::new(*member.id(), member.incarnation(), State::Down);
    }
    member
}

fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn read_header(r: &mut Reader<'_>) -> Result<Header<Seat>, WireError> {
    let src = Seat::read(r)?;
    let src_incarnation = r.u16("incarnation")?;
    let dst = Seat::read(r)?;
    let kind = r.u8("message")?;
    let seat = if (3..=6).contains(&kind) { Some(Seat::read(r)?) } else { None };
    let probe_number = if (1..=6).contains(&kind) { r.u8("probe")? } else { 0 };
    let message = match (kind, seat) {
        (1, _) => Message::Ping(probe_number),
        (2, _) => Message::Ack(probe_number),
        (3, Some(target)) => Message::PingReq { target, probe_number },
        (4, Some(origin)) => Message::IndirectPing { origin, probe_number },
        (5, Some(target)) => Message::IndirectAck { target, probe_number },
        (6, Some(origin)) => Message::ForwardedAck { origin, probe_number },
        (7, _) => Message::Announce,
        (8, _) => Message::Feed,
        (9, _) => Message::Gossip,
        (10, _) => Message::Broadcast,
        (11, _) => Message::TurnUndead,
        _ => return Err(WireError::Invalid("message")),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

pub(crate) fn write_member(member: &Member<Seat>, w: &mut Writer) {
    member.id().write(w);
    w.u16(member.incarnation()).u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(crate) fn read_member(r: &mut Reader<'_>) -> Result<Member<Seat>, WireError> {
    let (seat, incarnation) = (Seat::read(r)?, r.u16("incarnation")?);
    let state = match r.u8("state")? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(WireError::Invalid("state")),
    };
    Ok(Member::new(seat, incarnation, state))
}

/// Statements as foca's broadcasts: what was news here is sent on.
pub(crate) struct Spreading(SharedBook);

/// Whom a statement is about: a newer one takes the place of an older one in the queue.
pub(crate) struct About(NodeId);

impl Invalidates for About {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl BroadcastHandler<Seat> for Spreading {
    type Key = About;
    type Error = Refusal;

    fn receive_item(
        &mut self,
        item: &[u8],
        sender: Option<&Seat>,
    ) -> Result<Option<About>, Refusal> {
        let mut book = lock(&self.0);
        // Our own are in the book already. One that is refused must not keep those behind it from being read.
        let news = sender.is_none() || book.offer(item, true).unwrap_or(false);
        Ok(if news { about(item).map(About) } else { None })
    }
}

/// Whom a statement is about.
pub(crate) fn about(item: &[u8]) -> Option<NodeId> {
    use crate::record::Record;
    use crate::revocation::Revocation;
    match item.split_first()? {
        (1, bytes) => Some(Record::shared(bytes).ok()?.id()),
        (_, bytes) => Some(Revocation::parse(bytes).ok()?.node()),
    }
}

/// What foca wants done, collected.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) sends: Vec<(Seat, Vec<u8>)>,
    pub(crate) timers: Vec<(Timer<Seat>, Duration)>,
    pub(crate) news: Vec<OwnedNotification<Seat>>,
}

impl Runtime<Seat> for Wishes {
    fn notify(&mut self, notification: foca::Notification<'_, Seat>) {
        self.news.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Seat, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Seat>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// The room for a message's body in a datagram of up to 1400 bytes.
pub(crate) const MAX_BODY: usize = 1400 - crate::envelope::OVERHEAD;
