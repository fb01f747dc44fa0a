//! `status.qosClass` (`ComputePodQOS`).

use std::collections::BTreeMap;

use crate::object::{PodSpec, Quantity};

/// How much a pod's resources are promised to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests equal to them.
    Guaranteed,
    /// Some container has a request or limit.
    Burstable,
    /// None has.
    BestEffort,
}

impl QosClass {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let pod = spec.resources.as_ref().filter(|r| !r.limits.is_empty() || !r.requests.is_empty());
    let containers = || {
        spec.containers.iter().chain(&spec.init_containers).map(|container| &container.resources)
    };
    let all: Vec<_> = match pod {
        Some(resources) => vec![resources],
        None => containers().collect(),
    };
    let positive = |list: &BTreeMap<String, Quantity>, name: &str| {
        list.get(name).filter(|q| !q.is_zero()).copied()
    };
    let mut any = false;
    let mut guaranteed = true;
    let mut sums: BTreeMap<&str, (i128, i128)> = BTreeMap::new();
    for resources in all {
        for name in ["cpu", "memory"] {
            let (request, limit) =
                (positive(&resources.requests, name), positive(&resources.limits, name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some();
            let sum = sums.entry(name).or_default();
            sum.0 = sum.0.saturating_add(request.map_or(0, |q| q.nanos()));
            sum.1 = sum.1.saturating_add(limit.map_or(0, |q| q.nanos()));
        }
    }
    guaranteed &= sums.values().all(|(requests, limits)| requests == limits);
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}
