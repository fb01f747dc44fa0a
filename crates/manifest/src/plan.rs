//! Objects → what the engine needs of them.
//!
//! All of it is made from defaulted and valid objects ([`crate::load()`]); a number that a valid
//! object cannot have is clamped rather than refused.

use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::plan::{RestartRule, RuleAction};
use holdfast_lifecycle::status::ConditionKind;
use holdfast_lifecycle::{Kind, Plan, Probe, RestartPolicy, cron, job};

use crate::object::batch::{OnPodCondition, PodFailurePolicyRule};
use crate::object::container::ResourceRequirements;
use crate::object::{self, CronJob, Job, Pod};

/// The plan of a pod.
pub fn plan(pod: &Pod) -> Plan {
    let spec = &pod.spec;
    let inits = spec.init_containers.iter().map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        container(c, if sidecar { Kind::Sidecar } else { Kind::Init })
    });
    let regulars = spec.containers.iter().map(|c| container(c, Kind::Regular));
    let ephemerals = spec.ephemeral_containers.iter().map(|c| container(c, Kind::Ephemeral));
    Plan {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
        restart_policy: restart_policy(&spec.restart_policy),
        termination_grace: seconds(spec.termination_grace_period_seconds.unwrap_or(30)),
        active_deadline: spec.active_deadline_seconds.map(seconds),
        host_network: spec.host_network,
        readiness_gates: spec.readiness_gates.iter().map(|g| text(&g.condition_type)).collect(),
        containers: inits.chain(regulars).chain(ephemerals).collect(),
    }
}

fn container(c: &object::Container, kind: Kind) -> holdfast_lifecycle::Container {
    let hook =
        |hook: fn(&object::container::Lifecycle) -> bool| c.lifecycle.as_ref().is_some_and(hook);
    holdfast_lifecycle::Container {
        name: text(&c.name),
        kind,
        image: text(&c.image),
        resources: digest(&c.resources),
        // A sidecar's own policy is its kind.
        restart_policy: match kind {
            Kind::Sidecar => None,
            _ => c.restart_policy.as_deref().map(restart_policy),
        },
        restart_rules: c.restart_policy_rules.iter().map(restart_rule).collect(),
        startup: c.startup_probe.as_ref().map(probe),
        readiness: c.readiness_probe.as_ref().map(probe),
        liveness: c.liveness_probe.as_ref().map(probe),
        post_start: hook(|l| l.post_start.is_some()),
        pre_stop: hook(|l| l.pre_stop.is_some()),
    }
}

fn restart_rule(rule: &object::container::ContainerRestartRule) -> RestartRule {
    let codes = rule.exit_codes.as_ref();
    RestartRule {
        action: match rule.action.as_str() {
            "RestartAllContainers" => RuleAction::RestartAllContainers,
            _ => RuleAction::Restart,
        },
        negated: codes.is_some_and(|c| c.operator == "NotIn"),
        values: codes.map(|c| c.values.clone()).unwrap_or_default(),
    }
}

fn probe(p: &object::Probe) -> Probe {
    Probe {
        initial_delay: seconds(p.initial_delay_seconds.into()),
        period: seconds(p.period_seconds.max(1).into()),
        timeout: seconds(p.timeout_seconds.max(1).into()),
        success_threshold: count(p.success_threshold).max(1),
        failure_threshold: count(p.failure_threshold).max(1),
        termination_grace: p.termination_grace_period_seconds.map(seconds),
    }
}

/// The rules of a Job, without its template.
pub fn job(job: &Job) -> job::JobSpec {
    let spec = &job.spec;
    let defaults = job::JobSpec::new(&*job.metadata.namespace, &*job.metadata.name);
    job::JobSpec {
        parallelism: spec.parallelism.map_or(1, count),
        completions: spec.completions.map(count),
        mode: match spec.completion_mode.as_deref() {
            Some("Indexed") => job::CompletionMode::Indexed,
            _ => job::CompletionMode::NonIndexed,
        },
        backoff_limit: spec.backoff_limit.map_or(defaults.backoff_limit, count),
        backoff_limit_per_index: spec.backoff_limit_per_index.map(count),
        max_failed_indexes: spec.max_failed_indexes.map(count),
        failure_policy: spec
            .pod_failure_policy
            .as_ref()
            .map(|p| p.rules.iter().map(failure_rule).collect()),
        success_policy: spec.success_policy.as_ref().map(|p| {
            let rule = |r: &object::batch::SuccessPolicyRule| job::SuccessRule {
                indexes: r.succeeded_indexes.as_deref().map(Arc::from),
                count: r.succeeded_count.map(count),
            };
            p.rules.iter().map(rule).collect()
        }),
        suspend: spec.suspend.unwrap_or(false),
        active_deadline: spec.active_deadline_seconds.map(seconds),
        ttl_after_finished: spec.ttl_seconds_after_finished.map(|s| seconds(s.into())),
        replacement: match spec.pod_replacement_policy.as_deref() {
            Some("Failed") => job::PodReplacement::Failed,
            _ => job::PodReplacement::TerminatingOrFailed,
        },
        restart_policy: restart_policy(&spec.template.spec.restart_policy),
        ..defaults
    }
}

fn failure_rule(rule: &PodFailurePolicyRule) -> job::FailureRule {
    let action = match rule.action.as_str() {
        "FailJob" => job::Action::FailJob,
        "FailIndex" => job::Action::FailIndex,
        "Ignore" => job::Action::Ignore,
        _ => job::Action::Count,
    };
    let on = match &rule.on_exit_codes {
        Some(codes) => job::On::ExitCodes(job::ExitCodes {
            container: codes.container_name.as_deref().map(Arc::from),
            negated: codes.operator == "NotIn",
            values: codes.values.clone(),
        }),
        None => {
            job::On::PodConditions(rule.on_pod_conditions.iter().filter_map(condition).collect())
        }
    };
    job::FailureRule { action, on }
}

/// A pattern for a condition. None of the engine's conditions is ever `Unknown`, so a pattern for
/// that matches nothing and is left out.
fn condition(pattern: &OnPodCondition) -> Option<job::PodCondition> {
    let kind = match pattern.kind.as_str() {
        "PodReadyToStartContainers" => ConditionKind::PodReadyToStartContainers,
        "Initialized" => ConditionKind::Initialized,
        "Ready" => ConditionKind::Ready,
        "ContainersReady" => ConditionKind::ContainersReady,
        "PodScheduled" => ConditionKind::PodScheduled,
        "AllContainersRestarting" => ConditionKind::AllContainersRestarting,
        other => ConditionKind::Other(text(other)),
    };
    match pattern.status.as_str() {
        "True" => Some(job::PodCondition { kind, status: true }),
        "False" => Some(job::PodCondition { kind, status: false }),
        _ => None,
    }
}

/// The rules of a CronJob, without its template.
pub fn cron_job(cron_job: &CronJob) -> cron::CronJobSpec {
    let spec = &cron_job.spec;
    cron::CronJobSpec {
        name: text(&cron_job.metadata.name),
        schedule: text(&spec.schedule),
        time_zone: spec.time_zone.as_deref().map(Arc::from),
        suspend: spec.suspend.unwrap_or(false),
        concurrency: match spec.concurrency_policy.as_str() {
            "Forbid" => cron::ConcurrencyPolicy::Forbid,
            "Replace" => cron::ConcurrencyPolicy::Replace,
            _ => cron::ConcurrencyPolicy::Allow,
        },
        starting_deadline: spec.starting_deadline_seconds.map(seconds),
        keep_succeeded: spec.successful_jobs_history_limit.map(count),
        keep_failed: spec.failed_jobs_history_limit.map(count),
    }
}

fn text(s: &str) -> Arc<str> {
    Arc::from(s)
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

fn count(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

fn restart_policy(word: &str) -> RestartPolicy {
    match word {
        "OnFailure" => RestartPolicy::OnFailure,
        "Never" => RestartPolicy::Never,
        _ => RestartPolicy::Always,
    }
}

/// A digest of `resources` that only changes with its meaning (FNV-1a).
fn digest(resources: &ResourceRequirements) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        for &b in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (list, marker) in [(&resources.limits, b"l"), (&resources.requests, b"r")] {
        for (name, quantity) in list {
            feed(marker);
            feed(name.as_bytes());
            feed(&quantity.nanos().to_le_bytes());
        }
    }
    hash
}
