//! The fields of a schedule: their ranges, names and bit sets.

/// Set in a field that was written as `*` or `?` (without a step above 1): such a day field does
/// not take part in the "either day matches" rule.
pub(super) const STAR: u64 = 1 << 63;

/// The values a field may take.
#[derive(Debug)]
pub(super) struct Bounds {
    /// What the field is called in hints.
    pub(super) what: &'static str,
    /// The smallest value.
    pub(super) min: u64,
    /// The largest value.
    pub(super) max: u64,
    /// Names that stand for values: the first stands for `min`. Case does not matter.
    names: &'static [&'static str],
}

pub(super) const MINUTES: Bounds = Bounds { what: "minute", min: 0, max: 59, names: &[] };
pub(super) const HOURS: Bounds = Bounds { what: "hour", min: 0, max: 23, names: &[] };
pub(super) const DOM: Bounds = Bounds { what: "day of month", min: 1, max: 31, names: &[] };
pub(super) const MONTHS: Bounds = Bounds {
    what: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
pub(super) const DOW: Bounds = Bounds {
    what: "day of week",
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Bounds {
    /// The value a name stands for.
    pub(super) fn named(&self, text: &str) -> Option<u64> {
        let at = self.names.iter().position(|n| n.eq_ignore_ascii_case(text))?;
        Some(self.min + at as u64)
    }

    /// All values, and the star.
    pub(super) fn all(&self) -> u64 {
        bits(self.min, self.max, 1) | STAR
    }
}

/// The bits of `min..=max` in steps of `step`, which is at least 1.
pub(super) fn bits(min: u64, max: u64, step: u64) -> u64 {
    let mut set = 0;
    let mut at = min;
    while at <= max {
        set |= 1 << at;
        at = at.saturating_add(step);
    }
    set
}
