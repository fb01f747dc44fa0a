//! `metadata` and what many kinds share (`k8s.io/apimachinery/pkg/apis/meta/v1`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::macros::objects;
use super::scalar::Timestamp;

objects! {
    /// `metadata` of an object, or of a pod template.
    pub struct ObjectMeta {
        /// `name`.
        name: String,
        /// `generateName`: the name's beginning when `name` is empty.
        generate_name: String,
        /// `namespace`; `default` after defaulting.
        namespace: String,
        /// `selfLink`; long unused, accepted.
        self_link: String,
        /// `uid`.
        uid: String,
        /// `resourceVersion`.
        resource_version: String,
        /// `generation`.
        generation: i64,
        /// `creationTimestamp`.
        creation_timestamp: Option<Timestamp>,
        /// `deletionTimestamp`.
        deletion_timestamp: Option<Timestamp>,
        /// `deletionGracePeriodSeconds`.
        deletion_grace_period_seconds: Option<i64>,
        /// `labels`.
        labels: BTreeMap<String, String>,
        /// `annotations`.
        annotations: BTreeMap<String, String>,
        /// `ownerReferences`.
        owner_references: Vec<OwnerReference>,
        /// `finalizers`.
        finalizers: Vec<String>,
        /// `managedFields`, not looked at.
        managed_fields: Vec<Value>,
    }

    /// One entry of `ownerReferences`.
    pub struct OwnerReference {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `name`.
        name: String,
        /// `uid`.
        uid: String,
        /// `controller`.
        controller: Option<bool>,
        /// `blockOwnerDeletion`.
        block_owner_deletion: Option<bool>,
    }

    /// A label selector: all of `matchLabels` and all of `matchExpressions`.
    pub struct LabelSelector {
        /// `matchLabels`.
        match_labels: BTreeMap<String, String>,
        /// `matchExpressions`.
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One entry of `matchExpressions`.
    pub struct LabelSelectorRequirement {
        /// `key`.
        key: String,
        /// `operator`: `In`, `NotIn`, `Exists` or `DoesNotExist`.
        operator: String,
        /// `values`.
        values: Vec<String>,
    }

    /// A reference to an object of the same namespace.
    pub struct LocalObjectReference {
        /// `name`.
        name: String,
    }
}
