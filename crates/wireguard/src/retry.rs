//! How often, and after what waits, an interface is looked for before people are told that it is missing.

use std::time::Duration;

/// The retry settings of the ordering guide: wait base × attempt, up to a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is looked for in all; at least once.
    pub attempts: u32,
    /// The wait after the first attempt.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for Retry {
    /// At once, then after 2, 4 … 18 s: 90 s in all.
    fn default() -> Self {
        Self { attempts: 10, base: Duration::from_secs(2), cap: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The waits between the attempts: one less than there are attempts.
    pub fn waits(self) -> impl Iterator<Item = Duration> {
        (1..self.attempts).map(move |attempt| self.base.saturating_mul(attempt).min(self.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(attempts: u32, base: u64, cap: u64) -> Vec<u64> {
        let retry =
            Retry { attempts, base: Duration::from_secs(base), cap: Duration::from_secs(cap) };
        retry.waits().map(|wait| wait.as_secs()).collect()
    }

    /// The guide: "immediate, then 2, 4 … 18 s", about 90 s in all.
    #[test]
    fn as_the_guide_says() {
        let waits: Vec<u64> = Retry::default().waits().map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [2, 4, 6, 8, 10, 12, 14, 16, 18]);
        assert_eq!(waits.iter().sum::<u64>(), 90);
    }

    #[test]
    fn up_to_the_cap() {
        assert_eq!(seconds(6, 8, 30), [8, 16, 24, 30, 30]);
        assert!(seconds(1, 2, 30).is_empty());
        assert_eq!(seconds(3, 0, 30), [0, 0]);
        // As long as it may be, without an overflow.
        let endless =
            Retry { attempts: u32::MAX, base: Duration::MAX, cap: Duration::from_secs(30) };
        assert_eq!(endless.waits().nth(1000), Some(Duration::from_secs(30)));
    }
}
