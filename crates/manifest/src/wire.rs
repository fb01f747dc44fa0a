//! Objects and their status as the API server sends them: the JSON of `kubectl get -o json`.

mod batch;
mod pod;
mod qos;

pub use batch::{cron_job_json, job_json};
pub use pod::{ContainerIds, Deletion, Node, PodJson, Stored, pod_json};
pub use qos::{QosClass, qos_class};

use holdfast_lifecycle::Time;
use serde_json::Value;

use crate::object::Timestamp;

/// A time as the API writes it: RFC 3339 with whole seconds. The engine's times must count from the
/// Unix epoch.
pub fn time(time: Time) -> Value {
    Value::String(Timestamp::from_unix(time).to_string())
}

fn optional_time(at: Option<Time>) -> Value {
    at.map_or(Value::Null, time)
}

/// A field that the API leaves out when it is empty.
fn put(map: &mut serde_json::Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key.to_owned(), Value::from(text));
    }
}

/// `True` or `False`.
fn word(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

/// An object as JSON, without a status.
pub fn object_json(object: &crate::Object) -> Value {
    // The objects hold nothing that JSON cannot hold: strings, numbers, lists and string keys.
    serde_json::to_value(object).unwrap_or_default()
}
