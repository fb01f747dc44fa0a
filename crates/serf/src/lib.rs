//! A member of a [Serf](https://github.com/hashicorp/serf) cluster as a pure state machine: no sockets, no clock.
//!
//! It speaks what Serf's agents speak on port 7946, byte for byte: memberlist's SWIM with suspicion, refutation and
//! full exchanges, its encryption by a ring of keys, and above it Serf's intents, tags and queries. Real agents list
//! it, see it leave and fail, and change its keys; it sees the same of them.
//!
//! ```
//! # use holdfast_serf::*;
//! # use std::time::Duration;
//! let now = Time::default();
//! let settings = Settings::new("node-1", "192.0.2.1:7946".parse().unwrap());
//! let random = Box::new(|bytes: &mut [u8]| bytes.fill(7)); // the system's, in earnest
//! let mut member = Serf::new(now, settings, random)?;
//! member.handle(now, Input::Join("192.0.2.2:7946".parse().unwrap()));
//! let Some(Output::Connect { stream, to }) = member.poll() else { panic!() };
//! assert_eq!(to.port(), 7946);
//! member.handle(now, Input::Connected(stream));
//! let Some(Output::Write(_, exchange)) = member.poll() else { panic!() };
//! assert_eq!(exchange[0], 6); // push/pull
//! // Without an answer, the connection is over after a while.
//! while let Some(next) = member.poll_timeout().filter(|t| t.since(now) <= Duration::from_secs(10)) {
//!     member.handle(next, Input::Tick);
//! }
//! assert!(std::iter::from_fn(|| member.poll()).any(|out| matches!(out, Output::Event(Event::JoinFailed { .. }))));
//! # Ok::<(), SettingsError>(())
//! ```
//!
//! | module | what is there |
//! |---|---|
//! | [`settings`] | name, address, tags, and how fast things go |
//! | [`event`] | inputs, outputs, members |
//! | [`keyring`] | AES-GCM by any key of a ring |
//! | `wire`, `stream`, `io` | messages, as they are on the wire; how they come out of datagrams and connections |
//! | `swim`, `probe`, `queue` | memberlist: who is alive, finding it out, telling everyone |
//! | `serf`, `connections`, `query` | Serf: who intends what, full exchanges, queries |
//!
//! # What Serf has and this has not
//! Network coordinates, user events of one's own (others' are passed on), queries of one's own, snapshots on disk,
//! labels, and filters of queries by tag (such a query is passed on, not answered).
//!
//! # What it proves
//! Nothing about who a member is: with a ring of keys, only that it has one of them; without, not even that. Whoever
//! takes members for more than that has to check them otherwise.

#![forbid(unsafe_code)]

mod connections;
pub mod event;
mod io;
pub mod keyring;
mod probe;
mod query;
mod queue;
mod serf;
pub mod settings;
#[cfg(test)]
mod simulation;
mod stream;
mod swim;
mod time;
mod wire;

pub use event::{Event, Input, Member, Output, Status, Stream};
pub use io::Entropy;
pub use keyring::{Key, KeyError, Keyring};
pub use serf::Serf;
pub use settings::{Settings, SettingsError, Timing};
pub use time::Time;
pub use wire::META_MAX;
