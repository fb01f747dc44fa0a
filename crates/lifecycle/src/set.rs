//! Sets of containers of one pod, a bit each.

use crate::plan::ContainerId;

/// A set of containers. Up to 64 containers it owns no memory, and a thousand are 16 words: small
/// enough to be looked through or copied at every change.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerSet {
    first: u64,
    rest: Vec<u64>,
}

impl ContainerSet {
    pub(crate) const EMPTY: Self = Self { first: 0, rest: Vec::new() };

    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|&word| word == 0)
    }

    pub(crate) fn contains(&self, id: ContainerId) -> bool {
        let (word, bit) = place(id);
        self.word(word) & bit != 0
    }

    /// Puts a container in, or takes it out.
    pub(crate) fn set(&mut self, id: ContainerId, within: bool) {
        let (at, bit) = place(id);
        if within && at > self.rest.len() {
            self.rest.resize(at, 0);
        }
        let word = match at.checked_sub(1) {
            None => &mut self.first,
            Some(at) => match self.rest.get_mut(at) {
                Some(word) => word,
                None => return,
            },
        };
        if within {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter { word: self.first, base: 0, rest: self.rest.iter() }
    }

    /// The greatest.
    pub(crate) fn last(&self) -> Option<ContainerId> {
        let at = self.rest.iter().rposition(|&word| word != 0).map_or(0, |at| at + 1);
        let bit = self.word(at).checked_ilog2()?;
        Some(ContainerId(64 * at as u32 + bit))
    }

    fn word(&self, at: usize) -> u64 {
        match at.checked_sub(1) {
            None => self.first,
            Some(at) => self.rest.get(at).copied().unwrap_or(0),
        }
    }
}

/// Which word a container is in, and its bit there.
const fn place(id: ContainerId) -> (usize, u64) {
    (id.index() / 64, 1 << (id.0 % 64))
}

impl PartialEq for ContainerSet {
    fn eq(&self, other: &Self) -> bool {
        // One of the two may have had room for more.
        let both = self.rest.len().min(other.rest.len());
        let (a, b) = (self.rest.split_at(both), other.rest.split_at(both));
        self.first == other.first && a.0 == b.0 && a.1.iter().chain(b.1).all(|&word| word == 0)
    }
}

impl Eq for ContainerSet {}

/// The containers of a set.
pub(crate) struct Iter<'a> {
    /// What is left of the current word.
    word: u64,
    /// The container of its first bit.
    base: u32,
    rest: std::slice::Iter<'a, u64>,
}

impl Iterator for Iter<'_> {
    type Item = ContainerId;

    fn next(&mut self) -> Option<ContainerId> {
        while self.word == 0 {
            self.word = *self.rest.next()?;
            self.base += 64;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(ContainerId(self.base + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(ids: [u32; N]) -> ContainerSet {
        let mut set = ContainerSet::default();
        for id in ids {
            set.set(ContainerId(id), true);
        }
        set
    }

    #[test]
    fn a_set_is_a_set() {
        let ids = [0, 5, 63, 64, 130, 1000].map(ContainerId);
        let mut all = set([1000, 130, 5, 64, 0, 63, 5]);
        assert!(ids.iter().all(|&id| all.contains(id)));
        assert!(!all.contains(ContainerId(7)) && !all.contains(ContainerId(5000)));
        assert_eq!(all.iter().collect::<Vec<_>>(), ids);
        assert_eq!(all.last(), Some(ContainerId(1000)));

        // A set that was larger once is no other set.
        for id in [1000, 130, 7, 5000] {
            all.set(ContainerId(id), false);
        }
        assert_eq!(all, set([0, 5, 63, 64]));
        assert_eq!(set([0, 5, 63, 64]), all);
        assert_ne!(all, set([0, 5, 63, 64, 900]));
        assert_ne!(all, set([0, 5, 63, 65]));

        for id in [0, 5, 63, 64] {
            all.set(ContainerId(id), false);
        }
        assert!(all.is_empty() && all.last().is_none() && all.iter().next().is_none());
        assert_eq!(all, ContainerSet::EMPTY);
    }
}
