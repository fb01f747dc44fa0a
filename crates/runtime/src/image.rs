//! Images without a registry: a map from image names to files that are on this machine.
//!
//! ```text
//! Pod's image ──ImageName──▶ map ──Source──▶ detect ─┬─ host, exec ─────────────▶ RootFs::Host
//!                                                    ├─ dir ────────────────────▶ RootFs::Layers([dir])
//!                                                    └─ oci, archive ─▶ layers ─▶ RootFs::Layers([…])
//! ```
//!
//! Layers of OCI images are checked against their digests, unpacked once below the state directory,
//! and shared by every pod and run.

mod blobs;
mod compression;
mod digest;
mod layer;
mod name;
mod oci;
mod source;
mod store;
pub(crate) mod view;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use holdfast_lifecycle::status::Reason;

pub use layer::LayerForm;
pub use name::{ImageName, NameError};
pub(crate) use oci::architecture;
pub use source::{Source, SourceError};

use crate::contract::RootFs;
use blobs::Blobs;
use store::Store;

/// An image that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `imageID` of a container status: `sha256:…` for an OCI image, else the source.
    pub id: String,
    /// Its files.
    pub root: RootFs,
    /// What it says about how to run it.
    pub config: ImageConfig,
}

/// The parts of an OCI image's config that a container takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, in order.
    pub env: Vec<(String, String)>,
    /// `WorkingDir`.
    pub working_dir: Option<PathBuf>,
    /// `User`: `""`, `UID`, `NAME`, `UID:GID`, `NAME:GROUP`.
    pub user: String,
    /// `StopSignal` as written.
    pub stop_signal: Option<String>,
    /// `Volumes`: paths the image wants kept out of its layers.
    pub volumes: Vec<PathBuf>,
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Look each time.
    Always,
    /// Look if it was not found yet.
    #[default]
    IfNotPresent,
    /// Take only what is there.
    Never,
}

impl PullPolicy {
    /// Reads the word of the API; an empty one is the default.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "Always" => Self::Always,
            "IfNotPresent" | "" => Self::IfNotPresent,
            "Never" => Self::Never,
            _ => return None,
        })
    }
}

/// An image that could not be had, in the words for
/// [`Input::PullFailed`](holdfast_lifecycle::Input::PullFailed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct PullError {
    /// `ErrImagePull`, `ErrImageNeverPull` or `InvalidImageName`.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

/// A key of the image map that is no image name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no image name: {source}")]
pub struct MapError {
    /// The key.
    pub name: String,
    /// Why.
    pub source: NameError,
}

/// Finds images by name.
///
/// All methods block on the file system (unpacking a large image takes seconds), so an async caller
/// runs them on a blocking thread; the store may be shared between threads.
#[derive(Debug)]
pub struct ImageStore {
    store: Store,
    map: Vec<(ImageName, Source)>,
    form: OnceLock<LayerForm>,
    /// Archives that were read, by source, name and the state of the file then: a pod of 200
    /// containers reads its image once.
    known: Mutex<HashMap<(Source, String), (Stamp, Image)>>,
}

impl ImageStore {
    /// A store below `state_dir` for the images of `map`. The tag of a NAME is optional; a later
    /// entry wins over an earlier one, and one with tag or digest over one without.
    ///
    /// # Errors
    /// A NAME that is no image name.
    pub fn new(state_dir: &Path, map: Vec<(String, Source)>) -> Result<Self, MapError> {
        let map = map
            .into_iter()
            .map(|(name, source)| match ImageName::parse(&name) {
                Ok(parsed) => Ok((parsed, source)),
                Err(source) => Err(MapError { name, source }),
            })
            .collect::<Result<_, _>>()?;
        let form = OnceLock::new();
        Ok(Self { store: Store::new(state_dir), map, form, known: Mutex::default() })
    }

    /// Uses this form of layers instead of the one that works here: [`LayerForm::Flat`] where the
    /// runtime cannot mount overlayfs although it is root.
    #[must_use]
    pub fn with_form(self, form: LayerForm) -> Self {
        Self { form: OnceLock::from(form), ..self }
    }

    /// Gets an image: what a kubelet does before it starts a container (kubelet: `EnsureImageExists`).
    /// There is no registry, so `Always` and `IfNotPresent` both look at the mapped source again.
    ///
    /// # Errors
    /// [`PullError`] with Kubernetes' reason; the message says how to map an image.
    pub fn pull(&self, image: &str, policy: PullPolicy) -> Result<Image, PullError> {
        let name = ImageName::parse(image).map_err(|err| PullError {
            reason: "InvalidImageName".into(),
            message: format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {err}"
            ),
        })?;
        let source = self.source(image, &name);
        let detected = source.map(Source::detect);
        if policy == PullPolicy::Never && !matches!(detected, Some(Ok(_))) {
            return Err(PullError {
                reason: "ErrImageNeverPull".into(),
                message: format!(
                    "Container image {image:?} is not present with pull policy of Never"
                ),
            });
        }
        let failed = |message| PullError { reason: "ErrImagePull".into(), message };
        let source = match detected {
            None => return Err(failed(how_to_map(image))),
            Some(detected) => detected.map_err(|err| failed(format!("image {image:?}: {err}")))?,
        };
        self.load(&source, &name).map_err(|err| {
            let path = source.path().unwrap_or(Path::new("")).display();
            failed(format!("image {image:?} from {path}: {err}"))
        })
    }

    /// Whether [`pull`](Self::pull) of this image reads no file, so that it needs no blocking thread.
    pub fn is_quick(&self, image: &str) -> bool {
        let Ok(name) = ImageName::parse(image) else { return true };
        matches!(self.source(image, &name), None | Some(Source::Host))
    }

    /// The mapped source, `host` for an image of that name.
    fn source(&self, image: &str, name: &ImageName) -> Option<&Source> {
        let exact = |key: &ImageName| key.tag.is_some() || key.digest.is_some();
        let mapped = self.map.iter().rev().filter(|(key, _)| key.covers(name));
        let best = mapped.clone().find(|(key, _)| exact(key)).or_else(|| mapped.clone().next());
        match best {
            Some((_, source)) => Some(source),
            None if image == "host" => Some(&Source::Host),
            None => None,
        }
    }

    fn load(&self, source: &Source, name: &ImageName) -> Result<Image, String> {
        let (path, reference, blobs): (_, _, fn(&Self, &Path) -> _) = match source {
            Source::Host => return Ok(Image::plain("host".into(), RootFs::Host)),
            Source::Dir(dir) => {
                let root = RootFs::Layers(vec![dir.clone()]);
                return Ok(Image::plain(format!("dir:{}", dir.display()), root));
            }
            Source::Exec(program) => {
                let path = program.to_str().ok_or("its path is not UTF-8")?.to_owned();
                let mut image = Image::plain(format!("exec:{path}"), RootFs::Host);
                image.config.entrypoint = vec![path];
                return Ok(image);
            }
            Source::Oci(dir, reference) => (dir, reference, |_, dir| {
                Blobs::in_dir(dir).map_err(|err| format!("cannot open it: {err}"))
            }),
            Source::Archive(file, reference) => (file, reference, |this, file| {
                let temp = this.store.temp().map_err(|err| err.to_string())?;
                Blobs::in_archive(file, &temp)
                    .map_err(|err| format!("cannot read it as an archive: {err}"))
            }),
            Source::Auto(_) => return Err("it was not looked at".into()),
        };
        let stamp = Stamp::of(path);
        let key = (source.clone(), name.to_string());
        // A panic elsewhere leaves the map whole: entries are inserted complete.
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, image)) = known().get(&key)
            && stamp.as_ref() == Some(then)
            && image.is_there()
        {
            return Ok(image.clone());
        }
        let blobs: Blobs = blobs(self, path)?;
        let found = oci::find(&blobs, reference.as_deref(), name)?;
        let form = match self.form.get() {
            Some(&form) => form,
            None => {
                let form = self.store.form().map_err(|err| err.to_string())?;
                *self.form.get_or_init(|| form)
            }
        };
        let layers = self.store.root(&blobs, &found.layers, form).map_err(|err| err.to_string())?;
        let image = Image {
            id: found.id.to_string(),
            root: RootFs::Layers(layers),
            config: ImageConfig::from(found.config.config.unwrap_or_default()),
        };
        if let Some(stamp) = stamp {
            known().insert(key, (stamp, image.clone()));
        }
        Ok(image)
    }
}

/// The answer to an image that nobody mapped.
fn how_to_map(image: &str) -> String {
    format!(
        "image {image:?} is not mapped to anything on this machine, and nothing is pulled from \
         registries; add --image {image}=SOURCE, or the same under images: in holdfast.yaml, where \
         SOURCE is host (this machine's files), a root directory, an OCI layout or archive (docker \
         save, skopeo copy), or an executable"
    )
}

impl Image {
    fn plain(id: String, root: RootFs) -> Self {
        Self { id, root, config: ImageConfig::default() }
    }

    /// Whether its unpacked layers are still there.
    fn is_there(&self) -> bool {
        match &self.root {
            RootFs::Host | RootFs::Image(_) => true,
            RootFs::Layers(layers) => layers.iter().all(|layer| layer.is_dir()),
        }
    }

    /// Whether it is the host's files without a program of its own: a container of it needs a
    /// `command`.
    pub fn is_bare_host(&self) -> bool {
        self.root == RootFs::Host && self.config.entrypoint.is_empty()
    }
}

impl From<oci::RunConfig> for ImageConfig {
    fn from(config: oci::RunConfig) -> Self {
        let split = |entry: String| match entry.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (entry, String::new()),
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default().into_iter().map(split).collect(),
            working_dir: given(config.working_dir).map(PathBuf::from),
            user: config.user.unwrap_or_default(),
            stop_signal: given(config.stop_signal),
            volumes: config.volumes.unwrap_or_default().into_keys().map(PathBuf::from).collect(),
        }
    }
}

/// The state of a file by which a change is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Vec<(u64, u64, u64, i64, i64)>);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let one = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
        };
        let mut stamps = vec![one(path)?];
        // In a layout these change when an image does.
        stamps.extend(["index.json", "manifest.json"].iter().filter_map(|f| one(&path.join(f))));
        Some(Self(stamps))
    }
}
