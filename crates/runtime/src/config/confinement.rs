//! Profiles and labels that confine a container, for a runtime that can load them.

use holdfast_manifest::object::Pod;
use holdfast_manifest::object::container::{Container, SecurityProfile};
use serde_json::Value;

use crate::contract::{Confinement, Profile};

/// Those of the pod as a whole.
pub(crate) fn of_pod(pod: &Pod) -> Confinement {
    let Some(security) = &pod.spec.security_context else { return Confinement::default() };
    Confinement {
        seccomp: security.seccomp_profile.as_ref().map(profile).unwrap_or_default(),
        app_armor: security.app_armor_profile.as_ref().map(profile),
        se_linux: security.se_linux_options.as_ref().map(labels),
        unmasked_proc: false,
        strict_groups: security.supplemental_groups_policy.as_deref() == Some("Strict"),
    }
}

/// Those of a container, which win over the pod's (kubelet: `getSeccompProfile`,
/// `DetermineEffectiveSecurityContext`).
pub(super) fn of_container(pod: &Pod, container: &Container) -> Confinement {
    let mut confinement = of_pod(pod);
    let Some(security) = &container.security_context else { return confinement };
    if let Some(own) = &security.seccomp_profile {
        confinement.seccomp = profile(own);
    }
    if let Some(own) = &security.app_armor_profile {
        confinement.app_armor = Some(profile(own));
    }
    if let Some(own) = &security.se_linux_options {
        confinement.se_linux = Some(labels(own));
    }
    confinement.unmasked_proc = security.proc_mount.as_deref() == Some("Unmasked");
    confinement
}

fn profile(profile: &SecurityProfile) -> Profile {
    match profile.kind.as_str() {
        "RuntimeDefault" => Profile::RuntimeDefault,
        "Localhost" => Profile::Localhost(profile.localhost_profile.clone().unwrap_or_default()),
        _ => Profile::Unconfined,
    }
}

fn labels(options: &Value) -> [String; 4] {
    ["user", "role", "type", "level"]
        .map(|field| options[field].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_wins() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {
                "seccompProfile": {"type": "RuntimeDefault"},
                "appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"},
                "seLinuxOptions": {"level": "s0:c1,c2"},
                "supplementalGroupsPolicy": "Strict",
            },
            "containers": [{"name": "plain"}, {"name": "own", "securityContext": {
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
                "procMount": "Unmasked",
            }}],
        }}))
        .unwrap();
        let [plain, own] = [0, 1].map(|at| of_container(&pod, &pod.spec.containers[at]));
        assert_eq!(plain, of_pod(&pod));
        assert_eq!(plain.seccomp, Profile::RuntimeDefault);
        assert_eq!(plain.se_linux.as_ref().unwrap()[3], "s0:c1,c2");
        assert!(plain.strict_groups);
        assert_eq!(own.seccomp, Profile::Localhost("a.json".into()));
        assert_eq!(own.app_armor, Some(Profile::Localhost("mine".into())));
        assert!(own.unmasked_proc && !plain.unmasked_proc);
        assert_eq!(of_pod(&Pod::default()), Confinement::default());
    }
}
