//! Where values come from: `value:TEXT`, `env:NAME`, `file:PATH`, `label:KEY`, `annotation:KEY`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::read_limited;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text itself.
    Value(String),
    /// A variable of the environment.
    Env(String),
    /// What is in a file, without the line's end at its end.
    File(PathBuf),
    /// A label of the pod, or of what [`Metadata`] says.
    Label(String),
    /// An annotation of the same.
    Annotation(String),
}

/// Whose labels and annotations there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// The pod's, in the files of a downward API volume.
    Files {
        /// `metadata.labels`.
        labels: PathBuf,
        /// `metadata.annotations`.
        annotations: PathBuf,
    },
    /// These, of an object that somebody else has read.
    Known {
        /// Whose they are, as errors name it, such as `node "n1"`.
        of: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Its annotations.
        annotations: BTreeMap<String, String>,
    },
}

/// Why a text is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no source of a value: expected value:TEXT, env:NAME, file:PATH, label:KEY or \
     annotation:KEY"
)]
pub struct ParseSourceError(String);

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A variable that is not there.
    #[error("the environment has no {0}")]
    Env(String),
    /// A variable that is no text.
    #[error("the variable {0} is no UTF-8 text")]
    EnvText(String),
    /// A file that cannot be read.
    #[error("cannot read {}: {cause}{hint}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file that is no text.
    #[error("{} is no UTF-8 text", .0.display())]
    FileText(PathBuf),
    /// A line that no downward API volume has.
    #[error("{}:{line}: expected KEY=\"VALUE\", as a downward API volume has it", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A label or an annotation that is not there.
    #[error("{of} has no {what}{key:?}")]
    Key {
        /// Where it should be.
        of: String,
        /// Of which kind, if that is not clear from where it should be.
        what: &'static str,
        /// What it is called.
        key: String,
    },
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| ParseSourceError(text.into()))?;
        let name = || {
            Some(rest).filter(|rest| !rest.is_empty()).ok_or_else(|| ParseSourceError(text.into()))
        };
        Ok(match kind {
            "value" => Self::Value(rest.to_owned()),
            "env" => Self::Env(name()?.to_owned()),
            "file" => Self::File(name()?.into()),
            "label" => Self::Label(name()?.to_owned()),
            "annotation" => Self::Annotation(name()?.to_owned()),
            _ => return Err(ParseSourceError(text.into())),
        })
    }
}

impl Metadata {
    /// The files they are read from, if any.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        match self {
            Self::Files { labels, annotations } => [Some(&**labels), Some(&**annotations)],
            Self::Known { .. } => [None, None],
        }
        .into_iter()
        .flatten()
    }

    fn lacks(&self, what: &'static str, key: &str) -> SourceError {
        let key = key.to_owned();
        match self {
            Self::Files { labels, annotations } => {
                let file = if what == LABEL { labels } else { annotations };
                SourceError::Key { of: file.display().to_string(), what: "", key }
            }
            Self::Known { of, .. } => SourceError::Key { of: of.clone(), what, key },
        }
    }

    /// All labels, as they are now.
    pub(super) fn labels(&self) -> Result<BTreeMap<String, String>, SourceError> {
        match self {
            Self::Files { labels, .. } => pairs(labels, NO_LABELS),
            Self::Known { labels, .. } => Ok(labels.clone()),
        }
    }

    /// All annotations, as they are now.
    pub(super) fn annotations(&self) -> Result<BTreeMap<String, String>, SourceError> {
        match self {
            Self::Files { annotations, .. } => pairs(annotations, NO_ANNOTATIONS),
            Self::Known { annotations, .. } => Ok(annotations.clone()),
        }
    }
}

impl Source {
    /// The file it comes from, if it names one itself.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// The value as it is now.
    pub(super) fn value(&self, metadata: &Metadata) -> Result<String, SourceError> {
        match self {
            Self::Value(text) => Ok(text.clone()),
            Self::Env(name) => env(name),
            Self::File(path) => {
                let mut text = text_of(path, "")?;
                if text.ends_with('\n') {
                    text.pop();
                }
                Ok(text)
            }
            Self::Label(key) => {
                let label = metadata.labels()?.remove(key);
                label.ok_or_else(|| metadata.lacks(LABEL, key))
            }
            Self::Annotation(key) => {
                let annotation = metadata.annotations()?.remove(key);
                annotation.ok_or_else(|| metadata.lacks(ANNOTATION, key))
            }
        }
    }
}

const LABEL: &str = "label ";
const ANNOTATION: &str = "annotation ";
const NO_LABELS: &str =
    " (mount a downwardAPI volume with metadata.labels there, or name the file by --labels-file)";
const NO_ANNOTATIONS: &str = " (mount a downwardAPI volume with metadata.annotations \
                                         there, or name the file by --annotations-file)";

/// A variable of the environment.
pub(super) fn env(name: &str) -> Result<String, SourceError> {
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err(SourceError::Env(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(SourceError::EnvText(name.to_owned())),
    }
}

/// All pairs of such a file. Each is a line `KEY="VALUE"`, the value quoted as Go does it (kubelet:
/// `fieldpath.FormatMap`).
fn pairs(path: &Path, hint: &'static str) -> Result<BTreeMap<String, String>, SourceError> {
    let text = text_of(path, hint)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            let pair = line
                .split_once('=')
                .and_then(|(key, quoted)| Some((key.to_owned(), unquote(quoted)?)));
            pair.ok_or_else(|| SourceError::Line { path: path.to_owned(), line: number + 1 })
        })
        .collect()
}

fn text_of(path: &Path, hint: &'static str) -> Result<String, SourceError> {
    let bytes = read_limited(path).map_err(|cause| SourceError::File {
        path: path.to_owned(),
        cause,
        hint,
    })?;
    String::from_utf8(bytes).map_err(|_| SourceError::FileText(path.to_owned()))
}

/// Reads what Go's `strconv.Quote` writes; `None` for anything else.
fn unquote(quoted: &str) -> Option<String> {
    let mut letters = quoted.strip_prefix('"')?.strip_suffix('"')?.chars();
    // Bytes: `\xff` stands for one that is in no valid text.
    let mut bytes = Vec::new();
    while let Some(letter) = letters.next() {
        let plain = match letter {
            '"' => return None,
            '\\' => match letters.next()? {
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0b',
                same @ ('\\' | '"') => same,
                'x' => {
                    bytes.push(u8::try_from(number(&mut letters, 2)?).ok()?);
                    continue;
                }
                'u' => char::from_u32(number(&mut letters, 4)?)?,
                'U' => char::from_u32(number(&mut letters, 8)?)?,
                _ => return None,
            },
            plain => plain,
        };
        bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn number(letters: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0, |sum, _| Some(sum * 16 + letters.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_quotes_is_read() {
        for (quoted, text) in [
            (r#""""#, ""),
            (r#""r7""#, "r7"),
            (r#""a \"b\" \\ c\nd\te""#, "a \"b\" \\ c\nd\te"),
            (r#""\u00ad\x7f\U0001f9ff é""#, "\u{ad}\x7f\u{1f9ff} é"),
        ] {
            assert_eq!(unquote(quoted).as_deref(), Some(text), "{quoted}");
        }
        for wrong in ["", "\"", "r7", r#""a"b""#, r#""\q""#, r#""\x1""#, r#""\ud800""#, r#""a\""#] {
            assert_eq!(unquote(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sources_are_read() {
        assert_eq!("value:".parse(), Ok(Source::Value(String::new())));
        assert_eq!("value:a:b".parse(), Ok(Source::Value("a:b".into())));
        assert_eq!("label:vm/rack".parse(), Ok(Source::Label("vm/rack".into())));
        for wrong in ["", "r7", "env:", "file:", "label:", "secret:x"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }
}
