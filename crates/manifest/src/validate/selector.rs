//! Label selectors (`ValidateLabelSelector`, `LabelSelectorAsSelector`).

use std::collections::BTreeMap;

use super::{Cx, meta, names};
use crate::object::LabelSelector;
use crate::path::Path;

/// Checks a selector.
pub(super) fn label_selector(cx: &mut Cx, selector: &LabelSelector, path: Path<'_>) {
    meta::labels(cx, &selector.match_labels, path.field("matchLabels"));
    let expressions = path.field("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().enumerate() {
        let path = expressions.index(i);
        let values = path.field("values");
        match expression.operator.as_str() {
            "In" | "NotIn" if expression.values.is_empty() => {
                cx.errors.required(values, "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if !expression.values.is_empty() => cx.errors.forbidden(
                values,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            operator => {
                cx.errors.invalid(
                    path.field("operator"),
                    operator,
                    "not a valid selector operator",
                );
            }
        }
        cx.messages(path.field("key"), &expression.key, names::qualified(&expression.key));
        for (i, value) in expression.values.iter().enumerate() {
            cx.messages(values.index(i), value, names::label_value(value));
        }
    }
}

/// Whether the selector selects an object with these labels.
pub(super) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let label = |key: &String| labels.get(key);
    selector.match_labels.iter().all(|(key, value)| label(key) == Some(value))
        && selector.match_expressions.iter().all(|e| match e.operator.as_str() {
            "In" => label(&e.key).is_some_and(|v| e.values.contains(v)),
            "NotIn" => label(&e.key).is_none_or(|v| !e.values.contains(v)),
            "Exists" => label(&e.key).is_some(),
            "DoesNotExist" => label(&e.key).is_none(),
            _ => true,
        })
}

/// Whether the selector says nothing.
pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.is_empty() && selector.match_expressions.is_empty()
}
