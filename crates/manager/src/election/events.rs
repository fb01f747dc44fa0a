//! Tells people: core/v1 Events about the Lease, as client-go's `LeaseLock.RecordEvent` makes them.
//!
//! They are sent beside the election, in order, and never hold it up.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::follow::News;
use super::leases::{Place, chain};
use super::rights::MissingRight;

/// What is told.
#[derive(Debug)]
struct Told {
    at: jiff::Timestamp,
    kind: &'static str,
    message: String,
    /// The Lease's, as far as they are known.
    uid: Option<String>,
    version: Option<String>,
}

/// Sends Events about one Lease.
pub(super) struct Reporter {
    told: mpsc::UnboundedSender<Told>,
    task: AbortOnDropHandle<()>,
    /// Of the Lease, as last seen.
    pub(super) about: ObjectMeta,
}

impl Reporter {
    pub(super) fn new(
        client: &kube::Client,
        place: Place,
        identity: String,
        news: mpsc::Sender<News>,
    ) -> Self {
        let (told, queue) = mpsc::unbounded_channel();
        let api = Api::namespaced(client.clone(), &place.namespace);
        let task = tokio::spawn(send(api, place, identity, queue, news));
        let about = ObjectMeta::default();
        Self { told, task: AbortOnDropHandle::new(task), about }
    }

    /// `<identity> became leader`, `<identity> stopped leading`.
    pub(super) fn normal(&self, message: String) {
        self.tell("Normal", message);
    }

    /// Something that somebody has to change.
    pub(super) fn warning(&self, message: String) {
        self.tell("Warning", message);
    }

    fn tell(&self, kind: &'static str, message: String) {
        let (uid, version) = (self.about.uid.clone(), self.about.resource_version.clone());
        let told = Told { at: jiff::Timestamp::now(), kind, message, uid, version };
        // Its receiver ends after this sender only.
        let _ = self.told.send(told);
    }

    /// Sends what is left, if that can be done soon.
    pub(super) async fn finish(self) {
        drop(self.told);
        let _ = tokio::time::timeout(LAST, self.task).await;
    }
}

async fn send(
    api: Api<Event>,
    place: Place,
    identity: String,
    mut queue: mpsc::UnboundedReceiver<Told>,
    news: mpsc::Sender<News>,
) {
    while let Some(told) = queue.recv().await {
        let event = event(&place, &identity, told);
        for pause in PAUSES {
            let by = PostParams::default();
            let create = api.create(&by, &event);
            let error = match tokio::time::timeout(LIMIT, create).await {
                Ok(Ok(_)) => {
                    let _ = news.try_send(News::May("create", "events"));
                    break;
                }
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                    let missing = MissingRight::events(&place.namespace, &status.message);
                    let _ = news.try_send(News::Missing(missing));
                    break;
                }
                Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                    warn!("the API server does not take an Event: {}", status.message);
                    break;
                }
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
            };
            debug!("an Event was not sent: {error}");
            tokio::time::sleep(pause).await;
        }
    }
}

fn event(place: &Place, identity: &str, told: Told) -> Event {
    let Told { at, kind, message, uid, version } = told;
    // client-go names them like this: unique as long as no two are of the same nanosecond.
    let name = format!("{}.{:x}", place.name, at.as_nanosecond());
    let namespace = Some(place.namespace.clone());
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("coordination.k8s.io/v1".into()),
            kind: Some("Lease".into()),
            name: Some(place.name.clone()),
            namespace,
            uid,
            resource_version: version,
            ..ObjectReference::default()
        },
        reason: Some("LeaderElection".into()),
        message: Some(message),
        type_: Some(kind.into()),
        source: Some(EventSource { component: Some(identity.into()), host: None }),
        reporting_component: Some(identity.into()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        ..Event::default()
    }
}

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the last ones may take when the process ends.
const LAST: Duration = Duration::from_secs(1);
/// Between tries: two minutes in all, as client-go's recorder.
const PAUSES: [Duration; 12] = [Duration::from_secs(10); 12];
