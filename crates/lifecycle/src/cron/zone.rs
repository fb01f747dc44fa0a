//! Time zones from the compiled-in IANA database, and Go's way from a local time to a moment.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::error::ZoneError;

/// Only the database in the program: a schedule must mean the same on every machine.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The time zone of this name, as Go's `time.LoadLocation` finds it: case counts, and the empty
/// name is UTC.
pub fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let unknown = |nearest| ZoneError::Unknown { name: name.to_owned(), nearest };
    let found = DATABASE.get(name).map_err(|_| unknown(None))?;
    match found.iana_name() {
        Some(real) if real != name => Err(unknown(Some(real.to_owned()))),
        _ => Ok(found),
    }
}

/// Checks `spec.timeZone` as the API server does (validateTimeZone).
pub fn validate_time_zone(name: &str) -> Result<(), ZoneError> {
    if name.is_empty() {
        return Err(ZoneError::Empty);
    }
    let unknown = || ZoneError::Unknown { name: name.to_owned(), nearest: None };
    for part in name.split('/') {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
        let odd = part == "." || part == ".." || part.starts_with('-');
        if odd || !(1..=14).contains(&part.len()) || !part.bytes().all(plain) {
            return Err(unknown());
        }
    }
    if name.eq_ignore_ascii_case("local") {
        return Err(ZoneError::Local);
    }
    zone(name).map(|_| ())
}

/// A moment and what the clocks of a zone show then, to the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    /// Seconds since the Unix epoch.
    pub(super) unix: i64,
    pub(super) date: Date,
    pub(super) hour: i8,
    pub(super) minute: i8,
    pub(super) second: i8,
}

/// What the clocks show at this moment; `None` beyond the year 9999.
pub(super) fn local(zone: &TimeZone, unix: i64) -> Option<Local> {
    let shown = Timestamp::from_second(unix + offset(zone, unix)?).ok()?;
    let civil = Offset::UTC.to_datetime(shown);
    Some(Local {
        unix,
        date: civil.date(),
        hour: civil.hour(),
        minute: civil.minute(),
        second: civil.second(),
    })
}

/// The moment at which the clocks show this time (hour, minute, second) of this day, as Go's `time.Date` picks it where
/// there are two such moments or none: it looks up the offset at the time read as UTC, then once
/// more at the time corrected by that offset.
pub(super) fn date(zone: &TimeZone, day: Date, time: (i8, i8, i8)) -> Option<i64> {
    let days = Date::constant(1970, 1, 1).until(day).ok()?.get_days();
    let (hour, minute, second) = (i64::from(time.0), i64::from(time.1), i64::from(time.2));
    let naive = i64::from(days) * 86_400 + hour * 3_600 + minute * 60 + second;
    let first = offset(zone, naive)?;
    Some(naive - offset(zone, naive - first)?)
}

fn offset(zone: &TimeZone, unix: i64) -> Option<i64> {
    let moment = Timestamp::from_second(unix).ok()?;
    Some(i64::from(zone.to_offset(moment).seconds()))
}
