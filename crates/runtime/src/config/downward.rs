//! The downward API: fields and resources of a pod as strings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use holdfast_manifest::object::container::{Container, ObjectFieldSelector, ResourceFieldSelector};
use holdfast_manifest::object::{Pod, Quantity};

use super::node::Node;

/// Where the downward API takes its values from.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// The pod, defaulted.
    pub pod: &'a Pod,
    /// The node it runs on.
    pub node: &'a Node,
    /// Its addresses; empty before it has a sandbox. On the host network, the node's.
    pub pod_ips: &'a [IpAddr],
}

/// A reference that leads to no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// Unknown field.
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    /// A subscript that is not closed, or on a field without.
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    /// Unknown resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// `containerName` of no container.
    #[error("container {0} not found")]
    Container(String),
    /// The node has no address.
    #[error("the address of this machine is not known")]
    NoHostIp,
}

impl PodView<'_> {
    /// The value of a `fieldRef` (kubelet: `podFieldSelectorRuntimeValue`, `ExtractFieldPathAsString`).
    ///
    /// # Errors
    /// [`DownwardError`].
    pub fn field(&self, selector: &ObjectFieldSelector) -> Result<String, DownwardError> {
        let path = selector.field_path.as_str();
        let meta = &self.pod.metadata;
        if let Some((base, key)) = subscript(path) {
            return match base {
                "metadata.labels" => Ok(meta.labels.get(key).cloned().unwrap_or_default()),
                "metadata.annotations" => {
                    Ok(meta.annotations.get(key).cloned().unwrap_or_default())
                }
                _ => Err(DownwardError::Subscript(path.to_owned())),
            };
        }
        let spec = &self.pod.spec;
        Ok(match path {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.clone(),
            "metadata.labels" => format_map(&meta.labels),
            "metadata.annotations" => format_map(&meta.annotations),
            "spec.nodeName" if spec.node_name.is_empty() => self.node.name.clone(),
            "spec.nodeName" => spec.node_name.clone(),
            "spec.serviceAccountName" => spec.service_account_name.clone(),
            "status.hostIP" => self.node.ips.first().ok_or(DownwardError::NoHostIp)?.to_string(),
            "status.hostIPs" if self.node.ips.is_empty() => return Err(DownwardError::NoHostIp),
            "status.hostIPs" => joined(&self.node.ips),
            "status.podIP" => self.pod_ips.first().map(IpAddr::to_string).unwrap_or_default(),
            "status.podIPs" => joined(self.pod_ips),
            _ => return Err(DownwardError::FieldPath(path.to_owned())),
        })
    }

    /// The value of a `resourceFieldRef`; `own` is the container it stands in, if it stands in one
    /// (`resource.ExtractContainerResourceValue`).
    ///
    /// # Errors
    /// [`DownwardError`].
    pub fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: Option<&Container>,
    ) -> Result<String, DownwardError> {
        let name = selector.container_name.as_str();
        let container = match own {
            Some(own) if name.is_empty() || own.name == name => own,
            _ => {
                let spec = &self.pod.spec;
                let mut all = spec.containers.iter().chain(&spec.init_containers);
                all.find(|container| container.name == name)
                    .ok_or_else(|| DownwardError::Container(name.to_owned()))?
            }
        };
        let unsupported = || DownwardError::Resource(selector.resource.clone());
        let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
        let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage")
            || resource.starts_with("hugepages-");
        let limit = container.resources.limits.get(resource);
        let amount = match list {
            "limits" if known => limit,
            // Kubernetes' defaulting has copied the limit where a request is missing.
            "requests" if known => container.resources.requests.get(resource).or(limit),
            _ => return Err(unsupported()),
        };
        let cpu = resource == "cpu";
        let nanos = match (amount, list) {
            (Some(amount), _) => amount.nanos(),
            (None, "limits") => self.allocatable(resource),
            (None, _) => 0,
        };
        Ok(divide(nanos, selector.divisor.as_ref(), cpu).to_string())
    }

    /// The node's allocatable amount, in billionths.
    fn allocatable(&self, resource: &str) -> i128 {
        let node = &self.node.allocatable;
        match resource {
            "cpu" => i128::from(node.cpu_milli) * 1_000_000,
            "memory" => i128::from(node.memory) * 1_000_000_000,
            "ephemeral-storage" => i128::from(node.ephemeral_storage) * 1_000_000_000,
            _ => 0,
        }
    }
}

/// `amount / divisor` rounded up; a missing or zero divisor is 1. For CPU both are taken in
/// thousandths, as Kubernetes does (`convertResourceCPUToString`).
fn divide(amount: i128, divisor: Option<&Quantity>, cpu: bool) -> i128 {
    const NANO: i128 = 1_000_000_000;
    let unit = if cpu { NANO / 1000 } else { NANO };
    let up = |n: i128, d: i128| n / d + i128::from(n % d > 0);
    let divisor = divisor.filter(|d| d.nanos() > 0).map_or(NANO, Quantity::nanos);
    up(up(amount, unit), up(divisor, unit).max(1))
}

/// `metadata.labels['key']` as (`metadata.labels`, `key`) (`fieldpath.SplitMaybeSubscriptedPath`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.strip_suffix("']")?.split_once("['")?;
    (!base.is_empty()).then_some((base, rest))
}

fn joined(ips: &[IpAddr]) -> String {
    let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    ips.join(",")
}

/// One `key="value"` a line (`fieldpath.FormatMap`).
fn format_map(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> =
        map.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// A string in quotes as Go's `%q` writes it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            // Writing to a String cannot fail.
            c if c.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", c as u32)),
            c if c == ' ' || !(c.is_control() || c.is_whitespace() || c == '\u{feff}') => {
                quoted.push(c);
            }
            c if (c as u32) < 0x1_0000 => drop(write!(quoted, "\\u{:04x}", c as u32)),
            c => drop(write!(quoted, "\\U{:08x}", c as u32)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Allocatable;

    fn node() -> Node {
        Node {
            name: "n1".into(),
            labels: BTreeMap::new(),
            ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            allocatable: Allocatable { cpu_milli: 2000, memory: 8 << 30, ephemeral_storage: 99 },
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "ns", "uid": "u-1",
                "labels": {"b": "2", "a": "x\"y"}, "annotations": {"k/l": "line\nend"},
            },
            "spec": {
                "serviceAccountName": "sa",
                "containers": [
                    {"name": "a", "resources": {
                        "limits": {"cpu": "1250m", "memory": "64Mi"},
                        "requests": {"cpu": "100m"}}},
                    {"name": "b"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        let (pod, node) = (pod(), node());
        let ips = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let view = PodView { pod: &pod, node: &node, pod_ips: &ips };
        let field = |path: &str| {
            view.field(&ObjectFieldSelector { field_path: path.into(), ..Default::default() })
        };
        for (path, value) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("metadata.uid", "u-1"),
            ("metadata.labels", "a=\"x\\\"y\"\nb=\"2\""),
            ("metadata.annotations", "k/l=\"line\\nend\""),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['k/l']", "line\nend"),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "192.0.2.1"),
            ("status.hostIPs", "192.0.2.1,2001:db8::1"),
            ("status.podIP", "10.0.0.5"),
            ("status.podIPs", "10.0.0.5,fd00::5"),
        ] {
            assert_eq!(field(path).as_deref(), Ok(value), "{path}");
        }
        assert_eq!(
            field("status.phase").unwrap_err().to_string(),
            "unsupported fieldPath: status.phase"
        );
        assert!(field("metadata.name['x']").is_err());
        assert!(field("metadata.labels[b]").is_err());
        let bare = Node { ips: Vec::new(), ..node.clone() };
        let view = PodView { node: &bare, pod_ips: &[], ..view };
        let ip = ObjectFieldSelector { field_path: "status.podIP".into(), ..Default::default() };
        assert_eq!(view.field(&ip).as_deref(), Ok(""));
        let ip = ObjectFieldSelector { field_path: "status.hostIP".into(), ..Default::default() };
        assert_eq!(view.field(&ip), Err(DownwardError::NoHostIp));
    }

    #[test]
    fn resources_are_rounded_up_and_default_to_the_node() {
        let (pod, node) = (pod(), node());
        let view = PodView { pod: &pod, node: &node, pod_ips: &[] };
        let own = &pod.spec.containers[0];
        let value = |container: &str, resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: container.into(),
                resource: resource.into(),
                divisor: (!divisor.is_empty()).then(|| Quantity::parse(divisor).unwrap()),
            };
            view.resource(&selector, Some(own))
        };
        for (container, resource, divisor, expected) in [
            ("", "limits.cpu", "", "2"),
            ("", "limits.cpu", "1m", "1250"),
            ("", "limits.cpu", "100m", "13"),
            ("", "limits.memory", "", "67108864"),
            ("", "limits.memory", "1Mi", "64"),
            ("", "limits.memory", "1M", "68"),
            ("", "requests.cpu", "1m", "100"),
            ("", "requests.memory", "1Mi", "64"),
            ("b", "limits.cpu", "", "2"),
            ("b", "limits.memory", "1Gi", "8"),
            ("b", "requests.memory", "", "0"),
            ("b", "limits.ephemeral-storage", "0", "99"),
        ] {
            let got = value(container, resource, divisor);
            assert_eq!(got.as_deref(), Ok(expected), "{container} {resource} {divisor}");
        }
        assert!(matches!(value("", "limits.gpu", ""), Err(DownwardError::Resource(_))));
        assert!(matches!(value("zz", "limits.cpu", ""), Err(DownwardError::Container(_))));
    }

    #[test]
    fn gos_quotes() {
        assert_eq!(quote("a b\\\t\u{1}é"), "\"a b\\\\\\t\\x01é\"");
        assert_eq!(quote("\u{85}\u{a0}\u{feff}"), "\"\\u0085\\u00a0\\ufeff\"");
    }
}
