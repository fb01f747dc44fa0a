//! An image as an OCI archive: the same bytes for the same files, whenever and wherever it is written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// A file system and what is run in it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// References such as `registry.k8s.io/pause:3.10.1`.
    pub names: Vec<String>,
    /// What is in it, by path without a leading slash. Directories above are made as needed.
    pub files: BTreeMap<String, Node>,
    /// `Entrypoint`
    pub entrypoint: Vec<String>,
    /// `Cmd`
    pub cmd: Vec<String>,
    /// `Env`, beside PATH.
    pub env: Vec<String>,
    /// `User`
    pub user: String,
    /// `WorkingDir`
    pub workdir: String,
    /// `StopSignal`
    pub stop_signal: String,
}

/// Something in an image.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory with its mode.
    Dir(u32),
    /// A file with these bytes and that mode.
    Data(Vec<u8>, u32),
    /// A copy of a local file; executable if that is.
    File(PathBuf),
    /// A symbolic link to this.
    Link(String),
}

impl Image {
    /// An image with the usual directories, users and nothing to run.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut image = Self { names: vec![name.to_owned()], ..Self::default() };
        for dir in ["bin", "dev", "etc", "proc", "root", "sys", "var"] {
            image.files.insert(dir.into(), Node::Dir(0o755));
        }
        image.files.insert("tmp".into(), Node::Dir(0o1777));
        let data = |text: &str| Node::Data(text.as_bytes().to_vec(), 0o644);
        image.files.insert("etc/passwd".into(), data(PASSWD));
        image.files.insert("etc/group".into(), data(GROUP));
        image
    }

    /// Adds something at a path, in place of what was there.
    #[must_use]
    pub fn with(mut self, path: &str, node: Node) -> Self {
        self.files.insert(path.trim_start_matches('/').to_owned(), node);
        self
    }

    /// Writes the archive (`docker load` and `ctr images import` read it) and returns the digest that
    /// the runtime will know the image by.
    ///
    /// # Errors
    /// When a file cannot be read, or the archive not be written.
    pub fn write(&self, out: &Path) -> Result<String> {
        let layer = self.layer()?;
        let layer_digest = digest(&layer);
        let mut env = vec![PATH.to_owned()];
        env.extend(self.env.iter().cloned());
        let mut config = json!({ "Env": env });
        for (key, words) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd)] {
            if !words.is_empty() {
                config[key] = json!(words);
            }
        }
        let words = [
            ("User", &self.user),
            ("WorkingDir", &self.workdir),
            ("StopSignal", &self.stop_signal),
        ];
        for (key, word) in words {
            if !word.is_empty() {
                config[key] = json!(word);
            }
        }
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
            "history": [{ "created_by": "cargo xtask image" }],
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string();
        let manifests: Vec<_> = self
            .names
            .iter()
            .map(|name| {
                let mut entry =
                    descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
                entry["annotations"] = json!({
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name,
                });
                entry
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        })
        .to_string();

        let mut archive = Vec::new();
        let mut tar = Builder::new(&mut archive);
        entry(
            &mut tar,
            "oci-layout",
            EntryType::Regular,
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        entry(&mut tar, "index.json", EntryType::Regular, 0o644, index.as_bytes())?;
        for blob in [config.as_bytes(), manifest.as_bytes(), &layer] {
            let name = format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:"));
            entry(&mut tar, &name, EntryType::Regular, 0o644, blob)?;
        }
        tar.into_inner()?;
        write_whole(out, &archive)?;
        Ok(digest(manifest.as_bytes()))
    }

    /// The one layer.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut files = self.files.clone();
        for path in self.files.keys() {
            for above in Path::new(path).ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
                files.entry(above.to_string_lossy().into_owned()).or_insert(Node::Dir(0o755));
            }
        }
        let mut layer = Vec::new();
        let mut tar = Builder::new(&mut layer);
        // In the order of the map: a directory sorts before what is in it.
        for (path, node) in &files {
            match node {
                Node::Dir(mode) => {
                    entry(&mut tar, &format!("{path}/"), EntryType::Directory, *mode, &[])?;
                }
                Node::Data(data, mode) => entry(&mut tar, path, EntryType::Regular, *mode, data)?,
                Node::File(source) => {
                    use std::os::unix::fs::PermissionsExt as _;
                    let name = || format!("{}: for /{path}", source.display());
                    let data = fs::read(source).with_context(name)?;
                    let mode = fs::metadata(source).with_context(name)?.permissions().mode();
                    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                    entry(&mut tar, path, EntryType::Regular, mode, &data)?;
                }
                Node::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        tar.into_inner()?;
        Ok(layer)
    }
}

fn entry(
    tar: &mut Builder<&mut Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    data: &[u8],
) -> Result<()> {
    let mut header = header(kind, mode, data.len());
    tar.append_data(&mut header, path, data).with_context(|| format!("/{path}"))
}

/// Everything is root's and from the beginning of time.
fn header(kind: EntryType, mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(length as u64);
    header
}

fn descriptor(media_type: &str, data: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(data), "size": data.len() })
}

fn digest(data: &[u8]) -> String {
    let hash = Sha256::digest(data);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Go's name for this machine.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images for {other} are not known here"),
    }
}

/// Whoever reads the file reads all of it, or what was there before.
fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    let name = || path.display().to_string();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(name)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file =
        tempfile::Builder::new().permissions(mode).tempfile_in(dir).with_context(name)?;
    file.write_all(data).with_context(name)?;
    file.persist(path).with_context(name)?;
    Ok(())
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, out: &str| {
            // Another file, another time, the same content.
            let file = dir.path().join(name);
            fs::write(&file, "content").unwrap();
            let mut image = Image::new("bench.test/a:1")
                .with("/a/deep/file", Node::File(file))
                .with("link", Node::Link("a/deep/file".into()));
            image.names.push("bench.test/b:1".into());
            let out = dir.path().join(out);
            let digest = image.write(&out).unwrap();
            (digest, fs::read(out).unwrap())
        };
        let first = write("one", "1.tar");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, write("two", "2.tar"), "times have got in");
        assert!(first.0.starts_with("sha256:"));
    }

    #[test]
    fn the_archive_is_an_oci_layout() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.tar");
        let image = Image::new("bench.test/a:1").with("a/b", Node::Data(b"x".to_vec(), 0o640));
        let digest = image.write(&out).unwrap();
        let mut blobs = BTreeMap::new();
        let mut archive = tar::Archive::new(fs::File::open(&out).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
            blobs.insert(path, data);
        }
        let blob = |digest: &str| &blobs[&format!("blobs/sha256/{}", &digest["sha256:".len()..])];
        let json = |data: &[u8]| serde_json::from_slice::<serde_json::Value>(data).unwrap();
        let index = json(&blobs["index.json"]);
        assert_eq!(index["manifests"][0]["digest"], digest.as_str());
        let manifest = json(blob(&digest));
        let config = json(blob(manifest["config"]["digest"].as_str().unwrap()));
        let layer = blob(manifest["layers"][0]["digest"].as_str().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let mut layer = tar::Archive::new(layer.as_slice());
        let files: BTreeMap<String, u32> = layer
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let mode = entry.header().mode().unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), mode)
            })
            .collect();
        assert_eq!(files.get("a/b"), Some(&0o640));
        assert_eq!(files.get("a/"), Some(&0o755), "directories above are made");
        assert_eq!(files.get("tmp/"), Some(&0o1777));
    }
}
