//! Instants that the caller supplies; nothing here reads a clock.

use std::ops::Add;
use std::time::Duration;

/// An instant of the caller's own steady clock, counted from an origin that it chooses once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// So long after the origin.
    #[must_use]
    pub const fn after_origin(passed: Duration) -> Self {
        Self(passed)
    }

    /// The time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}
