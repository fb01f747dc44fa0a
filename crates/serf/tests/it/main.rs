//! A member beside Debian's real agents: `serf` of the package of that name.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agents;
mod shell;
mod together;
