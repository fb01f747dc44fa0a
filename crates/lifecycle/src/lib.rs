//! The life of a Kubernetes Pod as a pure state machine.
//!
//! The engine takes inputs (a container started, exited; a probe answered; time passed; delete) and
//! gives outputs (start, stop, probe, wait until). It has no clock, no socket and no async, and makes
//! the decisions the kubelet makes, in the kubelet's order.

pub mod cron;
pub mod event;
pub mod job;
pub mod plan;
pub mod status;
pub mod time;

pub use event::{Event, Input, Output, ProbeResult, StartStage};
pub use plan::{Container, ContainerId, HookKind, Kind, Plan, Probe, ProbeKind, RestartPolicy};
pub use status::{InstanceId, Phase, PodStatus};
pub use time::Time;
