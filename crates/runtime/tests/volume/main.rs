//! Volumes of pods as they are written in manifests, on real files.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod mounts;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_manifest::object::{ConfigMap, Pod, Secret};
use holdfast_runtime::config::{Allocatable, Node, Objects, PodView};
use holdfast_runtime::contract::MountSource;
use holdfast_runtime::volume::PodVolumes;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A pod with its volumes in a state directory of its own.
struct Bench {
    state: TempDir,
    node: Node,
    objects: Objects,
}

impl Bench {
    fn new() -> Self {
        let allocatable = Allocatable { cpu_milli: 4000, memory: 1 << 30, ephemeral_storage: 0 };
        let node =
            Node { name: "node".into(), labels: BTreeMap::new(), ips: Vec::new(), allocatable };
        let mut bench =
            Self { state: tempfile::tempdir().unwrap(), node, objects: Objects::default() };
        bench.config_map(json!({"a": "1", "b": "2"}));
        let secret = json!({
            "metadata": {"name": "s", "namespace": "ns"},
            "data": {"user": "YWRtaW4=", "raw": "AP8="},
        });
        bench.objects.insert_secret(serde_json::from_value::<Secret>(secret).unwrap());
        bench
    }

    /// Replaces the ConfigMap `cm`.
    fn config_map(&mut self, data: Value) {
        let map = json!({
            "metadata": {"name": "cm", "namespace": "ns"},
            "data": data, "binaryData": {"bin": "AAEC"},
        });
        self.objects.insert_config_map(serde_json::from_value::<ConfigMap>(map).unwrap());
    }

    fn volumes(&self) -> PodVolumes {
        PodVolumes::new(self.state.path(), "uid", false).unwrap()
    }

    fn prepare(&self, volumes: &mut PodVolumes, pod: &Pod) -> Result<(), String> {
        let view = PodView { pod, node: &self.node, pod_ips: &[] };
        volumes.prepare(view, &self.objects).map_err(|err| err.0)
    }

    /// Prepares one volume `v` and returns its directory.
    fn one(&self, source: Value) -> Result<(PodVolumes, PathBuf), String> {
        let pod = pod(source, json!({}), json!([]));
        let mut volumes = self.volumes();
        self.prepare(&mut volumes, &pod)?;
        let path = source_of(&volumes, &pod);
        Ok((volumes, path))
    }

    fn error(&self, source: Value) -> String {
        self.one(source).map(|(_, path)| path).unwrap_err()
    }
}

/// A pod with the volume `v`, mounted at `/v` by its container, and further mounts of it.
fn pod(source: Value, security: Value, mounts: Value) -> Pod {
    let mut volume = source;
    volume["name"] = json!("v");
    let mut all = vec![json!({"name": "v", "mountPath": "/v"})];
    all.extend(mounts.as_array().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "uid", "labels": {"app": "x"},
        },
        "spec": {
            "securityContext": security, "volumes": [volume],
            "containers": [{
                "name": "c", "volumeMounts": all, "resources": {"limits": {"cpu": "1500m"}},
            }],
        },
    }))
    .unwrap()
}

/// Where the first mount of the container comes from.
fn source_of(volumes: &PodVolumes, pod: &Pod) -> PathBuf {
    bind(&volumes.mounts(&pod.spec.containers[0], &[]).unwrap()[0]).to_owned()
}

fn bind(mount: &holdfast_runtime::contract::Mount) -> &Path {
    match &mount.source {
        MountSource::Bind(path) | MountSource::BindPart(path) => path,
        other => panic!("{other:?}"),
    }
}
