//! YAML events → tree: anchors, merge keys, tags.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Entry, Limits, NodeId, SyntaxError, Tree, Value, check_duplicates, scalar};

/// Reads every document. After an error the parser tries to go on with the next document, so that
/// one run can report an error in each.
pub(super) fn parse<'a>(
    text: &'a str,
    base: usize,
    limits: &Limits,
) -> (Tree<'a>, Vec<SyntaxError>) {
    /// Documents that may each have a syntax error before reading stops.
    const MAX_ERRORS: usize = 20;
    let mut options = granit_parser::options! {
        flow_nesting_limit: limits.depth,
        block_nesting_limit: limits.depth,
    };
    options.set_emit_comments(false);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(&text[base..], options),
        base,
        limits,
        tree: Tree::default(),
        anchors: HashMap::new(),
        merged: 0,
    };
    let mut errors = Vec::new();
    loop {
        match reader.documents() {
            Ok(()) => break,
            Err(Stop::Here(error)) => {
                errors.push(error);
                break;
            }
            Err(Stop::Document(error)) => {
                errors.push(error);
                if errors.len() >= MAX_ERRORS {
                    break;
                }
                match reader.parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        }
    }
    (reader.tree, errors)
}

/// How far an error reaches.
enum Stop {
    /// The rest of the source cannot be read.
    Here(SyntaxError),
    /// The document cannot be read; the next may be fine.
    Document(SyntaxError),
}

/// A collection that is being read.
struct Open<'a> {
    span: Range<usize>,
    anchor: usize,
    kind: OpenKind<'a>,
}

enum OpenKind<'a> {
    List(Vec<NodeId>),
    Map {
        entries: Vec<Entry<'a>>,
        /// A key whose value has not come yet.
        key: Option<Key<'a>>,
        /// Merged mappings: what each brought, and how many own entries stood before it.
        merges: Vec<(usize, Vec<Entry<'a>>)>,
    },
}

struct Key<'a> {
    text: Cow<'a, str>,
    span: Range<usize>,
    merge: bool,
}

struct Reader<'a, 'l> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    base: usize,
    limits: &'l Limits,
    tree: Tree<'a>,
    /// Finished anchored nodes by id; `None` while the node is being read.
    anchors: HashMap<usize, Option<NodeId>>,
    /// Entries copied by merge keys so far.
    merged: usize,
}

impl<'a> Reader<'a, '_> {
    fn documents(&mut self) -> Result<(), Stop> {
        let mut stack: Vec<Open<'a>> = Vec::new();
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|e| self.scan_error(&e))?;
            let span = self.range(span);
            let done = match event {
                Event::DocumentStart(..) => {
                    stack.clear();
                    self.anchors.clear();
                    continue;
                }
                Event::Scalar(text, style, anchor, tag) => {
                    if let Some(Open { kind: OpenKind::Map { key: key @ None, .. }, .. }) =
                        stack.last_mut()
                    {
                        let merge = is_merge(&text, style, tag.as_deref());
                        let value = scalar_value(text, style, tag.as_deref(), &span)
                            .map_err(Stop::Document)?;
                        let Some(text) = scalar::key(value) else {
                            return Err(Stop::Document(
                                SyntaxError::new(span, "a key cannot be null")
                                    .help("write the key in quotes"),
                            ));
                        };
                        if anchor != 0 {
                            let id = self
                                .tree
                                .push(Value::Str(text.clone()), span.clone(), self.limits)
                                .map_err(Stop::Here)?;
                            self.anchors.insert(anchor, Some(id));
                        }
                        *key = Some(Key { text, span, merge });
                        continue;
                    }
                    let value =
                        scalar_value(text, style, tag.as_deref(), &span).map_err(Stop::Document)?;
                    let id = self.tree.push(value, span, self.limits).map_err(Stop::Here)?;
                    if anchor != 0 {
                        self.anchors.insert(anchor, Some(id));
                    }
                    Some(id)
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor) {
                    Some(&Some(id)) => {
                        if let Some(Open { kind: OpenKind::Map { key: key @ None, .. }, .. }) =
                            stack.last_mut()
                        {
                            let Value::Str(text) = self.tree.value(id) else {
                                return Err(Stop::Document(complex_key(span)));
                            };
                            *key = Some(Key { text: text.clone(), span, merge: false });
                            continue;
                        }
                        Some(id)
                    }
                    _ => {
                        return Err(Stop::Document(SyntaxError::new(
                            span,
                            "anchor value contains itself",
                        )));
                    }
                },
                Event::SequenceStart(_, anchor, _) => {
                    self.open(&mut stack, span, anchor, OpenKind::List(Vec::new()))?;
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    let kind = OpenKind::Map { entries: Vec::new(), key: None, merges: Vec::new() };
                    self.open(&mut stack, span, anchor, kind)?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(&mut stack, span)?,
                _ => continue,
            };
            if let Some(id) = done {
                self.place(&mut stack, id)?;
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        stack: &mut Vec<Open<'a>>,
        span: Range<usize>,
        anchor: usize,
        kind: OpenKind<'a>,
    ) -> Result<(), Stop> {
        if let Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) = stack.last() {
            return Err(Stop::Document(complex_key(span)));
        }
        if stack.len() >= self.limits.depth {
            return Err(Stop::Here(super::too_deep(span, self.limits)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        stack.push(Open { span, anchor, kind });
        Ok(())
    }

    fn close(
        &mut self,
        stack: &mut Vec<Open<'a>>,
        end: Range<usize>,
    ) -> Result<Option<NodeId>, Stop> {
        let Some(open) = stack.pop() else { return Ok(None) };
        let span = open.span.start..end.end.max(open.span.start);
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { entries, merges, .. } => {
                check_duplicates(&entries).map_err(Stop::Document)?;
                Value::Map(merge(entries, merges))
            }
        };
        let id = self.tree.push(value, span, self.limits).map_err(Stop::Here)?;
        if open.anchor != 0 {
            self.anchors.insert(open.anchor, Some(id));
        }
        Ok(Some(id))
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, stack: &mut [Open<'a>], id: NodeId) -> Result<(), Stop> {
        match stack.last_mut() {
            None => self.tree.push_document(id, self.limits).map_err(Stop::Here),
            Some(Open { kind: OpenKind::List(items), .. }) => {
                items.push(id);
                Ok(())
            }
            Some(Open { kind: OpenKind::Map { entries, key, merges }, .. }) => {
                // `open` and the scalar arm take a key before any value.
                let Some(key) = key.take() else { return Ok(()) };
                if key.merge {
                    let merged = merged_entries(&self.tree, id, &key.span, self.limits)
                        .map_err(Stop::Document)?;
                    // Merged entries are copies: together they must not outgrow the limit.
                    self.merged = self.merged.saturating_add(merged.len());
                    if self.merged > self.limits.nodes {
                        return Err(Stop::Here(super::too_many(key.span, self.limits)));
                    }
                    merges.push((entries.len(), merged));
                } else {
                    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                    let key_span = (narrow(key.span.start), narrow(key.span.end));
                    entries.push(Entry { key: key.text, key_span, value: id });
                }
                Ok(())
            }
        }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let range = span.byte_range().unwrap_or(0..0);
        range.start + self.base..range.end + self.base
    }

    fn scan_error(&self, error: &granit_parser::ScanError) -> Stop {
        let at = error.marker().byte_offset().unwrap_or(0) + self.base;
        let mut out = SyntaxError::new(at..at + 1, format!("not YAML: {}", error.info()));
        if error.info().contains("tab") {
            out = out.help("YAML is indented by spaces, not tabs");
        }
        Stop::Document(out)
    }
}

/// Only a plain `<<` merges (go-yaml: `isMerge`).
fn is_merge(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    text == "<<"
        && (style == ScalarStyle::Plain || tag.is_some_and(|t| t.core_suffix() == Some("merge")))
}

fn complex_key(span: Range<usize>) -> SyntaxError {
    SyntaxError::new(span, "a key must be a string")
        .help("is this a template (`{{ … }}`)? Render it first, or quote the value")
}

/// The value of a scalar by its style and tag (go-yaml: `decoder.scalar`).
fn scalar_value<'a>(
    text: Cow<'a, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: &Range<usize>,
) -> Result<Value<'a>, SyntaxError> {
    let not_json = |text: &str| {
        SyntaxError::new(span.clone(), format!("JSON has no number {text:?}"))
            .help("write it in quotes if it is a string")
    };
    let Some(suffix) = tag.and_then(Tag::core_suffix) else {
        if style != ScalarStyle::Plain || tag.is_some() {
            return Ok(Value::Str(text));
        }
        if text == "<<" {
            return Ok(Value::Str(text));
        }
        let copy = text.clone();
        return scalar::resolve(text).ok_or_else(|| not_json(&copy));
    };
    let wrong = |text: &str| {
        SyntaxError::new(span.clone(), format!("cannot decode {text:?} as a !!{suffix}"))
    };
    match suffix {
        "bool" | "int" | "float" | "null" => {
            let copy = text.clone();
            let value = scalar::resolve(text).ok_or_else(|| not_json(&copy))?;
            match (suffix, &value) {
                ("bool", Value::Bool(_))
                | ("int", Value::Int(_) | Value::BigInt(_))
                | ("float", Value::Float(_) | Value::Int(_))
                | ("null", Value::Null) => Ok(value),
                _ => Err(wrong(&copy)),
            }
        }
        "binary" => {
            let bytes = crate::object::Base64::parse(&text).map_err(|_| wrong(&text))?;
            String::from_utf8(bytes.0)
                .map(|s| Value::Str(s.into()))
                .map_err(|_| wrong(&text).help("write the base64 text itself, without !!binary"))
        }
        _ => Ok(Value::Str(text)),
    }
}

/// What a `<<` brings: the entries of a mapping, or of a list of mappings of which earlier ones win.
fn merged_entries<'a>(
    tree: &Tree<'a>,
    id: NodeId,
    span: &Range<usize>,
    limits: &Limits,
) -> Result<Vec<Entry<'a>>, SyntaxError> {
    let wrong = || {
        SyntaxError::new(span.clone(), "map merge requires map or sequence of maps as the value")
    };
    match tree.value(id) {
        Value::Map(entries) => Ok(entries.clone()),
        Value::List(items) => {
            let mut all = Vec::new();
            for &item in items {
                let Value::Map(entries) = tree.value(item) else { return Err(wrong()) };
                if all.len() + entries.len() > limits.nodes {
                    return Err(super::too_many(span.clone(), limits));
                }
                all.extend(entries.iter().cloned());
            }
            Ok(unique(all))
        }
        _ => Err(wrong()),
    }
}

/// The first entry of each key.
fn unique(entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    let mut seen = std::collections::HashSet::with_capacity(entries.len());
    let keep: Vec<bool> = entries.iter().map(|e| seen.insert(e.key.clone())).collect();
    drop(seen);
    entries.into_iter().zip(keep).filter_map(|(e, keep)| keep.then_some(e)).collect()
}

/// Own entries and merged ones. As in kubectl (go-yaml v2 sets keys in the order they are written),
/// a key after the `<<` overrides it and a key before the `<<` is overridden by it.
fn merge<'a>(own: Vec<Entry<'a>>, merges: Vec<(usize, Vec<Entry<'a>>)>) -> Vec<Entry<'a>> {
    if merges.is_empty() {
        return own;
    }
    let mut order = Vec::with_capacity(own.len());
    let mut own = own.into_iter();
    let mut taken = 0;
    for (before, merged) in merges {
        order.extend(own.by_ref().take(before - taken));
        taken = before;
        order.extend(merged);
    }
    order.extend(own);
    order.reverse();
    let mut entries = unique(order);
    entries.reverse();
    entries
}
