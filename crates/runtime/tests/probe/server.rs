//! Small servers that a probe can ask.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The heads of the requests so far, with their line ends.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Hands every connection to `serve`, one after the other.
    pub(crate) async fn new<F>(address: &str, serve: F) -> Self
    where
        F: AsyncFn(TcpStream, &Mutex<Vec<String>>) + 'static,
    {
        Self::on(TcpListener::bind(address).await.unwrap(), serve)
    }

    /// As [`Server::new`], on a listener.
    pub(crate) fn on<F>(listener: TcpListener, serve: F) -> Self
    where
        F: AsyncFn(TcpStream, &Mutex<Vec<String>>) + 'static,
    {
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &log).await;
            }
        });
        Self { address, requests, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers every request with what `reply` makes of its path, and closes the connection.
pub(crate) async fn http(reply: impl Fn(&str) -> String + 'static) -> Server {
    http_at("127.0.0.1:0", reply).await
}

/// As [`http`], at an address.
pub(crate) async fn http_at(address: &str, reply: impl Fn(&str) -> String + 'static) -> Server {
    Server::new(address, async move |stream, log| answer(stream, log, &reply).await).await
}

/// As [`http`], over TLS.
pub(crate) async fn https(reply: impl Fn(&str) -> String + 'static) -> Server {
    let acceptor = acceptor(&[]);
    Server::new("127.0.0.1:0", async move |stream, log| {
        if let Ok(session) = acceptor.accept(stream).await {
            answer(session, log, &reply).await;
        }
    })
    .await
}

/// One request and its answer. Something that is not HTTP is told so in HTTP, as web servers do.
async fn answer<S>(mut stream: S, log: &Mutex<Vec<String>>, reply: impl Fn(&str) -> String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.starts_with(&[0x16]) {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = match String::from_utf8(head) {
        Ok(head) if !head.starts_with('\x16') => {
            let answer = reply(head.split(' ').nth(1).unwrap_or_default());
            log.lock().unwrap().push(head);
            answer
        }
        _ => response("400 Bad Request", "", "not HTTP\n"),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// An answer with a status line and a body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// TLS with a certificate of our own making, for a name that is not ours.
pub(crate) fn acceptor(alpn: &[&[u8]]) -> TlsAcceptor {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["someone.else".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A port on which connections are neither accepted nor refused: its queue is full.
pub(crate) async fn full_port() -> (u16, Vec<Box<dyn std::any::Any>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    while let Ok(stream) = tokio::time::timeout(crate::SHORT, TcpStream::connect(address)).await {
        kept.push(Box::new(stream.unwrap()));
    }
    (address.port(), kept)
}

/// Runs a test on one thread, as the driver runs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
