//! What of a Pod object is compared: its status, without times and identities, as lines of text.
//!
//! | line | |
//! |---|---|
//! | `phase Pending` | then `reason R "message"` if there is one |
//! | `deleting 30` | `deletionGracePeriodSeconds`, once it is being deleted |
//! | `condition Ready False ContainersNotReady "message"` | by type |
//! | `NAME STATE restarts 2 ready started last STATE` | every container; `last` if there is a `lastState` |
//!
//! STATE is `waiting REASON "message"`, `running` or `exited CODE REASON "message"`; what is empty is
//! left out.

use serde_json::Value;

/// The lines of a Pod object.
pub(super) fn pod(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let mut lines = vec![format!("phase {}", text(&status["phase"]))];
    if !text(&status["reason"]).is_empty() {
        lines.push(format!("reason {}", why(status)));
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        let grace = object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
        lines.push(format!("deleting {grace}"));
    }
    let mut conditions: Vec<String> = list(&status["conditions"])
        .iter()
        .map(|c| {
            let (kind, status) = (text(&c["type"]), text(&c["status"]));
            format!("condition {kind} {status} {}", why(c)).trim_end().to_owned()
        })
        .collect();
    conditions.sort();
    lines.extend(conditions);
    for field in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        lines.extend(list(&status[field]).iter().map(container));
    }
    lines
}

/// The line of one entry of `containerStatuses`.
pub(super) fn container(status: &Value) -> String {
    let mut line = format!("{} {}", text(&status["name"]), state(&status["state"]));
    line.push_str(&format!(" restarts {}", status["restartCount"].as_u64().unwrap_or(0)));
    for (field, word) in [("ready", " ready"), ("started", " started")] {
        if status[field] == true {
            line.push_str(word);
        }
    }
    if status["lastState"].as_object().is_some_and(|last| !last.is_empty()) {
        line.push_str(&format!(" last {}", state(&status["lastState"])));
    }
    line
}

/// `state` or `lastState`.
pub(super) fn state(state: &Value) -> String {
    let (waiting, terminated) = (&state["waiting"], &state["terminated"]);
    if state["running"].is_object() {
        "running".to_owned()
    } else if terminated.is_object() {
        let code = terminated["exitCode"].as_i64().unwrap_or(0);
        format!("exited {code} {}", why(terminated)).trim_end().to_owned()
    } else {
        format!("waiting {}", why(waiting)).trim_end().to_owned()
    }
}

/// `REASON "message"`, what there is of it.
fn why(object: &Value) -> String {
    let (reason, message) = (text(&object["reason"]), text(&object["message"]));
    match (reason, message) {
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason} {}", Value::from(message)).trim_start().to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
