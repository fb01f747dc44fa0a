//! The columns of `kubectl get cronjobs` (pkg/printers/internalversion: printCronJob).

use super::controller::CronJob;
use crate::job::age;
use crate::time::Time;

/// The titles of the columns, in order.
pub const HEADER: [&str; 7] =
    ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"];

/// One row, in the order of [`HEADER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub [String; 7]);

impl CronJob {
    /// The row kubectl prints for it at this time.
    pub fn columns(&self, now: Time) -> Columns {
        let (spec, status) = (self.spec(), self.status());
        Columns([
            spec.name.to_string(),
            spec.schedule.to_string(),
            spec.time_zone.as_deref().unwrap_or("<none>").to_owned(),
            if spec.suspend { "True" } else { "False" }.to_owned(),
            status.active.len().to_string(),
            status.last_schedule.map_or_else(|| "<none>".to_owned(), |t| age(t, now)),
            age(self.created(), now),
        ])
    }
}
