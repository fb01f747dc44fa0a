//! Certificates and keys of a cluster, made anew for each.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::api::kubeconfig;
use super::layout::{Layout, write};

/// An authority whose certificate is in `pki/NAME.crt`. Its key is nowhere but here, unless asked for.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(super) pem: String,
}

/// A certificate with its key.
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(layout: &Layout, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("no key can be made")?;
        let pem = params.self_signed(&key).context("a certificate")?.pem();
        write(&layout.pki().join(format!("{name}.crt")), &pem)?;
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Writes the authority's key as well, for the controller that signs requests.
    pub(super) fn write_key(&self, layout: &Layout, name: &str) -> Result<()> {
        write(&layout.pki().join(format!("{name}.key")), self.issuer.key().serialize_pem())
    }

    /// A certificate for a client and a server of that name, in `pki/FILE.crt` and `pki/FILE.key`.
    pub(super) fn leaf(&self, layout: &Layout, file: &str, who: &Who<'_>) -> Result<Leaf> {
        let names = who.names.iter().map(|name| (*name).to_owned());
        let addresses = who.addresses.iter().map(|address| IpAddr::V4(*address).to_string());
        let mut params = CertificateParams::new(names.chain(addresses).collect::<Vec<_>>())
            .with_context(|| format!("the names of {file}"))?;
        params.distinguished_name.push(DnType::CommonName, who.name);
        if let Some(group) = who.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context("no key can be made")?;
        let certificate = params.signed_by(&key, &self.issuer).context("a certificate")?.pem();
        let key = key.serialize_pem();
        write(&layout.pki().join(format!("{file}.crt")), &certificate)?;
        write(&layout.pki().join(format!("{file}.key")), &key)?;
        Ok(Leaf { certificate, key })
    }

    /// A kubeconfig of that user.
    pub(super) fn kubeconfig(&self, server: Ipv4Addr, leaf: &Leaf) -> String {
        let server = format!("https://{server}:6443");
        kubeconfig::write(&server, &self.pem, &leaf.certificate, &leaf.key).to_string()
    }
}

/// Whom a certificate is for: user and group to the API server, names and addresses to clients.
#[derive(Default)]
pub(super) struct Who<'a> {
    pub(super) name: &'a str,
    pub(super) group: Option<&'a str>,
    pub(super) names: &'a [&'a str],
    pub(super) addresses: &'a [Ipv4Addr],
}

/// The key pair that service account tokens are signed with: `pki/sa.key` and `pki/sa.pub`.
pub(super) fn service_account_keys(layout: &Layout) -> Result<()> {
    let key = KeyPair::generate().context("no key can be made")?;
    write(&layout.pki().join("sa.key"), key.serialize_pem())?;
    write(&layout.pki().join("sa.pub"), key.public_key_pem())
}
