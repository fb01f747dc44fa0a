//! Containers configured from manifests, with real images and volumes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod command;
mod environment;
mod fields;
mod files;
mod identity;
mod refusals;

use std::collections::BTreeMap;
use std::fs;

use holdfast_lifecycle::status::InstanceId;
use holdfast_manifest::object::{ConfigMap, Pod, Secret};
use holdfast_runtime::config::{
    Allocatable, ConfigError, Configured, ContainerRequest, Node, Objects, PodView,
    container_config,
};
use holdfast_runtime::contract::{ContainerConfig, RootFs};
use holdfast_runtime::image::{Image, ImageConfig};
use holdfast_runtime::volume::PodVolumes;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node, an image with an /etc/passwd, a ConfigMap and a Secret.
struct Bench {
    temp: TempDir,
    node: Node,
    objects: Objects,
    image: Image,
    minor: u32,
    groups: bool,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/false\n# no:x:1:1\nbad\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:root\nwww:x:102:\nlogs:x:200:web,other\nadm:x:4:root,web\n";
        fs::write(root.join("etc/group"), group).unwrap();
        let image = Image {
            id: "sha256:0".into(),
            root: RootFs::Layers(vec![root]),
            config: ImageConfig {
                entrypoint: vec!["/entry".into()],
                cmd: vec!["cmd".into()],
                env: vec![("PATH".into(), "/image/bin".into()), ("FROM".into(), "image".into())],
                ..ImageConfig::default()
            },
        };
        let mut objects = Objects::default();
        let map = json!({
            "metadata": {"name": "cm", "namespace": "ns"},
            "data": {"KEY": "value", "OTHER": "more", "2bad": "x"},
        });
        objects.insert_config_map(serde_json::from_value::<ConfigMap>(map).unwrap());
        let secret = json!({
            "metadata": {"name": "s", "namespace": "ns"}, "data": {"TOKEN": "c2VjcmV0"},
        });
        objects.insert_secret(serde_json::from_value::<Secret>(secret).unwrap());
        let node = Node {
            name: "node-1".into(),
            labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
            ips: vec!["192.0.2.10".parse().unwrap()],
            allocatable: Allocatable { cpu_milli: 4000, memory: 8 << 30, ephemeral_storage: 0 },
        };
        Self { temp, node, objects, image, minor: 35, groups: true }
    }

    /// Configures the only container of a pod. `container` and `spec` are merged into it.
    fn configure(&self, container: Value, spec: Value) -> Result<Configured, ConfigError> {
        self.configure_at(container, spec).map(|(configured, _)| configured)
    }

    fn configure_at(
        &self,
        container: Value,
        spec: Value,
    ) -> Result<(Configured, PodVolumes), ConfigError> {
        let pod = pod(container, spec);
        let ips = ["10.0.0.7".parse().unwrap()];
        let view = PodView { pod: &pod, node: &self.node, pod_ips: &ips };
        let state = self.temp.path().join("state");
        let mut volumes = PodVolumes::new(&state, "uid-1", false).unwrap();
        volumes.prepare(view, &self.objects).unwrap();
        let request = ContainerRequest {
            view,
            container: &pod.spec.containers[0],
            image: &self.image,
            objects: &self.objects,
            volumes: &volumes,
            instance: InstanceId(7),
            restart_count: 2,
            kubernetes_minor: self.minor,
            can_set_groups: self.groups,
        };
        Ok((container_config(&request)?, volumes))
    }

    fn config(&self, container: Value) -> ContainerConfig {
        self.configure(container, json!({})).unwrap().config
    }

    fn error(&self, container: Value) -> ConfigError {
        self.configure(container, json!({})).unwrap_err()
    }
}

fn pod(mut container: Value, mut spec: Value) -> Pod {
    container["name"] = json!("main");
    spec["containers"] = json!([container]);
    let metadata = json!({
        "name": "web-0", "namespace": "ns", "uid": "uid-1", "labels": {"app": "web"},
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}
