//! Subnets and addresses of pods.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

/// The subnet of a run: one of the /22s of 10.64.0.0/10, room for 1,021 pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(u32);

const SPACE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const SPACE_PREFIX: u8 = 10;

impl Subnet {
    /// Its length.
    pub(super) const PREFIX: u8 = 22;
    const SIZE: u32 = 1 << (32 - Self::PREFIX);
    const COUNT: u32 = 1 << (Self::PREFIX - SPACE_PREFIX);

    /// Chooses one that overlaps none of `taken`, starting anywhere by `seed`.
    pub(super) fn choose(seed: u32, taken: &[(Ipv4Addr, u8)]) -> Option<Self> {
        (0..Self::COUNT)
            .map(|step| (seed.wrapping_add(step)) % Self::COUNT)
            .map(|number| Self(SPACE.to_bits() + number * Self::SIZE))
            .find(|subnet| {
                !taken.iter().any(|(address, prefix)| subnet.overlaps(*address, *prefix))
            })
    }

    fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        // A default route leads everywhere and takes nothing.
        if prefix == 0 {
            return false;
        }
        let shorter = prefix.min(Self::PREFIX);
        let mask = u32::MAX << (32 - u32::from(shorter.min(32)));
        self.0 & mask == address.to_bits() & mask
    }

    /// The host's address in it.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0 + 1)
    }

    /// Which address of it this is.
    pub(super) fn number_of(self, address: Ipv4Addr) -> u32 {
        address.to_bits().wrapping_sub(self.0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.0), Self::PREFIX)
    }
}

/// The addresses of a subnet.
#[derive(Debug)]
pub(super) struct Pool {
    subnet: Subnet,
    taken: BTreeSet<u32>,
    next: u32,
}

/// The first number for a pod: 0 is the subnet, 1 the host. The last is the broadcast address.
const FIRST: u32 = 2;

impl Pool {
    pub(super) fn new(subnet: Subnet) -> Self {
        Self { subnet, taken: BTreeSet::new(), next: FIRST }
    }

    pub(super) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// A free address, and not one that was free a moment ago if that can be helped: others may still
    /// remember who had it.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let last = Subnet::SIZE - 2;
        let number = (self.next..=last)
            .chain(FIRST..self.next)
            .find(|number| !self.taken.contains(number))?;
        self.taken.insert(number);
        self.next = if number == last { FIRST } else { number + 1 };
        Some(Ipv4Addr::from_bits(self.subnet.0 + number))
    }

    pub(super) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&self.subnet.number_of(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_overlaps_nothing() {
        let first = Subnet::choose(0, &[]).unwrap();
        assert_eq!(first.to_string(), "10.64.0.0/22");
        assert_eq!(first.gateway(), Ipv4Addr::new(10, 64, 0, 1));
        let taken = [
            (Ipv4Addr::new(0, 0, 0, 0), 0),
            (Ipv4Addr::new(10, 64, 0, 0), 21),
            (Ipv4Addr::new(10, 64, 9, 7), 32),
            (Ipv4Addr::new(192, 168, 0, 0), 16),
        ];
        assert_eq!(Subnet::choose(0, &taken).unwrap().to_string(), "10.64.12.0/22");
        assert_eq!(Subnet::choose(4095, &taken).unwrap().to_string(), "10.127.252.0/22");
        assert_eq!(Subnet::choose(7, &[(Ipv4Addr::new(10, 0, 0, 0), 8)]), None);
    }

    #[test]
    fn addresses_are_given_once_and_reused_late() {
        let mut pool = Pool::new(Subnet::choose(0, &[]).unwrap());
        let first = pool.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 64, 0, 2));
        pool.give_back(first);
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 64, 0, 3));
        let mut all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(all.len(), 1020);
        assert_eq!(all.pop(), Some(first));
        assert!(!all.contains(&Ipv4Addr::new(10, 64, 3, 255)), "not the broadcast address");
    }
}
