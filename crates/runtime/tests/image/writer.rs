//! Writes small images: layers, OCI layouts and `docker save` archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

pub(crate) fn sha256(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A tar whose entries may be as wrong as a test wants: names go in unchecked.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        mode: u32,
        link: &str,
        data: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name, mode, "", b"")
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, name, 0o644, "", data.as_bytes())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, 0o777, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, 0o644, target, b"")
    }

    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(key.as_str(), value)]).unwrap();
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The files of an OCI layout, by name.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn blob(&mut self, data: Vec<u8>) -> String {
        let digest = sha256(&data);
        self.files.insert(format!("blobs/sha256/{}", &digest[7..]), data);
        digest
    }

    /// Adds an image and returns its descriptor; not yet in the index.
    pub(crate) fn image(
        &mut self,
        arch: &str,
        run: Value,
        layers: &[Vec<u8>],
        compress: bool,
    ) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({
            "architecture": arch, "os": "linux", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(config.to_string().into_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let data = if compress { gzip(layer) } else { layer.clone() };
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": self.blob(data)})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config},
            "layers": layers,
        });
        let digest = self.blob(manifest.to_string().into_bytes());
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest})
    }

    /// Adds an image for this machine under a tag.
    pub(crate) fn tagged(&mut self, tag: &str, run: Value, layers: &[Vec<u8>]) {
        let mut descriptor = self.image(arch(), run, layers, true);
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.manifests.push(descriptor);
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        files.insert("index.json".into(), index.to_string().into_bytes());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    pub(crate) fn write(&self, dir: &Path) {
        for (name, data) in self.all() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        archive(&self.all())
    }
}

pub(crate) fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut layer = Layer::new();
    for (name, data) in files {
        layer = layer.entry(EntryType::Regular, name, 0o644, "", data);
    }
    layer.finish()
}

/// What `docker save` wrote before it wrote OCI layouts: the second of two equal layers is a link.
pub(crate) fn docker_save(tag: &str, run: &Value, layer: &[u8]) -> Vec<u8> {
    let config = json!({
        "architecture": arch(), "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer), sha256(layer)]},
    })
    .to_string();
    let config_name = format!("{}.json", &sha256(config.as_bytes())[7..]);
    let manifest = json!([{
        "Config": config_name, "RepoTags": [tag], "Layers": ["a/layer.tar", "b/layer.tar"],
    }])
    .to_string();
    Layer::new()
        .entry(EntryType::Regular, "a/layer.tar", 0o644, "", layer)
        .symlink("b/layer.tar", "../a/layer.tar")
        .entry(EntryType::Regular, &config_name, 0o644, "", config.as_bytes())
        .file("manifest.json", &manifest)
        .finish()
}
