//! TLS without verification: a probe asks whether something answers, not who it is.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The peer answered the TLS greeting with plain HTTP.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainHttp,
    /// The host's name cannot be a TLS server name.
    #[error("tls: {0:?} is not a valid server name")]
    ServerName(String),
    /// Anything else, in the words of the TLS library.
    #[error("tls: {0}")]
    Tls(String),
}

/// Starts TLS on a connection to `host`. The protocol agreed on (`h2` or `http/1.1`) is in the
/// session.
///
/// # Errors
/// See [`HandshakeError`].
pub(crate) async fn handshake(
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<Sniffed>, HandshakeError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| HandshakeError::ServerName(host.to_owned()))?;
    let config = CONFIG.clone().map_err(HandshakeError::Tls)?;
    let stream = Sniffed { stream, head: Vec::with_capacity(HEAD) };
    match TlsConnector::from(config).connect(name, stream).into_fallible().await {
        Ok(session) => Ok(session),
        Err((_, Sniffed { head, .. })) if head == b"HTTP/" => Err(HandshakeError::PlainHttp),
        Err((e, _)) => Err(HandshakeError::Tls(e.to_string())),
    }
}

/// A connection that remembers the first bytes it received. Go tells "this is not TLS" from "this is
/// HTTP" by them, and the fallback of `httpGet` hooks hangs on it.
pub(crate) struct Sniffed {
    stream: TcpStream,
    head: Vec<u8>,
}

impl AsyncRead for Sniffed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let missing = HEAD - self.head.len();
        let new = &buf.filled()[before..];
        self.head.extend_from_slice(&new[..new.len().min(missing)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts every certificate and signature (`InsecureSkipVerify`). It is only used for probes and
/// hooks, which send nothing secret and trust nothing in the answer but its status.
#[derive(Debug)]
struct AcceptAnyone;

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        vec![
            S::ECDSA_NISTP256_SHA256,
            S::ECDSA_NISTP384_SHA384,
            S::ECDSA_NISTP521_SHA512,
            S::ED25519,
            S::RSA_PSS_SHA256,
            S::RSA_PSS_SHA384,
            S::RSA_PSS_SHA512,
            S::RSA_PKCS1_SHA256,
            S::RSA_PKCS1_SHA384,
            S::RSA_PKCS1_SHA512,
            S::RSA_PKCS1_SHA1,
            S::ECDSA_SHA1_Legacy,
        ]
    }
}

/// The provider is named, not taken from the process: a second one somewhere in the program must
/// not make probes panic.
static CONFIG: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
});

/// The size of a TLS record's header, and of `HTTP/`.
const HEAD: usize = 5;
