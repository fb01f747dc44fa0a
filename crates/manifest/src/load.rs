//! Sources → objects: decoding, defaults, validation, for every document of every source.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::decode::{Decode, Decoder};
use crate::diagnostic::{Diagnostic, Diagnostics, Fault, FieldError, Severity};
use crate::object::Object;
use crate::path::{FieldPath, Segment};
use crate::source::{Source, Text};
use crate::tree::{self, Limits, NodeId, Tree, Value};
use crate::{defaults, known, validate};

/// How to read manifests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The Kubernetes minor version whose rules hold: 29 … 36, 35 by default.
    pub kubernetes: u32,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// How much input is accepted.
    pub limits: Limits,
    /// How many findings are kept; the rest is counted.
    pub max_findings: usize,
    /// What the caller cannot do of an object that is valid.
    pub refuse: Option<Refuse>,
}

/// Looks at a valid object: the paths of fields that cannot be honoured, and why. Paths are written as
/// Kubernetes writes them (`spec.containers[0].image`).
pub type Refuse = fn(&Object) -> Vec<(String, String)>;

impl Default for Options {
    fn default() -> Self {
        Self {
            kubernetes: 35,
            namespace: "default".to_owned(),
            limits: Limits::default(),
            max_findings: 100,
            refuse: None,
        }
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The objects, defaulted and valid, in the order of the sources.
    pub objects: Vec<Object>,
    /// What was left out, and what may not be meant so.
    pub warnings: Diagnostics,
}

/// Reads every object of every source.
///
/// Kinds that Holdfast does not run are left out with a warning; a kind that Kubernetes does not have,
/// in a group whose kinds are known, is an error. All errors are reported, not only the first.
///
/// # Errors
/// Every error and warning, if there is an error.
pub fn load(sources: &[Source], options: &Options) -> Result<Loaded, Diagnostics> {
    let mut loader = Loader { options, loaded: Loaded::default(), names: HashSet::new() };
    for source in sources {
        loader.source(source);
    }
    let loaded = loader.loaded;
    if loaded.warnings.has_errors() || loaded.warnings.omitted() > 0 {
        return Err(loaded.warnings);
    }
    Ok(loaded)
}

struct Loader<'o> {
    options: &'o Options,
    loaded: Loaded,
    /// Kind, namespace and name of every object so far.
    names: HashSet<(&'static str, String, String)>,
}

/// The text of one source, while it is read.
struct Reading<'a> {
    text: &'a Arc<Text>,
    tree: &'a Tree<'a>,
}

impl Loader<'_> {
    fn finding(&mut self, diagnostic: Diagnostic) {
        if self.loaded.warnings.len() < self.options.max_findings {
            self.loaded.warnings.push(diagnostic);
        } else if diagnostic.severity == Severity::Error {
            self.loaded.warnings.omit(1);
        }
    }

    fn source(&mut self, source: &Source) {
        let text = match text_of(source, &self.options.limits) {
            Ok(text) => text,
            Err(diagnostic) => return self.finding(*diagnostic),
        };
        let (tree, errors) = tree::parse(&text.text, &self.options.limits);
        let reading = Reading { text: &text, tree: &tree };
        for error in errors {
            self.finding(Diagnostic::document(
                Severity::Error,
                error.message,
                error.help,
                &text,
                error.span,
            ));
        }
        for &document in &tree.documents {
            self.document(&reading, document, None, 0);
        }
    }

    fn error(
        &mut self,
        reading: &Reading<'_>,
        span: Range<usize>,
        message: String,
        help: Option<&str>,
    ) {
        let help = help.map(str::to_owned);
        self.finding(Diagnostic::document(Severity::Error, message, help, reading.text, span));
    }

    /// One document, or one item of a List. `inherited` is what a typed list says of its items.
    fn document(
        &mut self,
        reading: &Reading<'_>,
        root: NodeId,
        inherited: Option<(&str, &str)>,
        depth: usize,
    ) {
        let tree = reading.tree;
        match tree.value(root) {
            Value::Null => return,
            Value::Map(entries) if entries.is_empty() => return,
            Value::Map(_) => {}
            _ => {
                let message = "a document must be a mapping with apiVersion and kind".to_owned();
                return self.error(reading, tree.span(root), message, None);
            }
        }
        let place = tree.locate(root, &FieldPath::default());
        let kind = tree.get_str(root, "kind").or(inherited.map(|i| i.1)).unwrap_or_default();
        let version =
            tree.get_str(root, "apiVersion").or(inherited.map(|i| i.0)).unwrap_or_default();
        if kind.is_empty() {
            let help = "every object starts with apiVersion and kind";
            return self.error(reading, place, "kind must be set".to_owned(), Some(help));
        }
        if version.is_empty() {
            let help = "every object starts with apiVersion and kind";
            return self.error(reading, place, "apiVersion must be set".to_owned(), Some(help));
        }
        if kind.ends_with("List") && tree.get(root, "items").is_some() {
            return self.list(reading, root, kind, version, depth);
        }
        let place = tree.locate(root, &field("kind"));
        let Some(reader) = KINDS.iter().find(|k| k.kind == kind && same_api(k, version)) else {
            if known::is_unknown(version, kind) {
                let help = known::meant(version, kind);
                return self.error(reading, place, no_matches(kind, version), help.as_deref());
            }
            let message = format!("{version} {kind} is not run by holdfast; it is left out");
            let finding =
                Diagnostic::document(Severity::Warning, message, None, reading.text, place);
            return self.finding(finding);
        };
        if reader.version != version {
            let message = no_matches(kind, version);
            let help = format!("{kind} is served as apiVersion {}", reader.version);
            let place = tree.locate(root, &field("apiVersion"));
            return self.error(reading, place, message, Some(&help));
        }
        self.object(reading, root, reader);
    }

    /// `kind: List`, or a typed list such as `PodList`.
    fn list(
        &mut self,
        reading: &Reading<'_>,
        root: NodeId,
        kind: &str,
        version: &str,
        depth: usize,
    ) {
        let tree = reading.tree;
        let item_kind = kind.strip_suffix("List").unwrap_or_default();
        let inherited = (!item_kind.is_empty()).then_some((version, item_kind));
        let Some(items) = tree.get(root, "items") else { return };
        match tree.value(items) {
            Value::Null => {}
            // The tree's own limit on depth bounds lists in lists; this keeps the message apart.
            Value::List(_) if depth >= 8 => {
                let place = tree.locate(root, &field("items"));
                self.error(reading, place, "lists of lists, nested too deep".to_owned(), None);
            }
            Value::List(items) => {
                for &item in items {
                    self.document(reading, item, inherited, depth + 1);
                }
            }
            _ => {
                let place = tree.locate(root, &field("items"));
                self.error(reading, place, "items: expected a list".to_owned(), None);
            }
        }
    }

    /// What the caller cannot do, as findings about fields.
    fn refused(&self, object: &Object) -> Vec<FieldError> {
        let refused = self.options.refuse.map(|refuse| refuse(object)).unwrap_or_default();
        refused
            .into_iter()
            .map(|(path, reason)| FieldError {
                path: FieldPath::parse(&path),
                fault: Fault::Refused(reason),
                help: None,
                span: None,
            })
            .collect()
    }

    fn object(&mut self, reading: &Reading<'_>, root: NodeId, reader: &'static Reader) {
        let tree = reading.tree;
        let mut decoder = Decoder::new(tree, self.options.max_findings);
        let mut object = (reader.decode)(root, &mut decoder);
        let (decode_errors, mut omitted) = (decoder.errors, decoder.omitted);
        defaults::object(&mut object, self.options);
        // With as many findings as are kept, those that would only follow from them are not looked for.
        let errors = if omitted > 0 {
            Vec::new()
        } else {
            let (mut errors, more) = validate::object(&object, self.options);
            omitted += more;
            if errors.is_empty() && decode_errors.is_empty() {
                errors = self.refused(&object);
            }
            errors
        };

        let meta = object.metadata();
        let name = if meta.name.is_empty() { &meta.generate_name } else { &meta.name };
        let title = format!("{}/{}", object.kind(), if name.is_empty() { "?" } else { name });
        let masked = Masked::new(&decode_errors);
        let follow_up = errors.into_iter().filter(|error| !masked.hides(error)).collect::<Vec<_>>();
        let mut found: Vec<(Range<usize>, FieldError)> = decode_errors
            .into_iter()
            .chain(follow_up)
            .map(|mut error| {
                let span = error.span.take();
                (span.unwrap_or_else(|| tree.locate(root, &error.path)), error)
            })
            .collect();
        found.sort_by_key(|(span, _)| span.start);
        let bad = !found.is_empty() || omitted > 0;
        let mut seen = HashSet::new();
        for (span, error) in found {
            // Kubernetes prints equal messages once (`ErrorList.ToAggregate`).
            if seen.insert(format!("{} {}", error.path, error.fault)) {
                let title = title.clone();
                let text = reading.text;
                self.finding(Diagnostic::field(Severity::Error, title, error, text, span));
            }
        }
        self.loaded.warnings.omit(omitted);
        if bad {
            return;
        }
        if !meta.name.is_empty() {
            let id = (object.kind(), meta.namespace.clone(), meta.name.clone());
            if !self.names.insert(id) {
                let path = FieldPath(vec![seg("metadata"), seg("name")]);
                let place = tree.locate(root, &path);
                let message = format!(
                    "{title} is already defined in namespace {:?}",
                    object.metadata().namespace
                );
                let help = "two objects of one kind and namespace need different names";
                return self.error(reading, place, message, Some(help));
            }
        }
        self.loaded.objects.push(object);
    }
}

fn seg(name: &'static str) -> Segment {
    Segment::Field(name.into())
}

fn field(name: &'static str) -> FieldPath {
    FieldPath(vec![seg(name)])
}

/// Validation findings that only follow from decoding findings: those at or below a value that could
/// not be read, and "required" where a misspelt field says what was meant.
struct Masked {
    unreadable: HashSet<FieldPath>,
    meant: HashSet<FieldPath>,
}

impl Masked {
    fn new(errors: &[FieldError]) -> Self {
        let (mut unreadable, mut meant) = (HashSet::new(), HashSet::new());
        for error in errors {
            match error.fault {
                Fault::UnknownField { suggestion } => {
                    if let Some(suggestion) = suggestion {
                        let mut path = error.path.clone();
                        path.0.pop();
                        path.0.push(Segment::Field(suggestion.into()));
                        meant.insert(path);
                    }
                }
                _ => {
                    unreadable.insert(error.path.clone());
                }
            }
        }
        Self { unreadable, meant }
    }

    fn hides(&self, error: &FieldError) -> bool {
        if self.unreadable.is_empty() && self.meant.is_empty() {
            return false;
        }
        let required = matches!(error.fault, Fault::Required(_));
        (1..=error.path.0.len()).any(|len| {
            let prefix = FieldPath(error.path.0[..len].to_vec());
            self.unreadable.contains(&prefix) || (required && self.meant.contains(&prefix))
        })
    }
}

/// kubectl's words for a kind that is not there (apimachinery: `NoKindMatchError`).
fn no_matches(kind: &str, version: &str) -> String {
    let (kind, version) = (crate::decode::clip(kind), crate::decode::clip(version));
    format!("no matches for kind {kind:?} in version {version:?}")
}

/// The text of a source, or why it is none.
fn text_of(source: &Source, limits: &Limits) -> Result<Arc<Text>, Box<Diagnostic>> {
    let fail = |message: String, help: Option<&str>, shown: &[u8], at: usize| {
        let text =
            Arc::new(Text::new(source.name.clone(), String::from_utf8_lossy(shown).into_owned()));
        let help = help.map(str::to_owned);
        Err(Box::new(Diagnostic::document(Severity::Error, message, help, &text, at..at + 1)))
    };
    let bytes = &source.bytes;
    let max = limits.bytes.min(u32::MAX as usize - 1);
    if bytes.len() > max {
        let message = format!("the input has {} bytes; at most {max} are read", bytes.len());
        return fail(message, Some("split the file"), &[], 0);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "the text is UTF-16; only UTF-8 is read".to_owned();
        return fail(message, Some("save the file as UTF-8"), &[], 0);
    }
    match std::str::from_utf8(bytes) {
        Err(error) => {
            let at = error.valid_up_to();
            let binary = bytes[..bytes.len().min(8192)].contains(&0);
            let message = match binary {
                true => "this is a binary file, not a manifest".to_owned(),
                false => format!("not UTF-8: invalid byte 0x{:02x}", bytes[at]),
            };
            // The text up to the byte, so that its line and column are right.
            let end = bytes.len().min(at + 1);
            fail(message, None, &bytes[..end], at)
        }
        Ok(text) => match text.find('\0') {
            Some(at) => {
                let message = "this is a binary file, not a manifest".to_owned();
                fail(message, None, &bytes[..at], at)
            }
            None => Ok(Arc::new(Text::new(source.name.clone(), text.to_owned()))),
        },
    }
}

/// One kind that Holdfast runs.
struct Reader {
    version: &'static str,
    kind: &'static str,
    decode: fn(NodeId, &mut Decoder<'_>) -> Object,
}

macro_rules! kinds {
    ($($version:literal $kind:ident,)*) => {
        const KINDS: &[Reader] = &[$(
            Reader {
                version: $version,
                kind: stringify!($kind),
                decode: |node, cx| {
                    let mut object = crate::object::$kind::decode(node, cx);
                    // Items of a typed list may leave both out.
                    object.api_version = $version.to_owned();
                    object.kind = stringify!($kind).to_owned();
                    Object::$kind(object)
                },
            },
        )*];
    };
}

kinds! {
    "v1" Pod,
    "batch/v1" Job,
    "batch/v1" CronJob,
    "apps/v1" Deployment,
    "apps/v1" StatefulSet,
    "apps/v1" DaemonSet,
    "apps/v1" ReplicaSet,
    "v1" ConfigMap,
    "v1" Secret,
    "v1" Service,
}

/// Whether an apiVersion means this kind, if perhaps in a version that is not served any more.
fn same_api(reader: &Reader, version: &str) -> bool {
    let group = |v: &str| v.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    let (ours, theirs) = (group(reader.version), group(version));
    ours == theirs || (ours == "apps" && theirs == "extensions")
}
