//! What is taken out of Debian packages without installing them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::debian;
use crate::run::{Run, is_installed, root};

/// A kernel and the modules that containers need of it.
pub(super) struct Kernel {
    /// The image, as qemu boots it.
    pub(super) image: PathBuf,
    /// The modules, in the order in which they are loaded.
    pub(super) modules: Vec<PathBuf>,
}

/// Names the kernel of the day; small, because it is for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Roots of containers, the network of pods, WireGuard. What one needs comes before it.
const MODULES: [&str; 15] = [
    "overlay",
    "llc",
    "stp",
    "bridge",
    "veth",
    "tun",
    "libcurve25519-generic",
    "curve25519-x86_64",
    "libchacha",
    "chacha-x86_64",
    "poly1305-x86_64",
    "libchacha20poly1305",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "wireguard",
];

/// Debian's kernel, fetched once.
pub(super) fn kernel(no_install: bool) -> Result<Kernel> {
    let dir = match unpacked("linux-image-")? {
        Some(dir) => dir,
        None => fetch(&newest_kernel(no_install)?, no_install)?,
    };
    let mut image = entries(&dir.join("boot"))?;
    image.retain(|path| starts_with(path, "vmlinuz-"));
    let [image] = &image[..] else {
        bail!("no kernel in {}: remove that directory and try again", dir.display());
    };
    let mut all = Vec::new();
    find_modules(&dir.join("lib/modules"), &mut all)?;
    let find = |name: &&str| {
        let module = all.iter().find(|path| starts_with(path, &format!("{name}.ko")));
        module.cloned().with_context(|| format!("no module {name} in {}", dir.display()))
    };
    let modules = MODULES.iter().map(find).collect::<Result<_>>()?;
    Ok(Kernel { image: image.clone(), modules })
}

/// A busybox that needs no libraries, fetched once.
pub(super) fn busybox(no_install: bool) -> Result<PathBuf> {
    let dir = match unpacked("busybox-static")? {
        Some(dir) => dir,
        None => fetch("busybox-static", no_install)?,
    };
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| dir.join(place));
    let program = places.into_iter().find(|path| path.is_file());
    program.with_context(|| format!("no busybox in {}", dir.display()))
}

/// The package that the kernel's own package is the latest name of.
fn newest_kernel(no_install: bool) -> Result<String> {
    let depends = || -> Result<Option<String>> {
        let text = Run::new("apt-cache").args(["depends", KERNEL]).text()?;
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.find(|name| name.starts_with("linux-image-")).map(str::to_owned))
    };
    if !is_installed("apt-cache") {
        bail!("the kernel of the virtual machine is Debian's {KERNEL}, and there is no apt here");
    }
    if let Ok(Some(name)) = depends() {
        return Ok(name);
    }
    if !no_install {
        debian::update()?;
    }
    depends()?.with_context(|| format!("apt knows no package {KERNEL}: is this Debian?"))
}

/// Where packages are unpacked.
fn store() -> PathBuf {
    root().join("target/vm")
}

/// A package that was unpacked before.
fn unpacked(prefix: &str) -> Result<Option<PathBuf>> {
    fs::create_dir_all(store())?;
    let mut found = entries(&store())?;
    found.retain(|path| starts_with(path, prefix) && path.extension().is_none_or(|e| e != "part"));
    Ok(found.pop())
}

/// Downloads and unpacks a package.
fn fetch(package: &str, no_install: bool) -> Result<PathBuf> {
    let dir = store().join(package);
    let part = store().join(format!("{package}.{}.part", std::process::id()));
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    let download = || Run::new("apt-get").args(["download", package]).within(&part).go();
    let result = (|| {
        if download().is_err() {
            // The lists are older than what the archive has.
            if !no_install {
                debian::update()?;
            }
            download()?;
        }
        let files = entries(&part)?;
        let deb = files.first().with_context(|| format!("apt-get download left no {package}"))?;
        Run::new("dpkg-deb")
            .args(["--extract".as_ref(), deb.as_os_str(), part.as_os_str()])
            .go()?;
        fs::remove_file(deb)?;
        // Another task may have been quicker.
        if fs::rename(&part, &dir).is_err() && !dir.is_dir() {
            bail!("cannot rename {} to {}", part.display(), dir.display());
        }
        Ok(dir)
    })();
    let _ = fs::remove_dir_all(&part);
    result.with_context(|| format!("Debian's package {package} is needed"))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn find_modules(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(dir)? {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            find_modules(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}
