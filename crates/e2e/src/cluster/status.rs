//! Whether a cluster is as it should be.

use super::api::Client;
use super::layout::{CONTROL, Layout, node};
use super::state::State;
use super::unit::Control;
use super::up::is_ready;

/// What is wrong with a cluster, in words; nothing, if it is up and well.
pub(super) async fn problems(layout: &Layout, state: &State) -> Vec<String> {
    let mut problems = Vec::new();
    if !state.up {
        problems.push("`up` did not come to its end".into());
    }
    for (unit, process) in &state.units {
        if !process.lives() {
            problems.push(format!("unit {unit} has ended (process {})", process.pid));
            continue;
        }
        match Control::of(&layout.unit(unit)).list().await {
            Err(e) => problems.push(format!("unit {unit}: {e:#}")),
            Ok(all) => problems.extend(all.into_iter().filter_map(|(name, standing)| {
                let how = standing.ended?;
                let log = layout.log(unit, &name);
                Some(format!("{name} of {unit} has ended: {how} (log: {})", log.display()))
            })),
        }
    }
    if !state.units.contains_key(CONTROL) {
        problems.push("there is no control plane".into());
    }
    if !problems.is_empty() {
        return problems;
    }
    match Client::from_kubeconfig(&layout.kubeconfig()) {
        Err(e) => problems.push(e.to_string()),
        Ok(client) => {
            if let Err(e) = client.ready().await {
                problems.push(e.to_string());
                return problems;
            }
            for number in 1..=state.nodes {
                match client.get(&format!("/api/v1/nodes/{}", node(number))).await {
                    Err(e) => problems.push(e.to_string()),
                    Ok(object) if !is_ready(&object) => {
                        problems.push(format!("{} is not Ready", node(number)));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
    problems
}
