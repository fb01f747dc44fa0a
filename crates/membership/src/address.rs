//! Which address a node has in the mesh: where addresses may come from, which a node tries first, and who
//! keeps one that two have claimed.
//!
//! Nobody hands addresses out. A node picks one that no record it knows of claims, starting at a place
//! that its id says, and publishes the claim in its record. Nodes that were apart may have claimed the same
//! one; then every node finds the same winner from the two records alone ([`Holders`]), and the loser, when it
//! sees that, picks again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::crypto;
use crate::identity::NodeId;
use crate::record::{Claim, Record};
use crate::time::Wall;

/// Where addresses may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The IPv4 subnet, up to /31.
    pub v4: Option<Ipv4Net>,
    /// The IPv6 subnet, up to /127, of unique local addresses (fc00::/7).
    pub v6: Option<Ipv6Net>,
    /// What it must not overlap.
    pub taken: Vec<Taken>,
    /// Addresses that one node only may have.
    pub reserved: BTreeMap<IpAddr, Owner>,
}

/// A range that is somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The range.
    pub net: IpNet,
    /// Whose, as it should appear in a sentence: `pod range of k3s`, `route of eth0`.
    pub what: String,
}

/// Who an address is reserved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The node with this key.
    Id(NodeId),
    /// Any node that calls itself so: convenient, and as good as the names are.
    Name(String),
}

impl Default for PoolConfig {
    /// 10.213.0.0/16 and fd21:3f0d:fa57::/64, which are not k3s' pod and service ranges.
    fn default() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 213, 0, 0), 16);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd21, 0x3f0d, 0xfa57, 0, 0, 0, 0, 0), 64);
        Self { v4: Some(v4), v6: Some(v6), taken: Taken::k3s(), reserved: BTreeMap::new() }
    }
}

impl Taken {
    /// What k3s uses unless it is told otherwise.
    #[must_use]
    pub fn k3s() -> Vec<Self> {
        let net = |third: u8| Ipv4Net::new_assert(Ipv4Addr::new(10, third, 0, 0), 16).into();
        vec![
            Self { net: net(42), what: "the default pod range of k3s".into() },
            Self { net: net(43), what: "the default service range of k3s".into() },
        ]
    }
}

/// Why a configuration of addresses is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Neither family.
    #[error("the mesh has neither an IPv4 nor an IPv6 subnet: nodes could have no address")]
    Nothing,
    /// One address only.
    #[error("subnet {0} has one address, which is enough for one node only; use a shorter prefix")]
    Single(IpNet),
    /// Overlap.
    #[error(
        "subnet {subnet} overlaps {net}, {what}: packets for one would go to the other; choose a subnet outside of it"
    )]
    Overlap {
        /// Ours.
        subnet: IpNet,
        /// Theirs.
        net: IpNet,
        /// Whose.
        what: String,
    },
    /// Not ULA.
    #[error(
        "subnet {0} is not one of unique local addresses (fc00::/7): its addresses belong to others; take one below fd00::/8 with 40 random bits"
    )]
    NotLocal(Ipv6Net),
    /// Of no use in a mesh.
    #[error("subnet {0} is not for unicast: no node can have an address in it")]
    NotUnicast(Ipv4Net),
    /// A reservation outside.
    #[error(
        "{0} is reserved for a node, but is no address that a node can have in the subnets of the mesh"
    )]
    Reserved(IpAddr),
}

/// Where addresses come from, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    config: PoolConfig,
}

impl Pool {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`PoolError`], a sentence that says what is wrong with which subnet.
    pub fn new(mut config: PoolConfig) -> Result<Self, PoolError> {
        config.v4 = config.v4.map(|net| net.trunc());
        config.v6 = config.v6.map(|net| net.trunc());
        let nets: Vec<IpNet> =
            [config.v4.map(IpNet::V4), config.v6.map(IpNet::V6)].into_iter().flatten().collect();
        if nets.is_empty() {
            return Err(PoolError::Nothing);
        }
        if let Some(single) = nets.iter().find(|net| net.prefix_len() == net.max_prefix_len()) {
            return Err(PoolError::Single(*single));
        }
        let local = Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
        if let Some(net) = config.v6.filter(|net| !local.contains(net)) {
            return Err(PoolError::NotLocal(net));
        }
        for special in ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"] {
            let special: Option<Ipv4Net> = special.parse().ok();
            let overlap =
                |net: &Ipv4Net| special.is_some_and(|s| s.contains(net) || net.contains(&s));
            if let Some(net) = config.v4.filter(overlap) {
                return Err(PoolError::NotUnicast(net));
            }
        }
        for subnet in &nets {
            let overlap =
                |taken: &&Taken| subnet.contains(&taken.net) || taken.net.contains(subnet);
            if let Some(Taken { net, what }) = config.taken.iter().find(overlap) {
                return Err(PoolError::Overlap { subnet: *subnet, net: *net, what: what.clone() });
            }
        }
        let pool = Self { config };
        match pool.config.reserved.keys().find(|ip| !pool.has(**ip)) {
            Some(ip) => Err(PoolError::Reserved(*ip)),
            None => Ok(pool),
        }
    }

    /// What it was made of; subnets without host bits.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Whether a node can have this address: it is in a subnet, and not the name of the subnet itself.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        let (first, count) = self.range(ip.is_ipv4());
        number(ip).checked_sub(first).is_some_and(|offset| offset < count)
    }

    /// The address of a family that is reserved for this node.
    #[must_use]
    pub fn reserved_for(&self, v4: bool, id: &NodeId, name: &str) -> Option<IpAddr> {
        let own = |(ip, owner): &(&IpAddr, &Owner)| ip.is_ipv4() == v4 && owner.is(id, name);
        self.config.reserved.iter().find(own).map(|(ip, _)| *ip)
    }

    /// Whether this node can have this address.
    #[must_use]
    pub fn may_have(&self, ip: IpAddr, id: &NodeId, name: &str) -> bool {
        self.has(ip) && self.config.reserved.get(&ip).is_none_or(|owner| owner.is(id, name))
    }

    /// The address that a node should claim: the one that is reserved for it; else the first of a
    /// sequence that begins where its id says, of those that nobody has. `None` if there is none, or no
    /// subnet of this family.
    #[must_use]
    pub fn pick(
        &self,
        v4: bool,
        id: &NodeId,
        name: &str,
        taken: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        if let Some(ip) = self.reserved_for(v4, id, name) {
            return Some(ip);
        }
        let (first, count) = self.range(v4);
        let free = |offset: u128| {
            let ip = address(v4, first + offset);
            (!self.config.reserved.contains_key(&ip) && !taken(ip)).then_some(ip)
        };
        let offset = |attempt: u32| {
            let hash = crypto::sha256(&[b"holdfast address v1\0", &id.0, &attempt.to_be_bytes()]);
            let mut number = [0; 16];
            number.copy_from_slice(&hash[..16]);
            u128::from_be_bytes(number) % count
        };
        if count == 0 {
            return None;
        }
        // Few tries are enough while there is room; when there is little, every address is looked at.
        let start = offset(0);
        let hashed = (0..HASHED_TRIES).find_map(|attempt| free(offset(attempt)));
        hashed.or_else(|| (0..count.min(WALKED_TRIES)).find_map(|i| free((start + i) % count)))
    }

    /// How strongly a node may hold an address; `None` if not at all. Less is stronger.
    fn rank(&self, claim: &Claim, record: &Record) -> Option<Rank> {
        let reserved = match self.config.reserved.get(&claim.ip) {
            Some(owner) if owner.is(&record.id(), &record.draft().name) => 0,
            Some(_) => return None,
            None => 1,
        };
        let holder = Rank { reserved, since: claim.since, id: record.id() };
        self.has(claim.ip).then_some(holder)
    }

    /// The number of the first address that a node can have, and how many there are.
    fn range(&self, v4: bool) -> (u128, u128) {
        let Some(net) =
            (if v4 { self.config.v4.map(IpNet::V4) } else { self.config.v6.map(IpNet::V6) })
        else {
            return (0, 0);
        };
        let bits = net.max_prefix_len() - net.prefix_len();
        let (first, all) = (number(net.network()), 1u128.checked_shl(bits.into()).unwrap_or(0));
        match (bits, v4) {
            // RFC 3021 and RFC 6164: both are for nodes.
            (1, _) => (first, 2),
            // Without the subnet's own address and that of everybody.
            (_, true) => (first + 1, all - 2),
            // Without the subnet's routers' address.
            (_, false) => (first + 1, all - 1),
        }
    }
}

impl Owner {
    fn is(&self, id: &NodeId, name: &str) -> bool {
        match self {
            Self::Id(owner) => owner == id,
            Self::Name(owner) => owner == name,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    reserved: u8,
    since: Wall,
    id: NodeId,
}

/// Who claims what, and who of them has it: who it is reserved for, else who has claimed it for longer, else
/// the lower id. A function of the records alone, so that nodes with the same records agree.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    by_address: BTreeMap<IpAddr, BTreeSet<Rank>>,
}

impl Holders {
    /// Takes note of a record's claims. Returns who may have got or lost an address by it.
    pub(crate) fn add(&mut self, pool: &Pool, record: &Record) -> Vec<NodeId> {
        let mut touched = Vec::new();
        for claim in record.claims() {
            if let Some(rank) = pool.rank(&claim, record) {
                let ranks = self.by_address.entry(claim.ip).or_default();
                touched.extend(ranks.first().map(|rank| rank.id));
                ranks.insert(rank);
            }
        }
        touched
    }

    /// Forgets a record's claims. Returns who may have got an address by it.
    pub(crate) fn remove(&mut self, pool: &Pool, record: &Record) -> Vec<NodeId> {
        let mut touched = Vec::new();
        for claim in record.claims() {
            let Some(rank) = pool.rank(&claim, record) else { continue };
            let Some(ranks) = self.by_address.get_mut(&claim.ip) else { continue };
            ranks.remove(&rank);
            touched.extend(ranks.first().map(|rank| rank.id));
            if ranks.is_empty() {
                self.by_address.remove(&claim.ip);
            }
        }
        touched
    }

    /// Who has this address.
    #[must_use]
    pub fn holder(&self, ip: IpAddr) -> Option<NodeId> {
        Some(self.by_address.get(&ip)?.first()?.id)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(v4: bool, number: u128) -> IpAddr {
    if v4 {
        // It came from an address of this family, or is below the end of a subnet of it.
        Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

const HASHED_TRIES: u32 = 64;
const WALKED_TRIES: u128 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn pool(v4: &str, v6: &str) -> Result<Pool, PoolError> {
        let config = PoolConfig { v4: v4.parse().ok(), v6: v6.parse().ok(), ..Default::default() };
        Pool::new(config)
    }

    fn id(n: u8) -> NodeId {
        Identity::from_seed([n; 32]).id()
    }

    #[test]
    fn what_is_refused_and_why() {
        let cases = [
            ("", "", "neither an IPv4 nor an IPv6"),
            ("10.42.0.0/16", "", "overlaps 10.42.0.0/16, the default pod range of k3s"),
            ("10.42.7.0/24", "", "overlaps 10.42.0.0/16"),
            ("10.0.0.0/8", "", "overlaps 10.42.0.0/16"),
            ("10.43.9.9/24", "", "subnet 10.43.9.0/24 overlaps 10.43.0.0/16, the default service"),
            ("10.9.0.1/32", "", "has one address"),
            ("", "fd00::1/128", "has one address"),
            ("", "2001:db8::/64", "unique local"),
            ("127.1.0.0/16", "", "not for unicast"),
            ("239.0.0.0/24", "", "not for unicast"),
            ("0.0.0.0/0", "", "not for unicast"),
        ];
        for (v4, v6, part) in cases {
            let message = pool(v4, v6).unwrap_err().to_string();
            assert!(message.contains(part), "{v4} {v6}: {message}");
        }
        let reserved = |ip: &str| {
            let reserved = [(ip.parse().unwrap(), Owner::Name("a".into()))].into();
            Pool::new(PoolConfig { reserved, ..Default::default() })
        };
        assert_eq!(reserved("10.213.0.0"), Err(PoolError::Reserved("10.213.0.0".parse().unwrap())));
        assert!(reserved("10.214.0.1").is_err() && reserved("10.213.0.1").is_ok());
        assert!(Pool::new(PoolConfig::default()).is_ok());
    }

    #[test]
    fn which_addresses_a_subnet_has() {
        let has = |v4: &str, v6: &str, ip: &str| pool(v4, v6).unwrap().has(ip.parse().unwrap());
        for (net, ip, expected) in [
            ("10.9.0.0/24", "10.9.0.0", false),
            ("10.9.0.0/24", "10.9.0.1", true),
            ("10.9.0.0/24", "10.9.0.254", true),
            ("10.9.0.0/24", "10.9.0.255", false),
            ("10.9.0.0/24", "10.9.1.1", false),
            ("10.9.0.0/30", "10.9.0.3", false),
            ("10.9.0.0/31", "10.9.0.0", true),
            ("10.9.0.0/31", "10.9.0.1", true),
            ("10.9.0.0/31", "10.9.0.2", false),
            ("10.9.0.0/24", "fd00::1", false),
        ] {
            assert_eq!(has(net, "", ip), expected, "{net} {ip}");
        }
        for (net, ip, expected) in [
            ("fd00::/64", "fd00::", false),
            ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", true),
            ("fd00::/127", "fd00::", true),
            ("fc00::/7", "fd00::1", true),
            ("fd00::/64", "10.0.0.1", false),
        ] {
            assert_eq!(has("", net, ip), expected, "{net} {ip}");
        }
    }

    #[test]
    fn every_address_of_a_small_subnet_is_found() {
        let pool = pool("10.9.0.0/27", "fd00::/124").unwrap();
        for (v4, count) in [(true, 30), (false, 15)] {
            let mut taken = BTreeSet::new();
            while let Some(ip) = pool.pick(v4, &id(1), "a", |ip| taken.contains(&ip)) {
                assert!(pool.has(ip) && taken.insert(ip), "{ip}");
            }
            assert_eq!(taken.len(), count);
        }
    }

    #[test]
    fn a_node_tries_the_same_first_and_nodes_differ() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let pick = |n| pool.pick(true, &id(n), "", |_| false).unwrap();
        assert_eq!(pick(1), pick(1));
        let all: BTreeSet<IpAddr> = (0..50).map(pick).collect();
        assert_eq!(all.len(), 50, "of 65534 addresses");
    }

    #[test]
    fn a_reserved_address_is_its_owners_only() {
        let ip: IpAddr = "10.9.0.1".parse().unwrap();
        let config = PoolConfig {
            v4: "10.9.0.0/30".parse().ok(),
            reserved: [(ip, Owner::Name("first".into()))].into(),
            ..Default::default()
        };
        let pool = Pool::new(config).unwrap();
        assert_eq!(pool.pick(true, &id(1), "first", |_| true), Some(ip));
        let other = pool.pick(true, &id(2), "second", |_| false);
        assert_eq!(other, Some("10.9.0.2".parse().unwrap()));
        assert_eq!(pool.pick(true, &id(3), "third", |ip| Some(ip) == other), None);
    }

    fn record(n: u8, ip: &str, since: u64) -> Record {
        let mut draft = crate::record::tests::draft();
        draft.name = format!("node-{n}");
        draft.v4 = Some(Claim { ip: ip.parse().unwrap(), since: Wall(since) });
        Record::sign(&Identity::from_seed([n; 32]), draft).unwrap()
    }

    #[test]
    fn of_two_the_same_has_it_in_whatever_order_they_are_heard() {
        let ip: IpAddr = "10.213.0.9".parse().unwrap();
        let lower = if id(1) < id(2) { 1 } else { 2 };
        for (a, b, winner) in [(5, 6, 1), (6, 5, 2), (5, 5, lower)] {
            let (a, b) = (record(1, "10.213.0.9", a), record(2, "10.213.0.9", b));
            for order in [[&a, &b], [&b, &a]] {
                let pool = Pool::new(PoolConfig::default()).unwrap();
                let mut holders = Holders::default();
                for record in order {
                    holders.add(&pool, record);
                }
                assert_eq!(holders.holder(ip), Some(id(winner)));
                holders.remove(&pool, if winner == 1 { &a } else { &b });
                assert_eq!(holders.holder(ip), Some(id(3 - winner)));
            }
        }
    }

    #[test]
    fn a_claim_outside_is_no_claim() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let mut holders = Holders::default();
        holders.add(&pool, &record(1, "10.42.0.1", 1));
        assert_eq!(holders.holder("10.42.0.1".parse().unwrap()), None);
    }
}
