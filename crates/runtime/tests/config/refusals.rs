//! Nothing is ignored in silence.

use holdfast_manifest::object::{CronJob, Deployment, Job, Object};
use holdfast_runtime::config::{Finding, RunBy, notices, unsupported, unsupported_workload};
use serde_json::{Value, json};

use super::{Bench, pod};

fn paths(found: Vec<Finding>) -> Vec<String> {
    assert!(found.iter().all(|finding| !finding.reason.is_empty()));
    found.into_iter().map(|finding| finding.path).collect()
}

#[test]
fn a_usual_pod_has_nothing_to_refuse() {
    let spec = json!({
        "serviceAccountName": "x", "tolerations": [{"operator": "Exists"}], "priority": 5,
        "hostUsers": true, "os": {"name": "linux"},
        "securityContext": {"runAsUser": 1, "fsGroup": 2, "seccompProfile": {"type": "Unconfined"}},
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
    });
    let container = json!({
        "resources": {"limits": {"cpu": 1, "memory": "1Mi"}},
        "securityContext": {"procMount": "Default", "capabilities": {"add": ["ALL", "NET_ADMIN"]}},
        "lifecycle": {"stopSignal": "SIGUSR1"},
    });
    let pod = pod(container, spec);
    assert_eq!(unsupported(&pod, RunBy::Process), []);
    assert_eq!(notices(&pod, &Bench::new().node, RunBy::Process), []);
}

#[test]
fn every_refusal_names_its_field() {
    let cases: Vec<(Value, Value, &str)> = vec![
        (json!({}), json!({"hostUsers": false}), "spec.hostUsers"),
        (json!({}), json!({"runtimeClassName": "gvisor"}), "spec.runtimeClassName"),
        (json!({}), json!({"os": {"name": "windows"}}), "spec.os.name"),
        (json!({}), json!({"resourceClaims": [{}]}), "spec.resourceClaims"),
        (json!({}), json!({"schedulingGates": [{"name": "g"}]}), "spec.schedulingGates"),
        (json!({}), json!({"resources": {"limits": {"cpu": 1}}}), "spec.resources"),
        (
            json!({}),
            json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}),
            "spec.securityContext.sysctls[0]",
        ),
        (
            json!({}),
            json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}}),
            "spec.securityContext.seLinuxOptions",
        ),
        (
            json!({}),
            json!({"securityContext": {"appArmorProfile": {"type": "Localhost"}}}),
            "spec.securityContext.appArmorProfile.type",
        ),
        (json!({}), json!({"volumes": [{"name": "v", "nfs": {}}]}), "spec.volumes[0].nfs"),
        (json!({}), json!({"volumes": [{"name": "v", "image": {}}]}), "spec.volumes[0].image"),
        (
            json!({}),
            json!({"volumes": [{"name": "v", "emptyDir": {"medium": "HugePages"}}]}),
            "spec.volumes[0].emptyDir",
        ),
        (
            json!({}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [
                {"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "t"}}]}}]}),
            "spec.volumes[0].projected.sources[1].serviceAccountToken",
        ),
        (
            json!({"securityContext": {"procMount": "Unmasked"}}),
            json!({}),
            "spec.containers[0].securityContext.procMount",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            json!({}),
            "spec.containers[0].securityContext.seccompProfile.type",
        ),
        (
            json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN", "FLY"]}}}),
            json!({}),
            "spec.containers[0].securityContext.capabilities.add[1]",
        ),
        (
            json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}),
            json!({}),
            "spec.containers[0].volumeDevices",
        ),
        (
            json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
            json!({}),
            "spec.containers[0].resources.limits[nvidia.com/gpu]",
        ),
        (
            json!({"resources": {"requests": {"hugepages-2Mi": "2Mi"}}}),
            json!({}),
            "spec.containers[0].resources.requests[hugepages-2Mi]",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "k"}}}]}),
            json!({}),
            "spec.containers[0].env[0].valueFrom.fileKeyRef",
        ),
        (
            json!({"lifecycle": {"stopSignal": "SIGWHAT"}}),
            json!({}),
            "spec.containers[0].lifecycle.stopSignal",
        ),
    ];
    for (container, spec, path) in cases {
        assert_eq!(paths(unsupported(&pod(container, spec), RunBy::Process)), [path]);
    }
}

#[test]
fn what_does_less_is_said() {
    let container = json!({
        "tty": true, "stdin": true, "resources": {"limits": {"ephemeral-storage": "1Gi"}},
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    });
    let spec = json!({"nodeSelector": {"disk": "ssd", "zone": "a"}});
    let pod = pod(container, spec);
    assert_eq!(unsupported(&pod, RunBy::Process), []);
    assert_eq!(
        paths(notices(&pod, &Bench::new().node, RunBy::Process)),
        [
            "spec.nodeSelector[zone]",
            "spec.containers[0].securityContext.seccompProfile.type",
            "spec.containers[0].resources.limits[ephemeral-storage]",
            "spec.containers[0].stdin",
            "spec.containers[0].tty",
        ]
    );
}

#[test]
fn what_a_cluster_would_do_is_noted() {
    let term = json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]);
    let required = json!({"nodeSelectorTerms": term});
    let spec = json!({
        "nodeName": "elsewhere",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "readinessGates": [{"conditionType": "example.com/ready"}],
        "automountServiceAccountToken": true,
    });
    let found = notices(&pod(json!({}), spec), &Bench::new().node, RunBy::Process);
    assert_eq!(
        paths(found),
        [
            "spec.nodeName",
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
            "spec.readinessGates[0]",
            "spec.automountServiceAccountToken",
        ]
    );
    let here = Bench::new().node.name;
    let spec = json!({"nodeName": here, "automountServiceAccountToken": false});
    assert_eq!(notices(&pod(json!({}), spec), &Bench::new().node, RunBy::Process), []);
}

#[test]
fn what_workloads_ask_for_in_vain() {
    let job =
        |manager: &str| serde_json::from_value::<Job>(json!({"spec": {"managedBy": manager}}));
    let of = |object: Object| paths(unsupported_workload(&object));
    assert_eq!(of(Object::Job(job("kueue.x-k8s.io/multikueue").unwrap())), ["spec.managedBy"]);
    assert!(of(Object::Job(job("kubernetes.io/job-controller").unwrap())).is_empty());
    let cron: CronJob = serde_json::from_value(
        json!({"spec": {"jobTemplate": {"spec": {"managedBy": "example.com/other"}}}}),
    )
    .unwrap();
    assert_eq!(of(Object::CronJob(cron)), ["spec.jobTemplate.spec.managedBy"]);
    let web =
        |paused: bool| serde_json::from_value::<Deployment>(json!({"spec": {"paused": paused}}));
    assert_eq!(of(Object::Deployment(web(true).unwrap())), ["spec.paused"]);
    assert!(of(Object::Deployment(web(false).unwrap())).is_empty());
}
