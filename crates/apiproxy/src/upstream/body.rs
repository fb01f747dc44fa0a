//! The body of a request on its way to the API server.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A client's body, passed on as it comes; without trailers, in which headers could be smuggled.
pub(crate) struct Upload {
    body: Option<Incoming>,
    /// Closed until the API server asks for the body (`Expect: 100-continue`).
    gate: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    progress: Option<Arc<Progress>>,
}

/// How far an [`Upload`] is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Cancelled when nothing more is to be sent.
    pub(crate) done: CancellationToken,
    /// All of it has come from the client.
    pub(crate) whole: AtomicBool,
    /// Bytes passed on.
    pub(crate) bytes: AtomicU64,
}

impl Upload {
    pub(crate) fn empty() -> Self {
        Self { body: None, gate: None, progress: None }
    }

    /// `body`, and how far it is; held back until `gate` is cancelled.
    pub(crate) fn new(body: Incoming, gate: Option<&CancellationToken>) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let upload = Self {
            body: Some(body),
            gate: gate.map(|gate| Box::pin(gate.clone().cancelled_owned())),
            progress: Some(Arc::clone(&progress)),
        };
        (upload, progress)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let mut body = pin!(body);
        while let Some(frame) = ready!(body.as_mut().poll_frame(cx)?) {
            if let Some(data) = frame.data_ref() {
                if let Some(progress) = &this.progress {
                    let bytes = data.len() as u64;
                    progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        if let Some(progress) = &this.progress {
            progress.whole.store(true, Ordering::Relaxed);
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            progress.done.cancel();
        }
    }
}
