//! Jobs and CronJobs with their status.

use holdfast_lifecycle::cron::CronJobStatus;
use holdfast_lifecycle::job::JobStatus;
use serde_json::{Map, Value, json};

use super::{put, time, word};
use crate::object::{CronJob, Job};

/// The Job with this status, as its `resource_version`th change.
pub fn job_json(job: &Job, status: &JobStatus, resource_version: u64) -> Value {
    let mut out = Map::new();
    if !status.conditions.is_empty() {
        let conditions = status.conditions.iter().map(|condition| {
            let mut out = Map::new();
            put(&mut out, "type", condition.kind.as_str());
            put(&mut out, "status", word(condition.status));
            let at = time(condition.last_transition);
            out.insert("lastProbeTime".to_owned(), at.clone());
            out.insert("lastTransitionTime".to_owned(), at);
            put(&mut out, "reason", condition.reason.as_str());
            put(&mut out, "message", &condition.message);
            Value::Object(out)
        });
        out.insert("conditions".to_owned(), conditions.collect());
    }
    for (field, at) in
        [("startTime", status.start_time), ("completionTime", status.completion_time)]
    {
        if let Some(at) = at {
            out.insert(field.to_owned(), time(at));
        }
    }
    for (field, count) in
        [("active", status.active), ("succeeded", status.succeeded), ("failed", status.failed)]
    {
        if count > 0 {
            out.insert(field.to_owned(), Value::from(count));
        }
    }
    // Pointers in the API: written even when they are zero.
    out.insert("terminating".to_owned(), Value::from(status.terminating));
    put(&mut out, "completedIndexes", &status.completed_indexes.to_string());
    if let Some(failed) = &status.failed_indexes {
        out.insert("failedIndexes".to_owned(), Value::String(failed.to_string()));
    }
    out.insert("uncountedTerminatedPods".to_owned(), json!({}));
    out.insert("ready".to_owned(), Value::from(status.ready));
    let mut object = with_status(serde_json::to_value(job), out);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), Value::String(resource_version.to_string()));
    }
    object
}

/// The CronJob with this status.
pub fn cron_job_json(cron_job: &CronJob, status: &CronJobStatus) -> Value {
    let mut out = Map::new();
    if !status.active.is_empty() {
        let namespace = cron_job.metadata.namespace.as_str();
        let active = status.active.iter().map(|name| {
            json!({
                "kind": "Job",
                "namespace": namespace,
                "name": &**name,
                "apiVersion": "batch/v1",
            })
        });
        out.insert("active".to_owned(), active.collect());
    }
    for (field, at) in
        [("lastScheduleTime", status.last_schedule), ("lastSuccessfulTime", status.last_successful)]
    {
        if let Some(at) = at {
            out.insert(field.to_owned(), time(at));
        }
    }
    with_status(serde_json::to_value(cron_job), out)
}

fn with_status(object: serde_json::Result<Value>, status: Map<String, Value>) -> Value {
    // The objects hold nothing that JSON cannot hold: strings, numbers, lists and string keys.
    let mut object = object.unwrap_or_default();
    if let Some(map) = object.as_object_mut() {
        map.insert("status".to_owned(), Value::Object(status));
    }
    object
}
