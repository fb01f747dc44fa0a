//! Which peer has an address: the longest prefix that fits.
//!
//! A tree of bits for each family, as the kernel has it (allowedips.c), without its compression of
//! paths: a lookup takes at most 32 or 128 steps and about as few as there are bits in the prefix that
//! fits; nodes are in one vector, so that a lookup stays in a few lines of the cache.

use std::net::IpAddr;

use ipnet::IpNet;

/// A map from prefixes to values.
#[derive(Clone, Debug)]
pub(crate) struct Allowed<T> {
    v4: Tree<T>,
    v6: Tree<T>,
}

#[derive(Clone, Debug)]
struct Tree<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that are in no tree any more.
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    /// 0 is none: nothing points to the root.
    children: [u32; 2],
    value: Option<T>,
}

impl<T> Default for Allowed<T> {
    fn default() -> Self {
        Self { v4: Tree::default(), v6: Tree::default() }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { nodes: vec![Node { children: [0; 2], value: None }], free: Vec::new() }
    }
}

/// The bits of an address from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn bit(bits: u128, at: u8) -> usize {
    usize::from(bits << at >> 127 != 0)
}

impl<T: Copy + PartialEq> Allowed<T> {
    fn tree(&mut self, net: &IpNet) -> &mut Tree<T> {
        match net {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }

    /// Gives a prefix to `value`, and says whose it was.
    pub(crate) fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        self.tree(&net).insert(bits(net.network()), net.prefix_len(), value)
    }

    /// Takes a prefix from `value`; one that another has is left alone.
    pub(crate) fn remove(&mut self, net: IpNet, value: T) -> bool {
        self.tree(&net).remove(bits(net.network()), net.prefix_len(), value)
    }

    /// Whose an address is.
    pub(crate) fn find(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(_) => self.v4.find(bits(address), 32),
            IpAddr::V6(_) => self.v6.find(bits(address), 128),
        }
    }
}

impl<T: Copy + PartialEq> Tree<T> {
    fn insert(&mut self, bits: u128, length: u8, value: T) -> Option<T> {
        let mut node = 0;
        for at in 0..length {
            let side = bit(bits, at);
            let next = self.nodes[node].children[side];
            node = if next == 0 {
                let new = self.node();
                self.nodes[node].children[side] = new;
                new as usize
            } else {
                next as usize
            };
        }
        self.nodes[node].value.replace(value)
    }

    fn node(&mut self) -> u32 {
        let empty = Node { children: [0; 2], value: None };
        if let Some(free) = self.free.pop() {
            self.nodes[free as usize] = empty;
            return free;
        }
        self.nodes.push(empty);
        // 2^32 nodes would be 64 GiB.
        u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, bits: u128, length: u8, value: T) -> bool {
        let mut path = Vec::with_capacity(usize::from(length));
        let mut node = 0;
        for at in 0..length {
            let side = bit(bits, at);
            path.push((node, side));
            node = match self.nodes[node].children[side] {
                0 => return false,
                next => next as usize,
            };
        }
        if self.nodes[node].value != Some(value) {
            return false;
        }
        self.nodes[node].value = None;
        // Branches that lead nowhere.
        for (parent, side) in path.into_iter().rev() {
            let child = self.nodes[parent].children[side];
            let Node { children, value } = self.nodes[child as usize];
            if value.is_some() || children != [0; 2] {
                break;
            }
            self.nodes[parent].children[side] = 0;
            self.free.push(child);
        }
        true
    }

    fn find(&self, bits: u128, width: u8) -> Option<T> {
        let mut node = &self.nodes[0];
        let mut found = node.value;
        for at in 0..width {
            match node.children[bit(bits, at)] {
                0 => break,
                next => node = &self.nodes[next as usize],
            }
            found = node.value.or(found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_wins() {
        let mut allowed = Allowed::default();
        for (at, text) in
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8"]
                .into_iter()
                .enumerate()
        {
            assert_eq!(allowed.insert(net(text), at), None);
        }
        for (address, expected) in [
            ("1.1.1.1", Some(0)),
            ("10.2.0.1", Some(1)),
            ("10.1.0.1", Some(2)),
            ("10.1.2.3", Some(3)),
            ("2001:db8::1", Some(4)),
            ("fd12::1", Some(5)),
        ] {
            assert_eq!(allowed.find(address.parse().unwrap()), expected, "{address}");
        }
        assert_eq!(allowed.insert(net("10.1.0.0/16"), 9), Some(2), "it goes over");
        assert!(!allowed.remove(net("10.1.0.0/16"), 2), "it is not its any more");
        assert!(allowed.remove(net("10.1.0.0/16"), 9));
        assert_eq!(allowed.find("10.1.0.1".parse().unwrap()), Some(1));
        assert_eq!(allowed.find("10.1.2.3".parse().unwrap()), Some(3));
    }

    fn nets() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 4]>(), 0_u8..=32);
        let v6 = (any::<[u8; 16]>(), 0_u8..=128);
        // Few bits, so that prefixes meet.
        let v4 = v4.prop_map(|(ip, len)| {
            IpNet::new(IpAddr::from(ip.map(|byte| byte & 0x81)), len).unwrap().trunc()
        });
        let v6 = v6.prop_map(|(ip, len)| {
            IpNet::new(IpAddr::from(ip.map(|byte| byte & 0x80)), len).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        /// The same as looking at every prefix.
        #[test]
        fn as_a_list_would(
            steps in prop::collection::vec((nets(), 0_u8..4, any::<bool>()), 0..60),
            looks in prop::collection::vec(nets(), 0..20),
        ) {
            let mut allowed = Allowed::default();
            let mut list: Vec<(IpNet, u8)> = Vec::new();
            for (net, value, insert) in steps {
                let has = list.iter().position(|(other, _)| *other == net);
                if insert {
                    let before = has.map(|at| list.swap_remove(at).1);
                    prop_assert_eq!(allowed.insert(net, value), before);
                    list.push((net, value));
                } else {
                    let mine = has.filter(|at| list[*at].1 == value);
                    prop_assert_eq!(allowed.remove(net, value), mine.is_some());
                    mine.map(|at| list.swap_remove(at));
                }
            }
            for look in looks.iter().chain(list.iter().map(|(net, _)| net)) {
                let address = look.addr();
                let fits = list.iter().filter(|(net, _)| net.contains(&address));
                let best = fits.max_by_key(|(net, _)| net.prefix_len()).map(|(_, value)| *value);
                prop_assert_eq!(allowed.find(address), best);
            }
            for (net, value) in list {
                allowed.remove(net, value);
            }
            for tree in [&allowed.v4, &allowed.v6] {
                prop_assert_eq!(tree.nodes.len() - tree.free.len(), 1, "nothing is left");
            }
        }
    }
}
