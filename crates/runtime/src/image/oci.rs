//! Reads what an image says of itself: OCI layouts, and the older form of `docker save`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blobs::Blobs;
use super::digest::Digest;
use super::name::ImageName;

/// An image that was found: its config, and where its layers are.
#[derive(Debug)]
pub(super) struct Found {
    /// The digest of the config, which is the image's id.
    pub(super) id: Digest,
    pub(super) config: ConfigFile,
    pub(super) layers: Vec<Layer>,
}

/// One layer, lowest first.
#[derive(Debug)]
pub(super) struct Layer {
    /// The file's name in the [`Blobs`].
    pub(super) file: String,
    /// The digest of the file, where the manifest says it.
    pub(super) digest: Option<Digest>,
    /// The digest of the uncompressed tar.
    pub(super) diff_id: Digest,
}

/// The config of an image (OCI image spec, config.md; Docker's has the same fields).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigFile {
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) config: Option<RunConfig>,
    pub(super) rootfs: RootFsIds,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFsIds {
    pub(super) diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RunConfig {
    pub(super) user: Option<String>,
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) stop_signal: Option<String>,
    pub(super) volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

/// A manifest or an index: told apart by which list it has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// How deep indexes may be nested.
const MAX_NESTING: usize = 4;
/// As many layers as overlayfs can ever stack.
const MAX_LAYERS: usize = 500;

/// Finds the image for this machine.
///
/// `wanted` is a reference in the source (`oci:PATH:REF`), `name` the image's name in the Pod.
pub(super) fn find(blobs: &Blobs, wanted: Option<&str>, name: &ImageName) -> Result<Found, String> {
    if blobs.has("index.json") {
        let index: Document = parse(&read(blobs, "index.json")?, "index.json")?;
        let manifests = index.manifests.ok_or("index.json has no manifests")?;
        let chosen = choose(blobs, manifests, wanted, name, 0)?;
        return from_manifest(blobs, &chosen);
    }
    if blobs.has("manifest.json") {
        return from_docker(blobs, wanted, name);
    }
    if blobs.has("repositories") {
        return Err("it was written by a Docker before 1.10; save it again with a newer one".into());
    }
    Err("it holds no image: neither index.json (OCI) nor manifest.json (docker save) is in it"
        .into())
}

fn read(blobs: &Blobs, file: &str) -> Result<Vec<u8>, String> {
    blobs.read(file).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => format!("{file} is missing in it"),
        _ => format!("cannot read {file} in it: {err}"),
    })
}

fn parse<T: DeserializeOwned>(data: &[u8], file: &str) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|err| format!("{file} is not as it should be: {err}"))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a document by its digest, and checks it.
fn read_blob(blobs: &Blobs, digest: &Digest) -> Result<Vec<u8>, String> {
    let data = read(blobs, &blob_name(digest))?;
    let found = Digest::of(&data);
    if found != *digest {
        return Err(format!("blob {digest} is damaged: its content has digest {found}"));
    }
    Ok(data)
}

/// Picks the manifest: by reference, then by platform.
fn choose(
    blobs: &Blobs,
    manifests: Vec<Descriptor>,
    wanted: Option<&str>,
    name: &ImageName,
    depth: usize,
) -> Result<Descriptor, String> {
    if depth > MAX_NESTING {
        return Err("its indexes are nested too deep".into());
    }
    let mut left: Vec<Descriptor> =
        manifests.into_iter().filter(|manifest| !is_attestation(manifest)).collect();
    if depth == 0 {
        left = by_reference(left, wanted, name)?;
    }
    // Only what says that it is for another machine is left out.
    let fits = |d: &Descriptor| d.platform.as_ref().is_none_or(Platform::fits);
    let (mut fitting, others): (Vec<_>, Vec<_>) = left.into_iter().partition(fits);
    // arm/v7 before arm/v6, as the highest that runs is meant.
    fitting.sort_by(|a, b| variant(b).cmp(variant(a)));
    let mut digests: Vec<&str> = fitting.iter().map(|d| d.digest.as_str()).collect();
    digests.dedup();
    if digests.len() > 1 && variant(&fitting[0]) == variant(&fitting[1]) {
        return Err(format!(
            "it holds several images ({}); add a tag to the image's name, or :REF to the source as in \
             oci:PATH:REF",
            references(&fitting)
        ));
    }
    let Some(chosen) = fitting.into_iter().next() else {
        if others.is_empty() {
            return Err("its index lists no image".into());
        }
        let platforms: Vec<String> =
            others.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
        return Err(format!(
            "it has no image for linux/{}, only for {}",
            architecture(),
            platforms.join(", ")
        ));
    };
    let digest = Digest::parse(&chosen.digest)?;
    let document: Document = parse(&read_blob(blobs, &digest)?, &chosen.digest)?;
    match document.manifests {
        Some(inner) => choose(blobs, inner, None, name, depth + 1),
        None => Ok(chosen),
    }
}

/// Of several images in one layout, those that are meant.
fn by_reference(
    all: Vec<Descriptor>,
    wanted: Option<&str>,
    name: &ImageName,
) -> Result<Vec<Descriptor>, String> {
    let matches = |d: &Descriptor, wanted: &str| {
        let full = ImageName::parse(wanted).ok();
        reference_names(d).any(|r| {
            r == wanted
                || full.as_ref().is_some_and(|full| {
                    r.contains(['/', ':'])
                        && ImageName::parse(r).is_ok_and(|found| full.covers(&found))
                })
        }) || d.digest == wanted
    };
    if let Some(wanted) = wanted {
        let known = references(&all);
        let left: Vec<_> = all.into_iter().filter(|d| matches(d, wanted)).collect();
        if left.is_empty() {
            return Err(format!("it has no image {wanted:?}, only {known}"));
        }
        return Ok(left);
    }
    if let Some(digest) = &name.digest {
        let left: Vec<_> = all.iter().filter(|d| d.digest == *digest).cloned().collect();
        if !left.is_empty() {
            return Ok(left);
        }
    }
    let tag = name.effective_tag().unwrap_or_default();
    for wanted in [format!("{}:{tag}", name.repository), tag.to_owned()] {
        let left: Vec<_> = all.iter().filter(|d| matches(d, &wanted)).cloned().collect();
        if !left.is_empty() {
            return Ok(left);
        }
    }
    Ok(all)
}

/// What a layout calls an image: the tag (`skopeo`), or the whole name (`docker save`, `ctr`).
fn reference_names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    const KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    let annotations = descriptor.annotations.as_ref();
    KEYS.iter().filter_map(move |&key| annotations?.get(key).map(String::as_str))
}

fn references(descriptors: &[Descriptor]) -> String {
    let names: Vec<&str> = descriptors
        .iter()
        .map(|d| reference_names(d).next().unwrap_or(&d.digest))
        .take(8)
        .collect();
    names.join(", ")
}

/// Build records that BuildKit puts beside images.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.as_ref().is_some_and(|a| a.contains_key("vnd.docker.reference.type"))
        || descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown")
}

fn variant(descriptor: &Descriptor) -> &str {
    descriptor.platform.as_ref().and_then(|p| p.variant.as_deref()).unwrap_or("")
}

fn from_manifest(blobs: &Blobs, chosen: &Descriptor) -> Result<Found, String> {
    let digest = Digest::parse(&chosen.digest)?;
    let manifest: Document = parse(&read_blob(blobs, &digest)?, &chosen.digest)?;
    if manifest.schema_version == Some(1) {
        return Err("it is a Docker manifest of schema 1, which is long out of use".into());
    }
    let config = manifest.config.ok_or_else(|| format!("manifest {digest} has no config"))?;
    let layers = manifest.layers.unwrap_or_default();
    for layer in &layers {
        if layer.media_type.contains("encrypted") {
            return Err("its layers are encrypted".into());
        }
    }
    let id = Digest::parse(&config.digest)?;
    let config: ConfigFile = parse(&read_blob(blobs, &id)?, &config.digest)?;
    let files = layers
        .iter()
        .map(|layer| {
            let digest = Digest::parse(&layer.digest)?;
            Ok((blob_name(&digest), Some(digest)))
        })
        .collect::<Result<Vec<_>, String>>()?;
    assemble(id, config, files)
}

fn from_docker(blobs: &Blobs, wanted: Option<&str>, name: &ImageName) -> Result<Found, String> {
    let entries: Vec<DockerEntry> = parse(&read(blobs, "manifest.json")?, "manifest.json")?;
    let tags = |e: &DockerEntry| e.repo_tags.clone().unwrap_or_default();
    let wanted_name = wanted.map(ImageName::parse).transpose().map_err(|err| err.to_string())?;
    let matching = |e: &&DockerEntry| {
        let meant = |tag: &String| {
            ImageName::parse(tag).is_ok_and(|tag| match &wanted_name {
                Some(wanted) => wanted.covers(&tag),
                None => {
                    tag.repository == name.repository && tag.effective_tag() == name.effective_tag()
                }
            })
        };
        tags(e).iter().any(meant)
    };
    let chosen = match entries.iter().find(matching) {
        Some(entry) => entry,
        None if entries.len() == 1 && wanted.is_none() => &entries[0],
        None => {
            let known: Vec<String> = entries.iter().flat_map(tags).take(8).collect();
            let meant = wanted.map_or_else(|| name.to_string(), str::to_owned);
            return Err(format!("it has no image {meant:?}, only {}", known.join(", ")));
        }
    };
    let data = read(blobs, &chosen.config)?;
    let id = Digest::of(&data);
    // The file is named after its digest: `<hex>.json`, or `blobs/sha256/<hex>`.
    let stem = chosen.config.rsplit('/').next().unwrap_or_default();
    let named = Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem));
    if named.is_some_and(|named| named != id) {
        return Err(format!("{} is damaged: its content has digest {id}", chosen.config));
    }
    let config = parse(&data, &chosen.config)?;
    assemble(id, config, chosen.layers.iter().map(|file| (file.clone(), None)).collect())
}

fn assemble(
    id: Digest,
    config: ConfigFile,
    files: Vec<(String, Option<Digest>)>,
) -> Result<Found, String> {
    let ids = &config.rootfs.diff_ids;
    if ids.len() != files.len() {
        return Err(format!("its config lists {} layers, its manifest {}", ids.len(), files.len()));
    }
    if ids.len() > MAX_LAYERS {
        return Err(format!("it has {} layers; at most {MAX_LAYERS} can be stacked", ids.len()));
    }
    let platform = Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: None,
    };
    if !platform.fits() {
        return Err(format!("it is for {platform}, this machine is linux/{}", architecture()));
    }
    let layers = std::iter::zip(ids, files)
        .map(|(diff_id, (file, digest))| {
            Ok(Layer { file, digest, diff_id: Digest::parse(diff_id)? })
        })
        .collect::<Result<_, String>>()?;
    Ok(Found { id, config, layers })
}

impl Platform {
    /// Whether it runs here; what is left out fits.
    fn fits(&self) -> bool {
        (self.os.is_empty() || self.os == "linux")
            && (self.architecture.is_empty() || self.architecture == architecture())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        write!(f, "{os}/{}", self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// This machine in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}
