//! Many watches and exec sessions at once, held open through a proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is opened, and what shows that it works.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pub(super) watches: usize,
    /// The path of a watch, what its first events have in them, and what later ones.
    pub(super) watch: (&'static str, &'static str, &'static str),
    pub(super) execs: usize,
    /// The path of an exec whose program is `cat`.
    pub(super) exec: &'static str,
}

/// Sessions that are open until this is dropped.
pub(super) struct Held {
    watches: Vec<TcpStream>,
    execs: Vec<TcpStream>,
    sessions: Sessions,
}

impl Sessions {
    /// Opens all of them, a few at a time; each watch has had an event and each exec an echo then.
    pub(super) async fn open(&self, proxy: SocketAddr) -> Result<Held> {
        let mut watches = Vec::new();
        for _ in 0..self.watches {
            watches.push(request(proxy, self.watch.0, "").await?);
        }
        for (number, watch) in watches.iter_mut().enumerate() {
            let event = until(watch, self.watch.1.as_bytes()).await;
            event.with_context(|| format!("watch {number}"))?;
        }
        let mut execs = Vec::new();
        for _ in 0..self.execs.div_ceil(AT_ONCE) {
            let mut some = Vec::new();
            for _ in 0..AT_ONCE.min(self.execs - execs.len()) {
                some.push(request(proxy, self.exec, UPGRADE).await?);
            }
            for exec in &mut some {
                until(exec, b"\r\n\r\n").await?;
                echo(exec, "first").await.with_context(|| format!("exec {}", execs.len()))?;
            }
            execs.extend(some);
        }
        Ok(Held { watches, execs, sessions: self.clone() })
    }
}

impl Held {
    /// Whether all are still there: each watch sees the event that `cause` makes, each exec echoes once more. How
    /// long the last watch waited for its event.
    pub(super) async fn all_work(
        &mut self,
        cause: impl FnOnce() -> Result<()>,
    ) -> Result<Duration> {
        for watch in &self.watches {
            // What has come meanwhile.
            let mut old = [0; 64 << 10];
            while matches!(watch.try_read(&mut old), Ok(1..)) {}
        }
        let begin = Instant::now();
        cause()?;
        for (number, watch) in self.watches.iter_mut().enumerate() {
            let event = until(watch, self.sessions.watch.2.as_bytes()).await;
            event.with_context(|| format!("watch {number}, later"))?;
        }
        let took = begin.elapsed();
        for (number, exec) in self.execs.iter_mut().enumerate() {
            echo(exec, "again").await.with_context(|| format!("exec {number}, later"))?;
        }
        Ok(took)
    }
}

async fn request(proxy: SocketAddr, path: &str, more: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {proxy}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Reads until `needle` has come.
async fn until(stream: &mut TcpStream, needle: &[u8]) -> Result<()> {
    let (mut got, mut part) = (Vec::new(), vec![0; 16 << 10]);
    while !got.windows(needle.len()).any(|window| window == needle) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await;
        let read = read.with_context(|| format!("nothing for {PATIENCE:?}"))??;
        ensure!(read > 0, "it ended: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&part[..read]);
        let head = got.starts_with(b"HTTP/1.1 ");
        let good = got.starts_with(b"HTTP/1.1 200") || got.starts_with(b"HTTP/1.1 101");
        ensure!(!head || good || got.len() < 12, "{}", String::from_utf8_lossy(&got));
    }
    Ok(())
}

/// One WebSocket frame with a word for standard input (channel 0), and the word back.
async fn echo(stream: &mut TcpStream, word: &str) -> Result<()> {
    // FIN and binary; masked, with a mask of zeros.
    let mut frame = vec![0x82, 0x80 | u8::try_from(word.len() + 2)?, 0, 0, 0, 0, 0];
    frame.extend_from_slice(word.as_bytes());
    frame.push(b'\n');
    stream.write_all(&frame).await?;
    until(stream, word.as_bytes()).await
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: aG9sZGZhc3QtYmVuY2gtMQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
/// Programs that are started at the same time.
const AT_ONCE: usize = 10;
const PATIENCE: Duration = Duration::from_secs(30);
