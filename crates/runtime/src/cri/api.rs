//! The messages of the Container Runtime Interface, version 1, that Holdfast sends and reads.
//!
//! Written for Holdfast: only the messages and fields it needs, under the names and with the field
//! numbers of Kubernetes' `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`, where each is explained.
//! A field that is not here is skipped when it comes, and left at its default by the other side. By hand,
//! because to generate them takes protoc on each machine that builds this, or a copy of the file and
//! thousands of lines that nobody uses; field numbers of a stable API do not change.

#![allow(missing_docs, reason = "the names are the CRI's, and explained there")]

mod container;
mod image;
mod sandbox;

use std::collections::HashMap;

use prost::{Enumeration, Message};

pub use self::container::*;
pub use self::image::*;
pub use self::sandbox::*;

/// A request, with the method that takes it and the message that answers it.
pub trait Call: Message + Clone + Default + 'static {
    /// `/SERVICE/METHOD`.
    const PATH: &'static str;
    /// The answer; of a stream, each of them.
    type Answer: Message + Default + 'static;
}

macro_rules! calls {
    ($($service:literal { $($method:literal: $request:ident => $answer:ident,)* })*) => {
        $($(
            impl Call for $request {
                const PATH: &'static str = concat!("/runtime.v1.", $service, "/", $method);
                type Answer = $answer;
            }
        )*)*
    };
}

calls! {
    "RuntimeService" {
        "Version": VersionRequest => VersionResponse,
        "Status": StatusRequest => StatusResponse,
        "RuntimeConfig": RuntimeConfigRequest => RuntimeConfigResponse,
        "RunPodSandbox": RunPodSandboxRequest => RunPodSandboxResponse,
        "StopPodSandbox": StopPodSandboxRequest => Empty,
        "RemovePodSandbox": RemovePodSandboxRequest => Empty,
        "PodSandboxStatus": PodSandboxStatusRequest => PodSandboxStatusResponse,
        "ListPodSandbox": ListPodSandboxRequest => ListPodSandboxResponse,
        "CreateContainer": CreateContainerRequest => CreateContainerResponse,
        "StartContainer": StartContainerRequest => Empty,
        "StopContainer": StopContainerRequest => Empty,
        "RemoveContainer": RemoveContainerRequest => Empty,
        "ListContainers": ListContainersRequest => ListContainersResponse,
        "ContainerStatus": ContainerStatusRequest => ContainerStatusResponse,
        "ReopenContainerLog": ReopenContainerLogRequest => Empty,
        "ExecSync": ExecSyncRequest => ExecSyncResponse,
        "GetContainerEvents": GetEventsRequest => ContainerEventResponse,
    }
    "ImageService" {
        "ImageStatus": ImageStatusRequest => ImageStatusResponse,
        "PullImage": PullImageRequest => PullImageResponse,
    }
}

/// An answer that says nothing.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct VersionRequest {
    #[prost(string, tag = "1")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct VersionResponse {
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    #[prost(string, tag = "4")]
    pub runtime_api_version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {
    #[prost(bool, tag = "1")]
    pub verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    pub runtime_handlers: Vec<RuntimeHandler>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeCondition {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(bool, tag = "2")]
    pub status: bool,
    #[prost(string, tag = "3")]
    pub reason: String,
    #[prost(string, tag = "4")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeHandler {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub features: Option<RuntimeHandlerFeatures>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeHandlerFeatures {
    #[prost(bool, tag = "1")]
    pub recursive_read_only_mounts: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeConfigRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct RuntimeConfigResponse {
    #[prost(message, optional, tag = "1")]
    pub linux: Option<LinuxRuntimeConfiguration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxRuntimeConfiguration {
    #[prost(enumeration = "CgroupDriver", tag = "1")]
    pub cgroup_driver: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum CgroupDriver {
    Systemd = 0,
    Cgroupfs = 1,
}
