//! Certificates that are replaced while the manager runs: those of the API server, and the proxy's own.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::process::{Manager, answer, get};
use super::tls::Tls;
use super::{ip, netmaker, own_network, until};

/// Says yes to everything, and to a patch with an object.
fn yes(request: &str) -> String {
    let object = "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\
                  \"metadata\":{\"name\":\"pod-a\"}}";
    answer(200, if request.starts_with("PATCH ") { object } else { "ok" })
}

fn words(kubeconfig: &Path) -> Vec<String> {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let pod = ["POD_NAME=pod-a", "POD_NAMESPACE=ops", "ENABLE_LEADER_ELECTION=false"];
    let all = [&pod[..], &["HOST_NETWORK=false", "PROXY_MODE=auth", &kubeconfig]].concat();
    all.into_iter().map(str::to_owned).collect()
}

fn start(kubeconfig: &Path, dir: tempfile::TempDir) -> Manager {
    let words = words(kubeconfig);
    Manager::start_in(&words.iter().map(String::as_str).collect::<Vec<_>>(), dir)
}

fn verbose() -> String {
    get(([127, 0, 0, 1], 8081).into(), "/readyz?verbose").map(|(_, text)| text).unwrap_or_default()
}

fn with_an_address() {
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
}

/// As when a service account's `ca.crt` is rotated, or the file that a kubeconfig names.
#[test]
fn s9_authorities_are_verified_and_read_again() {
    if !own_network("authorities that change") {
        return;
    }
    with_an_address();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (Tls::new(dir.path()), Tls::new(other.path()));
    let kubeconfig = old.kubeconfig(new.serve(yes));
    let ca = old.ca();
    let manager = start(&kubeconfig, dir);
    until("the API server's certificate is refused", || {
        verbose().contains("[-]apiserver failed: TLS with the API server")
    });
    assert_eq!(manager.said("Annotated the pod"), 0, "nobody else trusts it either");
    // Nothing, for a moment: what was known before holds on.
    std::fs::write(&ca, "").unwrap();
    manager.says("Cannot read the credentials for the API server again");
    std::fs::copy(new.ca(), &ca).unwrap();
    manager.ready(true);
    manager.says("Credentials for the API server read again");
    manager.says("Annotated the pod with its ports");
}

/// The files that a kubeconfig names, one after the other.
#[test]
fn s9_a_client_certificate_is_shown_and_read_again() {
    if !own_network("a client certificate that changes") {
        return;
    }
    with_an_address();
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::demanding(dir.path(), new.pem.as_bytes());
    let (chain, key) = (dir.path().join("client.crt"), dir.path().join("client.key"));
    let put = |(text, secret): (String, String)| {
        std::fs::write(&chain, text).unwrap();
        // Half of a pair is there for a moment.
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&key, secret).unwrap();
    };
    put(old.sign());
    let user = format!("client-certificate: {}, client-key: {}", chain.display(), key.display());
    let kubeconfig = tls.kubeconfig_of(tls.serve(yes), &user);
    let manager = start(&kubeconfig, dir);
    until("the proxy's certificate is refused", || {
        verbose().contains("[-]apiserver failed: ") && !verbose().contains("not answered yet")
    });
    assert_eq!(manager.said("Annotated the pod"), 0, "nobody else is known either");
    put(new.sign());
    manager.ready(true);
    manager.says("Credentials for the API server read again");
    manager.says("Annotated the pod with its ports");
}

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// PEM of a certificate for the proxy, and of its key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["proxy".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}
