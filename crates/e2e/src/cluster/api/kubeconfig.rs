//! The kubeconfigs that the bench writes, read back.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::ApiError;

/// An address, and what to say and believe there.
pub(super) struct Config {
    /// Host and port.
    pub(super) server: String,
    pub(super) tls: ClientConfig,
}

/// A kubeconfig with its certificates inside.
pub(crate) fn write(server: &str, ca: &str, certificate: &str, key: &str) -> Value {
    let data = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "bench", "cluster": {
            "server": server, "certificate-authority-data": data(ca),
        }}],
        "users": [{ "name": "bench", "user": {
            "client-certificate-data": data(certificate), "client-key-data": data(key),
        }}],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        "current-context": "bench",
    })
}

/// Reads the first cluster and the first user of a kubeconfig: the bench's have one of each.
pub(super) fn read(path: &Path) -> Result<Config, ApiError> {
    let wrong = |what: String| ApiError::Kubeconfig { path: path.to_owned(), what };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|e| wrong(format!("not JSON, as the bench's kubeconfigs are: {e}")))?;
    let word = |pointer: &str| {
        config
            .pointer(pointer)
            .and_then(Value::as_str)
            .ok_or_else(|| wrong(format!("{pointer} is missing")))
    };
    let pem = |pointer: &str| {
        base64::engine::general_purpose::STANDARD
            .decode(word(pointer)?)
            .map_err(|e| wrong(format!("{pointer}: {e}")))
    };
    let server = word("/clusters/0/cluster/server")?
        .strip_prefix("https://")
        .ok_or_else(|| wrong("the server's address does not start with https://".into()))?
        .trim_end_matches('/')
        .to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_slice_iter(&pem("/clusters/0/cluster/certificate-authority-data")?)
    {
        certificate
            .map_err(|e| e.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|e| e.to_string()))
            .map_err(|e| wrong(format!("certificate-authority-data: {e}")))?;
    }
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem("/users/0/user/client-certificate-data")?)
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(format!("client-certificate-data: {e}")))?;
    let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)
        .map_err(|e| wrong(format!("client-key-data: {e}")))?;
    // Named, not the process' default: whoever uses this crate need not install one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| wrong(e.to_string()))?;
    Ok(Config { server, tls })
}
