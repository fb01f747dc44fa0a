//! Which containers a sync has to look at.
//!
//! The rules of [`actions`](crate::actions) are walks over all containers. In a large pod most of
//! them have nothing to say: they run and are fine, or have ended for good. A [`Survey`] is kept from
//! change to change, so that a sync only looks at the others; what comes of it is the same, and where
//! debug assertions are on, every sync makes sure of that.

use crate::actions::Context;
use crate::plan::{ContainerId, Kind, Plan, ProbeKind};
use crate::probe::Outcome;
use crate::restart::should_restart;
use crate::set::ContainerSet;
use crate::view::Instance;

/// The containers that the walks look at, and what they need to know of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// All of them.
    All,
    /// Those that may have something to say.
    Of(&'a Survey),
}

impl Scope<'_> {
    /// The first and the last entry of the init list.
    pub(crate) fn ends(self, plan: &Plan) -> Option<(ContainerId, ContainerId)> {
        match self {
            Self::All => ends(plan),
            Self::Of(survey) => survey.ends,
        }
    }

    /// Whether a run of a regular container shows that the pod was initialized.
    pub(crate) fn has_started(self, cx: &Context<'_>) -> bool {
        match self {
            Self::All => cx.plan.regulars().any(|id| has_started(cx, id)),
            Self::Of(survey) => !survey.started.is_empty(),
        }
    }

    /// Entries of the init list, in order.
    pub(crate) fn inits(self, cx: &Context<'_>) -> Vec<ContainerId> {
        let Self::Of(survey) = self else { return cx.plan.inits().collect() };
        let sidecars = survey.sidecars.iter();
        if self.has_started(cx) {
            return sidecars.collect();
        }
        // The last entry with a run decides what comes next. What lies before it is done, but for
        // sidecars that are to run; what lies behind it has not had its turn.
        let Some(last) = survey.inits.last() else { return Vec::new() };
        sidecars.take_while(|&id| id < last).chain([last]).collect()
    }

    /// Regular containers, in order.
    pub(crate) fn regulars(self, plan: &Plan) -> Vec<ContainerId> {
        match self {
            Self::All => plan.regulars().collect(),
            Self::Of(survey) => survey.regulars.iter().collect(),
        }
    }

    /// Whether a regular container that is not among them runs and is fine.
    pub(crate) fn others_run(self) -> bool {
        match self {
            Self::All => false,
            Self::Of(survey) => !survey.kept.is_empty(),
        }
    }

    /// Ephemeral containers.
    pub(crate) fn ephemerals(self, plan: &Plan) -> Vec<ContainerId> {
        let ephemeral = |&id: &ContainerId| plan.container(id).kind == Kind::Ephemeral;
        match self {
            Self::All => plan.ids().filter(ephemeral).collect(),
            Self::Of(survey) => survey.ephemerals.iter().collect(),
        }
    }
}

fn ends(plan: &Plan) -> Option<(ContainerId, ContainerId)> {
    Some((plan.inits().next()?, plan.inits().next_back()?))
}

/// Whether the newest run of a regular container shows that the pod was initialized.
fn has_started(cx: &Context<'_>, id: ContainerId) -> bool {
    let newest = cx.view.newest(id);
    newest.is_some_and(|i| i.is_active() || !cx.features.exited_is_not_initialized)
}

/// What the newest runs of all containers are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    ends: Option<(ContainerId, ContainerId)>,
    /// Ephemeral containers that wait to be started.
    ephemerals: ContainerSet,
    /// Entries of the init list with a run.
    inits: ContainerSet,
    /// Sidecars that do not run, or not well.
    sidecars: ContainerSet,
    /// Regular containers with a run.
    created: ContainerSet,
    /// Those with a run in the newest sandbox.
    created_here: ContainerSet,
    /// Those whose run shows that the pod was initialized.
    started: ContainerSet,
    /// Those that run well.
    kept: ContainerSet,
    /// Those that do neither run well nor have ended for good.
    regulars: ContainerSet,
}

impl Survey {
    /// Nothing is noted yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { ends: ends(plan), ..Self::default() }
    }

    /// Notes what a container is like now.
    pub(crate) fn note(&mut self, cx: &Context<'_>, id: ContainerId) {
        let c = cx.plan.container(id);
        let newest = cx.view.newest(id);
        let failed = |probe| cx.results.get(id, probe) == Some(Outcome::Failure);
        let runs_well = || {
            newest.is_some_and(|i| i.is_running() && i.image == c.image)
                && !failed(ProbeKind::Liveness)
                && !failed(ProbeKind::Startup)
        };
        match c.kind {
            Kind::Init => self.inits.set(id, newest.is_some()),
            Kind::Sidecar => {
                self.inits.set(id, newest.is_some());
                self.sidecars.set(id, !runs_well());
            }
            Kind::Regular => {
                let sandbox = cx.view.sandbox().map(|s| s.attempt);
                let kept = runs_well();
                let running = newest.is_some_and(Instance::is_running);
                let over = !running && !should_restart(cx.plan, c, newest, cx.deleted, cx.features);
                self.created.set(id, newest.is_some());
                self.created_here.set(id, newest.is_some_and(|i| Some(i.sandbox) == sandbox));
                self.started.set(id, has_started(cx, id));
                self.kept.set(id, kept);
                self.regulars.set(id, !kept && !over);
            }
            Kind::Ephemeral => self.ephemerals.set(id, newest.is_none()),
        }
    }

    /// Regular containers with a run.
    pub(crate) fn created(&self) -> impl Iterator<Item = ContainerId> + '_ {
        self.created.iter()
    }

    /// Whether some regular container has a run, in the newest sandbox or in any.
    pub(crate) fn has_created(&self, here: bool) -> bool {
        if here { !self.created_here.is_empty() } else { !self.created.is_empty() }
    }

    /// Whether a container other than an ephemeral one has a run.
    pub(crate) fn has_records(&self) -> bool {
        !self.created.is_empty() || !self.inits.is_empty()
    }
}
