//! The life of a Kubernetes Pod as a pure state machine.
//!
//! The engine takes inputs (a container started, exited; a probe answered; time passed; delete) and
//! gives outputs (start, stop, probe, wait until). It has no clock, no socket and no async, and makes
//! the decisions the kubelet makes, in the kubelet's order.
//!
//! ```
//! # use holdfast_lifecycle::{*, plan::*};
//! # let plan = Plan { namespace: "default".into(), name: "web".into(), uid: "1".into(),
//! #     restart_policy: RestartPolicy::Never, termination_grace: std::time::Duration::from_secs(30),
//! #     active_deadline: None, host_network: true, readiness_gates: vec![],
//! #     containers: vec![Container::new("app", Kind::Regular, "host")] };
//! let mut pod = Lifecycle::new(plan, Options::default(), Time::ZERO);
//! while let Some(output) = pod.poll() {
//!     match output {
//!         Output::MountVolumes => pod.handle(Time::ZERO, Input::VolumesMounted),
//!         Output::CreateSandbox { attempt } => {
//!             pod.handle(Time::ZERO, Input::SandboxCreated { attempt, ip: None });
//!         }
//!         Output::Pull { container } => {
//!             pod.handle(Time::ZERO, Input::Pulled { container, image_id: String::new() });
//!         }
//!         Output::Start { instance, .. } => {
//!             pod.handle(Time::ZERO, Input::Started { instance });
//!             let (code, reason, message) = (0, None, String::new());
//!             pod.handle(Time::from_secs(1), Input::Exited { instance, code, reason, message });
//!         }
//!         _ => {}
//!     }
//! }
//! assert_eq!(pod.status().phase, Phase::Succeeded);
//! ```
//!
//! | module | what is there |
//! |---|---|
//! | [`plan`], [`options`] | what the engine is told of a pod, and which Kubernetes it imitates |
//! | [`event`], [`fault`] | inputs and outputs, and what drivers break on purpose |
//! | [`engine`] | the pod worker |
//! | [`order`], [`progress`] | what the start of a container waits for, and what became of it |
//! | [`actions`], [`restart`], [`backoff`], [`probe`] | the decisions, as pure functions |
//! | [`job`], [`cron`] | the controllers of Jobs and CronJobs, in the same manner |
//! | [`status`], [`statuses`], [`phase`], [`conditions`], [`columns`] | what others see of it |

#![forbid(unsafe_code)]

pub mod actions;
pub mod backoff;
pub mod columns;
pub mod conditions;
pub mod cron;
pub mod engine;
pub mod event;
pub mod fault;
pub mod job;
mod message;
pub mod options;
pub mod order;
pub mod phase;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod restart;
mod scope;
mod set;
pub mod status;
pub mod statuses;
pub mod time;
pub mod view;

pub use engine::{Lifecycle, Timer};
pub use event::{Event, Input, Output, ProbeResult, StartStage};
pub use options::{Features, Options};
pub use plan::{Container, ContainerId, HookKind, Kind, Plan, Probe, ProbeKind, RestartPolicy};
pub use status::{InstanceId, Phase, PodStatus};
pub use time::Time;
