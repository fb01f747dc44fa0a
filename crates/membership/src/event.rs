//! Inputs and outputs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::identity::NodeId;
use crate::record::Record;
use crate::revocation::Revocation;
use crate::secret::KeyId;
use crate::token::TokenId;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing but time has passed.
    Tick,
    /// A datagram came in.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// Whole.
        bytes: &'a [u8],
    },
    /// Where members may be heard: replaces what was said before. Names have to be resolved by the caller, again
    /// and again.
    Join(Vec<SocketAddr>),
}

/// What is to be done, in this order: what is to be kept has to be on the disk before what comes after it
/// is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Up to 1400 bytes.
        bytes: Vec<u8>,
    },
    /// Keep this, in place of what was to be kept before: the next start needs it.
    Persist(Snapshot),
    /// A member came, went or changed.
    Member(MemberEvent),
    /// This node has another address in the mesh.
    AddressChanged {
        /// IPv4, then IPv6: what it had.
        old: [Option<IpAddr>; 2],
        /// What it has.
        new: [Option<IpAddr>; 2],
    },
    /// A member has let this node in.
    Admitted {
        /// Who.
        by: NodeId,
    },
    /// A member has not let this node in. It is tried again, unless it cannot help.
    Rejected {
        /// Who, where it is heard.
        by: SocketAddr,
        /// Why.
        why: Why,
    },
    /// This node was removed from the cluster. It is silent from here on.
    Removed(Arc<Revocation>),
    /// After [`Membership::leave`](crate::Membership::leave): the others have been told, as far as datagrams tell.
    Left,
    /// Something that a person may want to know.
    Notice(Notice),
}

/// What has to be kept from start to start. It holds the cluster secret: its file has to be readable by its
/// owner only.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} bytes)", self.0.len())
    }
}

/// What happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// It is there, and its record is known.
    Joined(Peer),
    /// It is there, and its record or its addresses have changed.
    Updated(Peer),
    /// It does not answer, nobody reaches it.
    Failed(Peer),
    /// It has said goodbye.
    Left(Peer),
    /// It was removed, for ever.
    Removed(Arc<Revocation>),
    /// It has been gone for so long that it is forgotten.
    Reaped(NodeId),
}

/// A member as a peer of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it says of itself, verified.
    pub record: Arc<Record>,
    /// The address that is its own: what it claims, unless that is another's or in no subnet of the mesh.
    pub v4: Option<IpAddr>,
    /// The same for IPv6.
    pub v6: Option<IpAddr>,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Known from its record only; not seen since this node was started.
    Absent,
    /// There.
    Alive,
    /// Not reached by anybody.
    Failed,
    /// Gone, and said so.
    Left,
    /// Removed.
    Removed,
}

/// Why a node is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// Removed.
    #[error("this node was removed from the cluster; it can come back only with a new identity")]
    Removed,
    /// No credential, or one under a secret that is not in use.
    #[error(
        "this node has no proof that it was admitted under a secret that is in use; was the secret replaced?"
    )]
    NotAdmitted,
    /// Token unknown.
    #[error("the join token is not known to the node that it names")]
    TokenUnknown,
    /// Token expired.
    #[error("the join token has expired")]
    TokenExpired,
    /// Token used.
    #[error("the join token was used by another node")]
    TokenSpent,
    /// Token revoked.
    #[error("the join token was revoked")]
    TokenRevoked,
    /// Not itself in a cluster yet.
    #[error("that node is in no cluster itself")]
    NotReady,
}

/// Something that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Two records of one version.
    #[error(
        "{0} has said two things at one time: two machines run with one identity, or a state directory was restored from a backup"
    )]
    Forked(NodeId),
    /// This node's own identity is used elsewhere.
    #[error(
        "a record of this node, version {version}, was not made by it: another machine runs with its identity, or its state directory is older than its last run"
    )]
    Overtaken {
        /// The version that was seen.
        version: u64,
    },
    /// The subnet is full.
    #[error("no address is left for this node in {0}; use a shorter prefix")]
    NoAddressLeft(ipnet::IpNet),
    /// An address was lost.
    #[error(
        "address {ip} is that of {holder}, which has claimed it for longer; this node takes another"
    )]
    AddressLost {
        /// Which.
        ip: IpAddr,
        /// Who has it.
        holder: NodeId,
    },
    /// Another ring of secrets was taken over.
    #[error("the cluster's secrets are at step {epoch} now, in use is {primary}")]
    Keyring {
        /// Step.
        epoch: u64,
        /// In use.
        primary: KeyId,
    },
    /// A member's proof is under a secret that is gone.
    #[error(
        "{0} has no proof of its admission under a secret in use any more: it was away while the secret was replaced, and has to be given the new one"
    )]
    Unproved(NodeId),
    /// A token was used.
    #[error("join token {token} was used by {by}")]
    TokenUsed {
        /// Which.
        token: TokenId,
        /// By whom.
        by: NodeId,
    },
    /// A removed node still talks.
    #[error(
        "{0}, which was removed, still knocks; if its machine is in other hands, replace the cluster secret"
    )]
    RemovedKnocks(NodeId),
}
