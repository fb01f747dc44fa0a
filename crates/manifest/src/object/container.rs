//! `Container` of core/v1 and its parts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::macros::objects;
use super::scalar::{IntOrString, Quantity};

objects! {
    /// An entry of `initContainers`, `containers` or `ephemeralContainers`.
    pub struct Container {
        /// `name`: unique among all containers of the pod.
        name: String,
        /// `image`.
        image: String,
        /// `command`: the entrypoint; the image's if empty.
        command: Vec<String>,
        /// `args`; the image's `Cmd` if this and `command` are empty.
        args: Vec<String>,
        /// `workingDir`.
        working_dir: String,
        /// `ports`.
        ports: Vec<ContainerPort>,
        /// `envFrom`.
        env_from: Vec<EnvFromSource>,
        /// `env`.
        env: Vec<EnvVar>,
        /// `resources`.
        resources: ResourceRequirements,
        /// `resizePolicy`.
        resize_policy: Vec<ContainerResizePolicy>,
        /// `restartPolicy` of the container itself; `Always` makes an init container a sidecar.
        restart_policy: Option<String>,
        /// `restartPolicyRules` (Kubernetes ≥ 1.35).
        restart_policy_rules: Vec<ContainerRestartRule>,
        /// `volumeMounts`.
        volume_mounts: Vec<VolumeMount>,
        /// `volumeDevices`.
        volume_devices: Vec<VolumeDevice>,
        /// `livenessProbe`.
        liveness_probe: Option<Probe>,
        /// `readinessProbe`.
        readiness_probe: Option<Probe>,
        /// `startupProbe`.
        startup_probe: Option<Probe>,
        /// `lifecycle`.
        lifecycle: Option<Lifecycle>,
        /// `terminationMessagePath`.
        termination_message_path: String,
        /// `terminationMessagePolicy`: `File` or `FallbackToLogsOnError`.
        termination_message_policy: String,
        /// `imagePullPolicy`: `Always`, `IfNotPresent` or `Never`.
        image_pull_policy: String,
        /// `securityContext`.
        security_context: Option<SecurityContext>,
        /// `stdin`.
        stdin: bool,
        /// `stdinOnce`.
        stdin_once: bool,
        /// `tty`.
        tty: bool,
        /// `targetContainerName`; only of ephemeral containers.
        target_container_name: String,
    }

    /// One entry of `ports`.
    pub struct ContainerPort {
        /// `name`.
        name: String,
        /// `hostPort`; 0 is none.
        host_port: i32,
        /// `containerPort`.
        container_port: i32,
        /// `protocol`: `TCP`, `UDP` or `SCTP`.
        protocol: String,
        /// `hostIP`.
        host_ip = "hostIP": String,
    }

    /// One entry of `env`.
    pub struct EnvVar {
        /// `name`.
        name: String,
        /// `value`, with `$(VAR)` references not yet expanded.
        value: String,
        /// `valueFrom`.
        value_from: Option<EnvVarSource>,
    }

    /// `valueFrom` of an environment variable; exactly one is set.
    pub struct EnvVarSource {
        /// `fieldRef`.
        field_ref: Option<ObjectFieldSelector>,
        /// `resourceFieldRef`.
        resource_field_ref: Option<ResourceFieldSelector>,
        /// `configMapKeyRef`.
        config_map_key_ref: Option<KeySelector>,
        /// `secretKeyRef`.
        secret_key_ref: Option<KeySelector>,
        /// `fileKeyRef` (Kubernetes ≥ 1.34).
        file_key_ref: Option<FileKeySelector>,
    }

    /// A field of the pod.
    pub struct ObjectFieldSelector {
        /// `apiVersion`, `v1`.
        api_version: String,
        /// `fieldPath`, such as `metadata.name` or `metadata.labels['app']`.
        field_path: String,
    }

    /// A request or limit of a container.
    pub struct ResourceFieldSelector {
        /// `containerName`; this container if empty.
        container_name: String,
        /// `resource`, such as `limits.memory`.
        resource: String,
        /// `divisor`; 1 if `None` or zero.
        divisor: Option<Quantity>,
    }

    /// A key of a ConfigMap or Secret.
    pub struct KeySelector {
        /// `name` of the ConfigMap or Secret.
        name: String,
        /// `key`.
        key: String,
        /// `optional`.
        optional: Option<bool>,
    }

    /// A key of an env file in an emptyDir volume.
    pub struct FileKeySelector {
        /// `volumeName`.
        volume_name: String,
        /// `path`.
        path: String,
        /// `key`.
        key: String,
        /// `optional`.
        optional: Option<bool>,
    }

    /// One entry of `envFrom`; exactly one reference is set.
    pub struct EnvFromSource {
        /// `prefix`, put before every key.
        prefix: String,
        /// `configMapRef`.
        config_map_ref: Option<EnvSourceRef>,
        /// `secretRef`.
        secret_ref: Option<EnvSourceRef>,
    }

    /// A ConfigMap or Secret whose keys become variables.
    pub struct EnvSourceRef {
        /// `name`.
        name: String,
        /// `optional`.
        optional: Option<bool>,
    }

    /// `resources` of a container or pod.
    pub struct ResourceRequirements {
        /// `limits`, by resource name.
        limits: BTreeMap<String, Quantity>,
        /// `requests`, by resource name.
        requests: BTreeMap<String, Quantity>,
        /// `claims`, not looked at.
        claims: Vec<Value>,
    }

    /// One entry of `resizePolicy`.
    pub struct ContainerResizePolicy {
        /// `resourceName`.
        resource_name: String,
        /// `restartPolicy`: `NotRequired` or `RestartContainer`.
        restart_policy: String,
    }

    /// One entry of `restartPolicyRules`.
    pub struct ContainerRestartRule {
        /// `action`: `Restart`, or `RestartAllContainers` (Kubernetes ≥ 1.36).
        action: String,
        /// `exitCodes`.
        exit_codes: Option<ExitCodes>,
    }

    /// `exitCodes` of a restart rule.
    pub struct ExitCodes {
        /// `operator`: `In` or `NotIn`.
        operator: String,
        /// `values`, at most 255.
        values: Vec<i32>,
    }

    /// One entry of `volumeMounts`.
    pub struct VolumeMount {
        /// `name` of the volume.
        name: String,
        /// `readOnly`.
        read_only: bool,
        /// `recursiveReadOnly`: `Disabled`, `IfPossible` or `Enabled`.
        recursive_read_only: Option<String>,
        /// `mountPath`.
        mount_path: String,
        /// `subPath`.
        sub_path: String,
        /// `mountPropagation`: `None`, `HostToContainer` or `Bidirectional`.
        mount_propagation: Option<String>,
        /// `subPathExpr`: as `subPath`, with `$(VAR)` references.
        sub_path_expr: String,
    }

    /// One entry of `volumeDevices`.
    pub struct VolumeDevice {
        /// `name` of the volume.
        name: String,
        /// `devicePath`.
        device_path: String,
    }

    /// `startupProbe`, `readinessProbe` or `livenessProbe`; exactly one handler is set.
    pub struct Probe {
        /// `exec`.
        exec: Option<ExecAction>,
        /// `httpGet`.
        http_get: Option<HttpGetAction>,
        /// `tcpSocket`.
        tcp_socket: Option<TcpSocketAction>,
        /// `grpc`.
        grpc: Option<GrpcAction>,
        /// `initialDelaySeconds`.
        initial_delay_seconds: i32,
        /// `timeoutSeconds`; 1 after defaulting.
        timeout_seconds: i32,
        /// `periodSeconds`; 10 after defaulting.
        period_seconds: i32,
        /// `successThreshold`; 1 after defaulting.
        success_threshold: i32,
        /// `failureThreshold`; 3 after defaulting.
        failure_threshold: i32,
        /// `terminationGracePeriodSeconds` of the probe.
        termination_grace_period_seconds: Option<i64>,
    }

    /// `lifecycle` of a container.
    pub struct Lifecycle {
        /// `postStart`.
        post_start: Option<LifecycleHandler>,
        /// `preStop`.
        pre_stop: Option<LifecycleHandler>,
        /// `stopSignal`, such as `SIGUSR1`.
        stop_signal: Option<String>,
    }

    /// `postStart` or `preStop`; exactly one is set.
    pub struct LifecycleHandler {
        /// `exec`.
        exec: Option<ExecAction>,
        /// `httpGet`.
        http_get: Option<HttpGetAction>,
        /// `tcpSocket`; accepted for old manifests, always fails in Kubernetes.
        tcp_socket: Option<TcpSocketAction>,
        /// `sleep`.
        sleep: Option<SleepAction>,
    }

    /// A command in the container.
    pub struct ExecAction {
        /// `command`, not run by a shell.
        command: Vec<String>,
    }

    /// An HTTP request.
    pub struct HttpGetAction {
        /// `path`; `/` after defaulting.
        path: String,
        /// `port`, a number or the name of a container port.
        port: IntOrString,
        /// `host`; the pod's address if empty.
        host: String,
        /// `scheme`: `HTTP` or `HTTPS`.
        scheme: String,
        /// `httpHeaders`.
        http_headers: Vec<HttpHeader>,
    }

    /// One entry of `httpHeaders`.
    pub struct HttpHeader {
        /// `name`.
        name: String,
        /// `value`.
        value: String,
    }

    /// A TCP connection.
    pub struct TcpSocketAction {
        /// `port`, a number or the name of a container port.
        port: IntOrString,
        /// `host`; the pod's address if empty.
        host: String,
    }

    /// A gRPC health check.
    pub struct GrpcAction {
        /// `port`.
        port: i32,
        /// `service`; empty after defaulting.
        service: Option<String>,
    }

    /// A pause.
    pub struct SleepAction {
        /// `seconds`.
        seconds: i64,
    }

    /// `securityContext` of a container.
    pub struct SecurityContext {
        /// `capabilities`.
        capabilities: Option<Capabilities>,
        /// `privileged`.
        privileged: Option<bool>,
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
        /// `readOnlyRootFilesystem`.
        read_only_root_filesystem: Option<bool>,
        /// `allowPrivilegeEscalation`.
        allow_privilege_escalation: Option<bool>,
        /// `procMount`.
        proc_mount: Option<String>,
        /// `seccompProfile`.
        seccomp_profile: Option<SecurityProfile>,
        /// `appArmorProfile`.
        app_armor_profile: Option<SecurityProfile>,
    }

    /// `capabilities`, without the `CAP_` prefix; `ALL` stands for all.
    pub struct Capabilities {
        /// `add`.
        add: Vec<String>,
        /// `drop`.
        drop: Vec<String>,
    }

    /// `seccompProfile` or `appArmorProfile`.
    pub struct SecurityProfile {
        /// `type`: `RuntimeDefault`, `Unconfined` or `Localhost`.
        kind = "type": String,
        /// `localhostProfile`.
        localhost_profile: Option<String>,
    }
}
