//! The proxy's own certificate, read again when its files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use crate::upstream::TlsError;
use crate::upstream::tls::{certificates, private_key};

/// What a TLS listener presents. Clients may come without a server name: exec and port-forward of some
/// clients dial by address.
#[derive(Clone, Debug)]
pub struct ServingTls {
    certificate: Arc<Certificate>,
    pub(super) config: Arc<ServerConfig>,
    files: Option<Files>,
}

#[derive(Clone, Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Certificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServingTls {
    /// From PEM texts; `http2` offers HTTP/2 besides HTTP/1.1.
    pub fn from_pem(chain: &[u8], key: &[u8], http2: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate =
            Arc::new(Certificate { current: ArcSwap::from_pointee(certified(chain, key)?) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Certificate { what: WHAT, source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Certificate>::clone(&certificate));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(Self { certificate, config: Arc::new(config), files: None })
    }

    /// From PEM files; see [`ServingTls::follow`].
    pub fn from_files(chain: PathBuf, key: PathBuf, http2: bool) -> Result<Self, TlsError> {
        let files = Files { chain, key };
        let (chain, key) = files.read()?;
        let mut tls = Self::from_pem(&chain, &key, http2)?;
        tls.files = Some(files);
        Ok(tls)
    }

    /// Reads the files again whenever they have changed, until `stop`: looks every 10 s, since the kubelet
    /// swaps a symbolic link and does not touch the files. Without files it returns at once.
    pub async fn follow(&self, stop: CancellationToken) {
        if self.files.is_none() {
            return;
        }
        let mut every = tokio::time::interval(Duration::from_secs(10));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            let tls = self.clone();
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else {
                return;
            };
            match reloaded {
                Ok(true) => tracing::info!("Serving certificate read again"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "Cannot read the serving certificate again, keeping the old one");
                }
            }
        }
    }

    /// Reads the files now; whether there is another certificate. On an error the old one stays: half of a
    /// pair is there for a moment whenever a pair is replaced.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let (chain, key) = files.read()?;
        let new = certified(&chain, &key)?;
        let changed = new.cert != self.certificate.current.load().cert;
        if changed {
            self.certificate.current.store(Arc::new(new));
        }
        Ok(changed)
    }
}

impl Files {
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| TlsError::File { path: path.clone(), source })
        };
        Ok((read(&self.chain)?, read(&self.key)?))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The pair, if the key is the certificate's.
fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(WHAT, chain)?;
    let key = private_key(WHAT, key)?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|source| TlsError::Certificate { what: WHAT, source })
}

const WHAT: &str = "the proxy's serving certificate";
