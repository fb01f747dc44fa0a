//! The pods of Deployments, ReplicaSets, StatefulSets and DaemonSets.

use std::collections::HashSet;

use super::{Maker, owner, template_hash};
use crate::object::volume::PersistentVolumeClaimSource;
use crate::object::{
    DaemonSet, Deployment, Object, ObjectMeta, OwnerReference, Pod, PodTemplateSpec, ReplicaSet,
    StatefulSet, Volume,
};

/// The pods that a workload wants, made one at a time: their number is up to the manifest.
#[derive(Clone, Debug)]
pub struct Replicas {
    template: PodTemplateSpec,
    namespace: String,
    owner: OwnerReference,
    /// The name of the workload, or of a Deployment's ReplicaSet.
    name: String,
    count: u32,
    /// For pods with a fixed name (StatefulSet).
    ordinals: Option<Ordinals>,
}

#[derive(Clone, Debug)]
struct Ordinals {
    start: u32,
    /// Whether each pod waits for the one before to be Ready (`OrderedReady`).
    in_order: bool,
    service: String,
    claims: Vec<String>,
}

impl Replicas {
    /// The pods of a workload that has been admitted ([`Maker::admit_object`]); `None` for kinds
    /// that are no such workload. A DaemonSet has one pod, since there is one node.
    pub fn of(object: &Object, maker: &mut Maker<'_>) -> Option<Self> {
        match object {
            Object::Deployment(o) => Some(Self::deployment(o, maker)),
            Object::ReplicaSet(o) => Some(Self::replica_set(o)),
            Object::StatefulSet(o) => Some(Self::stateful_set(o)),
            Object::DaemonSet(o) => Some(Self::daemon_set(o)),
            _ => None,
        }
    }

    fn new(
        template: &PodTemplateSpec,
        meta: &ObjectMeta,
        owner: OwnerReference,
        replicas: Option<i32>,
    ) -> Self {
        Self {
            template: template.clone(),
            namespace: meta.namespace.clone(),
            name: owner.name.clone(),
            owner,
            count: replicas.map_or(1, |n| u32::try_from(n).unwrap_or(0)),
            ordinals: None,
        }
    }

    /// A Deployment's pods belong to a ReplicaSet that is named after the template's hash.
    fn deployment(deployment: &Deployment, maker: &mut Maker<'_>) -> Self {
        let spec = &deployment.spec;
        let hash = template_hash(&spec.template);
        let set = ObjectMeta {
            name: format!("{}-{hash}", deployment.metadata.name),
            uid: maker.uid(),
            ..ObjectMeta::default()
        };
        let owner = owner("apps/v1", "ReplicaSet", &set);
        let mut replicas = Self::new(&spec.template, &deployment.metadata, owner, spec.replicas);
        replicas.label("pod-template-hash", hash);
        replicas
    }

    fn replica_set(set: &ReplicaSet) -> Self {
        let owner = owner("apps/v1", "ReplicaSet", &set.metadata);
        Self::new(&set.spec.template, &set.metadata, owner, set.spec.replicas)
    }

    fn daemon_set(set: &DaemonSet) -> Self {
        let owner = owner("apps/v1", "DaemonSet", &set.metadata);
        let hash = template_hash(&set.spec.template);
        let mut replicas = Self::new(&set.spec.template, &set.metadata, owner, Some(1));
        replicas.label("controller-revision-hash", hash);
        replicas.label("pod-template-generation", "1".to_owned());
        replicas
    }

    fn stateful_set(set: &StatefulSet) -> Self {
        let spec = &set.spec;
        let owner = owner("apps/v1", "StatefulSet", &set.metadata);
        let hash = format!("{}-{}", set.metadata.name, template_hash(&spec.template));
        let mut replicas = Self::new(&spec.template, &set.metadata, owner, spec.replicas);
        replicas.label("controller-revision-hash", hash);
        let start = spec.ordinals.as_ref().map_or(0, |o| u32::try_from(o.start).unwrap_or(0));
        replicas.ordinals = Some(Ordinals {
            start,
            in_order: spec.pod_management_policy != "Parallel",
            service: spec.service_name.clone(),
            claims: spec.volume_claim_templates.iter().map(|c| c.metadata.name.clone()).collect(),
        });
        replicas
    }

    fn label(&mut self, key: &str, value: String) {
        self.template.metadata.labels.insert(key.to_owned(), value);
    }

    /// How many pods there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a pod may only be made when the one before it is Running and Ready (a StatefulSet
    /// with `podManagementPolicy: OrderedReady`).
    pub fn in_order(&self) -> bool {
        self.ordinals.as_ref().is_some_and(|o| o.in_order)
    }

    /// Pod number `i`, from 0. Its replacement, when it was deleted, is the same call again.
    pub fn pod(&self, i: u32, maker: &mut Maker<'_>) -> Pod {
        let generate = format!("{}-", self.name);
        let owner = self.owner.clone();
        let mut pod = maker.pod(&self.template, &self.namespace, generate, owner);
        if let Some(ordinals) = &self.ordinals {
            self.identity(&mut pod, ordinals, ordinals.start.saturating_add(i));
        }
        maker.admit(&mut pod.metadata);
        crate::defaults::pod(&mut pod);
        pod
    }

    /// What makes a StatefulSet's pod this one (`newStatefulSetPod`, `updateIdentity`,
    /// `updateStorage`).
    fn identity(&self, pod: &mut Pod, ordinals: &Ordinals, ordinal: u32) {
        let name = format!("{}-{ordinal}", self.name);
        let labels = &mut pod.metadata.labels;
        labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
        labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
        pod.spec.hostname.clone_from(&name);
        pod.spec.subdomain.clone_from(&ordinals.service);
        let claims: HashSet<&str> = ordinals.claims.iter().map(String::as_str).collect();
        pod.spec.volumes.retain(|v| !claims.contains(v.name.as_str()));
        for claim in &ordinals.claims {
            let source = PersistentVolumeClaimSource {
                claim_name: format!("{claim}-{name}"),
                read_only: false,
            };
            pod.spec.volumes.push(Volume {
                name: claim.clone(),
                persistent_volume_claim: Some(source),
                ..Volume::default()
            });
        }
        pod.metadata.generate_name.clear();
        pod.metadata.name = name;
    }
}
