//! The objects of the Kubernetes API that Holdfast reads, as plain structs.
//!
//! Field names are Kubernetes' in snake case. Where the API has a plain string or number, an empty
//! one means "not given"; where it has a pointer, the field is an `Option`. Words with a fixed set
//! of values (`restartPolicy`, `protocol`, …) stay strings as in the API: validation has checked
//! them. What is refused in any case is kept as it was written ([`serde_json::Value`]).

pub mod batch;
pub mod config;
pub mod container;
pub(crate) mod macros;
pub mod meta;
pub mod pod;
mod quantity;
pub mod scalar;
pub mod scheduling;
pub mod volume;
pub mod workload;

use serde::Serialize;

pub use batch::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec};
pub use config::{ConfigMap, Secret, Service};
pub use container::{Container, Probe};
pub use meta::{LabelSelector, ObjectMeta, OwnerReference};
pub use pod::{Pod, PodSpec, PodTemplateSpec};
pub use scalar::{Base64, IntOrString, Quantity, Timestamp};
pub use volume::Volume;
pub use workload::{DaemonSet, Deployment, ReplicaSet, StatefulSet};

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "objects live in a Vec, and Pods are the common case")]
pub enum Object {
    /// A Pod.
    Pod(Pod),
    /// A Job.
    Job(Job),
    /// A CronJob.
    CronJob(CronJob),
    /// A Deployment.
    Deployment(Deployment),
    /// A StatefulSet.
    StatefulSet(StatefulSet),
    /// A DaemonSet.
    DaemonSet(DaemonSet),
    /// A ReplicaSet.
    ReplicaSet(ReplicaSet),
    /// A ConfigMap.
    ConfigMap(ConfigMap),
    /// A Secret.
    Secret(Secret),
    /// A Service.
    Service(Service),
}

impl Object {
    /// `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Pod(_) => "Pod",
            Self::Job(_) => "Job",
            Self::CronJob(_) => "CronJob",
            Self::Deployment(_) => "Deployment",
            Self::StatefulSet(_) => "StatefulSet",
            Self::DaemonSet(_) => "DaemonSet",
            Self::ReplicaSet(_) => "ReplicaSet",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
            Self::Service(_) => "Service",
        }
    }

    /// `apiVersion`.
    pub const fn api_version(&self) -> &'static str {
        match self {
            Self::Pod(_) | Self::ConfigMap(_) | Self::Secret(_) | Self::Service(_) => "v1",
            Self::Job(_) | Self::CronJob(_) => "batch/v1",
            Self::Deployment(_)
            | Self::StatefulSet(_)
            | Self::DaemonSet(_)
            | Self::ReplicaSet(_) => "apps/v1",
        }
    }

    /// `metadata`.
    pub const fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Pod(o) => &o.metadata,
            Self::Job(o) => &o.metadata,
            Self::CronJob(o) => &o.metadata,
            Self::Deployment(o) => &o.metadata,
            Self::StatefulSet(o) => &o.metadata,
            Self::DaemonSet(o) => &o.metadata,
            Self::ReplicaSet(o) => &o.metadata,
            Self::ConfigMap(o) => &o.metadata,
            Self::Secret(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
        }
    }

    /// `metadata`, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Pod(o) => &mut o.metadata,
            Self::Job(o) => &mut o.metadata,
            Self::CronJob(o) => &mut o.metadata,
            Self::Deployment(o) => &mut o.metadata,
            Self::StatefulSet(o) => &mut o.metadata,
            Self::DaemonSet(o) => &mut o.metadata,
            Self::ReplicaSet(o) => &mut o.metadata,
            Self::ConfigMap(o) => &mut o.metadata,
            Self::Secret(o) => &mut o.metadata,
            Self::Service(o) => &mut o.metadata,
        }
    }
}
