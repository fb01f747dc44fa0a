//! ConfigMap, Secret and Service of core/v1.

use std::collections::BTreeMap;

use serde_json::Value;

use super::macros::objects;
use super::meta::ObjectMeta;
use super::scalar::{Base64, IntOrString};

objects! {
    /// A ConfigMap (v1).
    pub struct ConfigMap {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `immutable`.
        immutable: Option<bool>,
        /// `data`.
        data: BTreeMap<String, String>,
        /// `binaryData`, decoded.
        binary_data: BTreeMap<String, Base64>,
    }

    /// A Secret (v1).
    pub struct Secret {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `immutable`.
        immutable: Option<bool>,
        /// `data`, decoded; holds `stringData` too after defaulting.
        data: BTreeMap<String, Base64>,
        /// `stringData`; empty after defaulting, which moves it into `data`.
        string_data: BTreeMap<String, String>,
        /// `type`; `Opaque` after defaulting.
        kind_of_secret = "type": String,
    }

    /// A Service (v1).
    pub struct Service {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata`.
        metadata: ObjectMeta,
        /// `spec`.
        spec: ServiceSpec,
        /// `status` as read; not used.
        status: Option<Value>,
    }

    /// `spec` of a Service.
    pub struct ServiceSpec {
        /// `ports`.
        ports: Vec<ServicePort>,
        /// `selector`.
        selector: BTreeMap<String, String>,
        /// `clusterIP`.
        cluster_ip = "clusterIP": String,
        /// `clusterIPs`.
        cluster_ips = "clusterIPs": Vec<String>,
        /// `type`; `ClusterIP` after defaulting.
        kind = "type": String,
        /// `externalIPs`.
        external_ips = "externalIPs": Vec<String>,
        /// `sessionAffinity`.
        session_affinity: String,
        /// `loadBalancerIP`.
        load_balancer_ip = "loadBalancerIP": String,
        /// `loadBalancerSourceRanges`.
        load_balancer_source_ranges: Vec<String>,
        /// `externalName`.
        external_name: String,
        /// `externalTrafficPolicy`.
        external_traffic_policy: String,
        /// `healthCheckNodePort`.
        health_check_node_port: i32,
        /// `publishNotReadyAddresses`.
        publish_not_ready_addresses: bool,
        /// `sessionAffinityConfig`, as written.
        session_affinity_config: Option<Value>,
        /// `ipFamilies`.
        ip_families: Vec<String>,
        /// `ipFamilyPolicy`.
        ip_family_policy: Option<String>,
        /// `allocateLoadBalancerNodePorts`.
        allocate_load_balancer_node_ports: Option<bool>,
        /// `loadBalancerClass`.
        load_balancer_class: Option<String>,
        /// `internalTrafficPolicy`.
        internal_traffic_policy: Option<String>,
        /// `trafficDistribution`.
        traffic_distribution: Option<String>,
    }

    /// One entry of `ports`.
    pub struct ServicePort {
        /// `name`.
        name: String,
        /// `protocol`; `TCP` after defaulting.
        protocol: String,
        /// `appProtocol`.
        app_protocol: Option<String>,
        /// `port`.
        port: i32,
        /// `targetPort`; `port` after defaulting.
        target_port: Option<IntOrString>,
        /// `nodePort`.
        node_port: i32,
    }
}
