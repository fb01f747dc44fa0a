//! Memory file systems that the containers of a pod share (`emptyDir` with `medium: Memory`).
//!
//! They are mounted in the staging area, which only the launcher's mount namespace has: containers get
//! copies of the mount, the host sees nothing, and whatever kills the launcher takes them along.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::context::Context;
use super::protocol::{Failure, Memory, Mode, Spec};
use super::rootfs::words;
use crate::{mount, paths};

/// The memory file systems of all pods.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// Where they are mounted, by pod and name.
    made: HashMap<String, HashMap<String, PathBuf>>,
    next: u64,
}

impl Volumes {
    /// A copy of the mount of one, or of the part of it that is wanted; it is made at its first use.
    pub(super) fn open(
        &mut self,
        context: &Context,
        spec: &Spec,
        wish: &Memory,
    ) -> Result<OwnedFd, Failure> {
        let Memory { name, sub_path, .. } = wish;
        let place = self.place(context, &spec.pod, wish).map_err(|error| {
            Failure::create(format!("cannot make the memory volume {name:?}: {}", words(&error)))
        })?;
        let part = paths::open_canonical(&place).and_then(|top| match sub_path {
            Some(path) => paths::open_beneath_or_create(top.as_fd(), path),
            None => Ok(top),
        });
        part.and_then(|part| mount::clone_tree_at(part.as_fd(), true)).map_err(|error| {
            match sub_path {
                // The kubelet's words, which keep the details to themselves.
                Some(_) => Failure::config(format!(
                    "failed to prepare subPath for volumeMount {name:?} of container {:?}",
                    spec.name
                )),
                None => {
                    let error = words(&error);
                    Failure::create(format!("cannot open the memory volume {name:?}: {error}"))
                }
            }
        })
    }

    fn place(&mut self, context: &Context, pod: &str, wish: &Memory) -> io::Result<PathBuf> {
        if let Some(place) = self.made.get(pod).and_then(|volumes| volumes.get(&wish.name)) {
            return Ok(place.clone());
        }
        self.next += 1;
        let place = context.dir.staging().join(format!("memory-{}", self.next));
        fs::create_dir(&place)?;
        // In a user namespace there is one group, and everything belongs to it.
        let gid = wish.gid.filter(|_| context.mode != Mode::Rootless);
        if let Err(error) = mount::mount("tmpfs", &place, &options(wish.size, wish.gid, gid)) {
            let _ = fs::remove_dir(&place);
            return Err(error);
        }
        let of_pod = self.made.entry(pod.to_owned()).or_default();
        of_pod.insert(wish.name.clone(), place.clone());
        Ok(place)
    }

    /// Lets go of all that a pod has. What a container still shows ends with the container.
    pub(super) fn forget(&mut self, pod: &str) {
        for place in self.made.remove(pod).into_iter().flat_map(HashMap::into_values) {
            drop_mount(&place);
        }
    }
}

fn drop_mount(place: &Path) {
    let _ = mount::detach(place);
    let _ = fs::remove_dir(place);
}

/// The options of the mount. Its top is open to all, as the kubelet leaves it; a group that it is given
/// to (`wanted`) also owns what is made in it (kubelet: `SetVolumeOwnership`).
fn options(size: Option<u64>, wanted: Option<u32>, gid: Option<u32>) -> String {
    let mut options = String::from(if wanted.is_some() { "mode=3777" } else { "mode=1777" });
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    if let Some(gid) = gid {
        options.push_str(&format!(",gid={gid}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_mount() {
        assert_eq!(options(None, None, None), "mode=1777");
        assert_eq!(options(Some(4096), Some(7), Some(7)), "mode=3777,size=4096,gid=7");
        assert_eq!(options(None, Some(7), None), "mode=3777");
    }
}
