//! The one clock of the drivers: Unix time that never runs backwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_lifecycle::Time;
use tokio::time::Instant;

/// Sleeps until then, or for ever.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Unix time at the start plus monotonic time since: steps of the system's clock do not show.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    unix: Time,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: Instant::now(), unix: Time::ZERO + unix }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.unix + self.started.elapsed()
    }

    /// When the clock was started.
    pub const fn origin(&self) -> Time {
        self.unix
    }

    /// The instant of a time, for timers.
    pub fn instant(&self, time: Time) -> Instant {
        self.started + time.since(self.unix)
    }
}
