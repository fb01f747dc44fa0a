//! Field paths as Kubernetes prints them: `spec.containers[0].env[1].name`.

use std::borrow::Cow;
use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A field: `.name`.
    Field(Cow<'static, str>),
    /// An entry of a list: `[0]`.
    Index(usize),
    /// An entry of a map: `[key]`.
    Key(String),
}

/// A path from the root of an object (`k8s.io/apimachinery/pkg/util/validation/field.Path`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(pub Vec<Segment>);

impl FieldPath {
    /// Reads a path as it is printed. What stands in brackets is an index if it is a number.
    pub fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                segments.push(match inside.parse() {
                    Ok(index) => Segment::Index(index),
                    Err(_) => Segment::Key(inside.to_owned()),
                });
                rest = after;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len()).max(1);
            let end = rest.ceil_char_boundary(end);
            segments.push(Segment::Field(rest[..end].to_owned().into()));
            rest = &rest[end..];
        }
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if i == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(n) => write!(f, "[{n}]")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

/// A path under construction: lives on the stack, allocates only when an error needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a str),
}

impl Path<'_> {
    /// The object itself.
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A field of what this path leads to.
    pub(crate) const fn field<'p>(&'p self, name: &'static str) -> Path<'p> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An entry of the list that this path leads to.
    pub(crate) const fn index<'p>(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map that this path leads to.
    pub(crate) const fn key<'p>(&'p self, key: &'p str) -> Path<'p> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn to_owned(self) -> FieldPath {
        let mut segments = Vec::new();
        let mut next = Some(&self);
        while let Some(path) = next {
            match path.step {
                Step::Root => {}
                Step::Field(name) => segments.push(Segment::Field(Cow::Borrowed(name))),
                Step::Index(index) => segments.push(Segment::Index(index)),
                Step::Key(key) => segments.push(Segment::Key(key.to_owned())),
            }
            next = path.parent;
        }
        segments.reverse();
        FieldPath(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back() {
        for text in [
            "spec",
            "spec.containers[0].image",
            "spec.template.spec.containers[10].resources.limits[example.com/gpu]",
            "metadata.labels[a.b/c].x",
            "",
        ] {
            assert_eq!(FieldPath::parse(text).to_string(), text);
        }
        let path = FieldPath::parse("a[1][x]");
        assert_eq!(
            path.0,
            [Segment::Field("a".into()), Segment::Index(1), Segment::Key("x".into())]
        );
        // Nonsense is no reason to stand still.
        for text in ["[", "..", "a[", "[]", "]", "ü.[ü"] {
            FieldPath::parse(text);
        }
    }
}
