//! An API server that follows a script, clients on raw sockets, and certificates for both.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use holdfast_apiproxy::{
    Config, Hosts, Identity, Limits, Mode, Proxy, ServingTls, SystemNames, Timeouts, Token,
    Unmapped, Upstream,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine, short enough for whoever waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

// === certificates

pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) client_chain: String,
    pub(crate) client_key: String,
}

/// A CA and certificates by it for 127.0.0.1 and a client.
pub(crate) fn new_pki() -> Pki {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let signed = |names: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (chain, key) = signed(&["127.0.0.1", "localhost"]);
    let (client_chain, client_key) = signed(&["proxy"]);
    Pki { ca: ca_pem, chain, key, client_chain, client_key }
}

pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(new_pki)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What the scripted API server presents; with `client_ca` it asks for a client certificate.
pub(crate) fn acceptor(pki: &Pki, asks: bool) -> tokio_rustls::TlsAcceptor {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes()).unwrap()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            provider(),
        )
        .allow_unauthenticated()
        .build()
        .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(pki.chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pki.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap()).into()
}

pub(crate) fn connector(pki: &Pki, alpn: &[&str], sni: bool) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_sni = sni;
    Arc::new(config).into()
}

// === streams

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One end of a connection, read message by message.
pub(crate) struct Pipe {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) client_certificate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn code(&self) -> u16 {
        self.first.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0)
    }
}

impl Pipe {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), client_certificate: false }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever reads may have gone: what it has seen decides the test.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Reads more; `false` at the end.
    pub(crate) async fn more(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    /// The next message's head, taken apart strictly: who is stricter than a reader is not fooled by it.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let text: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&text[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let first = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, "<no colon>"));
            (name.to_lowercase(), value.trim().to_owned())
        };
        Some(Head { first, headers: lines.map(header).collect() })
    }

    /// Exactly `count` bytes, or what came before the end.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.more().await {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// One chunk of a chunked body; empty at its end, `None` if it broke off.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await?, 16).ok()?;
        let chunk = self.exactly(size).await;
        (chunk.len() == size && self.line().await?.is_empty()).then_some(chunk)
    }

    /// The body that `head` announces; `None` if it broke off.
    pub(crate) async fn body(&mut self, head: &Head) -> Option<Vec<u8>> {
        if head.get("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    return Some(body);
                }
                body.extend(chunk);
            }
        }
        let length = head.get("content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.exactly(length).await;
        (body.len() == length).then_some(body)
    }

    /// A whole answer.
    pub(crate) async fn answer(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head().await?;
        let body = self.body(&head).await?;
        Some((head, body))
    }

    /// Everything until the other side ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for these bytes.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let got = soon("bytes of the other side", self.exactly(bytes.len())).await;
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
    }
}

pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

// === the API server

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) seen: Arc<Mutex<Vec<Head>>>,
}

impl Api {
    /// Runs `script` on each connection, with its number.
    pub(crate) async fn start<F, Fut>(tls: Option<tokio_rustls::TlsAcceptor>, script: F) -> Self
    where
        F: Fn(usize, Pipe, Arc<Mutex<Vec<Head>>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (counter, log, script) =
            (Arc::clone(&connections), Arc::clone(&seen), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let (script, tls, log) = (Arc::clone(&script), tls.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    let pipe = match tls {
                        None => Pipe::new(stream),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let has_one = stream.get_ref().1.peer_certificates().is_some();
                            Pipe { client_certificate: has_one, ..Pipe::new(stream) }
                        }
                    };
                    script(number, pipe, log).await;
                });
            }
        });
        Self { address, connections, seen }
    }

    /// One that answers every request with what it has seen.
    pub(crate) async fn echo(tls: bool) -> Self {
        let tls = tls.then(|| acceptor(pki(), true));
        Self::start(tls, |_, pipe, seen| echo(pipe, seen)).await
    }

    pub(crate) fn seen(&self) -> Vec<Head> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) async fn echo(mut pipe: Pipe, seen: Arc<Mutex<Vec<Head>>>) {
    while let Some(head) = pipe.head().await {
        seen.lock().unwrap().push(head.clone());
        let Some(body) = pipe.body(&head).await else { return };
        let said = serde_json::json!({
            "first": head.first, "headers": head.headers, "body": body.len(),
            "certificate": pipe.client_certificate,
        });
        pipe.write(ok(&said.to_string())).await;
    }
}

/// A plain 200.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nAudit-Id: a1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

// === the proxy

pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    tls: bool,
}

pub(crate) fn identity(user: &str, groups: &[&str]) -> Identity {
    Identity {
        user: user.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        ..Identity::default()
    }
}

/// auth mode, everybody is `jane` of `dev`, with a token.
pub(crate) fn config(api: SocketAddr, tls: bool) -> Config {
    Config {
        mode: Mode::Auth {
            unmapped: Unmapped::As(identity("jane", &["dev"])),
            allowed: SystemNames::default(),
            await_mappings: false,
        },
        upstream: Upstream {
            url: format!("{}://{api}", if tls { "https" } else { "http" }),
            ca: pki().ca.clone().into_bytes(),
            client: None,
            token: Some(Token::Static("proxy".into())),
            server_name: None,
        },
        hosts: Hosts::default(),
        limits: Limits { threads: 2, ..Limits::default() },
        timeouts: Timeouts::default(),
    }
}

pub(crate) async fn world(config: Config, tls: bool) -> World {
    let proxy = Proxy::new(config).unwrap();
    let pki = pki();
    let serving =
        tls.then(|| ServingTls::from_pem(pki.chain.as_bytes(), pki.key.as_bytes(), true).unwrap());
    let (address, stop) = listen(&proxy, serving).await;
    World { proxy, address, stop, tls }
}

/// Another listener of `proxy`.
pub(crate) async fn listen(
    proxy: &Proxy,
    tls: Option<ServingTls>,
) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, proxy) = (CancellationToken::new(), proxy.clone());
    let stopped = stop.clone();
    tokio::spawn(async move { proxy.serve(listener, tls, stopped).await });
    (address, stop)
}

impl World {
    /// A client's connection.
    pub(crate) async fn connect(&self) -> Pipe {
        self.connect_as("127.0.0.1").await
    }

    /// A connection of the peer with the address `peer`.
    pub(crate) async fn connect_as(&self, peer: &str) -> Pipe {
        let stream = tcp(peer, self.address).await;
        if !self.tls {
            return Pipe::new(stream);
        }
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = connector(pki(), &["http/1.1"], true);
        Pipe::new(connector.connect(name, stream).await.unwrap())
    }

    /// The answer to a request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> (Head, Vec<u8>) {
        self.ask_as("127.0.0.1", request).await
    }

    pub(crate) async fn ask_as(&self, peer: &str, request: &str) -> (Head, Vec<u8>) {
        let mut pipe = self.connect_as(peer).await;
        pipe.write(request).await;
        let answer = soon("an answer", pipe.answer()).await;
        answer.unwrap_or_else(|| panic!("no answer to {request:?}: {:?}", pipe.buffer))
    }
}

pub(crate) async fn tcp(peer: &str, to: SocketAddr) -> tokio::net::TcpStream {
    let peer: IpAddr = peer.parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(peer, 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")
}

/// What the API server says it saw.
pub(crate) fn said(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap()
}

/// The `Status` of a refusal: code, reason, message.
pub(crate) fn status(answer: &(Head, Vec<u8>)) -> (u64, String, String) {
    assert_eq!(answer.0.get("content-type"), Some("application/json"));
    let status = said(&answer.1);
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["code"], u64::from(answer.0.code()));
    let text = |key: &str| status[key].as_str().unwrap().to_owned();
    (status["code"].as_u64().unwrap(), text("reason"), text("message"))
}

pub(crate) fn mappings(of: &[(&str, &str)]) -> HashMap<IpAddr, Identity> {
    let one = |(peer, user): &(&str, &str)| (peer.parse().unwrap(), identity(user, &["dev"]));
    of.iter().map(one).collect()
}

pub(crate) fn write(path: &PathBuf, text: &str) {
    std::fs::write(path, text).unwrap();
}
