//! Objects → the engine's plans, and the defaults they rest on.

use std::time::Duration;

use holdfast_lifecycle::job::{Action, CompletionMode, On, PodReplacement};
use holdfast_lifecycle::plan::RuleAction;
use holdfast_lifecycle::{Kind, RestartPolicy};
use holdfast_manifest::plan;

use super::{container_with, job, pod, pod_with, read_as};

#[test]
fn a_pod_with_everything() {
    let text = pod_with(
        "  restartPolicy: OnFailure\n  terminationGracePeriodSeconds: 7\n  activeDeadlineSeconds: 60\n  hostNetwork: true\n  readinessGates: [{conditionType: a.b/C}]\n  initContainers:\n  - {name: i, image: i}\n  - {name: s, image: s, restartPolicy: Always, startupProbe: {httpGet: {port: 1}, periodSeconds: 1, failureThreshold: 5, terminationGracePeriodSeconds: 3}, lifecycle: {preStop: {exec: {command: [x]}}}}\n",
    );
    let plan = plan::plan(&pod(&text));
    assert_eq!((&*plan.namespace, &*plan.name), ("default", "p"));
    assert_eq!(plan.restart_policy, RestartPolicy::OnFailure);
    assert_eq!(plan.termination_grace, Duration::from_secs(7));
    assert_eq!(plan.active_deadline, Some(Duration::from_secs(60)));
    assert!(plan.host_network);
    assert_eq!(&*plan.readiness_gates[0], "a.b/C");
    let kinds: Vec<_> = plan.containers.iter().map(|c| (&*c.name, c.kind)).collect();
    assert_eq!(kinds, [("i", Kind::Init), ("s", Kind::Sidecar), ("c", Kind::Regular)]);
    let sidecar = &plan.containers[1];
    assert_eq!((sidecar.restart_policy, sidecar.pre_stop, sidecar.post_start), (None, true, false));
    let probe = sidecar.startup.unwrap();
    assert_eq!((probe.period, probe.failure_threshold), (Duration::from_secs(1), 5));
    assert_eq!((probe.timeout, probe.success_threshold), (Duration::from_secs(1), 1));
    assert_eq!(probe.termination_grace, Some(Duration::from_secs(3)));
}

#[test]
fn defaults() {
    let pod = pod(&container_with(
        "    readinessProbe: {grpc: {port: 1}}\n    ports: [{containerPort: 1}]\n  volumes: [{name: v}, {name: h, hostPath: {path: /}}]\n",
    ));
    let spec = &pod.spec;
    assert_eq!(
        (spec.restart_policy.as_str(), spec.dns_policy.as_str()),
        ("Always", "ClusterFirst")
    );
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.service_account_name, "default");
    let container = &spec.containers[0];
    assert_eq!(container.image_pull_policy, "Always");
    assert_eq!(container.termination_message_path, "/dev/termination-log");
    assert_eq!(container.ports[0].protocol, "TCP");
    let probe = container.readiness_probe.as_ref().unwrap();
    assert_eq!((probe.period_seconds, probe.failure_threshold), (10, 3));
    assert_eq!(probe.grpc.as_ref().unwrap().service.as_deref(), Some(""));
    assert!(spec.volumes[0].empty_dir.is_some());
    assert_eq!(spec.volumes[1].host_path.as_ref().unwrap().kind.as_deref(), Some(""));
}

#[test]
fn resources_have_a_digest_of_their_meaning() {
    let digest = |resources: &str| {
        let text = container_with(&format!("    resources: {{limits: {{{resources}}}}}\n"));
        plan::plan(&pod(&text)).containers[0].resources
    };
    assert_eq!(digest("cpu: 1, memory: 1Gi"), digest("memory: 1024Mi, cpu: 1000m"));
    assert_ne!(digest("cpu: 1"), digest("cpu: 2"));
    assert_ne!(digest("cpu: 1"), digest("memory: 1"));
}

#[test]
fn restart_rules() {
    let text = container_with(
        "    restartPolicy: Never\n    restartPolicyRules:\n    - {action: Restart, exitCodes: {operator: NotIn, values: [0, 1]}}\n    - {action: RestartAllContainers, exitCodes: {operator: In, values: [2]}}\n",
    );
    let loaded = read_as(36, &text).unwrap();
    let holdfast_manifest::Object::Pod(pod) = &loaded.objects[0] else { panic!() };
    let container = &plan::plan(pod).containers[0];
    assert_eq!(container.restart_policy, Some(RestartPolicy::Never));
    let rules = &container.restart_rules;
    assert_eq!((rules[0].action, rules[0].negated), (RuleAction::Restart, true));
    assert_eq!(
        (rules[1].action, &rules[1].values[..]),
        (RuleAction::RestartAllContainers, &[2][..])
    );
}

#[test]
fn jobs() {
    let job = job(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  completions: 4\n  completionMode: Indexed\n  backoffLimitPerIndex: 2\n  ttlSecondsAfterFinished: 9\n  podFailurePolicy:\n    rules:\n    - {action: FailIndex, onExitCodes: {containerName: c, operator: NotIn, values: [1]}}\n    - {action: Ignore, onPodConditions: [{type: DisruptionTarget}, {type: Ready, status: Unknown}]}\n  successPolicy: {rules: [{succeededIndexes: 0-1, succeededCount: 1}]}\n  template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}\n",
    );
    let spec = plan::job(&job);
    assert_eq!((spec.parallelism, spec.completions), (1, Some(4)));
    assert_eq!(spec.mode, CompletionMode::Indexed);
    assert_eq!((spec.backoff_limit, spec.backoff_limit_per_index), (i32::MAX as u32, Some(2)));
    assert_eq!(spec.replacement, PodReplacement::Failed);
    assert_eq!(spec.ttl_after_finished, Some(Duration::from_secs(9)));
    let rules = spec.failure_policy.unwrap();
    assert_eq!((rules[0].action, rules[1].action), (Action::FailIndex, Action::Ignore));
    let On::ExitCodes(codes) = &rules[0].on else { panic!() };
    assert_eq!((codes.container.as_deref(), codes.negated), (Some("c"), true));
    // What waits for a status that no condition has is left out.
    let On::PodConditions(patterns) = &rules[1].on else { panic!() };
    assert_eq!((patterns.len(), patterns[0].status), (1, true));
    assert_eq!(spec.success_policy.unwrap()[0].indexes.as_deref(), Some("0-1"));
}

/// Kubernetes test/e2e/node/pods.go "pod with negative grace period": the API server stores one second.
#[test]
fn a_negative_grace_period_is_one_second() {
    let pod = pod(&pod_with("  terminationGracePeriodSeconds: -1\n"));
    assert_eq!(pod.spec.termination_grace_period_seconds, Some(1));
    assert_eq!(plan::plan(&pod).termination_grace, Duration::from_secs(1));
}
