//! Exponential back-off of restarts and image pulls (spec A7; kubelet: `doBackOff`, client-go:
//! `flowcontrol.Backoff`). There is no jitter.

use std::sync::Arc;
use std::time::Duration;

use crate::options::BackOffLimits;
use crate::time::Time;

/// The back-off of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    entry: Option<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    image: Arc<str>,
    resources: u64,
    wait: Duration,
    updated: Time,
}

/// An entry is forgotten when the container ran this long (kubelet: `2 * MaxContainerBackOff` of the
/// default limits, whatever the configured maximum is).
const FORGET_AFTER: Duration = Duration::from_secs(600);

impl BackOff {
    /// Whether a container that ended at `finished` may be started at `now`. If it may, the next
    /// wait is doubled.
    ///
    /// # Errors
    /// The length of the back-off that is not over.
    pub fn start(
        &mut self,
        now: Time,
        finished: Time,
        image: &Arc<str>,
        resources: u64,
        limits: BackOffLimits,
    ) -> Result<(), Duration> {
        let current = self
            .entry
            .as_ref()
            .filter(|e| *e.image == **image && e.resources == resources)
            .filter(|e| finished.since(e.updated) <= FORGET_AFTER);
        let wait = match current {
            Some(entry) if now.since(finished) < entry.wait => return Err(entry.wait),
            Some(entry) => (entry.wait * 2).min(limits.max),
            None => limits.initial.min(limits.max),
        };
        self.entry = Some(Entry { image: Arc::clone(image), resources, wait, updated: now });
        Ok(())
    }

    /// Whether a pull of `image` may be tried at `now` (client-go: `IsInBackOffSinceUpdate`).
    pub fn pull_allowed_at(&self, image: &Arc<str>) -> Option<Time> {
        self.entry.as_ref().filter(|e| *e.image == **image).map(|e| e.updated + e.wait)
    }

    /// A pull of `image` failed at `now`: the next wait doubles.
    pub fn pull_failed(&mut self, now: Time, image: &Arc<str>, limits: BackOffLimits) {
        let wait = match self.entry.as_ref().filter(|e| *e.image == **image) {
            Some(e) if now.since(e.updated) <= FORGET_AFTER => (e.wait * 2).min(limits.max),
            _ => limits.initial,
        };
        self.entry = Some(Entry { image: Arc::clone(image), resources: 0, wait, updated: now });
    }

    /// Forgets everything (a pull succeeded).
    pub fn reset(&mut self) {
        self.entry = None;
    }
}

/// A duration as Go prints it (`10s`, `2m40s`, `1.5s`), because messages contain it.
pub fn go_duration(d: Duration) -> String {
    if d.is_zero() {
        return "0s".into();
    }
    if d < Duration::from_secs(1) {
        let nanos = d.as_nanos();
        return match nanos {
            0..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", trimmed(nanos, 1_000)),
            _ => format!("{}ms", trimmed(nanos, 1_000_000)),
        };
    }
    let secs = d.as_secs();
    let (h, m) = (secs / 3600, secs / 60 % 60);
    let s = trimmed(
        u128::from(secs % 60) * 1_000_000_000 + u128::from(d.subsec_nanos()),
        1_000_000_000,
    );
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

/// `value / unit` as a decimal fraction without trailing zeros.
fn trimmed(value: u128, unit: u128) -> String {
    let rest = value % unit;
    if rest == 0 {
        return (value / unit).to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{}.{}", value / unit, fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_like_go() {
        for (d, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(160), "2m40s"),
            (Duration::from_secs(300), "5m0s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_secs(3661), "1h1m1s"),
            (Duration::from_micros(1500), "1.5ms"),
        ] {
            assert_eq!(go_duration(d), text);
        }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_reset_after_a_long_run() {
        let limits = BackOffLimits::default();
        let image: Arc<str> = "a".into();
        let mut b = BackOff::default();
        let mut t = Time::ZERO;
        // The first start after an exit is free.
        assert_eq!(b.start(t, t, &image, 0, limits), Ok(()));
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            let wait = Duration::from_secs(wait);
            assert_eq!(b.start(t, t, &image, 0, limits), Err(wait));
            assert_eq!(
                b.start(t + wait - Duration::from_nanos(1), t, &image, 0, limits),
                Err(wait)
            );
            let at = t + wait;
            assert_eq!(b.start(at, t, &image, 0, limits), Ok(()));
            t = at;
        }
        // A run of more than ten minutes forgets.
        let end = t + Duration::from_secs(601);
        assert_eq!(b.start(end, end, &image, 0, limits), Ok(()));
        assert_eq!(b.start(end, end, &image, 0, limits), Err(Duration::from_secs(10)));
        // Another image is another key.
        assert_eq!(b.start(end, end, &"b".into(), 0, limits), Ok(()));
    }
}
