//! Kubernetes' validation: every rule once, with its message.

use super::{container_with, messages, pod_with, read, read_as};

/// Every line of `expected` must be a finding, and there must be no other.
#[track_caller]
fn refuses(text: &str, expected: &[&str]) {
    assert_eq!(messages(read(text)), expected, "{text}");
}

#[test]
fn unknown_fields() {
    refuses(
        &container_with("    imagePullPolcy: Never\n"),
        &["unknown field \"spec.containers[0].imagePullPolcy\""],
    );
    let findings = read(container_with("    nodeName: here\n    qqq: 1\n")).unwrap_err();
    let help: Vec<_> = findings.iter().map(|d| d.help.as_deref()).collect();
    assert_eq!(help, [Some("\"nodeName\" belongs to spec: check the indentation"), None]);
    let findings = read(pod_with("  metadata: {}\n")).unwrap_err();
    let help = findings.iter().next().unwrap().help.clone().unwrap();
    assert_eq!(help, "\"metadata\" belongs to the object itself: check the indentation");
    // A misspelt field does not also make its right spelling missing.
    refuses(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{nam: c, image: i}]\n",
        &["unknown field \"spec.containers[0].nam\""],
    );
}

#[test]
fn wrong_types() {
    refuses(
        &container_with(
            "    command: sh -c true\n    ports: {containerPort: 80}\n    tty: 'yes'\n    env: [[]]\n",
        ),
        &[
            "spec.containers[0].command: expected a list, found the string \"sh -c true\"",
            "spec.containers[0].ports: expected a list, found a mapping",
            "spec.containers[0].tty: expected a boolean, found the string \"yes\"",
            "spec.containers[0].env[0]: expected a mapping, found a list",
        ],
    );
    refuses(
        &container_with("    ports: [{containerPort: 99999999999}]\n"),
        &[
            "spec.containers[0].ports[0].containerPort: expected an integer of 32 bits, found the number 99999999999",
        ],
    );
    refuses(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'not base64!'}\n",
        &["data[a]: illegal base64 data: invalid symbol 32, offset 3."],
    );
}

#[test]
fn probes() {
    refuses(
        &container_with(
            "    livenessProbe: {periodSeconds: -1, successThreshold: 2, httpGet: {port: web_1, scheme: ftp}}\n    readinessProbe: {exec: {}, tcpSocket: {port: 0}, terminationGracePeriodSeconds: 5}\n    startupProbe: {}\n",
        ),
        &[
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"web_1\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"ftp\": supported values: \"HTTP\", \"HTTPS\"",
            "spec.containers[0].readinessProbe.exec.command: Required value",
            "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            "spec.containers[0].startupProbe: Required value: must specify a handler type",
        ],
    );
}

#[test]
fn hooks() {
    refuses(
        &container_with(
            "    lifecycle: {postStart: {}, preStop: {sleep: {seconds: 31}}, stopSignal: SIGTERM}\n",
        ),
        &[
            "spec.containers[0].lifecycle.postStart: Required value: must specify a handler type",
            "spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
        ],
    );
    let zero = container_with("    lifecycle: {preStop: {sleep: {seconds: 0}}}\n");
    assert!(read_as(33, &zero).is_ok());
    assert_eq!(
        messages(read_as(32, &zero)),
        [
            "spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 0: must be greater than 0 and less than terminationGracePeriodSeconds (30)"
        ]
    );
    assert!(
        messages(read_as(29, &zero))[0].contains("needs Kubernetes 1.30 (PodLifecycleSleepAction)")
    );
}

#[test]
fn init_containers() {
    refuses(
        &pod_with(
            "  initContainers:\n  - {name: c, image: i, lifecycle: {}, startupProbe: {exec: {command: [a]}}}\n  - {name: s, image: i, restartPolicy: Sometimes}\n",
        ),
        &[
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            "spec.initContainers[0].startupProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            "spec.initContainers[1].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ],
    );
    let never = pod_with("  initContainers: [{name: s, image: i, restartPolicy: Never}]\n");
    assert!(read_as(35, &never).is_ok());
    assert_eq!(
        messages(read_as(34, &never)),
        [
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ]
    );
    let sidecar = pod_with(
        "  initContainers: [{name: s, image: i, restartPolicy: Always, startupProbe: {exec: {command: [a]}}}]\n",
    );
    assert!(read_as(29, &sidecar).is_ok());
}

#[test]
fn restart_rules() {
    let rules = container_with(
        "    restartPolicyRules:\n    - {action: Restart, exitCodes: {operator: In, values: [1]}}\n    - {action: RestartAllContainers, exitCodes: {operator: Is}}\n    - {action: Stop}\n",
    );
    assert_eq!(
        messages(read_as(36, &rules)),
        [
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            "spec.containers[0].restartPolicyRules[1].exitCodes.operator: Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
            "spec.containers[0].restartPolicyRules[2].exitCodes: Required value: must be specified",
            "spec.containers[0].restartPolicyRules[2].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
        ]
    );
    let all = container_with(
        "    restartPolicy: Never\n    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [1]}}]\n",
    );
    assert!(read_as(36, &all).is_ok());
    assert!(messages(read_as(35, &all))[0].contains("needs Kubernetes 1.36"));
    assert!(
        messages(read_as(34, &all))[0].contains("needs Kubernetes 1.35 (ContainerRestartRules)")
    );
    let own = container_with("    restartPolicy: Never\n");
    assert!(read_as(35, &own).is_ok());
    assert_eq!(
        messages(read_as(34, &own)),
        ["spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers"]
    );
}

#[test]
fn ports_env_and_mounts() {
    refuses(
        &container_with(
            "    ports:\n    - {containerPort: 0, hostPort: 70000, protocol: tcp}\n    - {name: a, containerPort: 1, hostPort: 5}\n    - {name: a, containerPort: 2, hostPort: 5}\n    env:\n    - {value: x}\n    - {name: a=b}\n    - {name: x, value: w, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}\n    - {name: z, valueFrom: {}}\n    envFrom: [{}]\n    volumeMounts:\n    - {name: nope, mountPath: /a}\n    - {name: v, mountPath: /a, subPath: ../x}\n  volumes: [{name: v}]\n",
        ),
        &[
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.containers[0].ports[2].name: Duplicate value: \"a\"",
            "spec.containers[0].ports[2].hostPort: Duplicate value: \"TCP//5\"",
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.nam\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[3].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            "spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
            "spec.containers[0].volumeMounts[1].subPath: Invalid value: \"../x\": must not contain '..'",
        ],
    );
}

#[test]
fn volumes() {
    refuses(
        &pod_with(
            "  volumes:\n  - {name: a, emptyDir: {}, hostPath: {path: /x}}\n  - {name: a, hostPath: {type: Dir, path: /a/../b}}\n  - {name: b, secret: {defaultMode: 01000, items: [{key: k, path: /p}]}}\n  - {name: b, configMap: {name: c}}\n  - {name: b, configMap: {name: c}}\n",
        ),
        &[
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.volumes[2].secret.secretName: Required value",
            "spec.volumes[2].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.volumes[2].secret.items[0].path: Invalid value: \"/p\": must be a relative path",
            "spec.volumes[4].name: Duplicate value: \"b\"",
        ],
    );
}

#[test]
fn resources_and_security() {
    refuses(
        &container_with(
            "    resources: {limits: {cpu: 1, gpus: 1}, requests: {cpu: 2, memory: -1}}\n    securityContext: {runAsUser: -1, privileged: true, allowPrivilegeEscalation: false, seccompProfile: {type: Localhost}}\n    imagePullPolicy: Maybe\n    terminationMessagePolicy: Logs\n",
        ),
        &[
            "spec.containers[0].resources.limits[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Logs\": supported values: \"File\", \"FallbackToLogsOnError\"",
        ],
    );
}

#[test]
fn pod_fields() {
    refuses(
        &pod_with(
            "  restartPolicy: Sometimes\n  dnsPolicy: None\n  activeDeadlineSeconds: 0\n  hostname: a.b\n  readinessGates: [{conditionType: 'a b'}]\n  hostAliases: [{ip: nine, hostnames: [A]}]\n  shareProcessNamespace: true\n  hostPID: true\n  ephemeralContainers: [{name: e, image: i, ports: [{containerPort: 1}]}]\n",
        ),
        &[
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            "spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.hostAliases[0].ip: Invalid value: \"nine\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.hostAliases[0].hostnames[0]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ],
    );
}

fn job(spec: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec:\n  template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}\n{spec}"
    )
}

#[test]
fn jobs() {
    refuses(
        &job("").replace("restartPolicy: Never, ", ""),
        &[
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    refuses(
        &job(
            "  parallelism: -1\n  backoffLimitPerIndex: 1\n  managedBy: me\n  selector: {matchLabels: {a: b}}\n  successPolicy: {rules: []}\n",
        ),
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated",
            "spec.successPolicy: Invalid value: {}: requires indexed completion mode",
        ],
    );
    refuses(
        &job("  completionMode: Indexed\n  parallelism: 1\n"),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    refuses(
        &job(
            "  completionMode: Indexed\n  completions: 3\n  maxFailedIndexes: 4\n  successPolicy: {rules: [{succeededIndexes: '0,5', succeededCount: 9}, {}]}\n",
        ),
        &[
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0,5\": error parsing succeededIndexes: too large index: \"5\"",
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 9: must be less than or equal to 3 (the number of specified completions)",
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 9: must be less than or equal to 0 (the number of indexes in the specified succeededIndexes field)",
            "spec.successPolicy.rules[1]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ],
    );
    refuses(
        &job(
            "  podFailurePolicy:\n    rules:\n    - {action: FailIndex, onExitCodes: {containerName: x, operator: In, values: [3, 0, 3]}}\n    - {action: Ignore}\n",
        ),
        &[
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
            "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    refuses(
        &job("  podFailurePolicy: {rules: []}\n").replace("Never", "OnFailure"),
        &[
            "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ],
    );
}

#[test]
fn fields_of_newer_versions() {
    let policy = job(
        "  completionMode: Indexed\n  completions: 2\n  successPolicy: {rules: [{succeededCount: 1}]}\n",
    );
    assert!(read_as(31, &policy).is_ok());
    assert_eq!(
        messages(read_as(30, &policy)),
        [
            "spec.successPolicy: Forbidden: needs Kubernetes 1.31 (JobSuccessPolicy), and 1.30 is asked for"
        ]
    );
    let managed = job("  managedBy: acme.io/foo\n");
    assert!(read_as(32, &managed).is_ok() && read_as(31, &managed).is_err());
    let mount = container_with(
        "    volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}]\n  volumes: [{name: v}]\n",
    );
    assert!(read_as(31, &mount).is_ok() && read_as(30, &mount).is_err());
    let armor = container_with("    securityContext: {appArmorProfile: {type: Unconfined}}\n");
    assert!(read_as(30, &armor).is_ok() && read_as(29, &armor).is_err());
}

#[test]
fn placeholders() {
    let findings = read(pod_with("  nodeName: '{{ .Node }}'\n")).unwrap_err();
    let help = findings.iter().next().unwrap().help.clone().unwrap();
    assert!(help.contains("placeholder"), "{help}");
}

#[test]
fn cron_jobs() {
    let cron = |spec: &str| {
        format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c}}\nspec:\n  jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}\n{spec}"
        )
    };
    refuses(
        &cron(
            "  schedule: '* * * *'\n  timeZone: Mars/Base\n  concurrencyPolicy: Maybe\n  failedJobsHistoryLimit: -1\n",
        ),
        &[
            "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
            "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    refuses(&cron(""), &["spec.schedule: Required value"]);
    refuses(
        &cron("  schedule: 'TZ=UTC * * * * *'\n"),
        &[
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ],
    );
    let long = cron("  schedule: '@hourly'\n")
        .replace("name: c}\nspec", &format!("name: {}}}\nspec", "a".repeat(53)));
    let found = messages(read(long));
    assert!(found[0].ends_with("must be no more than 52 characters"), "{found:?}");
}

#[test]
fn workloads() {
    let workload = |kind: &str, spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: w}}\nspec:\n  template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n{spec}"
        )
    };
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
        assert!(read(workload(kind, "  selector: {matchLabels: {a: b}}\n")).is_ok(), "{kind}");
        refuses(
            &workload(kind, "  selector: {matchLabels: {a: c}}\n"),
            &[
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        );
        let missing = messages(read(workload(kind, "")));
        assert!(missing.contains(&"spec.selector: Required value".to_owned()), "{missing:?}");
    }
    refuses(
        &workload(
            "Deployment",
            "  replicas: -1\n  selector: {matchExpressions: [{key: a, operator: Has}]}\n  strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}\n  progressDeadlineSeconds: 5\n  minReadySeconds: 9\n",
        ),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Has\": not a valid selector operator",
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ],
    );
    let never = workload("ReplicaSet", "  selector: {matchLabels: {a: b}}\n")
        .replace("spec: {containers", "spec: {restartPolicy: Never, containers");
    refuses(
        &never,
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
}

#[test]
fn configuration() {
    refuses(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {'a/b': x, c: d}\nbinaryData: {c: aGk=}\n",
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[c]: Invalid value: \"c\": duplicate of key present in binaryData",
        ],
    );
    refuses(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\nstringData: {tls.crt: x}\n",
        &["data[tls.key]: Required value"],
    );
    refuses(
        "apiVersion: v1\nkind: Service\nmetadata: {name: 1s}\nspec: {ports: [{port: 0}, {name: b, port: 1, nodePort: 30000}]}\n",
        &[
            "metadata.name: Invalid value: \"1s\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ],
    );
}

#[test]
fn what_a_scheduler_looks_at() {
    refuses(
        &pod_with(
            "  affinity: {nodeAfinity: {}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: ''}]}}\n  tolerations: [{operator: Maybe, key: a, efect: NoSchedule}]\n",
        ),
        &[
            "unknown field \"spec.affinity.nodeAfinity\"",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            "spec.tolerations[0].operator: Unsupported value: \"Maybe\": supported values: \"Equal\", \"Exists\"",
            "unknown field \"spec.tolerations[0].efect\"",
        ],
    );
    refuses(
        &pod_with(
            "  affinity:\n    nodeAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}\n      preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: Like}, {key: b, operator: In}]}}]\n    podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: ''}]}\n  tolerations: [{}, {key: a, operator: Maybe, effect: Never, tolerationSeconds: 1}, {operator: Exists, value: x}]\n  topologySpreadConstraints: [{maxSkew: 0, topologyKey: '', whenUnsatisfiable: Wait}]\n",
        ),
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            "spec.tolerations[1].operator: Unsupported value: \"Maybe\": supported values: \"Equal\", \"Exists\"",
            "spec.tolerations[1].effect: Invalid value: \"Never\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            "spec.tolerations[1].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "spec.tolerations[2].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than 0",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Wait\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
}
