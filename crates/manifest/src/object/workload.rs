//! Deployment, StatefulSet, DaemonSet and ReplicaSet of apps/v1.

use serde_json::Value;

use super::macros::objects;
use super::meta::{LabelSelector, ObjectMeta};
use super::pod::PodTemplateSpec;
use super::scalar::IntOrString;

objects! {
    /// A Deployment (apps/v1).
    pub struct Deployment {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: DeploymentSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a Deployment.
    pub struct DeploymentSpec {
        /// `replicas`; 1 after defaulting.
        replicas: Option<i32>,
        /// `selector`.
        selector: Option<LabelSelector>,
        /// `template`.
        template: PodTemplateSpec,
        /// `strategy`.
        strategy: UpdateStrategy,
        /// `minReadySeconds`.
        min_ready_seconds: i32,
        /// `revisionHistoryLimit`; 10 after defaulting.
        revision_history_limit: Option<i32>,
        /// `paused`.
        paused: bool,
        /// `progressDeadlineSeconds`; 600 after defaulting.
        progress_deadline_seconds: Option<i32>,
    }

    /// `strategy` of a Deployment, `updateStrategy` of a StatefulSet or DaemonSet.
    pub struct UpdateStrategy {
        /// `type`: `RollingUpdate`; `Recreate` (Deployment); `OnDelete` (the others).
        kind = "type": String,
        /// `rollingUpdate`.
        rolling_update: Option<RollingUpdate>,
    }

    /// `rollingUpdate`.
    pub struct RollingUpdate {
        /// `maxUnavailable`.
        max_unavailable: Option<IntOrString>,
        /// `maxSurge` (Deployment, DaemonSet).
        max_surge: Option<IntOrString>,
        /// `partition` (StatefulSet).
        partition: Option<i32>,
    }

    /// A StatefulSet (apps/v1).
    pub struct StatefulSet {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: StatefulSetSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a StatefulSet.
    pub struct StatefulSetSpec {
        /// `replicas`; 1 after defaulting.
        replicas: Option<i32>,
        /// `selector`.
        selector: Option<LabelSelector>,
        /// `template`.
        template: PodTemplateSpec,
        /// `volumeClaimTemplates`.
        volume_claim_templates: Vec<PersistentVolumeClaimTemplate>,
        /// `serviceName`.
        service_name: String,
        /// `podManagementPolicy`: `OrderedReady` or `Parallel`.
        pod_management_policy: String,
        /// `updateStrategy`.
        update_strategy: UpdateStrategy,
        /// `revisionHistoryLimit`; 10 after defaulting.
        revision_history_limit: Option<i32>,
        /// `minReadySeconds`.
        min_ready_seconds: i32,
        /// `persistentVolumeClaimRetentionPolicy`, as written.
        persistent_volume_claim_retention_policy: Option<Value>,
        /// `ordinals`.
        ordinals: Option<StatefulSetOrdinals>,
    }

    /// `ordinals` of a StatefulSet.
    pub struct StatefulSetOrdinals {
        /// `start`: the number of the first replica.
        start: i32,
    }

    /// One entry of `volumeClaimTemplates`.
    pub struct PersistentVolumeClaimTemplate {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`; its name is the volume's.
        metadata: ObjectMeta,
        /// `spec`, as written.
        spec: Option<Value>,
        /// `status`, not used.
        status: Option<Value>,
    }

    /// A DaemonSet (apps/v1).
    pub struct DaemonSet {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: DaemonSetSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a DaemonSet.
    pub struct DaemonSetSpec {
        /// `selector`.
        selector: Option<LabelSelector>,
        /// `template`.
        template: PodTemplateSpec,
        /// `updateStrategy`.
        update_strategy: UpdateStrategy,
        /// `minReadySeconds`.
        min_ready_seconds: i32,
        /// `revisionHistoryLimit`; 10 after defaulting.
        revision_history_limit: Option<i32>,
    }

    /// A ReplicaSet (apps/v1).
    pub struct ReplicaSet {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: ReplicaSetSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a ReplicaSet.
    pub struct ReplicaSetSpec {
        /// `replicas`; 1 after defaulting.
        replicas: Option<i32>,
        /// `minReadySeconds`.
        min_ready_seconds: i32,
        /// `selector`.
        selector: Option<LabelSelector>,
        /// `template`.
        template: PodTemplateSpec,
    }
}
