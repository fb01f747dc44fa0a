//! A timer wheel: when which peer is to be looked at again. Packets only ask whether a peer is in it.

use std::time::{Duration, Instant};

/// How exact timers are.
pub(super) const STEP: Duration = Duration::from_millis(250);

/// As many steps ahead something can be; a power of two.
const SLOTS: usize = 16;

/// Slots of time, each with the peers that are due in it.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: [Vec<usize>; SLOTS],
    /// The slot that ends at `next`.
    at: usize,
    next: Instant,
    count: usize,
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self { slots: Default::default(), at: 0, next: now + STEP, count: 0 }
    }

    /// Enters a peer that is not in the wheel, to come out `steps` from now: 1 is at once.
    pub(super) fn insert(&mut self, now: Instant, peer: usize, steps: usize) {
        if self.count == 0 {
            // It has stood still.
            self.next = now + STEP;
        }
        let slot = (self.at + steps.clamp(1, SLOTS) - 1) % SLOTS;
        self.slots[slot].push(peer);
        self.count += 1;
    }

    /// Moves on; whoever is due comes out.
    pub(super) fn advance(&mut self, now: Instant, due: &mut Vec<usize>) {
        while self.count > 0 && self.next <= now {
            self.count -= self.slots[self.at].len();
            due.append(&mut self.slots[self.at]);
            self.at = (self.at + 1) % SLOTS;
            self.next += STEP;
        }
    }

    /// When somebody is due; `None` if the wheel is empty.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let full = |ahead: &u32| !self.slots[(self.at + *ahead as usize) % SLOTS].is_empty();
        (0..SLOTS as u32).find(full).map(|ahead| self.next + STEP * ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_at_their_time() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.deadline(), None);
        let later = start + Duration::from_secs(100);
        for (peer, steps) in [(1, 4), (2, 1), (3, SLOTS), (4, 4), (5, 0), (6, 1000)] {
            wheel.insert(later, peer, steps);
        }
        let mut seen = Vec::new();
        while let Some(deadline) = wheel.deadline() {
            let mut due = Vec::new();
            wheel.advance(deadline - Duration::from_millis(1), &mut due);
            assert!(due.is_empty(), "not before its time");
            wheel.advance(deadline, &mut due);
            assert!(!due.is_empty(), "and then at once");
            seen.push((((deadline - later).as_millis() / STEP.as_millis()) as usize, due));
        }
        assert_eq!(seen, [(1, vec![2, 5]), (4, vec![1, 4]), (SLOTS, vec![3, 6])]);
    }

    #[test]
    fn after_a_long_sleep_all_come_out() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        (0..40).for_each(|peer| wheel.insert(start, peer, peer % SLOTS));
        let mut due = Vec::new();
        wheel.advance(start + Duration::from_secs(1000), &mut due);
        due.sort_unstable();
        assert_eq!(due, (0..40).collect::<Vec<_>>());
        assert_eq!(wheel.deadline(), None);
    }
}
