//! What containers write, a file each, in the kubelet's log format, rotated as the kubelet's are.
//!
//! `LOGS/POD/CONTAINER.log`, older ones with `.1` to `.4` behind it. A line is `TIME stdout|stderr F TEXT`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When and how often files are rotated (kubelet: `containerLogMaxSize` 10Mi, `containerLogMaxFiles` 5).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of one file.
    pub bytes: u64,
    /// How many files a container has at most, the one that is written to among them.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 5 }
    }
}

/// The files of all containers.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    limits: Limits,
    open: HashMap<(String, String), Log>,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Logs {
    /// Logs below this directory, which is made when it is needed.
    #[must_use]
    pub fn new(dir: PathBuf, limits: Limits) -> Self {
        Self { dir, limits, open: HashMap::new() }
    }

    /// Where a container's log is.
    #[must_use]
    pub fn path(&self, pod: &str, container: &str) -> PathBuf {
        self.dir.join(pod).join(format!("{container}.log"))
    }

    /// Adds a line; as it was written.
    ///
    /// # Errors
    /// A full disk and its kin; the next line is tried again.
    pub fn line(
        &mut self,
        pod: &str,
        container: &str,
        stderr: bool,
        line: &[u8],
    ) -> io::Result<Vec<u8>> {
        let key = (pod.to_owned(), container.to_owned());
        let path = self.path(pod, container);
        let log = match self.open.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(Log::open(path)?),
        };
        let mut text =
            format!("{} {} F ", jiff::Timestamp::now(), if stderr { "stderr" } else { "stdout" })
                .into_bytes();
        text.extend_from_slice(line);
        text.push(b'\n');
        if log.size > 0 && log.size + text.len() as u64 > self.limits.bytes {
            log.rotate(self.limits.files)?;
        }
        log.file.write_all(&text)?;
        log.size += text.len() as u64;
        Ok(text)
    }

    /// Closes the files of a pod that is gone.
    pub fn close(&mut self, pod: &str) {
        self.open.retain(|(name, _), _| name != pod);
    }
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path)?;
        let size = file.metadata()?.len();
        // A killed agent may have left half a line.
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { path, file, size })
    }

    fn rotate(&mut self, files: u32) -> io::Result<()> {
        let old = |n: u32| rotated(&self.path, n);
        for n in (1..files.saturating_sub(1)).rev() {
            match fs::rename(old(n), old(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if files > 1 {
            fs::rename(&self.path, old(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

/// The path of an older file.
fn rotated(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// The last `lines` lines of a log, older files included, the oldest first.
///
/// # Errors
/// What reading says; a log that is not there is empty.
pub fn tail(path: &Path, lines: usize, limits: Limits) -> io::Result<Vec<Vec<u8>>> {
    let mut last: Vec<Vec<u8>> = Vec::new();
    let paths = std::iter::once(path.to_owned()).chain((1..limits.files).map(|n| rotated(path, n)));
    for path in paths {
        if last.len() >= lines {
            break;
        }
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            read => read?,
        };
        let mut older: Vec<Vec<u8>> =
            bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        older.append(&mut last);
        last = older;
    }
    let skip = last.len().saturating_sub(lines);
    Ok(last.split_off(skip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rotated_and_the_tail_goes_across_them() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { bytes: 200, files: 3 };
        let mut logs = Logs::new(dir.path().join("logs"), limits);
        for n in 0..20 {
            logs.line("pod", "c", n % 2 == 1, format!("line {n:02}").as_bytes()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(dir.path().join("logs/pod"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c.log", "c.log.1", "c.log.2"]);
        for name in names {
            assert!(fs::metadata(dir.path().join("logs/pod").join(name)).unwrap().len() <= 200);
        }
        let last = tail(&logs.path("pod", "c"), 6, limits).unwrap();
        let text: Vec<String> =
            last.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        assert_eq!(text.len(), 6);
        assert!(
            text[0].ends_with("stdout F line 14\n") && text[5].ends_with("stderr F line 19\n"),
            "{text:?}"
        );
        assert!(tail(&logs.path("pod", "none"), 6, limits).unwrap().is_empty());
    }

    #[test]
    fn half_a_line_of_a_killed_agent_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pod")).unwrap();
        fs::write(dir.path().join("pod/c.log"), "2026 stdout F hal").unwrap();
        let mut logs = Logs::new(dir.path().to_owned(), Limits::default());
        logs.line("pod", "c", false, b"whole").unwrap();
        let last = tail(&logs.path("pod", "c"), 9, Limits::default()).unwrap();
        assert_eq!(last[0], b"2026 stdout F hal\n");
        assert!(last[1].ends_with(b" F whole\n"));
    }
}
