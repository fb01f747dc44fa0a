//! What a container is started with.

mod downward;
mod expansion;
mod node;
mod objects;

pub use downward::{DownwardError, PodView};
pub use expansion::expand;
pub(crate) use expansion::expand_sub_path;
pub use node::{Allocatable, Node};
pub use objects::{NotFound, Objects};
