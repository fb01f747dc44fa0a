//! Schedules and CronJobs against the tables of robfig/cron and of Kubernetes, and by properties.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod controller;
mod history;
mod missed;
mod next;
mod parse;
mod properties;

use holdfast_lifecycle::Time;
use jiff::Timestamp;

/// The moment of an RFC 3339 text.
fn at(text: &str) -> Time {
    let parsed: Timestamp = text.parse().unwrap();
    Time::from_secs(u64::try_from(parsed.as_second()).unwrap())
}

/// 2016-05-19T10:00:00Z, a Thursday: the hour around which the upstream tables turn.
fn hour() -> Time {
    at("2016-05-19T10:00:00Z")
}

/// So many milliseconds after (or before) that hour.
fn millis(offset: i64) -> Time {
    let base = i64::try_from(hour().as_nanos() / 1_000_000).unwrap();
    Time::from_millis(u64::try_from(base + offset).unwrap())
}

/// So many seconds after (or before) that hour.
fn secs(offset: i64) -> Time {
    millis(offset * 1_000)
}
