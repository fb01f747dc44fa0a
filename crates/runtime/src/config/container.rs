//! Puts a [`ContainerConfig`] together from a Pod's container, an image and volumes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_manifest::object::container::Container;

use super::capability;
use super::confinement;
use super::downward::PodView;
use super::env::{self, Env, EnvError};
use super::etc::{self, HostNameError};
use super::expansion::expand_list;
use super::objects::Objects;
use super::resources::limits;
use super::signal::{SIGTERM, signal_number};
use super::user::{self, UserError};
use crate::contract::{
    Below, ContainerConfig, Mount, MountSource, Propagation, RootFs, StartError,
};
use crate::image::{Image, ImageConfig};
use crate::volume::{MountError, PodVolumes};

/// The `PATH` of an image that sets none (containerd: `WithDefaultPathEnv`).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One start of a container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerRequest<'a> {
    /// The pod, its node and its addresses.
    pub view: PodView<'a>,
    /// The container to start, one of the pod's.
    pub container: &'a Container,
    /// Its image.
    pub image: &'a Image,
    /// What `env` refers to.
    pub objects: &'a Objects,
    /// The pod's volumes, prepared.
    pub volumes: &'a PodVolumes,
    /// The identity of this run.
    pub instance: InstanceId,
    /// Its restart count.
    pub restart_count: u32,
    /// The Kubernetes version to behave as: the `35` of 1.35.
    pub kubernetes_minor: u32,
    /// Whether groups can be set (the caller is root and not in a user namespace of its own): without
    /// it, the groups that the image's /etc/group gives a user are left out.
    pub can_set_groups: bool,
}

/// A container that can be started.
#[derive(Clone, Debug)]
pub struct Configured {
    /// For the runtime.
    pub config: ContainerConfig,
    /// Events about it: reason and message, all of type Warning.
    pub events: Vec<(&'static str, String)>,
}

/// A container that cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable cannot be made.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A volume cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The pod's host name.
    #[error(transparent)]
    HostName(#[from] HostNameError),
    /// Neither the Pod nor the image says what to run.
    #[error("no command specified{0}")]
    NoCommand(&'static str),
    /// An argument or a path that no process can be given.
    #[error("{0} has a NUL byte")]
    Nul(&'static str),
    /// `lifecycle.stopSignal`, or that of the image.
    #[error("invalid stop signal {0:?}")]
    StopSignal(String),
    /// A file of the pod cannot be written.
    #[error("cannot write {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl ConfigError {
    /// How far the start got: whether the kubelet (`CreateContainerConfigError`) or the runtime
    /// (`CreateContainerError`) finds it.
    pub fn stage(&self) -> StartStage {
        match self {
            Self::NoCommand(_) | Self::Nul(_) | Self::StopSignal(_) => StartStage::Create,
            Self::Mount(MountError::HostPath { .. }) => StartStage::Create,
            Self::User(err) if !err.is_config() => StartStage::Create,
            _ => StartStage::Config,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(err: ConfigError) -> Self {
        Self { stage: err.stage(), message: err.to_string() }
    }
}

/// Configures one start of a container (kubelet: `generateContainerConfig`; containerd: the spec of
/// `CreateContainer`). Writes the pod's hosts and resolver files, and resolves every subPath anew.
///
/// # Errors
/// [`ConfigError`], in the kubelet's order: host name, environment, mounts, user, then what a runtime
/// would find.
pub fn container_config(request: &ContainerRequest<'_>) -> Result<Configured, ConfigError> {
    let ContainerRequest { view, container, image, .. } = *request;
    let pod = view.pod;
    let mut events = Vec::new();
    let names = etc::host_names(pod)?;
    let own_env =
        env::of_pod(view, container, request.objects, request.kubernetes_minor, &mut events)?;
    let volume_mounts = request.volumes.mounts(container, own_env.list())?;
    let security = container.security_context.as_ref();
    let read_only_root = security.and_then(|s| s.read_only_root_filesystem) == Some(true);
    // A runtime with images of its own knows what is in them, and does with that as containerd does.
    let of_runtime = matches!(image.root, RootFs::Image(_));
    let mut mounts = etc_mounts(request, &names, read_only_root, &mut events)?;
    mounts.retain(|own| !volume_mounts.iter().any(|mount| mount.target == own.target));
    mounts.extend(volume_mounts);
    let user = user::resolve(pod, container, image, request.can_set_groups)?;
    let (argv, args) = if of_runtime {
        (expanded(&container.command, own_env.list()), expanded(&container.args, own_env.list()))
    } else {
        (argv(container, image, own_env.list())?, Vec::new())
    };
    if read_only_root && !of_runtime {
        image_volumes(request, &mut mounts, &mut events)?;
    }
    // A mount below another comes after it, whatever the order in the Pod (containerd).
    mounts.sort_by_key(|mount| mount.target.components().count());
    let host_name = if pod.spec.host_network { node_host_name() } else { names.kernel };
    let env = match of_runtime {
        true => own_env.into_list(),
        false => whole_env(&image.config, own_env, &host_name),
    };
    if argv.iter().chain(&args).any(|arg| arg.contains('\0')) {
        return Err(ConfigError::Nul("an argument of the command"));
    }
    let working_dir = match container.working_dir.as_str() {
        "" => image.config.working_dir.clone(),
        dir => Some(PathBuf::from(dir)),
    };
    let config = ContainerConfig {
        pod: pod.metadata.uid.as_str().into(),
        name: container.name.clone(),
        instance: request.instance,
        restart_count: request.restart_count,
        image: container.image.clone(),
        argv,
        args,
        env,
        cwd: working_dir,
        root: image.root.clone(),
        read_only_root,
        mounts,
        user,
        privileged: security.and_then(|s| s.privileged) == Some(true),
        capabilities: capability::of(container),
        changed_capabilities: capability::changes(container),
        no_new_privileges: security.and_then(|s| s.allow_privilege_escalation) == Some(false),
        confinement: confinement::of_container(pod, container),
        limits: limits(view, container),
        termination_message_path: match container.termination_message_path.as_str() {
            "" => "/dev/termination-log".to_owned(),
            path => path.to_owned(),
        },
        termination_message_from_logs: container.termination_message_policy
            == "FallbackToLogsOnError",
        stop_signal: stop_signal(container, &image.config)?,
        own_stop_signal: own_stop_signal(container).is_some(),
        tty: container.tty,
        stdin: container.stdin,
    };
    Ok(Configured { config, events })
}

/// `command` or `args` with its references to variables replaced.
fn expanded(list: &[String], env: &[(String, String)]) -> Vec<String> {
    list.iter().map(|arg| expand_list(arg, env)).collect()
}

/// What to run (containerd: `WithProcessArgs`): `command` replaces the image's entrypoint and its
/// `Cmd`, `args` only the `Cmd`.
fn argv(
    container: &Container,
    image: &Image,
    env: &[(String, String)],
) -> Result<Vec<String>, ConfigError> {
    let (mut argv, args) = match (container.command.as_slice(), container.args.as_slice()) {
        ([], []) => (image.config.entrypoint.clone(), image.config.cmd.clone()),
        ([], args) => (image.config.entrypoint.clone(), expanded(args, env)),
        (command, args) => (expanded(command, env), expanded(args, env)),
    };
    argv.extend(args);
    if argv.is_empty() {
        let hint = match image.is_bare_host() {
            true => {
                ": the image is the host's files and has no entrypoint, so the container needs a \
                     command"
            }
            false => ": the image has no entrypoint or cmd, and the container no command or args",
        };
        return Err(ConfigError::NoCommand(hint));
    }
    Ok(argv)
}

/// The whole environment: what containerd sets, then the image's, then the Pod's.
fn whole_env(image: &ImageConfig, own: Env, host_name: &str) -> Vec<(String, String)> {
    let mut env = Env::default();
    env.set("PATH", DEFAULT_PATH.to_owned());
    env.set("HOSTNAME", host_name.to_owned());
    let image = image.env.iter().cloned();
    for (name, value) in image.chain(own.into_list()) {
        env.set(&name, value);
    }
    env.into_list()
}

/// What `hostname` prints on this machine.
fn node_host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, written anew at every start as the kubelet
/// does. A CRI runtime makes the last two by itself, from the sandbox's configuration.
fn etc_mounts(
    request: &ContainerRequest<'_>,
    names: &etc::HostNames,
    read_only_root: bool,
    events: &mut Vec<(&'static str, String)>,
) -> Result<Vec<Mount>, ConfigError> {
    let pod = request.view.pod;
    let host_network = pod.spec.host_network;
    let aliases = &pod.spec.host_aliases;
    let hosts = if host_network {
        let node = fs::read_to_string("/etc/hosts").unwrap_or_default();
        etc::hosts_of_node(&node, aliases)
    } else {
        etc::hosts(request.view.pod_ips, names, aliases)
    };
    let mut files = vec![("etc-hosts", "/etc/hosts", hosts, false)];
    if !matches!(request.image.root, RootFs::Image(_)) {
        let host_name = if host_network { node_host_name() } else { names.kernel.clone() };
        let resolv_conf = etc::resolv_conf(pod, &etc::host_resolv_conf(host_network), events);
        files.extend([
            ("etc-hostname", "/etc/hostname", format!("{host_name}\n"), read_only_root),
            ("etc-resolv.conf", "/etc/resolv.conf", resolv_conf, read_only_root),
        ]);
    }
    files
        .into_iter()
        .map(|(name, target, text, read_only)| {
            let path = request.volumes.directory().join(name);
            write_public(&path, &text)
                .map_err(|source| ConfigError::File { path: path.clone(), source })?;
            Ok(Mount {
                source: MountSource::Bind(path),
                target: target.into(),
                read_only,
                below: Below::default(),
                propagation: Propagation::Private,
            })
        })
        .collect()
}

/// Writes a file that every user may read. In place, as running containers have it mounted, and only
/// if it changes: they must not find it empty for a moment whenever a sibling starts.
fn write_public(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// The image's `Volumes` under a read-only root: writable directories that go with the pod. Under a
/// writable root they are a part of it, which lives as long.
fn image_volumes(
    request: &ContainerRequest<'_>,
    mounts: &mut Vec<Mount>,
    events: &mut Vec<(&'static str, String)>,
) -> Result<(), ConfigError> {
    let container = request.container;
    let base = request.volumes.directory().join("image-volumes").join(&container.name);
    for (index, target) in request.image.config.volumes.iter().enumerate() {
        let target = Path::new("/").join(target);
        if mounts.iter().any(|mount| mount.target == target) {
            continue;
        }
        let path = base.join(format!("{}-{index}", request.instance.0));
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o777)))
            .map_err(|source| ConfigError::File { path: path.clone(), source })?;
        if has_content(&request.image.root, &target) {
            let message = format!(
                "container {}: what the image has in its volume {} is hidden, as its root is \
                 read-only; mount an emptyDir there and fill it in an init container",
                container.name,
                target.display()
            );
            events.push(("ImageVolumeHidden", message));
        }
        mounts.push(Mount {
            source: MountSource::Bind(path),
            target,
            read_only: false,
            below: Below::default(),
            propagation: Propagation::Private,
        });
    }
    Ok(())
}

fn has_content(root: &RootFs, path: &Path) -> bool {
    let RootFs::Layers(layers) = root else { return false };
    let relative = path.strip_prefix("/").unwrap_or(path);
    layers.iter().any(|layer| {
        fs::read_dir(layer.join(relative)).is_ok_and(|mut entries| entries.next().is_some())
    })
}

fn own_stop_signal(container: &Container) -> Option<&String> {
    container.lifecycle.as_ref()?.stop_signal.as_ref()
}

/// `lifecycle.stopSignal`, else the image's, else SIGTERM.
fn stop_signal(container: &Container, image: &ImageConfig) -> Result<i32, ConfigError> {
    match own_stop_signal(container).or(image.stop_signal.as_ref()) {
        Some(name) => signal_number(name).ok_or_else(|| ConfigError::StopSignal(name.clone())),
        None => Ok(SIGTERM),
    }
}
