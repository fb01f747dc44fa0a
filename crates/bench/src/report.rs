//! What comes out: sections of rows, as Markdown.

use std::fmt;

/// One measured thing.
#[derive(Clone, Debug, Default)]
pub struct Row {
    what: String,
    wanted: String,
    got: String,
    verdict: Option<bool>,
}

/// A table with a heading.
#[derive(Clone, Debug, Default)]
pub struct Section {
    title: String,
    text: String,
    rows: Vec<Row>,
    after: Vec<String>,
}

impl Row {
    /// A row about this.
    pub fn new(what: &str) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// What was wanted of it.
    #[must_use]
    pub fn wanted(mut self, wanted: &str) -> Self {
        self.wanted = wanted.into();
        self
    }

    /// What was measured.
    #[must_use]
    pub fn got(mut self, got: &str) -> Self {
        self.got = got.into();
        self
    }

    /// Whether that is what was wanted.
    #[must_use]
    pub const fn ok(mut self, ok: bool) -> Self {
        self.verdict = Some(ok);
        self
    }
}

impl Section {
    /// A section without rows.
    pub fn new(title: &str, text: &str) -> Self {
        Self { title: title.into(), text: text.into(), ..Self::default() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a paragraph below the table.
    pub fn note(&mut self, text: String) {
        self.after.push(text);
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        if !self.text.is_empty() {
            writeln!(f, "{}\n", self.text)?;
        }
        if !self.rows.is_empty() {
            writeln!(f, "| what | wanted | got | |\n|---|---|---|---|")?;
        }
        for row in &self.rows {
            let verdict = match row.verdict {
                None => "",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            writeln!(f, "| {} | {} | {} | {verdict} |", row.what, row.wanted, row.got)?;
        }
        for text in &self.after {
            writeln!(f, "\n{text}")?;
        }
        writeln!(f)
    }
}
