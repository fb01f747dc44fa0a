//! What killed runs have left with the runtime.
//!
//! A run that is killed leaves its containers running: they are the runtime's. The next run finds them
//! by their labels. Those of a run that still lives are told from them by the lock of its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::api;
use super::client::CallError;
use super::files::Files;
use super::{CriRuntime, labels};

/// Removes what is left of dead runs. The texts are for the user: what could not be removed, and what
/// else is to be said about the runtime's sandboxes.
pub(super) async fn remove(runtime: &CriRuntime, state: &Path) -> Result<Vec<String>, CallError> {
    let mut notes = Vec::new();
    let all = runtime.list_sandboxes(Default::default()).await?;
    if all.iter().any(|sandbox| labels::is_of_kubelet(&sandbox.labels)) {
        notes.push(
            "a kubelet seems to use this container runtime too; it ends whatever it does not know, \
             the pods of holdfast among them: give holdfast a runtime of its own (--endpoint), or stop \
             the kubelet"
                .to_owned(),
        );
    }
    let mut runs: BTreeMap<String, Vec<&api::PodSandbox>> = BTreeMap::new();
    for sandbox in &all {
        if let Some(run) = labels::run_of(&sandbox.labels).filter(|run| is_name(run)) {
            runs.entry(run.to_owned()).or_default().push(sandbox);
        }
    }
    let mut names: BTreeSet<String> = runs.keys().cloned().collect();
    names.extend(directories(state));
    for run in names.iter().filter(|run| **run != runtime.inner.run) {
        let files = match Files::take_over(state, run) {
            Ok(files) => files,
            Err(error) => {
                notes.push(format!("what run {run} has left is not removed: {error}"));
                continue;
            }
        };
        // It has a directory that is locked: it lives.
        if files.is_none() && state.join(run).join("lock").exists() {
            continue;
        }
        let mut clean = true;
        for sandbox in runs.get(run).into_iter().flatten() {
            if let Err(error) = runtime.destroy(&sandbox.id).await {
                clean = false;
                let (id, words) = (&sandbox.id, error.words());
                notes.push(format!("the sandbox {id} of a killed run cannot be removed: {words}"));
            }
        }
        // The directory goes last: without it, a sandbox that could not be removed would still be
        // found, but its mounts would not.
        if clean
            && let Some(files) = files
            && let Err(error) = files.remove()
        {
            notes.push(format!("what run {run} has mounted cannot be removed: {error}"));
        }
    }
    Ok(notes)
}

/// The runs that have a directory.
fn directories(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|n| is_name(n))
        .collect()
}

/// Whether a label's value can be the name of a run's directory.
fn is_name(run: &str) -> bool {
    !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_hexdigit())
}
