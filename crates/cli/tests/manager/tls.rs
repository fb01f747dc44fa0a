//! Servers that speak TLS, with a certificate of their own making.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, StreamOwned, WantsVerifier,
};

/// A certificate for 127.0.0.1, and where it is.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    dir: PathBuf,
}

impl Tls {
    pub(crate) fn new(dir: &Path) -> Self {
        Self::with(dir, |builder| builder.with_no_client_auth())
    }

    /// One whose clients must have a certificate that is signed by this authority (PEM).
    pub(crate) fn demanding(dir: &Path, authority: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        Self::with(dir, |builder| builder.with_client_cert_verifier(verifier))
    }

    fn with(
        dir: &Path,
        clients: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.join("ca.crt"), made.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let config = clients(builder.with_safe_default_protocol_versions().unwrap())
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        Self { config: Arc::new(config), dir: dir.to_owned() }
    }

    /// The certificate's file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Answers each request, of which it has head and body, for as long as the test runs.
    pub(crate) fn serve(
        &self,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, answer) = (Arc::clone(&self.config), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
                std::thread::spawn(move || connection(stream, config, &*answer));
            }
        });
        address
    }

    /// A kubeconfig for an API server at this address.
    pub(crate) fn kubeconfig(&self, server: SocketAddr) -> PathBuf {
        self.kubeconfig_of(server, "token: secret")
    }

    /// One of a user who shows this.
    pub(crate) fn kubeconfig_of(&self, server: SocketAddr, user: &str) -> PathBuf {
        let path = self.dir.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://{server}\", \
             certificate-authority: {ca}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            ca = self.ca().display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn connection(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &(impl Fn(&str) -> String + ?Sized),
) {
    let Ok(tls) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(tls, stream);
    let mut read = Vec::new();
    let mut part = [0; 4096];
    loop {
        while let Some(whole) = whole(&read) {
            let request: Vec<u8> = read.drain(..whole).collect();
            let said = answer(&String::from_utf8_lossy(&request));
            if stream.write_all(said.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(count @ 1..) => read.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
}

/// How long the first request is, if it is there as a whole.
fn whole(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let whole = head + length.map_or(0, |length| length.trim().parse().unwrap());
    (read.len() >= whole).then_some(whole)
}

/// The status of an answer by TLS, from a server whose certificate nobody knows.
pub(crate) fn unverified(server: SocketAddr, request: &str) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(tls, TcpStream::connect(server).unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    // How the connection ends is not of interest.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// As `curl -k`.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
