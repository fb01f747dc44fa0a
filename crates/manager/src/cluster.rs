//! The cluster: where its API server is and how we show who we are, and the pod's own annotation.

mod credentials;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_apiproxy::{ClientCertificate, Token, Upstream, UpstreamError};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tracing::{info, warn};

use crate::config::Cluster;
use crate::health::{Check, Verdict};
use crate::status::Ports;

use credentials::Credentials;

/// Why the cluster cannot be used as it was described.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody said where it is.
    #[error(
        "nothing says where the API server is: give --kubeconfig or KUBECONFIG, or IN_CLUSTER=true with a \
         service account"
    )]
    Unknown,
    /// The service account is not there.
    #[error("the service account cannot be used: {0}; is automountServiceAccountToken off?")]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig cannot be read.
    #[error("kubeconfig {path}: {error}", path = path.display())]
    Kubeconfig {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: kube::config::KubeconfigError,
    },
    /// A file that it names cannot be read.
    #[error("{what} {path}: {error}", path = path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// It says not to verify certificates.
    #[error(
        "the kubeconfig says insecure-skip-tls-verify: certificates are always verified here; give \
         certificate-authority-data instead"
    )]
    Unverified,
    /// Data that is not what it should be.
    #[error("{0} of the kubeconfig is no base64 text")]
    Base64(&'static str),
    /// A way to log in that the proxy does not have.
    #[error(
        "the kubeconfig logs in by {0}: the manager needs a token, a token file or a client certificate"
    )]
    Login(&'static str),
    /// No client can be made of it.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[from] kube::Error),
    /// The proxy cannot use it.
    #[error(transparent)]
    Proxy(#[from] UpstreamError),
}

/// A way to the API server, for us and for the proxy.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// For those who need a client of their own, and for the proxy.
    pub(crate) credentials: Arc<Credentials>,
}

/// Reads how the API server is reached. Nothing is sent to it yet.
pub(crate) async fn connect(cluster: &Cluster) -> Result<Connection, ClusterError> {
    let credentials = Credentials::new(cluster.clone(), configuration(cluster).await?)?;
    let client = credentials.client(|_| {})?;
    Ok(Connection { client, credentials: Arc::new(credentials) })
}

async fn configuration(cluster: &Cluster) -> Result<kube::Config, ClusterError> {
    let config = match cluster {
        Cluster::Unknown => return Err(ClusterError::Unknown),
        Cluster::InCluster => kube::Config::incluster()?,
        Cluster::Kubeconfig(path) => {
            let error = |error| ClusterError::Kubeconfig { path: path.clone(), error };
            let merged = kubeconfig(path).map_err(error)?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(merged, &options).await.map_err(error)?
        }
    };
    if config.accept_invalid_certs {
        return Err(ClusterError::Unverified);
    }
    Ok(config)
}

/// `KUBECONFIG` may have several, the first one's values hold.
fn kubeconfig(path: &Path) -> Result<Kubeconfig, kube::config::KubeconfigError> {
    let mut merged = Kubeconfig::default();
    for path in std::env::split_paths(path).filter(|path| !path.as_os_str().is_empty()) {
        merged = merged.merge(Kubeconfig::read_from(path)?)?;
    }
    Ok(merged)
}

fn upstream(config: &kube::Config) -> Result<Upstream, ClusterError> {
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let auth = &config.auth_info;
    let token = match (&auth.token_file, &auth.token) {
        (Some(file), _) => Some(Token::File(file.into())),
        (None, Some(token)) => Some(Token::Static(token.expose_secret().to_owned())),
        (None, None) => None,
    };
    let client = client_certificate(auth)?;
    if token.is_none() && client.is_none() {
        if auth.exec.is_some() {
            return Err(ClusterError::Login("a command (exec)"));
        }
        if auth.auth_provider.is_some() || auth.username.is_some() {
            return Err(ClusterError::Login("a password or an auth provider"));
        }
    }
    let server_name = config.tls_server_name.clone();
    Ok(Upstream { url, ca: authorities(config)?, client, token, server_name })
}

/// PEM of the authorities; those of the system if the configuration names none, as every client does.
fn authorities(config: &kube::Config) -> Result<Vec<u8>, ClusterError> {
    let certificates: Vec<Vec<u8>> = match (&config.root_cert, &config.root_cert_file) {
        (Some(given), _) => given.clone(),
        (None, Some(path)) => return read("certificate-authority", path),
        (None, None) => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    };
    Ok(certificates.iter().flat_map(|der| pem("CERTIFICATE", der).into_bytes()).collect())
}

fn client_certificate(auth: &AuthInfo) -> Result<Option<ClientCertificate>, ClusterError> {
    let chain = match (&auth.client_certificate_data, &auth.client_certificate) {
        (Some(data), _) => decode("client-certificate-data", data)?,
        (None, Some(path)) => read("client-certificate", Path::new(path))?,
        (None, None) => return Ok(None),
    };
    let key = match (&auth.client_key_data, &auth.client_key) {
        (Some(data), _) => decode("client-key-data", data.expose_secret())?,
        (None, Some(path)) => read("client-key", Path::new(path))?,
        (None, None) => return Err(ClusterError::Login("a client certificate without its key")),
    };
    Ok(Some(ClientCertificate { chain, key }))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(path).map_err(|error| ClusterError::File { what, path: path.to_owned(), error })
}

fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, ClusterError> {
    use base64::Engine;
    let clean: String = text.split_whitespace().collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(clean);
    decoded.map_err(|_| ClusterError::Base64(what))
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    // The configuration may have had PEM where DER is meant.
    if let Ok(inner) = CertificateDer::from_pem_slice(der) {
        return pem(kind, &inner);
    }
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {kind}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {kind}-----\n"));
    out
}

/// Whether the API server answers, asked again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reachable(Arc<Mutex<Option<Result<(), String>>>>);

/// How often it is asked while it answers, and while it does not.
const ASK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// It should answer in this time.
pub(crate) const API_PATIENCE: Duration = Duration::from_secs(5);
/// A single try that fails says nothing: an API server that is restarted has a gap.
const TRIES: u32 = 2;

impl Reachable {
    /// The check `apiserver`.
    pub(crate) fn check(&self) -> Check {
        let this = self.clone();
        Check::new("apiserver", move || match &*this.known() {
            Some(Ok(())) => Verdict::Ok,
            Some(Err(why)) => Verdict::Failed(why.clone()),
            None => Verdict::Failed("the API server has not answered yet".to_owned()),
        })
    }

    /// Asks for ever.
    pub(crate) async fn keep_asking<F>(&self, ask: impl Fn() -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut failures = 0;
        loop {
            let pause = match ask().await {
                Ok(()) => {
                    failures = 0;
                    *self.known() = Some(Ok(()));
                    ASK.0
                }
                Err(why) => {
                    failures += 1;
                    let mut known = self.known();
                    if failures >= TRIES || !matches!(*known, Some(Ok(()))) {
                        *known = Some(Err(why));
                    }
                    ASK.1
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Result<(), String>>> {
        // Nobody panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the API server answers: its version, which everybody may ask for.
pub(crate) async fn answers(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(API_PATIENCE, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the API server does not answer: {error}")),
        Err(_) => Err(format!("the API server does not answer within {API_PATIENCE:?}")),
    }
}

/// Where the ports that are really bound are written for everybody to see.
pub(crate) const PORTS_ANNOTATION: &str = "holdfast.io/ports";

/// Writes the ports to the pod's annotation. Tried until it is done, or it is clear that it may not be.
pub(crate) async fn annotate(client: Client, namespace: &str, pod: &str, ports: Ports) {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    // A struct of numbers is always JSON.
    let value = serde_json::to_string(&ports).unwrap_or_default();
    let patch = serde_json::json!({ "metadata": { "annotations": { PORTS_ANNOTATION: value } } });
    let mut pause = Duration::from_secs(1);
    loop {
        let patch = Patch::Merge(&patch);
        let params = PatchParams::default();
        let tried = tokio::time::timeout(API_PATIENCE, pods.patch_metadata(pod, &params, &patch));
        match tried.await {
            Ok(Ok(_)) => {
                info!(annotation = PORTS_ANNOTATION, value, "Annotated the pod with its ports");
                return;
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404 | 422) => {
                let error = status.message.as_str();
                warn!(
                    annotation = PORTS_ANNOTATION,
                    error,
                    "Cannot annotate the pod with its ports: allow patch on pods, or read status.json"
                );
                return;
            }
            // The API server may come; whether it does is the check `apiserver`'s to say.
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}
