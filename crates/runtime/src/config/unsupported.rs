//! What a Pod asks for and Holdfast does not do: said before anything starts.

use holdfast_manifest::object::container::{
    Container, ResourceRequirements, SecurityContext, SecurityProfile,
};
use holdfast_manifest::object::pod::{PodSecurityContext, PodSpec};
use holdfast_manifest::object::scheduling::PodAffinity;
use holdfast_manifest::object::{JobSpec, Object, Pod};

use super::capability;
use super::node::Node;
use super::signal::signal_number;
use crate::volume::unsupported_source;

/// A field of a Pod, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field's path (`spec.containers[0].securityContext.procMount`).
    pub path: String,
    /// Why it is refused, or what it does here.
    pub reason: String,
}

/// Who runs the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunBy {
    /// Holdfast itself, as host processes.
    Process,
    /// A CRI runtime.
    Cri,
}

/// What stands in the way of a Pod, and what is only worth saying.
struct Findings {
    by: RunBy,
    refused: Vec<Finding>,
    noted: Vec<Finding>,
}

impl Findings {
    fn refuse(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(Finding { path: path.into(), reason: reason.into() });
    }

    fn note(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.noted.push(Finding { path: path.into(), reason: reason.into() });
    }

    /// Refuses what only a CRI runtime can do.
    fn cri_only(&mut self, path: impl Into<String>, reason: &str) {
        if self.by == RunBy::Process {
            self.refuse(path, format!("{reason}; --runtime cri can do it"));
        }
    }
}

/// Every field of a Pod that is refused, with the reason. A Pod without any runs as in Kubernetes,
/// but for its [`notices`].
pub fn unsupported(pod: &Pod, by: RunBy) -> Vec<Finding> {
    look(pod, None, by).refused
}

/// Every field of a Pod that is accepted and does less here than in a cluster.
pub fn notices(pod: &Pod, node: &Node, by: RunBy) -> Vec<Finding> {
    look(pod, Some(node), by).noted
}

/// What a workload asks for beside its pods, and is refused: fields and reasons.
pub fn unsupported_workload(object: &Object) -> Vec<Finding> {
    let mut found = Findings { by: RunBy::Process, refused: Vec::new(), noted: Vec::new() };
    let managed = |path: &str, spec: &JobSpec, found: &mut Findings| {
        if let Some(other) = spec.managed_by.as_ref().filter(|by| *by != JOB_CONTROLLER) {
            let reason = format!("{other:?} does not run here, only {JOB_CONTROLLER}");
            found.refuse(format!("{path}managedBy"), reason);
        }
    };
    match object {
        Object::Deployment(o) if o.spec.paused => {
            found.refuse("spec.paused", "a paused Deployment makes no pods: nothing would run");
        }
        Object::Job(o) => managed("spec.", &o.spec, &mut found),
        Object::CronJob(o) => {
            managed("spec.jobTemplate.spec.", &o.spec.job_template.spec, &mut found);
        }
        _ => {}
    }
    found.refused
}

/// The manager of Jobs that is imitated (`JobControllerName`).
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

fn look(pod: &Pod, node: Option<&Node>, by: RunBy) -> Findings {
    let mut found = Findings { by, refused: Vec::new(), noted: Vec::new() };
    let spec = &pod.spec;
    if spec.host_users == Some(false) {
        found.refuse("spec.hostUsers", "user namespaces of pods are not supported");
    }
    if let Some(class) = spec.runtime_class_name.as_ref().filter(|class| !class.is_empty()) {
        let path = "spec.runtimeClassName";
        match by {
            RunBy::Process => found.refuse(
                path,
                format!("there is no RuntimeClass {class:?}: there is one runtime here"),
            ),
            RunBy::Cri => found.note(
                path,
                format!(
                    "RuntimeClass objects are not read: the runtime's handler {class:?} is taken"
                ),
            ),
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        found.refuse("spec.os.name", "this machine runs Linux");
    }
    if !spec.resource_claims.is_empty() {
        found.refuse("spec.resourceClaims", "dynamic resources need a cluster's drivers");
    }
    if !spec.scheduling_gates.is_empty() {
        found.refuse(
            "spec.schedulingGates",
            "a pod with scheduling gates waits for ever: there is no one to lift them",
        );
    }
    if !spec.overhead.is_empty() {
        // The API server's admission (`RuntimeClass`) refuses it as well without such a class.
        found.refuse("spec.overhead", "there is no RuntimeClass that says what a pod costs");
    }
    if let Some(resources) = &spec.resources
        && (!resources.limits.is_empty() || !resources.requests.is_empty())
    {
        found.refuse(
            "spec.resources",
            "resources of the whole pod are not supported; give them to the containers",
        );
    }
    if let Some(security) = &spec.security_context {
        pod_security(security, &mut found);
    }
    if let Some(node) = node {
        scheduling(spec, node, &mut found);
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if let Some((field, reason)) = unsupported_source(volume) {
            found.refuse(format!("{path}.{field}"), reason);
        }
        for (source, part) in volume.projected.iter().flat_map(|p| &p.sources).enumerate() {
            let path = format!("{path}.projected.sources[{source}]");
            if part.service_account_token.is_some() {
                found.refuse(
                    format!("{path}.serviceAccountToken"),
                    "there is no API server to issue the token",
                );
            }
            if part.cluster_trust_bundle.is_some() {
                found.refuse(
                    format!("{path}.clusterTrustBundle"),
                    "there is no API server to read it from",
                );
            }
            if part.pod_certificate.is_some() {
                found
                    .refuse(format!("{path}.podCertificate"), "there is no API server to issue it");
            }
        }
    }
    let lists = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
        ("ephemeralContainers", &spec.ephemeral_containers),
    ];
    for (list, containers) in lists {
        for (index, one) in containers.iter().enumerate() {
            container(&format!("spec.{list}[{index}]"), one, &mut found);
        }
    }
    found
}

/// What a scheduler would have looked at, and what a cluster's controllers would do.
fn scheduling(spec: &PodSpec, node: &Node, found: &mut Findings) {
    for (key, value) in &spec.node_selector {
        if node.labels.get(key) != Some(value) {
            found.note(
                format!("spec.nodeSelector[{key}]"),
                format!("this node has no label {key}={value}; the pod runs here all the same"),
            );
        }
    }
    if !spec.node_name.is_empty() && spec.node_name != node.name {
        let name = &node.name;
        found.note("spec.nodeName", format!("this node is {name}; the pod runs here all the same"));
    }
    unscheduled(spec, found);
    for (index, gate) in spec.readiness_gates.iter().enumerate() {
        let kind = &gate.condition_type;
        found.note(
            format!("spec.readinessGates[{index}]"),
            format!("nobody sets the condition {kind} here: the pod never becomes Ready"),
        );
    }
    if spec.automount_service_account_token == Some(true) {
        found.note(
            "spec.automountServiceAccountToken",
            "there is no API server: no token is mounted",
        );
    }
}

/// What only a scheduler could keep.
fn unscheduled(spec: &PodSpec, found: &mut Findings) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const ANYWAY: &str = "there is no scheduler: the pod runs here in any case";
    let affinity = spec.affinity.as_ref();
    let required = |pods: Option<&PodAffinity>| pods.is_some_and(|pods| !pods.required.is_empty());
    let node = affinity.and_then(|a| a.node_affinity.as_ref());
    for (kind, asked) in [
        ("nodeAffinity", node.is_some_and(|node| node.required.is_some())),
        ("podAffinity", required(affinity.and_then(|a| a.pod_affinity.as_ref()))),
        ("podAntiAffinity", required(affinity.and_then(|a| a.pod_anti_affinity.as_ref()))),
    ] {
        if asked {
            found.note(format!("spec.affinity.{kind}.{REQUIRED}"), ANYWAY);
        }
    }
    for (index, constraint) in spec.topology_spread_constraints.iter().enumerate() {
        if constraint.when_unsatisfiable == "DoNotSchedule" {
            found.note(format!("spec.topologySpreadConstraints[{index}]"), ANYWAY);
        }
    }
    let scheduler = &spec.scheduler_name;
    if !["", "default-scheduler"].contains(&scheduler.as_str()) {
        let reason = format!("there is no scheduler {scheduler}; the pod runs here all the same");
        found.note("spec.schedulerName", reason);
    }
    if spec.workload_ref.is_some() {
        found.note("spec.workloadRef", "there is no scheduler: no one waits for the pod's group");
    }
}

fn pod_security(security: &PodSecurityContext, found: &mut Findings) {
    let path = "spec.securityContext";
    if security.se_linux_options.is_some() {
        found.cri_only(format!("{path}.seLinuxOptions"), "SELinux labels are not supported");
    }
    if security.windows_options.is_some() {
        found.refuse(format!("{path}.windowsOptions"), "this machine runs Linux");
    }
    for (index, sysctl) in security.sysctls.iter().enumerate() {
        let (path, name) = (format!("{path}.sysctls[{index}]"), &sysctl.name);
        // The kubelet rejects a pod with another one (`SysctlForbidden`) unless it is told to allow it.
        match found.by {
            RunBy::Cri if SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str()) => {}
            RunBy::Cri => found.refuse(
                path,
                format!(
                    "sysctl {name} is not in the list of those that a kubelet allows: {}",
                    SAFE_SYSCTLS.join(", ")
                ),
            ),
            RunBy::Process => {
                found.cri_only(path, &format!("sysctl {name} cannot be set for one pod here"));
            }
        }
    }
    profile(path, "seccompProfile", security.seccomp_profile.as_ref(), found);
    profile(path, "appArmorProfile", security.app_armor_profile.as_ref(), found);
}

/// `Unconfined` is what we do; `RuntimeDefault` is said to be looser here; a profile of one's own
/// cannot be loaded.
fn profile(path: &str, field: &str, profile: Option<&SecurityProfile>, found: &mut Findings) {
    let path = format!("{path}.{field}.type");
    if found.by == RunBy::Cri {
        return;
    }
    match profile.map(|profile| profile.kind.as_str()) {
        None | Some("Unconfined" | "") => {}
        Some("RuntimeDefault") => {
            found.note(path, "no profile is installed: the container runs as with Unconfined");
        }
        Some(kind) => found.cri_only(path, &format!("{kind} profiles cannot be loaded")),
    }
}

fn container(path: &str, container: &Container, found: &mut Findings) {
    if let Some(security) = &container.security_context {
        container_security(&format!("{path}.securityContext"), security, found);
    }
    if !container.volume_devices.is_empty() {
        found.refuse(
            format!("{path}.volumeDevices"),
            "raw block volumes are not supported; use hostPath of type BlockDevice",
        );
    }
    for (index, port) in container.ports.iter().enumerate() {
        if port.host_port != 0 && port.protocol == "SCTP" && found.by == RunBy::Process {
            found.refuse(
                format!("{path}.ports[{index}].protocol"),
                "a hostPort of SCTP is not supported, only TCP and UDP",
            );
        }
    }
    for (index, variable) in container.env.iter().enumerate() {
        if variable.value_from.as_ref().is_some_and(|from| from.file_key_ref.is_some()) {
            found.refuse(
                format!("{path}.env[{index}].valueFrom.fileKeyRef"),
                "env files are not supported",
            );
        }
    }
    resources(&format!("{path}.resources"), &container.resources, found);
    let signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_ref());
    if let Some(name) = signal.filter(|name| signal_number(name).is_none()) {
        found.refuse(
            format!("{path}.lifecycle.stopSignal"),
            format!("{name:?} is no signal of Linux"),
        );
    }
    if container.stdin {
        found.note(format!("{path}.stdin"), "nothing can attach: standard input is empty");
    }
    if container.tty && found.by == RunBy::Process {
        found.note(format!("{path}.tty"), "no terminal is allocated: output is a pipe");
    }
}

fn container_security(path: &str, security: &SecurityContext, found: &mut Findings) {
    if security.se_linux_options.is_some() {
        found.cri_only(format!("{path}.seLinuxOptions"), "SELinux labels are not supported");
    }
    if security.windows_options.is_some() {
        found.refuse(format!("{path}.windowsOptions"), "this machine runs Linux");
    }
    if security.proc_mount.as_deref().is_some_and(|kind| kind != "Default") {
        found.cri_only(format!("{path}.procMount"), "only Default is supported");
    }
    profile(path, "seccompProfile", security.seccomp_profile.as_ref(), found);
    profile(path, "appArmorProfile", security.app_armor_profile.as_ref(), found);
    let Some(capabilities) = &security.capabilities else { return };
    for (list, names) in [("add", &capabilities.add), ("drop", &capabilities.drop)] {
        for (index, name) in names.iter().enumerate() {
            if !name.eq_ignore_ascii_case("ALL") && capability::canonical(name).is_none() {
                found.refuse(
                    format!("{path}.capabilities.{list}[{index}]"),
                    format!("Linux has no capability {name:?}"),
                );
            }
        }
    }
}

/// kubelet: `SafeSysctlAllowlist`.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn resources(path: &str, resources: &ResourceRequirements, found: &mut Findings) {
    if !resources.claims.is_empty() {
        found.refuse(format!("{path}.claims"), "dynamic resources need a cluster's drivers");
    }
    for (list, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in amounts.keys() {
            let path = format!("{path}.{list}[{name}]");
            match name.as_str() {
                "cpu" | "memory" => {}
                "ephemeral-storage" if list == "limits" => {
                    found.note(path, "the disk space of containers is not limited here");
                }
                "ephemeral-storage" => {}
                name if name.starts_with("hugepages-") => {
                    found.refuse(path, "huge pages are not supported");
                }
                name => found.refuse(path, format!("this node has no resource {name}")),
            }
        }
    }
}
