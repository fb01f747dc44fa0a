//! Serf's user messages: intents, user events and queries that are passed on, and the queries that every member answers.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_bytes::ByteBuf;

use crate::event::Event;
use crate::keyring::Key;
use crate::serf::Serf;
use crate::wire::{
    self, Join, KeyRequest, KeyResponse, Leave, Malformed, MemberInfo, Query, QueryResponse,
    UserEvent, address, address_bytes, kind, serf_kind,
};

/// How many user events and queries are known again.
const SEEN: usize = 2048;
/// A filter by names, and one by a tag (`filterType`).
const BY_NODE: u8 = 0;

impl Serf {
    /// One of Serf's messages, from gossip.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn user_message(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (&kind, body) =
            message.split_first().ok_or_else(|| Malformed::new("an empty user message"))?;
        let news = match kind {
            serf_kind::JOIN => self.join_intent(&wire::decode::<Join>("join", body)?),
            serf_kind::LEAVE => self.leave_intent(&wire::decode::<Leave>("leave", body)?),
            serf_kind::USER_EVENT => {
                let event: UserEvent = wire::decode("user event", body)?;
                self.witness_event(event.time);
                self.is_new(&(event.time, &event.name, event.payload.as_slice()))
            }
            serf_kind::QUERY => {
                let query: Query = wire::decode("query", body)?;
                self.witness_query(query.time);
                let new = self.is_new(&(query.time, query.id));
                if new {
                    self.queried(&query)?;
                }
                new && query.flags & Query::NO_BROADCAST == 0
            }
            // Answers to somebody else's question, and relays of them, which are asked for by a factor above 0 only.
            _ => false,
        };
        if news {
            self.tell_raw(message);
        }
        Ok(())
    }

    /// Whether a user event or query has not been seen yet.
    fn is_new(&mut self, what: &impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let hash = hasher.finish();
        if self.seen.contains(&hash) {
            return false;
        }
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        true
    }

    /// Answers a query, if it is for this member (`handleQuery`).
    fn queried(&mut self, query: &Query) -> Result<(), Malformed> {
        for filter in &query.filters {
            // A filter by tag is a regular expression of Go's; who cannot tell whether it fits does not answer.
            let [BY_NODE, names @ ..] = filter.as_slice() else { return Ok(()) };
            if !wire::decode::<Vec<String>>("filter", names)?.contains(&self.swim.name) {
                return Ok(());
            }
        }
        let Some(asker) = address(&query.addr, query.port) else { return Ok(()) };
        if query.flags & Query::ACK != 0 {
            self.answer(asker, query, 1, Vec::new());
        }
        let Some(name) = query.name.strip_prefix("_serf_") else { return Ok(()) };
        let key = || -> Result<KeyRequest, Malformed> {
            match query.payload.split_first() {
                Some((&serf_kind::KEY_REQUEST, body)) => wire::decode("key", body),
                _ => Err(Malformed::new("a request for keys without a key")),
            }
        };
        let response = match name {
            "conflict" => {
                self.who_is(asker, query);
                return Ok(());
            }
            "install-key" | "use-key" | "remove-key" => self.change_keys(name, &key()?.key),
            "list-keys" => self.list_keys(),
            _ => return Ok(()),
        };
        self.answer(asker, query, 0, wire::encode(serf_kind::KEY_RESPONSE, &response));
        Ok(())
    }

    fn answer(&mut self, to: SocketAddr, query: &Query, flags: u32, payload: Vec<u8>) {
        let response = QueryResponse {
            time: query.time,
            id: query.id,
            from: self.swim.name.clone(),
            flags,
            payload: ByteBuf::from(payload),
        };
        let mut message = vec![kind::USER];
        message.extend(wire::encode(serf_kind::QUERY_RESPONSE, &response));
        self.io.send(to, &message, false);
    }

    /// Two nodes claim a name, and ask everyone who has it.
    fn who_is(&mut self, asker: SocketAddr, query: &Query) {
        let name = String::from_utf8_lossy(&query.payload);
        if name == self.swim.name {
            return;
        }
        let Some(known) = self.members.get(&*name) else { return };
        let version = |at: usize| known.versions.get(at).copied().unwrap_or(0);
        let info = MemberInfo {
            name: known.member.name.clone(),
            addr: address_bytes(known.member.address.ip()),
            port: known.member.address.port(),
            tags: known.member.tags.clone(),
            status: known.member.status as u8,
            protocol_min: version(0),
            protocol_max: version(1),
            protocol_cur: version(2),
            delegate_min: version(3),
            delegate_max: version(4),
            delegate_cur: version(5),
        };
        self.answer(asker, query, 0, wire::encode(serf_kind::CONFLICT_RESPONSE, &info));
    }

    /// `serf keys -install`, `-use` and `-remove`.
    fn change_keys(&mut self, what: &str, key: &[u8]) -> KeyResponse {
        let refused = |message: String| KeyResponse { message, ..KeyResponse::default() };
        let Some(ring) = &mut self.io.keyring else {
            return refused("No keyring to modify (encryption not enabled)".to_owned());
        };
        let before = ring.clone();
        let changed = Key::new(key).and_then(|key| match what {
            "install-key" => {
                ring.install(key);
                Ok(())
            }
            "use-key" => ring.use_key(&key),
            _ => ring.remove(&key),
        });
        if let Err(e) = changed {
            return refused(e.to_string());
        }
        if *ring != before {
            let ring = ring.clone();
            self.io.event(Event::KeysChanged(ring));
        }
        KeyResponse { result: true, ..KeyResponse::default() }
    }

    fn list_keys(&self) -> KeyResponse {
        let Some(ring) = &self.io.keyring else {
            return KeyResponse {
                message: "Keyring is empty (encryption not enabled)".to_owned(),
                ..KeyResponse::default()
            };
        };
        let keys: Vec<String> =
            ring.keys().iter().map(|key| STANDARD.encode(key.expose())).collect();
        KeyResponse { result: true, primary_key: keys[0].clone(), keys, message: String::new() }
    }
}
