//! Containers (`validateContainerCommon`, `validateContainers`, `validateInitContainers`).

use std::collections::HashSet;

use super::volume::{self, Volumes};
use super::{Cx, names, probe, resources};
use crate::object::container::{
    ContainerPort, EnvFromSource, EnvVar, KeySelector, ObjectFieldSelector, ResourceFieldSelector,
    SecurityContext, SecurityProfile,
};
use crate::object::{Container, PodSpec};
use crate::path::Path;

/// Every list of containers of a pod.
pub(super) fn all(cx: &mut Cx, spec: &PodSpec, volumes: &Volumes<'_>, path: Path<'_>) {
    let grace = spec.termination_grace_period_seconds.unwrap_or(-1);
    let mut names = HashSet::new();
    regular(cx, spec, volumes, &mut names, grace, path.field("containers"));
    init(cx, spec, volumes, &mut names, grace, path.field("initContainers"));
    ephemeral(cx, spec, volumes, &mut names, path.field("ephemeralContainers"));
}

fn regular<'a>(
    cx: &mut Cx,
    spec: &'a PodSpec,
    volumes: &Volumes<'_>,
    names: &mut HashSet<&'a str>,
    grace: i64,
    path: Path<'_>,
) {
    if spec.containers.is_empty() {
        return cx.errors.required(path, "");
    }
    let mut ports = HashSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = path.index(i);
        common(cx, container, spec, volumes, path);
        if !names.insert(&container.name) {
            cx.errors.duplicate(path.field("name"), &container.name);
        }
        probe::all(cx, container, grace, spec.os.is_some(), path);
        host_ports(cx, container, &mut ports, path);
        if container.restart_policy.is_some() || !container.restart_policy_rules.is_empty() {
            if cx.minor < 35 && container.restart_policy_rules.is_empty() {
                let path = path.field("restartPolicy");
                cx.errors.forbidden(path, "may not be set for non-init containers");
                cx.errors.help("since Kubernetes 1.35 it may (ContainerRestartRules)");
            } else {
                restart_policy(cx, container, path);
            }
        }
    }
}

fn init<'a>(
    cx: &mut Cx,
    spec: &'a PodSpec,
    volumes: &Volumes<'_>,
    names: &mut HashSet<&'a str>,
    grace: i64,
    path: Path<'_>,
) {
    for (i, container) in spec.init_containers.iter().enumerate() {
        let path = path.index(i);
        common(cx, container, spec, volumes, path);
        let policy = container.restart_policy.as_deref();
        let sidecar = policy == Some("Always");
        if cx.minor < 35 && container.restart_policy_rules.is_empty() {
            if let Some(policy) = policy.filter(|&p| p != "Always") {
                cx.errors.not_supported(path.field("restartPolicy"), policy, &["Always"]);
            }
        } else {
            restart_policy(cx, container, path);
        }
        if sidecar && !container.restart_policy_rules.is_empty() && cx.minor < 36 {
            let detail =
                "restartPolicyRules are not allowed for init containers with restart policy Always";
            cx.errors.forbidden(path.field("restartPolicyRules"), detail);
        }
        if !container.name.is_empty() && !names.insert(&container.name) {
            cx.errors.duplicate(path.field("name"), &container.name);
        }
        host_ports(cx, container, &mut HashSet::new(), path);
        if sidecar {
            probe::all(cx, container, grace, spec.os.is_some(), path);
            continue;
        }
        for (field, is_set) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if is_set {
                let detail = "may not be set for init containers without restartPolicy=Always";
                cx.errors.forbidden(path.field(field), detail);
            }
        }
    }
}

/// `validateEphemeralContainers`: which fields they may have is a list of allowed ones.
fn ephemeral<'a>(
    cx: &mut Cx,
    spec: &'a PodSpec,
    volumes: &Volumes<'_>,
    names: &mut HashSet<&'a str>,
    path: Path<'_>,
) {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let others = names.clone();
    for (i, c) in spec.ephemeral_containers.iter().enumerate() {
        let path = path.index(i);
        common(cx, c, spec, volumes, path);
        if !names.insert(&c.name) {
            cx.errors.duplicate(path.field("name"), &c.name);
        }
        let target = c.target_container_name.as_str();
        if !target.is_empty() && !others.contains(target) {
            cx.errors.not_found(path.field("targetContainerName"), target);
        }
        for (field, is_set) in [
            ("ports", !c.ports.is_empty()),
            ("resources", !c.resources.limits.is_empty() || !c.resources.requests.is_empty()),
            ("livenessProbe", c.liveness_probe.is_some()),
            ("readinessProbe", c.readiness_probe.is_some()),
            ("startupProbe", c.startup_probe.is_some()),
            ("lifecycle", c.lifecycle.is_some()),
            ("restartPolicy", c.restart_policy.is_some()),
            ("restartPolicyRules", !c.restart_policy_rules.is_empty()),
            ("resizePolicy", !c.resize_policy.is_empty()),
        ] {
            if is_set {
                cx.errors.forbidden(path.field(field), DETAIL);
            }
        }
        let mounts = path.field("volumeMounts");
        for (i, mount) in c.volume_mounts.iter().enumerate() {
            let path = mounts.index(i);
            for (field, value) in
                [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)]
            {
                if !value.is_empty() {
                    cx.errors.forbidden(path.field(field), DETAIL);
                }
            }
        }
    }
}

/// `validateContainerRestartPolicy` (Kubernetes ≥ 1.35).
fn restart_policy(cx: &mut Cx, container: &Container, path: Path<'_>) {
    const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
    let policy_path = path.field("restartPolicy");
    let rules = &container.restart_policy_rules;
    let rules_path = path.field("restartPolicyRules");
    if !rules.is_empty() && !cx.since(35, rules_path, "ContainerRestartRules") {
        return;
    }
    match container.restart_policy.as_deref() {
        None if !rules.is_empty() => {
            let detail = "must specify restartPolicy when restart rules are used";
            cx.errors.required(policy_path, detail);
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            cx.errors.not_supported(policy_path, policy, POLICIES);
        }
        _ => {}
    }
    if rules.len() > 20 {
        cx.errors.too_many(rules_path, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = rules_path.index(i);
        let action = path.field("action");
        match rule.action.as_str() {
            "Restart" => {}
            "RestartAllContainers" => {
                cx.since(36, action, "RestartAllContainersOnContainerExits");
            }
            other if cx.minor >= 36 => {
                cx.errors.not_supported(action, other, &["Restart", "RestartAllContainers"]);
            }
            other => cx.errors.not_supported(action, other, &["Restart"]),
        }
        let path = path.field("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            cx.errors.required(path, "must be specified");
            continue;
        };
        if !["In", "NotIn"].contains(&codes.operator.as_str()) {
            cx.errors.not_supported(path.field("operator"), &codes.operator, &["In", "NotIn"]);
        }
        if codes.values.len() > 255 {
            cx.errors.too_many(path.field("values"), codes.values.len(), 255);
        }
    }
}

/// What holds for every container (`validateContainerCommon`).
fn common(cx: &mut Cx, c: &Container, spec: &PodSpec, volumes: &Volumes<'_>, path: Path<'_>) {
    if c.name.is_empty() {
        cx.errors.required(path.field("name"), "");
    } else {
        cx.messages(path.field("name"), &c.name, names::dns_label(&c.name));
    }
    if c.image.is_empty() {
        cx.errors.required(path.field("image"), "");
    } else if c.image.trim() != c.image {
        let detail = "must not have leading or trailing whitespace";
        cx.errors.invalid(path.field("image"), &c.image, detail);
    }
    let policies = ["File", "FallbackToLogsOnError"];
    if !policies.contains(&c.termination_message_policy.as_str()) {
        let path = path.field("terminationMessagePolicy");
        cx.errors.not_supported(path, &c.termination_message_policy, &policies);
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policies.contains(&c.image_pull_policy.as_str()) {
        let path = path.field("imagePullPolicy");
        cx.errors.not_supported(path, &c.image_pull_policy, &policies);
    }
    ports(cx, &c.ports, path.field("ports"));
    env(cx, &c.env, path.field("env"));
    env_from(cx, &c.env_from, path.field("envFrom"));
    volume::mounts(cx, c, volumes, path);
    resources::requirements(cx, &c.resources, path.field("resources"));
    resize_policy(cx, c, spec, path.field("resizePolicy"));
    if let Some(context) = &c.security_context {
        security_context(cx, context, path.field("securityContext"));
    }
}

fn ports(cx: &mut Cx, ports: &[ContainerPort], path: Path<'_>) {
    let mut taken = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if !port.name.is_empty() {
            let messages = names::port_name(&port.name);
            if messages.is_empty() && !taken.insert(&port.name) {
                cx.errors.duplicate(path.field("name"), &port.name);
            }
            cx.messages(path.field("name"), &port.name, messages);
        }
        match port.container_port {
            0 => cx.errors.required(path.field("containerPort"), ""),
            n => probe::number(cx, n, path.field("containerPort")),
        }
        if port.host_port != 0 {
            probe::number(cx, port.host_port, path.field("hostPort"));
        }
        if !["TCP", "UDP", "SCTP"].contains(&port.protocol.as_str()) {
            let path = path.field("protocol");
            cx.errors.not_supported(path, &port.protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// `AccumulateUniqueHostPorts`.
fn host_ports(cx: &mut Cx, c: &Container, taken: &mut HashSet<String>, path: Path<'_>) {
    let list = path.field("ports");
    for (i, port) in c.ports.iter().enumerate() {
        if port.host_port == 0 {
            continue;
        }
        let id = format!("{}/{}/{}", port.protocol, port.host_ip, port.host_port);
        if taken.contains(&id) {
            cx.errors.duplicate(list.index(i).field("hostPort"), &id);
        } else {
            taken.insert(id);
        }
    }
}

fn env(cx: &mut Cx, vars: &[EnvVar], path: Path<'_>) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    for (i, var) in vars.iter().enumerate() {
        let path = path.index(i);
        if var.name.is_empty() {
            cx.errors.required(path.field("name"), "");
        } else {
            let messages = names::env_name(&var.name, cx.minor);
            cx.messages(path.field("name"), &var.name, messages);
        }
        let Some(source) = &var.value_from else { continue };
        let path = path.field("valueFrom");
        let mut count = 0;
        if let Some(field) = &source.field_ref {
            count += 1;
            field_ref(cx, field, FIELDS, path.field("fieldRef"));
        }
        if let Some(resource) = &source.resource_field_ref {
            count += 1;
            resource_ref(cx, resource, false, path.field("resourceFieldRef"));
        }
        if let Some(key) = &source.config_map_key_ref {
            count += 1;
            key_ref(cx, key, path.field("configMapKeyRef"));
        }
        if let Some(key) = &source.secret_key_ref {
            count += 1;
            key_ref(cx, key, path.field("secretKeyRef"));
        }
        if let Some(file) = &source.file_key_ref {
            count += 1;
            let path = path.field("fileKeyRef");
            cx.since(34, path, "EnvFiles");
            for (field, value) in
                [("volumeName", &file.volume_name), ("path", &file.path), ("key", &file.key)]
            {
                if value.is_empty() {
                    cx.errors.required(path.field(field), "");
                }
            }
            volume::descending(cx, &file.path, path.field("path"));
        }
        if count == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, \
                          `configMapKeyRef` or `secretKeyRef`";
            cx.errors.invalid(path, "", detail);
        } else if !var.value.is_empty() {
            cx.errors.invalid(path, "", "may not be specified when `value` is not empty");
        } else if count > 1 {
            cx.errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

fn env_from(cx: &mut Cx, sources: &[EnvFromSource], path: Path<'_>) {
    for (i, source) in sources.iter().enumerate() {
        let path = path.index(i);
        if !source.prefix.is_empty() {
            let messages = names::env_name(&source.prefix, cx.minor);
            cx.messages(path.field("prefix"), &source.prefix, messages);
        }
        for (reference, name) in
            [(&source.config_map_ref, "configMapRef"), (&source.secret_ref, "secretRef")]
        {
            let Some(reference) = reference else { continue };
            let path = path.field(name);
            if reference.name.is_empty() {
                cx.errors.required(path.field("name"), "");
            } else {
                let messages = names::dns_subdomain(&reference.name);
                cx.messages(path.field("name"), &reference.name, messages);
            }
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                cx.errors.invalid(path, "", detail);
            }
            (Some(_), Some(_)) => {
                let detail = "may not have more than one field specified at a time";
                cx.errors.invalid(path, "", detail);
            }
            _ => {}
        }
    }
}

fn key_ref(cx: &mut Cx, key: &KeySelector, path: Path<'_>) {
    cx.messages(path.field("name"), &key.name, names::dns_subdomain(&key.name));
    if key.key.is_empty() {
        cx.errors.required(path.field("key"), "");
    } else {
        cx.messages(path.field("key"), &key.key, names::config_key(&key.key));
    }
}

/// `validateObjectFieldSelector`.
pub(super) fn field_ref(
    cx: &mut Cx,
    field: &ObjectFieldSelector,
    supported: &[&str],
    path: Path<'_>,
) {
    let field_path = path.field("fieldPath");
    if field.field_path.is_empty() {
        return cx.errors.required(field_path, "");
    }
    if field.api_version != "v1" {
        let detail = format!("unsupported pod version: {}", field.api_version);
        cx.errors.invalid(field_path, &field.field_path, detail);
        return;
    }
    let subscript = field.field_path.strip_suffix("']").and_then(|p| p.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            cx.messages(field_path, key, names::qualified(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => cx.messages(field_path, key, names::qualified(key)),
        Some((base, _)) => cx.errors.invalid(field_path, base, "does not support subscript"),
        None if supported.contains(&field.field_path.as_str()) => {}
        None => cx.errors.not_supported(field_path, &field.field_path, supported),
    }
}

/// `validateContainerResourceFieldSelector`.
pub(super) fn resource_ref(
    cx: &mut Cx,
    reference: &ResourceFieldSelector,
    in_volume: bool,
    path: Path<'_>,
) {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = reference.resource.as_str();
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.starts_with(p));
    if in_volume && reference.container_name.is_empty() {
        cx.errors.required(path.field("containerName"), "");
    } else if resource.is_empty() {
        cx.errors.required(path.field("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        cx.errors.not_supported(path.field("resource"), resource, RESOURCES);
    }
    let Some(divisor) = reference.divisor.as_ref().filter(|d| !d.is_zero()) else { return };
    let divisor = divisor.to_string();
    let path = path.field("divisor");
    if resource.ends_with(".cpu") {
        if !["1", "1m"].contains(&divisor.as_str()) {
            let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
            cx.errors.invalid(path, &divisor, detail);
        }
    } else if !SIZES.contains(&divisor.as_str()) {
        let kind = match resource {
            r if r.ends_with(".memory") => "memory",
            r if r.ends_with(".ephemeral-storage") => "local ephemeral storage",
            _ => "hugepages",
        };
        let detail = format!(
            "only divisor's values {} are supported with the {kind} resource",
            SIZES.join(", ")
        );
        cx.errors.invalid(path, &divisor, detail);
    }
}

fn resize_policy(cx: &mut Cx, c: &Container, spec: &PodSpec, path: Path<'_>) {
    let mut seen = HashSet::new();
    for (i, policy) in c.resize_policy.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(&policy.resource_name) {
            cx.errors.duplicate(path, &policy.resource_name);
        }
        if !["cpu", "memory"].contains(&policy.resource_name.as_str()) {
            let path = path.field("resourceName");
            cx.errors.not_supported(path, &policy.resource_name, &["cpu", "memory"]);
        }
        let policies = ["NotRequired", "RestartContainer"];
        let path = path.field("restartPolicy");
        if !policies.contains(&policy.restart_policy.as_str()) {
            cx.errors.not_supported(path, &policy.restart_policy, &policies);
        } else if spec.restart_policy == "Never" && policy.restart_policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            cx.errors.invalid(path, &policy.restart_policy, detail);
        }
    }
}

/// `ValidateSecurityContext`.
fn security_context(cx: &mut Cx, context: &SecurityContext, path: Path<'_>) {
    user_id(cx, context.run_as_user, path.field("runAsUser"));
    user_id(cx, context.run_as_group, path.field("runAsGroup"));
    let modes = ["Default", "Unmasked"];
    if let Some(mode) = context.proc_mount.as_deref().filter(|m| !modes.contains(m)) {
        cx.errors.not_supported(path.field("procMount"), mode, &modes);
    }
    profile(cx, context.seccomp_profile.as_ref(), "seccomp", path.field("seccompProfile"));
    profile(cx, context.app_armor_profile.as_ref(), "AppArmor", path.field("appArmorProfile"));
    if context.allow_privilege_escalation == Some(false) {
        let path = path.field("allowPrivilegeEscalation");
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            cx.errors.invalid(path, false, detail);
        }
        let added = context.capabilities.iter().flat_map(|c| &c.add);
        if added.into_iter().any(|cap| cap == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and \
                          `capabilities.Add` CAP_SYS_ADMIN";
            cx.errors.invalid(path, false, detail);
        }
    }
}

/// `IsValidUserID`, `IsValidGroupID`.
pub(super) fn user_id(cx: &mut Cx, id: Option<i64>, path: Path<'_>) {
    const MAX: i64 = i32::MAX as i64;
    if let Some(id) = id.filter(|id| !(0..=MAX).contains(id)) {
        cx.errors.invalid(path, id, names::range(0, MAX));
    }
}

/// `validateSeccompProfileField`, `ValidateAppArmorProfileField`.
pub(super) fn profile(cx: &mut Cx, profile: Option<&SecurityProfile>, what: &str, path: Path<'_>) {
    let Some(profile) = profile else { return };
    if what == "AppArmor" && !cx.since(30, path, "AppArmorFields") {
        return;
    }
    let local = path.field("localhostProfile");
    match profile.kind.as_str() {
        "Localhost" => match profile.localhost_profile.as_deref().map(str::trim) {
            None | Some("") => {
                cx.errors.required(local, format!("must be set when {what} type is Localhost"));
            }
            Some(file) if what == "seccomp" => volume::descending(cx, file, local),
            Some(_) => {}
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = &profile.localhost_profile {
                let detail = format!("can only be set when {what} type is Localhost");
                cx.errors.invalid(local, file, detail);
            }
        }
        "" => {
            let field = if what == "seccomp" { "seccompProfile" } else { "appArmorProfile" };
            cx.errors.required(path.field("type"), format!("type is required when {field} is set"));
        }
        other => {
            let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
            cx.errors.not_supported(path.field("type"), other, &supported);
        }
    }
}
