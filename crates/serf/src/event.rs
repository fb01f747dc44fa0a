//! What a member is told, and what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::keyring::Keyring;

/// A TCP connection, by who opened it; the number is the opener's to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Asked for by [`Output::Connect`].
    Ours(u64),
    /// Told by [`Input::Accepted`].
    Theirs(u64),
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time has passed; see [`crate::Serf::poll_timeout`].
    Tick,
    /// A datagram came.
    Datagram {
        /// Who sent it, as the socket says.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Somebody connected. Refused with [`Output::Close`] if there are too many.
    Accepted(Stream),
    /// A connection that was asked for stands.
    Connected(Stream),
    /// More bytes of a connection.
    Received(Stream, &'a [u8]),
    /// A connection ended, by the other side's will or by an error; nothing more is to be said of it.
    Closed(Stream),
    /// Meet the cluster through one of its members.
    Join(SocketAddr),
    /// Leave in good order: [`Event::Left`] of this member itself says when it may end.
    Leave,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Connect, and say [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// What to call it.
        stream: Stream,
        /// Where to.
        to: SocketAddr,
    },
    /// Write to a connection.
    Write(Stream, Vec<u8>),
    /// End a connection once everything is written; nothing more is heard of it.
    Close(Stream),
    /// Something to know.
    Event(Event),
}

/// What other members see of a member (Serf: `MemberStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It answers, or is not yet known not to.
    Alive = 1,
    /// It has said that it will leave.
    Leaving = 2,
    /// It has left.
    Left = 3,
    /// It answers no more, and had not said that it would leave.
    Failed = 4,
}

impl std::fmt::Display for Status {
    /// As `serf members` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// A member as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique in the cluster.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// What it says of itself. Nobody vouches for it but the ring's keys.
    pub tags: BTreeMap<String, String>,
    /// See [`Status`].
    pub status: Status,
}

/// What changed, or went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member appeared, or came back.
    Joined(Member),
    /// A member's tags or address changed.
    Updated(Member),
    /// A member left as it had said. Of this member itself: everyone has been told.
    Left(Member),
    /// A member answers no more.
    Failed(Member),
    /// A member that left or failed was forgotten.
    Reaped(Member),
    /// Meeting the cluster through this address worked.
    JoinDone(SocketAddr),
    /// It did not.
    JoinFailed {
        /// Through which address.
        through: SocketAddr,
        /// Why, for people.
        reason: String,
    },
    /// Another node, elsewhere, uses a name that is taken. It is not let in under it.
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: SocketAddr,
        /// Who else wants it.
        other: SocketAddr,
    },
    /// Keys were changed by `serf keys`; to be stored.
    KeysChanged(Keyring),
    /// Bytes that were not read, and why. Whoever can send may cause these: log them sparingly.
    Refused {
        /// Who sent them.
        from: Option<SocketAddr>,
        /// Why, for people.
        reason: String,
    },
}

/// What the machine sets its alarm for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Probe the next node.
    Probe,
    /// A probed node has not answered directly.
    ProbeIndirectly(u32),
    /// Nor otherwise.
    ProbeOver(u32),
    /// A ping sent for somebody else has not been answered.
    NoAnswerFor(u32),
    /// Tell a few nodes what is queued.
    Gossip,
    /// Exchange everything with some node.
    PushPull,
    /// A suspect has not refuted; the number tells suspicions of the same node apart.
    Suspicion(String, u64),
    /// A connection has taken too long.
    StreamOver(Stream),
    /// Try a failed member again.
    Reconnect,
    /// Forget members that are long gone.
    Reap,
    /// The next step of leaving.
    Leave,
}

/// Alarms by time.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    set: BTreeMap<(crate::Time, u64), Alarm>,
    next: u64,
}

impl Alarms {
    pub(crate) fn set(&mut self, at: crate::Time, alarm: Alarm) {
        self.set.insert((at, self.next), alarm);
        self.next += 1;
    }

    pub(crate) fn first(&self) -> Option<crate::Time> {
        self.set.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn due(&mut self, now: crate::Time) -> Option<Alarm> {
        let entry = self.set.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(crate) fn clear(&mut self) {
        self.set.clear();
    }
}

/// A share of `whole` between 0 and 1, from 32 random bits.
pub(crate) fn part_of(whole: Duration, random: u32) -> Duration {
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
