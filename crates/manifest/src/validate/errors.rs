//! Collects findings; beyond a limit they are only counted.

use std::fmt::Debug;

use crate::diagnostic::{Fault, FieldError};
use crate::path::Path;

pub(super) struct Errors {
    list: Vec<FieldError>,
    max: usize,
    omitted: usize,
}

impl Errors {
    pub(super) fn new(max: usize) -> Self {
        Self { list: Vec::new(), max, omitted: 0 }
    }

    pub(super) fn into_parts(self) -> (Vec<FieldError>, usize) {
        (self.list, self.omitted)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len() + self.omitted
    }

    fn push(&mut self, path: Path<'_>, fault: Fault) {
        if self.list.len() >= self.max {
            self.omitted += 1;
            return;
        }
        self.list.push(FieldError { path: path.to_owned(), fault, help: None, span: None });
    }

    /// Adds advice to the last finding.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        if let (Some(last), 0) = (self.list.last_mut(), self.omitted) {
            last.help = Some(help.into());
        }
    }

    pub(super) fn required(&mut self, path: Path<'_>, detail: impl Into<String>) {
        self.push(path, Fault::Required(detail.into()));
    }

    pub(super) fn invalid(&mut self, path: Path<'_>, value: impl Debug, detail: impl Into<String>) {
        let value = clipped(format!("{value:?}"));
        let placeholder = value.contains("{{") || value.contains("${");
        self.push(path, Fault::Invalid { value, detail: detail.into() });
        if placeholder {
            self.help("this looks like a placeholder of a template: render the template first");
        }
    }

    /// An invalid value that is not a scalar, shown as JSON.
    pub(super) fn invalid_json(
        &mut self,
        path: Path<'_>,
        value: &impl serde::Serialize,
        detail: impl Into<String>,
    ) {
        let value = clipped(serde_json::to_string(value).unwrap_or_default());
        self.push(path, Fault::Invalid { value, detail: detail.into() });
    }

    /// An invalid value that is not shown.
    pub(super) fn invalid_bare(&mut self, path: Path<'_>, detail: impl Into<String>) {
        self.push(path, Fault::Invalid { value: String::new(), detail: detail.into() });
    }

    pub(super) fn not_supported(&mut self, path: Path<'_>, value: &str, supported: &[&str]) {
        let help = crate::suggest::nearest(value, supported)
            .filter(|_| !value.is_empty())
            .map(|word| format!("did you mean {word:?}?"));
        let value = clipped(format!("{value:?}"));
        let supported = supported.iter().map(|&s| s.to_owned()).collect();
        self.push(path, Fault::NotSupported { value, supported });
        if let Some(help) = help {
            self.help(help);
        }
    }

    pub(super) fn duplicate(&mut self, path: Path<'_>, value: impl Debug) {
        self.push(path, Fault::Duplicate(clipped(format!("{value:?}"))));
    }

    pub(super) fn not_found(&mut self, path: Path<'_>, value: &str) {
        self.push(path, Fault::NotFound(clipped(format!("{value:?}"))));
    }

    pub(super) fn forbidden(&mut self, path: Path<'_>, detail: impl Into<String>) {
        self.push(path, Fault::Forbidden(detail.into()));
    }

    pub(super) fn too_long(&mut self, path: Path<'_>, max: usize) {
        self.push(path, Fault::TooLong(format!("may not be more than {max} bytes")));
    }

    pub(super) fn too_many(&mut self, path: Path<'_>, actual: usize, max: usize) {
        self.push(path, Fault::TooMany { actual, max });
    }
}

/// A shown value of at most 256 characters.
fn clipped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(256) {
        text.truncate(end);
        text.push('…');
    }
    text
}
