//! The asynchronous end of the launcher's socket: requests with their answers, and news.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_sys::launcher::Launcher;
use holdfast_sys::launcher::protocol::{Failure, Packet, Reply, Request};
use holdfast_sys::launcher::socket::{self, Inbox, Outgoing};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;

/// The connection to the launcher.
#[derive(Clone, Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A packet socket in the clothes of a datagram socket, whose calls are the same.
    socket: UnixDatagram,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// `None` once the launcher is gone.
    replies: Option<HashMap<u64, oneshot::Sender<Reply>>>,
}

/// Takes a lock whose holders never panic halfway through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said when the launcher is gone.
fn gone() -> Failure {
    Failure::create(
        "the launcher process of holdfast is gone (was it killed?), and every container with it",
    )
}

/// A request that was made before there was a reactor.
const EARLY: u64 = 1;

/// Asks for something before there is a reactor; [`Link::early`] waits for the answer.
pub(super) fn ask_early(launcher: &Launcher, body: Request) -> io::Result<()> {
    let message = socket::prepare(&Packet { id: EARLY, body }, Vec::new())?;
    socket::send(launcher.socket.as_fd(), &message)
}

impl Link {
    /// Connects; `news` gets what nobody asked for, and `None` when the launcher is gone. The second
    /// value waits for the answer to [`ask_early`].
    pub(super) fn new(
        launcher: Launcher,
        news: impl FnMut(Option<Reply>) + Send + 'static,
    ) -> io::Result<(Self, impl Future<Output = Result<Reply, Failure>>)> {
        let socket = std::os::unix::net::UnixDatagram::from(launcher.socket);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        let (sender, early) = oneshot::channel();
        let waiting = Waiting { next: EARLY + 1, replies: Some(HashMap::from([(EARLY, sender)])) };
        let link = Self { shared: Arc::new(Shared { socket, waiting: Mutex::new(waiting) }) };
        tokio::spawn(listen(Arc::clone(&link.shared), news));
        Ok((link, answer(early)))
    }

    /// Asks for something and waits for the answer.
    pub(super) async fn ask(&self, body: Request, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
        let (id, reply) = self.expect()?;
        let message = socket::prepare(&Packet { id, body }, fds).map_err(|error| {
            Failure::create(format!("the container's configuration cannot be sent: {error}"))
        })?;
        self.send(&message).await.map_err(|_| gone())?;
        answer(reply).await
    }

    fn expect(&self) -> Result<(u64, oneshot::Receiver<Reply>), Failure> {
        let mut waiting = lock(&self.shared.waiting);
        let id = waiting.next;
        waiting.next += 1;
        let (sender, receiver) = oneshot::channel();
        waiting.replies.as_mut().ok_or_else(gone)?.insert(id, sender);
        Ok((id, receiver))
    }

    /// Tells something that has no answer. If the launcher is gone there is nobody to tell.
    pub(super) fn tell(&self, body: Request) {
        let Ok(message) = socket::prepare(&Packet { id: 0, body }, Vec::new()) else { return };
        match socket::send(self.shared.socket.as_fd(), &message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let link = self.clone();
                tokio::spawn(async move { link.send(&message).await });
            }
            _ => {}
        }
    }

    async fn send(&self, message: &Outgoing) -> io::Result<()> {
        let socket = &self.shared.socket;
        // The buffer is nearly always free: no need to ask the reactor first.
        match socket::send(socket.as_fd(), message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        socket.async_io(Interest::WRITABLE, || socket::send(socket.as_fd(), message)).await
    }
}

/// Waits for an answer.
async fn answer(reply: oneshot::Receiver<Reply>) -> Result<Reply, Failure> {
    match reply.await.map_err(|_| gone())? {
        Reply::Failed(failure) => Err(failure),
        reply => Ok(reply),
    }
}

async fn listen(shared: Arc<Shared>, mut news: impl FnMut(Option<Reply>)) {
    let mut inbox = Inbox::default();
    loop {
        let socket = &shared.socket;
        let received = socket.async_io(Interest::READABLE, || inbox.receive(socket.as_fd())).await;
        let Ok(Some(received)) = received else { break };
        let Packet { id, body } = received.packet;
        if id == 0 {
            news(Some(body));
            continue;
        }
        let waiter = lock(&shared.waiting).replies.as_mut().and_then(|map| map.remove(&id));
        if let Some(waiter) = waiter {
            // Nobody waits any more if the caller was cancelled.
            let _ = waiter.send(body);
        }
    }
    // Dropping the senders wakes everyone who waits.
    lock(&shared.waiting).replies = None;
    news(None);
}
