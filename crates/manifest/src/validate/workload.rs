//! Deployments, StatefulSets, DaemonSets and ReplicaSets (`pkg/apis/apps/validation`).

use super::{Cx, meta, names, pod, selector};
use crate::object::workload::{RollingUpdate, UpdateStrategy};
use crate::object::{
    DaemonSet, Deployment, IntOrString, LabelSelector, PodTemplateSpec, ReplicaSet, StatefulSet,
};
use crate::path::Path;

/// Checks a Deployment.
pub(super) fn deployment(cx: &mut Cx, deployment: &Deployment) {
    meta::object_meta(cx, &deployment.metadata, names::dns_subdomain);
    let spec = &deployment.spec;
    let path = Path::ROOT.field("spec");
    counts(cx, spec.replicas, spec.min_ready_seconds, spec.revision_history_limit, path);
    selected(cx, spec.selector.as_ref(), &spec.template, "deployment", &[], path);
    if let Some(seconds) = spec.progress_deadline_seconds {
        let path = path.field("progressDeadlineSeconds");
        cx.non_negative(path, seconds.into());
        if seconds <= spec.min_ready_seconds {
            cx.errors.invalid(path, seconds, "must be greater than minReadySeconds");
        }
    }
    let path = path.field("strategy");
    match spec.strategy.kind.as_str() {
        "Recreate" => {
            if spec.strategy.rolling_update.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                cx.errors.forbidden(path.field("rollingUpdate"), detail);
            }
        }
        "RollingUpdate" => rolling_update(cx, &spec.strategy, path),
        other => {
            let all = ["Recreate", "RollingUpdate"];
            cx.errors.not_supported(path.field("type"), other, &all);
        }
    }
}

/// Checks a StatefulSet.
pub(super) fn stateful_set(cx: &mut Cx, set: &StatefulSet) {
    meta::object_meta(cx, &set.metadata, names::dns_label);
    let spec = &set.spec;
    let path = Path::ROOT.field("spec");
    if !["OrderedReady", "Parallel"].contains(&spec.pod_management_policy.as_str()) {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        let path = path.field("podManagementPolicy");
        cx.errors.invalid(path, &spec.pod_management_policy, detail);
    }
    let strategy = path.field("updateStrategy");
    match (spec.update_strategy.kind.as_str(), &spec.update_strategy.rolling_update) {
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            cx.errors.invalid_json(strategy.field("rollingUpdate"), rolling, detail);
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = strategy.field("rollingUpdate");
            cx.non_negative(path.field("partition"), rolling.partition.unwrap_or(0).into());
        }
        ("OnDelete" | "RollingUpdate", _) => {}
        (other, _) => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            cx.errors.invalid(strategy.field("type"), other, detail);
        }
    }
    if let Some(ordinals) = &spec.ordinals {
        let path = path.field("ordinals");
        cx.non_negative(path.field("start"), ordinals.start.into());
    }
    counts(cx, spec.replicas, spec.min_ready_seconds, spec.revision_history_limit, path);
    let claims: Vec<&str> =
        spec.volume_claim_templates.iter().map(|c| c.metadata.name.as_str()).collect();
    let list = path.field("volumeClaimTemplates");
    for (i, name) in claims.iter().enumerate() {
        let path = list.index(i);
        let path = path.field("metadata");
        match name.is_empty() {
            true => cx.errors.required(path.field("name"), ""),
            false => cx.messages(path.field("name"), name, names::dns_label(name)),
        }
    }
    selected(cx, spec.selector.as_ref(), &spec.template, "statefulset", &claims, path);
}

/// Checks a DaemonSet.
pub(super) fn daemon_set(cx: &mut Cx, set: &DaemonSet) {
    meta::object_meta(cx, &set.metadata, names::dns_subdomain);
    let spec = &set.spec;
    let path = Path::ROOT.field("spec");
    counts(cx, None, spec.min_ready_seconds, spec.revision_history_limit, path);
    selected(cx, spec.selector.as_ref(), &spec.template, "daemonset", &[], path);
    let path = path.field("updateStrategy");
    match spec.update_strategy.kind.as_str() {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(cx, &spec.update_strategy, path),
        other => {
            let all = ["RollingUpdate", "OnDelete"];
            cx.errors.not_supported(path.field("type"), other, &all);
        }
    }
}

/// Checks a ReplicaSet.
pub(super) fn replica_set(cx: &mut Cx, set: &ReplicaSet) {
    meta::object_meta(cx, &set.metadata, names::dns_subdomain);
    let spec = &set.spec;
    let path = Path::ROOT.field("spec");
    counts(cx, spec.replicas, spec.min_ready_seconds, None, path);
    selected(cx, spec.selector.as_ref(), &spec.template, "replicaset", &[], path);
}

fn counts(
    cx: &mut Cx,
    replicas: Option<i32>,
    min_ready: i32,
    history: Option<i32>,
    path: Path<'_>,
) {
    cx.non_negative(path.field("replicas"), replicas.unwrap_or(0).into());
    cx.non_negative(path.field("minReadySeconds"), min_ready.into());
    cx.non_negative(path.field("revisionHistoryLimit"), history.unwrap_or(0).into());
}

/// The selector, the template, and that one selects the other.
fn selected(
    cx: &mut Cx,
    given: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    kind: &str,
    claims: &[&str],
    path: Path<'_>,
) {
    let selector_path = path.field("selector");
    let template_path = path.field("template");
    match given {
        None => cx.errors.required(selector_path, ""),
        Some(selector) => {
            selector::label_selector(cx, selector, selector_path);
            if selector::is_empty(selector) {
                let detail = format!("empty selector is invalid for {kind}");
                cx.errors.invalid_json(selector_path, selector, detail);
            }
        }
    }
    // A missing selector selects nothing (`LabelSelectorAsSelector`).
    if !given.is_some_and(|s| selector::matches(s, &template.metadata.labels)) {
        let path = template_path.field("metadata");
        let detail = "`selector` does not match template `labels`";
        cx.errors.invalid_json(path.field("labels"), &template.metadata.labels, detail);
    }
    pod::template(cx, template, claims, template_path);
    let path = template_path.field("spec");
    if template.spec.restart_policy != "Always" {
        let path = path.field("restartPolicy");
        cx.errors.not_supported(path, &template.spec.restart_policy, &["Always"]);
    }
    if template.spec.active_deadline_seconds.is_some() {
        let path = path.field("activeDeadlineSeconds");
        cx.errors.forbidden(path, format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

/// `ValidateRollingUpdateDeployment`, `ValidateRollingUpdateDaemonSet`.
fn rolling_update(cx: &mut Cx, strategy: &UpdateStrategy, path: Path<'_>) {
    let Some(RollingUpdate { max_unavailable, max_surge, .. }) = &strategy.rolling_update else {
        return;
    };
    let path = path.field("rollingUpdate");
    let unavailable = amount(cx, max_unavailable.as_ref(), path.field("maxUnavailable"));
    let surge = amount(cx, max_surge.as_ref(), path.field("maxSurge"));
    if (unavailable, surge) == (Some(0), Some(0)) {
        let path = path.field("maxUnavailable");
        cx.errors.invalid(path, 0, "may not be 0 when `maxSurge` is 0");
    }
    if let (Some(IntOrString::String(text)), Some(n)) = (max_unavailable, unavailable)
        && n > 100
    {
        cx.errors.invalid(path.field("maxUnavailable"), text, "must not be greater than 100%");
    }
}

/// The number of a count or percentage (`ValidatePositiveIntOrPercent`).
fn amount(cx: &mut Cx, value: Option<&IntOrString>, path: Path<'_>) -> Option<i64> {
    match value? {
        IntOrString::Int(n) => {
            cx.non_negative(path, (*n).into());
            Some((*n).into())
        }
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let number = digits.and_then(|d| d.parse().ok());
            if number.is_none() {
                let detail = "a valid percent string must be a numeric string followed by an \
                              ending '%' (e.g. '1%',  or '93%', regex used for validation is \
                              '[0-9]+%')";
                cx.errors.invalid(path, text, detail);
            }
            number
        }
    }
}
