//! `Pod` and `PodTemplateSpec` of core/v1.

use std::collections::BTreeMap;

use serde_json::Value;

use super::container::{Container, ResourceRequirements, SecurityProfile};
use super::macros::objects;
use super::meta::{LocalObjectReference, ObjectMeta};
use super::scalar::Quantity;
use super::scheduling::{Affinity, Toleration, TopologySpreadConstraint};
use super::volume::Volume;

objects! {
    /// A Pod (v1).
    pub struct Pod {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: PodSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// The pod that a workload makes.
    pub struct PodTemplateSpec {
        /// `metadata`: labels and annotations of the pods.
        metadata: ObjectMeta,
        /// `spec`.
        spec: PodSpec,
    }

    /// `spec` of a pod.
    pub struct PodSpec {
        /// `volumes`.
        volumes: Vec<Volume>,
        /// `initContainers`, native sidecars among them.
        init_containers: Vec<Container>,
        /// `containers`.
        containers: Vec<Container>,
        /// `ephemeralContainers`.
        ephemeral_containers: Vec<Container>,
        /// `restartPolicy`: `Always`, `OnFailure` or `Never`.
        restart_policy: String,
        /// `terminationGracePeriodSeconds`; 30 after defaulting.
        termination_grace_period_seconds: Option<i64>,
        /// `activeDeadlineSeconds`.
        active_deadline_seconds: Option<i64>,
        /// `dnsPolicy`.
        dns_policy: String,
        /// `nodeSelector`.
        node_selector: BTreeMap<String, String>,
        /// `serviceAccountName`.
        service_account_name: String,
        /// `serviceAccount`: the old name of `serviceAccountName`.
        service_account: String,
        /// `automountServiceAccountToken`.
        automount_service_account_token: Option<bool>,
        /// `nodeName`.
        node_name: String,
        /// `hostNetwork`.
        host_network: bool,
        /// `hostPID`.
        host_pid = "hostPID": bool,
        /// `hostIPC`.
        host_ipc = "hostIPC": bool,
        /// `shareProcessNamespace`.
        share_process_namespace: Option<bool>,
        /// `securityContext`.
        security_context: Option<PodSecurityContext>,
        /// `imagePullSecrets`.
        image_pull_secrets: Vec<LocalObjectReference>,
        /// `hostname`.
        hostname: String,
        /// `subdomain`.
        subdomain: String,
        /// `affinity`; only a scheduler looks at it.
        affinity: Option<Affinity>,
        /// `schedulerName`.
        scheduler_name: String,
        /// `tolerations`; only a scheduler looks at them.
        tolerations: Vec<Toleration>,
        /// `hostAliases`.
        host_aliases: Vec<HostAlias>,
        /// `priorityClassName`.
        priority_class_name: String,
        /// `priority`.
        priority: Option<i32>,
        /// `dnsConfig`.
        dns_config: Option<PodDnsConfig>,
        /// `readinessGates`.
        readiness_gates: Vec<PodReadinessGate>,
        /// `runtimeClassName`.
        runtime_class_name: Option<String>,
        /// `enableServiceLinks`.
        enable_service_links: Option<bool>,
        /// `preemptionPolicy`.
        preemption_policy: Option<String>,
        /// `overhead`.
        overhead: BTreeMap<String, Quantity>,
        /// `topologySpreadConstraints`; only a scheduler looks at them.
        topology_spread_constraints: Vec<TopologySpreadConstraint>,
        /// `setHostnameAsFQDN`.
        set_hostname_as_fqdn = "setHostnameAsFQDN": Option<bool>,
        /// `os`.
        os: Option<PodOs>,
        /// `hostUsers`.
        host_users: Option<bool>,
        /// `schedulingGates`.
        scheduling_gates: Vec<PodSchedulingGate>,
        /// `resourceClaims`, as written.
        resource_claims: Vec<Value>,
        /// `resources` of the whole pod (Kubernetes ≥ 1.34).
        resources: Option<ResourceRequirements>,
        /// `hostnameOverride` (Kubernetes ≥ 1.34).
        hostname_override: Option<String>,
        /// `workloadRef`, as written.
        workload_ref: Option<Value>,
    }

    /// `securityContext` of a pod.
    pub struct PodSecurityContext {
        /// `seLinuxOptions`, not looked at.
        se_linux_options: Option<Value>,
        /// `windowsOptions`, not looked at.
        windows_options: Option<Value>,
        /// `runAsUser`.
        run_as_user: Option<i64>,
        /// `runAsGroup`.
        run_as_group: Option<i64>,
        /// `runAsNonRoot`.
        run_as_non_root: Option<bool>,
        /// `supplementalGroups`.
        supplemental_groups: Vec<i64>,
        /// `supplementalGroupsPolicy`: `Merge` or `Strict`.
        supplemental_groups_policy: Option<String>,
        /// `fsGroup`.
        fs_group: Option<i64>,
        /// `sysctls`.
        sysctls: Vec<Sysctl>,
        /// `fsGroupChangePolicy`: `OnRootMismatch` or `Always`.
        fs_group_change_policy: Option<String>,
        /// `seccompProfile`.
        seccomp_profile: Option<SecurityProfile>,
        /// `appArmorProfile`.
        app_armor_profile: Option<SecurityProfile>,
        /// `seLinuxChangePolicy`.
        se_linux_change_policy: Option<String>,
    }

    /// One entry of `sysctls`.
    pub struct Sysctl {
        /// `name`.
        name: String,
        /// `value`.
        value: String,
    }

    /// One entry of `hostAliases`: a line of /etc/hosts.
    pub struct HostAlias {
        /// `ip`.
        ip: String,
        /// `hostnames`.
        hostnames: Vec<String>,
    }

    /// `dnsConfig`.
    pub struct PodDnsConfig {
        /// `nameservers`.
        nameservers: Vec<String>,
        /// `searches`.
        searches: Vec<String>,
        /// `options`.
        options: Vec<PodDnsConfigOption>,
    }

    /// One entry of `dnsConfig.options`.
    pub struct PodDnsConfigOption {
        /// `name`.
        name: String,
        /// `value`.
        value: Option<String>,
    }

    /// One entry of `readinessGates`.
    pub struct PodReadinessGate {
        /// `conditionType`.
        condition_type: String,
    }

    /// One entry of `schedulingGates`.
    pub struct PodSchedulingGate {
        /// `name`.
        name: String,
    }

    /// `os`.
    pub struct PodOs {
        /// `name`: `linux` or `windows`.
        name: String,
    }
}
