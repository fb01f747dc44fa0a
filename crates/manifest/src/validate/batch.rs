//! Jobs and CronJobs (`pkg/apis/batch/validation`).

use std::collections::HashSet;

use holdfast_lifecycle::cron::{Schedule, ScheduleError, validate_time_zone};

use super::{Cx, meta, names, pod, selector};
use crate::object::batch::{OnExitCodes, OnPodCondition, PodFailurePolicyRule, SuccessPolicyRule};
use crate::object::{CronJob, Job, JobSpec};
use crate::path::Path;

/// Checks a Job (`ValidateJob`).
pub(super) fn job(cx: &mut Cx, job: &Job) {
    meta::object_meta(cx, &job.metadata, names::dns_subdomain);
    let path = Path::ROOT.field("spec");
    job_spec(cx, &job.spec, path);
    match &job.spec.selector {
        None if job.spec.manual_selector == Some(true) => {
            cx.errors.required(path.field("selector"), "");
        }
        None => {}
        Some(given) => {
            let path = path.field("selector");
            selector::label_selector(cx, given, path);
            if job.spec.manual_selector != Some(true) {
                cx.errors.invalid_json(path, given, "`selector` not auto-generated");
                cx.errors.help("remove it: Kubernetes makes a unique selector for every Job");
            } else if !selector::matches(given, &job.spec.template.metadata.labels) {
                let path = Path::ROOT.field("spec");
                let path = path.field("template");
                let path = path.field("metadata");
                let detail = "`selector` does not match template `labels`";
                let labels = &job.spec.template.metadata.labels;
                cx.errors.invalid_json(path.field("labels"), labels, detail);
            }
        }
    }
    if let (true, Some(completions)) = (is_indexed(&job.spec), job.spec.completions)
        && completions > 0
        && !job.metadata.name.is_empty()
    {
        let hostname = format!("{}-{}", job.metadata.name, completions - 1);
        if !names::dns_label(&hostname).is_empty() {
            let path = Path::ROOT.field("metadata");
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            cx.errors.invalid(path.field("name"), &job.metadata.name, detail);
        }
    }
}

/// Checks a CronJob (`ValidateCronJobCreate`).
pub(super) fn cron_job(cx: &mut Cx, cron_job: &CronJob) {
    meta::object_meta(cx, &cron_job.metadata, names::dns_subdomain);
    let name = &cron_job.metadata.name;
    if name.len() > 52 {
        let path = Path::ROOT.field("metadata");
        cx.errors.invalid(path.field("name"), name, "must be no more than 52 characters");
    }
    let spec = &cron_job.spec;
    let path = Path::ROOT.field("spec");
    let schedule = path.field("schedule");
    if spec.schedule.is_empty() {
        cx.errors.required(schedule, "");
    } else if let Err(error) = Schedule::validate(&spec.schedule) {
        cx.errors.invalid(schedule, &spec.schedule, error.to_string());
        if let ScheduleError::Parse(error) = &error
            && let Some(hint) = error.hint()
        {
            cx.errors.help(hint);
        }
    }
    if let Some(zone) = &spec.time_zone
        && let Err(error) = validate_time_zone(zone)
    {
        cx.errors.invalid(path.field("timeZone"), zone, error.to_string());
        if let Some(hint) = error.hint() {
            cx.errors.help(hint);
        }
    }
    if let Some(seconds) = spec.starting_deadline_seconds {
        cx.non_negative(path.field("startingDeadlineSeconds"), seconds);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    if !policies.contains(&spec.concurrency_policy.as_str()) {
        let path = path.field("concurrencyPolicy");
        cx.errors.not_supported(path, &spec.concurrency_policy, &policies);
    }
    for (field, limit) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        if let Some(limit) = limit {
            cx.non_negative(path.field(field), limit.into());
        }
    }
    let template = path.field("jobTemplate");
    let metadata = template.field("metadata");
    meta::labels(cx, &spec.job_template.metadata.labels, metadata.field("labels"));
    let annotations = &spec.job_template.metadata.annotations;
    meta::annotations(cx, annotations, metadata.field("annotations"));
    let job = &spec.job_template.spec;
    let path = template.field("spec");
    job_spec(cx, job, path);
    if let Some(selector) = &job.selector {
        let path = path.field("selector");
        cx.errors.invalid_json(path, selector, "`selector` will be auto-generated");
    }
    if job.manual_selector == Some(true) {
        cx.errors.not_supported(path.field("manualSelector"), "true", &["nil", "false"]);
    }
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// `validateJobSpec`.
fn job_spec(cx: &mut Cx, spec: &JobSpec, path: Path<'_>) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        if let Some(value) = value {
            cx.non_negative(path.field(field), value);
        }
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let path = path.field("backoffLimitPerIndex");
        cx.errors.required(path, "when maxFailedIndexes is specified");
    }
    if let Some(managed_by) = &spec.managed_by {
        let path = path.field("managedBy");
        cx.since(32, path, "JobManagedBy");
        let halves = managed_by.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty());
        match halves {
            None => {
                let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                cx.errors.invalid(path, managed_by, detail);
            }
            Some((domain, _)) => cx.messages(path, domain, names::dns_subdomain(domain)),
        }
        if managed_by.len() > 63 {
            cx.errors.too_long(path, 63);
        }
    }
    completion_mode(cx, spec, path);
    failure_policy(cx, spec, path);
    if let Some(policy) = &spec.success_policy {
        let path = path.field("successPolicy");
        cx.since(31, path, "JobSuccessPolicy");
        let rules = path.field("rules");
        if !is_indexed(spec) {
            cx.errors.invalid_json(path, policy, "requires indexed completion mode");
        } else {
            if policy.rules.is_empty() {
                let detail =
                    "at least one rules must be specified when the successPolicy is specified";
                cx.errors.required(rules, detail);
            }
            if policy.rules.len() > 20 {
                cx.errors.too_many(rules, policy.rules.len(), 20);
            }
            for (i, rule) in policy.rules.iter().enumerate() {
                success_rule(cx, spec, rule, rules.index(i));
            }
        }
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let all: &[&str] = match spec.pod_failure_policy {
            Some(_) => &["Failed"],
            None => &["Failed", "TerminatingOrFailed"],
        };
        if !all.contains(&policy.as_str()) {
            cx.errors.not_supported(path.field("podReplacementPolicy"), policy, all);
        }
    }
    let template = path.field("template");
    pod::template(cx, &spec.template, &[], template);
    let path = template.field("spec");
    let path = path.field("restartPolicy");
    match spec.template.spec.restart_policy.as_str() {
        "Always" | "" => {
            cx.errors.required(path, "valid values: \"OnFailure\", \"Never\"");
            cx.errors.help("a Pod's default, Always, is not possible in a Job");
        }
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            cx.errors.invalid(path, "OnFailure", detail);
        }
        // What is none of the three is reported by the template already.
        _ => {}
    }
}

fn completion_mode(cx: &mut Cx, spec: &JobSpec, path: Path<'_>) {
    /// `maxParallelismForIndexedJob`, `maxFailedIndexesForIndexedJob`, `completionsSoftLimit`.
    const SOFT: i32 = 100_000;
    /// `parallelismLimitForHighCompletions`, `maxFailedIndexesLimitForHighCompletions`.
    const HIGH: i32 = 10_000;
    let (parallelism, failed) = (path.field("parallelism"), path.field("maxFailedIndexes"));
    match spec.completion_mode.as_deref() {
        Some("Indexed") => {
            let Some(completions) = spec.completions else {
                let detail = "when completion mode is Indexed";
                return cx.errors.required(path.field("completions"), detail);
            };
            if let Some(n) = spec.parallelism.filter(|&n| n > SOFT) {
                let detail =
                    format!("must be less than or equal to {SOFT} when completion mode is Indexed");
                cx.errors.invalid(parallelism, n, detail);
            }
            if let Some(n) = spec.max_failed_indexes {
                if n > completions {
                    cx.errors.invalid(failed, n, "must be less than or equal to completions");
                }
                if n > SOFT {
                    let detail = format!("must be less than or equal to {SOFT}");
                    cx.errors.invalid(failed, n, detail);
                }
            }
            if completions > SOFT && spec.backoff_limit_per_index.is_some() {
                let detail = format!(
                    "must be less than or equal to {HIGH} when completions are above {SOFT} and \
                     used with backoff limit per index"
                );
                if spec.max_failed_indexes.is_none() {
                    let detail = format!("must be specified when completions is above {SOFT}");
                    cx.errors.required(failed, detail);
                }
                if let Some(n) = spec.parallelism.filter(|&n| n > HIGH) {
                    cx.errors.invalid(parallelism, n, &detail);
                }
                if let Some(n) = spec.max_failed_indexes.filter(|&n| n > HIGH) {
                    cx.errors.invalid(failed, n, &detail);
                }
            }
        }
        None | Some("NonIndexed") => {
            for (field, value) in [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", spec.max_failed_indexes),
            ] {
                if let Some(value) = value {
                    let path = path.field(field);
                    cx.errors.invalid(path, value, "requires indexed completion mode");
                }
            }
        }
        Some(other) => {
            let path = path.field("completionMode");
            cx.errors.not_supported(path, other, &["NonIndexed", "Indexed"]);
        }
    }
}

fn failure_policy(cx: &mut Cx, spec: &JobSpec, path: Path<'_>) {
    let Some(policy) = &spec.pod_failure_policy else { return };
    let path = path.field("podFailurePolicy");
    let rules = path.field("rules");
    if policy.rules.len() > 20 {
        cx.errors.too_many(rules, policy.rules.len(), 20);
    }
    let pod = &spec.template.spec;
    let names: HashSet<&str> =
        pod.containers.iter().chain(&pod.init_containers).map(|c| c.name.as_str()).collect();
    for (i, rule) in policy.rules.iter().enumerate() {
        failure_rule(cx, spec, rule, &names, rules.index(i));
    }
}

/// `validatePodFailurePolicyRule`.
fn failure_rule(
    cx: &mut Cx,
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    names: &HashSet<&str>,
    path: Path<'_>,
) {
    let action = path.field("action");
    match rule.action.as_str() {
        "Count" | "FailJob" | "Ignore" => {}
        "FailIndex" => {
            if spec.backoff_limit_per_index.is_none() {
                let detail = "requires the backoffLimitPerIndex to be set";
                cx.errors.invalid(action, "FailIndex", detail);
            }
        }
        "" => {
            let detail = r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#;
            cx.errors.required(action, detail);
        }
        other => {
            let all = ["Count", "FailIndex", "FailJob", "Ignore"];
            cx.errors.not_supported(action, other, &all);
        }
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(cx, codes, names, path.field("onExitCodes"));
    }
    if !rule.on_pod_conditions.is_empty() {
        pod_conditions(cx, &rule.on_pod_conditions, path.field("onPodConditions"));
    }
    match (&rule.on_exit_codes, rule.on_pod_conditions.is_empty()) {
        (Some(_), false) => {
            let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
            cx.errors.invalid_bare(path, detail);
        }
        (None, true) => {
            let detail = "specifying one of OnExitCodes and OnPodConditions is required";
            cx.errors.invalid_bare(path, detail);
        }
        _ => {}
    }
}

fn exit_codes(cx: &mut Cx, codes: &OnExitCodes, names: &HashSet<&str>, path: Path<'_>) {
    let operator = path.field("operator");
    match codes.operator.as_str() {
        "In" | "NotIn" => {}
        "" => cx.errors.required(operator, r#"valid values: ["In" "NotIn"]"#),
        other => cx.errors.not_supported(operator, other, &["In", "NotIn"]),
    }
    if let Some(name) = codes.container_name.as_ref().filter(|n| !names.contains(n.as_str())) {
        let detail = "must be one of the container or initContainer names in the pod template";
        cx.errors.invalid(path.field("containerName"), name, detail);
    }
    let path = path.field("values");
    let values = &codes.values;
    if values.is_empty() {
        cx.errors.invalid_json(path, values, "at least one value is required");
    } else if values.len() > 255 {
        cx.errors.too_many(path, values.len(), 255);
    }
    let mut seen = HashSet::new();
    for (i, &value) in values.iter().enumerate() {
        if codes.operator == "In" && value == 0 {
            cx.errors.invalid(path.index(i), value, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            cx.errors.duplicate(path.index(i), value);
        }
    }
    if !values.is_sorted() {
        cx.errors.invalid_json(path, values, "must be ordered");
    }
}

fn pod_conditions(cx: &mut Cx, patterns: &[OnPodCondition], path: Path<'_>) {
    if patterns.len() > 20 {
        cx.errors.too_many(path, patterns.len(), 20);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let path = path.index(i);
        cx.messages(path.field("type"), &pattern.kind, names::qualified(&pattern.kind));
        let all = ["False", "True", "Unknown"];
        if !all.contains(&pattern.status.as_str()) {
            cx.errors.not_supported(path.field("status"), &pattern.status, &all);
        }
    }
}

/// `validateSuccessPolicyRule`.
fn success_rule(cx: &mut Cx, spec: &JobSpec, rule: &SuccessPolicyRule, path: Path<'_>) {
    const MAX: usize = 64 * 1024;
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        cx.errors.required(path, detail);
    }
    let completions = spec.completions.unwrap_or_default();
    let mut total = 0;
    if let Some(indexes) = &rule.succeeded_indexes {
        let path = path.field("succeededIndexes");
        if indexes.len() > MAX {
            cx.errors.too_long(path, MAX);
        } else {
            match count_indexes(indexes, completions) {
                Ok(n) => total = n,
                Err(message) => {
                    let detail = format!("error parsing succeededIndexes: {message}");
                    cx.errors.invalid(path, indexes, detail);
                }
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let path = path.field("succeededCount");
        cx.non_negative(path, count.into());
        if spec.completions.is_some() && count > completions {
            let detail = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            cx.errors.invalid(path, count, detail);
        }
        if rule.succeeded_indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified \
                 succeededIndexes field)"
            );
            cx.errors.invalid(path, count, detail);
        }
    }
}

/// How many indexes `0,2-5` has (`validateIndexesFormat`): increasing, below `completions`.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut total = 0_i32;
    let mut last: Option<i32> = None;
    for part in text.split(',') {
        let mut limits = part.split('-');
        let mut next = || {
            limits.next().map(|s| {
                s.parse::<i32>()
                    .map_err(|_| format!("cannot convert string to integer for index: {s:?}"))
            })
        };
        let first = next().unwrap_or(Ok(0))?;
        let end = next().transpose()?;
        if next().is_some() {
            let detail = "must have one or two elements separated by '-'";
            return Err(format!(
                "the fragment {part:?} violates the requirement that an index interval {detail}"
            ));
        }
        if first >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        if last.is_some_and(|last| first <= last) {
            return Err(format!(
                "non-increasing order, previous: {}, current: {first}",
                last.unwrap_or_default()
            ));
        }
        let end_value = end.unwrap_or(first);
        if end_value >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        if end.is_some() && end_value <= first {
            return Err(format!("non-increasing order, previous: {first}, current: {end_value}"));
        }
        total = total.saturating_add(end_value - first + 1);
        last = Some(end_value);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::count_indexes;

    #[test]
    fn index_lists() {
        assert_eq!(count_indexes("0,2-5", 10), Ok(5));
        assert_eq!(count_indexes("", 10), Ok(0));
        for wrong in ["a", "1-", "5-2", "3,2", "10", "1-2-3", "0-10"] {
            assert!(count_indexes(wrong, 10).is_err(), "{wrong}");
        }
    }
}
