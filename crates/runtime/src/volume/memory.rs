//! `emptyDir` with `medium: Memory`: how large it is and whose. The runtime makes it.

use holdfast_manifest::object::volume::EmptyDirSource;
use holdfast_manifest::object::{PodSpec, Quantity};

use super::ownership::FsGroup;
use super::{MountError, sub_path};
use crate::config::{PodView, pod_total};
use crate::contract::PodTmpfs;

/// The memory file system of a volume.
pub(super) fn volume(
    name: &str,
    source: &EmptyDirSource,
    group: Option<FsGroup>,
    view: PodView<'_>,
) -> Result<PodTmpfs, String> {
    let gid = group.map(|group| group.gid);
    let own = rustix::process::getegid().as_raw();
    if gid.is_some_and(|gid| gid != own) && !rustix::process::geteuid().is_root() {
        // As for the other volumes: without root there is only one group to give files to.
        return Err(format!(
            "applyFSGroup failed for vol {name}: fsGroup of another group needs root"
        ));
    }
    let size = size(source.size_limit.as_ref(), &view.pod.spec, view.node.allocatable.memory);
    Ok(PodTmpfs { name: name.to_owned(), size, gid, sub_path: None })
}

/// The part of it that a mount shows.
pub(super) fn part(tmpfs: &PodTmpfs, sub_path: &str) -> Result<PodTmpfs, MountError> {
    let part = if sub_path.is_empty() { None } else { Some(sub_path::check(sub_path)?.to_owned()) };
    Ok(PodTmpfs { sub_path: part, ..tmpfs.clone() })
}

/// The least of the volume's limit, the memory limit of the pod and the node's memory (kubelet:
/// `calculateEmptyDirMemorySize`); `None` if nothing is known.
fn size(limit: Option<&Quantity>, pod: &PodSpec, allocatable: u64) -> Option<u64> {
    let limit = limit.and_then(bytes);
    [limit, pod_limit(pod), Some(allocatable)].into_iter().flatten().filter(|size| *size > 0).min()
}

fn bytes(quantity: &Quantity) -> Option<u64> {
    u64::try_from(quantity.value()).ok().filter(|bytes| *bytes > 0)
}

/// What all containers of a pod may use at once, if each of them has a limit (kubelet:
/// `ResourceConfigForPod`).
fn pod_limit(pod: &PodSpec) -> Option<u64> {
    pod_total(pod, |container| container.resources.limits.get("memory").and_then(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: &[&str], inits: Value) -> PodSpec {
        let container = |limit: &&str| match *limit {
            "" => json!({"name": "c"}),
            limit => json!({"name": "c", "resources": {"limits": {"memory": limit}}}),
        };
        let containers: Vec<Value> = containers.iter().map(container).collect();
        serde_json::from_value(json!({"containers": containers, "initContainers": inits})).unwrap()
    }

    fn sized(limit: Option<&str>, pod: &PodSpec, node: u64) -> Option<u64> {
        let limit = limit.map(|limit| serde_json::from_value(json!(limit)).unwrap());
        size(limit.as_ref(), pod, node)
    }

    #[test]
    fn the_least_limit_counts() {
        let (free, limited) = (pod(&["", "1Mi"], json!([])), pod(&["2Mi", "1Mi"], json!([])));
        assert_eq!(sized(Some("1Mi"), &free, 1 << 30), Some(1 << 20));
        assert_eq!(sized(Some("1Gi"), &free, 1 << 20), Some(1 << 20));
        assert_eq!(sized(Some("4Mi"), &limited, 1 << 30), Some(3 << 20));
        assert_eq!(sized(Some("2Mi"), &limited, 1 << 30), Some(2 << 20));
        assert_eq!(sized(None, &limited, 1 << 30), Some(3 << 20));
        assert_eq!(sized(None, &free, 1 << 30), Some(1 << 30));
        assert_eq!(sized(Some("0"), &free, 1 << 30), Some(1 << 30));
        assert_eq!(sized(None, &free, 0), None);
    }
}
