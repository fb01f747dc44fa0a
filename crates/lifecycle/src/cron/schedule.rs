//! When a schedule fires.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::bounds::STAR;
use super::error::{ParseError, ScheduleError};
use super::parse;
use super::zone::{Local, date, local};
use crate::time::Time;

const NANOS: u64 = 1_000_000_000;

/// A schedule of a CronJob, in its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Five fields, or a word that stands for such.
    Fields(Fields),
    /// `@every`: a constant delay, in whole seconds, at least one.
    Every { secs: u64 },
}

/// The sets of values of the five fields; bit n stands for value n, and [`STAR`] for `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minute: u64,
    pub(super) hour: u64,
    pub(super) dom: u64,
    pub(super) month: u64,
    pub(super) dow: u64,
}

impl Schedule {
    /// Reads a schedule as robfig/cron v3 does (`ParseStandard`): five fields or an `@` word, and
    /// `TZ=ZONE` or `CRON_TZ=ZONE` before it. Without a zone it is in UTC.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (rule, zone) = parse::parse(text)?;
        Ok(Self { rule, zone: zone.unwrap_or(TimeZone::UTC) })
    }

    /// Reads a schedule in a time zone; a zone that the text names wins (formatSchedule).
    pub fn parse_in(text: &str, zone: TimeZone) -> Result<Self, ParseError> {
        let (rule, own) = parse::parse(text)?;
        Ok(Self { rule, zone: own.unwrap_or(zone) })
    }

    /// Checks `spec.schedule` as the API server does for a new CronJob (validateScheduleFormat):
    /// what [`Schedule::parse`] accepts, but without a time zone in it.
    pub fn validate(text: &str) -> Result<(), ScheduleError> {
        Self::parse(text)?;
        if text.contains("TZ") { Err(ScheduleError::ZoneInSchedule) } else { Ok(()) }
    }

    /// The time zone the fields are read in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after` at which the schedule fires, on a whole second; `None` if there
    /// is none within five years (`30 February`).
    ///
    /// Around a change of the clocks it does what robfig's `Next` does: a time that is skipped does
    /// not fire that day, and an hour that comes twice fires twice.
    pub fn next(&self, after: Time) -> Option<Time> {
        let secs = match &self.rule {
            Rule::Every { secs } => after.as_secs().checked_add(*secs)?,
            Rule::Fields(fields) => {
                let unix = i64::try_from(after.as_secs()).ok()?;
                u64::try_from(fields.next(&self.zone, unix)?).ok()?
            }
        };
        // A time that does not fit is as good as never.
        (secs <= u64::MAX / NANOS).then(|| Time::from_secs(secs))
    }

    /// Whether the schedule fires at this very second. `@every` has no such times of its own.
    pub fn matches(&self, at: Time) -> bool {
        let Rule::Fields(fields) = &self.rule else { return false };
        let shown = i64::try_from(at.as_secs()).ok().and_then(|unix| local(&self.zone, unix));
        shown.is_some_and(|t| {
            at.as_nanos().is_multiple_of(NANOS)
                && t.second == 0
                && has(fields.minute, t.minute)
                && has(fields.hour, t.hour)
                && has(fields.month, t.date.month())
                && fields.day(t.date)
        })
    }
}

impl Fields {
    /// robfig: SpecSchedule.Next. From the month down, a field that does not match is counted up
    /// until it does; where it wraps around, all fields are looked at again.
    fn next(&self, zone: &TimeZone, after: i64) -> Option<i64> {
        if [self.minute, self.hour, self.dom | self.dow, self.month].iter().any(|f| f & !STAR == 0)
        {
            // A field without values (it was written as ","); the search would take five years.
            return None;
        }
        let mut search = Search { zone, at: local(zone, after + 1)?, reset: false };
        let last_year = search.at.date.year() + 5;
        'wrap: loop {
            if search.at.date.year() > last_year {
                return None;
            }
            while !has(self.month, search.at.date.month()) {
                search.next_month()?;
                if search.at.date.month() == 1 {
                    continue 'wrap;
                }
            }
            while !self.day(search.at.date) {
                search.next_day()?;
                if search.at.date.day() == 1 {
                    continue 'wrap;
                }
            }
            while !has(self.hour, search.at.hour) {
                search.next_hour()?;
                if search.at.hour == 0 {
                    continue 'wrap;
                }
            }
            while !has(self.minute, search.at.minute) {
                search.next_minute()?;
                if search.at.minute == 0 {
                    continue 'wrap;
                }
            }
            while search.at.second != 0 {
                search.next_second()?;
                if search.at.second == 0 {
                    continue 'wrap;
                }
            }
            return Some(search.at.unix);
        }
    }

    /// Whether the day matches: both day fields must, if one of them is a star, else either.
    fn day(&self, date: Date) -> bool {
        let dom = has(self.dom, date.day());
        let dow = has(self.dow, date.weekday().to_sunday_zero_offset());
        if (self.dom | self.dow) & STAR != 0 { dom && dow } else { dom || dow }
    }
}

fn has(set: u64, value: i8) -> bool {
    (set >> (value & 63)) & 1 == 1
}

/// Where the search is. The first step of any kind also goes back to the start of its unit
/// (`reset`); every later step starts from there anyway. The steps give `None` at the end of the
/// calendar.
struct Search<'a> {
    zone: &'a TimeZone,
    at: Local,
    reset: bool,
}

impl Search<'_> {
    fn next_month(&mut self) -> Option<()> {
        let clock = self.clock();
        let day = if clock.first { 1 } else { self.at.date.day() };
        let next = self.at.date.first_of_month().checked_add(1.month()).ok()?;
        // Go counts a day past the end of the month on into the next one.
        let next = next.checked_add((i64::from(day) - 1).days()).ok()?;
        self.to(date(self.zone, next, clock.time)?)
    }

    fn next_day(&mut self) -> Option<()> {
        let clock = self.clock();
        let tomorrow = self.at.date.tomorrow().ok()?;
        self.to(date(self.zone, tomorrow, clock.time)?)?;
        // Where midnight does not exist, the day begins at 23:00 of the day before or at 01:00.
        let off = i64::from(self.at.hour);
        match off {
            0 => Some(()),
            13.. => self.to(self.at.unix + (24 - off) * 3_600),
            _ => self.to(self.at.unix - off * 3_600),
        }
    }

    fn next_hour(&mut self) -> Option<()> {
        if self.clock().first {
            let on_the_hour = (self.at.hour, 0, 0);
            self.to(date(self.zone, self.at.date, on_the_hour)?)?;
        }
        self.to(self.at.unix + 3_600)
    }

    fn next_minute(&mut self) -> Option<()> {
        if self.clock().first {
            self.at.unix -= self.at.unix.rem_euclid(60);
        }
        self.to(self.at.unix + 60)
    }

    fn next_second(&mut self) -> Option<()> {
        self.reset = true;
        self.to(self.at.unix + 1)
    }

    /// The time of day to go on from: midnight for the first step of the search.
    fn clock(&mut self) -> Clock {
        let first = !std::mem::replace(&mut self.reset, true);
        let now = (self.at.hour, self.at.minute, self.at.second);
        Clock { first, time: if first { (0, 0, 0) } else { now } }
    }

    fn to(&mut self, unix: i64) -> Option<()> {
        self.at = local(self.zone, unix)?;
        Some(())
    }
}

struct Clock {
    first: bool,
    time: (i8, i8, i8),
}
