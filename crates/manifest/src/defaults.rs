//! The defaults that the API server sets (`pkg/apis/{core,apps,batch}/v1/defaults.go`).

use crate::load::Options;
use crate::object::container::{HttpGetAction, LifecycleHandler};
use crate::object::pod::PodSecurityContext;
use crate::object::volume::EmptyDirSource;
use crate::object::workload::RollingUpdate;
use crate::object::{
    Base64, Container, CronJob, IntOrString, Job, Object, ObjectMeta, Pod, PodSpec,
    PodTemplateSpec, Probe, Volume,
};

/// Sets every default of an object that was just read.
pub(crate) fn object(object: &mut Object, options: &Options) {
    match object {
        Object::Pod(o) => {
            namespace(&mut o.metadata, options);
            pod(o);
        }
        Object::Job(o) => {
            namespace(&mut o.metadata, options);
            job(o);
        }
        Object::CronJob(o) => {
            namespace(&mut o.metadata, options);
            cron_job(o);
        }
        Object::Deployment(o) => {
            namespace(&mut o.metadata, options);
            let spec = &mut o.spec;
            template(&mut spec.template);
            spec.replicas.get_or_insert(1);
            spec.revision_history_limit.get_or_insert(10);
            spec.progress_deadline_seconds.get_or_insert(600);
            set(&mut spec.strategy.kind, "RollingUpdate");
            if spec.strategy.kind == "RollingUpdate" {
                let quarter = || IntOrString::String("25%".to_owned());
                let rolling = spec.strategy.rolling_update.get_or_insert_default();
                rolling.max_unavailable.get_or_insert_with(quarter);
                rolling.max_surge.get_or_insert_with(quarter);
            }
        }
        Object::StatefulSet(o) => {
            namespace(&mut o.metadata, options);
            let spec = &mut o.spec;
            template(&mut spec.template);
            spec.replicas.get_or_insert(1);
            spec.revision_history_limit.get_or_insert(10);
            set(&mut spec.pod_management_policy, "OrderedReady");
            set(&mut spec.update_strategy.kind, "RollingUpdate");
            if spec.update_strategy.kind == "RollingUpdate" {
                let rolling = spec.update_strategy.rolling_update.get_or_insert_default();
                rolling.partition.get_or_insert(0);
            }
        }
        Object::DaemonSet(o) => {
            namespace(&mut o.metadata, options);
            let spec = &mut o.spec;
            template(&mut spec.template);
            spec.revision_history_limit.get_or_insert(10);
            set(&mut spec.update_strategy.kind, "RollingUpdate");
            if spec.update_strategy.kind == "RollingUpdate" {
                let rolling: &mut RollingUpdate =
                    spec.update_strategy.rolling_update.get_or_insert_default();
                rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
                rolling.max_surge.get_or_insert(IntOrString::Int(0));
            }
        }
        Object::ReplicaSet(o) => {
            namespace(&mut o.metadata, options);
            template(&mut o.spec.template);
            o.spec.replicas.get_or_insert(1);
            if o.metadata.labels.is_empty() {
                o.metadata.labels.clone_from(&o.spec.template.metadata.labels);
            }
        }
        Object::ConfigMap(o) => namespace(&mut o.metadata, options),
        Object::Secret(o) => {
            namespace(&mut o.metadata, options);
            set(&mut o.kind_of_secret, "Opaque");
            // registry/core/secret/strategy.go: what stringData says wins over data.
            for (key, text) in std::mem::take(&mut o.string_data) {
                o.data.insert(key, Base64(text.into_bytes()));
            }
        }
        Object::Service(o) => {
            namespace(&mut o.metadata, options);
            set(&mut o.spec.session_affinity, "None");
            set(&mut o.spec.kind, "ClusterIP");
            for port in &mut o.spec.ports {
                set(&mut port.protocol, "TCP");
                let unset = match &port.target_port {
                    None | Some(IntOrString::Int(0)) => true,
                    Some(IntOrString::Int(_)) => false,
                    Some(IntOrString::String(name)) => name.is_empty(),
                };
                if unset {
                    port.target_port = Some(IntOrString::Int(port.port));
                }
            }
        }
    }
}

fn set(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

fn namespace(meta: &mut ObjectMeta, options: &Options) {
    set(&mut meta.namespace, &options.namespace);
}

/// The defaults of a Pod: those of its spec, and those that only a Pod and not a template gets
/// (`SetDefaults_Pod`).
pub(crate) fn pod(pod: &mut Pod) {
    let spec = &mut pod.spec;
    pod_spec(spec);
    least_grace(spec);
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        let resources = &mut container.resources;
        for (name, limit) in &resources.limits {
            if !resources.requests.contains_key(name) {
                resources.requests.insert(name.clone(), *limit);
            }
        }
        if spec.host_network {
            for port in &mut container.ports {
                if port.host_port == 0 {
                    port.host_port = port.container_port;
                }
            }
        }
    }
    spec.enable_service_links.get_or_insert(true);
    // The ServiceAccount admission plugin's, which every cluster has.
    set(&mut spec.service_account_name, "default");
    // The old name is always served beside it.
    spec.service_account.clone_from(&spec.service_account_name);
}

/// The defaults of a Job (`SetDefaults_Job`).
pub(crate) fn job(job: &mut Job) {
    template(&mut job.spec.template);
    let spec = &mut job.spec;
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
    spec.backoff_limit.get_or_insert(limit);
    spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    let replacement =
        if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
    if job.metadata.labels.is_empty() {
        job.metadata.labels.clone_from(&spec.template.metadata.labels);
    }
    failure_policy(spec);
}

/// The defaults of a CronJob (`SetDefaults_CronJob`). Its Jobs get theirs when they are made.
fn cron_job(cron: &mut CronJob) {
    let spec = &mut cron.spec;
    template(&mut spec.job_template.spec.template);
    failure_policy(&mut spec.job_template.spec);
    set(&mut spec.concurrency_policy, "Allow");
    spec.suspend.get_or_insert(false);
    spec.successful_jobs_history_limit.get_or_insert(3);
    spec.failed_jobs_history_limit.get_or_insert(1);
}

fn failure_policy(spec: &mut crate::object::JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|p| &mut p.rules);
    for pattern in rules.flat_map(|r| &mut r.on_pod_conditions) {
        set(&mut pattern.status, "True");
    }
}

fn template(template: &mut PodTemplateSpec) {
    pod_spec(&mut template.spec);
}

/// A Pod with a negative grace period is stored with one second; a template keeps what it has
/// (`Convert_v1_Pod_To_core_Pod`).
fn least_grace(spec: &mut PodSpec) {
    if let Some(grace) = spec.termination_grace_period_seconds.as_mut().filter(|grace| **grace < 0)
    {
        *grace = 1;
    }
}

/// `SetDefaults_PodSpec` and the defaults of everything in it.
fn pod_spec(spec: &mut PodSpec) {
    if spec.service_account_name.is_empty() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.volumes.iter_mut().for_each(volume);
    let lists = [&mut spec.init_containers, &mut spec.containers, &mut spec.ephemeral_containers];
    lists.into_iter().flatten().for_each(container);
}

fn container(container: &mut Container) {
    if container.image_pull_policy.is_empty() {
        let policy = if has_latest_tag(&container.image) { "Always" } else { "IfNotPresent" };
        policy.clone_into(&mut container.image_pull_policy);
    }
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in &mut container.ports {
        set(&mut port.protocol, "TCP");
    }
    for source in container.env.iter_mut().filter_map(|e| e.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            set(&mut field.api_version, "v1");
        }
    }
    let resources = &mut container.resources;
    for quantity in resources.limits.values_mut().chain(resources.requests.values_mut()) {
        quantity.round_up_to_milli();
    }
    let probes = [
        &mut container.startup_probe,
        &mut container.liveness_probe,
        &mut container.readiness_probe,
    ];
    probes.into_iter().flatten().for_each(probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten().for_each(hook);
    }
}

fn probe(probe: &mut Probe) {
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if *field == 0 {
            *field = default;
        }
    }
    if let Some(http) = &mut probe.http_get {
        http_get(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn hook(hook: &mut LifecycleHandler) {
    if let Some(http) = &mut hook.http_get {
        http_get(http);
    }
}

fn http_get(http: &mut HttpGetAction) {
    set(&mut http.path, "/");
    set(&mut http.scheme, "HTTP");
}

fn volume(volume: &mut Volume) {
    /// `0644`.
    const MODE: i32 = 0o644;
    if crate::validate::volume_kinds(volume).next().is_none() {
        volume.empty_dir = Some(EmptyDirSource::default());
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.kind.get_or_insert_default();
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(MODE);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(MODE);
        downward.items.iter_mut().for_each(downward_file);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(MODE);
        for source in &mut projected.sources {
            if let Some(downward) = &mut source.downward_api {
                downward.items.iter_mut().for_each(downward_file);
            }
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
    }
}

fn downward_file(file: &mut crate::object::volume::DownwardApiFile) {
    if let Some(field) = &mut file.field_ref {
        set(&mut field.api_version, "v1");
    }
}

/// Whether an image is named without tag and digest, or by the tag `latest`
/// (`pkg/util/parsers.ParseImageName`).
fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_what_has_no_other_tag() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("registry:5000/nginx", true),
            ("registry:5000/nginx:1", false),
            ("nginx@sha256:abc", false),
        ] {
            assert_eq!(has_latest_tag(image), latest, "{image}");
        }
    }
}
