//! From the driver's [`ContainerConfig`] to the launcher's [`Spec`].

use std::path::{Path, PathBuf};

use holdfast_sys::caps::Caps;
use holdfast_sys::cgroup::Limits;
use holdfast_sys::launcher::protocol::{
    Failure, Memory, MountSpec, Propagation, Root, Source, Spec,
};

use crate::contract::{self, ContainerConfig, MountSource, RootFs};

/// Translates a configuration; `termination` is the file to bind for the termination message.
pub(super) fn translate(
    config: &ContainerConfig,
    sandbox: u64,
    termination: Option<&Path>,
) -> Result<Spec, Failure> {
    let mut mounts: Vec<MountSpec> = config.mounts.iter().map(mount).collect();
    if let Some(file) = termination {
        mounts.push(MountSpec {
            source: Source::Host(file.to_owned()),
            target: PathBuf::from(&config.termination_message_path),
            read_only: false,
            read_only_below: false,
            propagation: Propagation::Private,
        });
    }
    if let Some(mount) = mounts.iter().find(|mount| !mount.target.is_absolute()) {
        let target = mount.target.display();
        return Err(Failure::create(format!("the mount point \"{target}\" is not absolute")));
    }
    Ok(Spec {
        instance: config.instance.0,
        sandbox,
        pod: config.pod.to_string(),
        name: config.name.clone(),
        argv: config.argv.clone(),
        env: config.env.clone(),
        cwd: config.cwd.clone().unwrap_or_else(|| PathBuf::from("/")),
        root: match &config.root {
            RootFs::Host => Root::Host,
            RootFs::Layers(layers) => Root::Layers(layers.clone()),
            RootFs::Image(image) => {
                return Err(Failure::create(format!("image {image} is not of this runtime")));
            }
        },
        read_only_root: config.read_only_root,
        mounts,
        uid: config.user.uid,
        gid: config.user.gid,
        groups: config.user.groups.clone(),
        privileged: config.privileged,
        caps: config.capabilities.as_deref().map(capabilities).transpose()?,
        no_new_privs: config.no_new_privileges,
        limits: Limits {
            memory: config.limits.memory,
            cpu_milli: config.limits.cpu_milli,
            cpu_request_milli: config.limits.cpu_request_milli,
        },
    })
}

fn capabilities(names: &[String]) -> Result<Caps, Failure> {
    names.iter().try_fold(Caps::default(), |all, name| match Caps::named(name) {
        Some(cap) => Ok(all.union(cap)),
        // As containerd says it.
        None => Err(Failure::create(format!("unknown capability \"CAP_{name}\""))),
    })
}

fn mount(mount: &contract::Mount) -> MountSpec {
    let source = match &mount.source {
        MountSource::Bind(path) | MountSource::BindPart(path) => Source::Host(path.clone()),
        MountSource::PodTmpfs(tmpfs) => Source::Memory(Memory {
            name: tmpfs.name.clone(),
            size: tmpfs.size,
            gid: tmpfs.gid,
            sub_path: tmpfs.sub_path.clone(),
        }),
    };
    MountSpec {
        source,
        target: mount.target.clone(),
        read_only: mount.read_only,
        read_only_below: mount.below != contract::Below::AsTheyAre,
        propagation: match mount.propagation {
            contract::Propagation::Private => Propagation::Private,
            contract::Propagation::HostToContainer => Propagation::FromHost,
            contract::Propagation::Bidirectional => Propagation::Both,
        },
    }
}
