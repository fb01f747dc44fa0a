//! Which scheduled time is due, and when the next one is (pkg/controller/cronjob/utils.go).

use std::time::Duration;

use super::schedule::Schedule;
use crate::time::Time;

/// Added to the time of the next look, so that a clock slightly behind has reached the scheduled
/// time by then (nextScheduleDelta).
const PADDING: Duration = Duration::from_millis(100);

/// More missed times than this are reported (the start is made up for all the same).
const TOO_MANY: u64 = 100;

/// The schedule can be read but has no two times that follow each other (`59 23 31 2 *`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub struct InvalidSchedule;

/// What [`most_recent_schedule_time`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The time from which on was searched.
    pub earliest: Time,
    /// The latest scheduled time since then that is not after now.
    pub due: Option<Time>,
    /// Whether others were missed before it.
    pub missed: Missed,
}

/// How many scheduled times were missed, roughly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Missed {
    /// At most one is due.
    #[default]
    None,
    /// At least two are due.
    Few,
    /// More than a hundred.
    Many,
}

/// The latest scheduled time between `since` (the last schedule time, or the creation of the
/// CronJob) and `now`; a deadline moves the start of that span up to `now - deadline`
/// (mostRecentScheduleTime).
///
/// The number of missed times is estimated from the distance of the first two, so that a CronJob
/// that slept for years costs no more than one that slept for an hour.
pub fn most_recent_schedule_time(
    schedule: &Schedule,
    since: Time,
    deadline: Option<Duration>,
    now: Time,
) -> Result<Recent, InvalidSchedule> {
    let earliest = deadline.map_or(since, |d| since.max(now - d));
    let first = schedule.next(earliest).ok_or(InvalidSchedule)?;
    if now < first {
        return Ok(Recent { earliest, due: None, missed: Missed::None });
    }
    let second = schedule.next(first).ok_or(InvalidSchedule)?;
    if now < second {
        return Ok(Recent { earliest, due: Some(first), missed: Missed::None });
    }
    let interval = second.since(first).as_secs();
    if interval < 1 {
        return Err(InvalidSchedule);
    }
    let count = now.since(first).as_secs() / interval + 1;
    // Two intervals back, so that `@every` keeps its phase and an uneven schedule is not overshot.
    let from = (first + Duration::from_secs(interval.saturating_mul(count - 1)))
        - Duration::from_secs(interval);
    let mut due = None;
    let mut at = schedule.next(from);
    while let Some(t) = at.filter(|t| *t <= now) {
        due = Some(t);
        at = schedule.next(t);
    }
    let missed = if count > TOO_MANY { Missed::Many } else { Missed::Few };
    Ok(Recent { earliest, due, missed })
}

/// The scheduled time to start now, and whether too many were missed before it
/// (nextScheduleTime).
pub fn next_schedule_time(
    schedule: &Schedule,
    since: Time,
    deadline: Option<Duration>,
    now: Time,
) -> Result<Option<(Time, Missed)>, InvalidSchedule> {
    let recent = most_recent_schedule_time(schedule, since, deadline, now)?;
    Ok(recent.due.filter(|t| *t <= now).map(|t| (t, recent.missed)))
}

/// When to look again: 100 ms after the next scheduled time (nextScheduleTimeDuration, which gives
/// the span from now). `None` if the schedule never fires again.
pub fn requeue_time(schedule: &Schedule, since: Time, now: Time) -> Option<Time> {
    let from = match most_recent_schedule_time(schedule, since, None, now) {
        Err(InvalidSchedule) => now,
        Ok(Recent { due: Some(due), .. }) => due,
        Ok(Recent { earliest, missed: Missed::None, .. }) => earliest,
        Ok(_) => now,
    };
    schedule.next(from).map(|t| t + PADDING)
}
