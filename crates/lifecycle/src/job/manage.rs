//! Creating and deleting pods (pkg/controller/job/job_controller.go: manageJob).

use super::backoff::until_for_index;
use super::engine::{Job, NewPod, PodId};
use super::indexes::Indexes;
use super::names::{generate_name, hostname};
use super::pod::{Pod, PodSummary, sort_for_removal};
use super::sync::{Look, count};

impl Job {
    /// Brings the number of pods to what it should be, by deleting or by creating, not both. Gives
    /// the number of active pods.
    pub(super) fn manage(&mut self, look: &mut Look) -> u32 {
        let active = count(&look.active);
        let want = if self.spec.suspend { 0 } else { self.wanted(look, active) };
        let surplus = self.surplus(look, active.saturating_sub(want));
        if !surplus.is_empty() || self.spec.suspend {
            for id in &surplus {
                self.remove(*id, look);
            }
            if !surplus.is_empty() {
                // Whether others are to be created is seen at the next look.
                self.wake_at(look.now);
            }
            return active - count(&surplus);
        }
        let terminating = if self.spec.only_replace_failed() { look.terminating } else { 0 };
        let missing = want.saturating_sub(terminating).saturating_sub(active);
        if missing == 0 || self.must_wait(look) {
            return active;
        }
        if self.spec.indexed().is_some() {
            active + self.create_indexed(look, missing)
        } else {
            for _ in 0..missing {
                self.create(look, None, None);
            }
            active + missing
        }
    }

    /// How many pods should be active.
    fn wanted(&self, look: &Look, active: u32) -> u32 {
        match self.spec.completions {
            // A work queue: once one pod succeeded, the others end when they are done.
            None if look.succeeded > 0 => active,
            None => self.spec.parallelism,
            Some(all) => all.saturating_sub(look.succeeded).min(self.spec.parallelism),
        }
    }

    /// Whether no pod may be created yet: after a failure (per index that is seen later), or because
    /// the last one could not be created.
    fn must_wait(&mut self, look: &Look) -> bool {
        let backoff = match self.spec.per_index() {
            Some(_) => None,
            None => self.backoff.until(look.now),
        };
        let retry = self.retry_at.filter(|at| *at > look.now);
        let until = backoff.max(retry);
        if let Some(at) = until {
            self.wake_at(at);
        }
        until.is_some()
    }

    /// At least so many pods to delete: in an indexed Job first those without an index of their own,
    /// then the ones that have got least far (activePodsForRemoval).
    fn surplus(&self, look: &Look, least: u32) -> Vec<PodId> {
        let active = look.active.iter().filter_map(|id| self.pods.get(id));
        let (mut remove, mut left): (Vec<PodId>, Vec<&Pod>) = match self.spec.indexed() {
            Some(completions) => duplicates(active.collect(), completions),
            None => (Vec::new(), active.collect()),
        };
        let more = (least as usize).saturating_sub(remove.len());
        sort_for_removal(&mut left);
        remove.extend(left.iter().take(more).map(|p| p.id));
        remove
    }

    /// Deletes a pod that there is no need for; it will not be counted (deleteJobPods).
    fn remove(&mut self, id: PodId, look: &mut Look) {
        if let Some(pod) = self.pods.get_mut(&id) {
            pod.counted = true;
            look.ready -= u32::from(pod.summary.is_ready());
            look.terminating += 1;
            self.delete_pod(id, look.now);
        }
    }

    fn create_indexed(&mut self, look: &Look, missing: u32) -> u32 {
        let pending = self.pending_indexes(look, missing);
        let mut created = 0;
        for index in pending {
            let replaced = look.unreplaced.get(&index).copied();
            let failed = replaced.and_then(|id| self.pods.get(&id)).map(|p| p.summary.clone());
            if let Some(at) = until_for_index(look.now, failed.as_ref()) {
                self.wake_at(at);
                continue;
            }
            self.create(look, Some(index), failed.as_ref());
            created += 1;
        }
        created
    }

    /// firstPendingIndexes.
    fn pending_indexes(&self, look: &Look, missing: u32) -> Vec<u32> {
        let mut taken: Indexes =
            look.active.iter().filter_map(|id| self.pods.get(id)?.summary.index).collect();
        if self.spec.only_replace_failed() {
            let ending = self.pods.values().filter(|p| p.summary.is_terminating());
            taken = taken.union(&ending.filter_map(|p| p.summary.index).collect());
        }
        let failed = look.failed_indexes.clone().unwrap_or_default();
        let taken = taken.union(&look.succeeded_indexes).union(&failed);
        taken.first_missing(missing as usize, self.spec.completions.unwrap_or(0))
    }

    fn create(&mut self, look: &Look, index: Option<u32>, replaces: Option<&PodSummary>) {
        // getNewIndexFailureCounts
        let (mut failures, mut ignored) =
            replaces.map_or((0, 0), |p| (p.failures, p.ignored_failures));
        if let Some(pod) = replaces {
            let counts = self.policy(pod).counts();
            failures += u32::from(counts);
            ignored += u32::from(!counts);
        }
        let id = self.add_pod(PodSummary {
            index,
            failures,
            ignored_failures: ignored,
            created: look.now,
            ..PodSummary::default()
        });
        let per_index = self.spec.per_index().is_some();
        self.create_pod(NewPod {
            id,
            generate_name: generate_name(&self.spec.name, index),
            index,
            hostname: index.map(|i| hostname(&self.spec.name, i)),
            failures: per_index.then_some(failures),
            ignored_failures: (per_index && ignored > 0).then_some(ignored),
        });
    }
}

/// The pods without an index of the Job, and all but one of each index; and the others
/// (appendDuplicatedIndexPodsForRemoval).
fn duplicates(mut pods: Vec<&Pod>, completions: u32) -> (Vec<PodId>, Vec<&Pod>) {
    let mut remove = Vec::new();
    let mut left: Vec<&Pod> = Vec::new();
    pods.retain(|p| {
        let valid = p.summary.valid_index(completions).is_some();
        if !valid {
            remove.push(p.id);
        }
        valid
    });
    sort_for_removal(&mut pods);
    pods.sort_by_key(|p| p.summary.index);
    for same in pods.chunk_by(|a, b| a.summary.index == b.summary.index) {
        if let [surplus @ .., best] = same {
            remove.extend(surplus.iter().map(|p| p.id));
            left.push(best);
        }
    }
    (remove, left)
}
