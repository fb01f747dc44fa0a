//! Inputs and outputs.

use crate::lease::{Lease, Record, Version};
use crate::time::{Time, Wall};

/// What the caller brings to each call: the machine has no clock and no dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// The candidate's own steady clock.
    pub time: Time,
    /// Its wall clock, to be written.
    pub wall: Wall,
    /// A random number from 0 to 1, which keeps candidates from asking in step.
    pub chance: f64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Nothing but time has passed.
    Tick,
    /// The answer to the one request that is under way.
    Answer(Answer),
    /// A watch has shown a change. It may come late, twice or not at all.
    Changed(Change),
    /// The process is about to end.
    Stop,
    /// All work that was begun by [`Output::BecameLeader`] has ended.
    WorkStopped,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Request::Get`].
    Got(Lease),
    /// To a write that was carried out.
    Written(Lease),
    /// There is no Lease (404).
    NotFound,
    /// The Lease is not as it was thought to be, or exists (409). Nothing was written.
    Conflict,
    /// An error, or no answer in time: what was to be written may have been written, or still be.
    Failed,
}

/// What a watch shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The Lease is like this.
    Lease(Lease),
    /// There is none any more.
    Gone,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Ask the API server. There is never more than one request under way.
    Request(Request),
    /// This process leads, until [`Election::leading_until`](crate::Election::leading_until): begin.
    BecameLeader,
    /// This process leads no more. Work that still runs has to end at once; then
    /// [`Input::WorkStopped`] is due.
    StoppedLeading,
    /// End the work; this process leads until [`Input::WorkStopped`].
    StopWork,
    /// Another leader is seen than before; it may be this process.
    NewLeader(String),
    /// After [`Input::Stop`]: there is nothing more to do.
    Done {
        /// Whether the Lease is not left behind with our name in it.
        released: bool,
    },
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the Lease as it is now, not as a cache has it.
    Get,
    /// Make it.
    Create {
        /// Its content.
        record: Record,
    },
    /// Write it, if it still is of this version.
    Update {
        /// The version it must have.
        version: Version,
        /// Its new content.
        record: Record,
    },
}
