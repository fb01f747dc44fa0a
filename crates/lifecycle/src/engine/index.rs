//! What the engine could work out anew each time, and remembers because pods may be large: where a
//! container is in the plan and in the status, and whose status may no longer be right.
//!
//! None of it is state of its own: it says nothing about a pod that the rest of the engine does not.

use std::collections::BTreeSet;
use std::fmt;

use crate::plan::{ContainerId, Kind, Plan};
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

/// What follows from the plan, and which statuses are stale.
#[derive(Clone, Default)]
pub(super) struct Index {
    /// Regular containers by name, the order of their statuses.
    by_name: Vec<ContainerId>,
    inits: Vec<ContainerId>,
    ephemerals: Vec<ContainerId>,
    /// Where the status of each container is.
    place: Vec<(List, u32)>,
    /// The sidecar after each container, which stops before it.
    next_sidecar: Vec<Option<ContainerId>>,
    pub(super) has_sidecars: bool,
    stale: Stale,
    /// Containers that are started but not ready, and have a readiness probe.
    pub(super) eager: BTreeSet<ContainerId>,
}

/// Containers whose status has to be made anew.
#[derive(Clone, Default)]
struct Stale {
    all: bool,
    is: Vec<bool>,
    list: Vec<ContainerId>,
}

/// What has to be made anew.
pub(super) enum Work {
    Everything,
    These(Vec<ContainerId>),
}

impl Index {
    pub(super) fn of(plan: &Plan) -> Self {
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
            for (at, &id) in (0..).zip(ids) {
                place[id.index()] = (list, at);
            }
        }
        let mut next_sidecar = vec![None; n];
        let mut next = None;
        for &id in inits.iter().rev() {
            next_sidecar[id.index()] = next;
            if plan.container(id).kind == Kind::Sidecar {
                next = Some(id);
            }
        }
        let stale = Stale { all: true, is: vec![false; n], list: Vec::new() };
        let has_sidecars = next.is_some();
        let eager = BTreeSet::new();
        Self { by_name, inits, ephemerals, place, next_sidecar, has_sidecars, stale, eager }
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
        let (list, at) = self.place[id.index()];
        (list, at as usize)
    }

    /// The sidecar that has to stop before this one.
    pub(super) fn next_sidecar(&self, id: ContainerId) -> Option<ContainerId> {
        self.next_sidecar[id.index()]
    }

    /// Something that the status of this container is made from has changed.
    pub(super) fn touch(&mut self, id: ContainerId) {
        if let Some(is) = self.stale.is.get_mut(id.index())
            && !std::mem::replace(is, true)
        {
            self.stale.list.push(id);
        }
    }

    /// Something that all statuses are made from has changed.
    pub(super) const fn touch_all(&mut self) {
        self.stale.all = true;
    }

    /// Whether the status of a container is known to be stale.
    pub(super) fn is_stale(&self, id: ContainerId) -> bool {
        self.stale.all || self.stale.is[id.index()]
    }

    /// Takes what is stale.
    pub(super) fn take(&mut self) -> Work {
        let list = std::mem::take(&mut self.stale.list);
        for id in &list {
            self.stale.is[id.index()] = false;
        }
        if std::mem::take(&mut self.stale.all) { Work::Everything } else { Work::These(list) }
    }
}

impl fmt::Debug for Index {
    /// Nothing: it is no state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index")
    }
}
