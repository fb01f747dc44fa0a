//! A document as a tree of values, each with the place it was written at.
//!
//! YAML and JSON give the same tree. It lives in one arena per source; an alias is the same node
//! used twice, so that memory follows the size of the input and not of its expansion. What would
//! expand beyond [`Limits`] is refused while the tree is built.

mod json;
mod scalar;
mod yaml;

use std::borrow::Cow;
use std::ops::Range;

use crate::path::{FieldPath, Segment};

/// How much input is accepted. The defaults are far beyond real manifests and small for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one source; 16 MiB by default.
    pub bytes: usize,
    /// Values of one source, those repeated by aliases counted every time; 1,000,000 by default.
    pub nodes: usize,
    /// Nesting, aliases expanded; 100 by default.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 20, nodes: 1_000_000, depth: 100 }
    }
}

/// The index of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// One value.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) value: Value<'a>,
    start: u32,
    end: u32,
    /// How many nodes it is when every alias in it is expanded.
    size: u32,
    /// How deep it is: 1 for a scalar.
    height: u32,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond `i64`, as written.
    BigInt(Cow<'a, str>),
    Float(f64),
    Str(Cow<'a, str>),
    List(Vec<NodeId>),
    Map(Vec<Entry<'a>>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) key_span: (u32, u32),
    pub(crate) value: NodeId,
}

/// Every document of one source.
#[derive(Debug, Default)]
pub(crate) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    pub(crate) documents: Vec<NodeId>,
    /// Expanded nodes so far.
    expanded: usize,
}

/// Why a text is not a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl SyntaxError {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads every document of `text`. What could be read before an error comes with it.
pub(crate) fn parse<'a>(text: &'a str, limits: &Limits) -> (Tree<'a>, Vec<SyntaxError>) {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let base = text.len() - body.len();
    // kubectl (GuessJSONStream): what starts with a brace is tried as JSON first. Flow-style YAML
    // starts with one too, and is told apart by the key's quote.
    if let Some(inside) = body.trim_start().strip_prefix('{') {
        let (tree, error) = json::parse(text, base, limits);
        let Some(error) = error else { return (tree, Vec::new()) };
        if inside.trim_start().starts_with('"') {
            let (yaml, errors) = yaml::parse(text, base, limits);
            return if errors.is_empty() { (yaml, errors) } else { (tree, vec![error]) };
        }
    }
    yaml::parse(text, base, limits)
}

impl<'a> Tree<'a> {
    pub(crate) fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn value(&self, id: NodeId) -> &Value<'a> {
        &self.node(id).value
    }

    pub(crate) fn span(&self, id: NodeId) -> Range<usize> {
        let node = self.node(id);
        node.start as usize..node.end as usize
    }

    /// The value of a mapping's key.
    pub(crate) fn get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        match self.value(id) {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| e.value),
            _ => None,
        }
    }

    /// The text of a mapping's key, if it is a string.
    pub(crate) fn get_str(&self, id: NodeId, key: &str) -> Option<&str> {
        match self.value(self.get(id, key)?) {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The place to show for a field: the value, or the nearest ancestor's key that is there.
    pub(crate) fn locate(&self, root: NodeId, path: &FieldPath) -> Range<usize> {
        let mut id = root;
        let mut span = self.first_key(root);
        for (i, segment) in path.0.iter().enumerate() {
            let last = i + 1 == path.0.len();
            match (segment, self.value(id)) {
                (Segment::Field(name), Value::Map(entries)) => {
                    let Some(entry) = entries.iter().find(|e| e.key == *name) else { return span };
                    span = self.entry_span(entry, last);
                    id = entry.value;
                }
                (Segment::Key(name), Value::Map(entries)) => {
                    let Some(entry) = entries.iter().find(|e| e.key == *name) else { return span };
                    span = self.entry_span(entry, last);
                    id = entry.value;
                }
                (Segment::Index(n), Value::List(items)) => {
                    let Some(&item) = items.get(*n) else { return span };
                    span = self.first_key(item);
                    id = item;
                }
                _ => return span,
            }
        }
        span
    }

    fn entry_span(&self, entry: &Entry<'a>, last: bool) -> Range<usize> {
        let key = entry.key_span.0 as usize..entry.key_span.1 as usize;
        match self.value(entry.value) {
            Value::List(_) | Value::Map(_) | Value::Null => key,
            _ if last => self.span(entry.value),
            _ => key,
        }
    }

    /// The first key of a mapping (a block mapping's own span has no clear beginning), or the value.
    fn first_key(&self, id: NodeId) -> Range<usize> {
        match self.value(id) {
            Value::Map(entries) => entries
                .first()
                .map_or(self.span(id), |e| e.key_span.0 as usize..e.key_span.1 as usize),
            _ => self.span(id),
        }
    }

    /// Adds a node, within the limits.
    fn push(
        &mut self,
        value: Value<'a>,
        span: Range<usize>,
        limits: &Limits,
    ) -> Result<NodeId, SyntaxError> {
        let (mut size, mut height) = (1_usize, 0_u32);
        let mut child = |tree: &Self, id: NodeId| {
            let node = tree.node(id);
            size = size.saturating_add(node.size as usize);
            height = height.max(node.height);
        };
        match &value {
            Value::List(items) => items.iter().for_each(|&id| child(self, id)),
            Value::Map(entries) => entries.iter().for_each(|e| child(self, e.value)),
            _ => {}
        }
        let height = height + 1;
        if height as usize > limits.depth {
            return Err(too_deep(span, limits));
        }
        if size > limits.nodes || self.nodes.len() >= limits.nodes {
            return Err(too_many(span, limits));
        }
        // Spans are kept in 32 bits: the limit on bytes is below 4 GiB by its type's use in `load`.
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let id = NodeId(narrow(self.nodes.len()));
        let (start, end) = (narrow(span.start), narrow(span.end));
        self.nodes.push(Node { value, start, end, size: narrow(size), height });
        Ok(id)
    }

    /// Adds a document, within the limits.
    fn push_document(&mut self, root: NodeId, limits: &Limits) -> Result<(), SyntaxError> {
        self.expanded = self.expanded.saturating_add(self.node(root).size as usize);
        if self.expanded > limits.nodes {
            return Err(too_many(self.first_key(root), limits));
        }
        self.documents.push(root);
        Ok(())
    }

    /// The tree below `id` as JSON. Numbers that JSON cannot hold become strings.
    pub(crate) fn to_json(&self, id: NodeId) -> serde_json::Value {
        use serde_json::Value as Json;
        match self.value(id) {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::BigInt(text) => match text.parse::<u64>() {
                Ok(n) => Json::from(n),
                Err(_) => Json::String(text.clone().into_owned()),
            },
            Value::Float(f) => match scalar::whole(*f) {
                Some(n) => Json::from(n),
                None => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
            },
            Value::Str(s) => Json::String(s.clone().into_owned()),
            Value::List(items) => items.iter().map(|&item| self.to_json(item)).collect(),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone().into_owned(), self.to_json(e.value)))
                    .collect(),
            ),
        }
    }
}

/// A whole number as an integer, as Go prints a float64 in JSON.
pub(crate) fn whole(f: f64) -> Option<i64> {
    scalar::whole(f)
}

fn too_deep(span: Range<usize>, limits: &Limits) -> SyntaxError {
    SyntaxError::new(span, format!("nested deeper than {} levels", limits.depth))
}

fn too_many(span: Range<usize>, limits: &Limits) -> SyntaxError {
    SyntaxError::new(span, format!("more than {} values", limits.nodes))
        .help("aliases count with everything they stand for; split the file")
}

/// The position of the second of two equal keys. Linear for small mappings, hashed for large ones.
fn duplicate_key(entries: &[Entry<'_>]) -> Option<usize> {
    if entries.len() <= 16 {
        return (1..entries.len()).find(|&i| entries[..i].iter().any(|e| e.key == entries[i].key));
    }
    let mut seen = std::collections::HashSet::with_capacity(entries.len());
    entries.iter().position(|e| !seen.insert(&*e.key))
}

fn check_duplicates(entries: &[Entry<'_>]) -> Result<(), SyntaxError> {
    match duplicate_key(entries) {
        None => Ok(()),
        Some(i) => {
            let entry = &entries[i];
            let span = entry.key_span.0 as usize..entry.key_span.1 as usize;
            Err(SyntaxError::new(span, format!("key {:?} already set in map", entry.key))
                .help("remove one of the two, or put `---` between two documents"))
        }
    }
}
