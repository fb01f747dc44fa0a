//! A small Kubernetes client: JSON in, JSON out.
//!
//! The bench compares what is on the wire, so that it wants every field as the server sent it, also those
//! that a typed client of another version would not know. One HTTP/2 connection carries all requests of a
//! [`Client`]; each [`Watch`] has a connection of its own, so that watches never use up its streams.
//!
//! ```no_run
//! # async fn f() -> Result<(), holdfast_e2e::cluster::api::ApiError> {
//! use std::time::Duration;
//! use holdfast_e2e::cluster::api::Client;
//!
//! let client = Client::from_kubeconfig("target/cluster/default/kubeconfig".as_ref())?;
//! let pod: serde_json::Value = serde_json::from_str("{…}").unwrap();
//! client.create(&pod).await?;
//! let phase = client
//!     .wait("/api/v1/namespaces/default/pods/web", Duration::from_secs(30), |pod| {
//!         pod?.pointer("/status/phase")?.as_str().filter(|p| *p != "Pending").map(str::to_owned)
//!     })
//!     .await?;
//! # Ok(()) }
//! ```

pub(super) mod kubeconfig;
mod path;
mod transport;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

pub use path::path_of;
pub use watch::{Event, EventKind, Watch};

use transport::Transport;

/// Why a request did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {what}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The object does not say what it is, so that it has no place on the server.
    #[error("the object has no {0}: without it there is no address to send it to")]
    NoPlace(&'static str),
    /// No answer: the server is not there, or went away.
    #[error("{method} https://{server}{path}: {what}")]
    Transport {
        /// The verb.
        method: Method,
        /// Host and port.
        server: String,
        /// Path and query.
        path: String,
        /// The cause.
        what: String,
    },
    /// The server's answer is not success: its own words.
    #[error("{method} {path}: {code} {reason}: {message}")]
    Status {
        /// The verb.
        method: Method,
        /// Path and query.
        path: String,
        /// The HTTP status.
        code: u16,
        /// `Status.reason`, e.g. `NotFound`.
        reason: String,
        /// `Status.message`.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("{path}: the server's answer makes no sense: {what}")]
    Answer {
        /// Path and query.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// What was waited for did not happen.
    #[error("{path}: not so within {} s; last seen: {last}", within.as_secs_f32())]
    Late {
        /// The object's path.
        path: String,
        /// How long it was waited for.
        within: Duration,
        /// The object's status when the wait ended.
        last: String,
    },
}

impl ApiError {
    /// Whether the server said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// Whether the server said that there is one of that name, or that it has changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }
}

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: what is named replaces what is there.
    Merge,
    /// Kubernetes' own: lists merge by key.
    Strategic,
}

/// A connection to one API server. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client with the address and the credentials of the kubeconfig's current context. Nothing is
    /// connected yet.
    ///
    /// The kubeconfigs of the bench are JSON, which every reader of kubeconfigs takes; so must `path` be.
    ///
    /// # Errors
    /// [`ApiError::Kubeconfig`]
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ApiError> {
        let config = kubeconfig::read(path)?;
        Ok(Self { transport: Transport::new(config) })
    }

    /// Sends a request and returns the body of the answer. `path` starts with a slash and may have a query.
    ///
    /// # Errors
    /// When there is no answer, or one that is not success.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        let (status, bytes) = self.transport.send(method.clone(), path, content_type, body).await?;
        if status.is_success() { Ok(bytes) } else { Err(refusal(method, path, status, &bytes)) }
    }

    /// Reads an object or a list, e.g. `/api/v1/namespaces/default/pods?labelSelector=app%3Dweb`.
    ///
    /// # Errors
    /// As [`Client::raw`]; [`ApiError::is_not_found`] if it is not there.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.value(Method::GET, path, None, Bytes::new()).await
    }

    /// Reads something that is not JSON, such as `…/pods/web/log?container=app`.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let bytes = self.raw(Method::GET, path, None, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Creates an object where its apiVersion, kind and namespace say, and returns what became of it.
    ///
    /// # Errors
    /// As [`Client::raw`]; [`ApiError::is_conflict`] if there is one of that name.
    pub async fn create(&self, object: &Value) -> Result<Value, ApiError> {
        self.post(path::collection_of(object)?.as_str(), object).await
    }

    /// Posts to a path, also to a subresource such as `…/pods/web/eviction`.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.value(Method::POST, path, Some(JSON), Bytes::from(body.to_string())).await
    }

    /// Replaces an object, or a subresource such as `…/status`.
    ///
    /// # Errors
    /// As [`Client::raw`]; [`ApiError::is_conflict`] if `metadata.resourceVersion` is not the last.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.value(Method::PUT, path, Some(JSON), Bytes::from(body.to_string())).await
    }

    /// Makes the object be as given, whether it is there or not (server-side apply, conflicts overruled).
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn apply(&self, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{}?fieldManager=holdfast-bench&force=true", path_of(object)?);
        let body = Bytes::from(object.to_string());
        self.value(Method::PATCH, &path, Some("application/apply-patch+yaml"), body).await
    }

    /// Changes an object.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn patch(&self, path: &str, kind: Patch, patch: &Value) -> Result<Value, ApiError> {
        let content_type = match kind {
            Patch::Json => "application/json-patch+json",
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
        };
        self.value(Method::PATCH, path, Some(content_type), Bytes::from(patch.to_string())).await
    }

    /// Deletes an object; `grace` is `gracePeriodSeconds`, `None` leaves it to the object.
    ///
    /// # Errors
    /// As [`Client::raw`]; [`ApiError::is_not_found`] if it is not there.
    pub async fn delete(&self, path: &str, grace: Option<u32>) -> Result<Value, ApiError> {
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if let Some(seconds) = grace {
            options["gracePeriodSeconds"] = seconds.into();
        }
        self.value(Method::DELETE, path, Some(JSON), Bytes::from(options.to_string())).await
    }

    /// What happens in a collection from `resource_version` on: `path` is that of the list, with its
    /// selectors, if any.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn watch(&self, path: &str, resource_version: &str) -> Result<Watch, ApiError> {
        let path = path::with_query(
            path,
            &format!("watch=true&allowWatchBookmarks=true&resourceVersion={resource_version}"),
        );
        let (status, body) = self.transport.stream(&path).await?;
        if !status.is_success() {
            let bytes = transport::collect(body, &path).await?;
            return Err(refusal(Method::GET, &path, status, &bytes));
        }
        Ok(Watch::new(path, body))
    }

    /// Waits until `seen` finds what it is looking for in the object at `path`, which it is given at first
    /// and after every change; `None` while there is none.
    ///
    /// # Errors
    /// As [`Client::raw`]; [`ApiError::Late`] if it did not happen `within`.
    pub async fn wait<T>(
        &self,
        path: &str,
        within: Duration,
        seen: impl FnMut(Option<&Value>) -> Option<T>,
    ) -> Result<T, ApiError> {
        let mut last = Value::Null;
        let found = self.wait_for(path, seen, &mut last);
        match tokio::time::timeout(within, found).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::Late {
                path: path.to_owned(),
                within,
                last: if last.is_null() {
                    "no such object".to_owned()
                } else {
                    last.get("status").unwrap_or(&last).to_string()
                },
            }),
        }
    }

    async fn wait_for<T>(
        &self,
        path: &str,
        mut seen: impl FnMut(Option<&Value>) -> Option<T>,
        last: &mut Value,
    ) -> Result<T, ApiError> {
        let (collection, name) = path.rsplit_once('/').ok_or(ApiError::NoPlace("path"))?;
        let selected = format!("{collection}?fieldSelector=metadata.name%3D{name}");
        loop {
            let mut list = self.get(&selected).await?;
            let version = list
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
                .unwrap_or("0")
                .to_owned();
            *last = list.pointer_mut("/items/0").map_or(Value::Null, Value::take);
            if let Some(found) = seen((!last.is_null()).then_some(&*last)) {
                return Ok(found);
            }
            let mut watch = self.watch(&selected, &version).await?;
            // A server ends a watch now and then, and forgets old versions: then everything is read anew.
            while let Ok(Some(event)) = watch.next().await {
                match event.kind {
                    EventKind::Bookmark => continue,
                    EventKind::Deleted => *last = Value::Null,
                    EventKind::Added | EventKind::Modified => *last = event.object,
                }
                if let Some(found) = seen((!last.is_null()).then_some(&*last)) {
                    return Ok(found);
                }
            }
        }
    }

    /// Whether the server says that it is ready (`/readyz`); why not, otherwise.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.raw(Method::GET, "/readyz?verbose", None, Bytes::new()).await.map(|_| ())
    }

    async fn value(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Value, ApiError> {
        let bytes = self.raw(method, path, content_type, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::Answer { path: path.to_owned(), what: e.to_string() })
    }
}

/// The server's `Status` object as an error; of other answers the text.
fn refusal(method: Method, path: &str, status: StatusCode, body: &[u8]) -> ApiError {
    let object: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let word = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    ApiError::Status {
        method,
        path: path.to_owned(),
        code: status.as_u16(),
        reason: word("reason")
            .unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned()),
        message: word("message").unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
    }
}

const JSON: &str = "application/json";
