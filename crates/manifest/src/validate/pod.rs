//! Pods and pod templates (`ValidatePodCreate`, `ValidatePodTemplateSpec`, `ValidatePodSpec`).

use std::collections::HashSet;
use std::net::IpAddr;

use super::volume::{self, Volumes};
use super::{Cx, container, meta, names, resources, scheduling};
use crate::object::pod::{PodDnsConfig, PodSecurityContext};
use crate::object::{Pod, PodSpec, PodTemplateSpec};
use crate::path::Path;

/// Checks a Pod.
pub(super) fn pod(cx: &mut Cx, pod: &Pod) {
    meta::object_meta(cx, &pod.metadata, names::dns_subdomain);
    let path = Path::ROOT.field("spec");
    spec(cx, &pod.spec, true, &[], path);
    if !pod.spec.ephemeral_containers.is_empty() {
        cx.errors.forbidden(path.field("ephemeralContainers"), "cannot be set on create");
    }
    if !pod.spec.node_name.is_empty() && !pod.spec.scheduling_gates.is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        cx.errors.forbidden(path.field("nodeName"), detail);
    }
}

/// Checks a template. `claims` are the names that volume claim templates add to its volumes.
pub(super) fn template(cx: &mut Cx, template: &PodTemplateSpec, claims: &[&str], path: Path<'_>) {
    let metadata = path.field("metadata");
    meta::labels(cx, &template.metadata.labels, metadata.field("labels"));
    meta::annotations(cx, &template.metadata.annotations, metadata.field("annotations"));
    let path = path.field("spec");
    spec(cx, &template.spec, false, claims, path);
    if !template.spec.ephemeral_containers.is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        cx.errors.forbidden(path.field("ephemeralContainers"), detail);
    }
}

/// `ValidatePodSpec`.
fn spec(cx: &mut Cx, spec: &PodSpec, is_pod: bool, claims: &[&str], path: Path<'_>) {
    let mut volumes: Volumes<'_> = volume::volumes(cx, &spec.volumes, path.field("volumes"));
    volumes.extend(claims.iter().map(|&name| (name, None)));
    container::all(cx, spec, &volumes, path);
    if let Some(resources) = &spec.resources {
        let path = path.field("resources");
        if cx.since(34, path, "PodLevelResources") {
            resources::requirements(cx, resources, path);
        }
    }
    if spec.host_network {
        let containers = path.field("containers");
        for (i, container) in spec.containers.iter().enumerate() {
            let path = containers.index(i);
            let ports = path.field("ports");
            for (i, port) in container.ports.iter().enumerate() {
                let checked = is_pod || port.host_port != 0;
                if checked && port.host_port != port.container_port {
                    let path = ports.index(i);
                    let detail = "must match `containerPort` when `hostNetwork` is true";
                    cx.errors.invalid(path.field("hostPort"), port.host_port, detail);
                }
            }
        }
    }
    let policies = ["Always", "OnFailure", "Never"];
    if !policies.contains(&spec.restart_policy.as_str()) {
        cx.errors.not_supported(path.field("restartPolicy"), &spec.restart_policy, &policies);
    }
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    if !policies.contains(&spec.dns_policy.as_str()) {
        cx.errors.not_supported(path.field("dnsPolicy"), &spec.dns_policy, &policies);
    }
    meta::labels(cx, &spec.node_selector, path.field("nodeSelector"));
    if let Some(context) = &spec.security_context {
        security_context(cx, context, spec, path);
    }
    dns_config(cx, spec, path.field("dnsConfig"));
    gates(cx, spec, path);
    host_users(cx, spec, path);
    small_fields(cx, spec, path);
    let aliases = path.field("hostAliases");
    for (i, alias) in spec.host_aliases.iter().enumerate() {
        let path = aliases.index(i);
        ip(cx, &alias.ip, path.field("ip"));
        let list = path.field("hostnames");
        for (i, host) in alias.hostnames.iter().enumerate() {
            cx.messages(list.index(i), host, names::dns_subdomain(host));
        }
    }
    resources::list(cx, &spec.overhead, path.field("overhead"));
    scheduling::all(cx, spec, path);
}

/// `IsValidIP`.
fn ip(cx: &mut Cx, text: &str, path: Path<'_>) {
    if text.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        cx.errors.invalid(path, text, detail);
    }
}

fn small_fields(cx: &mut Cx, spec: &PodSpec, path: Path<'_>) {
    for (field, name, messages) in [
        ("serviceAccountName", &spec.service_account_name, names::dns_subdomain as fn(&str) -> _),
        ("nodeName", &spec.node_name, names::dns_subdomain),
        ("priorityClassName", &spec.priority_class_name, names::dns_subdomain),
        ("hostname", &spec.hostname, names::dns_label),
        ("subdomain", &spec.subdomain, names::dns_label),
    ] {
        if !name.is_empty() {
            cx.messages(path.field(field), name, messages(name));
        }
    }
    if let Some(name) = &spec.runtime_class_name {
        cx.messages(path.field("runtimeClassName"), name, names::dns_subdomain(name));
    }
    let max = i64::from(i32::MAX);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|s| !(1..=max).contains(s)) {
        let path = path.field("activeDeadlineSeconds");
        cx.errors.invalid(path, seconds, names::range(1, max));
    }
    if let Some(policy) = &spec.preemption_policy {
        let policies = ["PreemptLowerPriority", "Never"];
        if !policies.contains(&policy.as_str()) {
            cx.errors.not_supported(path.field("preemptionPolicy"), policy, &policies);
        }
    }
    if let Some(os) = &spec.os {
        let path = path.field("os");
        let path = path.field("name");
        match os.name.as_str() {
            "" => cx.errors.required(path, "cannot be empty"),
            "linux" | "windows" => {}
            other => cx.errors.not_supported(path, other, &["linux", "windows"]),
        }
    }
    if let Some(name) = &spec.hostname_override {
        let path = path.field("hostnameOverride");
        if cx.since(34, path, "HostnameOverride") {
            if name.len() > 64 {
                cx.errors.too_long(path, 64);
            }
            cx.messages(path, name, names::dns_subdomain(name));
            if spec.host_network {
                let detail = "may not be specified when hostNetwork is true";
                cx.errors.invalid(path, name, detail);
            }
            if spec.set_hostname_as_fqdn == Some(true) {
                let detail = "setHostnameAsFQDN cannot be true when hostnameOverride is set";
                cx.errors.invalid(path, name, detail);
            }
        }
    }
}

fn gates(cx: &mut Cx, spec: &PodSpec, path: Path<'_>) {
    let list = path.field("readinessGates");
    for (i, gate) in spec.readiness_gates.iter().enumerate() {
        let path = list.index(i);
        let name = &gate.condition_type;
        cx.messages(path.field("conditionType"), name, names::qualified(name));
    }
    let list = path.field("schedulingGates");
    let mut seen = HashSet::new();
    for (i, gate) in spec.scheduling_gates.iter().enumerate() {
        let path = list.index(i);
        cx.messages(path, &gate.name, names::qualified(&gate.name));
        if !seen.insert(&gate.name) {
            cx.errors.duplicate(path, &gate.name);
        }
    }
}

fn host_users(cx: &mut Cx, spec: &PodSpec, path: Path<'_>) {
    if spec.host_users != Some(false) {
        return;
    }
    for (field, is_set) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        if is_set {
            cx.errors.forbidden(path.field(field), "when `pod.Spec.HostUsers` is false");
        }
    }
}

/// `validatePodDNSConfig`.
fn dns_config(cx: &mut Cx, spec: &PodSpec, path: Path<'_>) {
    let servers = path.field("nameservers");
    let none = spec.dns_policy == "None";
    let Some(PodDnsConfig { nameservers, searches, options }) = &spec.dns_config else {
        if none {
            cx.errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    if none && nameservers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return cx.errors.required(servers, detail);
    }
    if nameservers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        cx.errors.invalid_json(servers, nameservers, detail);
    }
    for (i, server) in nameservers.iter().enumerate() {
        ip(cx, server, servers.index(i));
    }
    let list = path.field("searches");
    if searches.len() > 32 {
        cx.errors.invalid_json(list, searches, "must not have more than 32 search paths");
    }
    let total: usize = searches.iter().map(|s| s.len() + 1).sum();
    if total > 2049 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        cx.errors.invalid_json(list, searches, detail);
    }
    for (i, search) in searches.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        let messages = match cx.minor {
            33.. if search == "." => Vec::new(),
            33.. => names::dns_search(name),
            _ => names::dns_subdomain(name),
        };
        cx.messages(list.index(i), search, messages);
    }
    let list = path.field("options");
    for (i, option) in options.iter().enumerate() {
        if option.name.is_empty() {
            cx.errors.required(list.index(i), "must not be empty");
        }
    }
}

/// `validatePodSpecSecurityContext`.
fn security_context(cx: &mut Cx, context: &PodSecurityContext, spec: &PodSpec, parent: Path<'_>) {
    let path = parent.field("securityContext");
    container::user_id(cx, context.fs_group, path.field("fsGroup"));
    container::user_id(cx, context.run_as_user, path.field("runAsUser"));
    container::user_id(cx, context.run_as_group, path.field("runAsGroup"));
    let groups = path.field("supplementalGroups");
    for (i, &group) in context.supplemental_groups.iter().enumerate() {
        container::user_id(cx, Some(group), groups.index(i));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        cx.errors.invalid(parent.field("shareProcessNamespace"), true, detail);
    }
    let sysctls = path.field("sysctls");
    let mut seen = HashSet::new();
    for (i, sysctl) in context.sysctls.iter().enumerate() {
        let path = sysctls.index(i);
        let path = path.field("name");
        let name = &sysctl.name;
        if name.is_empty() {
            cx.errors.required(path, "");
        } else if !names::is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            cx.errors.invalid(path, name, detail);
        } else if !seen.insert(name) {
            cx.errors.duplicate(path, name);
        }
        if spec.host_network && name.replace('/', ".").starts_with("net.") {
            cx.errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
        }
    }
    if context.supplemental_groups_policy.is_some() {
        cx.since(33, path.field("supplementalGroupsPolicy"), "SupplementalGroupsPolicy");
    }
    for (field, value, supported) in [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, ["MountOption", "Recursive"]),
    ] {
        if let Some(value) = value.as_ref().filter(|v| !supported.contains(&v.as_str())) {
            cx.errors.not_supported(path.field(field), value, &supported);
        }
    }
    let seccomp = context.seccomp_profile.as_ref();
    container::profile(cx, seccomp, "seccomp", path.field("seccompProfile"));
    let app_armor = context.app_armor_profile.as_ref();
    container::profile(cx, app_armor, "AppArmor", path.field("appArmorProfile"));
}
