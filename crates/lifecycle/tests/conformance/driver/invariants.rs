//! What must hold in every scenario, whatever it asserts itself.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_lifecycle::plan::{ContainerId, Kind};
use holdfast_lifecycle::status::ConditionKind;
use holdfast_lifecycle::{Lifecycle, Output, Phase, Plan, PodStatus};

/// Watches outputs and published statuses.
#[derive(Default)]
pub(super) struct Invariants {
    /// The version under test.
    minor: u32,
    attempt: u32,
    /// Containers started, and plain inits that ended well, in the current sandbox.
    started: BTreeSet<ContainerId>,
    done: BTreeSet<ContainerId>,
    /// A record was removed: the order of a renewed start is the engine's affair.
    loose: bool,
    phase: Phase,
    initialized: bool,
    started_late: BTreeSet<ContainerId>,
    restarts: BTreeMap<String, u32>,
    sandbox_lost: bool,
    finished: bool,
}

impl Invariants {
    pub(super) fn new(minor: u32) -> Self {
        Self { minor, ..Self::default() }
    }

    pub(super) fn sandbox(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.started.clear();
        self.done.clear();
    }

    pub(super) fn sandbox_gone(&mut self) {
        self.sandbox_lost = true;
    }

    pub(super) fn pruned(&mut self) {
        self.loose = true;
    }

    pub(super) fn ended(&mut self, container: ContainerId, code: i32) {
        if code == 0 {
            self.done.insert(container);
        }
    }

    pub(super) fn output(
        &mut self,
        output: &Output,
        engine: &Lifecycle,
        deleted: bool,
    ) -> Result<(), String> {
        if self.finished {
            return Err(format!("output after the pod was finished: {output:?}"));
        }
        let plan = engine.plan();
        match output {
            Output::Start { container, .. } => {
                let name = &plan.container(*container).name;
                // A sync that is under way goes on (`SyncPod`: `context.WithoutCancel`; kubelet-traces/
                // delete-in-post-start, delete-in-liveness-kill), and there is no other.
                if deleted && !self.started_late.insert(*container) {
                    return Err(format!("{name} is started twice although the pod is deleted"));
                }
                if self.phase.is_terminal() {
                    return Err(format!("{name} is started although the pod is {:?}", self.phase));
                }
                self.in_order(plan, *container)?;
                self.started.insert(*container);
            }
            Output::Remove { .. } => self.loose = true,
            Output::Finished => {
                self.finished = true;
                if !self.phase.is_terminal() {
                    return Err(format!("finished in phase {:?}", self.phase));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Every earlier init has ended well, every earlier sidecar was started, in this sandbox.
    fn in_order(&self, plan: &Plan, container: ContainerId) -> Result<(), String> {
        if self.loose || plan.container(container).kind == Kind::Ephemeral {
            return Ok(());
        }
        for earlier in plan.inits().take_while(|id| *id != container) {
            let c = plan.container(earlier);
            let ready = match c.kind {
                Kind::Sidecar => self.started.contains(&earlier),
                _ => self.done.contains(&earlier),
            };
            if !ready {
                return Err(format!(
                    "{} is started before {} is done",
                    plan.container(container).name,
                    c.name
                ));
            }
        }
        Ok(())
    }

    pub(super) fn published(
        &mut self,
        status: &PodStatus,
        plan: &Plan,
        runs: impl FnOnce() -> bool,
    ) -> Result<(), String> {
        if self.phase.is_terminal() && status.phase != self.phase {
            return Err(format!("phase went from {:?} to {:?}", self.phase, status.phase));
        }
        if status.phase.is_terminal() && runs() {
            return Err(format!("a container runs in phase {:?}", status.phase));
        }
        self.phase = status.phase;
        let initialized = status.is_true(&ConditionKind::Initialized);
        // Before 1.36 a sidecar that is down while the regular containers wait takes it back.
        let sticky = self.minor >= 36 || !plan.has_sidecars();
        if self.initialized && !initialized && !self.sandbox_lost && sticky {
            return Err("condition Initialized went back to False".into());
        }
        self.initialized = initialized;
        if status.regular.windows(2).any(|w| w[0].name > w[1].name) {
            return Err("regular statuses are not sorted by name".into());
        }
        // As the API server accepted it, a pod has no container statuses yet.
        if !status.regular.is_empty() && status.regular.len() != plan.regulars().count() {
            return Err("a regular container has no status".into());
        }
        for c in status.all() {
            let before = self.restarts.insert(c.name.to_string(), c.restart_count).unwrap_or(0);
            if c.restart_count < before && !self.sandbox_lost && !self.loose {
                return Err(format!(
                    "restart count of {} went from {before} to {}",
                    c.name, c.restart_count
                ));
            }
        }
        Ok(())
    }
}
