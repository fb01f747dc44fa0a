//! `metadata` (`ValidateObjectMeta`).

use std::collections::BTreeMap;

use super::{Cx, names};
use crate::object::ObjectMeta;
use crate::path::Path;

/// Checks `metadata`; `name` is the grammar of the kind's names.
pub(super) fn object_meta(cx: &mut Cx, meta: &ObjectMeta, name: fn(&str) -> Vec<String>) {
    let path = Path::ROOT.field("metadata");
    if !meta.generate_name.is_empty() {
        // A prefix may end in a dash (`maskTrailingDash`).
        let mut masked = meta.generate_name.clone();
        if masked.len() > 1 && masked.ends_with('-') {
            masked.pop();
            masked.push('a');
        }
        cx.messages(path.field("generateName"), &meta.generate_name, name(&masked));
    }
    if !meta.name.is_empty() {
        cx.messages(path.field("name"), &meta.name, name(&meta.name));
    } else if meta.generate_name.is_empty() {
        cx.errors.required(path.field("name"), "name or generateName is required");
    }
    cx.messages(path.field("namespace"), &meta.namespace, names::dns_label(&meta.namespace));
    labels(cx, &meta.labels, path.field("labels"));
    annotations(cx, &meta.annotations, path.field("annotations"));
    let finalizers = path.field("finalizers");
    for (i, finalizer) in meta.finalizers.iter().enumerate() {
        cx.messages(finalizers.index(i), finalizer, names::qualified(finalizer));
    }
    let owners = path.field("ownerReferences");
    for (i, owner) in meta.owner_references.iter().enumerate() {
        let path = owners.index(i);
        for (name, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                cx.errors.invalid(path.field(name), "", "must not be empty");
            }
        }
    }
}

/// `ValidateLabels`.
pub(super) fn labels(cx: &mut Cx, labels: &BTreeMap<String, String>, path: Path<'_>) {
    for (key, value) in labels {
        cx.messages(path.key(key), key, names::qualified(key));
        cx.messages(path.key(key), value, names::label_value(value));
    }
}

/// `ValidateAnnotations`.
pub(super) fn annotations(cx: &mut Cx, annotations: &BTreeMap<String, String>, path: Path<'_>) {
    /// `TotalAnnotationSizeLimitB`.
    const MAX: usize = 256 * 1024;
    let mut total = 0;
    for (key, value) in annotations {
        cx.messages(path.key(key), key, names::qualified(&key.to_lowercase()));
        total += key.len() + value.len();
    }
    if total > MAX {
        cx.errors.too_long(path, MAX);
    }
}
