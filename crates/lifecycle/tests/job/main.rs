//! Jobs against Kubernetes' tables, and by properties and whole lives in virtual time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::type_complexity, reason = "rows of tables")]

mod backoff;
mod columns;
mod indexes;
mod life;
mod policies;
mod properties;
mod sync_job;
mod world;

use std::sync::Arc;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::status::{
    Condition, ConditionKind, ContainerStatus, PodStatus, State, Terminated,
};

/// The present of the tables.
const NOW: Time = Time::from_secs(1_700_000_000);

/// So long ago that no delay is left.
const LONG_AGO: Time = Time::from_secs(1_600_000_000);

fn container(name: &str, state: State) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        state,
        last_state: None,
        ready: false,
        started: None,
        restart_count: 0,
        image: "image".into(),
        image_id: "".into(),
        instance: None,
    }
}

fn ended(name: &str, exit_code: i32, finished_at: Option<Time>) -> ContainerStatus {
    container(name, State::Terminated(Terminated { exit_code, finished_at, ..Default::default() }))
}

fn condition(kind: &str, status: bool, last_transition: Time) -> Condition {
    let kind = match kind {
        "Ready" => ConditionKind::Ready,
        other => ConditionKind::Other(Arc::from(other)),
    };
    Condition { kind, status, reason: "".into(), message: "".into(), last_transition }
}

fn with_conditions(conditions: Vec<Condition>) -> PodStatus {
    PodStatus { conditions, ..Default::default() }
}
