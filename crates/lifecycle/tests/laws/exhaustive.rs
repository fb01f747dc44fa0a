//! Every interleaving of small pods.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use holdfast_lifecycle::*;

use crate::world::World;

fn plan(policy: RestartPolicy, containers: Vec<Container>) -> Plan {
    Plan {
        namespace: "default".into(),
        name: "pod".into(),
        uid: "uid".into(),
        restart_policy: policy,
        termination_grace: Duration::from_secs(5),
        active_deadline: None,
        host_network: false,
        readiness_gates: Vec::new(),
        containers,
    }
}

/// Walks everything that can happen with at most so many exits and failures of their own accord, and
/// so many lost sandboxes and restarts of the driver, up to the end of the first back-off; returns how many different states there are.
fn walk(plan: Plan, exits: u32, disturbances: u32) -> usize {
    let options = Options { minor: 36, ..Options::default() };
    let mut seen = HashSet::new();
    let mut stack = vec![World::new(plan, options)];
    while let Some(world) = stack.pop() {
        if world.now > Time::from_secs(12) {
            continue;
        }
        for choice in world.choices(&[0, 1], exits, disturbances) {
            let mut next = world.clone();
            next.choose(&choice);
            if seen.insert(next.key()) {
                stack.push(next);
            }
        }
    }
    seen.len()
}

/// What is walked of a pod of so many containers: (exits, disturbances).
fn budgets(containers: usize, extras: bool) -> &'static [(u32, u32)] {
    match containers {
        1 => &[(2, 1)],
        2 => &[(2, 0), (1, 1)],
        _ if extras => &[(1, 1)],
        _ => &[(2, 0), (1, 1)],
    }
}

#[test]
fn every_interleaving_of_small_pods() {
    use Kind::{Init, Regular, Sidecar};
    let shapes: [&[Kind]; 7] = [
        &[Regular],
        &[Init, Regular],
        &[Sidecar, Regular],
        &[Regular, Regular],
        &[Init, Sidecar, Regular],
        &[Sidecar, Sidecar, Regular],
        &[Init, Regular, Regular],
    ];
    let mut jobs = Vec::new();
    for kinds in shapes {
        for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
            for extras in [false, true] {
                jobs.push((kinds, policy, extras));
            }
        }
    }
    let (mut total, mut pods) = (0, 0);
    let halves: Vec<Vec<_>> =
        (0..2).map(|k| jobs.iter().skip(k).step_by(2).cloned().collect()).collect();
    let counts: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let workers: Vec<_> = halves
            .into_iter()
            .map(|jobs| {
                scope.spawn(move || {
                    let states = jobs.iter().map(|&(kinds, policy, extras)| {
                        budgets(kinds.len(), extras)
                            .iter()
                            .map(|&(exits, disturbances)| {
                                let plan = plan(policy, containers(kinds, extras));
                                walk(plan, exits, disturbances)
                            })
                            .sum::<usize>()
                    });
                    (states.sum(), jobs.len())
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a law is broken")).collect()
    });
    for (states, count) in counts {
        total += states;
        pods += count;
    }
    // Past the test harness, which keeps what `println!` says of a test that passes.
    writeln!(std::io::stderr(), "{total} states of {pods} pods").expect("stderr is open");
    assert!(total > 10_000, "the walk has become too small to mean anything: {total} states");
}

/// Containers of these kinds; with extras, the last sidecar has a startup probe and the last
/// regular container a preStop hook.
fn containers(kinds: &[Kind], extras: bool) -> Vec<Container> {
    let mut all: Vec<Container> = kinds
        .iter()
        .enumerate()
        .map(|(i, &kind)| Container::new(&format!("c{i}"), kind, "image"))
        .collect();
    if extras {
        if let Some(c) = all.iter_mut().rev().find(|c| c.kind == Kind::Sidecar) {
            c.startup = Some(Probe { failure_threshold: 1, ..Probe::default() });
        }
        if let Some(c) = all.iter_mut().rev().find(|c| c.kind == Kind::Regular) {
            c.pre_stop = true;
        }
    }
    all
}
