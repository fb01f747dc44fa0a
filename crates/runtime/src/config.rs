//! What a container is started with: command, environment, user, security, mounts, limits.
//!
//! [`container_config`] does for one start what the kubelet and its runtime do between them, with
//! Kubernetes' rules and messages. Fields that cannot be honoured are listed by [`unsupported()`] before
//! anything runs, those that do less than in a cluster by [`notices`]; none is ignored in silence.
//!
//! There is no cluster around the pod, so it has no Services (no `…_SERVICE_HOST` variables, and
//! `KUBERNETES_SERVICE_HOST` neither), no service account token, and `dnsPolicy: ClusterFirst` means
//! the host's resolvers, as on a kubelet without `clusterDNS`.

mod capability;
mod confinement;
mod container;
mod downward;
mod env;
mod etc;
mod expansion;
mod node;
mod objects;
mod oom_score;
mod resources;
mod signal;
mod unsupported;
mod user;

pub(crate) use confinement::of_pod as pod_confinement;
pub use container::{ConfigError, Configured, ContainerRequest, container_config};
pub use downward::{DownwardError, PodView};
pub use env::EnvError;
pub(crate) use etc::pod_dns;
pub use etc::{HostNameError, HostNames, host_names};
pub use expansion::expand;
pub(crate) use expansion::expand_sub_path;
pub use node::{Allocatable, Node};
pub use objects::{NotFound, Objects};
pub(crate) use resources::{pod_cpu_request, pod_total};
pub use signal::{SIGTERM, signal_number};
pub use unsupported::{Finding, RunBy, notices, unsupported, unsupported_workload};
pub use user::UserError;
