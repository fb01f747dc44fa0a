//! A connection to the API server, driven by whoever uses it: no task of its own, no channel between two
//! threads, and gone with its user.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::Upload;
use super::link::{Flow, Link};

/// A connection on which one request at a time is sent.
pub(crate) struct Wire {
    pub(super) sender: SendRequest<Upload>,
    connection: Connection<TokioIo<Link>, Upload>,
    flow: Arc<Flow>,
    /// The connection has come to its end and must not be polled again.
    over: bool,
    /// Since when nobody uses it.
    idle_since: Instant,
}

impl Wire {
    pub(super) async fn new(link: Link, headers: usize) -> hyper::Result<Box<Self>> {
        let flow = link.flow();
        let mut builder = http1::Builder::new();
        builder.max_headers(headers);
        let (sender, connection) = builder.handshake(TokioIo::new(link)).await?;
        Ok(Box::new(Self { sender, connection, flow, over: false, idle_since: Instant::now() }))
    }

    /// How many bytes the API server has sent on this connection.
    pub(super) fn bytes_read(&self) -> u64 {
        self.flow.read()
    }

    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over {
            // Its error is also given to whoever waits for the answer or its body.
            self.over = self.connection.poll_without_shutdown(cx).is_ready();
        }
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether another request can be sent now.
    fn poll_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_pending() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// The byte stream itself, after `101 Switching Protocols`, and what was read of it beyond the answer.
    pub(super) async fn into_link(mut self: Box<Self>) -> (Link, Bytes) {
        poll_fn(|cx| self.drive(cx)).await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

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
            if wire.idle_since.elapsed() < self.age
                && poll_fn(|cx| Poll::Ready(wire.poll_reusable(cx))).await
            {
                return Some(wire);
            }
        }
    }

    fn put(self: &Arc<Self>, mut wire: Box<Wire>) {
        wire.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.wires.len() < self.limit {
            idle.wires.push(wire);
        }
        if !std::mem::replace(&mut idle.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.age));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that nobody has used for `age`, until none is left.
async fn reap(pool: Weak<Pool>, age: Duration) {
    loop {
        tokio::time::sleep(age / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        idle.wires.retain(|wire| wire.idle_since.elapsed() < age);
        if idle.wires.is_empty() {
            idle.reaped = false;
            return;
        }
    }
}

/// The body of an answer: reading it drives its connection, which goes back to the pool at its end.
pub(crate) struct Download {
    body: Incoming,
    wire: Option<Box<Wire>>,
    pool: Option<Arc<Pool>>,
}

impl Download {
    /// Without a `pool` the connection is closed at the end.
    pub(super) fn new(body: Incoming, wire: Box<Wire>, pool: Option<Arc<Pool>>) -> Self {
        Self { body, wire: Some(wire), pool }
    }

    /// The next data, or the end; what the API server says after the end (trailers) is left out.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        let mut driven = false;
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = Frame::into_data(frame) {
                        if self.body.is_end_stream() {
                            self.release(cx);
                        }
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.wire = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    self.release(cx);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if driven {
                        return Poll::Pending;
                    }
                    if let Some(wire) = &mut self.wire {
                        driven = wire.drive(cx).is_pending();
                        if !driven {
                            self.wire = None;
                        }
                    } else {
                        driven = true;
                    }
                }
            }
        }
    }

    /// Gives the connection back if the whole answer has been read, and the whole request sent.
    pub(super) fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(mut wire) = self.wire.take()
            && let Some(pool) = &self.pool
            && wire.poll_reusable(cx)
        {
            pool.put(wire);
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
