//! From the driver's [`ContainerConfig`] to the CRI's.

use std::collections::HashMap;
use std::path::Path;

use super::api;
use super::security;
use crate::contract::{Below, ContainerConfig, Limits, Mount, Propagation, RootFs};

/// What a container is made of beside its own configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// Its labels.
    pub(super) labels: &'a HashMap<String, String>,
    /// Which namespaces are whose.
    pub(super) namespaces: &'a api::NamespaceOption,
    /// Its log, below the pod's directory of logs.
    pub(super) log: &'a Path,
    /// Where seccomp profiles are.
    pub(super) seccomp: &'a Path,
    /// The directories whose files are the pod's own, to be labelled for it where SELinux rules.
    pub(super) own_files: &'a Path,
    /// Whether the runtime can make mounts below a read-only one read-only.
    pub(super) read_only_below: bool,
}

/// What the runtime is asked for (kubelet: `generateContainerConfig`). `mounts` has the configuration's
/// mounts with the paths of this machine that they show, and the termination message's.
pub(super) fn translate(
    config: &ContainerConfig,
    mounts: &[(String, Mount)],
    around: Surroundings<'_>,
) -> api::ContainerConfig {
    let image = match &config.root {
        RootFs::Image(reference) => reference.clone(),
        // The driver has asked this runtime for the image.
        RootFs::Host | RootFs::Layers(_) => config.image.clone(),
    };
    let mount = |(path, mount): &(String, Mount)| api::Mount {
        container_path: mount.target.display().to_string(),
        host_path: path.clone(),
        readonly: mount.read_only,
        selinux_relabel: Path::new(path).starts_with(around.own_files),
        propagation: match mount.propagation {
            Propagation::Private => api::MountPropagation::Private,
            Propagation::HostToContainer => api::MountPropagation::HostToContainer,
            Propagation::Bidirectional => api::MountPropagation::Bidirectional,
        }
        .into(),
        recursive_read_only: mount.read_only
            && mount.below != Below::AsTheyAre
            && around.read_only_below,
    };
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata {
            name: config.name.clone(),
            attempt: config.restart_count,
        }),
        image: Some(api::ImageSpec { image, user_specified_image: config.image.clone() }),
        command: config.argv.clone(),
        args: config.args.clone(),
        working_dir: config.cwd.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
        envs: config
            .env
            .iter()
            .map(|(key, value)| api::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: mounts.iter().map(mount).collect(),
        labels: around.labels.clone(),
        annotations: HashMap::new(),
        log_path: around.log.display().to_string(),
        stdin: config.stdin,
        tty: config.tty,
        linux: Some(api::LinuxContainerConfig {
            resources: Some(resources(config.limits)),
            security_context: Some(security::context(
                config,
                around.namespaces.clone(),
                around.seccomp,
            )),
        }),
    }
}

/// kubelet: `calculateLinuxResources`.
fn resources(limits: Limits) -> api::LinuxContainerResources {
    let shares = limits.cpu_request_milli.map_or(0, |milli| milli.saturating_mul(1024) / 1000);
    // The quota may be in thousandths of a core less than the kernel's least.
    let quota = limits.cpu_milli.map_or(0, |milli| {
        (milli.saturating_mul(CPU_PERIOD.unsigned_abs()) / 1000).max(LEAST_QUOTA)
    });
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    api::LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: number(quota),
        cpu_shares: number(shares.clamp(LEAST_SHARES, MOST_SHARES)),
        memory_limit_in_bytes: number(limits.memory.unwrap_or(0)),
        oom_score_adj: limits.oom_score.into(),
    }
}

/// kubelet: `QuotaPeriod`, `MinQuotaPeriod`, `MinShares`, `MaxShares`.
const CPU_PERIOD: i64 = 100_000;
const LEAST_QUOTA: u64 = 1000;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_kubelets() {
        let of = |cpu: Option<u64>, request: Option<u64>| {
            let limits = Limits {
                memory: Some(1 << 20),
                cpu_milli: cpu,
                cpu_request_milli: request,
                oom_score: 999,
            };
            let made = resources(limits);
            assert_eq!((made.memory_limit_in_bytes, made.oom_score_adj), (1 << 20, 999));
            assert_eq!(made.cpu_period, 100_000);
            (made.cpu_quota, made.cpu_shares)
        };
        assert_eq!(of(None, None), (0, 2));
        assert_eq!(of(Some(1500), Some(500)), (150_000, 512));
        assert_eq!(of(Some(1), Some(1)), (1000, 2));
        assert_eq!(of(Some(u64::MAX), Some(u64::MAX)).1, 262_144);
    }
}
