//! Watches the Lease, so that a change is seen when it happens and not at the next poll.
//!
//! It only makes the election quicker: without it, and while it is broken, replicas poll as client-go's do.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use holdfast_election::Change;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use tokio::sync::mpsc;
use tracing::debug;

use super::leases::{Leases, Place, lease_of};
use super::rights::MissingRight;

/// What a watch, or whoever else works beside the election, has to say.
#[derive(Debug)]
pub(super) enum News {
    /// The Lease, or that there is none.
    Changed(Change, Option<Box<DynamicObject>>),
    /// A right is missing.
    Missing(MissingRight),
    /// This right is not missing.
    May(&'static str, &'static str),
}

/// Follows the Lease for ever. `idle` is how long no change at all is believed before the watch is made anew:
/// whoever leads renews more often.
pub(super) async fn follow(leases: Leases, news: mpsc::Sender<News>, idle: Duration) {
    loop {
        let again = match watch(&leases, &news, idle).await {
            Ok(()) => Duration::ZERO,
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let Place { namespace, name } = &leases.place;
                let missing = MissingRight::lease("watch", namespace, name, &status.message);
                let _ = news.send(News::Missing(missing)).await;
                FORBIDDEN
            }
            Err(error) => {
                debug!("the watch of lease {} ended: {error}", leases.place);
                AGAIN
            }
        };
        if news.is_closed() {
            return;
        }
        // Also a watch that ends well is not begun anew in a loop.
        tokio::time::sleep(again.max(PAUSE)).await;
    }
}

async fn watch(
    leases: &Leases,
    news: &mpsc::Sender<News>,
    idle: Duration,
) -> Result<(), kube::Error> {
    let params = WatchParams::default().fields(&format!("metadata.name={}", leases.place.name));
    // From the state as it is now: first an event that says what that is.
    let begin = leases.api.watch(&params, "0");
    let Ok(events) = tokio::time::timeout(idle, begin).await else { return Ok(()) };
    let mut events = events?.boxed();
    let _ = news.send(News::May("watch", "leases")).await;
    // It ends when nothing has come for long, or the server ends it.
    while let Ok(event) = tokio::time::timeout(idle, events.try_next()).await {
        let change = match event? {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                let Some(lease) = lease_of(&object) else { continue };
                News::Changed(Change::Lease(lease), Some(Box::new(object)))
            }
            Some(WatchEvent::Deleted(_)) => News::Changed(Change::Gone, None),
            Some(WatchEvent::Bookmark(_)) => continue,
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
            None => break,
        };
        if news.send(change).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Between watches in any case.
const PAUSE: Duration = Duration::from_millis(50);
/// When somebody may have granted the right.
const FORBIDDEN: Duration = Duration::from_secs(30);
