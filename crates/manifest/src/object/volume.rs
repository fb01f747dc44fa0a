//! `Volume` of core/v1 and its sources.

use serde_json::Value;

use super::container::{ObjectFieldSelector, ResourceFieldSelector};
use super::macros::objects;
use super::scalar::Quantity;

objects! {
    /// One entry of `volumes`; exactly one source is set.
    pub struct Volume {
        /// `name`.
        name: String,
        /// `emptyDir`.
        empty_dir: Option<EmptyDirSource>,
        /// `hostPath`.
        host_path: Option<HostPathSource>,
        /// `configMap`.
        config_map: Option<ConfigMapSource>,
        /// `secret`.
        secret: Option<SecretSource>,
        /// `downwardAPI`.
        downward_api = "downwardAPI": Option<DownwardApiSource>,
        /// `projected`.
        projected: Option<ProjectedSource>,
        /// `persistentVolumeClaim`.
        persistent_volume_claim: Option<PersistentVolumeClaimSource>,
        /// `image`, as written.
        image: Option<Value>,
        /// `ephemeral`, as written.
        ephemeral: Option<Value>,
        /// `csi`, as written.
        csi: Option<Value>,
        /// `nfs`, as written.
        nfs: Option<Value>,
        /// `iscsi`, as written.
        iscsi: Option<Value>,
        /// `glusterfs`, as written.
        glusterfs: Option<Value>,
        /// `rbd`, as written.
        rbd: Option<Value>,
        /// `cephfs`, as written.
        cephfs: Option<Value>,
        /// `cinder`, as written.
        cinder: Option<Value>,
        /// `fc`, as written.
        fc: Option<Value>,
        /// `flexVolume`, as written.
        flex_volume: Option<Value>,
        /// `flocker`, as written.
        flocker: Option<Value>,
        /// `gitRepo`, as written.
        git_repo: Option<Value>,
        /// `gcePersistentDisk`, as written.
        gce_persistent_disk: Option<Value>,
        /// `awsElasticBlockStore`, as written.
        aws_elastic_block_store: Option<Value>,
        /// `azureDisk`, as written.
        azure_disk: Option<Value>,
        /// `azureFile`, as written.
        azure_file: Option<Value>,
        /// `vsphereVolume`, as written.
        vsphere_volume: Option<Value>,
        /// `quobyte`, as written.
        quobyte: Option<Value>,
        /// `photonPersistentDisk`, as written.
        photon_persistent_disk: Option<Value>,
        /// `portworxVolume`, as written.
        portworx_volume: Option<Value>,
        /// `scaleIO`, as written.
        scale_io = "scaleIO": Option<Value>,
        /// `storageos`, as written.
        storageos: Option<Value>,
    }

    /// `emptyDir`.
    pub struct EmptyDirSource {
        /// `medium`: empty, `Memory`, `HugePages` or `HugePages-<size>`.
        medium: String,
        /// `sizeLimit`.
        size_limit: Option<Quantity>,
    }

    /// `hostPath`.
    pub struct HostPathSource {
        /// `path`.
        path: String,
        /// `type`: empty, `DirectoryOrCreate`, `Directory`, `FileOrCreate`, `File`, `Socket`,
        /// `CharDevice` or `BlockDevice`.
        kind = "type": Option<String>,
    }

    /// A key of a ConfigMap or Secret as a file.
    pub struct KeyToPath {
        /// `key`.
        key: String,
        /// `path`, relative.
        path: String,
        /// `mode`; the volume's `defaultMode` if `None`.
        mode: Option<i32>,
    }

    /// `configMap` of a volume.
    pub struct ConfigMapSource {
        /// `name`.
        name: String,
        /// `items`; all keys if empty.
        items: Vec<KeyToPath>,
        /// `defaultMode`; 0644 after defaulting.
        default_mode: Option<i32>,
        /// `optional`.
        optional: Option<bool>,
    }

    /// `secret` of a volume.
    pub struct SecretSource {
        /// `secretName`.
        secret_name: String,
        /// `items`; all keys if empty.
        items: Vec<KeyToPath>,
        /// `defaultMode`; 0644 after defaulting.
        default_mode: Option<i32>,
        /// `optional`.
        optional: Option<bool>,
    }

    /// `downwardAPI` of a volume.
    pub struct DownwardApiSource {
        /// `items`.
        items: Vec<DownwardApiFile>,
        /// `defaultMode`; 0644 after defaulting.
        default_mode: Option<i32>,
    }

    /// One file of a downward API volume; exactly one reference is set.
    pub struct DownwardApiFile {
        /// `path`, relative.
        path: String,
        /// `fieldRef`.
        field_ref: Option<ObjectFieldSelector>,
        /// `resourceFieldRef`.
        resource_field_ref: Option<ResourceFieldSelector>,
        /// `mode`; the volume's `defaultMode` if `None`.
        mode: Option<i32>,
    }

    /// `projected`.
    pub struct ProjectedSource {
        /// `sources`.
        sources: Vec<VolumeProjection>,
        /// `defaultMode`; 0644 after defaulting.
        default_mode: Option<i32>,
    }

    /// One source of a projected volume; exactly one is set.
    pub struct VolumeProjection {
        /// `secret`.
        secret: Option<KeysProjection>,
        /// `downwardAPI`.
        downward_api = "downwardAPI": Option<DownwardApiProjection>,
        /// `configMap`.
        config_map: Option<KeysProjection>,
        /// `serviceAccountToken`.
        service_account_token: Option<ServiceAccountTokenProjection>,
        /// `clusterTrustBundle`, as written.
        cluster_trust_bundle: Option<Value>,
        /// `podCertificate`, as written.
        pod_certificate: Option<Value>,
    }

    /// `configMap` or `secret` of a projected volume.
    pub struct KeysProjection {
        /// `name`.
        name: String,
        /// `items`; all keys if empty.
        items: Vec<KeyToPath>,
        /// `optional`.
        optional: Option<bool>,
    }

    /// `downwardAPI` of a projected volume.
    pub struct DownwardApiProjection {
        /// `items`.
        items: Vec<DownwardApiFile>,
    }

    /// `serviceAccountToken` of a projected volume.
    pub struct ServiceAccountTokenProjection {
        /// `audience`.
        audience: String,
        /// `expirationSeconds`; 3600 after defaulting.
        expiration_seconds: Option<i64>,
        /// `path`, relative.
        path: String,
    }

    /// `persistentVolumeClaim`.
    pub struct PersistentVolumeClaimSource {
        /// `claimName`.
        claim_name: String,
        /// `readOnly`.
        read_only: bool,
    }
}
