//! ConfigMaps, Secrets and Services.

use std::collections::HashSet;

use super::{Cx, meta, names, probe};
use crate::object::{ConfigMap, IntOrString, Secret, Service};
use crate::path::Path;

/// `MaxSecretSize`.
const MAX_SIZE: usize = 1024 * 1024;

/// Checks a ConfigMap (`ValidateConfigMap`).
pub(super) fn config_map(cx: &mut Cx, map: &ConfigMap) {
    meta::object_meta(cx, &map.metadata, names::dns_subdomain);
    let (data, binary) = (Path::ROOT.field("data"), Path::ROOT.field("binaryData"));
    let mut size = 0;
    for (key, value) in &map.data {
        cx.messages(data.key(key), key, names::config_key(key));
        if map.binary_data.contains_key(key) {
            cx.errors.invalid(data.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.len();
    }
    for (key, value) in &map.binary_data {
        cx.messages(binary.key(key), key, names::config_key(key));
        size += value.0.len();
    }
    if size > MAX_SIZE {
        cx.errors.too_long(Path::ROOT, MAX_SIZE);
    }
}

/// Checks a Secret (`ValidateSecret`).
pub(super) fn secret(cx: &mut Cx, secret: &Secret) {
    meta::object_meta(cx, &secret.metadata, names::dns_subdomain);
    let data = Path::ROOT.field("data");
    let mut size = 0;
    for (key, value) in &secret.data {
        cx.messages(data.key(key), key, names::config_key(key));
        size += value.0.len();
    }
    if size > MAX_SIZE {
        cx.errors.too_long(data, MAX_SIZE);
    }
    let needed: &[&str] = match secret.kind_of_secret.as_str() {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    for key in needed {
        if !secret.data.contains_key(*key) {
            cx.errors.required(data.key(key), "");
        }
    }
}

/// Checks a Service, as far as a single machine may use it (`ValidateService`).
pub(super) fn service(cx: &mut Cx, service: &Service) {
    meta::object_meta(cx, &service.metadata, names::dns_1035_label);
    let spec = &service.spec;
    let path = Path::ROOT.field("spec");
    let headless = spec.cluster_ip == "None";
    let external = spec.kind == "ExternalName";
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !types.contains(&spec.kind.as_str()) {
        cx.errors.not_supported(path.field("type"), &spec.kind, &types);
    }
    if !["ClientIP", "None"].contains(&spec.session_affinity.as_str()) {
        let path = path.field("sessionAffinity");
        cx.errors.not_supported(path, &spec.session_affinity, &["ClientIP", "None"]);
    }
    if external {
        let name = spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name);
        let path = path.field("externalName");
        match name.is_empty() {
            true => cx.errors.required(path, ""),
            false => cx.messages(path, name, names::dns_subdomain(name)),
        }
    }
    meta::labels(cx, &spec.selector, path.field("selector"));
    let ports = path.field("ports");
    if spec.ports.is_empty() && !headless && !external {
        cx.errors.required(ports, "");
    }
    let (mut taken, mut pairs) = (HashSet::new(), HashSet::new());
    for (i, port) in spec.ports.iter().enumerate() {
        let path = ports.index(i);
        if port.name.is_empty() {
            if spec.ports.len() > 1 {
                cx.errors.required(path.field("name"), "");
            }
        } else {
            cx.messages(path.field("name"), &port.name, names::dns_label(&port.name));
            if !taken.insert(&port.name) {
                cx.errors.duplicate(path.field("name"), &port.name);
            }
        }
        probe::number(cx, port.port, path.field("port"));
        if !["TCP", "UDP", "SCTP"].contains(&port.protocol.as_str()) {
            let path = path.field("protocol");
            cx.errors.not_supported(path, &port.protocol, &["SCTP", "TCP", "UDP"]);
        }
        match &port.target_port {
            Some(IntOrString::Int(n)) if *n != port.port => {
                probe::number(cx, *n, path.field("targetPort"));
            }
            Some(IntOrString::String(name)) => {
                cx.messages(path.field("targetPort"), name, names::port_name(name));
            }
            _ => {}
        }
        if spec.kind == "ClusterIP" && port.node_port != 0 {
            let detail = "may not be used when `type` is 'ClusterIP'";
            cx.errors.forbidden(path.field("nodePort"), detail);
        }
        if !pairs.insert((&port.protocol, port.port)) {
            cx.errors.duplicate(path, format!("{}/{}", port.protocol, port.port));
        }
    }
}
