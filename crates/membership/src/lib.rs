//! Who is in the cluster, proved, and at which address: one node of a mesh as a pure state machine, without
//! clock, IO or dice.
//!
//! Nodes find each other by gossip (SWIM, by foca). What sets this cluster apart from one that only gossips is
//! that nothing is believed without proof: a node is its Ed25519 key; what it says of itself it signs; that
//! it was admitted every member can check on its own; and a node that was removed is out of everything, for
//! ever. [`Membership`] makes these decisions. It is told what came in and what time it is, and says what to
//! send, what to keep, and who has come, gone or changed:
//!
//! ```
//! # use holdfast_membership::*;
//! # use std::net::SocketAddr;
//! # fn node(n: u8, join: Vec<SocketAddr>) -> Membership {
//! # let now = Now { time: Time::ZERO, wall: Wall(1_700_000_000) };
//! let identity = Identity::from_seed([n; 32]);
//! let local = Local {
//!     name: format!("node-{n}"),
//!     wireguard_key: [n; 32],
//!     gossip: vec![SocketAddr::from(([192, 0, 2, n], 7946))],
//!     wireguard: vec![SocketAddr::from(([192, 0, 2, n], 51820))],
//!     roles: vec![],
//! };
//! let config = Config { local, pool: Pool::new(PoolConfig::default()).unwrap(), join, timing: Timing::default() };
//! let secret = ClusterSecret::new((0..32).collect()).unwrap();
//! Membership::new(now, identity, config, Entry::Secret(secret), None, &[n; 32]).unwrap()
//! # }
//! # let mut first = node(1, vec![]);
//! # let mut nodes = [first, node(2, vec![SocketAddr::from(([192, 0, 2, 1], 7946))])];
//! # let mut joined = 0;
//! # for millis in 0..2000 {
//! #     let now = Now { time: Time::from_millis(millis), wall: Wall(1_700_000_000) };
//! #     for i in [0, 1] {
//! nodes[i].handle(now, Input::Tick);
//! while let Some(output) = nodes[i].poll() {
//!     match output {
//!         Output::Send { to: _, bytes } => {
//!             // The shell has a socket here; in this example there are two nodes.
//!             let from = SocketAddr::from(([192, 0, 2, i as u8 + 1], 7946));
//!             nodes[1 - i].handle(now, Input::Datagram { from, bytes: &bytes });
//!         }
//!         Output::Persist(_) => { /* to the disk, before what follows is sent */ }
//!         Output::Member(MemberEvent::Joined(peer) | MemberEvent::Updated(peer)) => {
//!             // Its address, once it has one, for the interface of the mesh.
//!             let address: Option<std::net::IpAddr> = peer.v4;
//! #           joined += u8::from(address.is_some());
//!         }
//!         _ => {}
//!     }
//! }
//! // When it wants to be asked again, if nothing happens before.
//! let wake: Option<Time> = nodes[i].poll_timeout();
//! # assert!(wake.is_some());
//! #     }
//! # }
//! # assert!(joined >= 2);
//! ```
//!
//! | module | what is there |
//! |---|---|
//! | [`identity`] | a node's key, its id, and the content of `identity.json` |
//! | [`record`] | what a node says of itself, signed |
//! | [`revocation`] | that a node was removed, signed |
//! | [`secret`] | the cluster secret, what is derived of it, and the ring on which it is replaced |
//! | [`token`] | one-time join tokens |
//! | [`address`] | which address a node takes, and who keeps one that two have claimed |
//! | [`book`] | all that is known of all, and how it grows |
//! | [`swim`] | who is there |
//! | [`event`] | inputs and outputs |
//! | [`machine`] | the node |
//! | `envelope`, `message` | how a datagram is sealed, and what it says |
//! | `sim` | (tests) a network of nodes in virtual time, in which every fault happens |
//!
//! `docs/membership.md` has the formats, the keys and how they are derived, and the argument why who is not
//! admitted stays out, with its limits.
//!
//! # What holds
//!
//! - Nodes with the same statements in their books agree on everything: who is admitted, who was removed, which
//!   of two records counts, who has which address. The order in which they came does not matter.
//! - At no instant does a node take two members for the holders of one address.
//! - Nobody who was removed is a member for any node that has heard of it, and all hear of it who can be reached.
//! - The same inputs give the same outputs.

#![forbid(unsafe_code)]

pub mod address;
pub mod book;
mod crypto;
mod envelope;
pub mod event;
pub mod identity;
pub mod machine;
#[doc(hidden)]
pub mod message;
mod mutant;
pub mod record;
pub mod revocation;
pub mod secret;
#[cfg(test)]
mod sim;
pub mod swim;
pub mod time;
pub mod token;
pub mod wire;

pub use address::{Pool, PoolConfig};
pub use event::{Input, MemberEvent, Notice, Output, Peer, Snapshot, Status, Why};
pub use identity::{Identity, NodeId, PublicKey};
pub use machine::{CommandError, Config, Entry, Local, Membership, StartError};
pub use record::{Draft, Record};
pub use revocation::Revocation;
pub use secret::{ClusterSecret, KeyId, Keyring};
pub use swim::Timing;
pub use time::{Now, Time, Wall};
pub use token::{JoinToken, TokenId, TokenInfo, TokenState};
