//! Who is connected: how much each peer takes, and the switch that ends its sessions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::lanes::Lane;

/// All peers that have connections.
#[derive(Debug)]
pub(crate) struct Peers {
    live: Mutex<HashMap<IpAddr, Arc<Peer>>>,
    /// Ends everything.
    kill: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Peer {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Ends the sessions that began before its latest replacement.
    end: Mutex<CancellationToken>,
}

/// A connection of a peer; dropped with it.
#[derive(Debug)]
pub(crate) struct Membership {
    peers: Arc<Peers>,
    peer: Arc<Peer>,
    pub(crate) address: IpAddr,
    /// Cancelled when this connection and all that came of it must end.
    pub(crate) end: CancellationToken,
    /// The address of the listener that it came by is gone: then it must end too.
    gone: CancellationToken,
    /// Whether the peer has no more connections than it may.
    pub(crate) within_limit: bool,
    /// Whether a request on this connection was answered before all of its body had come.
    pub(crate) answered_early: Arc<AtomicBool>,
    /// The thread that carries it.
    pub(crate) lane: Option<Lane>,
}

/// A request of a peer; dropped with it.
#[derive(Debug)]
pub(crate) struct Ticket {
    peer: Arc<Peer>,
}

impl Peers {
    pub(crate) fn new(kill: CancellationToken) -> Arc<Self> {
        Arc::new(Self { live: Mutex::default(), kill })
    }

    /// Registers a connection. The identity of its requests is to be looked up after this: whoever replaces
    /// identities does so first and then ends the sessions that are registered.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        limit: usize,
        gone: CancellationToken,
    ) -> Membership {
        let address = address.to_canonical();
        let mut live = self.lock();
        let peer = live.entry(address).or_insert_with(|| {
            Arc::new(Peer {
                connections: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                end: Mutex::new(self.kill.child_token()),
            })
        });
        let peer = Arc::clone(peer);
        let before = peer.connections.fetch_add(1, Ordering::Relaxed);
        let end = peer.end().child_token();
        drop(live);
        let within_limit = before < limit;
        let answered_early = Arc::default();
        Membership {
            peers: Arc::clone(self),
            peer,
            address,
            end,
            gone,
            within_limit,
            answered_early,
            lane: None,
        }
    }

    /// Ends the sessions of all peers that are `someone_else` now; says how many connections they had.
    pub(crate) fn end(&self, someone_else: impl Fn(IpAddr) -> bool) -> usize {
        let live = self.lock();
        let mut ended = 0;
        for (address, peer) in live.iter() {
            if someone_else(*address) {
                ended += peer.connections.load(Ordering::Relaxed);
                let token = std::mem::replace(&mut *peer.end(), self.kill.child_token());
                token.cancel();
            }
        }
        ended
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Peer>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn end(&self) -> MutexGuard<'_, CancellationToken> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    /// Does `work`, no longer than this connection may last; `None` if it had to end.
    pub(crate) fn during<F: Future>(
        &self,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + use<F> {
        let (end, gone) = (self.end.clone(), self.gone.clone());
        async move {
            tokio::select! {
                biased;
                () = gone.cancelled() => {
                    // All else that came of the connection as well.
                    end.cancel();
                    None
                }
                done = end.run_until_cancelled(work) => done,
            }
        }
    }

    /// Counts a request; `None` if the peer has `limit` already.
    pub(crate) fn ticket(&self, limit: usize) -> Option<Ticket> {
        let before = self.peer.requests.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { peer: Arc::clone(&self.peer) };
        (before < limit).then_some(ticket)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut live = self.peers.lock();
        if self.peer.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            live.remove(&self.address);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.peer.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_of_those_who_changed_end() {
        let peers = Peers::new(CancellationToken::new());
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let enter = |address, limit| peers.enter(address, limit, CancellationToken::new());
        let first = enter(one, 2);
        let mapped = enter("::ffff:10.0.0.1".parse().unwrap(), 2);
        let other = enter(two, 2);
        assert!(first.within_limit && mapped.within_limit);
        assert!(!enter(one, 2).within_limit);

        assert_eq!(peers.end(|peer| peer == one), 2);
        assert!(first.end.is_cancelled() && mapped.end.is_cancelled());
        assert!(!other.end.is_cancelled());
        let after = enter(one, 2);
        assert!(!after.end.is_cancelled(), "a new session is a new one");

        peers.kill.cancel();
        assert!(after.end.is_cancelled() && other.end.is_cancelled());
        drop((first, mapped, other, after));
        assert!(peers.lock().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn requests_are_counted_over_all_connections_of_a_peer() {
        let peers = Peers::new(CancellationToken::new());
        let address = "10.0.0.1".parse().unwrap();
        let enter = || peers.enter(address, 9, CancellationToken::new());
        let (one, two) = (enter(), enter());
        let first = one.ticket(2).unwrap();
        let _second = two.ticket(2).unwrap();
        assert!(one.ticket(2).is_none());
        drop(first);
        assert!(two.ticket(2).is_some());
    }
}
