//! What can be wrong with a schedule or a time zone.
//!
//! The first sentence of each message is robfig/cron's (and so the API server's); a hint that says
//! what to write instead is kept apart in [`ParseError::hint`].

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Nothing was written.
    #[error("empty spec string")]
    Empty,
    /// Not five fields.
    #[error("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "))]
    FieldCount {
        /// The fields that were found.
        fields: Vec<String>,
    },
    /// Not a number and not a name of the field.
    #[error("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")]
    Number {
        /// What was written.
        text: String,
        /// `invalid syntax` or `value out of range`.
        why: &'static str,
        /// Which field it stands in.
        field: &'static str,
    },
    /// A number below zero.
    #[error("negative number ({value}) not allowed: {text}")]
    Negative {
        /// The number.
        value: i64,
        /// What was written.
        text: String,
    },
    /// More than one `-` in a range.
    #[error("too many hyphens: {text}")]
    Hyphens {
        /// The range.
        text: String,
    },
    /// More than one `/` in a range.
    #[error("too many slashes: {text}")]
    Slashes {
        /// The range.
        text: String,
    },
    /// The range begins too low.
    #[error("beginning of range ({start}) below minimum ({min}): {text}")]
    BelowMinimum {
        /// Where it begins.
        start: u64,
        /// The lowest value of the field.
        min: u64,
        /// The range.
        text: String,
        /// Which field it stands in.
        field: &'static str,
    },
    /// The range ends too high.
    #[error("end of range ({end}) above maximum ({max}): {text}")]
    AboveMaximum {
        /// Where it ends.
        end: u64,
        /// The highest value of the field.
        max: u64,
        /// The range.
        text: String,
        /// Which field it stands in.
        field: &'static str,
    },
    /// The range runs backwards.
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards {
        /// Where it begins.
        start: u64,
        /// Where it ends.
        end: u64,
        /// The range.
        text: String,
    },
    /// A step of zero.
    #[error("step of range should be a positive number: {text}")]
    ZeroStep {
        /// The range.
        text: String,
    },
    /// An `@` word that is not known.
    #[error("unrecognized descriptor: {text}")]
    Descriptor {
        /// What was written.
        text: String,
    },
    /// `@every` with something that is not a duration.
    #[error("failed to parse duration {text}: {why}")]
    Every {
        /// The whole schedule.
        text: String,
        /// Go's words for what is wrong with the duration.
        why: String,
    },
    /// `TZ=` or `CRON_TZ=` with a zone that is not known.
    #[error("provided bad location {zone}: {why}")]
    Location {
        /// The zone.
        zone: String,
        /// Why it is not known.
        why: ZoneError,
    },
}

impl ParseError {
    /// What to write instead, if that can be guessed.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Empty | Self::FieldCount { .. } => {
                let six = matches!(self, Self::FieldCount { fields } if fields.len() == 6);
                let seconds =
                    if six { "; Kubernetes has no field for seconds or years" } else { "" };
                Some(format!(
                    "write minute, hour, day of month, month and day of week, as in \"0 3 * * 1-5\"\
                     {seconds}"
                ))
            }
            Self::Number { text, field, .. } => number_hint(text, field),
            Self::AboveMaximum { end: 7, field: "day of week", .. } => {
                Some("Sunday is 0 (or SUN); 7 is not accepted here".to_owned())
            }
            Self::AboveMaximum { max, field, .. } => Some(format!("the last {field} is {max}")),
            Self::BelowMinimum { min, field, .. } => Some(format!("the first {field} is {min}")),
            Self::Backwards { text, .. } => {
                Some(format!("a range cannot wrap around; write two of them instead of {text}"))
            }
            Self::Descriptor { .. } => Some(
                "known are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and \
                 @every DURATION"
                    .to_owned(),
            ),
            Self::Every { .. } => Some(
                "durations are numbers with h, m or s, as in \"@every 1h30m\"; there are no days"
                    .to_owned(),
            ),
            Self::Location { why, .. } => why.hint(),
            Self::Negative { .. }
            | Self::Hyphens { .. }
            | Self::Slashes { .. }
            | Self::ZeroStep { .. } => None,
        }
    }
}

fn number_hint(text: &str, field: &str) -> Option<String> {
    let last = text.chars().last()?;
    if text.contains('#') {
        return Some(
            "'#' (the n-th weekday of a month) is not part of Kubernetes' schedules".into(),
        );
    }
    if matches!(last, 'L' | 'W') && text.chars().rev().skip(1).all(|c| c.is_ascii_digit()) {
        return Some(format!("'{last}' is not part of Kubernetes' schedules"));
    }
    match field {
        "month" => Some("months are 1-12 or JAN-DEC, three letters".to_owned()),
        "day of week" => Some("days are 0-6 or SUN-SAT, three letters".to_owned()),
        _ => None,
    }
}

/// A schedule or time zone that the API server would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The schedule cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The schedule names a time zone.
    #[error("cannot use TZ or CRON_TZ in schedule, use timeZone field instead")]
    ZoneInSchedule,
}

impl ScheduleError {
    /// What to write instead, if that can be guessed.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::ZoneInSchedule => None,
        }
    }
}

/// A `spec.timeZone` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// It is an empty string.
    #[error("timeZone must be nil or non-empty string")]
    Empty,
    /// It is `Local`.
    #[error("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")]
    Local,
    /// The time zone database does not have it.
    #[error("unknown time zone {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name that differs only in case, if there is one.
        nearest: Option<String>,
    },
}

impl ZoneError {
    /// What to write instead, if that can be guessed.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(near), .. } => Some(format!("did you mean {near}?")),
            Self::Unknown { .. } => {
                Some("use an IANA name such as Europe/Paris or Etc/UTC".to_owned())
            }
            Self::Empty | Self::Local => {
                Some("leave timeZone out for UTC, or use a name such as Europe/Paris".to_owned())
            }
        }
    }
}
