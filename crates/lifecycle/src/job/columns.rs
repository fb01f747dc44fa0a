//! The columns of `kubectl get jobs` (pkg/printers/internalversion: printJob), and how kubectl
//! shows spans of time.

use std::time::Duration;

use super::condition::JobConditionKind;
use super::engine::Job;
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

/// How kubectl shows a span of time (apimachinery: duration.HumanDuration).
pub(crate) fn human_duration(span: Duration) -> String {
    let secs = span.as_secs();
    let (minutes, hours) = (secs / 60, secs / 3_600);
    let two = |a: u64, unit: char, b: u64, small: char| match b {
        0 => format!("{a}{unit}"),
        _ => format!("{a}{unit}{b}{small}"),
    };
    let days = hours / 24;
    match hours {
        _ if secs < 120 => format!("{secs}s"),
        _ if minutes < 10 => two(minutes, 'm', secs % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2_920 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// The time passed since something, as kubectl shows it.
pub(crate) fn age(since: Time, now: Time) -> String {
    human_duration(now.since(since))
}
