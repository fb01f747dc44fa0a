//! CronJobs: when a schedule fires, and what the controller does about it.
//!
//! Two layers, both pure:
//! - [`Schedule`] reads the schedules Kubernetes accepts (robfig/cron v3, `ParseStandard`) and says
//!   when one fires next, with that library's behaviour around daylight saving time;
//! - [`CronJob`] decides what the CronJob controller would decide: which Job to create or delete,
//!   which events to record, and when to look again.
//!
//! ```
//! use holdfast_lifecycle::Time;
//! use holdfast_lifecycle::cron::{Action, CronJob, CronJobSpec};
//!
//! let created = Time::from_secs(1_700_000_000); // 14 November 2023, 22:13:20 UTC
//! let mut cron_job = CronJob::new(CronJobSpec::new("hello", "30 * * * *"), created);
//! let decision = cron_job.sync(created, &[]);
//! assert!(decision.actions.is_empty());
//! let wake = decision.wake.expect("the schedule fires again"); // 22:30:00.1
//! let decision = cron_job.sync(wake, &[]);
//! assert!(matches!(&decision.actions[0],
//!     Action::CreateJob { name, .. } if &**name == "hello-28333350"));
//! ```
//!
//! Time is a parameter everywhere, in nanoseconds since the Unix epoch ([`crate::Time`]). Time zones
//! come from the database compiled into the program, never from the machine.

mod bounds;
mod columns;
mod controller;
mod duration;
mod error;
mod missed;
mod parse;
mod schedule;
mod spec;
mod zone;

pub use columns::{Columns, HEADER};
pub use controller::{Action, CreateError, CronJob, Decision};
pub use error::{ParseError, ScheduleError, ZoneError};
pub use missed::{
    InvalidSchedule, Missed, Recent, most_recent_schedule_time, next_schedule_time, requeue_time,
};
pub use schedule::Schedule;
pub use spec::{ChildJob, ConcurrencyPolicy, CronJobSpec, CronJobStatus, Finished, job_name};
pub use zone::{validate_time_zone, zone};
