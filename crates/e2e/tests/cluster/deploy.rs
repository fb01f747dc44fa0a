//! The chart and the plain manifests: rendered and installed by real helm, and what runs then.

mod failover;
mod guide;
mod interface;
mod observe;
mod release;
mod replicas;
mod seen;
mod tunnel;

use std::process::Command;

use holdfast_e2e::{deploy, go};
use serde_json::Value;

use crate::place::possible;
use release::{Release, said};

#[test]
fn the_manifests_are_the_charts() {
    for (name, text) in deploy::render().unwrap() {
        let path = deploy::manifests().join(format!("{name}.yaml"));
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, text, "{}: `cargo xtask deploy` makes it anew", path.display());
    }
}

/// What would only fail when it runs, or would be unsafe, fails when it is rendered.
#[test]
fn s13_the_chart_refuses_tokens_in_plain_text_and_what_cannot_work() {
    let helm = go::helm().unwrap();
    let refused = |settings: &[&str], words: &str| {
        let mut command = Command::new(&helm);
        command.args(["template", "holdfast"]).arg(deploy::chart());
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        assert!(
            !output.status.success() && said(&output).contains(words),
            "{settings:?}: {}",
            said(&output)
        );
    };
    refused(&["replicaCount=2", "volumes.netclientConfig.usePVC=true"], "one and the same peer");
    refused(&["replicaCount=2", "hostNetwork=true"], "fight over one interface");
    refused(&["hostNetwork=true", "service.proxy.enabled=true"], "differs from replica to replica");
    refused(&["api.token=secret"], "api.tokenSecret.name");
    refused(&["api.serverDomain=api.example.com"], "api.tokenSecret.name");
    refused(&["netclient.token=secret"], "netclient.tokenSecret.name");
    refused(&["netclient.order=first"], "sidecar, sideBySide or statusVolume");
    refused(&["manager.configMap.proxyMode=Auth"], "auth, noauth, or empty");
    refused(&["rbac.useBroadPermissions=true"], "rbac.impersonate");
    refused(&["manager.impersonate.user=ann"], "\"ann\" is not in rbac.impersonate.users");
    refused(&["manager.impersonate.groups={wireguard-peers,dev}"], "has \"dev\", which is not in");
    refused(&["serviceMonitor.enabled=true"], "service.metrics.enabled");
    let mut old = Command::new(&helm);
    old.args(["template", "holdfast", "--kube-version", "1.28.0"]).arg(deploy::chart());
    let output = old.output().unwrap();
    assert!(said(&output).contains("needs Kubernetes 1.29"), "{}", said(&output));
}

/// No wildcard, nobody whom the values do not name, nothing that is not used.
#[test]
fn s15_rights_are_the_least() {
    let rendered = deploy::render().unwrap();
    for (name, text) in &rendered {
        assert!(
            !text.contains("\"*\"") && !text.contains("'*'") && !text.contains("[*]"),
            "{name}"
        );
        assert!(!text.contains("privileged") && !text.contains("secrets"), "{name}");
        let rights = |word: &str| text.contains(word);
        assert!(rights("resourceNames: [\"wireguard-peers\"]"), "{name}");
        assert_eq!(rights("leases"), name == "three-replicas" || name == "host-network", "{name}");
        assert_eq!(rights("resources: [pods]"), name == "host-network", "{name}");
        assert!(!rights("tokenreviews"), "{name}");
    }
}

/// The kubelet keeps the order: the manager's container starts when netclient has its interface, however
/// late that is.
#[tokio::test]
async fn k10_a_native_sidecar_comes_first() {
    if !possible() {
        return;
    }
    let late = ["netclient.env[0].name=JOIN_AFTER", "netclient.env[0].value=8"];
    let release = Release::install("sidecar", "native-sidecar", &late).await;
    release.ready(1).await;
    let pod = release.pod(&release.pods()[0]);
    let at = |pointer: &str| -> jiff::Timestamp {
        let text = pod.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("{pointer}: {pod}")).parse().unwrap()
    };
    let netclient = at("/status/initContainerStatuses/1/state/running/startedAt");
    let manager = at("/status/containerStatuses/0/state/running/startedAt");
    // Whole seconds.
    assert!(manager.duration_since(netclient).as_secs() >= 7, "{netclient} {manager}");
    let log = release.ask(&["logs", "deployment/holdfast", "-c", "manager"]);
    assert!(log.contains("Found WireGuard interface"), "{log}");
    assert!(!log.contains("Waiting before retry"), "it had to wait: {log}");
}
