//! Where an object lives on the server.

use serde_json::Value;

use super::ApiError;

/// The path of the object that `object` names: `/api/v1/namespaces/default/pods/web`.
///
/// # Errors
/// [`ApiError::NoPlace`] without apiVersion, kind or name.
pub fn path_of(object: &Value) -> Result<String, ApiError> {
    let name = word(object, "/metadata/name").ok_or(ApiError::NoPlace("metadata.name"))?;
    Ok(format!("{}/{name}", collection_of(object)?))
}

/// The path of the collection that `object` belongs to. Without a namespace, it is `default`'s.
pub(super) fn collection_of(object: &Value) -> Result<String, ApiError> {
    let version = word(object, "/apiVersion").ok_or(ApiError::NoPlace("apiVersion"))?;
    let kind = word(object, "/kind").ok_or(ApiError::NoPlace("kind"))?;
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let plural = plural(kind);
    if CLUSTER_WIDE.contains(&kind) {
        return Ok(format!("{root}/{version}/{plural}"));
    }
    let namespace = word(object, "/metadata/namespace").unwrap_or("default");
    Ok(format!("{root}/{version}/namespaces/{namespace}/{plural}"))
}

/// `path` with more to its query.
pub(super) fn with_query(path: &str, more: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{more}")
}

fn word<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|word| !word.is_empty())
}

/// English plurals, which are what Kubernetes' resource names are.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if kind == "endpoints" => kind,
        _ if kind.ends_with(['s', 'x']) => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

/// Kinds without a namespace.
const CLUSTER_WIDE: &[&str] = &[
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_object_has_its_place() {
        for (version, kind, namespace, path) in [
            ("v1", "Pod", Some("a"), "/api/v1/namespaces/a/pods/x"),
            ("v1", "Pod", None, "/api/v1/namespaces/default/pods/x"),
            ("v1", "Namespace", None, "/api/v1/namespaces/x"),
            ("apps/v1", "ReplicaSet", None, "/apis/apps/v1/namespaces/default/replicasets/x"),
            ("v1", "Endpoints", None, "/api/v1/namespaces/default/endpoints/x"),
            (
                "networking.k8s.io/v1",
                "Ingress",
                Some("b"),
                "/apis/networking.k8s.io/v1/namespaces/b/ingresses/x",
            ),
            (
                "networking.k8s.io/v1",
                "NetworkPolicy",
                Some("b"),
                "/apis/networking.k8s.io/v1/namespaces/b/networkpolicies/x",
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "ClusterRoleBinding",
                None,
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/x",
            ),
        ] {
            let object = json!({ "apiVersion": version, "kind": kind,
                "metadata": { "name": "x", "namespace": namespace } });
            assert_eq!(path_of(&object).unwrap(), path);
        }
        let nameless = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "" } });
        assert!(matches!(path_of(&nameless), Err(ApiError::NoPlace("metadata.name"))));
    }
}
