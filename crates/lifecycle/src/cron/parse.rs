//! From the text of a schedule to its bit sets: robfig/cron v3's `ParseStandard`.

use jiff::tz::TimeZone;

use super::bounds::{Bounds, DOM, DOW, HOURS, MINUTES, MONTHS, STAR, bits};
use super::duration;
use super::error::ParseError;
use super::schedule::{Fields, Rule};
use super::zone::zone;

const SECOND: i64 = 1_000_000_000;

/// Reads a schedule; the zone is there only if the text names one (`TZ=…`, `CRON_TZ=…`).
pub(super) fn parse(text: &str) -> Result<(Rule, Option<TimeZone>), ParseError> {
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    let (text, zone) = split_zone(text)?;
    let rule = match text.strip_prefix('@') {
        Some(_) => descriptor(text)?,
        None => Rule::Fields(fields(text)?),
    };
    Ok((rule, zone))
}

fn split_zone(text: &str) -> Result<(&str, Option<TimeZone>), ParseError> {
    let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
    let Some(named) = named else { return Ok((text, None)) };
    // robfig panics where nothing follows the zone; here the rest is then simply empty.
    let (name, rest) = named.split_once(' ').unwrap_or((named, ""));
    let zone = zone(name).map_err(|why| ParseError::Location { zone: name.to_owned(), why })?;
    Ok((rest.trim(), Some(zone)))
}

fn fields(text: &str) -> Result<Fields, ParseError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, dom, month, dow] = parts[..] else {
        return Err(ParseError::FieldCount {
            fields: parts.into_iter().map(str::to_owned).collect(),
        });
    };
    Ok(Fields {
        minute: field(minute, &MINUTES)?,
        hour: field(hour, &HOURS)?,
        dom: field(dom, &DOM)?,
        month: field(month, &MONTHS)?,
        dow: field(dow, &DOW)?,
    })
}

/// A comma-separated list of ranges. Empty parts are skipped, as robfig does, so `,` alone is a
/// field that never matches.
fn field(text: &str, bounds: &Bounds) -> Result<u64, ParseError> {
    let mut set = 0;
    for part in text.split(',').filter(|p| !p.is_empty()) {
        set |= range(part, bounds)?;
    }
    Ok(set)
}

/// `value`, `low-high`, `*` or `?`, each with an optional `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<u64, ParseError> {
    let own = || text.to_owned();
    let field = bounds.what;
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let single = ends.len() == 1;
    let mut star = 0;
    let (start, mut end) = match ends[..] {
        // What follows a `*` within the range is not looked at.
        ["*" | "?", ..] => {
            star = STAR;
            (bounds.min, bounds.max)
        }
        [only] => {
            let value = number_or_name(only, bounds)?;
            (value, value)
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?),
        [low, ..] => {
            number_or_name(low, bounds)?;
            return Err(ParseError::Hyphens { text: own() });
        }
        [] => return Err(ParseError::Empty),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step, field)?;
            // "N/step" means "N-max/step".
            if single {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return Err(ParseError::Slashes { text: own() }),
    };
    if start < bounds.min {
        return Err(ParseError::BelowMinimum { start, min: bounds.min, text: own(), field });
    }
    if end > bounds.max {
        return Err(ParseError::AboveMaximum { end, max: bounds.max, text: own(), field });
    }
    if start > end {
        return Err(ParseError::Backwards { start, end, text: own() });
    }
    if step == 0 {
        return Err(ParseError::ZeroStep { text: own() });
    }
    Ok(bits(start, end, step) | star)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, ParseError> {
    bounds.named(text).map_or_else(|| number(text, bounds.what), Ok)
}

/// Go's `strconv.Atoi`, for numbers that must not be negative.
fn number(text: &str, field: &'static str) -> Result<u64, ParseError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let fail = |why| ParseError::Number { text: text.to_owned(), why, field };
    if !plain {
        return Err(fail("invalid syntax"));
    }
    let value: i64 = text.parse().map_err(|_| fail("value out of range"))?;
    u64::try_from(value).map_err(|_| ParseError::Negative { value, text: text.to_owned() })
}

fn descriptor(text: &str) -> Result<Rule, ParseError> {
    let first = |b: &Bounds| 1 << b.min;
    let daily = Fields {
        minute: first(&MINUTES),
        hour: first(&HOURS),
        dom: DOM.all(),
        month: MONTHS.all(),
        dow: DOW.all(),
    };
    Ok(Rule::Fields(match text {
        "@yearly" | "@annually" => Fields { dom: first(&DOM), month: first(&MONTHS), ..daily },
        "@monthly" => Fields { dom: first(&DOM), ..daily },
        "@weekly" => Fields { dow: first(&DOW), ..daily },
        "@daily" | "@midnight" => daily,
        "@hourly" => Fields { hour: HOURS.all(), ..daily },
        _ => {
            let Some(every) = text.strip_prefix("@every ") else {
                return Err(ParseError::Descriptor { text: text.to_owned() });
            };
            let nanos = duration::parse(every)
                .map_err(|why| ParseError::Every { text: text.to_owned(), why })?;
            // Below a second becomes a second, and parts of a second are cut off.
            return Ok(Rule::Every { secs: (nanos.max(SECOND) / SECOND).unsigned_abs() });
        }
    }))
}
