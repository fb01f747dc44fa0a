//! Runs pods by the lifecycle engine.
//!
//! The *driver* (one per pod) owns the clock: it feeds the engine with what happened and carries out
//! what the engine asks for, on events and never by polling. What "start a container" means is behind
//! the trait [`Runtime`]: host processes in namespaces ([`process`]), or containers of a CRI runtime
//! ([`cri`]).

#![forbid(unsafe_code)]

mod assets;
mod beneath;
pub mod clock;
pub mod config;
pub mod config_file;
pub mod contract;
pub mod cri;
pub mod driver;
pub mod hook;
pub mod image;
pub mod node;
pub mod notice;
pub mod probe;
pub mod process;
mod room;
pub mod volume;

pub use assets::{Assets, Images, Site};
pub use contract::{ContainerConfig, Runtime, RuntimeEvent};
