//! A named piece of text, and where an offset in it lies.

use std::ops::Range;

/// A file (or stdin) as read by the caller.
#[derive(Clone, Debug)]
pub struct Source {
    /// What messages call it: the path, or `<stdin>`.
    pub name: String,
    /// What was read.
    pub bytes: Vec<u8>,
}

impl Source {
    /// A source with this name and these bytes.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

/// A place in a text, for people: both numbers start at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A text with an index of its lines.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
    /// The offset of each line's first byte.
    lines: Vec<usize>,
}

impl Text {
    pub(crate) fn new(name: String, text: String) -> Self {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { name, text, lines }
    }

    /// The nearest offset at or before `offset` that is inside the text and between characters.
    pub(crate) fn clamp(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset.min(self.text.len()))
    }

    /// The index of the line (from 0) that holds `offset`.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// Line and column of an offset.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = self.clamp(offset);
        let line = self.line_of(offset);
        let column = self.text[self.lines[line]..offset].chars().count() + 1;
        Position { line: line + 1, column }
    }

    /// The bytes of a line (from 0), without its end.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line + 1).map_or(self.text.len(), |&next| next - 1);
        start..end.max(start)
    }
}
