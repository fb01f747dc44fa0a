//! Volumes and mounts (`ValidateVolumes`, `ValidateVolumeMounts`).

use std::collections::{HashMap, HashSet};

use super::{Cx, container, names};
use crate::object::container::VolumeMount;
use crate::object::volume::{DownwardApiFile, KeyToPath, ProjectedSource};
use crate::object::{Container, Volume};
use crate::path::Path;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The volumes of a pod that are right, by name.
pub(super) type Volumes<'a> = HashMap<&'a str, Option<&'a Volume>>;

/// The names of the sources that a volume has.
pub(super) fn kinds(volume: &Volume) -> impl Iterator<Item = &'static str> + '_ {
    let v = volume;
    [
        ("emptyDir", v.empty_dir.is_some()),
        ("hostPath", v.host_path.is_some()),
        ("gitRepo", v.git_repo.is_some()),
        ("gcePersistentDisk", v.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", v.aws_elastic_block_store.is_some()),
        ("secret", v.secret.is_some()),
        ("nfs", v.nfs.is_some()),
        ("iscsi", v.iscsi.is_some()),
        ("glusterfs", v.glusterfs.is_some()),
        ("flocker", v.flocker.is_some()),
        ("persistentVolumeClaim", v.persistent_volume_claim.is_some()),
        ("rbd", v.rbd.is_some()),
        ("cinder", v.cinder.is_some()),
        ("cephfs", v.cephfs.is_some()),
        ("quobyte", v.quobyte.is_some()),
        ("downwardAPI", v.downward_api.is_some()),
        ("fc", v.fc.is_some()),
        ("flexVolume", v.flex_volume.is_some()),
        ("configMap", v.config_map.is_some()),
        ("azureFile", v.azure_file.is_some()),
        ("vsphereVolume", v.vsphere_volume.is_some()),
        ("photonPersistentDisk", v.photon_persistent_disk.is_some()),
        ("portworxVolume", v.portworx_volume.is_some()),
        ("azureDisk", v.azure_disk.is_some()),
        ("storageos", v.storageos.is_some()),
        ("projected", v.projected.is_some()),
        ("scaleIO", v.scale_io.is_some()),
        ("csi", v.csi.is_some()),
        ("ephemeral", v.ephemeral.is_some()),
        ("image", v.image.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
}

/// Checks every volume; gives those that mounts may name.
pub(super) fn volumes<'a>(cx: &mut Cx, volumes: &'a [Volume], path: Path<'_>) -> Volumes<'a> {
    let mut right = Volumes::with_capacity(volumes.len());
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let before = cx.errors.len();
        source(cx, volume, path);
        let name = path.field("name");
        if volume.name.is_empty() {
            cx.errors.required(name, "");
        } else {
            cx.messages(name, &volume.name, names::dns_label(&volume.name));
        }
        if right.contains_key(volume.name.as_str()) {
            cx.errors.duplicate(name, &volume.name);
        }
        if cx.errors.len() == before {
            right.insert(&volume.name, Some(volume));
        }
    }
    right
}

fn source(cx: &mut Cx, volume: &Volume, path: Path<'_>) {
    for extra in kinds(volume).skip(1) {
        cx.errors.forbidden(path.field(extra), "may not specify more than 1 volume type");
    }
    match kinds(volume).next() {
        None => cx.errors.required(path, "must specify a volume type"),
        Some("emptyDir") => {
            let Some(v) = &volume.empty_dir else { return };
            if v.size_limit.as_ref().is_some_and(|q| q.nanos() < 0) {
                let path = path.field("emptyDir");
                let detail = "SizeLimit field must be a valid resource quantity";
                cx.errors.forbidden(path.field("sizeLimit"), detail);
            }
        }
        Some("hostPath") => {
            let Some(v) = &volume.host_path else { return };
            let path = path.field("hostPath");
            if v.path.is_empty() {
                return cx.errors.required(path.field("path"), "");
            }
            no_backsteps(cx, &v.path, path.field("path"));
            let kind = v.kind.as_deref().unwrap_or_default();
            if !HOST_PATH_TYPES.contains(&kind) {
                cx.errors.not_supported(path.field("type"), kind, HOST_PATH_TYPES);
            }
        }
        Some("secret") => {
            let Some(v) = &volume.secret else { return };
            let path = path.field("secret");
            if v.secret_name.is_empty() {
                cx.errors.required(path.field("secretName"), "");
            }
            mode(cx, v.default_mode, path.field("defaultMode"));
            items(cx, &v.items, path.field("items"));
        }
        Some("configMap") => {
            let Some(v) = &volume.config_map else { return };
            let path = path.field("configMap");
            if v.name.is_empty() {
                cx.errors.required(path.field("name"), "");
            }
            mode(cx, v.default_mode, path.field("defaultMode"));
            items(cx, &v.items, path.field("items"));
        }
        Some("persistentVolumeClaim") => {
            let Some(v) = &volume.persistent_volume_claim else { return };
            if v.claim_name.is_empty() {
                cx.errors.required(path.field("persistentVolumeClaim").field("claimName"), "");
            }
        }
        Some("downwardAPI") => {
            let Some(v) = &volume.downward_api else { return };
            let path = path.field("downwardAPI");
            mode(cx, v.default_mode, path.field("defaultMode"));
            downward(cx, &v.items, path.field("items"));
        }
        Some("projected") => {
            let Some(v) = &volume.projected else { return };
            projected(cx, v, path.field("projected"));
        }
        // What no machine alone can mount is kept as written and not looked into.
        Some(_) => {}
    }
}

fn mode(cx: &mut Cx, mode: Option<i32>, path: Path<'_>) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        cx.errors.invalid(path, mode, MODE);
    }
}

fn items(cx: &mut Cx, items: &[KeyToPath], path: Path<'_>) {
    for (i, item) in items.iter().enumerate() {
        let path = path.index(i);
        if item.key.is_empty() {
            cx.errors.required(path.field("key"), "");
        }
        if item.path.is_empty() {
            cx.errors.required(path.field("path"), "");
        }
        non_reserved(cx, &item.path, path.field("path"));
        mode(cx, item.mode, path.field("mode"));
    }
}

fn downward(cx: &mut Cx, files: &[DownwardApiFile], path: Path<'_>) {
    const FIELDS: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
    ];
    for (i, file) in files.iter().enumerate() {
        let path = path.index(i);
        if file.path.is_empty() {
            cx.errors.required(path.field("path"), "");
        }
        non_reserved(cx, &file.path, path.field("path"));
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), other) => {
                container::field_ref(cx, field, FIELDS, path.field("fieldRef"));
                if other.is_some() {
                    let detail =
                        "fieldRef and resourceFieldRef can not be specified simultaneously";
                    cx.errors.invalid(path, "resource", detail);
                }
            }
            (None, Some(resource)) => {
                container::resource_ref(cx, resource, true, path.field("resourceFieldRef"));
            }
            (None, None) => {
                cx.errors.required(path, "one of fieldRef and resourceFieldRef is required");
            }
        }
        mode(cx, file.mode, path.field("mode"));
    }
}

fn projected(cx: &mut Cx, projected: &ProjectedSource, path: Path<'_>) {
    mode(cx, projected.default_mode, path.field("defaultMode"));
    let sources = path.field("sources");
    let mut paths = HashSet::new();
    for (i, source) in projected.sources.iter().enumerate() {
        let path = sources.index(i);
        let mut unique = |cx: &mut Cx, file: &str, path: Path<'_>| {
            if !file.is_empty() && !paths.insert(file.to_owned()) {
                cx.errors.invalid(path, file, "conflicting duplicate paths");
            }
        };
        for (keys, name) in [(&source.secret, "secret"), (&source.config_map, "configMap")] {
            let Some(keys) = keys else { continue };
            let path = path.field(name);
            if keys.name.is_empty() {
                cx.errors.required(path.field("name"), "");
            }
            let list = path.field("items");
            items(cx, &keys.items, list);
            for (i, item) in keys.items.iter().enumerate() {
                unique(cx, &item.path, list.index(i).field("path"));
            }
        }
        if let Some(api) = &source.downward_api {
            let path = path.field("downwardAPI");
            let list = path.field("items");
            downward(cx, &api.items, list);
            for (i, item) in api.items.iter().enumerate() {
                unique(cx, &item.path, list.index(i).field("path"));
            }
        }
        if let Some(token) = &source.service_account_token {
            let path = path.field("serviceAccountToken");
            let seconds = token.expiration_seconds.unwrap_or_default();
            if seconds < 600 {
                let detail = "may not specify a duration less than 10 minutes";
                cx.errors.invalid(path.field("expirationSeconds"), seconds, detail);
            } else if seconds > 1 << 32 {
                let detail = "may not specify a duration larger than 2^32 seconds";
                cx.errors.invalid(path.field("expirationSeconds"), seconds, detail);
            }
            if token.path.is_empty() {
                cx.errors.required(path.field("path"), "");
            } else {
                non_reserved(cx, &token.path, path.field("path"));
            }
        }
        let set = [
            source.secret.is_some(),
            source.config_map.is_some(),
            source.downward_api.is_some(),
            source.service_account_token.is_some(),
            source.cluster_trust_bundle.is_some(),
            source.pod_certificate.is_some(),
        ];
        if set.into_iter().filter(|&s| s).count() > 1 {
            cx.errors.forbidden(path, "may not specify more than 1 volume type per source");
        }
    }
}

/// `validatePathNoBacksteps`.
fn no_backsteps(cx: &mut Cx, target: &str, path: Path<'_>) {
    if target.split('/').any(|part| part == "..") {
        cx.errors.invalid(path, target, "must not contain '..'");
    }
}

/// `validateLocalDescendingPath`.
pub(super) fn descending(cx: &mut Cx, target: &str, path: Path<'_>) {
    if target.starts_with('/') {
        cx.errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(cx, target, path);
}

/// `ValidateLocalNonReservedPath`.
fn non_reserved(cx: &mut Cx, target: &str, path: Path<'_>) {
    descending(cx, target, path);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        cx.errors.invalid(path, target, "must not start with '..'");
    }
}

/// Mounts and devices of a container.
pub(super) fn mounts(cx: &mut Cx, container: &Container, volumes: &Volumes<'_>, path: Path<'_>) {
    let devices: HashMap<&str, &str> = container
        .volume_devices
        .iter()
        .map(|d| (d.name.as_str(), d.device_path.as_str()))
        .collect();
    let device_paths: HashSet<&str> = devices.values().copied().collect();
    let list = path.field("volumeMounts");
    let mut taken = HashSet::new();
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        let path = list.index(i);
        if mount.name.is_empty() {
            cx.errors.required(path.field("name"), "");
        } else if !volumes.contains_key(mount.name.as_str()) {
            cx.errors.not_found(path.field("name"), &mount.name);
            // Advice for people; a generated pod of many volumes does not need it.
            if volumes.len() <= 64 {
                let names: Vec<&str> = volumes.keys().copied().collect();
                if let Some(near) = crate::suggest::nearest(&mount.name, &names) {
                    cx.errors.help(format!("there is a volume {near:?}"));
                }
            }
        }
        if mount.mount_path.is_empty() {
            cx.errors.required(path.field("mountPath"), "");
        }
        if !taken.insert(mount.mount_path.as_str()) {
            cx.errors.invalid(path.field("mountPath"), &mount.mount_path, "must be unique");
        }
        if devices.contains_key(mount.name.as_str()) {
            let detail = "must not already exist in volumeDevices";
            cx.errors.invalid(path.field("name"), &mount.name, detail);
        }
        if device_paths.contains(mount.mount_path.as_str()) {
            let detail = "must not already exist as a path in volumeDevices";
            cx.errors.invalid(path.field("mountPath"), &mount.mount_path, detail);
        }
        one_mount(cx, mount, container, path);
    }
    let list = path.field("volumeDevices");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (i, device) in container.volume_devices.iter().enumerate() {
        let path = list.index(i);
        let name = path.field("name");
        if device.name.is_empty() {
            cx.errors.required(name, "");
        } else if !names.insert(device.name.as_str()) {
            cx.errors.invalid(name, &device.name, "must be unique");
        }
        match volumes.get(device.name.as_str()) {
            None => cx.errors.not_found(name, &device.name),
            Some(Some(v)) if v.persistent_volume_claim.is_none() && v.ephemeral.is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or \
                              Ephemeral for block mode";
                cx.errors.invalid(name, &device.name, detail);
            }
            Some(_) => {}
        }
        if device.device_path.is_empty() {
            cx.errors.required(path.field("devicePath"), "");
        } else if !paths.insert(device.device_path.as_str()) {
            cx.errors.invalid(path.field("devicePath"), &device.device_path, "must be unique");
        }
    }
}

fn one_mount(cx: &mut Cx, mount: &VolumeMount, container: &Container, path: Path<'_>) {
    if !mount.sub_path.is_empty() {
        descending(cx, &mount.sub_path, path.field("subPath"));
    }
    if !mount.sub_path_expr.is_empty() {
        let path = path.field("subPathExpr");
        if !mount.sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            cx.errors.invalid(path, &mount.sub_path_expr, detail);
        }
        descending(cx, &mount.sub_path_expr, path);
    }
    if let Some(propagation) = &mount.mount_propagation {
        const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
        let path = path.field("mountPropagation");
        let privileged =
            container.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
        if !MODES.contains(&propagation.as_str()) {
            cx.errors.not_supported(path, propagation, MODES);
        } else if propagation == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            cx.errors.forbidden(path, detail);
        }
    }
    if let Some(recursive) = &mount.recursive_read_only {
        const MODES: &[&str] = &["Disabled", "Enabled", "IfPossible"];
        let path = path.field("recursiveReadOnly");
        cx.since(31, path, "RecursiveReadOnlyMounts");
        match recursive.as_str() {
            "Disabled" => {}
            "Enabled" | "IfPossible" => {
                if !mount.read_only {
                    cx.errors.forbidden(path, "may only be specified when readOnly is true");
                }
                if mount.mount_propagation.as_deref().is_some_and(|p| p != "None") {
                    let detail =
                        "may only be specified when mountPropagation is None or not specified";
                    cx.errors.forbidden(path, detail);
                }
            }
            _ => cx.errors.not_supported(path, recursive, MODES),
        }
    }
}
