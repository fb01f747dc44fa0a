//! What a pod asks of a scheduler (`validateAffinity`, `ValidateTolerations`,
//! `validateTopologySpreadConstraints`).

use super::selector::label_selector;
use super::{Cx, names};
use crate::object::PodSpec;
use crate::object::scheduling::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinity, PodAffinityTerm, Toleration,
    TopologySpreadConstraint,
};
use crate::path::Path;

/// All of it.
pub(super) fn all(cx: &mut Cx, spec: &PodSpec, path: Path<'_>) {
    if let Some(one) = &spec.affinity {
        affinity(cx, one, path.field("affinity"));
    }
    let list = path.field("tolerations");
    for (i, one) in spec.tolerations.iter().enumerate() {
        toleration(cx, one, list.index(i));
    }
    let list = path.field("topologySpreadConstraints");
    for (i, one) in spec.topology_spread_constraints.iter().enumerate() {
        spread(cx, one, list.index(i));
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn affinity(cx: &mut Cx, affinity: &Affinity, path: Path<'_>) {
    if let Some(node) = &affinity.node_affinity {
        let path = path.field("nodeAffinity");
        if let Some(required) = &node.required {
            let path = path.field(REQUIRED);
            let terms = path.field("nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                cx.errors.required(terms, "must have at least one node selector term");
            }
            for (i, term) in required.node_selector_terms.iter().enumerate() {
                node_term(cx, term, terms.index(i));
            }
        }
        let list = path.field(PREFERRED);
        for (i, preferred) in node.preferred.iter().enumerate() {
            let path = list.index(i);
            weight(cx, preferred.weight, path.field("weight"));
            node_term(cx, &preferred.preference, path.field("preference"));
        }
    }
    for (field, pods) in
        [("podAffinity", &affinity.pod_affinity), ("podAntiAffinity", &affinity.pod_anti_affinity)]
    {
        if let Some(pods) = pods {
            pod_affinity(cx, pods, path.field(field));
        }
    }
}

fn weight(cx: &mut Cx, weight: i32, path: Path<'_>) {
    if !(1..=100).contains(&weight) {
        cx.errors.invalid(path, weight, "must be in the range 1-100");
    }
}

/// `ValidateNodeSelectorTerm`.
fn node_term(cx: &mut Cx, term: &NodeSelectorTerm, path: Path<'_>) {
    let list = path.field("matchExpressions");
    for (i, requirement) in term.match_expressions.iter().enumerate() {
        node_requirement(cx, requirement, list.index(i));
    }
}

/// `ValidateNodeSelectorRequirement`.
fn node_requirement(cx: &mut Cx, requirement: &NodeSelectorRequirement, path: Path<'_>) {
    let (values, count) = (path.field("values"), requirement.values.len());
    match requirement.operator.as_str() {
        "In" | "NotIn" if count == 0 => {
            cx.errors.required(values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if count > 0 => cx.errors.forbidden(
            values,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if count != 1 => cx
            .errors
            .required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'"),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => cx.errors.invalid(path.field("operator"), other, "not a valid selector operator"),
    }
    cx.messages(path.field("key"), &requirement.key, names::qualified(&requirement.key));
}

fn pod_affinity(cx: &mut Cx, pods: &PodAffinity, path: Path<'_>) {
    let list = path.field(REQUIRED);
    for (i, term) in pods.required.iter().enumerate() {
        pod_term(cx, term, list.index(i));
    }
    let list = path.field(PREFERRED);
    for (i, preferred) in pods.preferred.iter().enumerate() {
        let path = list.index(i);
        weight(cx, preferred.weight, path.field("weight"));
        pod_term(cx, &preferred.pod_affinity_term, path.field("podAffinityTerm"));
    }
}

/// `validatePodAffinityTerm`.
fn pod_term(cx: &mut Cx, term: &PodAffinityTerm, path: Path<'_>) {
    for (field, selector) in
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            label_selector(cx, selector, path.field(field));
        }
    }
    let key = path.field("topologyKey");
    if term.topology_key.is_empty() {
        cx.errors.required(key, "can not be empty");
    } else {
        cx.messages(key, &term.topology_key, names::qualified(&term.topology_key));
    }
}

/// One step of `ValidateTolerations`.
fn toleration(cx: &mut Cx, toleration: &Toleration, path: Path<'_>) {
    let operator = path.field("operator");
    if !toleration.key.is_empty() {
        cx.messages(path.field("key"), &toleration.key, names::qualified(&toleration.key));
    } else if toleration.operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values \
                      and all keys\"";
        cx.errors.invalid(operator, &toleration.operator, detail);
    }
    if toleration.toleration_seconds.is_some() && toleration.effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        cx.errors.invalid(path.field("effect"), &toleration.effect, detail);
    }
    match toleration.operator.as_str() {
        "" | "Equal" => {
            cx.messages(operator, &toleration.value, names::label_value(&toleration.value));
        }
        "Exists" if !toleration.value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            cx.errors.invalid(operator, &toleration.value, detail);
        }
        "Exists" => {}
        other => cx.errors.not_supported(operator, other, &["Equal", "Exists"]),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !toleration.effect.is_empty() && !effects.contains(&toleration.effect.as_str()) {
        cx.errors.not_supported(path.field("effect"), &toleration.effect, &effects);
    }
}

/// One step of `validateTopologySpreadConstraints`.
fn spread(cx: &mut Cx, constraint: &TopologySpreadConstraint, path: Path<'_>) {
    if constraint.max_skew <= 0 {
        cx.errors.invalid(path.field("maxSkew"), constraint.max_skew, "must be greater than 0");
    }
    if constraint.topology_key.is_empty() {
        cx.errors.required(path.field("topologyKey"), "can not be empty");
    }
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    if !actions.contains(&constraint.when_unsatisfiable.as_str()) {
        let path = path.field("whenUnsatisfiable");
        cx.errors.not_supported(path, &constraint.when_unsatisfiable, &actions);
    }
    if let Some(selector) = &constraint.label_selector {
        label_selector(cx, selector, path.field("labelSelector"));
    }
}
