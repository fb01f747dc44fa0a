//! Leader election by client-go's algorithm as a pure state machine: no clock, no IO, no dice.
//!
//! Candidates agree on a leader through one object of the Kubernetes API, a Lease. Who holds it renews it;
//! who sees it unchanged for as long as it says may take it; and every write names the version that it
//! replaces, so that of two only one succeeds. [`Election`] makes these decisions. It is told what the API
//! answered, what a watch has shown and what time it is, and says what to ask next, when to be called
//! again, and when its process leads:
//!
//! ```
//! # use holdfast_election::*;
//! # use std::time::Duration;
//! let mut election = Election::new(Settings::new("pod-1_5c3f")?);
//! let mut now = Now { time: Time::ZERO, wall: Wall(1_700_000_000_000_000), chance: 0.5 };
//! election.handle(now, Input::Tick);
//! assert_eq!(election.poll(), Some(Output::Request(Request::Get)));
//! election.handle(now, Input::Answer(Answer::NotFound));
//! let Some(Output::Request(Request::Create { record })) = election.poll() else { panic!() };
//! assert_eq!(record.holder, "pod-1_5c3f");
//! let lease = Lease { version: Version("7".into()), record };
//! now.time = now.time + Duration::from_millis(3);
//! election.handle(now, Input::Answer(Answer::Written(lease)));
//! assert_eq!(election.poll(), Some(Output::NewLeader("pod-1_5c3f".into())));
//! assert_eq!(election.poll(), Some(Output::BecameLeader));
//! assert!(election.is_leading(now.time));
//! // The next renewal, if nothing happens before.
//! assert_eq!(election.poll_timeout(), Some(now.time + Duration::from_secs(2)));
//! # Ok::<(), SettingsError>(())
//! ```
//!
//! | module | what is there |
//! |---|---|
//! | [`settings`] | who a candidate is, and the three durations with the rules among them |
//! | [`lease`] | what is written in a Lease |
//! | [`event`] | inputs and outputs |
//! | [`machine`] | the decisions |
//! | `model` | (tests) a world of candidates and an API server, in which every fault happens |
//!
//! # What holds
//!
//! A candidate *leads* at an instant if it was elected and its own clock is before [`Election::leading_until`].
//! At no instant do two lead, if
//! - writes to the Lease are checked against its version, as the API server does,
//! - nobody but candidates writes to the Lease, and identities are unique,
//! - clocks do not run at rates further apart than lease duration : renew deadline (15 : 10); what time they
//!   show does not matter.
//!
//! The reason in short: a leader leads for the renew deadline counted from when it *sent* its last
//! successful write. Others count the longer lease duration from when they *saw* that write, which is
//! later, and their write names its version, so that it fails if there was another one since.
//!
//! This is not fencing: what a leader has sent to elsewhere while it led may arrive when it leads no
//! more, and a process may be frozen between looking at the clock and acting.

#![forbid(unsafe_code)]

pub mod event;
pub mod lease;
pub mod machine;
#[cfg(test)]
mod model;
mod mutant;
pub mod settings;
#[cfg(test)]
mod tables;
pub mod time;

pub use event::{Answer, Change, Input, Now, Output, Request};
pub use lease::{Lease, Record, Version};
pub use machine::Election;
pub use settings::{Settings, SettingsError};
pub use time::{Time, Wall};
