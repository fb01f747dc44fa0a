//! The proxy in one process with an API server that follows a script, on raw sockets.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod audit;
mod forward;
mod identities;
mod lifetime;
mod limits;
mod smuggling;
mod support;
mod tls;
mod upgrade;
mod upstream;
