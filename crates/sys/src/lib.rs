//! Safe wrappers of the Linux calls that Holdfast needs; the only crate that may contain `unsafe`.
//!
//! Its heart is the [`launcher`]: a small single-threaded process, forked from `holdfast` before any
//! thread exists, that makes every container process and cleans up when `holdfast` itself is gone.
//!
//! ```text
//!   holdfast (tokio)  ──── SOCK_SEQPACKET, JSON + fds ────  launcher (one thread, poll)
//!                                                            ├─ container 1   PID 1 of its namespace
//!                                                            ├─ container 2   …
//!                                                            └─ shim ─ main process   (no PID namespace)
//! ```
//!
//! The other modules are the calls it is made of: [`mount`], [`cgroup`], [`caps`], [`clone`], …

#[cfg(not(target_os = "linux"))]
compile_error!("Holdfast runs on Linux: its containers are namespaces and cgroups");

pub mod caps;
pub mod cgroup;
pub mod clone;
pub mod launcher;
pub mod limits;
pub mod mount;
pub mod mountinfo;
pub mod paths;
pub mod pidfd;
pub mod rundir;
pub mod signals;
pub mod udp;
pub mod userns;
