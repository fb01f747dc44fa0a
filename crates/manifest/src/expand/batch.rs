//! The pods of a Job and the Jobs of a CronJob.

use holdfast_lifecycle::job::NewPod;

use super::{Maker, owner};
use crate::object::container::{EnvVar, EnvVarSource, ObjectFieldSelector};
use crate::object::{CronJob, Job, ObjectMeta, Pod};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The pod that the Job controller asks for ([`holdfast_lifecycle::job::JobOutput::CreatePod`]).
/// The Job must have been admitted ([`Maker::admit_job`]).
pub fn job_pod(job: &Job, new: &NewPod, maker: &mut Maker<'_>) -> Pod {
    let owner = owner("batch/v1", "Job", &job.metadata);
    let namespace = &job.metadata.namespace;
    let mut pod = maker.pod(&job.spec.template, namespace, new.generate_name.clone(), owner);
    let meta = &mut pod.metadata;
    meta.finalizers.push("batch.kubernetes.io/job-tracking".to_owned());
    let counts = [
        ("batch.kubernetes.io/job-index-failure-count", new.failures),
        ("batch.kubernetes.io/job-index-ignored-failure-count", new.ignored_failures),
    ];
    for (annotation, count) in counts {
        if let Some(count) = count {
            meta.annotations.insert(annotation.to_owned(), count.to_string());
        }
    }
    if let Some(index) = new.index {
        meta.annotations.insert(INDEX.to_owned(), index.to_string());
        meta.labels.insert(INDEX.to_owned(), index.to_string());
        for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
            index_variable(&mut container.env);
        }
    }
    if let Some(hostname) = &new.hostname {
        pod.spec.hostname.clone_from(hostname);
    }
    maker.admit(&mut pod.metadata);
    crate::defaults::pod(&mut pod);
    pod
}

/// `JOB_COMPLETION_INDEX`, unless the container has one (`addCompletionIndexEnvVariable`).
fn index_variable(env: &mut Vec<EnvVar>) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    if env.iter().any(|var| var.name == NAME) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: "v1".to_owned(),
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    let value_from = Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() });
    env.push(EnvVar { name: NAME.to_owned(), value: String::new(), value_from });
}

/// The Job that the CronJob controller asks for
/// ([`holdfast_lifecycle::cron::Action::CreateJob`]): `name` and the value of its annotation
/// `batch.kubernetes.io/cronjob-scheduled-timestamp` (`getJobFromTemplate2`).
pub fn cron_job_job(cron_job: &CronJob, name: &str, timestamp: &str, maker: &mut Maker<'_>) -> Job {
    let template = &cron_job.spec.job_template;
    let mut annotations = template.metadata.annotations.clone();
    let annotation = "batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned();
    annotations.insert(annotation, timestamp.to_owned());
    let mut job = Job {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        metadata: ObjectMeta {
            name: name.to_owned(),
            namespace: cron_job.metadata.namespace.clone(),
            labels: template.metadata.labels.clone(),
            annotations,
            owner_references: vec![owner("batch/v1", "CronJob", &cron_job.metadata)],
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    };
    crate::defaults::job(&mut job);
    maker.admit_job(&mut job);
    job
}
