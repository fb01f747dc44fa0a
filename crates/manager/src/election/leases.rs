//! The Lease on the API server: what is asked of it, and its content in both directions.

use std::fmt;
use std::time::Duration;

use holdfast_election::{Answer, Lease, Record, Request, Version, Wall};
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};

use super::rights::MissingRight;

/// Where the Lease is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why a request did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A right is missing.
    #[error("{0}")]
    Missing(MissingRight),
    /// The API server's own words.
    #[error("{verb} lease {place}: {said}")]
    Refused { verb: &'static str, place: Place, said: String },
    /// No answer.
    #[error(
        "{verb} lease {place}: no answer from the API server within {} s",
        within.as_secs_f32()
    )]
    Late { verb: &'static str, place: Place, within: Duration },
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verb: &'static str,
    pub(super) answer: Answer,
    /// The object of the answer.
    pub(super) object: Option<DynamicObject>,
    pub(super) trouble: Option<Trouble>,
}

/// The Lease, and how to ask for it.
#[derive(Clone)]
pub(super) struct Leases {
    pub(super) api: Api<DynamicObject>,
    pub(super) place: Place,
    timeout: Duration,
}

impl Leases {
    pub(super) fn new(client: &kube::Client, place: Place, timeout: Duration) -> Self {
        let api = Api::namespaced_with(client.clone(), &place.namespace, &resource());
        Self { api, place, timeout }
    }

    /// Carries out a request, within the time limit. `known` are objects that were read: a write changes
    /// one of them, and so keeps what others have put into it.
    pub(super) async fn carry_out(self, request: Request, known: Vec<DynamicObject>) -> Outcome {
        let verb = match request {
            Request::Get => "get",
            Request::Create { .. } => "create",
            Request::Update { .. } => "update",
        };
        let result = tokio::time::timeout(self.timeout, self.send(request, known)).await;
        let (answer, object, trouble) = match result {
            Ok(Ok(Some(object))) => match (lease_of(&object), verb) {
                (Some(lease), "get") => (Answer::Got(lease), Some(object), None),
                (Some(lease), _) => (Answer::Written(lease), Some(object), None),
                (None, _) => {
                    let said = "the answer has no resourceVersion, or its spec is no Lease's";
                    (Answer::Failed, None, Some(self.refused(verb, said.into())))
                }
            },
            // What it was to be based on is not known any more.
            Ok(Ok(None)) => (Answer::Conflict, None, None),
            Ok(Err(kube::Error::Api(status))) => match status.code {
                404 if status.is_not_found() && verb != "create" => (Answer::NotFound, None, None),
                409 => (Answer::Conflict, None, None),
                403 => {
                    let Place { namespace, name } = &self.place;
                    let missing = MissingRight::lease(verb, namespace, name, &status.message);
                    (Answer::Failed, None, Some(Trouble::Missing(missing)))
                }
                _ => (Answer::Failed, None, Some(self.refused(verb, status.message))),
            },
            Ok(Err(error)) => (Answer::Failed, None, Some(self.refused(verb, chain(&error)))),
            Err(_) => {
                let (place, within) = (self.place.clone(), self.timeout);
                (Answer::Failed, None, Some(Trouble::Late { verb, place, within }))
            }
        };
        Outcome { verb, answer, object, trouble }
    }

    async fn send(
        &self,
        request: Request,
        known: Vec<DynamicObject>,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let by = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let object = match request {
            Request::Get => self.api.get(&self.place.name).await?,
            Request::Create { record } => {
                let mut object = DynamicObject::new(&self.place.name, &resource());
                write(&mut object, &record);
                self.api.create(&by, &object).await?
            }
            Request::Update { version, record } => {
                let is = |object: &DynamicObject| {
                    object.metadata.resource_version.as_deref() == Some(&*version.0)
                };
                let Some(mut object) = known.into_iter().find(is) else { return Ok(None) };
                write(&mut object, &record);
                self.api.replace(&self.place.name, &by, &object).await?
            }
        };
        Ok(Some(object))
    }

    fn refused(&self, verb: &'static str, said: String) -> Trouble {
        Trouble::Refused { verb, place: self.place.clone(), said }
    }
}

/// An error with its causes: kube's own words leave them out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        cause = error.source();
    }
    words
}

pub(super) fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&())
}

/// What an object says (client-go: `LeaseSpecToLeaderElectionRecord`); `None` if it is no Lease.
pub(super) fn lease_of(object: &DynamicObject) -> Option<Lease> {
    let version = Version(object.metadata.resource_version.clone()?);
    let spec = &object.data["spec"];
    if !(spec.is_object() || spec.is_null()) {
        return None;
    }
    let number = |key: &str| u32::try_from(spec[key].as_u64().unwrap_or_default()).ok();
    let time = |key: &str| {
        let time: jiff::Timestamp = spec[key].as_str()?.parse().ok()?;
        Some(Wall(time.as_microsecond()))
    };
    let record = Record {
        holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        duration_seconds: number("leaseDurationSeconds")?,
        acquired: time("acquireTime"),
        renewed: time("renewTime"),
        transitions: number("leaseTransitions")?,
    };
    Some(Lease { version, record })
}

/// Puts a record into an object (client-go: `LeaderElectionRecordToLeaseSpec`), and leaves what else is
/// in it.
fn write(object: &mut DynamicObject, record: &Record) {
    let time = |Wall(micros): Wall| {
        let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        // MicroTime: always with six digits.
        Value::String(format!("{time:.6}"))
    };
    if !object.data.is_object() {
        object.data = json!({});
    }
    if !object.data["spec"].is_object() {
        object.data["spec"] = json!({});
    }
    let spec = &mut object.data["spec"];
    spec["holderIdentity"] = json!(record.holder);
    spec["leaseDurationSeconds"] = json!(record.duration_seconds);
    spec["acquireTime"] = record.acquired.map_or(Value::Null, time);
    spec["renewTime"] = record.renewed.map_or(Value::Null, time);
    spec["leaseTransitions"] = json!(record.transitions);
}

/// Who wrote what, in `managedFields`.
const MANAGER: &str = "holdfast";

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: Value) -> DynamicObject {
        let mut object = DynamicObject::new("l", &resource()).data(json!({ "spec": spec }));
        object.metadata.resource_version = Some("7".into());
        object
    }

    /// client-go: `TestLeaseSpecToLeaderElectionRecordRoundTrip`.
    #[test]
    fn a_record_survives_the_way_to_a_lease_and_back() {
        let record = Record {
            holder: "foo".into(),
            duration_seconds: 10,
            acquired: Some(Wall(1_763_776_543_000_000)),
            renewed: Some(Wall(1_763_776_543_120_000)),
            transitions: 1,
        };
        let mut object = object(json!({}));
        write(&mut object, &record);
        assert_eq!(object.data["spec"]["renewTime"], "2025-11-22T01:55:43.120000Z");
        assert_eq!(object.data["spec"]["acquireTime"], "2025-11-22T01:55:43.000000Z");
        let version = Version("7".into());
        assert_eq!(lease_of(&object), Some(Lease { version, record }));
    }

    #[test]
    fn what_others_have_put_into_a_lease_stays() {
        let mut object = object(json!({ "preferredHolder": "x", "fromTheFuture": { "a": 1 } }));
        object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        write(&mut object, &Record::default());
        let sent = serde_json::to_value(&object).unwrap();
        assert_eq!(sent["spec"]["preferredHolder"], "x");
        assert_eq!(sent["spec"]["fromTheFuture"]["a"], 1);
        assert_eq!(sent["metadata"]["labels"]["a"], "b");
        assert_eq!(sent["metadata"]["resourceVersion"], "7");
        assert_eq!((&sent["kind"], &sent["spec"]["holderIdentity"]), (&json!("Lease"), &json!("")));
    }

    #[test]
    fn an_empty_lease_is_held_by_nobody() {
        let lease = lease_of(&object(Value::Null)).unwrap();
        assert_eq!(lease.record, Record::default());
        let mut no_version = object(Value::Null);
        no_version.metadata.resource_version = None;
        assert_eq!(lease_of(&no_version), None);
        assert_eq!(lease_of(&object(json!({ "leaseDurationSeconds": 1_u64 << 40 }))), None);
    }
}
