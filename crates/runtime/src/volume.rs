//! The volumes of a pod: directories of this machine that its containers see.
//!
//! ```text
//! <state>/pods/<uid>/volumes/kubernetes.io~configmap/<name>     configMap, secret, downwardAPI, projected
//!                           /kubernetes.io~empty-dir/<name>     emptyDir
//! <state>/volumes/<namespace>/<claim>                           persistentVolumeClaim, kept between runs
//! ```
//!
//! An emptyDir with `medium: Memory` has no files here: the runtime makes it
//! ([`MountSource::PodTmpfs`]).
//!
//! The paths handed out ([`PodVolumes::mounts`]) have no symbolic links in them: a runtime that opens
//! them without following links gets what was found here, even if a container swaps a directory for
//! a link in the meantime.

mod atomic;
mod host_path;
mod memory;
mod ownership;
mod payload;
mod pod_dir;
mod sub_path;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use holdfast_manifest::object::Volume;
use holdfast_manifest::object::container::{Container, VolumeMount};
use holdfast_manifest::object::volume::EmptyDirSource;

pub use pod_dir::remove_stale;

use crate::config::{Objects, PodView, expand_sub_path};
use crate::contract::{Below, Mount, MountSource, PodTmpfs, Propagation};
use atomic::Payload;
use ownership::FsGroup;
use payload::Collector;
use pod_dir::PodDir;

/// The volumes of one pod.
///
/// Dropping it leaves the files behind (a killed run does no more); [`remove`](Self::remove) takes
/// them away.
#[derive(Debug)]
pub struct PodVolumes {
    dir: PodDir,
    claims: PathBuf,
    ready: BTreeMap<String, Ready>,
    keep_sub_paths: bool,
    /// With `keep_sub_paths`: what the mounts of a container (by index) first resolved to.
    pinned: Mutex<HashMap<(String, usize), PathBuf>>,
}

/// A volume that is set up.
#[derive(Clone, Debug)]
struct Ready {
    place: Place,
    read_only: bool,
    /// `hostPath` without a type: made when a container wants it, as containerd does.
    make_on_use: bool,
    /// `emptyDir.sizeLimit` in bytes and as written, where it has to be watched.
    limit: Option<(u64, String)>,
}

/// Where a volume is.
#[derive(Clone, Debug)]
enum Place {
    Path(PathBuf),
    /// In memory, made by the runtime.
    Memory(PodTmpfs),
}

/// Volumes that could not be set up, in the words for
/// [`Input::VolumesFailed`](holdfast_lifecycle::Input::VolumesFailed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VolumesError(pub String);

/// A mount of a container that cannot be made. Kubernetes' words, which tell a pod nothing of the
/// host's files; what really happened is the source.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `volumeMounts` names a volume that the pod does not have.
    #[error("cannot find volume {mount:?} to mount into container {container:?}")]
    NoVolume {
        /// `volumeMounts[].name`.
        mount: String,
        /// The container.
        container: String,
    },
    /// `subPathExpr` has a reference to a variable that is not set.
    #[error("{0}")]
    SubPathExpr(String),
    /// `subPath` begins with a slash.
    #[error("error SubPath `{0}` must not be an absolute path")]
    SubPathAbsolute(String),
    /// `subPath` has a `..`.
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    SubPathBackstep(String),
    /// The directory could not be made.
    #[error(
        "failed to create subPath directory for volumeMount {mount:?} of container {container:?}"
    )]
    SubPathCreate {
        /// `volumeMounts[].name`.
        mount: String,
        /// The container.
        container: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It leads out of the volume or cannot be opened.
    #[error("failed to prepare subPath for volumeMount {mount:?} of container {container:?}")]
    SubPath {
        /// `volumeMounts[].name`.
        mount: String,
        /// The container.
        container: String,
        /// What went wrong.
        source: io::Error,
    },
    /// An unknown word.
    #[error("invalid MountPropagation mode: {0:?}")]
    Propagation(String),
    /// Nothing that a container mounts inside can get out of a memory volume.
    #[error(
        "mountPropagation Bidirectional of volumeMount {mount:?} of container {container:?} is not \
         supported on an emptyDir of medium Memory; leave the medium out"
    )]
    MemoryPropagation {
        /// `volumeMounts[].name`.
        mount: String,
        /// The container.
        container: String,
    },
    /// A `hostPath` that is not there and cannot be made.
    #[error("failed to generate container spec: failed to mkdir {path:?}: {source}")]
    HostPath {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl PodVolumes {
    /// Makes the directory of the pod `uid` below `state_dir`. With `keep_sub_paths` (the fault
    /// `stale-subpath`) a restarted container sees the file its subPath meant at the first start, as
    /// on old kubelets.
    ///
    /// # Errors
    /// The system's; `ResourceBusy` if a pod of this UID runs from the same state directory.
    pub fn new(state_dir: &Path, uid: &str, keep_sub_paths: bool) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        let state = fs::canonicalize(state_dir)?;
        Ok(Self {
            dir: PodDir::create(&state, uid)?,
            claims: state.join("volumes"),
            ready: BTreeMap::new(),
            keep_sub_paths,
            pinned: Mutex::default(),
        })
    }

    /// The pod's directory, for other files that go with it.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Sets every volume of the pod up, or brings its files up to date. May be called again, after a
    /// failure or when a ConfigMap has changed: running containers see all of the change or none.
    ///
    /// # Errors
    /// What is missing, for every volume that failed.
    pub fn prepare(&mut self, view: PodView<'_>, objects: &Objects) -> Result<(), VolumesError> {
        let collector = Collector { view, objects };
        let group = fs_group(view);
        let mut errors = Vec::new();
        for volume in &view.pod.spec.volumes {
            let name = &volume.name;
            match self.set_up(volume, &collector, group) {
                Ok(ready) => drop(self.ready.insert(name.clone(), ready)),
                Err(err) => {
                    errors.push(format!("MountVolume.SetUp failed for volume {name:?} : {err}"));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(VolumesError(errors.join("; "))) }
    }

    fn set_up(
        &mut self,
        volume: &Volume,
        collector: &Collector<'_>,
        group: Option<FsGroup>,
    ) -> Result<Ready, String> {
        if volume.name.is_empty() || volume.name.contains('/') || volume.name.starts_with('.') {
            return Err("its name cannot be the name of a directory".into());
        }
        let plain = |path, read_only| Ready {
            place: Place::Path(path),
            read_only,
            make_on_use: false,
            limit: None,
        };
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(&volume.name, source, group, collector.view);
        }
        if let Some(source) = &volume.host_path {
            let kind = source.kind.as_deref().unwrap_or("");
            host_path::check(&source.path, kind)?;
            let make_on_use = kind.is_empty();
            return Ok(Ready { make_on_use, ..plain(PathBuf::from(&source.path), false) });
        }
        if let Some(source) = &volume.persistent_volume_claim {
            let namespace = &collector.view.pod.metadata.namespace;
            let path = self.claim(namespace, &source.claim_name).map_err(|err| err.to_string())?;
            if let Some(group) = group {
                give(&path, &volume.name, group, false)?;
            }
            return Ok(plain(path, source.read_only));
        }
        let (plugin, payload) = if let Some(source) = &volume.config_map {
            ("configmap", collector.config_map(source)?)
        } else if let Some(source) = &volume.secret {
            ("secret", collector.secret(source)?)
        } else if let Some(source) = &volume.downward_api {
            ("downward-api", collector.downward(source)?)
        } else if let Some(source) = &volume.projected {
            ("projected", collector.projected(source)?)
        } else {
            let reason = unsupported_source(volume).map(|(_, reason)| reason);
            return Err(reason.unwrap_or_else(|| "it has no source".into()));
        };
        let path = self.files(plugin, &volume.name, &payload, group)?;
        Ok(plain(path, true))
    }

    fn empty_dir(
        &mut self,
        name: &str,
        source: &EmptyDirSource,
        group: Option<FsGroup>,
        view: PodView<'_>,
    ) -> Result<Ready, String> {
        match source.medium.as_str() {
            "" => {}
            "Memory" => {
                let tmpfs = memory::volume(name, source, group, view)?;
                let place = Place::Memory(tmpfs);
                return Ok(Ready { place, read_only: false, make_on_use: false, limit: None });
            }
            other => return Err(format!("medium {other:?} is not supported, only Memory")),
        }
        let path = self.volume_path("empty-dir", name);
        if !path.is_dir() {
            make_open(&path).map_err(|err| format!("mkdir {}: {err}", path.display()))?;
            if let Some(group) = group {
                give(&path, name, group, false)?;
            }
        }
        let limit = source.size_limit.as_ref().filter(|limit| !limit.is_zero());
        let limit = limit.map(|l| (u64::try_from(l.value()).unwrap_or(0), l.to_string()));
        Ok(Ready { place: Place::Path(path), read_only: false, make_on_use: false, limit })
    }

    /// The directory of a claim, made at its first use.
    fn claim(&self, namespace: &str, claim: &str) -> io::Result<PathBuf> {
        for name in [namespace, claim] {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                let message = format!("{name:?} cannot be the name of a directory");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        let path = self.claims.join(namespace).join(claim);
        if !path.is_dir() {
            // A claim is open to every user of its pods, and to no one else.
            make_directory(&self.claims, 0o700)?;
            make_open(&path)?;
        }
        Ok(path)
    }

    /// Writes the files of a volume.
    fn files(
        &self,
        plugin: &str,
        name: &str,
        payload: &Payload,
        group: Option<FsGroup>,
    ) -> Result<PathBuf, String> {
        let path = self.volume_path(plugin, name);
        if !path.is_dir() {
            make_open(&path).map_err(|err| format!("mkdir {}: {err}", path.display()))?;
        }
        let own = |new: &Path| group.map_or(Ok(()), |group| ownership::give(new, group, true));
        let changed = atomic::write(&path, payload, self.keep_sub_paths, own)
            .map_err(|err| err.to_string())?;
        if let (true, Some(group)) = (changed, group) {
            give(&path, name, group, true)?;
        }
        Ok(path)
    }

    fn volume_path(&self, plugin: &str, name: &str) -> PathBuf {
        self.dir.path().join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// The mounts of a container for one start, in the order of its `volumeMounts`. Every subPath is
    /// looked up anew, and made if it is missing. `env` is the container's whole environment.
    ///
    /// # Errors
    /// [`MountError`], of the first mount that cannot be made.
    pub fn mounts(
        &self,
        container: &Container,
        env: &[(String, String)],
    ) -> Result<Vec<Mount>, MountError> {
        container
            .volume_mounts
            .iter()
            .enumerate()
            .map(|(index, mount)| self.mount(container, index, mount, env))
            .collect()
    }

    fn mount(
        &self,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
        env: &[(String, String)],
    ) -> Result<Mount, MountError> {
        let volume = self.ready.get(&mount.name).ok_or_else(|| MountError::NoVolume {
            mount: mount.name.clone(),
            container: container.name.clone(),
        })?;
        let propagation = match mount.mount_propagation.as_deref() {
            None | Some("None") => Propagation::Private,
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            Some(other) => return Err(MountError::Propagation(other.to_owned())),
        };
        let sub_path = if mount.sub_path_expr.is_empty() {
            mount.sub_path.clone()
        } else {
            expand_sub_path(&mount.sub_path_expr, env).map_err(MountError::SubPathExpr)?
        };
        let source = match &volume.place {
            Place::Memory(_) if propagation == Propagation::Bidirectional => {
                return Err(MountError::MemoryPropagation {
                    mount: mount.name.clone(),
                    container: container.name.clone(),
                });
            }
            Place::Memory(tmpfs) => MountSource::PodTmpfs(memory::part(tmpfs, &sub_path)?),
            Place::Path(path) => {
                let failed = |source| MountError::HostPath { path: path.clone(), source };
                if volume.make_on_use && !path.exists() {
                    make_directory(path, 0o755).map_err(failed)?;
                }
                if sub_path.is_empty() {
                    MountSource::Bind(fs::canonicalize(path).map_err(failed)?)
                } else {
                    MountSource::BindPart(self.part(path, &sub_path, container, index, mount)?)
                }
            }
        };
        Ok(Mount {
            source,
            target: Path::new("/").join(&mount.mount_path),
            read_only: mount.read_only || volume.read_only,
            below: match mount.recursive_read_only.as_deref() {
                Some("Enabled") => Below::ReadOnly,
                Some("IfPossible") => Below::ReadOnlyIfPossible,
                _ => Below::AsTheyAre,
            },
            propagation,
        })
    }

    /// What a subPath means now, or what it meant at the first start.
    fn part(
        &self,
        volume: &Path,
        sub_path: &str,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
    ) -> Result<PathBuf, MountError> {
        let key = (container.name.clone(), index);
        // A panic elsewhere leaves the map whole: paths are inserted complete.
        let pinned = || self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = pinned().get(&key).filter(|path| path.exists()) {
            return Ok(path.clone());
        }
        let mut path = sub_path::resolve(volume, sub_path, &mount.name, &container.name)?;
        if self.keep_sub_paths {
            path = self.pin(&path, &key).unwrap_or(path);
            pinned().insert(key, path.clone());
        }
        Ok(path)
    }

    /// Gives a file a second name that no container can reach, so that it outlives its replacement.
    /// Directories, and files of other file systems, are kept by their path only.
    fn pin(&self, path: &Path, key: &(String, usize)) -> Option<PathBuf> {
        if !path.is_file() {
            return None;
        }
        let dir = self.dir.path().join("volume-subpaths").join(&key.0);
        fs::create_dir_all(&dir).ok()?;
        let link = dir.join(key.1.to_string());
        match fs::remove_file(&link) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return None,
            _ => {}
        }
        fs::hard_link(path, &link).ok()?;
        Some(link)
    }

    /// Whether a volume has a `sizeLimit`, so that [`over_limit`](Self::over_limit) is to be asked.
    pub fn has_limits(&self) -> bool {
        self.ready.values().any(|volume| volume.limit.is_some())
    }

    /// Measures the volumes with a `sizeLimit`. The kubelet's eviction manager does so every 10 s; the
    /// pod then fails with reason `Evicted` and this message
    /// ([`Input::Evict`](holdfast_lifecycle::Input::Evict)). A `medium: Memory` volume is a file system
    /// of its own size, which the kernel keeps.
    pub fn over_limit(&self) -> Option<String> {
        self.ready.iter().find_map(|(name, volume)| {
            let (limit, text) = volume.limit.as_ref()?;
            let Place::Path(path) = &volume.place else { return None };
            let used = usage::of(path);
            (used > *limit)
                .then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "))
        })
    }

    /// Removes all the pod's files; claims stay. The containers have ended.
    ///
    /// # Errors
    /// The system's. What could be removed is.
    pub fn remove(self) -> io::Result<()> {
        self.dir.remove()
    }
}

/// Why a volume's source cannot be had here: the field of the volume and the reason.
pub(crate) fn unsupported_source(volume: &Volume) -> Option<(&'static str, String)> {
    let v = volume;
    let network = [
        ("nfs", &v.nfs),
        ("iscsi", &v.iscsi),
        ("glusterfs", &v.glusterfs),
        ("rbd", &v.rbd),
        ("cephfs", &v.cephfs),
        ("cinder", &v.cinder),
        ("fc", &v.fc),
        ("flexVolume", &v.flex_volume),
        ("flocker", &v.flocker),
        ("gcePersistentDisk", &v.gce_persistent_disk),
        ("awsElasticBlockStore", &v.aws_elastic_block_store),
        ("azureDisk", &v.azure_disk),
        ("azureFile", &v.azure_file),
        ("vsphereVolume", &v.vsphere_volume),
        ("quobyte", &v.quobyte),
        ("photonPersistentDisk", &v.photon_persistent_disk),
        ("portworxVolume", &v.portworx_volume),
        ("scaleIO", &v.scale_io),
        ("storageos", &v.storageos),
        ("csi", &v.csi),
    ];
    if let Some((field, _)) = network.iter().find(|(_, source)| source.is_some()) {
        let reason = format!(
            "{field} volumes need storage that is not on this machine; mount it here and use hostPath"
        );
        return Some((field, reason));
    }
    if v.git_repo.is_some() {
        return Some((
            "gitRepo",
            "gitRepo volumes are gone from Kubernetes; clone in an init container".into(),
        ));
    }
    if v.image.is_some() {
        return Some((
            "image",
            "image volumes are not supported; use hostPath on an unpacked image".into(),
        ));
    }
    if v.ephemeral.is_some() {
        let reason = "generic ephemeral volumes need a storage provisioner; use emptyDir";
        return Some(("ephemeral", reason.into()));
    }
    let medium = v.empty_dir.as_ref().map(|source| source.medium.as_str()).unwrap_or_default();
    if !matches!(medium, "" | "Memory") {
        return Some((
            "emptyDir",
            format!("emptyDir.medium {medium:?} is not supported, only Memory"),
        ));
    }
    None
}

fn fs_group(view: PodView<'_>) -> Option<FsGroup> {
    let security = view.pod.spec.security_context.as_ref()?;
    let gid = u32::try_from(security.fs_group?).ok()?;
    let policy = security.fs_group_change_policy.as_deref();
    Some(FsGroup { gid, only_on_mismatch: policy == Some("OnRootMismatch") })
}

fn give(path: &Path, name: &str, group: FsGroup, read_only: bool) -> Result<(), String> {
    ownership::give(path, group, read_only)
        .map_err(|err| format!("applyFSGroup failed for vol {name}: {err}"))
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// A directory that every user of the pod may write to, whatever our umask is.
fn make_open(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_directory(parent, 0o755)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}
