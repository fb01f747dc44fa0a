//! What the server answers: `{"Response": {"mappings": {"10.0.0.1": {"user": "…", "groups": […]}}}}`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use tracing::warn;

/// The user of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Mapping {
    /// Its name; an empty one is nobody, and refused.
    #[serde(default)]
    pub user: String,
    /// Its groups.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub groups: Vec<String>,
}

/// All that the server said at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    peers: BTreeMap<IpAddr, Mapping>,
    /// Keys that are no addresses, and addresses that are named twice with different users.
    odd: Vec<String>,
}

/// netmaker: `models.SuccessResponse`.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Response")]
    response: UserMap,
}

/// netmaker: `models.UserIPMap`. The key must be there: an answer without it says nothing about users,
/// least of all that there are none.
#[derive(Deserialize)]
struct UserMap {
    #[serde(deserialize_with = "pairs")]
    mappings: Vec<(String, Mapping)>,
}

impl Mappings {
    /// Reads an answer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let envelope: Envelope = serde_json::from_slice(body)?;
        let mut this = Self::default();
        for (key, mapping) in envelope.response.mappings {
            let Some(peer) = address(&key) else {
                this.odd.push(key);
                continue;
            };
            match this.peers.get_mut(&peer) {
                Some(other) if *other != mapping => {
                    // Neither of the two, and not the default user either: a name that is refused.
                    *other = Mapping::default();
                    this.odd.push(key);
                }
                _ => {
                    this.peers.insert(peer, mapping);
                }
            }
        }
        Ok(this)
    }

    /// How many addresses have a user.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Address and user.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Mapping)> {
        self.peers.iter().map(|(peer, mapping)| (*peer, mapping))
    }

    pub(super) fn warn(&self) {
        if let Some(first) = self.odd.first() {
            let (count, first) = (self.odd.len(), first.chars().take(64).collect::<String>());
            warn!(
                count,
                first, "User mappings with a key that is no address, or two users, are refused"
            );
        }
    }
}

/// An address, or the network of one address.
fn address(key: &str) -> Option<IpAddr> {
    let bare = match key.split_once('/') {
        None => key,
        Some((bare, bits)) if bits == if bare.contains(':') { "128" } else { "32" } => bare,
        Some(_) => return None,
    };
    bare.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Go writes an empty slice as `null`.
fn null_is_nothing<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A map with each pair it has, in order, also those whose key comes twice; `null` is an empty one.
fn pairs<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, Mapping)>, D::Error> {
    struct Pairs;

    impl<'de> serde::de::Visitor<'de> for Pairs {
        type Value = Vec<(String, Mapping)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map from address to user")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    from.deserialize_any(Pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mappings: &str) -> Mappings {
        let text = format!(r#"{{"Code":200,"Message":"","Response":{{"mappings":{mappings}}}}}"#);
        Mappings::parse(text.as_bytes()).unwrap()
    }

    fn who(mappings: &Mappings) -> Vec<(String, String, String)> {
        let words =
            mappings.iter().map(|(ip, m)| (ip.to_string(), m.user.clone(), m.groups.join(" ")));
        words.collect()
    }

    fn row(ip: &str, user: &str, groups: &str) -> (String, String, String) {
        (ip.to_owned(), user.to_owned(), groups.to_owned())
    }

    #[test]
    fn what_netmaker_sends() {
        let read = parse(
            r#"{"10.0.0.1":{"user":"jane","groups":["dev","ops"]},"10.0.0.2":{"user":"joe","groups":null},
                "fd00::1/128":{"user":"six"},"10.0.0.3/32":{"user":"net","groups":[]}}"#,
        );
        let rows = [
            row("10.0.0.1", "jane", "dev ops"),
            row("10.0.0.2", "joe", ""),
            row("10.0.0.3", "net", ""),
            row("fd00::1", "six", ""),
        ];
        assert_eq!(who(&read), rows);
        assert!(parse("null").is_empty() && parse("{}").is_empty());
    }

    #[test]
    fn what_cannot_be_one_peer_is_nobody() {
        let read =
            parse(r#"{"10.0.0.0/8":{"user":"all"},"":{"user":"x"},"10.0.0.1":{"user":"a"}}"#);
        assert_eq!((who(&read), read.odd.len()), (vec![row("10.0.0.1", "a", "")], 2));
        // The same peer twice is refused, however it is written.
        let read = parse(r#"{"10.0.0.1":{"user":"a"},"::ffff:10.0.0.1":{"user":"root"}}"#);
        assert_eq!(who(&read), [row("10.0.0.1", "", "")]);
        let read = parse(r#"{"10.0.0.1":{"user":"a"},"10.0.0.1":{"user":"root"}}"#);
        assert_eq!(who(&read), [row("10.0.0.1", "", "")]);
    }

    /// None of these says that there are no users.
    #[test]
    fn what_says_nothing_about_users() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"Response":{}}"#,
            r#"{"Response":null}"#,
            r#"{"Code":500,"Message":"failed"}"#,
            r#"{"Response":{"mappings":[]}}"#,
            r#"{"Response":{"mappings":{"10.0.0.1":"jane"}}}"#,
            r#"{"Response":{"mappings":{"10.0.0.1":{"user":5}}}}"#,
            r#"{"Response":{"mappings":{}}"#,
        ] {
            assert!(Mappings::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
