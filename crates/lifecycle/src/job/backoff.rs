//! How long a failed pod delays the next (pkg/controller/job/backoff_utils.go).

use std::time::Duration;

use super::pod::{PodSummary, finish_time};
use crate::time::Time;

/// The delay after the first failure (DefaultJobPodFailureBackOff).
const FIRST: Duration = Duration::from_secs(10);
/// The longest delay (MaxJobPodFailureBackOff).
const LONGEST: Duration = Duration::from_secs(600);

/// The failures of a Job since its last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// How many pods failed since then.
    pub failures: u32,
    /// When the last of them ended.
    pub last_failure: Option<Time>,
}

impl Backoff {
    /// Takes the pods that ended since the last look, by the times they ended (newBackoffRecord).
    #[must_use]
    pub fn after(self, succeeded: &[Time], failed: &[Time]) -> Self {
        let Some(success) = succeeded.iter().max() else {
            let count = u32::try_from(failed.len()).unwrap_or(u32::MAX);
            return Self {
                failures: self.failures.saturating_add(count),
                last_failure: failed.iter().max().copied().or(self.last_failure),
            };
        };
        let since = failed.iter().filter(|t| *t > success);
        Self {
            failures: u32::try_from(since.clone().count()).unwrap_or(u32::MAX),
            last_failure: since.max().copied(),
        }
    }

    /// When the next pod may be created; `None` is at once.
    pub(super) fn until(self, now: Time) -> Option<Time> {
        later(now, remaining(now, self.failures, self.last_failure, FIRST, LONGEST))
    }
}

/// When the pod that replaces this one within its index may be created; `None` is at once
/// (getRemainingTimePerIndex). Ignored failures delay too.
pub(super) fn until_for_index(now: Time, failed: Option<&PodSummary>) -> Option<Time> {
    let pod = failed?;
    let failures = pod.failures.saturating_add(pod.ignored_failures).saturating_add(1);
    later(now, remaining(now, failures, Some(finish_time(pod)), FIRST, LONGEST))
}

fn later(now: Time, wait: Duration) -> Option<Time> {
    (!wait.is_zero()).then(|| now + wait)
}

/// The time left after so many failures in a row, the last of them at `last`: `first` doubled with
/// each failure but the first, at most `longest` (getRemainingTimeForFailuresCount).
pub fn remaining(
    now: Time,
    failures: u32,
    last: Option<Time>,
    first: Duration,
    longest: Duration,
) -> Duration {
    let (Some(last), Some(doublings)) = (last, failures.checked_sub(1)) else {
        return Duration::ZERO;
    };
    let delay = if doublings == 0 {
        first
    } else {
        2_u32.checked_pow(doublings).map_or(longest, |n| first.saturating_mul(n).min(longest))
    };
    // A failure in the future (clocks differ) delays by as much more.
    (delay + last.since(now)).saturating_sub(now.since(last))
}
