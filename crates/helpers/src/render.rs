//! Writes a file from a template: atomically, idempotently, and never with a placeholder in it.
//!
//! What `cp` and `sed -i` in an init container promise and do not keep: while they run, a half-made file
//! is in place; run again, they go back to the placeholder; killed between the two, they leave it for
//! ever. Here the new file is whole before it gets its name, nothing is touched when nothing has
//! changed, and without a value the old file stays.

mod source;
mod template;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use source::{Metadata, ParseSourceError, Source, SourceError};
pub use template::{Syntax, TemplateError};

pub use crate::place::Change;

use crate::change::PathWatch;
use crate::place::{self, Attributes};

/// What to render, and where.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The template.
    pub from: PathBuf,
    /// The file it makes.
    pub to: PathBuf,
    /// How placeholders are written; by the template's name if `None`.
    pub syntax: Option<Syntax>,
    /// What words stand for.
    pub replace: BTreeMap<String, Source>,
    /// Where labels and annotations come from.
    pub metadata: Metadata,
}

/// Why nothing was rendered. The file that was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template cannot be read.
    #[error("cannot read the template {}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A value is missing.
    #[error("no value for {word}: {cause}")]
    Source {
        /// What it was for.
        word: String,
        /// Why.
        cause: SourceError,
    },
    /// The template cannot be rendered.
    #[error("{}:{cause}", path.display())]
    Template {
        /// Which.
        path: PathBuf,
        /// Where and why.
        cause: TemplateError,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// The largest template, the largest file that is a value, and the largest that Jinja may make: more is a
/// mistake.
const LIMIT: u64 = 16 << 20;

/// When the inputs are looked at again of which the kernel has told nothing.
const AGAIN: Duration = Duration::from_secs(5);

/// What came of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What was done to the file, or with `check` what would be.
    pub change: Change,
    /// Words to be replaced that the template does not have.
    pub unused: Vec<String>,
}

/// Renders once; with `check` only says what would change.
///
/// # Errors
/// See [`RenderError`]; the file is as it was.
pub fn render(wish: &Wish, check: bool) -> Result<Rendered, RenderError> {
    let read = |cause: String| RenderError::Read { path: wish.from.clone(), cause };
    let template = read_limited(&wish.from).map_err(|e| read(e.to_string()))?;
    let template = String::from_utf8(template).map_err(|e| {
        read(format!("it is no UTF-8 text (byte {})", e.utf8_error().valid_up_to()))
    })?;
    let mut values = BTreeMap::new();
    for (word, source) in &wish.replace {
        let value = source.value(&wish.metadata);
        let value = value.map_err(|cause| RenderError::Source { word: word.clone(), cause })?;
        values.insert(word.clone(), value);
    }
    let syntax = wish.syntax.unwrap_or_else(|| Syntax::of(&wish.from));
    let text = template::expand(&template, syntax, &values, &wish.metadata)
        .map_err(|cause| RenderError::Template { path: wish.from.clone(), cause })?;
    let unused = values.keys().filter(|word| !template.contains(word.as_str())).cloned().collect();
    let change = place::put(&wish.to, text.as_bytes(), Attributes::Kept, check)
        .map_err(|cause| RenderError::Write { path: wish.to.clone(), cause })?;
    Ok(Rendered { change, unused })
}

/// Renders, and again after each change of the template or of a file that a value comes from; `tell`
/// gets what came of each. Never ends.
///
/// Runs inside of a tokio runtime with I/O and time.
pub async fn watch(
    wish: &Wish,
    mut tell: impl FnMut(Result<Rendered, RenderError>),
) -> std::convert::Infallible {
    let sources = wish.replace.values().filter_map(Source::file);
    let inputs = std::iter::once(&*wish.from).chain(wish.metadata.files()).chain(sources);
    let mut inputs = PathWatch::new(inputs, AGAIN);
    loop {
        inputs.arm();
        tell(render(wish, false));
        inputs.changed().await;
    }
}

/// Reads a file that may be no larger than [`LIMIT`].
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        let words = format!("it is larger than {} MiB", LIMIT >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}
