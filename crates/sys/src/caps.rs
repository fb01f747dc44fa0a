//! Capabilities: names, what the caller has, and what a container gets.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Names without `CAP_`, by number (`linux/capability.h`).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives a container that asks for nothing (`oci.defaultUnixCaps`).
pub const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caps(u64);

impl Caps {
    /// CAP_SYS_ADMIN, the right to mount and to make namespaces.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// CAP_SETUID and CAP_SETGID, the right to be someone else.
    pub const SET_IDS: Self = Self(1 << 6 | 1 << 7);
    /// CAP_SETPCAP, the right to shrink the bounding set.
    const SETPCAP: Self = Self(1 << 8);

    /// The set of containerd's defaults.
    #[must_use]
    pub fn defaults() -> Self {
        DEFAULT.iter().filter_map(|name| Self::named(name)).fold(Self(0), Self::union)
    }

    /// All that are known here.
    #[must_use]
    pub const fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// One capability by its name, with or without `CAP_`, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }

    /// What the calling thread has.
    ///
    /// # Errors
    /// What `capget` says.
    pub fn own() -> io::Result<Self> {
        let sets = rustix::thread::capabilities(None)?;
        Ok(Self(sets.permitted.bits()))
    }

    /// Everything in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Display for Caps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{}{name}", if first { "" } else { ", " })?;
                first = false;
            }
        }
        Ok(())
    }
}

/// Leaves the calling thread `keep` and nothing else in its bounding set, so that a later exec cannot
/// gain more.
pub(crate) fn limit_bounding(keep: Caps) -> io::Result<()> {
    let may = Caps::own()?.contains(Caps::SETPCAP);
    for bit in (0..64).filter(|bit| !keep.contains(Caps(1 << bit))) {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) } == 0 {
            continue;
        }
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            // Beyond the kernel's last capability.
            Some(libc::EINVAL) if may => Ok(()),
            // Without the right to shrink it the bounding set stays; it gives nothing by itself to a
            // process that has nothing.
            Some(libc::EPERM) if !may => Ok(()),
            _ => Err(error),
        };
    }
    Ok(())
}

/// Gives the calling thread `caps` as permitted and effective set; inheritable and ambient are emptied
/// (as containerd and runc do since CVE-2022-24769).
pub(crate) fn set(caps: Caps) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let bits = CapabilitySet::from_bits_retain(caps.0);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: bits, permitted: bits, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_both_ways() {
        assert_eq!(Caps::named("CAP_NET_ADMIN"), Caps::named("net_admin"));
        assert_eq!(Caps::named("NET_ADMIN").unwrap().to_string(), "NET_ADMIN");
        assert_eq!(Caps::named("SYS_ADMIN"), Some(Caps::SYS_ADMIN));
        assert_eq!(Caps::named("CHECKPOINT_RESTORE"), Some(Caps(1 << 40)));
        assert_eq!(Caps::named("NO_SUCH"), None);
        assert_eq!(Caps::named(""), None);
    }

    #[test]
    fn the_defaults_are_containerds() {
        // The mask of CapEff in a container of containerd.
        assert_eq!(Caps::defaults(), Caps(0xa804_25fb));
    }

    #[test]
    fn what_the_kernel_says_of_us_is_read() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).unwrap();
        assert_eq!(Caps::own().unwrap().0, u64::from_str_radix(line.trim(), 16).unwrap());
    }
}
