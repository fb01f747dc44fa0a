//! How early the kernel kills a container when the machine runs out of memory.

use holdfast_manifest::object::PodSpec;
use holdfast_manifest::object::container::Container;
use holdfast_manifest::wire::{QosClass, qos_class};

const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;
const NODE_CRITICAL: &str = "system-node-critical";

/// `oom_score_adj` of a container on a machine with `memory` bytes (kubelet:
/// `GetContainerOOMScoreAdjust`). A sidecar is not killed before the container that it serves.
pub(super) fn of(pod: &PodSpec, container: &Container, memory: u64) -> i32 {
    let score = match qos_class(pod) {
        _ if pod.priority_class_name == NODE_CRITICAL => GUARANTEED,
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => burstable(pod, container, memory),
    };
    // -997 to 1000.
    i32::try_from(score).unwrap_or_default()
}

fn burstable(pod: &PodSpec, container: &Container, memory: u64) -> i64 {
    let score = |container: &Container| {
        let request = container.resources.requests.get("memory").map_or(0, |m| m.value()).max(0);
        let share = 1000 * i128::from(request) / i128::from(memory.max(1));
        1000 - i64::try_from(share).unwrap_or(i64::MAX).min(10_000)
    };
    let mut own = score(container);
    let is_sidecar = container.restart_policy.as_deref() == Some("Always")
        && pod.init_containers.iter().any(|init| init.name == container.name);
    if is_sidecar {
        own = pod.containers.iter().map(score).max().map_or(own, |highest| own.min(highest));
    }
    own.clamp(BEST_EFFORT + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_more_is_asked_for_the_later_it_is_killed() {
        let pod = |requests: [&str; 3], limit: &str| -> PodSpec {
            let one = |name: &str, request: &str| {
                let mut resources = json!({});
                if !request.is_empty() {
                    resources["requests"] = json!({"memory": request, "cpu": "1"});
                }
                if !limit.is_empty() {
                    resources["limits"] = json!({"memory": limit, "cpu": "1"});
                }
                json!({"name": name, "resources": resources})
            };
            let mut sidecar = one("s", requests[0]);
            sidecar["restartPolicy"] = json!("Always");
            serde_json::from_value(json!({
                "initContainers": [sidecar],
                "containers": [one("a", requests[1]), one("b", requests[2])],
            }))
            .unwrap()
        };
        let scores = |pod: &PodSpec| {
            [&pod.init_containers[0], &pod.containers[0], &pod.containers[1]]
                .map(|container| of(pod, container, 1000 << 20))
        };
        assert_eq!(scores(&pod(["", "", ""], "")), [1000; 3]);
        assert_eq!(scores(&pod(["1Mi", "1Mi", "1Mi"], "1Mi")), [-997; 3]);
        // The sidecar goes as late as the container that asks for least.
        assert_eq!(scores(&pod(["1Mi", "100Mi", "600Mi"], "")), [900, 900, 400]);
        assert_eq!(scores(&pod(["700Mi", "100Mi", ""], "")), [300, 900, 999]);
        assert_eq!(scores(&pod(["5000Mi", "1Mi", "1Mi"], "")), [3, 999, 999]);
        let mut critical = pod(["", "", ""], "");
        critical.priority_class_name = NODE_CRITICAL.into();
        assert_eq!(scores(&critical), [-997; 3]);
    }
}
