//! Tree → typed objects: every unknown field and every wrong type is reported at its place.
//!
//! The table of known fields is the object definition itself ([`crate::object`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::{Fault, FieldError};
use crate::object::{Base64, IntOrString, Quantity, Timestamp};
use crate::path::{FieldPath, Segment};
use crate::suggest;
use crate::tree::{NodeId, Tree, Value, whole};

/// A type that can be read from a node. What cannot is reported and read as its default.
pub(crate) trait Decode: Sized {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self;
}

/// Reads an object from the tree and collects what is wrong with it.
pub(crate) struct Decoder<'t> {
    tree: &'t Tree<'t>,
    path: Vec<Segment>,
    /// The known fields of the objects around the current one, and how long the path was there.
    around: Vec<(usize, &'static [&'static str])>,
    pub(crate) errors: Vec<FieldError>,
    /// Errors beyond this many are only counted.
    max_errors: usize,
    pub(crate) omitted: usize,
}

impl<'t> Decoder<'t> {
    pub(crate) fn new(tree: &'t Tree<'t>, max_errors: usize) -> Self {
        Self {
            tree,
            path: Vec::new(),
            around: Vec::new(),
            errors: Vec::new(),
            max_errors,
            omitted: 0,
        }
    }

    fn error(&mut self, fault: Fault, node: Option<NodeId>, help: Option<String>) {
        if self.errors.len() >= self.max_errors {
            self.omitted += 1;
            return;
        }
        let span = node.map(|node| self.tree.span(node));
        self.errors.push(FieldError { path: FieldPath(self.path.clone()), fault, help, span });
    }

    /// The node is of another type than the field.
    fn wrong_type(&mut self, node: NodeId, expected: &'static str) {
        let (found, help) = match self.tree.value(node) {
            Value::Null => ("null".to_owned(), None),
            Value::Bool(b) => {
                let help = (expected == "a string").then(|| {
                    format!("YAML reads this word as the boolean {b}; write it in quotes")
                });
                (format!("the boolean {b}"), help)
            }
            Value::Int(n) => (format!("the number {n}"), quote_number(expected)),
            Value::BigInt(n) => (format!("the number {}", clip(n)), quote_number(expected)),
            Value::Float(f) => (format!("the number {f}"), quote_number(expected)),
            Value::Str(s) => {
                let unquote = match expected {
                    "an integer" => s.parse::<i64>().is_ok(),
                    "a boolean" => s == "true" || s == "false",
                    _ => false,
                };
                let help = unquote.then(|| "remove the quotes".to_owned());
                (format!("the string {:?}", clip(s)), help)
            }
            Value::List(_) => ("a list".to_owned(), None),
            Value::Map(_) => ("a mapping".to_owned(), None),
        };
        self.error(Fault::WrongType { expected, found }, Some(node), help);
    }

    /// Calls `field` for every entry of a mapping; it says whether the key is known.
    pub(crate) fn object(
        &mut self,
        node: NodeId,
        fields: &'static [&'static str],
        field: &mut dyn FnMut(&mut Self, &str, NodeId) -> bool,
    ) {
        let tree = self.tree;
        let entries = match tree.value(node) {
            Value::Map(entries) => entries,
            Value::Null => return,
            _ => return self.wrong_type(node, "a mapping"),
        };
        self.around.push((self.path.len(), fields));
        for entry in entries {
            // A known name is borrowed from the table, so that the usual path allocates nothing.
            let known = fields.iter().find(|name| **name == entry.key);
            let segment = match known {
                Some(name) => Segment::Field(Cow::Borrowed(name)),
                None => Segment::Field(Cow::Owned(entry.key.clone().into_owned())),
            };
            self.path.push(segment);
            if !field(self, &entry.key, entry.value) {
                self.unknown(&entry.key, entry.key_span, fields);
            }
            self.path.pop();
        }
        self.around.pop();
    }

    fn unknown(&mut self, key: &str, span: (u32, u32), fields: &'static [&'static str]) {
        let suggestion = suggest::nearest(key, fields);
        let help = match suggestion {
            Some(name) => Some(format!("did you mean {name:?}?")),
            // The most common cause beside a typing error: one level of indentation too many.
            None => {
                self.around.iter().rev().skip(1).find(|(_, f)| f.contains(&key)).map(|(len, _)| {
                    let owner = FieldPath(self.path[..*len].to_vec());
                    match owner.0.is_empty() {
                        true => {
                            format!("{key:?} belongs to the object itself: check the indentation")
                        }
                        false => format!("{key:?} belongs to {owner}: check the indentation"),
                    }
                })
            }
        };
        if self.errors.len() >= self.max_errors {
            self.omitted += 1;
            return;
        }
        self.errors.push(FieldError {
            path: FieldPath(self.path.clone()),
            fault: Fault::UnknownField { suggestion },
            help,
            span: Some(span.0 as usize..span.1 as usize),
        });
    }
}

fn quote_number(expected: &str) -> Option<String> {
    (expected == "a string").then(|| "write it in quotes".to_owned())
}

/// At most 64 characters of a text, for a message.
pub(crate) fn clip(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(64) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

impl Decode for String {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Str(s) => s.clone().into_owned(),
            Value::Null => Self::new(),
            _ => {
                cx.wrong_type(node, "a string");
                Self::new()
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Bool(b) => *b,
            Value::Null => false,
            _ => {
                cx.wrong_type(node, "a boolean");
                false
            }
        }
    }
}

impl Decode for i64 {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Int(n) => *n,
            Value::Null => 0,
            Value::Float(f) => match whole(*f) {
                Some(n) => n,
                None => {
                    cx.wrong_type(node, "an integer");
                    0
                }
            },
            _ => {
                cx.wrong_type(node, "an integer");
                0
            }
        }
    }
}

impl Decode for i32 {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        let wide = i64::decode(node, cx);
        Self::try_from(wide).unwrap_or_else(|_| {
            cx.wrong_type(node, "an integer of 32 bits");
            0
        })
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Null => None,
            _ => Some(T::decode(node, cx)),
        }
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        let tree = cx.tree;
        match tree.value(node) {
            Value::Null => Self::new(),
            Value::List(items) => {
                let mut out = Self::with_capacity(items.len());
                for (i, &item) in items.iter().enumerate() {
                    cx.path.push(Segment::Index(i));
                    out.push(T::decode(item, cx));
                    cx.path.pop();
                }
                out
            }
            _ => {
                cx.wrong_type(node, "a list");
                Self::new()
            }
        }
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        let tree = cx.tree;
        match tree.value(node) {
            Value::Null => Self::new(),
            Value::Map(entries) => {
                let mut out = Self::new();
                for entry in entries {
                    cx.path.push(Segment::Key(entry.key.clone().into_owned()));
                    let value = T::decode(entry.value, cx);
                    let Some(Segment::Key(key)) = cx.path.pop() else { continue };
                    out.insert(key, value);
                }
                out
            }
            _ => {
                cx.wrong_type(node, "a mapping");
                Self::new()
            }
        }
    }
}

impl Decode for serde_json::Value {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        cx.tree.to_json(node)
    }
}

impl Decode for Quantity {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        let text = match cx.tree.value(node) {
            Value::Str(s) => s.clone(),
            Value::Int(n) => return Self::from_int(*n),
            Value::BigInt(n) => n.clone(),
            Value::Float(f) => f.to_string().into(),
            Value::Null => return Self::default(),
            _ => {
                cx.wrong_type(node, "a quantity");
                return Self::default();
            }
        };
        Self::parse(text.trim()).unwrap_or_else(|e| {
            let fault = Fault::Invalid { value: quoted(&text), detail: e.to_string() };
            cx.error(fault, Some(node), Some("examples: 100m, 1.5, 128Mi, 2G".to_owned()));
            Self::default()
        })
    }
}

impl Decode for IntOrString {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Str(s) => Self::String(s.clone().into_owned()),
            Value::Null => Self::default(),
            Value::Int(_) | Value::BigInt(_) | Value::Float(_) => Self::Int(i32::decode(node, cx)),
            _ => {
                cx.wrong_type(node, "a number or a string");
                Self::default()
            }
        }
    }
}

impl Decode for Base64 {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        match cx.tree.value(node) {
            Value::Null => Self::default(),
            Value::Str(s) => Self::parse(s).unwrap_or_else(|e| {
                // The value may be a secret: only the reason is shown.
                let fault = Fault::Malformed(format!("illegal base64 data: {e}").to_lowercase());
                let help = "`base64 -w0` makes it; plain text goes into `stringData` (Secret) \
                            or `data` (ConfigMap)";
                cx.error(fault, Some(node), Some(help.to_owned()));
                Self::default()
            }),
            _ => {
                cx.wrong_type(node, "a string");
                Self::default()
            }
        }
    }
}

impl Decode for Timestamp {
    fn decode(node: NodeId, cx: &mut Decoder<'_>) -> Self {
        let epoch = Self(jiff::Timestamp::UNIX_EPOCH);
        match cx.tree.value(node) {
            Value::Str(s) => Self::parse(s).unwrap_or_else(|_| {
                let detail = "must be a time like 2006-01-02T15:04:05Z (RFC 3339)".to_owned();
                cx.error(Fault::Invalid { value: quoted(s), detail }, Some(node), None);
                epoch
            }),
            Value::Null => epoch,
            _ => {
                cx.wrong_type(node, "a string");
                epoch
            }
        }
    }
}

/// A string as messages show it.
fn quoted(text: &str) -> String {
    format!("{:?}", clip(text))
}
