//! What happens on the server, as it happens.

use bytes::{Buf as _, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::ApiError;
use super::transport::causes;

/// A change of one object.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened to it.
    pub kind: EventKind,
    /// The object as it is since; when it was deleted, as it was last. A bookmark has nothing but its
    /// `metadata.resourceVersion`.
    pub object: Value,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is new, or the watch began without a version.
    Added,
    /// Nothing happened, up to this version.
    Bookmark,
    /// It is gone.
    Deleted,
    /// It is different.
    Modified,
}

/// A stream of changes. Dropping it ends the request.
#[derive(Debug)]
pub struct Watch {
    path: String,
    body: Incoming,
    /// What came after the last whole line.
    rest: BytesMut,
}

impl Watch {
    pub(super) fn new(path: String, body: Incoming) -> Self {
        Self { path, body, rest: BytesMut::new() }
    }

    /// The next change; `None` when the server has ended the watch. A future that is dropped loses nothing.
    ///
    /// # Errors
    /// [`ApiError::Status`] with code 410 when the version is too old to go on from: list anew.
    pub async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end);
                self.rest.advance(1);
                return self.event(&line).map(Some);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
                Some(Err(e)) => {
                    return Err(ApiError::Answer { path: self.path.clone(), what: causes(&e) });
                }
            }
        }
    }

    fn event(&self, line: &[u8]) -> Result<Event, ApiError> {
        let nonsense = |what: String| ApiError::Answer { path: self.path.clone(), what };
        let mut event: Value = serde_json::from_slice(line).map_err(|e| nonsense(e.to_string()))?;
        let object = event.get_mut("object").map_or(Value::Null, Value::take);
        let kind = match event.get("type").and_then(Value::as_str) {
            Some("ADDED") => EventKind::Added,
            Some("BOOKMARK") => EventKind::Bookmark,
            Some("DELETED") => EventKind::Deleted,
            Some("MODIFIED") => EventKind::Modified,
            Some("ERROR") => {
                let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
                return Err(ApiError::Status {
                    method: Method::GET,
                    path: self.path.clone(),
                    code: object.get("code").and_then(Value::as_u64).unwrap_or(500) as u16,
                    reason: word("reason").to_owned(),
                    message: word("message").to_owned(),
                });
            }
            other => return Err(nonsense(format!("an event of type {other:?}"))),
        };
        Ok(Event { kind, object })
    }
}
