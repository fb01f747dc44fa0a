//! Who a peer is to the API server: the table from the peer's address to a user, replaced as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use crate::refusal::Refusal;

/// A Kubernetes user as which a peer acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user name (`Impersonate-User`).
    pub user: String,
    /// The groups, one `Impersonate-Group` each; the API server adds `system:authenticated` itself.
    pub groups: Vec<String>,
    /// The user's uid (`Impersonate-Uid`), if it has one.
    pub uid: Option<String>,
    /// Extra values by key (`Impersonate-Extra-KEY`); keys are lower-cased, as the API server does.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why an identity cannot be used. The peer is refused then: there is no "without groups" instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no user name.
    #[error("the user name is empty")]
    NoUser,
    /// A name is empty, has blanks around it, or bytes that a header cannot carry.
    #[error(
        "the {what} {value:?} cannot be sent in a header: empty, blanks around it, or control characters"
    )]
    NotAHeader {
        /// Which part: user, group, uid, extra key, extra value.
        what: &'static str,
        /// The part.
        value: String,
    },
    /// A `system:` name that is not allow-listed.
    #[error(
        "the {what} {value:?} is one of Kubernetes' own; if it is meant, allow it by name in the proxy's configuration"
    )]
    System {
        /// user or group.
        what: &'static str,
        /// The name.
        value: String,
    },
}

/// The names beginning with `system:` that a mapping may carry. Everything else that begins so is
/// refused, since whoever writes the mappings is not the administrator of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemNames {
    /// Allowed users.
    pub users: HashSet<String>,
    /// Allowed groups.
    pub groups: HashSet<String>,
}

impl Default for SystemNames {
    /// No user; of the groups only `system:authenticated`, which the API server adds to every user.
    fn default() -> Self {
        Self { users: HashSet::new(), groups: HashSet::from(["system:authenticated".to_owned()]) }
    }
}

/// What a peer without a mapping is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// Refused with 403.
    Refuse,
    /// This user (`PROXY_IMPERSONATE_USER`, `PROXY_IMPERSONATE_GROUPS`).
    As(Identity),
}

/// An identity as the headers that carry it, made once and not for each request.
#[derive(Debug, PartialEq, Eq)]
pub struct Impersonation {
    identity: Identity,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Impersonation {
    /// Checks `identity` and makes its headers.
    pub fn new(identity: Identity, allowed: &SystemNames) -> Result<Self, IdentityError> {
        if identity.user.is_empty() {
            return Err(IdentityError::NoUser);
        }
        system("user", &identity.user, &allowed.users)?;
        for group in &identity.groups {
            system("group", group, &allowed.groups)?;
        }
        let mut headers = vec![(IMPERSONATE_USER, value("user", &identity.user)?)];
        for group in &identity.groups {
            headers.push((IMPERSONATE_GROUP, value("group", group)?));
        }
        if let Some(uid) = &identity.uid {
            headers.push((IMPERSONATE_UID, value("uid", uid)?));
        }
        for (key, values) in &identity.extra {
            let name = extra_name(key)?;
            for extra in values {
                headers.push((name.clone(), value("extra value", extra)?));
            }
        }
        Ok(Self { identity, headers })
    }

    /// Whom the headers name.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The headers, one entry for each value.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}

/// `Impersonate-Extra-KEY`: lower-cased and percent-encoded where KEY has bytes that a header name may
/// not have (client-go: `headerKeyEscape`; the API server decodes it in `unescapeExtraKey`).
fn extra_name(key: &str) -> Result<HeaderName, IdentityError> {
    let not_a_header = || IdentityError::NotAHeader { what: "extra key", value: key.to_owned() };
    if key.is_empty() {
        return Err(not_a_header());
    }
    let mut name = String::from("impersonate-extra-");
    for byte in key.to_lowercase().bytes() {
        let legal = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if legal {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| not_a_header())
}

/// Blanks around a value would be trimmed on the way, and another name would arrive.
fn value(what: &'static str, text: &str) -> Result<HeaderValue, IdentityError> {
    let not_a_header = || IdentityError::NotAHeader { what, value: text.to_owned() };
    if text.is_empty() || text.trim() != text || text.contains('\t') {
        return Err(not_a_header());
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| not_a_header())
}

fn system(what: &'static str, name: &str, allowed: &HashSet<String>) -> Result<(), IdentityError> {
    if name.starts_with("system:") && !allowed.contains(name) {
        return Err(IdentityError::System { what, value: name.to_owned() });
    }
    Ok(())
}

/// All mappings of one moment. Never changed: a new one takes its place.
#[derive(Debug)]
pub(crate) struct IdentityTable {
    peers: HashMap<IpAddr, Result<Arc<Impersonation>, IdentityError>>,
    unmapped: Option<Arc<Impersonation>>,
    /// Until when the table may be used; `None`: for ever.
    pub(crate) valid_until: Option<Instant>,
    /// No mappings have arrived yet, and none may be assumed.
    awaited: bool,
}

impl IdentityTable {
    /// The table before any mapping is known. If `awaited`, it refuses everyone.
    pub(crate) fn initial(unmapped: Option<Arc<Impersonation>>, awaited: bool) -> Self {
        Self { peers: HashMap::new(), unmapped, valid_until: None, awaited }
    }

    /// This table's successor with `mappings`; `unmapped` stays what it is.
    pub(crate) fn successor(
        &self,
        mappings: HashMap<IpAddr, Identity>,
        allowed: &SystemNames,
        valid_until: Option<Instant>,
    ) -> Self {
        let peers = mappings
            .into_iter()
            .map(|(peer, identity)| {
                let entry = Impersonation::new(identity, allowed).map(Arc::new);
                (peer.to_canonical(), entry)
            })
            .collect();
        Self { peers, unmapped: self.unmapped.clone(), valid_until, awaited: false }
    }

    /// The mappings that are refused, and why.
    pub(crate) fn refused(&self) -> Vec<(IpAddr, IdentityError)> {
        let refused = |(peer, entry): (&IpAddr, &Result<_, IdentityError>)| {
            entry.as_ref().err().map(|error| (*peer, error.clone()))
        };
        self.peers.iter().filter_map(refused).collect()
    }

    /// Whether the table is past its age limit.
    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.valid_until.is_some_and(|until| now >= until)
    }

    /// Who `peer` is now.
    pub(crate) fn lookup(
        &self,
        peer: IpAddr,
        now: Instant,
    ) -> Result<&Arc<Impersonation>, Refusal> {
        if self.awaited {
            return Err(Refusal::unavailable(
                "the proxy does not know its users yet: the first synchronisation of user mappings has not succeeded",
            ));
        }
        if self.expired(now) {
            return Err(Refusal::unavailable(
                "the proxy's user mappings are too old to be trusted: their synchronisation has been failing; see the check user-sync in /readyz",
            ));
        }
        self.unaged(peer)
    }

    fn unaged(&self, peer: IpAddr) -> Result<&Arc<Impersonation>, Refusal> {
        match self.peers.get(&peer.to_canonical()) {
            Some(Ok(impersonation)) => Ok(impersonation),
            Some(Err(error)) => Err(Refusal::forbidden(format!(
                "the user mapping of peer {peer} is not acceptable: {error}"
            ))),
            None => self.unmapped.as_ref().ok_or_else(|| {
                Refusal::forbidden(format!(
                    "peer {peer} is mapped to no Kubernetes user, and this proxy has no default user"
                ))
            }),
        }
    }

    /// Whether `peer` is the same user in `other`, so that its sessions may go on.
    pub(crate) fn same(&self, other: &Self, peer: IpAddr, now: Instant) -> bool {
        match (self.lookup(peer, now), other.lookup(peer, now)) {
            (Ok(one), Ok(two)) => one == two,
            // Neither has sessions worth a word.
            (Err(_), Err(_)) => true,
            _ => false,
        }
    }
}

/// Until when mappings are valid that were fetched `now`.
pub(crate) fn valid_until(now: Instant, age_limit: Option<Duration>) -> Option<Instant> {
    age_limit.and_then(|limit| now.checked_add(limit))
}

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str, groups: &[&str]) -> Identity {
        Identity {
            user: user.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..Identity::default()
        }
    }

    fn pairs(impersonation: &Impersonation) -> Vec<(String, String)> {
        let text = |(name, value): &(HeaderName, HeaderValue)| {
            (name.to_string(), String::from_utf8(value.as_bytes().to_vec()).unwrap())
        };
        impersonation.headers().iter().map(text).collect()
    }

    #[test]
    fn s6_each_group_has_a_header_of_its_own() {
        let made = Impersonation::new(
            identity("jane", &["system:authenticated", "dev,ops"]),
            &SystemNames::default(),
        )
        .unwrap();
        let expected = [
            ("impersonate-user", "jane"),
            ("impersonate-group", "system:authenticated"),
            ("impersonate-group", "dev,ops"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs(&made), expected);
    }

    #[test]
    fn s16_system_names_from_a_mapping_are_refused_unless_allowed() {
        let allowed = SystemNames::default();
        for (user, group) in [
            ("system:admin", "dev"),
            ("system:serviceaccount:kube-system:x", "dev"),
            ("jane", "system:masters"),
            ("jane", "system:nodes"),
        ] {
            let error = Impersonation::new(identity(user, &[group]), &allowed).unwrap_err();
            assert!(matches!(error, IdentityError::System { .. }), "{error}");
        }
        let allowed = SystemNames {
            users: HashSet::from(["system:admin".to_owned()]),
            groups: HashSet::from(["system:masters".to_owned()]),
        };
        Impersonation::new(identity("system:admin", &["system:masters"]), &allowed).unwrap();
        Impersonation::new(identity("system:admin", &["system:authenticated"]), &allowed)
            .unwrap_err();
    }

    #[test]
    fn a_name_that_would_arrive_as_another_one_is_refused() {
        let allowed = SystemNames::default();
        assert_eq!(
            Impersonation::new(identity("", &["dev"]), &allowed),
            Err(IdentityError::NoUser)
        );
        for user in [" admin", "admin ", "a\r\nImpersonate-Group: system:masters", "a\0", "a\tb"] {
            Impersonation::new(identity(user, &[]), &allowed).unwrap_err();
        }
        for group in ["", " ", "\u{a0}system:masters", " system:masters"] {
            Impersonation::new(identity("jane", &[group]), &allowed).unwrap_err();
        }
    }

    #[test]
    fn extra_keys_are_lower_case_and_encoded() {
        let mut with = identity("jane", &[]);
        with.uid = Some("42".into());
        with.extra = BTreeMap::from([(
            "Example.com/Scope%Ü".to_owned(),
            vec!["a".to_owned(), "ü b".to_owned()],
        )]);
        let made = Impersonation::new(with.clone(), &SystemNames::default()).unwrap();
        let name = "impersonate-extra-example.com%2fscope%25%c3%bc".to_owned();
        assert_eq!(
            pairs(&made)[1..],
            [
                ("impersonate-uid".to_owned(), "42".to_owned()),
                (name.clone(), "a".to_owned()),
                (name, "ü b".to_owned()),
            ]
        );
        with.extra = BTreeMap::from([(String::new(), vec!["a".to_owned()])]);
        Impersonation::new(with, &SystemNames::default()).unwrap_err();
    }

    #[test]
    fn a_table_knows_only_its_own_mappings_and_only_while_fresh() {
        let now = Instant::now();
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        let other: IpAddr = "10.0.0.8".parse().unwrap();
        let awaited = IdentityTable::initial(None, true);
        assert_eq!(awaited.lookup(peer, now).unwrap_err().code, 503);

        let until = now + Duration::from_secs(10);
        let mappings = HashMap::from([(mapped, identity("jane", &[]))]);
        let table = awaited.successor(mappings, &SystemNames::default(), Some(until));
        assert_eq!(table.lookup(peer, now).unwrap().identity().user, "jane");
        assert_eq!(table.lookup(mapped, now).unwrap().identity().user, "jane");
        assert_eq!(table.lookup(other, now).unwrap_err().code, 403);
        assert_eq!(table.lookup(peer, until).unwrap_err().code, 503);

        let without = table.successor(HashMap::new(), &SystemNames::default(), None);
        assert_eq!(without.lookup(peer, now).unwrap_err().code, 403);
        assert!(!table.same(&without, peer, now));
        assert!(table.same(&without, other, now));
    }

    #[test]
    fn a_mapping_that_is_refused_does_not_become_the_default_user() {
        let now = Instant::now();
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        let allowed = SystemNames::default();
        let default = Impersonation::new(identity("wireguard-peer", &[]), &allowed).unwrap();
        let table = IdentityTable::initial(Some(Arc::new(default)), false).successor(
            HashMap::from([(peer, identity("jane", &["system:masters"]))]),
            &allowed,
            None,
        );
        assert_eq!(table.lookup(peer, now).unwrap_err().code, 403);
        assert_eq!(table.refused().len(), 1);
        let other = "10.0.0.8".parse().unwrap();
        let user = &table.lookup(other, now).unwrap().identity().user;
        assert_eq!(user, "wireguard-peer");
    }
}
