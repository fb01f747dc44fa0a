//! Token buckets: how often something may happen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A bucket of so many tokens that fills with one of them in each `every`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// When it will be full again.
    full: Instant,
}

impl Bucket {
    pub(super) const fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant, every: Duration, burst: u32) -> bool {
        let full = self.full.max(now) + every;
        let there = full <= now + every * burst;
        if there {
            self.full = full;
        }
        there
    }
}

/// A bucket for each address that things come from.
#[derive(Debug, Default)]
pub(super) struct Sources {
    buckets: HashMap<IpAddr, Bucket>,
}

/// The kernel's numbers (drivers/net/wireguard/ratelimiter.c): 20 a second, 5 at once.
const EVERY: Duration = Duration::from_millis(50);
const BURST: u32 = 5;

/// So many addresses are known at once. More can only be there if they have been proved by cookies.
const MOST: usize = 8192;

impl Sources {
    /// Whether one more may come from this address.
    pub(super) fn take(&mut self, now: Instant, address: IpAddr) -> bool {
        // Whoever has one address of IPv6 has all of a /64.
        let source = match address {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        };
        if self.buckets.len() >= MOST {
            self.buckets.retain(|_, bucket| bucket.full > now);
        }
        if self.buckets.len() >= MOST && !self.buckets.contains_key(&source) {
            return false;
        }
        self.buckets.entry(source).or_insert(Bucket::new(now)).take(now, EVERY, BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_a_second_and_five_at_once() {
        let mut now = Instant::now();
        let mut sources = Sources::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let taken = |sources: &mut Sources, now, address: &str| {
            (0..100).filter(|_| sources.take(now, address.parse().unwrap())).count()
        };
        assert_eq!(taken(&mut sources, now, "192.0.2.1"), 5);
        assert_eq!(taken(&mut sources, now, "2001:db8::1"), 5);
        assert_eq!(taken(&mut sources, now, "2001:db8::2"), 0, "of the same /64");
        assert_eq!(taken(&mut sources, now, "2001:db8:0:1::1"), 5);
        let mut later = 0;
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            later += usize::from(sources.take(now, one));
        }
        assert_eq!(later, 20);
    }

    #[test]
    fn memory_is_bounded() {
        let mut now = Instant::now();
        let mut sources = Sources::default();
        let address = |number: u32| IpAddr::V4(number.into());
        for number in 0..20_000 {
            sources.take(now, address(number));
        }
        assert_eq!(sources.buckets.len(), MOST);
        assert!(!sources.take(now, address(20_000)));
        now += Duration::from_secs(1);
        assert!(sources.take(now, address(20_000)));
        assert_eq!(sources.buckets.len(), 1);
    }
}
