//! The arithmetic of probes (kubelet: `prober/worker.go`).
//!
//! A worker ticks every `periodSeconds`, at a phase that nothing fixes; a tick counts once
//! `initialDelaySeconds` have passed since the start of the container. So the first probe that counts
//! comes in [initialDelay, initialDelay + period), and `failureThreshold` failures in a row end at
//! initialDelay + (failureThreshold - 1) * period at the earliest, and a period and an answer's timeout
//! later at the latest. A probe that takes longer than a period moves the next one to its end.

use std::time::Duration;

use holdfast_lifecycle::Probe;

use super::Chance;
use crate::span::Span;

/// From the start of the container until the probe has killed it, if nothing ever answers. `from` is
/// from when on the probe runs at all.
pub(super) fn kill_window(probe: &Probe, from: Span) -> Span {
    let first = from.not_before(probe.initial_delay);
    let failures = probe.failure_threshold.max(1);
    Span {
        min: first.min.saturating_add(probe.period.saturating_mul(failures - 1)),
        max: first.max.map(|m| m + step(probe).saturating_mul(failures) + probe.timeout),
    }
}

/// From the start of the container until the probe has passed, if it passes from `ready` on. `from` is
/// from when on the probe runs at all.
pub(super) fn passes(probe: &Probe, ready: Span, from: Span) -> Span {
    let possible = ready.and(from).not_before(probe.initial_delay);
    let answers = probe.success_threshold.max(1);
    Span {
        min: possible.min,
        max: possible.max.map(|m| m + step(probe).saturating_mul(answers) + probe.timeout),
    }
}

/// Whether the probe kills a container that it passes from `ready` on.
pub(super) fn chance(window: Span, ready: Option<Span>) -> Chance {
    match ready {
        None => Chance::Certain,
        Some(ready) if ready.max.is_some_and(|max| max <= window.min) => Chance::Excluded,
        Some(ready) if window.is_before(ready.min) => Chance::Certain,
        Some(_) => Chance::Possible,
    }
}

/// From one probe to the next, at most.
fn step(probe: &Probe) -> Duration {
    probe.period.max(probe.timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(delay: u64, period: u64, failures: u32) -> Probe {
        Probe {
            initial_delay: Duration::from_secs(delay),
            period: Duration::from_secs(period),
            failure_threshold: failures,
            ..Probe::default()
        }
    }

    /// The manager of Netmaker's operator: 105 s are granted for certain.
    #[test]
    fn what_a_startup_probe_grants() {
        let window = kill_window(&probe(10, 5, 20), Span::ZERO);
        assert_eq!(window, Span::new(Duration::from_secs(105), Duration::from_secs(111)));
        let at = |secs| Some(Span::exactly(Duration::from_secs(secs)));
        assert_eq!(chance(window, at(105)), Chance::Excluded);
        assert_eq!(chance(window, at(106)), Chance::Possible);
        assert_eq!(chance(window, at(111)), Chance::Possible);
        assert_eq!(chance(window, at(112)), Chance::Certain);
        assert_eq!(chance(window, Some(Span::ANY)), Chance::Possible);
        assert_eq!(chance(window, None), Chance::Certain);
    }

    #[test]
    fn when_a_probe_passes() {
        let secs = Duration::from_secs;
        let passes = |ready, from| passes(&probe(5, 1, 5), ready, from);
        assert_eq!(passes(Span::exactly(secs(5)), Span::ZERO), Span::new(secs(5), secs(7)));
        assert_eq!(passes(Span::exactly(secs(2)), Span::ZERO), Span::new(secs(5), secs(7)));
        assert_eq!(passes(Span::new(secs(2), secs(9)), Span::ZERO), Span::new(secs(5), secs(11)));
        assert_eq!(passes(Span::ANY, Span::ZERO), Span { min: secs(5), max: None });
        let hook = Span::new(secs(7), secs(8));
        assert_eq!(passes(Span::ZERO, hook), Span::new(secs(7), secs(10)));
    }
}
