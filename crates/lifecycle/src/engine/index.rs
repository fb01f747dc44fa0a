//! What the engine could work out anew each time, and remembers because pods may be large: where a
//! container is in the plan and in the status, what has changed, and the [`Account`] of all.
//!
//! None of it is state of its own: it says nothing about a pod that the rest of the engine does not.

use std::fmt;

use super::account::Account;
use crate::actions::Context;
use crate::options::Features;
use crate::phase::find;
use crate::plan::{ContainerId, Kind, Plan};
use crate::set::ContainerSet;
use crate::status::{ContainerStatus, PodStatus};

/// The list of the status that a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Init,
    Regular,
    Ephemeral,
}

impl List {
    pub(super) fn of(self, status: &PodStatus) -> &[ContainerStatus] {
        match self {
            Self::Init => &status.init,
            Self::Regular => &status.regular,
            Self::Ephemeral => &status.ephemeral,
        }
    }

    pub(super) const fn of_mut(self, status: &mut PodStatus) -> &mut Vec<ContainerStatus> {
        match self {
            Self::Init => &mut status.init,
            Self::Regular => &mut status.regular,
            Self::Ephemeral => &mut status.ephemeral,
        }
    }
}

/// What follows from the plan, what has changed, and what it all comes to.
#[derive(Clone)]
pub(super) struct Index {
    /// Regular containers by name, the order of their statuses.
    by_name: Vec<ContainerId>,
    inits: Vec<ContainerId>,
    ephemerals: Vec<ContainerId>,
    /// Where the status of each container is.
    place: Vec<(List, usize)>,
    /// The sidecars before and after each entry of the init list.
    sidecars: Vec<[Option<ContainerId>; 2]>,
    pub(super) has_sidecars: bool,
    /// Whether a sidecar that does not run keeps those before it from stopping.
    pub(super) absent_hold: bool,
    /// Containers whose status has to be made anew.
    stale: Changed,
    /// Containers that the survey has to look at again.
    moved: Changed,
    /// Containers that are started but not ready, and have a readiness probe.
    pub(super) eager: ContainerSet,
    pub(super) account: Account,
}

/// Containers of which something has changed.
#[derive(Clone, Default)]
pub(super) struct Changed {
    /// All have.
    pub(super) all: bool,
    /// These have.
    pub(super) these: ContainerSet,
}

impl Changed {
    const fn everything() -> Self {
        Self { all: true, these: ContainerSet::EMPTY }
    }
}

impl Index {
    /// The statuses are not counted yet.
    pub(super) fn of(plan: &Plan, features: &Features) -> Self {
        let n = plan.containers.len();
        let inits: Vec<ContainerId> = plan.inits().collect();
        let mut by_name: Vec<ContainerId> = plan.regulars().collect();
        by_name.sort_by(|&a, &b| plan.container(a).name.cmp(&plan.container(b).name));
        let ephemerals: Vec<ContainerId> =
            plan.ids().filter(|&id| plan.container(id).kind == Kind::Ephemeral).collect();
        let mut place = vec![(List::Ephemeral, 0); n];
        let lists =
            [(List::Init, &inits), (List::Regular, &by_name), (List::Ephemeral, &ephemerals)];
        for (list, ids) in lists {
            for (at, &id) in ids.iter().enumerate() {
                place[id.index()] = (list, at);
            }
        }
        let mut sidecars = vec![[None; 2]; n];
        let is_sidecar = |&id: &ContainerId| plan.container(id).kind == Kind::Sidecar;
        let (mut before, mut after) = (None, None);
        for (first, last) in inits.iter().zip(inits.iter().rev()) {
            sidecars[first.index()][0] = before;
            sidecars[last.index()][1] = after;
            before = Some(*first).filter(is_sidecar).or(before);
            after = Some(*last).filter(is_sidecar).or(after);
        }
        Self {
            by_name,
            inits,
            ephemerals,
            place,
            sidecars,
            has_sidecars: before.is_some(),
            absent_hold: !features.absent_sidecars_are_stopped,
            stale: Changed::everything(),
            moved: Changed::everything(),
            eager: ContainerSet::EMPTY,
            account: Account::new(plan, features),
        }
    }

    /// The containers of a list of the status, in its order.
    pub(super) fn list(&self, list: List) -> &[ContainerId] {
        match list {
            List::Init => &self.inits,
            List::Regular => &self.by_name,
            List::Ephemeral => &self.ephemerals,
        }
    }

    /// The list of a container's status, and where in it.
    pub(super) fn place(&self, id: ContainerId) -> (List, usize) {
        self.place[id.index()]
    }

    /// The status of a container.
    pub(super) fn status<'a>(
        &self,
        plan: &Plan,
        status: &'a PodStatus,
        id: ContainerId,
    ) -> Option<&'a ContainerStatus> {
        status_at(self.place(id), plan, status, id)
    }

    /// Counts the statuses of all containers from scratch.
    pub(super) fn recount(&mut self, plan: &Plan, features: &Features, status: &PodStatus) {
        let Self { account, place, .. } = self;
        account.recount(plan, features, |id| status_at(place[id.index()], plan, status, id));
    }

    /// The sidecar that has to stop before this one.
    pub(super) fn next_sidecar(&self, id: ContainerId) -> Option<ContainerId> {
        self.sidecars.get(id.index()).and_then(|&[_, after]| after)
    }

    /// The sidecar that stops after this one.
    pub(super) fn previous_sidecar(&self, id: ContainerId) -> Option<ContainerId> {
        self.sidecars.get(id.index()).and_then(|&[before, _]| before)
    }

    /// Something that is known of this container has changed: a run, a result of a probe, why it does
    /// not start.
    pub(super) fn touch(&mut self, id: ContainerId) {
        self.stale.these.set(id, true);
        self.moved.these.set(id, true);
    }

    /// Something that is known of all containers has changed.
    pub(super) const fn touch_all(&mut self) {
        self.stale.all = true;
        self.moved.all = true;
    }

    /// There is another sandbox.
    pub(super) fn touch_created(&mut self) {
        for id in self.account.survey.created() {
            self.moved.these.set(id, true);
        }
    }

    /// The status of this container has to be made anew.
    pub(super) fn make_stale(&mut self, id: ContainerId) {
        self.stale.these.set(id, true);
    }

    /// The statuses of all containers have to be made anew.
    pub(super) const fn make_all_stale(&mut self) {
        self.stale.all = true;
    }

    /// Whether the status of a container is known to be stale.
    pub(super) fn is_stale(&self, id: ContainerId) -> bool {
        self.stale.all || self.stale.these.contains(id)
    }

    /// Takes what is stale.
    pub(super) fn take_stale(&mut self) -> Changed {
        std::mem::take(&mut self.stale)
    }

    /// Brings the survey up to date.
    pub(super) fn survey(&mut self, cx: &Context<'_>) {
        let moved = std::mem::take(&mut self.moved);
        let survey = &mut self.account.survey;
        if moved.all {
            cx.plan.ids().for_each(|id| survey.note(cx, id));
        } else {
            moved.these.iter().for_each(|id| survey.note(cx, id));
        }
    }
}

/// The status of a container whose place is most likely this.
fn status_at<'a>(
    (list, at): (List, usize),
    plan: &Plan,
    status: &'a PodStatus,
    id: ContainerId,
) -> Option<&'a ContainerStatus> {
    find(list.of(status), at, plan.container(id))
}

impl fmt::Debug for Index {
    /// Nothing: it is no state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index")
    }
}
