//! Templates: words, `${NAME}`, or Jinja.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};
use std::path::Path;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};

use super::LIMIT;
use super::source::{self, Metadata};

/// How placeholders are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Only the words that are to be replaced.
    Words,
    /// These words, and `${NAME}`: such a word, or else a variable of the environment. `$${` is `${`.
    Env,
    /// Jinja, by minijinja: these words, and `env`, `labels` and `annotations`.
    Jinja,
}

impl Syntax {
    /// By the name of the template: `.j2`, `.jinja` and `.jinja2` are Jinja.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("j2" | "jinja" | "jinja2") => Self::Jinja,
            _ => Self::Env,
        }
    }
}

/// What is wrong with a template, or with what it asks for. Begins with the line.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// `${NAME}` of something that has no value.
    #[error(
        "{line}:{column}: no value for ${{{name}}}: neither --replace nor the environment has it"
    )]
    NoValue {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What has none.
        name: String,
    },
    /// `${` that no `}` or no name follows.
    #[error(
        "{line}:{column}: expected a name and }} after ${{; write $${{ for the characters themselves"
    )]
    NoName {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// A variable that is no text.
    #[error("{line}:{column}: the variable {name} is no UTF-8 text")]
    NoText {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// Which.
        name: String,
    },
    /// What Jinja says.
    #[error("{}{words}", if *line > 0 { format!("{line}: ") } else { " ".to_owned() })]
    Jinja {
        /// From 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        words: String,
    },
}

/// Puts in the values. What is put in is not looked at again.
pub(super) fn expand(
    template: &str,
    syntax: Syntax,
    values: &BTreeMap<String, String>,
    metadata: &Metadata,
) -> Result<String, TemplateError> {
    match syntax {
        Syntax::Jinja => jinja(template, values, metadata),
        Syntax::Words => plain(template, values, false),
        Syntax::Env => plain(template, values, true),
    }
}

fn plain(
    template: &str,
    values: &BTreeMap<String, String>,
    names: bool,
) -> Result<String, TemplateError> {
    let mut text = String::with_capacity(template.len());
    let mut at = 0;
    while let Some(letter) = template[at..].chars().next() {
        let rest = &template[at..];
        if names && rest.starts_with("$${") {
            text.push_str("${");
            at += 3;
        } else if names && rest.starts_with("${") {
            let (value, length) = named(template, at, values)?;
            text.push_str(&value);
            at += length;
        } else if let Some((word, value)) = word_at(template, at, values) {
            text.push_str(value);
            at += word.len();
        } else {
            text.push(letter);
            at += letter.len_utf8();
        }
    }
    Ok(text)
}

/// The value of `${NAME}` at a place, and how long that is.
fn named(
    template: &str,
    at: usize,
    values: &BTreeMap<String, String>,
) -> Result<(String, usize), TemplateError> {
    let (line, column) = position(template, at);
    let name = template[at + 2..].split_once('}').map(|(name, _)| name);
    let name = name.filter(|name| !name.is_empty() && name.chars().all(is_part_of_word));
    let name = name.ok_or(TemplateError::NoName { line, column })?;
    let length = name.len() + 3;
    if let Some(value) = values.get(name) {
        return Ok((value.clone(), length));
    }
    let name = name.to_owned();
    match source::env(&name) {
        Ok(value) => Ok((value, length)),
        Err(source::SourceError::EnvText(_)) => Err(TemplateError::NoText { line, column, name }),
        Err(_) => Err(TemplateError::NoValue { line, column, name }),
    }
}

/// The longest word to be replaced that stands at a place by itself: `RACK` is not in `TRACK`.
fn word_at<'a>(
    template: &str,
    at: usize,
    values: &'a BTreeMap<String, String>,
) -> Option<(&'a str, &'a str)> {
    let rest = &template[at..];
    let before = template[..at].chars().next_back();
    let stands = |word: &str| {
        let joins = |a: Option<char>, b: Option<char>| {
            a.is_some_and(is_part_of_word) && b.is_some_and(is_part_of_word)
        };
        rest.starts_with(word)
            && !joins(before, word.chars().next())
            && !joins(word.chars().next_back(), rest[word.len()..].chars().next())
    };
    let found = values.iter().filter(|(word, _)| !word.is_empty() && stands(word));
    found.max_by_key(|(word, _)| word.len()).map(|(word, value)| (word.as_str(), value.as_str()))
}

fn is_part_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Line and column, from 1.
fn position(template: &str, at: usize) -> (usize, usize) {
    let before = &template[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn jinja(
    template: &str,
    values: &BTreeMap<String, String>,
    metadata: &Metadata,
) -> Result<String, TemplateError> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_keep_trailing_newline(true);
    engine.set_fuel(Some(STEPS));
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // What is not there is undefined, and only a template that asks for it fails.
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let pairs = |pairs| match pairs {
        Ok(pairs) => Ok(Value::from_serialize(pairs)),
        Err(source::SourceError::File { .. }) => Ok(Value::UNDEFINED),
        Err(error) => Err(TemplateError::Jinja { line: 0, words: error.to_string() }),
    };
    let labels = pairs(metadata.labels())?;
    let annotations = pairs(metadata.annotations())?;
    let context = context! { env, labels, annotations, ..Value::from_serialize(values) };
    let mut text = Bounded(Vec::new());
    let rendered = engine
        .template_from_str(template)
        .and_then(|template| template.render_captured_to(context, &mut text).map(drop));
    rendered.map_err(jinja_error)?;
    // Text is all that it writes.
    String::from_utf8(text.0)
        .map_err(|error| TemplateError::Jinja { line: 0, words: error.to_string() })
}

/// What a template may do in Jinja's own instructions: some seconds' worth. A loop in a loop in a loop ends.
const STEPS: u64 = 50_000_000;

/// What has been written, up to [`LIMIT`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > LIMIT {
            let words = format!("it makes more than {} MiB", LIMIT >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn jinja_error(error: minijinja::Error) -> TemplateError {
    let detail = error.detail().map(str::to_owned);
    let words = match error.kind() {
        ErrorKind::OutOfFuel => format!("it does not end within {STEPS} steps"),
        ErrorKind::UndefinedError => format!(
            "a value that is not there is used{}",
            detail.map_or_else(String::new, |detail| format!(": {detail}"))
        ),
        ErrorKind::WriteFailure => error
            .source()
            .map_or_else(|| error.kind().to_string(), std::string::ToString::to_string),
        kind => detail.unwrap_or_else(|| kind.to_string()),
    };
    TemplateError::Jinja { line: error.line().unwrap_or(0), words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        let pairs = [("RACK", "r7"), ("RACK_ID", "70"), ("@DC@", "east"), ("LOOP", "${LOOP} RACK")];
        pairs.map(|(word, value)| (word.to_owned(), value.to_owned())).into()
    }

    fn with(template: &str, syntax: Syntax) -> Result<String, String> {
        let nowhere = Path::new("/nowhere");
        let files = Metadata::Files { labels: nowhere.into(), annotations: nowhere.into() };
        expand(template, syntax, &values(), &files).map_err(|error| error.to_string())
    }

    #[test]
    fn words_stand_by_themselves() {
        for (template, text) in [
            ("rack=RACK\n", "rack=r7\n"),
            ("TRACK RACKS _RACK RACK_ RACK_ID", "TRACK RACKS _RACK RACK_ 70"),
            ("RACK,RACK.RACK", "r7,r7.r7"),
            ("dc=@DC@x@DC@", "dc=eastxeast"),
            ("äRACK RACKä", "äRACK RACKä"),
            ("LOOP", "${LOOP} RACK"),
            ("", ""),
        ] {
            assert_eq!(with(template, Syntax::Env).as_deref(), Ok(text), "{template}");
            assert_eq!(with(template, Syntax::Words).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn names_are_words_or_variables() {
        // Cargo sets it.
        let own = env!("CARGO_PKG_NAME");
        let text = with("${RACK} ${CARGO_PKG_NAME} $${RACK} $RACK $", Syntax::Env);
        assert_eq!(text.as_deref(), Ok(&*format!("r7 {own} ${{r7}} $r7 $")));
        assert_eq!(with("${RACK", Syntax::Words).as_deref(), Ok("${r7"));
        for (template, error) in [
            ("a\n ${NOT_THERE_1}", "2:2: no value for ${NOT_THERE_1}"),
            ("${", "1:1: expected a name"),
            ("${}", "1:1: expected a name"),
            ("x${a b}", "1:2: expected a name"),
            ("${RACK:-x}", "1:1: expected a name"),
        ] {
            assert!(with(template, Syntax::Env).unwrap_err().contains(error), "{template}");
        }
    }

    /// Nothing that a template says makes it run, or the file grow, for ever.
    #[test]
    fn jinja_is_bounded() {
        let many = "{% for a in range(10000) %}";
        for (template, words) in [
            (format!("{}{}", many.repeat(3), "{% endfor %}".repeat(3)), "does not end within"),
            (
                format!("{}{{{{ 'x' * 100 }}}}{}", many.repeat(2), "{% endfor %}".repeat(2)),
                "more than 16 MiB",
            ),
            ("{{ 'x' * 100000000000 }}".to_owned(), "too large"),
            ("{{ range(999999999) }}".to_owned(), "too many elements"),
            (format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)), "recursion limit"),
            ("{% include '/etc/passwd' %}".to_owned(), "unknown statement include"),
        ] {
            let error = with(&template, Syntax::Jinja).unwrap_err();
            assert!(error.contains(words) && !error.starts_with('0'), "{error}");
        }
    }

    #[test]
    fn jinja_is_strict() {
        let text = with(
            "{% if RACK %}rack={{ RACK }}{% endif %}\n<{{ env.CARGO_PKG_NAME }}>\n",
            Syntax::Jinja,
        );
        assert_eq!(text.unwrap(), format!("rack=r7\n<{}>\n", env!("CARGO_PKG_NAME")));
        for (template, line) in [
            ("\n{{ nothing }}", "2: "),
            ("{{ env.NOT_THERE_1 }}", "1: "),
            ("{{ labels.a }}", "1: "),
            ("{% if %}", "1: "),
        ] {
            let error = with(template, Syntax::Jinja).unwrap_err();
            assert!(error.starts_with(line), "{template}: {error}");
        }
    }
}
