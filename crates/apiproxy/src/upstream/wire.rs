//! A connection to the API server, driven by whoever uses it: no task of its own, no channel between two
//! threads, and gone with its user.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Response, StatusCode, request, response};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::body::Upload;
use super::link::Link;
use super::message::{self, Framing, Malformed, Sending};
use super::pool::Pool;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before the end of the answer")]
    Ended,
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Not the API server's fault: the client's body broke off.
    #[error("{0}")]
    Client(#[source] hyper::Error),
    #[error("the body is longer or shorter than was said")]
    Length,
}

/// A connection on which one request at a time is sent.
pub(crate) struct Wire {
    link: Link,
    /// What was read and belongs to nothing yet.
    read: BytesMut,
    /// As much as is read at once; grows with what comes.
    appetite: usize,
    /// The head of the request, and how much of it has been written; room for the next one's.
    head: Vec<u8>,
    head_written: usize,
    upload: Option<Uploading>,
    /// What is being written after the head.
    chunk: Chunk,
    /// Everything has been written, and has left the buffers of TLS.
    flushed: bool,
    /// Bytes of this exchange.
    written: u64,
    received: u64,
    /// Why not all of the request can be sent.
    failed: Option<WireError>,
    /// Since when it is used, or not.
    pub(super) since: Instant,
    /// Ends at or before the time by which an answer must have begun, and then begins again: no timer is set for
    /// each request.
    watchdog: Option<Pin<Box<Sleep>>>,
}

/// A body on its way.
struct Uploading {
    upload: Upload,
    sending: Sending,
}

/// A piece of a body, in the form in which it is written.
#[derive(Default)]
struct Chunk {
    size: Bytes,
    data: Bytes,
    end: &'static [u8],
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.size.is_empty() && self.data.is_empty() && self.end.is_empty()
    }

    fn advance(&mut self, mut count: usize) {
        for part in [&mut self.size, &mut self.data] {
            let now = count.min(part.len());
            part.advance(now);
            count -= now;
        }
        self.end = &self.end[count.min(self.end.len())..];
    }
}

impl Wire {
    pub(super) fn new(link: Link) -> Box<Self> {
        Box::new(Self {
            link,
            read: BytesMut::new(),
            appetite: APPETITE.0,
            head: Vec::new(),
            head_written: 0,
            upload: None,
            chunk: Chunk::default(),
            flushed: true,
            written: 0,
            received: 0,
            failed: None,
            since: Instant::now(),
            watchdog: None,
        })
    }

    /// Whether the API server still listens: it has neither closed, nor said something unasked.
    pub(super) fn poll_alive(&mut self, cx: &mut Context<'_>) -> bool {
        self.read.is_empty() && self.poll_read(cx).is_pending()
    }

    /// Begins to send a request.
    pub(super) fn begin(&mut self, head: &request::Parts, upload: Option<Upload>) {
        let sending = upload.as_ref().map(|upload| match upload.size_hint().exact() {
            Some(length) => Sending::Length(length),
            None => Sending::Chunked,
        });
        self.head.clear();
        message::write_head(head, sending, &mut self.head);
        self.head_written = 0;
        self.upload = upload.zip(sending).map(|(upload, sending)| Uploading { upload, sending });
        self.flushed = false;
        (self.written, self.received, self.failed) = (0, 0, None);
    }

    /// Whether not a byte of the request has been written.
    pub(super) fn is_unsent(&self) -> bool {
        self.written == 0
    }

    /// Whether not a byte of an answer has come.
    pub(super) fn is_unanswered(&self) -> bool {
        self.received == 0
    }

    /// The body, of which nothing has been taken, if nothing has been written.
    pub(super) fn take_upload(&mut self) -> Option<Upload> {
        self.upload.take().map(|uploading| uploading.upload)
    }

    /// Goes on sending, and waits for the answer's head; opens `gate` when the body is asked for.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        headers: usize,
        gate: Option<&CancellationToken>,
    ) -> Poll<Result<Answer, WireError>> {
        self.send(cx)?;
        loop {
            while let Some(head) = self.next_head(method, headers)? {
                let status = head.parts.status;
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(Answer(head)));
                }
                if status == StatusCode::CONTINUE
                    && let Some(gate) = gate
                {
                    gate.cancel();
                    self.send(cx)?;
                }
            }
            let error = match ready!(self.poll_read(cx)) {
                Ok(0) => WireError::Ended,
                Ok(count) => {
                    self.received += count as u64;
                    continue;
                }
                Err(error) => error.into(),
            };
            return Poll::Ready(Err(self.failed.take().unwrap_or(error)));
        }
    }

    fn next_head(
        &mut self,
        method: &Method,
        headers: usize,
    ) -> Result<Option<message::Head>, Malformed> {
        if self.read.is_empty() {
            return Ok(None);
        }
        message::read_head(&mut self.read, headers, method)
    }

    /// Ends at `deadline`; deadlines of later requests are later.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let new = || Box::pin(tokio::time::sleep_until(deadline.into()));
        let watchdog = self.watchdog.get_or_insert_with(new);
        while watchdog.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                self.watchdog = None;
                return Poll::Ready(());
            }
            watchdog.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// Writes as much of the request as can be written now.
    ///
    /// # Errors
    ///
    /// If the client is the cause. If the API server does not take it all, it may have answered all the same.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), WireError> {
        if self.failed.is_some() {
            return Ok(());
        }
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => {
                if self.written > 0 {
                    self.upload = None;
                }
                match error {
                    WireError::Client(_) | WireError::Length => Err(error),
                    error => {
                        self.failed = Some(error);
                        Ok(())
                    }
                }
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while !self.flushed {
            if self.head_written < self.head.len() {
                let head = &self.head[self.head_written..];
                let count = ready!(Pin::new(&mut self.link).poll_write(cx, head))?;
                self.head_written += wrote(count)?;
                self.written += count as u64;
            } else if !self.chunk.is_empty() {
                let Chunk { size, data, end } = &self.chunk;
                let count = if size.is_empty() && end.is_empty() {
                    ready!(Pin::new(&mut self.link).poll_write(cx, data))?
                } else {
                    let parts = [IoSlice::new(size), IoSlice::new(data), IoSlice::new(end)];
                    ready!(Pin::new(&mut self.link).poll_write_vectored(cx, &parts))?
                };
                self.chunk.advance(wrote(count)?);
                self.written += count as u64;
            } else if let Some(uploading) = &mut self.upload {
                match uploading.poll_chunk(cx) {
                    Poll::Ready(Some(chunk)) => self.chunk = chunk?,
                    Poll::Ready(None) => self.upload = None,
                    Poll::Pending => {
                        // What there is goes out while the client takes its time.
                        let _ = Pin::new(&mut self.link).poll_flush(cx)?;
                        return Poll::Pending;
                    }
                }
            } else {
                ready!(Pin::new(&mut self.link).poll_flush(cx))?;
                self.flushed = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.appetite);
        let count =
            ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.link), cx, &mut self.read))?;
        if count >= self.appetite {
            self.appetite = (self.appetite * 2).min(APPETITE.1);
        } else if count < self.appetite / 4 {
            self.appetite = (self.appetite / 2).max(APPETITE.0);
        }
        Poll::Ready(Ok(count))
    }

    /// The byte stream itself, after `101 Switching Protocols`, and what was read of it beyond the answer.
    pub(super) fn into_link(self) -> (Link, Bytes) {
        (self.link, self.read.freeze())
    }
}

impl Uploading {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, WireError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.upload).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(WireError::Client(error)))),
                None => {
                    return Poll::Ready(match self.sending {
                        Sending::Length(0) => None,
                        Sending::Length(_) => Some(Err(WireError::Length)),
                        Sending::Chunked => {
                            self.sending = Sending::Length(0);
                            Some(Ok(Chunk { end: b"0\r\n\r\n", ..Chunk::default() }))
                        }
                    });
                }
            };
            let Ok(data) = Frame::into_data(frame) else { continue };
            if data.is_empty() {
                continue;
            }
            let length = data.len() as u64;
            return Poll::Ready(Some(match &mut self.sending {
                Sending::Length(left) if *left < length => Err(WireError::Length),
                Sending::Length(left) => {
                    *left -= length;
                    Ok(Chunk { data, ..Chunk::default() })
                }
                Sending::Chunked => {
                    let size = Bytes::from(format!("{length:x}\r\n"));
                    Ok(Chunk { size, data, end: b"\r\n" })
                }
            }));
        }
    }
}

fn wrote(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}

/// The head of an answer, and how its body is read.
pub(super) struct Answer(message::Head);

impl Answer {
    pub(super) fn head(&self) -> &response::Parts {
        &self.0.parts
    }

    pub(super) fn into_head(self) -> response::Parts {
        self.0.parts
    }

    /// The answer with its body; without a `pool` the connection is closed at the end.
    pub(super) fn download(self, wire: Box<Wire>, pool: Option<&Arc<Pool>>) -> Response<Download> {
        let message::Head { parts, framing, keep } = self.0;
        let pool = pool.filter(|_| keep).map(Arc::clone);
        let mut download = Download { wire: Some(wire), framing, pool };
        download.finish();
        Response::from_parts(parts, download)
    }
}

/// The body of an answer: reading it drives its connection, which goes back to the pool at its end.
pub(crate) struct Download {
    /// `None` at the end.
    wire: Option<Box<Wire>>,
    framing: Framing,
    pool: Option<Arc<Pool>>,
}

impl Download {
    /// The next data, or the end; what the API server says after the end (trailers) is left out.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, WireError>>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
        // The body of the request may still be on its way.
        if let Err(error) = wire.send(cx) {
            self.wire = None;
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.framing.take(&mut wire.read) {
                Ok(Some(data)) => {
                    self.finish();
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(None) if self.framing.is_over() => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(error) => {
                    self.wire = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            let error = match ready!(wire.poll_read(cx)) {
                Ok(0) if self.framing == Framing::Close => None,
                Ok(0) => Some(WireError::Ended),
                Ok(_) => continue,
                Err(error) => Some(error.into()),
            };
            self.wire = None;
            self.framing = Framing::EMPTY;
            return Poll::Ready(error.map(Err));
        }
    }

    /// Gives the connection back if the whole answer has been read, and the whole request sent.
    fn finish(&mut self) {
        // The end of the last chunk has usually come with its data.
        if let (Some(wire), Framing::Chunked(_)) = (&mut self.wire, self.framing) {
            let _ = self.framing.skip(&mut wire.read);
        }
        if self.framing.is_over()
            && let Some(wire) = self.wire.take()
            && wire.flushed
            && wire.failed.is_none()
            && wire.read.is_empty()
            && let Some(pool) = &self.pool
        {
            pool.put(wire);
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.wire.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            _ if self.wire.is_none() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Bytes read at once: at first, and at most.
const APPETITE: (usize, usize) = (4 << 10, 64 << 10);
