//! Jobs: which pods to create and delete, and when the Job is over.
//!
//! The rules of Kubernetes' Job controller (pkg/controller/job) as a state machine without clock and
//! IO, with the same door as the pod's engine:
//!
//! ```
//! use holdfast_lifecycle::Time;
//! use holdfast_lifecycle::job::{Job, JobInput, JobOutput, JobSpec};
//!
//! let now = Time::from_secs(1_700_000_000);
//! let mut job = Job::new(JobSpec::new("default", "pi"), 36, now);
//! job.handle(now, JobInput::Tick);
//! let mut created = None;
//! while let Some(output) = job.poll() {
//!     if let JobOutput::CreatePod(pod) = output {
//!         created = Some(pod);
//!     }
//! }
//! let pod = created.expect("a job starts with its pods");
//! assert_eq!(pod.generate_name, "pi-");
//! job.handle(now, JobInput::PodCreated { pod: pod.id, name: "pi-x7k2c".into() });
//! assert_eq!(job.status().active, 1);
//! ```
//!
//! What the real controller needs because it talks to a server through caches (finalizers,
//! `uncountedTerminatedPods`, expectations, batches of at most 500, a second between two looks) is
//! not here: a pod counts from the moment its creation is asked for, and is counted once.

mod backoff;
mod columns;
mod condition;
mod engine;
mod failure_policy;
mod indexes;
mod manage;
mod names;
mod pod;
mod spec;
mod success_policy;
mod sync;

pub use backoff::{Backoff, remaining};
pub(crate) use columns::age;
pub use columns::{Columns, HEADER};
pub use condition::{JobCondition, JobConditionKind, JobReason, JobStatus};
pub use engine::{Job, JobInput, JobOutput, NewPod, PodId};
pub use failure_policy::{FailureMatch, match_failure_policy};
pub use indexes::Indexes;
pub use names::{RANDOM_CHARS, generate_name, hostname, random_suffix};
pub use pod::{PodSummary, finish_time};
pub use spec::{
    Action, CompletionMode, ExitCodes, FailureRule, JobSpec, On, PodCondition, PodReplacement,
    SuccessRule,
};
pub use success_policy::match_success_policy;
