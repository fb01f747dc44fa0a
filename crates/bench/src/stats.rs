//! Numbers from samples.

use std::time::Duration;

/// Samples of one quantity, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Sorts the samples.
    pub fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// Samples in milliseconds.
    pub fn millis(samples: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(samples.into_iter().map(|d| d.as_secs_f64() * 1e3).collect())
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest sample that at least `percent` of all are not above (nearest rank); NaN if there
    /// are none.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0
            .get(rank.saturating_sub(1).min(self.0.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The sample in the middle.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.percentile(0.0)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.percentile(100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let s = Samples::new((1..=100).rev().map(f64::from).collect());
        assert_eq!((s.min(), s.median(), s.percentile(99.0), s.max()), (1.0, 50.0, 99.0, 100.0));
        assert_eq!(Samples::new(vec![3.0, 1.0]).percentile(99.0), 3.0);
        assert!(Samples::default().median().is_nan());
    }
}
