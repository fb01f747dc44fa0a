//! A world of candidates and an API server, in which every fault happens.
//!
//! What is checked is what the crate's documentation claims: at no instant do two candidates lead, each by
//! its own clock; and when the API is well, somebody does. [`exhaustive`] goes through every order of a
//! few steps in a small world, [`random`] through long lives in a large one. Both are shown to find
//! faults that are put into the machine on purpose.

mod exhaustive;
mod random;
mod world;

use crate::{Answer, Lease, Request, Version};

/// The part of an API server that keeps one Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    lease: Option<Lease>,
    writes: u64,
}

impl Server {
    /// Carries out a request.
    fn answer(&mut self, request: &Request) -> Answer {
        match (request, &self.lease) {
            (Request::Get, Some(lease)) => Answer::Got(lease.clone()),
            (Request::Get | Request::Update { .. }, None) => Answer::NotFound,
            (Request::Create { .. }, Some(_)) => Answer::Conflict,
            (Request::Create { record }, None) => self.write(record.clone()),
            (Request::Update { version, record }, Some(lease)) => {
                // The API server, too, takes a write without a version for one that wants none.
                if version.0.is_empty() || *version == lease.version {
                    self.write(record.clone())
                } else {
                    Answer::Conflict
                }
            }
        }
    }

    fn write(&mut self, record: crate::Record) -> Answer {
        self.writes += 1;
        let lease = Lease { version: Version(self.writes.to_string()), record };
        self.lease = Some(lease.clone());
        Answer::Written(lease)
    }
}

/// A candidate's clock: what it shows at an instant of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Clock {
    /// Nanoseconds that it shows at the beginning.
    offset: u64,
    /// Nanoseconds that it passes in a thousand.
    rate: u64,
    /// Microseconds that the wall clock is ahead of it.
    wall: i64,
}

impl Clock {
    fn time(self, real: u64) -> crate::Time {
        crate::Time::from_nanos(self.offset + real * self.rate / 1000)
    }

    fn wall(self, real: u64) -> crate::Wall {
        let micros = i64::try_from(self.time(real).as_nanos() / 1000).unwrap();
        crate::Wall(micros + self.wall)
    }

    /// The first instant of the world at which it shows this.
    fn real(self, time: crate::Time) -> u64 {
        (time.as_nanos().saturating_sub(self.offset) * 1000).div_ceil(self.rate)
    }
}

/// A generator of random numbers (xorshift), so that a seed stands for a life.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from `low` up to but not including `high`.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// True in so many of a thousand cases.
    fn happens(&mut self, per_mille: u64) -> bool {
        self.within(0, 1000) < per_mille
    }

    fn chance(&mut self) -> f64 {
        f64::from(u32::try_from(self.within(0, 1 << 20)).unwrap()) / f64::from(1_u32 << 20)
    }
}
