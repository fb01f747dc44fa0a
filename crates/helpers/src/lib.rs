//! Helpers that run inside of containers, as a copy of the program in any image.
//!
//! Kubernetes orders the containers of a pod; what it has no words for, an order between a container
//! and a server elsewhere, an interface of the node or a file that another container writes, is made
//! by waiting for it, bounded and without a shell:
//!
//! - [`wait`]: until a TCP port, a URL, a socket, a file, a name or a network interface is there. It
//!   gates an entrypoint, and answers exec probes.
//! - [`render`]: writes a file from a template, the labels of the pod and the environment, whole or not
//!   at all, and again as often as it is asked to: an init container that runs twice does no harm.
//! - [`install`]: puts the program on a volume, for images that do not have it.

#![forbid(unsafe_code)]

mod change;
pub mod first_process;
pub mod install;
mod place;
pub mod render;
pub mod wait;
