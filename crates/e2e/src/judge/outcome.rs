//! What became of a pod on one side, in a form in which sides can be compared.

use std::path::Path;

use serde_json::Value;

use super::pod::NAMESPACE;
use super::reduce;
use super::watch::{CRI_NAMESPACE, Nanos, Seen, Sight};

/// One side's history of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// What was published, in order, each state once.
    pub(super) states: Vec<State>,
    /// What the containers wrote down.
    pub(super) trace: Vec<Trace>,
}

/// A published state.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) at: Nanos,
    pub(super) lines: Vec<String>,
}

/// A line of the containers' trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) at: Nanos,
    pub(super) container: String,
    pub(super) run: usize,
    pub(super) what: String,
}

/// Reasons whose message is the runtime's own.
const RUNTIMES_WORDS: &[&str] = &[
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "PostStartHookError",
    "RunContainerError",
    "StartError",
];

impl Outcome {
    /// From what was seen of the kubelet.
    pub(super) fn of_kubelet(sights: &[Sight], dir: &Path) -> Self {
        let mut outcome = Self { states: Vec::new(), trace: trace(dir) };
        for sight in sights {
            if let Seen::Object { object, .. } = &sight.what {
                outcome.push(sight.at, object);
            }
        }
        outcome
    }

    /// Adds a Pod object, unless it says nothing new.
    pub(super) fn push(&mut self, at: Nanos, object: &Value) {
        if object["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
            // Not scheduled yet.
            return;
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let lines: Vec<String> = reduce::pod(object)
            .iter()
            // When the object is deleted says nothing of what becomes of the pod.
            .filter(|line| !line.starts_with("deleting "))
            .map(|line| line.replace(uid, "UID").replace(CRI_NAMESPACE, NAMESPACE))
            .map(|line| without_runtimes_words(&line))
            .collect();
        if self.states.last().is_none_or(|last| last.lines != lines) {
            self.states.push(State { at, lines });
        }
    }

    /// When runs started or were asked to stop, with a name for each.
    pub(super) fn moments(&self, what: &str) -> Vec<(String, Nanos)> {
        let mine = self.trace.iter().filter(|t| t.what == what);
        let mut all: Vec<(String, Nanos)> = Vec::new();
        for t in mine {
            let name = format!("{} {}", t.container, t.run);
            // A container that ignores SIGTERM may get another.
            if all.iter().all(|(n, _)| *n != name) {
                all.push((name, t.at));
            }
        }
        all
    }
}

/// The trace that the containers left in their directory.
pub(super) fn trace(dir: &Path) -> Vec<Trace> {
    let text = std::fs::read_to_string(dir.join("trace")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        Some(Trace {
            at: words.next()?.parse().ok()?,
            container: words.next()?.to_owned(),
            run: words.next()?.parse().ok()?,
            what: words.next()?.to_owned(),
        })
    };
    let mut all: Vec<Trace> = text.lines().filter_map(line).collect();
    all.sort_by_key(|t| t.at);
    all
}

/// A line without messages that differ from one runtime to the next.
fn without_runtimes_words(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(quote) = rest.find('"') {
        let end = closing(&rest[quote..]).map_or(rest.len(), |end| quote + end);
        let before = rest[..quote].trim_end();
        out.push_str(before);
        if !RUNTIMES_WORDS.iter().any(|reason| before.ends_with(reason)) {
            out.push(' ');
            out.push_str(&rest[quote..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Where the string that begins here ends.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .skip(1)
        .find(|&(_, c)| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        })
        .map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_runtimes_go() {
        let line = r#"a waiting ErrImagePull "no \"x\"" restarts 1 last exited 1 Error "why""#;
        let expected = r#"a waiting ErrImagePull restarts 1 last exited 1 Error "why""#;
        assert_eq!(without_runtimes_words(line), expected);
        assert_eq!(without_runtimes_words("phase Pending"), "phase Pending");
    }
}
