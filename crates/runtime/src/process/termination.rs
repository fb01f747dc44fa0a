//! The termination message: a file per run of a container, bound at `terminationMessagePath`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::output::Tail;

/// kubelet: `MaxContainerTerminationMessageLength`.
const MAX: u64 = 4096;

/// Where a container's message comes from.
#[derive(Debug)]
pub(crate) struct Termination {
    /// The file, where one can be bound.
    pub(crate) file: Option<PathBuf>,
    /// `FallbackToLogsOnError`.
    pub(crate) from_logs: bool,
}

/// Makes the file; every user of a container may write it, as the kubelet does it.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    File::create(path)?.set_permissions(fs::Permissions::from_mode(0o666))
}

impl Termination {
    /// The message (kubelet: `getTerminationMessage`); the file is removed.
    pub(crate) fn take(&self, code: i32, tail: &Tail) -> String {
        let message = self.file.as_deref().map(read_end).unwrap_or_default();
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
        if message.is_empty() && self.from_logs && code != 0 { tail.text() } else { message }
    }
}

/// The last bytes of a file (kubelet: `tail.ReadAtMost`).
fn read_end(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX)))?;
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_first_and_the_log_only_for_failures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        let mut tail = Tail::default();
        tail.push(b"last words");
        let termination = Termination { file: Some(path.clone()), from_logs: true };
        create(&path).unwrap();
        assert_eq!(termination.take(1, &tail), "last words\n");
        assert!(!path.exists());
        fs::write(&path, "x".repeat(5000) + "end").unwrap();
        let message = termination.take(1, &tail);
        assert!(message.len() == 4096 && message.ends_with("xend"), "{}", message.len());
        create(&path).unwrap();
        assert_eq!(termination.take(0, &tail), "");
        let file_only = Termination { file: None, from_logs: false };
        assert_eq!(file_only.take(1, &tail), "");
    }
}
