//! Unpacked layers, kept between runs and shared by all images and pods.
//!
//! `layers/sha256/<diff id>` is one layer in overlayfs' form; `flat/sha256/<chain id>` is a whole
//! image in one directory, for where layers cannot be stacked. A directory of that name is complete:
//! it is unpacked beside its place, checked, and renamed.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::blobs::Blobs;
use super::compression::decompress;
use super::digest::{Digest, Hashing};
use super::layer::{self, Directories, LayerError, LayerForm};
use super::oci::Layer;
use crate::beneath;

/// More layers than this are merged into one directory: older kernels take the list of layers in one
/// page of mount options.
const MAX_STACKED: usize = 24;

/// A layer that is being unpacked; no digest has this name.
const UNPACKING: &str = ".unpacking";

/// Why an image's files could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot use {path:?}: {source}")]
    State { path: PathBuf, source: io::Error },
    #[error("cannot read layer {file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("layer {file} is damaged: its {what} has digest {found}, not {wanted}")]
    Digest { file: String, what: &'static str, found: Digest, wanted: Digest },
    #[error("cannot unpack layer {file}: {source}")]
    Unpack { file: String, source: LayerError },
}

/// The store below a state directory.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(state: &Path) -> Self {
        Self { dir: state.join("images") }
    }

    /// A directory for what is needed only while an image is read.
    pub(super) fn temp(&self) -> Result<PathBuf, StoreError> {
        let dir = self.dir.join("tmp");
        // Nobody but us may look in: images have setuid programs.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| StoreError::State { path: dir.clone(), source })?;
        Ok(dir)
    }

    /// The form that works for this process here.
    pub(super) fn form(&self) -> Result<LayerForm, StoreError> {
        let temp = self.temp()?;
        Ok(if layer::can_make_overlay(&temp) { LayerForm::Overlay } else { LayerForm::Flat })
    }

    /// The directories of an image, lowest first. Unpacks what is not there yet.
    pub(super) fn root(
        &self,
        blobs: &Blobs,
        layers: &[Layer],
        form: LayerForm,
    ) -> Result<Vec<PathBuf>, StoreError> {
        if form == LayerForm::Overlay && (1..=MAX_STACKED).contains(&layers.len()) {
            return layers
                .iter()
                .map(|layer| {
                    let name = format!("layers/sha256/{}", layer.diff_id.hex());
                    self.directory(&name, form, blobs, std::slice::from_ref(layer))
                })
                .collect();
        }
        let name = format!("flat/sha256/{}", chain_id(layers).hex());
        Ok(vec![self.directory(&name, LayerForm::Flat, blobs, layers)?])
    }

    /// The directory `name` with these layers, made if it is not there.
    fn directory(
        &self,
        name: &str,
        form: LayerForm,
        blobs: &Blobs,
        layers: &[Layer],
    ) -> Result<PathBuf, StoreError> {
        let path = self.dir.join(name);
        if path.is_dir() {
            return Ok(path);
        }
        self.temp()?;
        let state = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| StoreError::State { path, source }
        };
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(state(parent))?;
        // One unpacks at a time, other processes included; the rest finds the result.
        let lock_path = self.dir.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock_path)
            .and_then(|lock| {
                rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
                Ok(lock)
            })
            .map_err(state(&lock_path))?;
        if path.is_dir() {
            return Ok(path);
        }
        // Beside its place: to move a directory to another one, its own mode would have to allow it.
        let work = parent.join(UNPACKING);
        // What a killed run left; no one else has it, for we have the lock.
        let parent_fd = beneath::open_root(parent).map_err(state(parent))?;
        beneath::remove_tree(&parent_fd, UNPACKING.as_ref()).map_err(state(&work))?;
        fs::create_dir(&work).map_err(state(&work))?;
        let fill = || {
            let root = beneath::open_root(&work).map_err(state(&work))?;
            let mut directories = Directories::default();
            for layer in layers {
                unpack(blobs, layer, root.as_fd(), form, &mut directories)?;
            }
            directories.finish(root.as_fd()).map_err(|source| {
                let file = layers.last().map(|layer| layer.file.clone()).unwrap_or_default();
                StoreError::Unpack { file, source }
            })?;
            fs::rename(&work, &path).map_err(state(&path))
        };
        let filled = fill();
        if filled.is_err() {
            // The next attempt would do it anyway.
            let _ = beneath::remove_tree(&parent_fd, UNPACKING.as_ref());
        }
        drop(lock);
        filled.map(|()| path)
    }
}

/// Unpacks one layer, and checks the digests of what was read.
fn unpack(
    blobs: &Blobs,
    layer: &Layer,
    root: std::os::fd::BorrowedFd<'_>,
    form: LayerForm,
    directories: &mut Directories,
) -> Result<(), StoreError> {
    let file = || layer.file.clone();
    let read = |source| StoreError::Read { file: file(), source };
    let mut raw = Hashing::new(blobs.open(&layer.file).map_err(read)?);
    let mut plain = Hashing::new(decompress(&mut raw).map_err(read)?);
    let unpacked = layer::unpack(&mut plain, root, form, directories);
    // A damaged file shows as this or that error: say what the cause is.
    let drained = io::copy(&mut plain, &mut io::sink());
    let diff_id = plain.finish();
    let rest = io::copy(&mut raw, &mut io::sink());
    let digest = raw.finish();
    if let Some(wanted) = layer.digest.as_ref().filter(|wanted| **wanted != digest) {
        return Err(StoreError::Digest {
            file: file(),
            what: "content",
            found: digest,
            wanted: wanted.clone(),
        });
    }
    unpacked.map_err(|source| StoreError::Unpack { file: file(), source })?;
    drained.and(rest).map_err(read)?;
    if diff_id != layer.diff_id {
        return Err(StoreError::Digest {
            file: file(),
            what: "uncompressed content",
            found: diff_id,
            wanted: layer.diff_id.clone(),
        });
    }
    Ok(())
}

/// The identity of a stack of layers (OCI image spec, config.md, "Layer ChainID").
fn chain_id(layers: &[Layer]) -> Digest {
    let mut ids = layers.iter().map(|layer| &layer.diff_id);
    let Some(first) = ids.next() else { return Digest::of(b"") };
    ids.fold(first.clone(), |chain, id| Digest::of(format!("{chain} {id}").as_bytes()))
}
