//! What a pod brings along: its images, volumes and container configurations, made when the engine
//! asks for them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_lifecycle::status::{InstanceId, Reason};
use holdfast_lifecycle::{ContainerId, StartStage};
use holdfast_manifest::object::Pod;
use holdfast_manifest::object::container::Container;

use crate::config::{self, ContainerRequest, Node, Objects, PodView};
use crate::contract::{
    ContainerConfig, HostPort, PullRequest, Runtime, SandboxConfig, StartError, User,
};
use crate::driver::spec_of;
use crate::image::{Image, ImageStore, PullPolicy};
use crate::volume::PodVolumes;

/// Where images come from.
#[derive(Clone, Debug)]
pub enum Images {
    /// Files of this machine.
    Here(Arc<ImageStore>),
    /// The runtime pulls them and keeps them ([`Runtime::pull`]).
    OfRuntime,
}

/// What all pods of one node have in common.
#[derive(Debug)]
pub struct Site {
    /// Where images come from.
    pub images: Images,
    /// ConfigMaps and Secrets.
    pub objects: Objects,
    /// The node as pods see it.
    pub node: Node,
    /// Where images and volumes are kept.
    pub state_dir: PathBuf,
    /// The fault `stale-subpath`.
    pub keep_sub_paths: bool,
    /// The minor version of Kubernetes 1.x.
    pub minor: u32,
    /// Whether processes can be given any groups (root outside of a user namespace).
    pub can_set_groups: bool,
    /// Whether pods share the host's network although they do not ask for it.
    pub host_network: bool,
}

/// The images, volumes and files of one pod.
#[derive(Debug)]
pub struct Assets {
    site: Rc<Site>,
    pod: Rc<Pod>,
    volumes: RefCell<Option<PodVolumes>>,
    images: RefCell<HashMap<ContainerId, Image>>,
}

impl Assets {
    /// Nothing is made before it is asked for.
    pub fn new(site: Rc<Site>, pod: Rc<Pod>) -> Self {
        Self { site, pod, volumes: RefCell::default(), images: RefCell::default() }
    }

    /// Sets all volumes up.
    pub(crate) async fn mount_volumes(&self) -> Result<(), String> {
        let uid = &self.pod.metadata.uid;
        let mut volumes = self.volumes.borrow_mut();
        let volumes = match &mut *volumes {
            Some(volumes) => volumes,
            none => {
                let site = &self.site;
                let made = PodVolumes::new(&site.state_dir, uid, site.keep_sub_paths);
                let dir = site.state_dir.display();
                none.insert(made.map_err(|e| format!("cannot use the state directory {dir}: {e}"))?)
            }
        };
        volumes.prepare(self.view(&[]), &self.site.objects).map_err(|e| e.to_string())
    }

    fn view<'a>(&'a self, pod_ips: &'a [IpAddr]) -> PodView<'a> {
        PodView { pod: &self.pod, node: &self.site.node, pod_ips }
    }

    /// The sandbox that the pod asks for, and what should be said about it.
    pub(crate) fn sandbox(&self, attempt: u32) -> (SandboxConfig, Vec<String>) {
        let (spec, meta) = (&self.pod.spec, &self.pod.metadata);
        let host_network = spec.host_network || self.site.host_network;
        // Where images are files, containers are given a resolver's file each, and the notes with it.
        let (dns, notes) = match self.site.images {
            Images::Here(_) => Default::default(),
            Images::OfRuntime => config::pod_dns(&self.pod),
        };
        let notes = notes.iter().map(|(why, text)| format!("{}: {why}: {text}", meta.name));
        let host_ports = spec
            .init_containers
            .iter()
            .filter(|c| c.restart_policy.is_some())
            .chain(&spec.containers)
            .flat_map(|c| &c.ports)
            .filter(|p| p.host_port != 0)
            .filter_map(|p| {
                Some(HostPort {
                    host: u16::try_from(p.host_port).ok()?,
                    container: u16::try_from(p.container_port).ok()?,
                    udp: p.protocol == "UDP",
                    ip: p.host_ip.parse().ok(),
                })
            })
            .collect();
        let security = spec.security_context.as_ref();
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        let groups = security.map(|s| s.fs_group.iter().chain(&s.supplemental_groups));
        let config = SandboxConfig {
            pod: meta.uid.as_str().into(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: meta.annotations.clone(),
            attempt,
            hostname: config::host_names(&self.pod)
                .ok()
                .filter(|_| !spec.host_network)
                .map(|names| names.kernel),
            host_network,
            host_pid: spec.host_pid,
            containers: spec.init_containers.len() + spec.containers.len(),
            host_ipc: spec.host_ipc,
            share_process_namespace: spec.share_process_namespace == Some(true),
            host_ports,
            cpu_request_milli: config::pod_cpu_request(spec),
            dns,
            sysctls: security
                .iter()
                .flat_map(|s| &s.sysctls)
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
            runtime_handler: spec.runtime_class_name.clone().unwrap_or_default(),
            privileged: self
                .containers()
                .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true)),
            user: User {
                uid: id(security.and_then(|s| s.run_as_user)),
                gid: id(security.and_then(|s| s.run_as_group)),
                groups: groups.into_iter().flatten().filter_map(|&gid| id(Some(gid))).collect(),
                name: None,
            },
            confinement: config::pod_confinement(&self.pod),
            directory: self
                .volumes
                .borrow()
                .as_ref()
                .map(|volumes| volumes.directory().to_owned())
                .unwrap_or_default(),
        };
        (config, notes.collect())
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.pod.spec;
        spec.init_containers.iter().chain(&spec.containers).chain(&spec.ephemeral_containers)
    }

    /// The address of a pod that shares the host's network: where its servers are reached from here.
    pub(crate) fn fallback_address(&self) -> Option<IpAddr> {
        match self.site.images {
            Images::Here(_) => self.site.host_network.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            // kubelet: `generateAPIPodStatus` takes the node's.
            Images::OfRuntime if self.pod.spec.host_network => self.site.node.ips.first().copied(),
            Images::OfRuntime => None,
        }
    }

    /// When the image of a container is pulled.
    pub(crate) fn pull_policy(&self, id: ContainerId) -> Option<PullPolicy> {
        spec_of(&self.pod, id).and_then(|spec| PullPolicy::parse(&spec.image_pull_policy))
    }

    /// Gets the image of a container; its `imageID` if it is there.
    pub(crate) async fn pull(
        &self,
        id: ContainerId,
        runtime: &impl Runtime,
    ) -> Result<String, (Reason, String)> {
        let Some(spec) = spec_of(&self.pod, id) else {
            return Err(("ErrImagePull".into(), "the pod has no such container".into()));
        };
        let image = spec.image.clone();
        let policy = PullPolicy::parse(&spec.image_pull_policy).unwrap_or_default();
        let pulled = match &self.site.images {
            Images::OfRuntime => {
                let pod = self.pod.metadata.uid.as_str().into();
                let request = PullRequest { pod, image, policy, secrets: self.pull_secrets() };
                Ok(runtime.pull(&request).await)
            }
            Images::Here(images) => {
                let images = Arc::clone(images);
                let quick = images.is_quick(&image);
                let pull = move || images.pull(&image, policy);
                if quick { Ok(pull()) } else { tokio::task::spawn_blocking(pull).await }
            }
        };
        match pulled {
            Ok(Ok(image)) => {
                let image_id = image.id.clone();
                self.images.borrow_mut().insert(id, image);
                Ok(image_id)
            }
            Ok(Err(e)) => Err((e.reason, e.message)),
            Err(e) => Err(("ErrImagePull".into(), format!("reading the image failed: {e}"))),
        }
    }

    /// The pod's `imagePullSecrets` that are there.
    fn pull_secrets(&self) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
        let namespace = &self.pod.metadata.namespace;
        let secret = |name: &str| self.site.objects.secret(namespace, name).ok();
        self.pod
            .spec
            .image_pull_secrets
            .iter()
            .filter_map(|reference| secret(&reference.name))
            .map(|secret| {
                let data = secret.data.iter().map(|(key, value)| (key.clone(), value.0.clone()));
                (secret.kind_of_secret.clone(), data.collect())
            })
            .collect()
    }

    /// What should be said about the `imagePullSecrets` that are not there, in the kubelet's words.
    pub(crate) fn missing_pull_secrets(&self) -> Option<String> {
        let meta = &self.pod.metadata;
        let missing: Vec<&str> = self
            .pod
            .spec
            .image_pull_secrets
            .iter()
            .map(|reference| reference.name.as_str())
            .filter(|name| self.site.objects.secret(&meta.namespace, name).is_err())
            .collect();
        (matches!(self.site.images, Images::OfRuntime) && !missing.is_empty()).then(|| {
            format!(
                "{}: FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets \
                 ({}); attempting to pull the image may not succeed.",
                meta.name,
                missing.join(", ")
            )
        })
    }

    /// Everything that the start of a container needs, and what should be said about it.
    pub(crate) fn config(
        &self,
        id: ContainerId,
        instance: InstanceId,
        restart_count: u32,
        address: Option<IpAddr>,
    ) -> Result<(ContainerConfig, Vec<String>), StartError> {
        let error =
            |message: &str| StartError { stage: StartStage::Config, message: message.into() };
        let images = self.images.borrow();
        let volumes = self.volumes.borrow();
        let container = spec_of(&self.pod, id).ok_or_else(|| error("no such container"))?;
        let image = images.get(&id).ok_or_else(|| error("the image was not read"))?;
        let volumes = volumes.as_ref().ok_or_else(|| error("the volumes are not set up"))?;
        let addresses = match address {
            Some(ip) => vec![ip],
            None => self.site.node.ips.clone(),
        };
        let configured = config::container_config(&ContainerRequest {
            view: self.view(&addresses),
            container,
            image,
            objects: &self.site.objects,
            volumes,
            instance,
            restart_count,
            kubernetes_minor: self.site.minor,
            can_set_groups: self.site.can_set_groups,
        })?;
        let name = &container.name;
        let notes = configured.events.iter().map(|(why, text)| format!("{name}: {why}: {text}"));
        Ok((configured.config, notes.collect()))
    }

    /// Whether some volume has a `sizeLimit`.
    pub(crate) fn has_limits(&self) -> bool {
        self.volumes.borrow().as_ref().is_some_and(PodVolumes::has_limits)
    }

    /// The message of the eviction, if a volume has grown over its `sizeLimit`.
    pub(crate) fn over_limit(&self) -> Option<String> {
        self.volumes.borrow().as_ref()?.over_limit()
    }

    /// Removes what was made on disk.
    pub(crate) fn clean_up(&self) -> Result<(), String> {
        let name = &self.pod.metadata.name;
        match self.volumes.borrow_mut().take() {
            Some(volumes) => volumes
                .remove()
                .map_err(|e| format!("{name}: cannot remove the pod's directory: {e}")),
            None => Ok(()),
        }
    }
}
