//! Where the files of a cluster are, and what its parts are called.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// The directory of a cluster. Everything else that is named after the cluster follows from its path, so
/// that leftovers can be found when every file is lost.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    id: String,
}

impl Layout {
    /// The cluster in `dir`, which need not be there yet.
    ///
    /// # Errors
    /// When the path is too long for the sockets below it.
    pub fn new(dir: &Path) -> Result<Self> {
        let dir = resolve(&std::path::absolute(dir)?);
        let longest = dir.as_os_str().len() + "/node-99/containerd.sock.ttrpc".len();
        if longest > SOCKET_PATH_MAX {
            bail!(
                "{}: the path is too long: sockets below it would have {longest} characters, and \
                 Linux takes {SOCKET_PATH_MAX}; choose a shorter one",
                dir.display()
            );
        }
        let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        let id = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { dir, id })
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What tells this cluster from others on the machine.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The files of a unit.
    #[must_use]
    pub fn unit(&self, unit: &str) -> PathBuf {
        self.dir.join(unit)
    }

    /// The log of a component.
    #[must_use]
    pub fn log(&self, unit: &str, component: &str) -> PathBuf {
        self.dir.join("log").join(unit).join(format!("{component}.log"))
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Certificates and keys.
    pub(super) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// What is known of the cluster.
    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// Locked by whoever changes the cluster. Also the mark by which a directory is known as a cluster's.
    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("cluster.lock")
    }

    /// The name of the cluster's cgroup in every hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("{}{}", super::cgroups::CLUSTER, self.id)
    }
}

/// The unit of etcd, the API server, the controllers, the scheduler and the name server.
pub(super) const CONTROL: &str = "control";

/// The unit, and the Kubernetes name, of the `number`th node, from 1.
#[must_use]
pub(super) fn node(number: usize) -> String {
    format!("node-{number}")
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => return format!("  ({e})"),
    };
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    if lines.is_empty() {
        return "  (it is empty)".into();
    }
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Symbolic links followed as far as the path exists.
fn resolve(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => resolve(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Writes a file for root's eyes only, with the directories above it.
pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_ref()))
        .with_context(|| path.display().to_string())
}

/// `sun_path` of unix(7), without the final zero.
const SOCKET_PATH_MAX: usize = 107;
/// Lines of a log in an error.
const TAIL: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_are_two_clusters() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| Layout::new(&dir.path().join(name)).unwrap());
        assert_ne!(a.id(), b.id());
        fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("c")).unwrap();
        let c = Layout::new(&dir.path().join("c")).unwrap();
        assert_eq!(a.cgroup(), c.cgroup(), "a link to a directory is the directory");
    }

    #[test]
    fn a_path_must_leave_room_for_sockets() {
        let long = format!("/tmp/{}", "x".repeat(90));
        let error = Layout::new(Path::new(&long)).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }
}
