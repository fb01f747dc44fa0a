//! What the engine knows of all containers together.
//!
//! Phase, conditions and actions depend on all containers, and each is a walk over them in its own
//! module. A pod of a thousand containers syncs thousands of times, so what the walks find is kept
//! here and brought up to date container by container.

use crate::actions::Context;
use crate::conditions::{self, Standing};
use crate::options::Features;
use crate::phase::Count;
use crate::plan::{ContainerId, Plan};
use crate::scope::Survey;
use crate::set::ContainerSet;
use crate::status::ContainerStatus;

/// The sums over all containers. None of it is state of its own.
#[derive(Clone)]
pub(super) struct Account {
    /// What the phase depends on.
    pub(super) count: Count,
    /// What the conditions depend on.
    pub(super) standing: Standing,
    /// What the next actions depend on.
    pub(super) survey: Survey,
    /// Containers that ask for a restart of all, in a pod where some may.
    fired: Option<ContainerSet>,
}

impl Account {
    /// Nothing is counted yet.
    pub(super) fn new(plan: &Plan, features: &Features) -> Self {
        let some_may = features.restart_all_containers && conditions::has_restart_all_rule(plan);
        Self {
            count: Count::default(),
            standing: Standing::new(plan),
            survey: Survey::new(plan),
            fired: some_may.then(ContainerSet::default),
        }
    }

    /// The status of a container was `old` and is `new`.
    pub(super) fn replace(
        &mut self,
        plan: &Plan,
        features: &Features,
        id: ContainerId,
        old: Option<&ContainerStatus>,
        new: Option<&ContainerStatus>,
    ) {
        self.count.add(plan, plan.container(id), old, features, -1);
        self.add(plan, features, id, new);
    }

    /// Counts all statuses from scratch.
    pub(super) fn recount<'a>(
        &mut self,
        plan: &Plan,
        features: &Features,
        status: impl Fn(ContainerId) -> Option<&'a ContainerStatus>,
    ) {
        self.count = Count::default();
        for id in plan.ids() {
            self.add(plan, features, id, status(id));
        }
    }

    fn add(
        &mut self,
        plan: &Plan,
        features: &Features,
        id: ContainerId,
        status: Option<&ContainerStatus>,
    ) {
        let c = plan.container(id);
        self.count.add(plan, c, status, features, 1);
        self.standing.note(id, c, status);
        if let Some(fired) = &mut self.fired {
            fired.set(id, conditions::restarts_all(plan, c, status, features));
        }
    }

    /// Whether some container asks for a restart of all; `None` in a pod where none can.
    pub(super) fn has_fired(&self) -> Option<bool> {
        self.fired.as_ref().map(|fired| !fired.is_empty())
    }

    /// Whether the survey is what it would be if it were made now.
    pub(super) fn is_surveyed(&self, cx: &Context<'_>) -> bool {
        let mut now = Survey::new(cx.plan);
        cx.plan.ids().for_each(|id| now.note(cx, id));
        self.survey == now
    }
}
