//! Users, groups and confinement in the CRI's terms (kubelet: `determineEffectiveSecurityContext`).

use std::path::Path;

use super::api;
use crate::contract::{Confinement, ContainerConfig, Profile};

/// What may not be seen of `/proc` and `/sys` (kubelet: `defaultMaskedPaths`).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What may not be written there (kubelet: `defaultReadonlyPaths`).
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The security context of a container. `seccomp` is where profiles of one's own are.
pub(super) fn context(
    config: &ContainerConfig,
    namespaces: api::NamespaceOption,
    seccomp: &Path,
) -> api::LinuxContainerSecurityContext {
    let confinement = &config.confinement;
    let (masked_paths, readonly_paths) = hidden(confinement.unmasked_proc);
    let (add, drop) = config.changed_capabilities.clone();
    api::LinuxContainerSecurityContext {
        capabilities: Some(api::Capability { add_capabilities: add, drop_capabilities: drop }),
        privileged: config.privileged,
        namespace_options: Some(namespaces),
        selinux_options: se_linux(confinement),
        run_as_user: id(config.user.uid),
        run_as_group: id(config.user.gid),
        run_as_username: config.user.name.clone().unwrap_or_default(),
        readonly_rootfs: config.read_only_root,
        supplemental_groups: config.user.groups.iter().map(|&gid| gid.into()).collect(),
        apparmor_profile: confinement.app_armor.as_ref().map(old_name).unwrap_or_default(),
        no_new_privs: config.no_new_privileges,
        masked_paths,
        readonly_paths,
        seccomp: Some(profile(&confinement.seccomp, |name| {
            seccomp.join(name).display().to_string()
        })),
        apparmor: confinement.app_armor.as_ref().map(|p| profile(p, str::to_owned)),
        supplemental_groups_policy: groups_policy(confinement).into(),
    }
}

/// What may not be seen, and what may not be written: [`MASKED`], and how hot each processor is, where it
/// tells (kubelet, from 1.34 on: `defaultMaskedPaths`), and [`READ_ONLY`].
fn hidden(unmasked: bool) -> (Vec<String>, Vec<String>) {
    if unmasked {
        return Default::default();
    }
    let processors = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut hot: Vec<_> = processors
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .map(|path| path.display().to_string())
        .collect();
    hot.sort();
    let masked = MASKED.map(str::to_owned).into_iter().chain(hot).collect();
    (masked, READ_ONLY.map(str::to_owned).into())
}

pub(super) fn id(id: Option<u32>) -> Option<api::Int64Value> {
    id.map(|id| api::Int64Value { value: id.into() })
}

pub(super) fn se_linux(confinement: &Confinement) -> Option<api::SeLinuxOption> {
    let [user, role, kind, level] = confinement.se_linux.clone()?;
    Some(api::SeLinuxOption { user, role, kind, level })
}

pub(super) fn groups_policy(confinement: &Confinement) -> api::SupplementalGroupsPolicy {
    match confinement.strict_groups {
        true => api::SupplementalGroupsPolicy::Strict,
        false => api::SupplementalGroupsPolicy::Merge,
    }
}

/// `RuntimeDefault`.
pub(super) fn default_profile() -> api::SecurityProfile {
    profile(&Profile::RuntimeDefault, str::to_owned)
}

fn profile(profile: &Profile, reference: impl Fn(&str) -> String) -> api::SecurityProfile {
    let (kind, localhost_ref) = match profile {
        Profile::RuntimeDefault => (api::ProfileType::RuntimeDefault, String::new()),
        Profile::Unconfined => (api::ProfileType::Unconfined, String::new()),
        Profile::Localhost(name) => (api::ProfileType::Localhost, reference(name)),
    };
    api::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// An AppArmor profile as runtimes of old want it.
fn old_name(profile: &Profile) -> String {
    match profile {
        Profile::RuntimeDefault => "runtime/default".to_owned(),
        Profile::Unconfined => "unconfined".to_owned(),
        Profile::Localhost(name) => format!("localhost/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_masked_unless_it_is_not_to_be() {
        let (masked, read_only) = hidden(false);
        assert!(masked.iter().any(|path| path == "/proc/interrupts"), "{masked:?}");
        assert!(read_only.iter().any(|path| path == "/proc/sys"), "{read_only:?}");
        assert_eq!(hidden(true), Default::default());
    }
}
