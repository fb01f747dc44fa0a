//! Every field of a pod in Kubernetes 1.35: kept, refused, noted, or documented to mean nothing here.
//!
//! The lists are those of `staging/src/k8s.io/api/core/v1/types.go`. A field that one of them lacks, or
//! has too much, fails the test, so that none is added to the reader without a decision.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_manifest::object::container::*;
use holdfast_manifest::object::pod::*;
use holdfast_manifest::object::volume::*;
use holdfast_runtime::config::{RunBy, notices, unsupported};
use serde_json::{Value, json};

use super::{Bench, pod};

/// The fields of a type, by what becomes of them.
struct Fate {
    name: &'static str,
    read: &'static [&'static str],
    /// Honoured as in Kubernetes, or refused by the validation that Kubernetes has too.
    kept: &'static str,
    /// Refused before anything runs, in general or for some values.
    refused: &'static str,
    /// Accepted, with a note that it does less.
    noted: &'static str,
    /// Without meaning where there is one node and no cluster; docs/manifests.md says so.
    nothing: &'static str,
}

macro_rules! fate {
    ($type:ident, kept: $kept:literal $(, refused: $refused:literal)? $(, noted: $noted:literal)? $(, nothing: $nothing:literal)?) => {
        Fate {
            name: stringify!($type),
            read: $type::FIELDS,
            kept: $kept,
            refused: concat!($($refused)?),
            noted: concat!($($noted)?),
            nothing: concat!($($nothing)?),
        }
    };
}

#[rustfmt::skip]
fn fates() -> Vec<Fate> {
    vec![
        fate!(PodSpec,
            kept: "volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy dnsConfig serviceAccountName serviceAccount hostNetwork hostPID hostIPC shareProcessNamespace securityContext imagePullSecrets hostname subdomain hostAliases priorityClassName setHostnameAsFQDN hostnameOverride",
            refused: "runtimeClassName os hostUsers schedulingGates resourceClaims resources overhead",
            noted: "nodeSelector nodeName affinity topologySpreadConstraints schedulerName workloadRef readinessGates automountServiceAccountToken",
            nothing: "tolerations priority preemptionPolicy enableServiceLinks"),
        fate!(PodSecurityContext,
            kept: "runAsUser runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy fsGroup fsGroupChangePolicy",
            refused: "seLinuxOptions windowsOptions sysctls appArmorProfile",
            noted: "seccompProfile",
            nothing: "seLinuxChangePolicy"),
        fate!(Sysctl, kept: "name value"),
        fate!(HostAlias, kept: "ip hostnames"),
        fate!(PodDnsConfig, kept: "nameservers searches options"),
        fate!(PodDnsConfigOption, kept: "name value"),
        fate!(PodReadinessGate, kept: "conditionType"),
        fate!(PodOs, kept: "name"),
        fate!(Container,
            kept: "name image command args workingDir ports envFrom env restartPolicy restartPolicyRules volumeMounts livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext targetContainerName",
            refused: "volumeDevices resources",
            noted: "stdin tty",
            nothing: "resizePolicy stdinOnce"),
        fate!(ContainerPort, kept: "name hostPort containerPort hostIP", refused: "protocol"),
        fate!(EnvVar, kept: "name value valueFrom"),
        fate!(EnvVarSource, kept: "fieldRef resourceFieldRef configMapKeyRef secretKeyRef", refused: "fileKeyRef"),
        fate!(ObjectFieldSelector, kept: "apiVersion fieldPath"),
        fate!(ResourceFieldSelector, kept: "containerName resource divisor"),
        fate!(KeySelector, kept: "name key optional"),
        fate!(EnvFromSource, kept: "prefix configMapRef secretRef"),
        fate!(EnvSourceRef, kept: "name optional"),
        fate!(ResourceRequirements, kept: "requests", refused: "claims", noted: "limits"),
        fate!(ContainerRestartRule, kept: "action exitCodes"),
        fate!(ExitCodes, kept: "operator values"),
        fate!(VolumeMount, kept: "name readOnly recursiveReadOnly mountPath subPath subPathExpr mountPropagation"),
        fate!(Probe, kept: "exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds"),
        fate!(Lifecycle, kept: "postStart preStop", refused: "stopSignal"),
        fate!(LifecycleHandler, kept: "exec httpGet tcpSocket sleep"),
        fate!(ExecAction, kept: "command"),
        fate!(HttpGetAction, kept: "path port host scheme httpHeaders"),
        fate!(HttpHeader, kept: "name value"),
        fate!(TcpSocketAction, kept: "port host"),
        fate!(GrpcAction, kept: "port service"),
        fate!(SleepAction, kept: "seconds"),
        fate!(SecurityContext,
            kept: "privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation",
            refused: "capabilities seLinuxOptions windowsOptions procMount seccompProfile",
            noted: "appArmorProfile"),
        fate!(Capabilities, kept: "add drop"),
        fate!(Volume,
            kept: "name hostPath configMap secret downwardAPI projected persistentVolumeClaim",
            refused: "emptyDir image ephemeral csi nfs iscsi glusterfs rbd cephfs cinder fc flexVolume flocker gitRepo gcePersistentDisk awsElasticBlockStore azureDisk azureFile vsphereVolume quobyte photonPersistentDisk portworxVolume scaleIO storageos"),
        fate!(EmptyDirSource, kept: "medium sizeLimit"),
        fate!(HostPathSource, kept: "path type"),
        fate!(KeyToPath, kept: "key path mode"),
        fate!(ConfigMapSource, kept: "name items defaultMode optional"),
        fate!(SecretSource, kept: "secretName items defaultMode optional"),
        fate!(DownwardApiSource, kept: "items defaultMode"),
        fate!(DownwardApiFile, kept: "path fieldRef resourceFieldRef mode"),
        fate!(ProjectedSource, kept: "sources defaultMode"),
        fate!(VolumeProjection, kept: "secret downwardAPI configMap", refused: "serviceAccountToken clusterTrustBundle podCertificate"),
        fate!(KeysProjection, kept: "name items optional"),
        fate!(DownwardApiProjection, kept: "items"),
        fate!(PersistentVolumeClaimSource, kept: "claimName readOnly"),
    ]
}

#[test]
fn every_field_has_a_fate() {
    for fate in fates() {
        let lists = [fate.kept, fate.refused, fate.noted, fate.nothing];
        let all: Vec<&str> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
        let once: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), once.len(), "{}: a field is there twice", fate.name);
        let read: BTreeSet<&str> = fate.read.iter().copied().collect();
        assert_eq!(once, read, "{}", fate.name);
    }
}

/// For every field that is refused or noted, a pod whose finding starts with the field's own path.
fn samples() -> Vec<(&'static str, &'static str, Value, Value)> {
    let mut all = Vec::new();
    let mut of_pod = |field: &'static str, value: Value| {
        all.push(("PodSpec", field, json!({}), json!({field: value})))
    };
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": []}]});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
    of_pod("runtimeClassName", json!("gvisor"));
    of_pod("os", json!({"name": "windows"}));
    of_pod("hostUsers", json!(false));
    of_pod("schedulingGates", json!([{"name": "g"}]));
    of_pod("resourceClaims", json!([{"name": "r"}]));
    of_pod("resources", json!({"limits": {"cpu": "1"}}));
    of_pod("overhead", json!({"cpu": "1"}));
    of_pod("nodeSelector", json!({"disk": "none"}));
    of_pod("nodeName", json!("elsewhere"));
    of_pod("affinity", json!({"nodeAffinity": required}));
    of_pod("topologySpreadConstraints", json!([{"whenUnsatisfiable": "DoNotSchedule"}]));
    of_pod("schedulerName", json!("other"));
    of_pod("workloadRef", json!({"name": "w", "podGroup": "g"}));
    of_pod("readinessGates", json!([{"conditionType": "a.b/c"}]));
    of_pod("automountServiceAccountToken", json!(true));
    let mut security = |field: &'static str, value: Value| {
        let context = json!({"securityContext": {field: value}});
        all.push(("PodSecurityContext", field, json!({}), context));
    };
    security("seLinuxOptions", json!({"level": "s0"}));
    security("windowsOptions", json!({"gmsaCredentialSpecName": "x"}));
    security("sysctls", json!([{"name": "net.core.somaxconn", "value": "1"}]));
    security("appArmorProfile", json!({"type": "Localhost", "localhostProfile": "x"}));
    security("seccompProfile", json!({"type": "RuntimeDefault"}));
    let mut of_container = |kind: &'static str, field: &'static str, value: Value| {
        all.push((kind, field, value, json!({})))
    };
    let c = "Container";
    of_container(c, "volumeDevices", json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}));
    of_container(c, "resources", json!({"resources": {"limits": {"a.b/c": "1"}}}));
    of_container(c, "stdin", json!({"stdin": true}));
    of_container(c, "tty", json!({"tty": true}));
    let port = json!({"ports": [{"containerPort": 1, "hostPort": 1, "protocol": "SCTP"}]});
    of_container("ContainerPort", "protocol", port);
    let file = json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "k"}}}]});
    of_container("EnvVarSource", "fileKeyRef", file);
    let claims = json!({"resources": {"claims": [{"name": "x"}]}});
    of_container("ResourceRequirements", "claims", claims);
    let limits = json!({"resources": {"limits": {"ephemeral-storage": "1Gi"}}});
    of_container("ResourceRequirements", "limits", limits);
    of_container("Lifecycle", "stopSignal", json!({"lifecycle": {"stopSignal": "SIGWHAT"}}));
    let mut own = |field: &'static str, value: Value| {
        let container = json!({"securityContext": {field: value}});
        all.push(("SecurityContext", field, container, json!({})));
    };
    own("capabilities", json!({"add": ["FLY"]}));
    own("seLinuxOptions", json!({"level": "s0"}));
    own("windowsOptions", json!({"gmsaCredentialSpecName": "x"}));
    own("procMount", json!("Unmasked"));
    own("seccompProfile", json!({"type": "Localhost", "localhostProfile": "x"}));
    own("appArmorProfile", json!({"type": "RuntimeDefault"}));
    for fate in fates() {
        let volume = |field: &'static str, source: Value| {
            let volumes = json!({"volumes": [{"name": "v", field: source}]});
            (fate.name, field, json!({}), volumes)
        };
        for field in fate.refused.split_whitespace() {
            match fate.name {
                "Volume" if field == "emptyDir" => {
                    all.push(volume(field, json!({"medium": "HugePages"})));
                }
                "Volume" => all.push(volume(field, json!({}))),
                "VolumeProjection" => {
                    let volumes = json!({"volumes": [{"name": "v", "projected": {"sources": [{field: {}}]}}]});
                    all.push((fate.name, field, json!({}), volumes));
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn what_is_not_kept_is_said() {
    let samples = samples();
    let node = Bench::new().node;
    for fate in fates() {
        for (list, refused) in [(fate.refused, true), (fate.noted, false)] {
            for field in list.split_whitespace() {
                let (_, _, container, spec) = samples
                    .iter()
                    .find(|(kind, name, ..)| (*kind, *name) == (fate.name, field))
                    .unwrap_or_else(|| panic!("no sample of {}.{field}", fate.name));
                let pod = pod(container.clone(), spec.clone());
                let by = RunBy::Process;
                let found = if refused { unsupported(&pod, by) } else { notices(&pod, &node, by) };
                let [finding] = &found[..] else { panic!("{}.{field}: {found:?}", fate.name) };
                let mut words = finding.path.split(['.', '[', ']']);
                assert!(words.any(|word| word == field), "{}.{field}: {finding:?}", fate.name);
                assert!(!finding.reason.is_empty(), "{finding:?}");
            }
        }
    }
}

#[test]
fn what_means_nothing_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/manifests.md")).unwrap();
    let (_, section) = page.split_once("## Without meaning here").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for fate in fates() {
        for field in fate.nothing.split_whitespace() {
            assert!(section.contains(&format!("`{field}`")), "{}.{field}", fate.name);
        }
    }
}

/// A field that is said to be kept is at least looked at by something that runs pods, or makes plans.
#[test]
fn what_is_kept_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    sources(&root.join("runtime/src"), &mut files);
    sources(&root.join("manifest/src/expand"), &mut files);
    sources(&root.join("manifest/src/validate"), &mut files);
    files.push(root.join("manifest/src/plan.rs"));
    files.push(root.join("manifest/src/defaults.rs"));
    let mut words = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        words.extend(text.split(|c| !is_word(c)).map(str::to_owned));
    }
    for fate in fates() {
        for field in fate.kept.split_whitespace() {
            let name = if field == "type" { "kind".to_owned() } else { snake(field) };
            assert!(words.contains(&name), "{}.{field}: nothing reads {name}", fate.name);
        }
    }
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.file_name().is_none_or(|name| name != "unsupported.rs") {
            files.push(path);
        }
    }
}

/// The Rust name of a field.
fn snake(field: &str) -> String {
    let mut out = String::new();
    let mut upper = true;
    for c in field.chars() {
        if c.is_ascii_uppercase() && !upper {
            out.push('_');
        }
        upper = c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}
