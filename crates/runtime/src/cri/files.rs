//! What a run keeps on this machine, and what it mounts for its containers.
//!
//! ```text
//!   <state>/<run>/lock                     held as long as the run lives
//!   <state>/<run>/termination/<instance>   termination messages
//!   <state>/<run>/memory/<pod>/<volume>    emptyDir with medium Memory: a tmpfs, as the kubelet's
//!   <state>/<run>/parts/<instance>/<n>     a subPath, bound by its inode
//! ```
//!
//! A runtime looks a path up by itself, and follows the links that it finds. A subPath could be changed
//! to one by a container in the meantime; so the runtime is given a mount of what was found here
//! (kubelet: `doBindSubPath`).

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use holdfast_lifecycle::StartStage;
use holdfast_sys::rundir::RunDir;
use holdfast_sys::{mount, mountinfo, paths};

use crate::contract::{ContainerConfig, Mount, MountSource, PodTmpfs, StartError};

/// The directory of a run.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// `None` once it is removed.
    dir: RefCell<Option<RunDir>>,
}

impl Files {
    /// Makes the directory of the run `run` below `state`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn create(state: &Path, run: &str) -> io::Result<Self> {
        let dir = RunDir::create(state, run)?;
        for name in ["termination", "memory", "parts"] {
            fs::create_dir(dir.path().join(name))?;
        }
        Ok(Self::of(dir))
    }

    /// What a dead run has left; `None` if the run lives or has left nothing.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn take_over(state: &Path, run: &str) -> io::Result<Option<Self>> {
        Ok(RunDir::take_over(state, run)?.map(Self::of))
    }

    fn of(dir: RunDir) -> Self {
        Self { path: dir.path().to_owned(), dir: RefCell::new(Some(dir)) }
    }

    /// Undoes all mounts, and removes the directory.
    ///
    /// # Errors
    /// What stood in the way. Nothing that is still mounted is removed.
    pub(super) fn remove(&self) -> io::Result<()> {
        let Some(dir) = self.dir.borrow_mut().take() else { return Ok(()) };
        unmount_below(&self.path)?;
        dir.remove()
    }

    /// The mounts of a container, with the path that the runtime is to mount for each.
    ///
    /// # Errors
    /// What could not be mounted. Nothing stays mounted for the container then.
    pub(super) fn mounts(
        &self,
        config: &ContainerConfig,
    ) -> Result<Vec<(String, Mount)>, StartError> {
        let made: Result<Vec<_>, _> = config
            .mounts
            .iter()
            .enumerate()
            .map(|(index, mount)| Ok((self.source(config, index, &mount.source)?, mount.clone())))
            .collect();
        if made.is_err() {
            self.forget_instance(config.instance.0);
        }
        made
    }

    fn source(
        &self,
        config: &ContainerConfig,
        index: usize,
        source: &MountSource,
    ) -> Result<String, StartError> {
        let part = |volume: &str| {
            // The kubelet's words, which keep the host's details to themselves.
            let message = format!(
                "failed to prepare subPath for volumeMount {volume:?} of container {:?}",
                config.name
            );
            move |_: io::Error| StartError { stage: StartStage::Config, message }
        };
        let path = match source {
            MountSource::Bind(path) => path.clone(),
            MountSource::BindPart(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                paths::open_canonical(path)
                    .and_then(|found| self.bind(config.instance.0, index, &found))
                    .map_err(part(&name))?
            }
            MountSource::PodTmpfs(wish) => {
                let place = self.memory(&config.pod, wish).map_err(|error| StartError {
                    stage: StartStage::Create,
                    message: format!("cannot make the memory volume {:?}: {error}", wish.name),
                })?;
                match &wish.sub_path {
                    None => place,
                    Some(sub_path) => paths::open_canonical(&place)
                        .and_then(|top| paths::open_beneath_or_create(top.as_fd(), sub_path))
                        .and_then(|found| self.bind(config.instance.0, index, &found))
                        .map_err(part(&wish.name))?,
                }
            }
        };
        match path.to_str() {
            Some(path) => Ok(path.to_owned()),
            None => Err(StartError {
                stage: StartStage::Create,
                message: format!("{path:?} is not UTF-8, and the CRI takes nothing else"),
            }),
        }
    }

    /// Mounts what a descriptor stands for where only the runtime looks.
    fn bind(&self, instance: u64, index: usize, found: &OwnedFd) -> io::Result<PathBuf> {
        let place = self.parts(instance).join(index.to_string());
        fs::create_dir_all(self.parts(instance))?;
        if paths::is_directory(found.as_fd())? {
            fs::create_dir(&place)?;
        } else {
            fs::File::create_new(&place)?;
        }
        let copy = mount::clone_tree_at(found.as_fd(), true)?;
        mount::attach(copy.as_fd(), paths::open_canonical(&place)?.as_fd())?;
        Ok(place)
    }

    /// Where a memory volume is mounted; it is made at its first use.
    fn memory(&self, pod: &str, wish: &PodTmpfs) -> io::Result<PathBuf> {
        let place = self.path.join("memory").join(pod).join(&wish.name);
        if place.is_dir() {
            return Ok(place);
        }
        fs::create_dir_all(&place)?;
        let mut options = String::from(if wish.gid.is_some() { "mode=3777" } else { "mode=1777" });
        options.extend(wish.size.map(|size| format!(",size={size}")));
        options.extend(wish.gid.map(|gid| format!(",gid={gid}")));
        if let Err(error) = mount::mount("tmpfs", &place, &options) {
            let _ = fs::remove_dir(&place);
            return Err(error);
        }
        Ok(place)
    }

    fn parts(&self, instance: u64) -> PathBuf {
        self.path.join("parts").join(instance.to_string())
    }

    /// The file of a container's termination message.
    pub(super) fn termination(&self, instance: u64) -> PathBuf {
        self.path.join("termination").join(instance.to_string())
    }

    /// Lets go of what was mounted for one start of a container.
    pub(super) fn forget_instance(&self, instance: u64) {
        forget(&self.parts(instance));
    }

    /// Lets go of what a pod had in memory.
    pub(super) fn forget_pod(&self, pod: &str) {
        forget(&self.path.join("memory").join(pod));
    }
}

/// Undoes the mounts below a directory and removes it. What cannot be removed now is tried again at the
/// end of the run, and said then.
fn forget(dir: &Path) {
    if dir.is_dir() && unmount_below(dir).is_ok() {
        let _ = paths::remove_tree(dir);
    }
}

/// Undoes every mount below a directory, the last one first.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    for entry in mountinfo::read()?.iter().rev() {
        if entry.target.starts_with(&dir) {
            mount::detach(&entry.target)?;
        }
    }
    Ok(())
}
