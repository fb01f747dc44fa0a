//! The columns of `kubectl get jobs` (pkg/printers/internalversion: printJob).

use super::condition::JobConditionKind;
use super::engine::Job;
use crate::columns::human_duration;
use crate::time::Time;

/// The titles of the columns, in order.
pub const HEADER: [&str; 5] = ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"];

/// One row, in the order of [`HEADER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub [String; 5]);

impl Job {
    /// The row kubectl prints for it at this time.
    pub fn columns(&self, now: Time) -> Columns {
        let (spec, status) = (self.spec(), self.status());
        let completions = match (spec.completions, spec.parallelism) {
            (Some(wanted), _) => format!("{}/{wanted}", status.succeeded),
            (None, parallelism @ 2..) => format!("{}/1 of {parallelism}", status.succeeded),
            (None, _) => format!("{}/1", status.succeeded),
        };
        let end = status.completion_time.unwrap_or(now);
        Columns([
            spec.name.to_string(),
            self.status_word().to_owned(),
            completions,
            status.start_time.map_or_else(String::new, |start| age(start, end)),
            age(self.created(), now),
        ])
    }

    /// The word in column STATUS.
    pub fn status_word(&self) -> &'static str {
        use JobConditionKind::{Complete, Failed, FailureTarget, SuccessCriteriaMet, Suspended};
        let is = |kind: &JobConditionKind| self.status().is_true(*kind);
        let first = |kinds: &[JobConditionKind]| kinds.iter().find(|k| is(k)).map(|k| k.as_str());
        let over = first(&[Complete, Failed]);
        let deleting = || self.is_deleting().then_some("Terminating");
        let on_the_way = || first(&[Suspended, FailureTarget, SuccessCriteriaMet]);
        over.or_else(deleting).or_else(on_the_way).unwrap_or("Running")
    }
}

/// The time passed since something, as kubectl shows it.
pub(crate) fn age(since: Time, now: Time) -> String {
    human_duration(now.since(since).as_secs())
}
