//! TLS to the API server: always verified, rustls with ring.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::ClientCertificate;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// PEM text without what is needed.
    #[error("{what} is not PEM with at least one {expected}: {problem}")]
    Pem {
        /// The text's purpose.
        what: &'static str,
        /// The kind of block.
        expected: &'static str,
        /// What the reader says.
        problem: String,
    },
    /// Neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an address, so that no certificate can be for it")]
    Name(String),
    /// A key that is not the certificate's, or of an unknown kind.
    #[error("{what} cannot be used: {source}")]
    Certificate {
        /// Whose certificate.
        what: &'static str,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A file cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

pub(crate) struct Connector {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    pub(crate) fn new(
        ca: &[u8],
        client: Option<&ClientCertificate>,
        name: &str,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the API server's CA", ca)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Certificate { what: "the API server's CA", source })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Certificate { what: "TLS", source })?
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                const WHAT: &str = "the proxy's client certificate";
                let chain = certificates(WHAT, &client.chain)?;
                let key = private_key(WHAT, &client.key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| TlsError::Certificate { what: WHAT, source })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(Self { connector: Arc::new(config).into(), name })
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |problem: String| TlsError::Pem { what, expected: "CERTIFICATE", problem };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| bad(error.to_string()))?;
    if all.is_empty() {
        return Err(bad("there is none".to_owned()));
    }
    Ok(all)
}

/// The first private key of a PEM text.
pub(crate) fn private_key(
    what: &'static str,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::Pem {
        what,
        expected: "PRIVATE KEY",
        problem: error.to_string(),
    })
}
