//! A container's output: lines, and the tail that may become its termination message.

use std::io;
use std::os::fd::AsFd;

/// A longer line comes in pieces (the CRI's log format does the same).
const MAX_LINE: usize = 16 * 1024;
/// kubelet: `MaxContainerTerminationMessageLogLength` and `…LogLines`.
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and gives the lines that are complete by now, without their ends.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Vec<u8>)) {
        while let Some(&first) = bytes.first() {
            let room = MAX_LINE - self.partial.len();
            if first == b'\n' {
                line(std::mem::take(&mut self.partial));
                bytes = &bytes[1..];
                continue;
            }
            if room == 0 {
                line(std::mem::take(&mut self.partial));
                continue;
            }
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let (now, rest) = bytes.split_at(end.unwrap_or(bytes.len().min(room)));
            self.partial.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// Gives what is left without a line end.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(Vec<u8>)) {
        if !self.partial.is_empty() {
            line(std::mem::take(&mut self.partial));
        }
    }
}

/// The end of a container's log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Adds a line.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(&line[line.len().saturating_sub(TAIL_BYTES)..]);
        self.bytes.push(b'\n');
        if self.bytes.len() > 4 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    /// The last 80 lines, at most 2048 bytes.
    pub(crate) fn text(&self) -> String {
        let bytes = &self.bytes[self.bytes.len().saturating_sub(TAIL_BYTES)..];
        let mut start = bytes.len();
        let mut lines = 0;
        for (at, byte) in bytes.iter().enumerate().rev() {
            if *byte == b'\n' {
                lines += 1;
                if lines > TAIL_LINES {
                    break;
                }
            }
            start = at;
        }
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

/// Reads what is in a pipe right now, without asking the reactor (which may not have seen it yet).
/// True when there is nothing more and never will be.
pub(crate) fn drain(pipe: &impl AsFd, mut chunk: impl FnMut(&[u8])) -> bool {
    let mut buffer = [0; 16 * 1024];
    loop {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return true,
            Ok(read) => chunk(&buffer[..read]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return false,
            Err(_) => return true,
        }
    }
}

/// A pipe whose reading end is the reactor's.
pub(crate) fn pipe() -> io::Result<(tokio::net::unix::pipe::Receiver, std::os::fd::OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((tokio::net::unix::pipe::Receiver::from_owned_fd(read)?, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, |line| out.push(line));
        }
        lines.finish(|line| out.push(line));
        out
    }

    #[test]
    fn lines_are_put_together_across_chunks() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(lines(&[b"", b"x\n"]), [b"x"]);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = vec![b'x'; MAX_LINE + 1];
        let got = lines(&[&long, b"\ny\n"]);
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 1, 1]);
        let exact = vec![b'x'; MAX_LINE];
        assert_eq!(lines(&[&exact, b"\n"]).len(), 1);
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(format!("{number}").as_bytes());
        }
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.starts_with("920\n") && text.ends_with("999\n"), "{text}");
        tail.push(&[b'z'; 5000]);
        assert_eq!(tail.text().len(), TAIL_BYTES);
        assert_eq!(Tail::default().text(), "");
    }
}
