//! `holdfast.yaml`: the image map and the node's name and labels.
//!
//! ```yaml
//! images:
//!   nginx: ./rootfs              # a root directory, an OCI layout or archive, an executable, or host
//!   example/app:v2: oci:layout:v2
//! node:
//!   name: laptop
//!   labels:
//!     disk: ssd
//! ```
//!
//! Paths are relative to the directory the file is in. Every error says file:line:column.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use granit_parser::{Event, Parser, Span, StrInput};

use crate::image::{ImageName, Source};

/// What is in a `holdfast.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// `images`, in order: NAME and SOURCE for [`ImageStore::new`](crate::image::ImageStore::new).
    pub images: Vec<(String, Source)>,
    /// `images` as they are written, for a runtime with images of its own.
    pub image_texts: Vec<(String, String)>,
    /// `node.name`.
    pub node_name: Option<String>,
    /// `node.labels`.
    pub node_labels: BTreeMap<String, String>,
}

/// A `holdfast.yaml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What, and what would be right.
        message: String,
    },
}

/// More than any map of images.
const MAX_BYTES: u64 = 4 << 20;
/// Nesting beyond this is no configuration of ours.
const MAX_DEPTH: usize = 16;

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigFileError`]; `Read` with `NotFound` if there is none.
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let failed = |source| ConfigFileError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        // The size that a file says it has is no bound: a device has 0 and never ends.
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            let message = format!("it has more than {MAX_BYTES} bytes");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`, which is used for messages and relative paths only.
    ///
    /// # Errors
    /// [`ConfigFileError::Wrong`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigFileError> {
        let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options()) };
        let base = path.parent().unwrap_or(Path::new(""));
        reader.file(base).map_err(|wrong| ConfigFileError::Wrong {
            path: path.to_owned(),
            line: wrong.line,
            column: wrong.column,
            message: wrong.message,
        })
    }
}

fn options() -> granit_parser::Options {
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    options
}

/// An error with its place.
struct Wrong {
    line: usize,
    column: usize,
    message: String,
}

impl Wrong {
    fn at(span: Span, message: impl Into<String>) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1, message: message.into() }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    /// The next event that says something.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Wrong> {
        for event in self.parser.by_ref() {
            let (event, span) = event.map_err(|err| Wrong {
                line: err.marker().line(),
                column: err.marker().col() + 1,
                message: format!("not YAML: {}", err.info()),
            })?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(None),
                Event::Alias(_) => return Err(Wrong::at(span, "aliases are not supported here")),
                event => return Ok(Some((event, span))),
            }
        }
        Ok(None)
    }

    fn file(&mut self, base: &Path) -> Result<ConfigFile, Wrong> {
        let mut file = ConfigFile::default();
        let Some((start, span)) = self.next()? else { return Ok(file) };
        if !is_null(&start) {
            self.map(start, span, "the file", |this, key, at| match key {
                "images" => this.images(base, &mut file),
                "node" => this.node(&mut file),
                _ => Err(unknown(key, at, "images, node")),
            })?;
        }
        match self.next()? {
            Some((_, span)) => Err(Wrong::at(span, "there is a second document")),
            None => Ok(file),
        }
    }

    fn images(&mut self, base: &Path, file: &mut ConfigFile) -> Result<(), Wrong> {
        self.value_map("images", |this, name, at| {
            ImageName::parse(name)
                .map_err(|err| Wrong::at(at, format!("{name:?} is no image name: {err}")))?;
            let (text, span) = this.scalar(name)?;
            let source =
                Source::parse(&text, base).map_err(|err| Wrong::at(span, err.to_string()))?;
            file.images.push((name.to_owned(), source));
            file.image_texts.push((name.to_owned(), text));
            Ok(())
        })
    }

    fn node(&mut self, file: &mut ConfigFile) -> Result<(), Wrong> {
        self.value_map("node", |this, key, at| match key {
            "name" => {
                let (name, span) = this.scalar("name")?;
                if !is_node_name(&name) {
                    let message = format!(
                        "{name:?} is no node name: lower-case letters, digits, '-' and '.', at most 253"
                    );
                    return Err(Wrong::at(span, message));
                }
                file.node_name = Some(name);
                Ok(())
            }
            "labels" => this.value_map("labels", |this, label, _| {
                let (value, _) = this.scalar(label)?;
                file.node_labels.insert(label.to_owned(), value);
                Ok(())
            }),
            _ => Err(unknown(key, at, "name, labels")),
        })
    }

    /// The mapping that comes next; nothing at all is an empty one.
    fn value_map(
        &mut self,
        what: &str,
        entry: impl FnMut(&mut Self, &str, Span) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        match self.next()? {
            Some((event, _)) if is_null(&event) => Ok(()),
            Some((event, span)) => self.map(event, span, what, entry),
            None => Ok(()),
        }
    }

    /// Reads a mapping whose first event is `start`; `entry` reads the value of each key.
    fn map(
        &mut self,
        start: Event<'a>,
        span: Span,
        what: &str,
        mut entry: impl FnMut(&mut Self, &str, Span) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        if !matches!(start, Event::MappingStart(..)) {
            return Err(Wrong::at(span, format!("{what} must be a mapping of names to values")));
        }
        let mut seen: Vec<String> = Vec::new();
        loop {
            match self.next()? {
                Some((Event::MappingEnd, _)) | None => return Ok(()),
                Some((Event::Scalar(key, ..), at)) => {
                    if seen.iter().any(|known| *known == *key) {
                        return Err(Wrong::at(at, format!("{key:?} is there twice")));
                    }
                    entry(self, &key, at)?;
                    seen.push(key.into_owned());
                }
                Some((_, at)) => return Err(Wrong::at(at, "a key must be a plain word")),
            }
        }
    }

    /// A scalar, as it is written.
    fn scalar(&mut self, of: &str) -> Result<(String, Span), Wrong> {
        match self.next()? {
            Some((event, span)) if is_null(&event) => {
                Err(Wrong::at(span, format!("{of:?} has no value")))
            }
            Some((Event::Scalar(text, ..), span)) => Ok((text.into_owned(), span)),
            Some((_, span)) => {
                Err(Wrong::at(span, format!("the value of {of:?} must be a string")))
            }
            None => Err(Wrong { line: 1, column: 1, message: format!("{of:?} has no value") }),
        }
    }
}

/// Nothing, `~` or `null`, unquoted.
fn is_null(event: &Event<'_>) -> bool {
    use granit_parser::ScalarStyle::Plain;
    matches!(event, Event::Scalar(text, Plain, ..) if matches!(&**text, "" | "~" | "null"))
}

fn unknown(key: &str, at: Span, known: &str) -> Wrong {
    Wrong::at(at, format!("unknown field {key:?}; known here: {known}"))
}

/// A DNS subdomain (RFC 1123), as the API server wants it.
fn is_node_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(|&b| edge(b))
                && bytes.last().is_some_and(|&b| edge(b))
                && bytes.iter().all(|&b| edge(b) || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(text, Path::new("/conf/holdfast.yaml")).map_err(|err| err.to_string())
    }

    #[test]
    fn images_and_node() {
        let file = parse(
            "# what we run\nimages:\n  nginx: ./root\n  \"example/app:v2\": host\n  x: exec:/bin/x\n\
             node:\n  name: laptop.local\n  labels: {disk: ssd, \"n\": 1, empty: \"\"}\n",
        )
        .unwrap();
        assert_eq!(
            file.images,
            [
                ("nginx".to_owned(), Source::Auto("/conf/./root".into())),
                ("example/app:v2".to_owned(), Source::Host),
                ("x".to_owned(), Source::Exec("/bin/x".into())),
            ]
        );
        assert_eq!(file.node_name.as_deref(), Some("laptop.local"));
        let labels: Vec<_> = file.node_labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["disk=ssd", "empty=", "n=1"]);
        for empty in ["", "---\n", "{}", "images:\nnode:\n", "# nothing\n", "null"] {
            assert_eq!(parse(empty), Ok(ConfigFile::default()), "{empty:?}");
        }
        assert_eq!(parse(r#"{"images": {"a": "host"}}"#).unwrap().images.len(), 1);
    }

    #[test]
    fn errors_have_a_place() {
        for (text, place, words) in [
            ("imagez:\n  a: b\n", "1:1", "unknown field \"imagez\"; known here: images, node"),
            ("node:\n  names: x\n", "2:3", "unknown field \"names\"; known here: name, labels"),
            ("images:\n  a: host\n  a: host\n", "3:3", "\"a\" is there twice"),
            ("images:\n  BAD: host\n", "2:3", "\"BAD\" is no image name"),
            ("images:\n  a:\n", "2:", "\"a\" has no value"),
            ("images:\n  a: \"dir:\"\n", "2:6", "is empty"),
            ("images:\n  a: [host]\n", "2:6", "must be a string"),
            ("images: [a]\n", "1:9", "images must be a mapping"),
            ("- a\n", "1:1", "the file must be a mapping"),
            ("node: {name: A_B}\n", "1:14", "is no node name"),
            ("images: {}\n---\nimages: {}\n", "3:1", "there is a second document"),
            ("images: &a {}\nnode: *a\n", "2:7", "aliases are not supported here"),
            ("images: {\n", "1:9", "not YAML"),
            ("? [a]\n: b\n", "1:3", "a key must be a plain word"),
        ] {
            let error = parse(text).unwrap_err();
            let start = format!("/conf/holdfast.yaml:{place}");
            assert!(error.starts_with(&start), "{text:?}: {error}");
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
        let none = ConfigFile::read(Path::new("/no/such/holdfast.yaml")).unwrap_err();
        assert_eq!(none.to_string(), "cannot read /no/such/holdfast.yaml");
        let endless = ConfigFile::read(Path::new("/dev/zero")).unwrap_err();
        let why = std::error::Error::source(&endless).unwrap().to_string();
        assert_eq!(why, format!("it has more than {MAX_BYTES} bytes"));
    }
}
