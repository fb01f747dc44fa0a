//! A container's root, built in its own mount namespace and then made `/`.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as FileMode, OFlags};

use super::context::Context;
use super::host::Part;
use super::memory::Volumes;
use super::protocol::{Failure, MountSpec, Propagation, Root, Source, Spec};
use super::sandbox::Sandbox;
use super::system;
use crate::mount::{self, Change, attr};
use crate::paths;

/// A root being built.
pub(super) struct Builder<'a> {
    pub(super) context: &'a Context,
    pub(super) sandbox: &'a Sandbox,
    pub(super) spec: &'a Spec,
    /// Whether this is only to see that it works.
    rehearsal: bool,
    /// Where it is.
    root: PathBuf,
    /// The mounts it is made of, to be made read-only at the end.
    parts: Vec<OwnedFd>,
    /// How many overlays there are.
    overlays: usize,
}

/// The source of a mount, opened before the root is built.
pub(super) type Sources = Vec<OwnedFd>;

/// Says what was done when an error came.
pub(super) trait During<T> {
    /// As a failure to run, in the words of runc: `what: error`.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::run(format!("{}: {error}", what())))
    }
}

/// An error of the system without Rust's "(os error 2)", as a C library says it.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn mounting(spec: &MountSpec) -> String {
    let source = match &spec.source {
        Source::Host(path) => path,
        Source::Memory(memory) => Path::new(&memory.name),
    };
    format!("error mounting \"{}\" to rootfs at \"{}\"", source.display(), spec.target.display())
}

/// Opens the sources of all mounts; a bidirectional one in the host's mount namespace.
pub(super) fn open_sources(
    context: &Context,
    memory: &mut Volumes,
    spec: &Spec,
) -> Result<Sources, Failure> {
    let open = |mount: &MountSpec| {
        let source = match &mount.source {
            Source::Host(path) => path,
            Source::Memory(wish) => return memory.open(context, spec, wish),
        };
        let tree = if mount.propagation == Propagation::Both {
            context.own.clone_from_host(source)
        } else {
            paths::open_canonical(source).and_then(|at| mount::clone_tree_at(at.as_fd(), true))
        };
        tree.map_err(|error| Failure::run(format!("{}: {}", mounting(mount), words(&error))))
    };
    spec.mounts.iter().map(open).collect()
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        context: &'a Context,
        sandbox: &'a Sandbox,
        spec: &'a Spec,
        rehearsal: bool,
    ) -> Self {
        let root = PathBuf::from("root");
        Self { context, sandbox, spec, rehearsal, root, parts: Vec::new(), overlays: 0 }
    }

    /// Builds the root and makes it `/`.
    pub(super) fn build(mut self, sources: &Sources) -> Result<(), Failure> {
        self.make_staging().map_err(|error| {
            Failure::run(format!("cannot prepare the container's root: {}", words(&error)))
        })?;
        let root = match &self.spec.root {
            Root::Layers(layers) => self.layers(layers)?,
            Root::Host => self.host()?,
        };
        system::proc(&self, root.as_fd())?;
        system::sys(&self, root.as_fd())?;
        system::dev(&self, root.as_fd())?;
        for (spec, source) in self.spec.mounts.iter().zip(sources) {
            bind(root.as_fd(), spec, source)
                .map_err(|error| Failure::run(format!("{}: {}", mounting(spec), words(&error))))?;
        }
        if !self.spec.privileged {
            system::mask(&self, root.as_fd())?;
        }
        make_cwd(root.as_fd(), &self.spec.cwd);
        if self.spec.read_only_root {
            let read_only = Change { set: attr::RDONLY, ..Change::default() };
            for part in &self.parts {
                mount::set_attr(part.as_fd(), read_only)
                    .during(|| "cannot make the root read-only".to_owned())?;
            }
        }
        pivot(root.as_fd(), self.rehearsal).during(|| "cannot change the root".to_owned())
    }

    /// Whether this is inside a user namespace, where owners and devices cannot be made at will.
    pub(super) fn in_userns(&self) -> bool {
        self.context.in_userns
    }

    /// A memory file system of the container's own: what it writes, and the places of its overlays.
    fn make_staging(&self) -> io::Result<()> {
        let place = self.context.dir.staging().join("c");
        mount::mount("tmpfs", &place, "mode=755")?;
        std::env::set_current_dir(&place)?;
        fs::create_dir(&self.root)
    }

    fn layers(&mut self, layers: &[PathBuf]) -> Result<OwnedFd, Failure> {
        if !self.context.overlay {
            return self.plain_layer(layers);
        }
        let root = self.root.clone();
        // Overlayfs wants the highest first.
        let lower: Vec<&Path> = layers.iter().rev().map(PathBuf::as_path).collect();
        self.overlay(&lower, &root).and_then(|()| self.opened_root()).map_err(|error| {
            Failure::run(format!("cannot mount the image's layers: {}", words(&error)))
        })
    }

    /// Where no overlay is to be had: one directory, read-only.
    fn plain_layer(&mut self, layers: &[PathBuf]) -> Result<OwnedFd, Failure> {
        let [layer] = layers else {
            return Err(Failure::run(
                "an image of several layers needs overlayfs, which cannot be mounted here",
            ));
        };
        let mut bind = || -> io::Result<OwnedFd> {
            let tree = mount::clone_tree(layer, true)?;
            let change =
                Change { set: attr::RDONLY, recursive: true, propagation: libc::MS_PRIVATE };
            mount::set_attr(tree.as_fd(), change)?;
            let target = paths::open(self.staging_fd()?.as_fd(), &self.root)?;
            mount::attach(tree.as_fd(), target.as_fd())?;
            self.opened_root()
        };
        bind().map_err(|error| Failure::run(format!("cannot bind the image: {}", words(&error))))
    }

    fn staging_fd(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(".", flags, FileMode::empty())?)
    }

    fn opened_root(&mut self) -> io::Result<OwnedFd> {
        let root = mount::open_mount(&self.root)?;
        self.parts.push(root.try_clone()?);
        Ok(root)
    }

    fn host(&mut self) -> Result<OwnedFd, Failure> {
        self.host_parts().map_err(|error| {
            Failure::run(format!("cannot build the root from the host's files: {}", words(&error)))
        })
    }

    fn host_parts(&mut self) -> io::Result<OwnedFd> {
        let parts = self.context.host.parts();
        let whole = matches!(parts.first(), Some(Part::Overlay(path)) if path == Path::new("/"));
        let root = if whole && self.context.overlay {
            let root = self.root.clone();
            self.overlay(&[Path::new("/")], &root)?;
            self.opened_root()?
        } else {
            mount::mount("tmpfs", &self.root, "mode=755")?;
            self.opened_root()?
        };
        for part in parts {
            match part {
                Part::Overlay(path) if path == Path::new("/") && whole && self.context.overlay => {}
                Part::Overlay(path) => self.host_overlay(root.as_fd(), path)?,
                Part::Bind(path) => self.host_bind(root.as_fd(), path)?,
                Part::Directory(path, mode) => {
                    let made = paths::open_or_create(root.as_fd(), path, true)?;
                    chmod(&made, *mode)?;
                }
                Part::Link(path, target) => {
                    let relative = path.strip_prefix("/").unwrap_or(path);
                    rustix::fs::symlinkat(target, root.as_fd(), relative)?;
                }
            }
        }
        let tmp = paths::open_or_create(root.as_fd(), Path::new("/tmp"), true)?;
        if self.tmp_is_a_mount()? {
            let fresh =
                mount::new_fs("tmpfs", &[("mode", Some("1777"))], attr::NOSUID | attr::NODEV)?;
            mount::attach(fresh.as_fd(), tmp.as_fd())?;
        }
        Ok(root)
    }

    /// Whether the host's `/tmp` is not part of its `/`, whose copy would have it.
    fn tmp_is_a_mount(&self) -> io::Result<bool> {
        let device = |path| fs::metadata(path).map(|m| m.dev());
        Ok(device("/tmp").ok() != device("/").ok())
    }

    fn host_overlay(&mut self, root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        if !self.context.overlay {
            return self.host_bind(root, path);
        }
        let place = PathBuf::from(format!("m{}", self.overlays));
        fs::create_dir(&place)?;
        if self.overlay(&[path], &place).is_err() {
            // Overlayfs does not take every file system (nor an overlay on overlays): read-only then.
            return self.host_bind(root, path);
        }
        let target = paths::open_or_create(root, path, true)?;
        let part = mount::open_mount(&place)?;
        mount::attach(part.as_fd(), target.as_fd())?;
        self.parts.push(part);
        Ok(())
    }

    fn host_bind(&self, root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let Ok(tree) = mount::clone_tree(path, true) else {
            return Ok(()); // unmounted since, or not ours to see
        };
        let change = Change { set: attr::RDONLY, recursive: true, propagation: libc::MS_PRIVATE };
        mount::set_attr(tree.as_fd(), change)?;
        let target = paths::open_or_create(root, path, paths::is_directory(tree.as_fd())?)?;
        mount::attach(tree.as_fd(), target.as_fd())
    }

    /// Mounts an overlay of `lower` (highest first) on `target`, both seen from the staging area. The
    /// layers are named by short links: mount options have one page, and no way to quote.
    fn overlay(&mut self, lower: &[&Path], target: &Path) -> io::Result<()> {
        let number = self.overlays;
        self.overlays += 1;
        let (upper, work) = (format!("u{number}"), format!("w{number}"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let mut options = String::from("lowerdir=");
        for (index, layer) in lower.iter().enumerate() {
            let link = format!("{number}.{index}");
            symlink(layer, &link)?;
            if index > 0 {
                options.push(':');
            }
            options.push_str(&link);
        }
        options.push_str(&format!(",upperdir={upper},workdir={work}"));
        if self.in_userns() {
            options.push_str(",userxattr");
        }
        // The directory shown is the upper one, so it must look like the one below.
        let like = fs::metadata(lower[0])?;
        if !self.in_userns() {
            std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(like.mode() & 0o7777))?;
        mount::mount("overlay", target, &options)
    }
}

/// Adds its mounts and its working directory to a container whose root is in place already.
pub(super) fn add_mounts(spec: &Spec, sources: &Sources) -> Result<(), Failure> {
    let root = paths::root().during(|| "cannot open the container's root".to_owned())?;
    for (spec, source) in spec.mounts.iter().zip(sources) {
        bind(root.as_fd(), spec, source)
            .map_err(|error| Failure::run(format!("{}: {}", mounting(spec), words(&error))))?;
    }
    make_cwd(root.as_fd(), &spec.cwd);
    Ok(())
}

/// runc makes the working directory if it is missing, before the root becomes read-only.
fn make_cwd(root: BorrowedFd<'_>, cwd: &Path) {
    if paths::open(root, cwd).is_err() {
        let _ = paths::open_or_create(root, cwd, true);
    }
}

/// Carries out one mount of the pod.
fn bind(root: BorrowedFd<'_>, spec: &MountSpec, tree: &OwnedFd) -> io::Result<()> {
    let propagation = match spec.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::FromHost => libc::MS_SLAVE,
        Propagation::Both => libc::MS_SHARED,
    };
    let directory = paths::is_directory(tree.as_fd())?;
    mount::set_attr(tree.as_fd(), Change { set: 0, propagation, recursive: true })?;
    if spec.read_only {
        let recursive = spec.read_only_below;
        let change = Change { set: attr::RDONLY, recursive, ..Change::default() };
        mount::set_attr(tree.as_fd(), change)?;
    }
    let target = paths::open_or_create(root, &spec.target, directory)?;
    if paths::is_directory(target.as_fd())? != directory {
        let what = if directory { "directory onto a file" } else { "file onto a directory" };
        return Err(io::Error::other(format!("not a directory: a {what}")));
    }
    mount::attach(tree.as_fd(), target.as_fd())
}

/// Changes the mode of what an `O_PATH` descriptor stands for.
pub(super) fn chmod(fd: &OwnedFd, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    fs::set_permissions(
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        fs::Permissions::from_mode(mode),
    )
}

/// Makes `root` the root directory and lets go of the old one (pivot_root(2), "pivot_root(".", ".")").
fn pivot(root: BorrowedFd<'_>, rehearsal: bool) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::mount::{UnmountFlags, unmount};
    const HERE: &CStr = c".";
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(HERE, HERE)?;
    if rehearsal {
        // Only whether it may: the kernel asks that first, and then says that it is in use. To really
        // unmount makes it wait for every processor, and everyone else waits for the rehearsal.
        return match unmount(HERE, UnmountFlags::EXPIRE) {
            Err(Errno::BUSY | Errno::AGAIN) => Ok(()),
            other => Ok(other?),
        };
    }
    unmount(HERE, UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
