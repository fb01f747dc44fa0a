//! `resources` (`ValidateContainerResourceRequirements`).

use std::collections::BTreeMap;

use super::{Cx, names};
use crate::object::Quantity;
use crate::object::container::ResourceRequirements;
use crate::path::Path;

/// Checks `resources` of a container.
pub(super) fn requirements(cx: &mut Cx, resources: &ResourceRequirements, path: Path<'_>) {
    let limits = path.field("limits");
    let requests = path.field("requests");
    list(cx, &resources.limits, limits);
    list(cx, &resources.requests, requests);
    for (name, request) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else {
            if !can_overcommit(name) {
                cx.errors.required(limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        if !can_overcommit(name) && request != limit {
            let detail = format!("must be equal to {name} limit of {limit}");
            cx.errors.invalid(requests.key(name), request.to_string(), detail);
        } else if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            cx.errors.invalid(requests.key(name), request.to_string(), detail);
        }
    }
}

/// Names and values of one list.
pub(super) fn list(cx: &mut Cx, list: &BTreeMap<String, Quantity>, path: Path<'_>) {
    for (name, quantity) in list {
        let path = path.key(name);
        let messages = names::qualified(name);
        if messages.is_empty() && !name.contains('/') && !is_standard(name) {
            cx.errors.invalid(path, name, "must be a standard resource for containers");
        }
        cx.messages(path, name, messages);
        if quantity.nanos() < 0 {
            let detail = "must be greater than or equal to 0";
            cx.errors.invalid(path, quantity.to_string(), detail);
        }
        if is_whole_only(name) && quantity.nanos() % 1_000_000_000 != 0 {
            cx.errors.invalid(path, quantity.to_string(), "must be an integer");
        }
    }
}

/// `IsStandardContainerResourceName`.
fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// `IsOvercommitAllowed`.
fn can_overcommit(name: &str) -> bool {
    !is_whole_only(name) && !name.starts_with("hugepages-")
}

/// Extended resources are counted, not divided (`IsExtendedResourceName`).
fn is_whole_only(name: &str) -> bool {
    name.split_once('/').is_some_and(|(prefix, _)| !prefix.contains("kubernetes.io"))
}
