//! Any bytes → all that the mesh reads from others and from its files. The target `membership`, and a test of the
//! crate with what the crate itself writes.

use holdfast_membership::{Identity, JoinToken, NodeId, Record, Revocation, TokenId, message};

/// One input; panics if something is wrong.
pub(crate) fn run(data: &[u8]) {
    message::fuzz(data);
    if let Ok(record) = Record::parse(data) {
        assert_eq!(record.bytes(), data, "one record, two encodings");
        assert!(record.draft().check().is_ok());
    }
    if let Ok(revocation) = Revocation::parse(data) {
        assert_eq!(revocation.bytes(), data, "one removal, two encodings");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<NodeId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<TokenId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(*token.to_text(), text.trim());
    }
    if let Ok(identity) = Identity::from_json(text) {
        let again = Identity::from_json(&identity.to_json());
        assert!(again.is_ok_and(|again| again.id() == identity.id()));
    }
}
