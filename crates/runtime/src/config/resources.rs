//! What containers and pods may use and ask for.

use holdfast_manifest::object::container::Container;
use holdfast_manifest::object::{PodSpec, Quantity};

use super::downward::PodView;
use super::oom_score;
use crate::contract::Limits;

/// The limits of a container (kubelet: `calculateLinuxResources`).
pub(super) fn limits(view: PodView<'_>, container: &Container) -> Limits {
    let limits = &container.resources.limits;
    Limits {
        memory: limits.get("memory").map(Quantity::value).and_then(positive),
        cpu_milli: limits.get("cpu").and_then(milli),
        cpu_request_milli: cpu_request(container),
        oom_score: oom_score::of(&view.pod.spec, container, view.node.allocatable.memory),
    }
}

/// A container's request for processors; a limit is one, too, where there is no other.
fn cpu_request(container: &Container) -> Option<u64> {
    let resources = &container.resources;
    resources.requests.get("cpu").or_else(|| resources.limits.get("cpu")).and_then(milli)
}

/// What the containers of a pod request of processors, in thousandths of a core (kubelet:
/// `ResourceConfigForPod`).
pub(crate) fn pod_cpu_request(pod: &PodSpec) -> u64 {
    pod_total(pod, |container| Some(cpu_request(container).unwrap_or_default())).unwrap_or_default()
}

/// The most that a pod's containers have at once, as they run; `None` if one of them has none
/// (component-helpers: `PodRequests`, `PodLimits`).
pub(crate) fn pod_total(pod: &PodSpec, amount: impl Fn(&Container) -> Option<u64>) -> Option<u64> {
    let mut running: u64 = 0;
    for container in &pod.containers {
        running = running.saturating_add(amount(container)?);
    }
    let (mut sidecars, mut most): (u64, u64) = (0, 0);
    for container in &pod.init_containers {
        let own = amount(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(own);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars.saturating_add(own));
        }
    }
    Some(running.saturating_add(sidecars).max(most))
}

fn milli(quantity: &Quantity) -> Option<u64> {
    positive(quantity.milli_value())
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: &[Value], inits: &[Value]) -> PodSpec {
        let spec = json!({ "containers": containers, "initContainers": inits });
        serde_json::from_value(spec).unwrap()
    }

    fn asks(request: &str) -> Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": request } } })
    }

    #[test]
    fn init_containers_count_as_they_run() {
        let mut sidecar = asks("2");
        sidecar["restartPolicy"] = json!("Always");
        let total = |inits: &[Value]| pod_cpu_request(&pod(&[asks("1")], inits));
        assert_eq!(total(&[]), 1000);
        assert_eq!(total(&[asks("5")]), 5000);
        assert_eq!(total(&[sidecar.clone()]), 3000);
        assert_eq!(total(&[sidecar.clone(), asks("5")]), 7000);
        assert_eq!(total(&[asks("5"), sidecar]), 5000);
    }

    #[test]
    fn none_is_none_only_if_it_has_to_be() {
        let limited = json!({ "name": "c", "resources": { "limits": { "cpu": "250m" } } });
        let bare = json!({ "name": "c" });
        assert_eq!(pod_cpu_request(&pod(&[limited.clone(), asks("1"), bare.clone()], &[])), 1250);
        let limit = |c: &Container| c.resources.limits.get("cpu").and_then(milli);
        assert_eq!(pod_total(&pod(from_ref(&limited), &[]), limit), Some(250));
        assert_eq!(pod_total(&pod(from_ref(&limited), from_ref(&bare)), limit), None);
        assert_eq!(pod_total(&pod(&[limited, bare], &[]), limit), None);
    }
}
