//! One byte stream, plain or TLS, to a client or to the API server, that counts what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// How many bytes (without TLS) have passed a [`Link`].
#[derive(Debug, Default)]
pub(crate) struct Flow {
    read: AtomicU64,
    written: AtomicU64,
}

impl Flow {
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    io: Io,
    /// What was read of it already, and is to be read first.
    first: Bytes,
    flow: Arc<Flow>,
    linger: Option<Linger>,
}

/// How a client's connection is closed while the client may still be sending. Closed at once, what it sends
/// would be answered with a reset, which can take an answer away that it has not read yet (nginx:
/// `lingering_close`; Go: `rstAvoidanceDelay`).
#[derive(Debug)]
struct Linger {
    /// Whether the client has been answered before the end of its request.
    answered_early: Arc<AtomicBool>,
    /// Since the end was sent.
    until: Option<Pin<Box<tokio::time::Sleep>>>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { io: Io::Plain(stream), first: Bytes::new(), flow: Arc::default(), linger: None }
    }

    pub(crate) fn tls(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        let io = Io::Tls(Box::new(stream.into()));
        Self { io, first: Bytes::new(), flow: Arc::default(), linger: None }
    }

    /// A client's, which is not closed before the client has read an answer that came early.
    pub(crate) fn lingering(mut self, answered_early: Arc<AtomicBool>) -> Self {
        self.linger = Some(Linger { answered_early, until: None });
        self
    }

    /// A tunnel's: its ends are ends of one direction.
    pub(crate) fn without_linger(mut self) -> Self {
        self.linger = None;
        self
    }

    pub(crate) fn flow(&self) -> Arc<Flow> {
        Arc::clone(&self.flow)
    }

    /// Puts back what was read too much.
    pub(crate) fn unread(&mut self, first: Bytes) {
        self.first = first;
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let now = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(now));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let read = buf.filled().len() - before;
        self.flow.read.fetch_add(read as u64, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.count(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.count(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.linger.as_ref().is_some_and(|linger| linger.until.is_some());
        if !ended {
            ready!(match &mut self.io {
                Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            })?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl Link {
    /// Throws away what still comes, until the client has ended too, or for as long as it gets.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        if !linger.answered_early.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let until = linger.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut bytes = [0; 8 << 10];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut bytes);
            let read = match &mut self.io {
                Io::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buf),
                Io::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            };
            if ready!(read).is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = result {
            let written = written as u64;
            self.flow.written.fetch_add(written, Ordering::Relaxed);
        }
        result
    }
}

/// Makes a socket send at once, and find out after about `keepalive` of silence that the other side is gone.
///
/// No `TCP_USER_TIMEOUT`: it also ends connections whose other side is there but does not read for a while,
/// as `kubectl logs -f | less` does.
pub(crate) fn tune(stream: &TcpStream, keepalive: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let seconds = u32::try_from(keepalive.as_secs()).unwrap_or(u32::MAX);
    let interval = Duration::from_secs(PROBE.into());
    let probes = TcpKeepalive::new()
        .with_time(interval)
        .with_interval(interval)
        .with_retries((seconds / PROBE).clamp(2, 100) - 1);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Seconds between probes, as Go's: NAT on the way forgets silent connections.
const PROBE: u32 = 15;

/// As nginx' `lingering_timeout` by default.
const LINGER: Duration = Duration::from_secs(5);
