//! What a pod asks of a scheduler (core/v1). Nothing here is scheduled; but a field that is written
//! wrongly would be, in a cluster, so it is read as any other.

use super::macros::objects;
use super::meta::LabelSelector;

objects! {
    /// `affinity` of a pod.
    pub struct Affinity {
        /// `nodeAffinity`.
        node_affinity: Option<NodeAffinity>,
        /// `podAffinity`.
        pod_affinity: Option<PodAffinity>,
        /// `podAntiAffinity`.
        pod_anti_affinity: Option<PodAffinity>,
    }

    /// `nodeAffinity`.
    pub struct NodeAffinity {
        /// `requiredDuringSchedulingIgnoredDuringExecution`.
        required = "requiredDuringSchedulingIgnoredDuringExecution": Option<NodeSelector>,
        /// `preferredDuringSchedulingIgnoredDuringExecution`.
        preferred = "preferredDuringSchedulingIgnoredDuringExecution": Vec<PreferredSchedulingTerm>,
    }

    /// The nodes that a pod may run on.
    pub struct NodeSelector {
        /// `nodeSelectorTerms`: one of them has to match.
        node_selector_terms: Vec<NodeSelectorTerm>,
    }

    /// One entry of `nodeSelectorTerms`.
    pub struct NodeSelectorTerm {
        /// `matchExpressions`, of labels.
        match_expressions: Vec<NodeSelectorRequirement>,
        /// `matchFields`, of fields.
        match_fields: Vec<NodeSelectorRequirement>,
    }

    /// One requirement of a node.
    pub struct NodeSelectorRequirement {
        /// `key`.
        key: String,
        /// `operator`: `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
        operator: String,
        /// `values`.
        values: Vec<String>,
    }

    /// A preference of nodes.
    pub struct PreferredSchedulingTerm {
        /// `weight`, 1 to 100.
        weight: i32,
        /// `preference`.
        preference: NodeSelectorTerm,
    }

    /// `podAffinity` or `podAntiAffinity`.
    pub struct PodAffinity {
        /// `requiredDuringSchedulingIgnoredDuringExecution`.
        required = "requiredDuringSchedulingIgnoredDuringExecution": Vec<PodAffinityTerm>,
        /// `preferredDuringSchedulingIgnoredDuringExecution`.
        preferred = "preferredDuringSchedulingIgnoredDuringExecution": Vec<WeightedPodAffinityTerm>,
    }

    /// A preference of pods to be near to, or far from.
    pub struct WeightedPodAffinityTerm {
        /// `weight`, 1 to 100.
        weight: i32,
        /// `podAffinityTerm`.
        pod_affinity_term: PodAffinityTerm,
    }

    /// Pods to be near to, or far from.
    pub struct PodAffinityTerm {
        /// `labelSelector`.
        label_selector: Option<LabelSelector>,
        /// `namespaces`.
        namespaces: Vec<String>,
        /// `topologyKey`: the label of nodes that says what is near.
        topology_key: String,
        /// `namespaceSelector`.
        namespace_selector: Option<LabelSelector>,
        /// `matchLabelKeys`.
        match_label_keys: Vec<String>,
        /// `mismatchLabelKeys`.
        mismatch_label_keys: Vec<String>,
    }

    /// One entry of `tolerations`.
    pub struct Toleration {
        /// `key`; all taints if empty.
        key: String,
        /// `operator`: `Exists` or `Equal`, which is the default.
        operator: String,
        /// `value`.
        value: String,
        /// `effect`; all effects if empty.
        effect: String,
        /// `tolerationSeconds`.
        toleration_seconds: Option<i64>,
    }

    /// One entry of `topologySpreadConstraints`.
    pub struct TopologySpreadConstraint {
        /// `maxSkew`.
        max_skew: i32,
        /// `topologyKey`.
        topology_key: String,
        /// `whenUnsatisfiable`: `DoNotSchedule` or `ScheduleAnyway`.
        when_unsatisfiable: String,
        /// `labelSelector`.
        label_selector: Option<LabelSelector>,
        /// `minDomains`.
        min_domains: Option<i32>,
        /// `nodeAffinityPolicy`: `Honor` or `Ignore`.
        node_affinity_policy: Option<String>,
        /// `nodeTaintsPolicy`: `Honor` or `Ignore`.
        node_taints_policy: Option<String>,
        /// `matchLabelKeys`.
        match_label_keys: Vec<String>,
    }
}
