//! Times that are only known to lie between two others.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use holdfast_lifecycle::time::parse_duration;

use crate::picture::words;

/// From the earliest to the latest. Whether it counts from the start of a pod or of a container, its
/// owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not before.
    pub min: Duration,
    /// Not after; `None` if nothing says so.
    pub max: Option<Duration>,
}

impl Span {
    /// At once.
    pub const ZERO: Self = Self::exactly(Duration::ZERO);
    /// At any time.
    pub const ANY: Self = Self { min: Duration::ZERO, max: None };

    /// Exactly then.
    pub const fn exactly(at: Duration) -> Self {
        Self { min: at, max: Some(at) }
    }

    /// From `min` to `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: Some(max) }
    }

    /// When both have happened.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { min: self.min.max(other.min), max: self.max.zip(other.max).map(|(a, b)| a.max(b)) }
    }

    /// The same, but nothing says until when.
    #[must_use]
    pub const fn open(self) -> Self {
        Self { min: self.min, max: None }
    }

    /// The same, but open if `open` holds.
    #[must_use]
    pub const fn open_if(self, open: bool) -> Self {
        if open { self.open() } else { self }
    }

    /// Not before `at`.
    #[must_use]
    pub fn not_before(self, at: Duration) -> Self {
        self.and(Self::exactly(at))
    }

    /// The same, but it may become known only when `other` has happened; never, if that never does.
    #[must_use]
    pub fn told_by(self, other: Option<Self>) -> Self {
        let max = self.max.zip(other.and_then(|o| o.max)).map(|(a, b)| a.max(b));
        Self { min: self.min, max }
    }

    /// Whether it is over before `at` for certain.
    pub fn is_before(self, at: Duration) -> bool {
        self.max.is_some_and(|max| max < at)
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.zip(other.max).map(|(a, b)| a.saturating_add(b)),
        }
    }
}

impl fmt::Display for Span {
    /// `5 s`, `5 s to 10 s`, or `5 s or later`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(f, "{}", short(max)),
            Some(max) => write!(f, "{} to {}", short(self.min), short(max)),
            None if self.min.is_zero() => f.write_str("at any time"),
            None => write!(f, "{} or later", short(self.min)),
        }
    }
}

/// Why a text is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid time {0:?}: expected 5s, 1500ms or 2m, a range such as 2s..5s, or 2s.. without an end"
)]
pub struct ParseSpanError(String);

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSpanError(text.to_owned());
        let time = |text: &str| parse_duration(text).ok_or_else(error);
        let Some((min, max)) = text.split_once("..") else { return time(text).map(Self::exactly) };
        let min = if min.is_empty() { Duration::ZERO } else { time(min)? };
        let max = if max.is_empty() { None } else { Some(time(max)?) };
        if max.is_some_and(|max| max < min) {
            return Err(error());
        }
        Ok(Self { min, max })
    }
}

/// A duration for people: `0 s`, `250 ms`, `1.5 s`, `105 s`, `2m05s`.
pub fn short(d: Duration) -> String {
    words::time(d.as_secs_f64()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, shown) in [
            ("5s", "5 s"),
            ("2s..5s", "2 s to 5 s"),
            ("2s..", "2 s or later"),
            ("..1500ms", "0 s to 1.5 s"),
            ("..", "at any time"),
            ("105s", "105 s"),
            ("2m..3m5s", "x"),
        ] {
            match text.parse::<Span>() {
                Ok(span) => assert_eq!(span.to_string(), shown, "{text}"),
                Err(error) => assert!(shown == "x" && error.to_string().contains("2m..3m5s")),
            }
        }
        for bad in ["", "5", "s", "5s..2s", "-1s", "5s...6s", "never"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
