//! The machine's serial console: passed on to stdout, and remembered for when something goes wrong.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// How the line begins that says that the machine is up.
pub(super) const UP: &str = "holdfast-vm: up:";

/// How many lines are repeated when something went wrong.
const TAIL: usize = 30;

/// The console.
pub(super) struct Console {
    lines: Receiver<String>,
    tail: RefCell<VecDeque<String>>,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The machine says that it is up.
    Up,
    /// Something else.
    Line,
    /// The machine is gone.
    End,
    /// Nothing in that time.
    Nothing,
}

impl Console {
    pub(super) fn listen(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = readable(&String::from_utf8_lossy(&line));
                line.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self { lines, tail: RefCell::default() }
    }

    /// Prints the next line.
    pub(super) fn next(&self, deadline: Instant) -> Heard {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => return Heard::End,
        };
        // Nobody may be reading any more; the result counts.
        let _ = writeln!(std::io::stdout(), "{line}");
        let heard = if line.starts_with(UP) { Heard::Up } else { Heard::Line };
        let mut tail = self.tail.borrow_mut();
        tail.push_back(line);
        if tail.len() > TAIL {
            tail.pop_front();
        }
        heard
    }

    /// The last lines.
    pub(super) fn tail(&self) -> String {
        let tail = self.tail.borrow();
        let lines = tail.iter().map(|line| format!("  {line}\n"));
        if tail.is_empty() { "  (nothing)\n".to_owned() } else { lines.collect() }
    }
}

/// A line without what a terminal would make of it; the firmware begins with codes that clear one.
fn readable(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            // ESC [ … letter, or ESC and one more.
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    let _ = chars.find(char::is_ascii_alphabetic);
                }
            }
            '\t' => out.push(char),
            char if char.is_control() => {}
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_made_readable() {
        assert_eq!(readable("\u{1b}c\u{1b}[?7l\u{1b}[2JSeaBIOS\r\n"), "SeaBIOS");
        assert_eq!(readable("a\tb \u{1b}[31mred\u{1b}[0m\r\n"), "a\tb red");
    }

    #[test]
    fn what_is_heard() {
        let soon = || Instant::now() + Duration::from_secs(5);
        let console = Console::listen(&b"boot\r\nholdfast-vm: up: 6.1\r\nlast"[..]);
        assert_eq!(console.next(soon()), Heard::Line);
        assert_eq!(console.next(soon()), Heard::Up);
        assert_eq!(console.next(soon()), Heard::Line);
        assert_eq!(console.next(soon()), Heard::End);
        assert_eq!(console.tail(), "  boot\n  holdfast-vm: up: 6.1\n  last\n");
        let (_open, silent) = std::io::pipe().map(|(r, w)| (w, r)).unwrap();
        let silent = Console::listen(silent);
        assert_eq!(silent.next(Instant::now()), Heard::Nothing);
    }
}
