//! Unused connections to the API server.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::wire::Wire;

/// Unused connections to the API server, the latest used first.
pub(crate) struct Pool {
    idle: Mutex<Idle>,
    limit: usize,
    age: Duration,
}

#[derive(Default)]
struct Idle {
    #[expect(clippy::vec_box, reason = "they come and go as boxes, and are large")]
    wires: Vec<Box<Wire>>,
    reaped: bool,
}

impl Pool {
    pub(super) fn new(limit: usize, age: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), limit, age })
    }

    /// A connection that was alive a moment ago.
    pub(super) async fn take(&self) -> Option<Box<Wire>> {
        loop {
            let mut wire = self.lock().wires.pop()?;
            let now = Instant::now();
            let idle = now.duration_since(std::mem::replace(&mut wire.since, now));
            if idle < self.age && poll_fn(|cx| Poll::Ready(wire.poll_alive(cx))).await {
                return Some(wire);
            }
        }
    }

    pub(super) fn put(self: &Arc<Self>, mut wire: Box<Wire>) {
        wire.since = Instant::now();
        let mut idle = self.lock();
        if idle.wires.len() < self.limit {
            idle.wires.push(wire);
        }
        if !std::mem::replace(&mut idle.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.age));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that nobody has used for `age`, until none is left.
async fn reap(pool: Weak<Pool>, age: Duration) {
    loop {
        tokio::time::sleep(age / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        idle.wires.retain(|wire| wire.since.elapsed() < age);
        if idle.wires.is_empty() {
            idle.reaped = false;
            return;
        }
    }
}
