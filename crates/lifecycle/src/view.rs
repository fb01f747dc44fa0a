//! What the runtime is known to hold: sandboxes, and the runs (instances) of each container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::plan::{ContainerId, Plan};
use crate::status::{InstanceId, Terminated};
use crate::time::Time;

/// The runtime's side of a pod (kubelet: `kubecontainer.PodStatus`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeView {
    /// The pod's sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// The known runs of each container, by [`ContainerId`], oldest first.
    runs: Vec<Vec<Instance>>,
    /// The container of each known run.
    owners: BTreeMap<InstanceId, ContainerId>,
}

/// One sandbox of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The how-manieth it is, from 0.
    pub attempt: u32,
    /// Whether its namespaces are up.
    pub ready: bool,
    /// The pod's address in it.
    pub ip: Option<IpAddr>,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its identity.
    pub id: InstanceId,
    /// The container it is a run of.
    pub container: ContainerId,
    /// The attempt of the sandbox it was made in.
    pub sandbox: u32,
    /// What it does.
    pub state: InstanceState,
    /// The image it was made from; another one in the plan means the container changed.
    pub image: Arc<str>,
    /// The resolved image.
    pub image_id: Arc<str>,
    /// When it was made.
    pub created_at: Time,
    /// Its restart count.
    pub restart_count: u32,
}

/// What a run does (the CRI's container states).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Made, but its process was never seen to run.
    Created,
    /// Its process runs.
    Running {
        /// Since when.
        started_at: Time,
    },
    /// Its process ended.
    Exited(Terminated),
    /// The runtime cannot tell.
    Unknown,
}

impl RuntimeView {
    /// A view without any sandbox or run.
    pub fn new(plan: &Plan) -> Self {
        let runs = vec![Vec::new(); plan.containers.len()];
        Self { sandboxes: Vec::new(), runs, owners: BTreeMap::new() }
    }

    /// Adds a run, the newest of its container.
    pub fn push(&mut self, instance: Instance) {
        let index = instance.container.index();
        if self.runs.len() <= index {
            self.runs.resize(index + 1, Vec::new());
        }
        self.owners.insert(instance.id, instance.container);
        self.runs[index].push(instance);
    }

    /// Forgets a run; returns the container it was of, if it was known.
    pub fn remove(&mut self, id: InstanceId) -> Option<ContainerId> {
        let container = self.owners.remove(&id)?;
        if let Some(runs) = self.runs.get_mut(container.index()) {
            runs.retain(|i| i.id != id);
        }
        Some(container)
    }

    /// The container that a run belongs to, if the run is known.
    pub fn container_of(&self, id: InstanceId) -> Option<ContainerId> {
        self.owners.get(&id).copied()
    }

    /// Makes room for the containers of a changed plan.
    pub fn resize(&mut self, plan: &Plan) {
        let n = plan.containers.len();
        self.runs.resize(n, Vec::new());
        self.owners.retain(|_, id| id.index() < n);
    }

    /// The runs of a container, oldest first.
    pub fn runs(&self, container: ContainerId) -> &[Instance] {
        self.runs.get(container.index()).map_or(&[], Vec::as_slice)
    }

    /// The newest run of a container, from whichever sandbox (kubelet: `FindContainerStatusByName`).
    pub fn newest(&self, container: ContainerId) -> Option<&Instance> {
        self.runs(container).last()
    }

    /// The run before the newest.
    pub fn previous(&self, container: ContainerId) -> Option<&Instance> {
        let runs = self.runs(container);
        runs.len().checked_sub(2).map(|at| &runs[at])
    }

    /// A run by its identity, looked up in its container.
    pub fn get_mut(&mut self, container: ContainerId, id: InstanceId) -> Option<&mut Instance> {
        self.runs.get_mut(container.index())?.iter_mut().rev().find(|i| i.id == id)
    }

    /// Every known run.
    pub fn all(&self) -> impl Iterator<Item = &Instance> {
        self.runs.iter().flatten()
    }

    /// Whether any container has a run on record.
    pub fn has_any(&self) -> bool {
        self.runs.iter().any(|r| !r.is_empty())
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// Whether a new sandbox is needed, and which attempt it would be (kubelet:
    /// `PodSandboxChanged`).
    pub fn sandbox_changed(&self, plan: &Plan) -> (bool, u32) {
        let Some(newest) = self.sandboxes.first() else { return (true, 0) };
        let ready = self.sandboxes.iter().filter(|s| s.ready).count();
        if ready > 1 || !newest.ready || (!plan.host_network && newest.ip.is_none()) {
            return (true, newest.attempt + 1);
        }
        (false, newest.attempt)
    }
}

impl Instance {
    /// Whether its process runs.
    pub const fn is_running(&self) -> bool {
        matches!(self.state, InstanceState::Running { .. })
    }

    /// Whether it is made or running: what shows that the pod has been initialized.
    pub const fn is_active(&self) -> bool {
        matches!(self.state, InstanceState::Created | InstanceState::Running { .. })
    }

    /// How it ended, if it did.
    pub const fn exit(&self) -> Option<&Terminated> {
        match &self.state {
            InstanceState::Exited(t) => Some(t),
            _ => None,
        }
    }
}
