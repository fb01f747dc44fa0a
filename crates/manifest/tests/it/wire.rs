//! Objects as the API server sends them.

use std::time::Duration;

use holdfast_lifecycle::status::{
    Condition, ConditionKind, ContainerStatus, InstanceId, State, Terminated,
};
use holdfast_lifecycle::{Phase, PodStatus, Time};
use holdfast_manifest::wire::{
    Deletion, Node, QosClass, Stored, cron_job_json, job_json, object_json, pod_json, qos_class,
};
use holdfast_manifest::{Object, load};
use serde_json::json;

use super::{container_with, job, one, pod, pod_with};

fn at(secs: u64) -> Time {
    Time::from_millis(1_700_000_000_000 + secs * 1000 + 700)
}

fn status() -> PodStatus {
    let container = |name: &str, state| ContainerStatus {
        name: name.into(),
        state,
        last_state: None,
        ready: false,
        started: None,
        restart_count: 0,
        image: "i".into(),
        image_id: "".into(),
        instance: None,
    };
    let ended = Terminated {
        exit_code: 137,
        reason: "OOMKilled".into(),
        message: "".into(),
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
        instance: Some(InstanceId(7)),
    };
    let mut running = container("c", State::Running { started_at: at(3) });
    running.last_state = Some(ended.clone());
    running.restart_count = 1;
    running.started = Some(true);
    running.instance = Some(InstanceId(8));
    let waiting = State::Waiting { reason: "PodInitializing".into(), message: "".into() };
    PodStatus {
        phase: Phase::Running,
        conditions: vec![Condition {
            kind: ConditionKind::Ready,
            status: false,
            reason: "ContainersNotReady".into(),
            message: "containers with unready status: [c]".into(),
            last_transition: at(3),
        }],
        start_time: Some(at(0)),
        pod_ip: Some([10, 0, 0, 2].into()),
        init: vec![container("i", State::Terminated(ended)), container("w", waiting)],
        regular: vec![running],
        ..PodStatus::default()
    }
}

/// What a runtime calls its containers.
fn id(instance: InstanceId) -> Option<String> {
    Some(format!("containerd://{:016x}", instance.0))
}

#[test]
fn a_pod_with_its_status() {
    let node = Node { name: "here".into(), ips: vec![[192, 0, 2, 1].into()], kubernetes: 30 };
    let deletion = Deletion { at: at(10), grace: Duration::from_secs(30) };
    let stored = Stored { resource_version: 42, deletion: Some(deletion) };
    let json = pod_json(&pod(&pod_with("")), &status(), &node, stored, &id);
    assert_eq!(json["metadata"]["resourceVersion"], "42");
    assert_eq!(json["metadata"]["generation"], 2);
    assert_eq!(json["metadata"]["deletionTimestamp"], "2023-11-14T22:14:00Z");
    assert_eq!(json["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(json["spec"]["nodeName"], "here");
    assert_eq!(json["spec"]["containers"][0]["resources"], json!({}));
    assert_eq!(
        json["status"],
        json!({
            "phase": "Running",
            "conditions": [{
                "type": "Ready",
                "status": "False",
                "lastProbeTime": null,
                "lastTransitionTime": "2023-11-14T22:13:23Z",
                "reason": "ContainersNotReady",
                "message": "containers with unready status: [c]",
            }],
            "hostIP": "192.0.2.1",
            "hostIPs": [{"ip": "192.0.2.1"}],
            "podIP": "10.0.0.2",
            "podIPs": [{"ip": "10.0.0.2"}],
            "startTime": "2023-11-14T22:13:20Z",
            "initContainerStatuses": [
                {
                    "name": "i",
                    "state": {"terminated": {
                        "exitCode": 137,
                        "reason": "OOMKilled",
                        "startedAt": "2023-11-14T22:13:21Z",
                        "finishedAt": "2023-11-14T22:13:22Z",
                        "containerID": "containerd://0000000000000007",
                    }},
                    "lastState": {},
                    "ready": false,
                    "restartCount": 0,
                    "image": "i",
                    "imageID": "",
                },
                {
                    "name": "w",
                    "state": {"waiting": {"reason": "PodInitializing"}},
                    "lastState": {},
                    "ready": false,
                    "restartCount": 0,
                    "image": "i",
                    "imageID": "",
                },
            ],
            "containerStatuses": [{
                "name": "c",
                "state": {"running": {"startedAt": "2023-11-14T22:13:23Z"}},
                "lastState": {"terminated": {
                    "exitCode": 137,
                    "reason": "OOMKilled",
                    "startedAt": "2023-11-14T22:13:21Z",
                    "finishedAt": "2023-11-14T22:13:22Z",
                    "containerID": "containerd://0000000000000007",
                }},
                "ready": false,
                "restartCount": 1,
                "image": "i",
                "imageID": "",
                "containerID": "containerd://0000000000000008",
                "started": true,
            }],
            "qosClass": "BestEffort",
        })
    );
    let order: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(order, ["apiVersion", "kind", "metadata", "spec", "status"]);
    // On the host's network the pod has the host's address.
    let host = pod(&pod_with("  hostNetwork: true\n"));
    let mut status = status();
    status.pod_ip = None;
    assert_eq!(
        pod_json(&host, &status, &node, Stored::default(), &id)["status"]["podIP"],
        "192.0.2.1"
    );
}

/// What Kubernetes 1.35 has beside it, as a kubelet of that version published it.
#[test]
fn a_status_says_what_it_is_about() {
    let container = container_with(
        "    resources: {limits: {cpu: 1, memory: 1Mi}}\n    volumeMounts:\n    \
         - {name: v, mountPath: /a}\n    - {name: v, mountPath: /b, readOnly: true}\n    \
         - {name: v, mountPath: /c, readOnly: true, recursiveReadOnly: IfPossible}\n",
    );
    let text = container.replace("spec:\n", "spec:\n  volumes: [{name: v, emptyDir: {}}]\n");
    let pod = pod(&text);
    let json = |kubernetes, status: &PodStatus, deletion| {
        let node = Node { kubernetes, ..Node::default() };
        pod_json(&pod, status, &node, Stored { resource_version: 1, deletion }, &id)["status"]
            .clone()
    };
    let running = status();
    let new = json(35, &running, None);
    assert_eq!(new["observedGeneration"], 1);
    assert_eq!(new["conditions"][0]["observedGeneration"], 1);
    let given = json!({"cpu": "1", "memory": "1Mi"});
    assert_eq!(new["containerStatuses"][0]["resources"]["requests"], given);
    assert_eq!(new["containerStatuses"][0]["resources"]["limits"], given);
    assert_eq!(
        new["containerStatuses"][0]["volumeMounts"],
        json!([
            {"name": "v", "mountPath": "/a"},
            {"name": "v", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "v", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Enabled"},
        ])
    );
    let deletion = Deletion { at: at(10), grace: Duration::ZERO };
    let deleted = json(34, &running, Some(deletion));
    assert_eq!(deleted["observedGeneration"], 2);
    assert_eq!(deleted["conditions"][0]["observedGeneration"], 2);
    assert!(json(33, &running, None)["observedGeneration"].is_null());
    assert!(json(33, &running, None)["containerStatuses"][0]["resources"].is_object());
    assert!(json(32, &running, None)["containerStatuses"][0]["resources"].is_null());
    assert!(json(30, &running, None)["containerStatuses"][0]["volumeMounts"].is_null());
    // The scheduler's condition comes before the kubelet has seen anything.
    let mut bound = status();
    bound.start_time = None;
    assert!(json(35, &bound, None)["observedGeneration"].is_null());
    assert!(json(35, &bound, None)["conditions"][0]["observedGeneration"].is_null());
    // Nothing was given to a container that has not run.
    let mut waiting = status();
    waiting.regular[0].instance = None;
    assert!(json(35, &waiting, None)["containerStatuses"][0]["resources"].is_null());
}

#[test]
fn qos_classes() {
    for (resources, class) in [
        ("{}", QosClass::BestEffort),
        ("{limits: {nvidia.com/gpu: 1}}", QosClass::BestEffort),
        ("{requests: {cpu: 1}}", QosClass::Burstable),
        ("{limits: {cpu: 1}}", QosClass::Burstable),
        ("{limits: {cpu: 1, memory: 1Gi}}", QosClass::Guaranteed),
        ("{limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}", QosClass::Burstable),
    ] {
        let pod = pod(&container_with(&format!("    resources: {resources}\n")));
        assert_eq!(qos_class(&pod.spec), class, "{resources}");
    }
}

#[test]
fn jobs_and_cron_jobs() {
    use holdfast_lifecycle::cron::CronJobStatus;
    use holdfast_lifecycle::job::{JobCondition, JobConditionKind, JobReason, JobStatus};
    let object = job(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n",
    );
    let status = JobStatus {
        conditions: vec![JobCondition {
            kind: JobConditionKind::Complete,
            status: true,
            reason: JobReason::CompletionsReached,
            message: "Reached expected number of succeeded pods".into(),
            last_transition: at(1),
        }],
        start_time: Some(at(0)),
        completion_time: Some(at(1)),
        succeeded: 1,
        ..JobStatus::default()
    };
    let json = job_json(&object, &status, 7);
    assert_eq!(json["metadata"]["resourceVersion"], "7");
    assert_eq!(json["spec"]["backoffLimit"], 6);
    assert_eq!(
        json["status"],
        json!({
            "conditions": [{
                "type": "Complete",
                "status": "True",
                "lastProbeTime": "2023-11-14T22:13:21Z",
                "lastTransitionTime": "2023-11-14T22:13:21Z",
                "reason": "CompletionsReached",
                "message": "Reached expected number of succeeded pods",
            }],
            "startTime": "2023-11-14T22:13:20Z",
            "completionTime": "2023-11-14T22:13:21Z",
            "succeeded": 1,
            "terminating": 0,
            "uncountedTerminatedPods": {},
            "ready": 0,
        })
    );
    let Object::CronJob(cron_job) = one(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {schedule: '@hourly', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}\n",
    ) else {
        panic!()
    };
    let status = CronJobStatus {
        active: vec!["c-1".into()],
        last_schedule: Some(at(0)),
        last_successful: None,
    };
    assert_eq!(
        cron_job_json(&cron_job, &status)["status"],
        json!({
            "active": [{"kind": "Job", "namespace": "default", "name": "c-1", "apiVersion": "batch/v1"}],
            "lastScheduleTime": "2023-11-14T22:13:20Z",
        })
    );
}

/// What the API server would send is what it would accept.
#[test]
fn json_reads_back_as_the_same_object() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/manifest");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let source = holdfast_manifest::Source::new("seed", bytes);
        let Ok(loaded) = load(&[source], &Default::default()) else { continue };
        for object in loaded.objects {
            let json = object_json(&object).to_string();
            assert_eq!(object_json(&one(&json)).to_string(), json);
            assert_eq!(one(&json), object);
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}
