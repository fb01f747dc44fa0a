//! The data plane of our own, for machines whose kernel has no WireGuard.
//!
//! ```text
//!   programs ◀─▶ TUN ──▶ outbound: whose address? encrypt, join ──▶ UDP ◀─▶ peers
//!                    ◀── inbound: whose session? decrypt, may it? ◀──
//!                          ▲                ▲
//!                  commands, eventfd     timer wheel              (one thread, `poll`)
//! ```
//!
//! One thread for a device: at the rates in question the cost is system calls and not arithmetic, and
//! what counts is how much each of them carries. Packets come from and go to the interface in pieces of
//! up to 64 KiB (virtio header, TSO), and to and from the network likewise (UDP GSO, GRO). What a packet
//! costs does not depend on how many peers there are.
//!
//! The handshake and the cipher are `boringtun`'s; what is around them is here: who is asked for a
//! cookie, whose endpoint moves, which inner addresses are taken, when there is something to be done.

mod engine;
mod icmp;
mod inbound;
mod limit;
mod outbound;
mod peer;
mod peers;
mod tun;
mod udp;
mod wheel;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{oneshot, watch};

use crate::config::Update;
use crate::key::PublicKey;
use crate::uapi::{Answerer, Everything};
use engine::{Command, Engine};

/// The kinds of packets: their first byte.
const BEGIN: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

/// The priority of the thread (`nice`).
const NICE: i32 = -10;

/// A device of our own; its interface is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Userspace {
    line: Line,
    thread: Option<JoinHandle<()>>,
    ended: watch::Receiver<Option<String>>,
}

/// The line to the thread.
#[derive(Clone, Debug)]
struct Line {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Line {
    /// Asks the thread, which has an answer unless it has ended.
    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        // If the thread has ended, the receiver says so.
        let _ = self.commands.send(command(sender));
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        receiver
    }
}

/// The thread has ended.
fn gone<T>(_: T) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the interface is gone")
}

impl Userspace {
    /// Makes the interface and listens at a UDP port, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel has no TUN or refuses one, or the port is taken: [`Part`] says which.
    pub(crate) fn start(name: &str, port: u16, load: u32) -> Result<Self, (Part, io::Error)> {
        let tun = tun::Tun::open(name).map_err(|error| (Part::Tun, error))?;
        let udp = udp::Udp::open(port, 0).map_err(|error| (Part::Udp, error))?;
        let thread_error = |error| (Part::Thread, error);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).map_err(|error| thread_error(error.into()))?);
        let (commands, receiver) = channel();
        let engine = Engine::new(tun, udp, load, receiver, Arc::clone(&wake));
        let (sender, ended) = watch::channel(None);
        let name = name.to_owned();
        let work = move || {
            // A network interface comes before those who use it, as the kernel's own do; who may not say so
            // has one that is slower on a busy machine.
            let _ = rustix::process::setpriority_process(None, NICE);
            let why = match engine.run() {
                Ok(()) => "it was closed".to_owned(),
                Err(error) => {
                    tracing::error!("the interface {name} is gone: {error}");
                    format!("it was removed: {error}")
                }
            };
            sender.send_replace(Some(why));
        };
        let thread = thread::Builder::new().name("wireguard".to_owned()).spawn(work);
        let thread = Some(thread.map_err(thread_error)?);
        Ok(Self { line: Line { commands, wake }, thread, ended })
    }

    pub(crate) async fn update(&self, update: Update) -> io::Result<()> {
        self.line.ask(|answer| Command::Update(update, answer)).await.map_err(gone)?
    }

    pub(crate) async fn tell(&self) -> io::Result<Everything> {
        self.line.ask(Command::Tell).await.map_err(gone)
    }

    pub(crate) async fn handshake(&self, peer: PublicKey) -> io::Result<bool> {
        self.line.ask(|answer| Command::Handshake(peer, answer)).await.map_err(gone)
    }

    /// Becomes the reason why the device has ended, when it has.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.clone()
    }

    /// One who answers the requests of `wg`.
    pub(crate) fn answerer(&self) -> Arc<dyn Answerer> {
        Arc::new(self.line.clone())
    }
}

/// What could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Tun,
    Udp,
    Thread,
}

impl Drop for Userspace {
    fn drop(&mut self) {
        let _ = self.line.commands.send(Command::End);
        let _ = rustix::io::write(&*self.line.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// In the threads of the socket, outside of any runtime.
impl Answerer for Line {
    fn get(&self) -> io::Result<Everything> {
        self.ask(Command::Tell).blocking_recv().map_err(gone)
    }

    fn set(&self, update: Update) -> io::Result<()> {
        self.ask(|answer| Command::Update(update, answer)).blocking_recv().map_err(gone)?
    }
}
