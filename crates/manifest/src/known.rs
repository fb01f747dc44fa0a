//! The kinds of the API groups that Holdfast reads from, also those that it does not run: in these
//! groups a kind that Kubernetes does not have is a typing error, and nothing may be lost by one.

use crate::suggest::nearest;

/// Every kind of an apiVersion that objects are made with (kubectl: `api-resources`); other groups may
/// hold any kind, by custom resource definitions.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "v1",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "List",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("apps/v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch/v1", &["CronJob", "Job"]),
];

/// Whether Kubernetes is known not to have a kind in an apiVersion. Typed lists are kinds as well.
pub(crate) fn is_unknown(version: &str, kind: &str) -> bool {
    let has = |kinds: &[&str]| {
        kinds.contains(&kind) || kind.strip_suffix("List").is_some_and(|item| kinds.contains(&item))
    };
    KNOWN.iter().any(|(known, kinds)| *known == version && !has(kinds))
}

/// What may have been meant by an unknown kind.
pub(crate) fn meant(version: &str, kind: &str) -> Option<String> {
    if let Some((other, _)) = KNOWN.iter().find(|(_, kinds)| kinds.contains(&kind)) {
        return Some(format!("{kind} is served as apiVersion {other}"));
    }
    let own = KNOWN.iter().find(|(known, _)| *known == version);
    if let Some(near) = own.and_then(|(_, kinds)| nearest(kind, kinds)) {
        return Some(format!("did you mean {near:?}?"));
    }
    KNOWN.iter().find_map(|(other, kinds)| {
        nearest(kind, kinds).map(|near| format!("did you mean {near:?} of apiVersion {other}?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_groups_have_unknown_kinds() {
        for (version, kind, unknown) in [
            ("v1", "Pot", true),
            ("v1", "pod", true),
            ("v1", "Deployment", true),
            ("batch/v1", "Jobs", true),
            ("v1", "ServiceAccount", false),
            ("v1", "PodList", false),
            ("v1", "PotList", true),
            ("v1", "List", false),
            ("apps/v1", "ControllerRevision", false),
            ("apps/v2", "Foo", false),
            ("example.com/v1", "Pot", false),
        ] {
            assert_eq!(is_unknown(version, kind), unknown, "{version} {kind}");
        }
    }

    #[test]
    fn the_nearest_kind_is_named() {
        for (version, kind, help) in [
            ("v1", "Pot", Some("did you mean \"Pod\"?")),
            ("v1", "pod", Some("did you mean \"Pod\"?")),
            ("apps/v1", "Deploymnet", Some("did you mean \"Deployment\"?")),
            ("batch/v1", "Cronjob", Some("did you mean \"CronJob\"?")),
            ("v1", "Deployment", Some("Deployment is served as apiVersion apps/v1")),
            ("v1", "Jobs", Some("did you mean \"Job\" of apiVersion batch/v1?")),
            ("v1", "Ingress", None),
        ] {
            assert_eq!(meant(version, kind).as_deref(), help, "{version} {kind}");
        }
    }
}
