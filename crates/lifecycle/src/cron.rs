//! CronJobs: when a schedule fires, and what the controller does about it.
//!
//! Two layers, both pure:
//! - [`Schedule`] reads the schedules Kubernetes accepts (robfig/cron v3, `ParseStandard`) and says
//!   when one fires next, with that library's behaviour around daylight saving time;
//! - [`CronJob`] decides what the CronJob controller would decide: which Job to create or delete,
//!   which events to record, and when to look again.
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
pub use controller::{Action, CreateError, CronJob, Sync};
pub use error::{ParseError, ScheduleError, ZoneError};
pub use missed::{
    InvalidSchedule, Missed, Recent, most_recent_schedule_time, next_schedule_time, requeue_time,
};
pub use schedule::Schedule;
pub use spec::{ChildJob, ConcurrencyPolicy, CronJobSpec, CronJobStatus, Finished, job_name};
pub use zone::{validate_time_zone, zone};
