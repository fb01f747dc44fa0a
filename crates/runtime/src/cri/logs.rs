//! The log of a container as a CRI runtime writes it, read while it is written.
//!
//! Each line of the file is `TIME stdout|stderr P|F[:TAG…] TEXT`: a line of the container, or a part of
//! one if the tag is `P`. The file may be moved away and a new one begun at any time.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::inotify::{Inotify, Watch};
use crate::process::output::Lines;

/// A line of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Whether it went to stderr.
    pub(super) stderr: bool,
    /// Without its end.
    pub(super) text: Vec<u8>,
}

/// Reads one log from its beginning.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    inotify: Inotify,
    open: Option<Current>,
    /// The current file has another name by now, and there is no new one yet.
    moved: bool,
    parser: Parser,
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    file: File,
    watch: Watch,
    inode: u64,
    read: u64,
}

/// Puts lines together.
#[derive(Debug, Default)]
struct Parser {
    /// The beginning of a line of the file.
    begun: Vec<u8>,
    streams: [Lines; 2],
}

impl LogReader {
    /// The runtime makes the file in its own time.
    pub(super) fn new(path: PathBuf, inotify: Inotify) -> Self {
        Self { path, inotify, open: None, moved: false, parser: Parser::default() }
    }

    /// How many bytes of the current file have been read.
    pub(super) fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.read)
    }

    /// Reads the next piece, at most 64 KiB; `None` if there is no more at the moment.
    ///
    /// # Errors
    /// The system's; a file that is not there (yet) is none.
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<Line>>> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let Some(open) = self.opened()? else { return Ok(None) };
            let read = open.file.read(&mut buffer)?;
            open.read += read as u64;
            if read > 0 {
                let mut lines = Vec::new();
                self.parser.push(&buffer[..read], |line| lines.push(line));
                return Ok(Some(lines));
            }
            let moved = open.watch.was_moved();
            self.moved |= moved;
            if !self.moved || !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// The last lines of the file of this name, as far back as a termination message may reach (kubelet:
    /// `readLastStringFromContainerLogs`), wherever it has been read to.
    pub(super) fn last_lines(&self) -> io::Result<Vec<Line>> {
        let mut file = File::open(&self.path)?;
        let from = file.metadata()?.len().saturating_sub(LAST);
        file.seek(io::SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LAST).read_to_end(&mut bytes)?;
        let whole = match from {
            0 => &bytes[..],
            // The first is a part of one.
            _ => bytes.splitn(2, |&byte| byte == b'\n').nth(1).unwrap_or_default(),
        };
        let (mut parser, mut lines) = (Parser::default(), Vec::new());
        parser.push(whole, |line| lines.push(line));
        parser.finish(|line| lines.push(line));
        Ok(lines)
    }

    /// What is left without a line end, when nothing more will come.
    pub(super) fn finish(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        self.parser.finish(|line| lines.push(line));
        lines
    }

    /// Waits until there may be more.
    pub(super) async fn changed(&self) {
        match &self.open {
            Some(open) if !self.moved => open.watch.changed().await,
            // The moment between a move and the runtime's noticing it; else the file is there before
            // the container starts.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }

    /// Whether the runtime has closed the current file; `None` if there is none, or none that is current.
    pub(super) fn is_closed(&self) -> Option<bool> {
        let open = self.open.as_ref().filter(|_| !self.moved)?;
        Some(open.watch.is_closed())
    }

    /// Opens the file, so that nothing that happens to it from now on is missed.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.opened().map(drop)
    }

    /// Waits until the runtime has closed the current file, after it was told to begin a new one.
    pub(super) async fn closed(&self) {
        if let Some(open) = &self.open {
            open.watch.closed().await;
        }
    }

    fn opened(&mut self) -> io::Result<Option<&mut Current>> {
        if self.open.is_none() {
            self.open = Current::of(&self.path, &self.inotify)?;
        }
        Ok(self.open.as_mut())
    }

    /// Goes on with the new file of this name, if there is one.
    pub(super) fn go_on(&mut self) -> io::Result<bool> {
        let current = self.open.as_ref().map(|open| open.inode);
        match fs::metadata(&self.path) {
            Ok(meta) if Some(meta.ino()) != current => {
                self.open = Current::of(&self.path, &self.inotify)?;
                self.moved = self.open.is_none();
                Ok(!self.moved)
            }
            Ok(_) => {
                self.moved = false;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Current {
    fn of(path: &Path, inotify: &Inotify) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // Watched before it is read: what is written from now on is told.
        let watch = match inotify.watch(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Self { file, watch, inode, read: 0 }))
    }
}

impl Parser {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Line)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (now, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.begun.is_empty() {
                Self::entry(&mut self.streams, now, &mut line);
            } else {
                self.begun.extend_from_slice(now);
                Self::entry(&mut self.streams, &std::mem::take(&mut self.begun), &mut line);
            }
        }
        self.begun.extend_from_slice(bytes);
        if self.begun.len() > MAX_ENTRY {
            // No runtime writes such lines: keep our memory.
            Self::entry(&mut self.streams, &std::mem::take(&mut self.begun), &mut line);
        }
    }

    fn finish(&mut self, mut line: impl FnMut(Line)) {
        if !self.begun.is_empty() {
            // The disk was full, or the runtime was killed in the middle of it.
            Self::entry(&mut self.streams, &std::mem::take(&mut self.begun), &mut line);
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.finish(|text| line(Line { stderr: index == 1, text }));
        }
    }

    fn entry(streams: &mut [Lines; 2], entry: &[u8], line: &mut impl FnMut(Line)) {
        let Some((stderr, partial, text)) = parse(entry) else {
            // Not of this format: better shown as it is than not at all.
            return line(Line { stderr: false, text: entry.to_owned() });
        };
        let stream = &mut streams[usize::from(stderr)];
        let mut take = |text| line(Line { stderr, text });
        stream.push(text, &mut take);
        if !partial {
            stream.push(b"\n", &mut take);
        }
    }
}

/// Stream, whether it is a part of a line, and text (kubelet: `parseCRILog`).
fn parse(entry: &[u8]) -> Option<(bool, bool, &[u8])> {
    let mut fields = entry.splitn(4, |&byte| byte == b' ');
    let _time = fields.next()?;
    let stderr = match fields.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = match fields.next()?.split(|&byte| byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some((stderr, partial, fields.next().unwrap_or_default()))
}

/// More than the entries of a termination message can take, which is 80 lines and 2 KiB of text.
const LAST: u64 = 64 * 1024;
/// More than any entry: containerd splits at 16 KiB unless told otherwise.
const MAX_ENTRY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str]) -> Vec<(bool, String)> {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        let mut take = |line: Line| out.push((line.stderr, String::from_utf8(line.text).unwrap()));
        for chunk in chunks {
            parser.push(chunk.as_bytes(), &mut take);
        }
        parser.finish(take);
        out
    }

    const T: &str = "2026-11-20T10:00:00.000000001Z";

    #[test]
    fn lines_are_put_together_from_their_parts() {
        let out = |text: &str| (false, text.to_owned());
        let err = |text: &str| (true, text.to_owned());
        let log =
            format!("{T} stdout F one\n{T} stderr P tw\n{T} stdout F three\n{T} stderr F o\n");
        assert_eq!(lines(&[&log]), [out("one"), out("three"), err("two")]);
        // In whatever pieces it is read.
        for at in 0..log.len() {
            assert_eq!(lines(&[&log[..at], &log[at..]]), [out("one"), out("three"), err("two")]);
        }
        assert_eq!(lines(&[&format!("{T} stdout F \n")]), [out("")]);
        assert_eq!(lines(&[&format!("{T} stdout F:x:y a b  c\n")]), [out("a b  c")]);
        assert_eq!(lines(&[&format!("{T} stdout P no end\n")]), [out("no end")]);
        assert_eq!(lines(&[&format!("{T} stdout F cut sho")]), [out("cut sho")]);
        assert_eq!(lines(&["nonsense\n"]), [out("nonsense")]);
    }

    #[test]
    fn memory_is_bounded() {
        let long = "x".repeat(3 * MAX_ENTRY);
        let text = format!("{T} stdout F {long}");
        let pieces: Vec<&str> =
            text.as_bytes().chunks(4096).map(|c| std::str::from_utf8(c).unwrap()).collect();
        let got = lines(&pieces);
        assert_eq!(got.iter().map(|line| line.1.len()).sum::<usize>(), long.len());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_new_file_is_gone_on_with() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let temp = tempfile::tempdir().unwrap();
                let path = temp.path().join("0.log");
                let inotify = Inotify::new().unwrap();
                let mut reader = LogReader::new(path.clone(), inotify.clone());
                assert_eq!(reader.read().unwrap(), None);
                let mut read = async |expected: &str| {
                    loop {
                        if let Some(lines) = reader.read().unwrap() {
                            let texts: Vec<String> = lines
                                .into_iter()
                                .map(|line| String::from_utf8(line.text).unwrap())
                                .collect();
                            return assert_eq!(texts.join("|"), expected);
                        }
                        reader.changed().await;
                    }
                };
                fs::write(&path, format!("{T} stdout F a\n{T} stdout P b")).unwrap();
                read("a").await;
                // The writer goes on with the old file for a moment.
                let mut old = File::options().append(true).open(&path).unwrap();
                fs::rename(&path, temp.path().join("old")).unwrap();
                io::Write::write_all(&mut old, b"\n").unwrap();
                fs::write(&path, format!("{T} stdout F c\n{T} stdout F d\n")).unwrap();
                // The file's line is complete, the container's is not.
                read("").await;
                read("bc|d").await;
                inotify.end();
            })
            .await;
    }
}
