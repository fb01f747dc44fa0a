//! The clocks: one to measure by, one to write down; and dice.

use std::hash::{BuildHasher, Hasher, RandomState};

use holdfast_election::{Now, Time, Wall};
use rustix::time::{ClockId, clock_gettime};

/// The steady clock that goes on while the machine is suspended: a leader that wakes up has to know that
/// its time is over.
pub(super) fn now() -> Time {
    let at = clock_gettime(ClockId::Boottime);
    // It counts from the start of the machine: never negative, and nanoseconds fit for five centuries.
    let (seconds, nanos) = (u64::try_from(at.tv_sec), u64::try_from(at.tv_nsec));
    Time::from_nanos(seconds.unwrap_or_default() * 1_000_000_000 + nanos.unwrap_or_default())
}

/// What the machine is given with each input.
pub(super) fn moment() -> Now {
    Now { time: now(), wall: Wall(jiff::Timestamp::now().as_microsecond()), chance: chance() }
}

/// From 0 to 1. The standard library's hash keys are random, and differ from call to call: enough to keep
/// replicas from asking in step.
fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_dice_fall() {
        let before = now();
        let chances: Vec<f64> = (0..100).map(|_| moment().chance).collect();
        assert!(now() > before);
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)), "{chances:?}");
        assert!(chances.iter().any(|chance| *chance < 0.5));
        assert!(chances.iter().any(|chance| *chance > 0.5));
    }
}
