//! Workloads → pods.

use holdfast_lifecycle::Time;
use holdfast_lifecycle::job::{Job as Engine, JobInput, JobOutput};
use holdfast_manifest::expand::{Maker, Replicas, cron_job_job, job_pod};
use holdfast_manifest::object::{Object, Timestamp};
use holdfast_manifest::plan;

use super::{job, one, pod_with};

/// Calls `test` with a maker whose random numbers count up.
fn with_maker<T>(test: impl FnOnce(&mut Maker<'_>) -> T) -> T {
    let mut n = 0;
    let mut random = || {
        n += 1;
        n
    };
    test(&mut Maker::new(&mut random, Timestamp::from_unix(Time::from_secs(1_700_000_000))))
}

fn workload(kind: &str, spec: &str) -> Object {
    one(&format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: w, namespace: ns}}\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n  template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n{spec}"
    ))
}

#[test]
fn a_new_object_gets_name_uid_and_time() {
    with_maker(|maker| {
        let mut object = one(&pod_with("").replace("name: p", "generateName: p-"));
        maker.admit_object(&mut object);
        let meta = object.metadata();
        assert_eq!(meta.name, "p-cbbbb");
        assert_eq!(meta.uid, "00000000-0000-4002-8000-000000000003");
        assert_eq!(meta.creation_timestamp.unwrap().to_string(), "2023-11-14T22:13:20Z");
        let before = object.clone();
        maker.admit_object(&mut object);
        assert_eq!(object, before, "what is there stays");
    });
}

/// A template keeps a negative grace period, its pods are stored with one second
/// (`Convert_v1_Pod_To_core_Pod`).
#[test]
fn a_negative_grace_period_of_a_template() {
    with_maker(|maker| {
        let object = one(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: w}\nspec:\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {terminationGracePeriodSeconds: -1, containers: [{name: c, image: i}]}}\n",
        );
        let Object::ReplicaSet(set) = &object else { panic!("{object:?}") };
        assert_eq!(set.spec.template.spec.termination_grace_period_seconds, Some(-1));
        let pod = Replicas::of(&object, maker).unwrap().pod(0, maker);
        assert_eq!(pod.spec.termination_grace_period_seconds, Some(1));
    });
}

#[test]
fn deployments_have_a_replica_set_between() {
    with_maker(|maker| {
        let mut object = workload("Deployment", "  replicas: 3\n");
        maker.admit_object(&mut object);
        let replicas = Replicas::of(&object, maker).unwrap();
        assert_eq!((replicas.count(), replicas.in_order()), (3, false));
        let (a, b) = (replicas.pod(0, maker), replicas.pod(1, maker));
        let hash = &a.metadata.labels["pod-template-hash"];
        assert!(a.metadata.name.starts_with(&format!("w-{hash}-")), "{}", a.metadata.name);
        assert_ne!(a.metadata.name, b.metadata.name);
        let owner = &a.metadata.owner_references[0];
        assert_eq!((owner.kind.as_str(), &owner.name), ("ReplicaSet", &format!("w-{hash}")));
        assert_eq!(owner.uid, b.metadata.owner_references[0].uid);
        assert_eq!(a.metadata.namespace, "ns");
        assert_eq!(a.spec.enable_service_links, Some(true));
    });
}

#[test]
fn stateful_sets_number_their_pods() {
    with_maker(|maker| {
        let mut object = workload(
            "StatefulSet",
            "  replicas: 2\n  serviceName: svc\n  ordinals: {start: 5}\n  volumeClaimTemplates: [{metadata: {name: data}}]\n",
        );
        maker.admit_object(&mut object);
        let replicas = Replicas::of(&object, maker).unwrap();
        assert!(replicas.in_order());
        let pod = replicas.pod(1, maker);
        assert_eq!(pod.metadata.name, "w-6");
        assert_eq!((pod.spec.hostname.as_str(), pod.spec.subdomain.as_str()), ("w-6", "svc"));
        assert_eq!(pod.metadata.labels["apps.kubernetes.io/pod-index"], "6");
        let claim = pod.spec.volumes[0].persistent_volume_claim.as_ref().unwrap();
        assert_eq!(claim.claim_name, "data-w-6");
    });
}

#[test]
fn one_node_has_one_daemon() {
    with_maker(|maker| {
        let mut object = workload("DaemonSet", "");
        maker.admit_object(&mut object);
        let replicas = Replicas::of(&object, maker).unwrap();
        assert_eq!(replicas.count(), 1);
        let pod = replicas.pod(0, maker);
        assert!(pod.metadata.name.starts_with("w-") && pod.metadata.name.len() == 7);
        assert!(Replicas::of(&one(&pod_with("")), maker).is_none());
    });
}

#[test]
fn indexed_jobs() {
    let mut job = job(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  completions: 2\n  parallelism: 2\n  completionMode: Indexed\n  backoffLimitPerIndex: 1\n  template: {spec: {restartPolicy: Never, initContainers: [{name: i, image: i}], containers: [{name: c, image: i, env: [{name: JOB_COMPLETION_INDEX, value: mine}]}]}}\n",
    );
    with_maker(|maker| {
        maker.admit_job(&mut job);
        let mut engine = Engine::new(plan::job(&job), 35, Time::ZERO);
        engine.handle(Time::ZERO, JobInput::Tick);
        let mut pods = Vec::new();
        while let Some(output) = engine.poll() {
            if let JobOutput::CreatePod(new) = output {
                pods.push(job_pod(&job, &new, maker));
            }
        }
        assert_eq!(pods.len(), 2);
        let pod = &pods[1];
        assert!(pod.metadata.name.starts_with("j-1-"));
        assert_eq!(pod.spec.hostname, "j-1");
        let index = "batch.kubernetes.io/job-completion-index";
        assert_eq!(pod.metadata.annotations[index], "1");
        assert_eq!(pod.metadata.labels[index], "1");
        assert_eq!(pod.metadata.labels["job-name"], "j");
        assert_eq!(pod.metadata.labels["controller-uid"], job.metadata.uid);
        let variable = &pod.spec.init_containers[0].env[0];
        assert_eq!(variable.name, "JOB_COMPLETION_INDEX");
        assert!(variable.value_from.is_some());
        assert_eq!(pod.spec.containers[0].env.len(), 1);
        assert_eq!(pod.metadata.annotations["batch.kubernetes.io/job-index-failure-count"], "0");
    });
}

#[test]
fn cron_jobs_make_jobs() {
    let Object::CronJob(mut cron_job) = one(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  schedule: '@hourly'\n  jobTemplate:\n    metadata: {labels: {l: v}}\n    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n",
    ) else {
        panic!("not a CronJob")
    };
    with_maker(|maker| {
        maker.admit(&mut cron_job.metadata);
        let job = cron_job_job(&cron_job, "c-28333333", "2023-11-14T22:00:00Z", maker);
        assert_eq!(job.metadata.name, "c-28333333");
        assert_eq!(job.metadata.labels["l"], "v");
        assert_eq!(job.metadata.owner_references[0].kind, "CronJob");
        assert_eq!((job.spec.backoff_limit, job.spec.completions), (Some(6), Some(1)));
        let selector = &job.spec.selector.as_ref().unwrap().match_labels;
        assert_eq!(selector["batch.kubernetes.io/controller-uid"], job.metadata.uid);
        assert_eq!(plan::cron_job(&cron_job).keep_succeeded, Some(3));
    });
}
