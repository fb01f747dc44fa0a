//! Sets of completion indexes and their text form (pkg/controller/job/indexed_job_utils.go).

use std::fmt;

/// A set of indexes as intervals in order, which do not touch. Its text form is that of
/// `completedIndexes`: `0,2,5-9`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads a text form, without what is not below `completions` and without what cannot be read
    /// (parseIndexesFromString).
    pub fn parse(text: &str, completions: u32) -> Self {
        let mut set = Vec::new();
        for part in text.split(',') {
            let mut ends = part.split('-');
            let Some(first) = ends.next().and_then(|t| t.parse().ok()) else { continue };
            if first >= completions {
                break;
            }
            let Ok(last) = ends.next().map_or(Ok(first), str::parse::<u32>) else { continue };
            if first <= last {
                set.push((first, last.min(completions - 1)));
            }
        }
        Self(set).union(&Self::default())
    }

    /// The set without indexes of `completions` and above.
    pub(super) fn below(&self, completions: u32) -> Self {
        let kept = self.0.iter().filter(|(first, _)| *first < completions);
        Self(kept.map(|&(first, last)| (first, last.min(completions - 1))).collect())
    }

    /// The set with all indexes of another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut set: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match set.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => set.push((first, last)),
            }
        }
        Self(set)
    }

    /// Whether the index is in the set.
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// The number of indexes.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes both sets have.
    pub(super) fn overlap(&self, other: &Self) -> u32 {
        let (mut a, mut b, mut both) = (0, 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(a), other.0.get(b)) {
            let (first, last) = (one.0.max(two.0), one.1.min(two.1));
            if first <= last {
                both += last - first + 1;
            }
            // The interval that ends first is done with; both, if they end together.
            a += usize::from(one.1 <= two.1);
            b += usize::from(two.1 <= one.1);
        }
        both
    }

    /// The first `count` indexes below `completions` that are not in the set (firstPendingIndexes).
    /// The cost is that of the set's intervals and `count`, whatever `completions` is.
    pub fn first_missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let ends = self.0.iter().copied().chain([(completions, completions)]);
        let mut missing = Vec::new();
        let mut candidate = 0;
        for (first, last) in ends {
            let gap = candidate..first.min(completions);
            missing.extend(gap.take(count - missing.len()));
            candidate = candidate.max(last.saturating_add(1));
        }
        missing
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        Self(indexes.into_iter().map(|i| (i, i)).collect()).union(&Self::default())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
