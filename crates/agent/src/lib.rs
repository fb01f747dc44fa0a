//! The node agent: a machine's services are pods in a directory, run by the engine and the process runtime.
//!
//! ```text
//!   /etc/holdfast/manifests/*.yaml ──▶ manifests ──▶ services ──▶ runtime::node ──▶ processes
//!        (inotify)                    what is wanted   what to start      │
//!                                                      and delete         ▼
//!   holdfast status|logs|restart|stop ◀──▶ control ◀── status, logs ◀── notices
//! ```
//!
//! It may be PID 1: then it mounts what is missing if asked, and reaps what others left behind. What it is told and
//! what it decides is in [`services`], a pure state machine; everything else carries that out.
//!
//! | module | what is there |
//! |---|---|
//! | [`mod@run`] | the loop that brings it together |
//! | [`services`] | which pods to start and to delete, and in which order everything stops |
//! | [`manifests`] | the directory, read whole whenever it changes |
//! | [`logs`] | what containers write, in files that are rotated |
//! | [`control`] | the socket by which the command line asks and orders |
//! | [`doctor`] | what a machine lacks, and what to do |
//! | [`init`] | PID 1: mounts and orphans |

#![forbid(unsafe_code)]

pub mod control;
pub mod doctor;
pub mod init;
pub mod logs;
pub mod manifests;
pub mod run;
pub mod services;
mod watch;

pub use run::{Error, Settings, run};
