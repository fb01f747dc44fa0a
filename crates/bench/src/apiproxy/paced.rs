//! Requests at a rate that is given, and how long each takes: what a proxy adds is seen when nothing is at its limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// How an API server is called without a proxy.
#[derive(Clone, Debug)]
pub(super) struct Direct(Arc<rustls::ClientConfig>);

impl Direct {
    /// Trusts the CA in `directory`, and presents the client certificate there, if there is one.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(directory.join("ca.crt"))? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let client = directory.join("client.crt");
        let mut config = if client.is_file() {
            let chain = CertificateDer::pem_file_iter(client)?.collect::<Result<_, _>>()?;
            let key = PrivateKeyDer::from_pem_file(directory.join("client.key"))?;
            builder.with_client_auth_cert(chain, key)?
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    fn connect(&self, to: SocketAddr, stream: TcpStream) -> Result<Box<dyn Stream>> {
        let name = ServerName::from(to.ip());
        let session = rustls::ClientConnection::new(Arc::clone(&self.0), name)?;
        Ok(Box::new(rustls::StreamOwned::new(session, stream)))
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Milliseconds that the slowest hundredth took, and what was really sent a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paced {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) rate: f64,
}

/// Sends `rate` requests a second for this long on 32 connections, evenly in turns. A request that cannot be sent
/// when its time has come, since the one before it is not answered, counts from then.
pub(super) fn paced(
    to: SocketAddr,
    direct: Option<&Direct>,
    rate: f64,
    lasting: Duration,
) -> Result<Paced> {
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let begin = Instant::now() + Duration::from_millis(200);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let direct = direct.cloned();
            std::thread::spawn(move || {
                let mine = (thread..CONNECTIONS).step_by(THREADS as usize);
                let connections: Result<Vec<Connection>> = mine
                    .map(|n| Connection::new(to, direct.as_ref(), begin + every * n / CONNECTIONS))
                    .collect();
                turns(connections?, every, begin + lasting)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
    }
    all.sort_unstable();
    let at = |part: f64| -> Result<f64> {
        let index = (all.len() as f64 * part) as usize;
        let time = all.get(index).context("nothing was answered")?;
        Ok(time.as_secs_f64() * 1000.0)
    };
    Ok(Paced { p50: at(0.5)?, p99: at(0.99)?, rate: all.len() as f64 / lasting.as_secs_f64() })
}

/// A connection with at most one request under way.
struct Connection {
    socket: TcpStream,
    stream: Box<dyn Stream>,
    request: Vec<u8>,
    /// When the next request is to be sent.
    due: Instant,
    /// From when the one under way counts.
    from: Option<Instant>,
    /// When the one before was answered.
    answered: Instant,
    answer: Vec<u8>,
}

impl Connection {
    fn new(to: SocketAddr, direct: Option<&Direct>, due: Instant) -> Result<Self> {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let stream: Box<dyn Stream> = match direct {
            Some(direct) => direct.connect(to, socket.try_clone()?)?,
            None => Box::new(socket.try_clone()?),
        };
        let request = format!("GET /version HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes();
        let answer = Vec::new();
        let answered = Instant::now();
        let mut this = Self { socket, stream, request, due, from: None, answered, answer };
        // The handshake, and the proxy's connection to the API server, are not what is measured.
        this.stream.write_all(&this.request)?;
        this.read()?;
        this.socket.set_nonblocking(true)?;
        Ok(this)
    }

    /// Reads what there is; whether the answer is complete.
    fn read(&mut self) -> Result<bool> {
        loop {
            let mut part = [0; 4096];
            match self.stream.read(&mut part) {
                Ok(0) => bail!("closed before an answer"),
                Ok(read) => self.answer.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if self.is_complete()? {
                self.answer.clear();
                return Ok(true);
            }
        }
    }

    fn is_complete(&self) -> Result<bool> {
        let end = self.answer.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else { return Ok(false) };
        let head = String::from_utf8_lossy(&self.answer[..end]).to_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no length")?.trim().parse()?;
        Ok(self.answer.len() >= end + 4 + length)
    }
}

fn turns(mut all: Vec<Connection>, every: Duration, end: Instant) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut now = Instant::now();
    while now < end {
        for one in all.iter_mut().filter(|one| one.from.is_none() && one.due <= now) {
            // Who was free when it was due has only been woken late, which is not the proxy's time.
            let free = one.answered <= one.due;
            one.from = Some(if free { Instant::now() } else { one.due });
            one.stream.write_all(&one.request)?;
            one.stream.flush()?;
        }
        let idle = all.iter().filter(|one| one.from.is_none());
        let next = idle.map(|one| one.due).min().unwrap_or(end);
        let pause = next.saturating_duration_since(Instant::now());
        let pause =
            Timespec { tv_sec: pause.as_secs().try_into()?, tv_nsec: pause.subsec_nanos().into() };
        let sockets = all.iter().map(|one| PollFd::new(&one.socket, PollFlags::IN));
        let mut sockets: Vec<PollFd<'_>> = sockets.collect();
        poll(&mut sockets, Some(&pause))?;
        let ready: Vec<bool> = sockets.iter().map(|one| !one.revents().is_empty()).collect();
        for (one, _) in all.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if one.read()?
                && let Some(from) = one.from.take()
            {
                one.answered = Instant::now();
                took.push(one.answered - from);
                one.due += every;
            }
        }
        now = Instant::now();
    }
    Ok(took)
}

const CONNECTIONS: u32 = 32;
const THREADS: u32 = 2;
