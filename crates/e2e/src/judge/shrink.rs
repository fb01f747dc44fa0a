//! A smaller pod that is different too.

use std::sync::Mutex;

use super::compare::Difference;
use super::pod::{Container, Pod};
use super::record::in_parallel;
use super::run::{Judge, Verdict, same_places};
use super::sides::Side;

/// How many differences of a run are looked at this closely.
pub(super) const AT_MOST: usize = 5;
/// How often it is made smaller.
const ROUNDS: usize = 8;

/// Leaves out what can be left out while the pod is different in one of the same places.
pub(super) fn shrink(
    judge: &Judge,
    side: Side,
    pod: &Pod,
    found: &[Difference],
    jobs: usize,
) -> (Pod, Vec<Difference>) {
    let (mut best, mut differences) = (pod.clone(), found.to_vec());
    for round in 0..ROUNDS {
        let mut smaller = candidates(&best);
        for (n, candidate) in smaller.iter_mut().enumerate() {
            candidate.name = format!("{}-{round}-{n}", pod.name);
        }
        let hits = Mutex::new(Vec::new());
        in_parallel(jobs, &smaller, |candidate| {
            if let Ok(Verdict::Different(other, found)) = judge.verdict(candidate, false)
                && other == side
                && same_places(&found, &differences)
            {
                let hit = (size(candidate), candidate.clone(), found);
                hits.lock().unwrap_or_else(|e| e.into_inner()).push(hit);
            }
        });
        let mut hits = hits.into_inner().unwrap_or_else(|e| e.into_inner());
        hits.sort_by_key(|(size, ..)| *size);
        let Some((_, candidate, found)) = hits.into_iter().next() else { break };
        (best, differences) = (candidate, found);
        eprintln!("{}: a smaller one, of {} parts", pod.name, size(&best));
    }
    (best, differences)
}

/// How much there is of a pod.
fn size(pod: &Pod) -> usize {
    let of = |c: &Container| {
        let probes = c.probes().iter().filter(|(_, p)| p.is_some()).count();
        let rest = [c.post.is_some(), c.pre.is_some(), c.policy.is_some(), c.fault.is_some()];
        let steps: usize = c.runs.iter().map(Vec::len).sum();
        5 + probes + rest.iter().filter(|there| **there).count() + c.rules.len() + steps
    };
    pod.containers.iter().map(of).sum::<usize>() + pod.acts.len()
}

/// Pods with one thing less.
fn candidates(pod: &Pod) -> Vec<Pod> {
    let mut all = Vec::new();
    // Times are counted from the last app, and a pod needs one.
    let anchor = pod.containers.len().saturating_sub(1);
    for at in (0..anchor).rev() {
        let mut less = pod.clone();
        let gone = less.containers.remove(at);
        if less.acts.iter().all(|a| a.since.as_ref().is_none_or(|(name, _)| *name != gone.name)) {
            all.push(less);
        }
    }
    for at in 0..pod.containers.len() {
        let mut with = |change: &dyn Fn(&mut Container)| {
            let mut less = pod.clone();
            change(&mut less.containers[at]);
            if less != *pod {
                all.push(less);
            }
        };
        with(&|c| c.startup = None);
        with(&|c| c.readiness = None);
        with(&|c| c.liveness = None);
        with(&|c| c.post = None);
        with(&|c| c.pre = None);
        with(&|c| {
            c.policy = None;
            c.rules.clear();
        });
        with(&|c| {
            c.runs[0].retain(|s| !s.starts_with("term=") && !s.starts_with("message="));
        });
        with(&|c| c.runs[0].retain(|s| !s.contains('+')));
    }
    all
}
