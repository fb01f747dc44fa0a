//! What is wrong with a manifest, in Kubernetes' words, and where.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::path::FieldPath;
use crate::source::{Position, Text};

/// What is wrong with a field (`k8s.io/apimachinery/pkg/util/validation/field.ErrorType`, and what
/// decoding adds).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The field does not exist.
    UnknownField {
        /// The field that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// The value has another type than the field.
    WrongType {
        /// The field's type.
        expected: &'static str,
        /// The value and its type.
        found: String,
    },
    /// The value cannot be read; it is not shown.
    Malformed(String),
    /// A value is missing.
    Required(String),
    /// A value breaks a rule.
    Invalid {
        /// The value as JSON.
        value: String,
        /// The rule.
        detail: String,
    },
    /// A value is not one of a fixed set.
    NotSupported {
        /// The value.
        value: String,
        /// The set.
        supported: Vec<String>,
    },
    /// A value that must be unique is there twice.
    Duplicate(String),
    /// A value refers to something that is not there.
    NotFound(String),
    /// The field may not be set here.
    Forbidden(String),
    /// The value is too long; it is not shown.
    TooLong(String),
    /// A list has too many items.
    TooMany {
        /// How many it has.
        actual: usize,
        /// How many it may have.
        max: usize,
    },
    /// Kubernetes would take it, but whoever runs the object here cannot ([`Refuse`](crate::Refuse)).
    Refused(String),
}

/// The message without the field's path, as Kubernetes writes it (`Error.ErrorBody`).
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_detail = |f: &mut fmt::Formatter<'_>, kind: &str, detail: &str| {
            f.write_str(kind)?;
            if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
        };
        match self {
            Self::UnknownField { .. } => f.write_str("unknown field"),
            Self::WrongType { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Malformed(detail) | Self::Refused(detail) => f.write_str(detail),
            Self::Required(detail) => with_detail(f, "Required value", detail),
            Self::Invalid { value, detail } if value.is_empty() => {
                with_detail(f, "Invalid value", detail)
            }
            Self::Invalid { value, detail } => {
                with_detail(f, &format!("Invalid value: {value}"), detail)
            }
            Self::NotSupported { value, supported } => {
                write!(f, "Unsupported value: {value}")?;
                for (i, word) in supported.iter().enumerate() {
                    f.write_str(if i == 0 { ": supported values: " } else { ", " })?;
                    write!(f, "{word:?}")?;
                }
                Ok(())
            }
            Self::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Self::NotFound(value) => write!(f, "Not found: {value}"),
            Self::Forbidden(detail) => with_detail(f, "Forbidden", detail),
            Self::TooLong(detail) => with_detail(f, "Too long", detail),
            Self::TooMany { actual, max } => {
                write!(f, "Too many: {actual}: must have at most {max} items")
            }
        }
    }
}

/// A fault of one field of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) path: FieldPath,
    pub(crate) fault: Fault,
    pub(crate) help: Option<String>,
    /// The bytes to show, if they are known already.
    pub(crate) span: Option<Range<usize>>,
}

impl FieldError {
    /// Path and message in one line.
    fn message(&self) -> String {
        match (&self.fault, self.path.0.is_empty()) {
            (Fault::UnknownField { .. }, _) => format!("unknown field \"{}\"", self.path),
            (fault, true) => fault.to_string(),
            (fault, false) => format!("{}: {fault}", self.path),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The object cannot be run.
    Error,
    /// Something is left out or will not be as expected.
    Warning,
}

/// One finding about a source.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The object, such as `Pod/web`; empty if the document could not be read.
    pub object: String,
    /// The field; empty for a whole document.
    pub field: FieldPath,
    /// What is wrong with the field; `None` for a whole document.
    pub fault: Option<Fault>,
    /// The message: the field's path and what is wrong with it.
    pub message: String,
    /// The likely cause, or what to do.
    pub help: Option<String>,
    text: Arc<Text>,
    span: Range<usize>,
}

impl Diagnostic {
    pub(crate) fn field(
        severity: Severity,
        object: String,
        error: FieldError,
        text: &Arc<Text>,
        span: Range<usize>,
    ) -> Self {
        let message = error.message();
        Self {
            severity,
            object,
            field: error.path,
            fault: Some(error.fault),
            message,
            help: error.help,
            text: Arc::clone(text),
            span,
        }
    }

    pub(crate) fn document(
        severity: Severity,
        message: impl Into<String>,
        help: Option<String>,
        text: &Arc<Text>,
        span: Range<usize>,
    ) -> Self {
        Self {
            severity,
            object: String::new(),
            field: FieldPath::default(),
            fault: None,
            message: message.into(),
            help,
            text: Arc::clone(text),
            span,
        }
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.text.name
    }

    /// The offsets of the marked bytes in the source.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the marked bytes begin.
    pub fn position(&self) -> Position {
        self.text.position(self.span.start)
    }

    /// The finding with the offending line marked, as rustc shows its own.
    pub fn render(&self, style: Style) -> String {
        /// A line longer than this (JSON without breaks, binary) is not shown.
        const MAX_LINE: usize = 400;
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colored => Renderer::styled(),
        };
        let title = match self.object.is_empty() {
            true => printable(&self.message),
            false => printable(&format!("{}: {}", self.object, self.message)),
        };
        let help = self.help.as_deref().map(printable);
        let text = &*self.text;
        let start = text.clamp(self.span.start);
        let line = text.line_of(start);
        let window = text.line_range(line);
        let shown = &text.text[window.clone()];
        let visible = shown.lines().all(|l| l.len() <= MAX_LINE && !l.contains(is_unprintable));
        let mut group = if visible {
            let end = text.clamp(self.span.end.min(window.end)).max(start);
            let mark = start - window.start..end - window.start;
            let snippet = Snippet::source(shown)
                .path(&text.name)
                .line_start(line + 1)
                .annotation(AnnotationKind::Primary.span(mark));
            level.primary_title(&title).element(snippet)
        } else {
            let at = text.position(start);
            let origin =
                annotate_snippets::Origin::path(&text.name).line(at.line).char_column(at.column);
            level.primary_title(&title).element(origin)
        };
        if let Some(help) = &help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group]).to_string()
    }
}

/// `file:line:column: error: Pod/web: spec…: message (help)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{line}:{column}: {severity}: ", self.text.name)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", printable(&self.object))?;
        }
        f.write_str(&printable(&self.message))?;
        match &self.help {
            Some(help) => write!(f, " ({})", printable(help)),
            None => Ok(()),
        }
    }
}

fn is_unprintable(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// Control characters of the input never reach a terminal raw.
fn printable(text: &str) -> String {
    match text.contains(is_unprintable) {
        false => text.to_owned(),
        true => text
            .chars()
            .map(|c| if is_unprintable(c) { c.escape_default().to_string() } else { c.into() })
            .collect(),
    }
}

/// Whether rendered findings have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain text, for files and pipes.
    Plain,
    /// With terminal colours.
    Colored,
}

/// All findings of a load, in the order of the sources.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Findings that were counted but not kept.
    omitted: usize,
}

impl Diagnostics {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub(crate) fn omit(&mut self, count: usize) {
        self.omitted += count;
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The findings.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many more there were than are kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.iter().any(|d| d.severity == Severity::Error)
    }

    /// Every finding with its line marked, an empty line between two.
    pub fn render(&self, style: Style) -> String {
        let mut parts: Vec<String> = self.iter().map(|d| d.render(style)).collect();
        if self.omitted > 0 {
            parts.push(format!("… and {} more", self.omitted));
        }
        parts.join("\n\n")
    }
}

/// One line a finding.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\n… and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
