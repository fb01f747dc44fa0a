//! What the start of a container waits for (kubelet: `SyncPod`, `computeInitContainerActions`).
//!
//! An entry of `initContainers` waits for the entry before it, the containers of `containers` for the
//! last such entry, and each of them for the start call of the one before it. Nothing else: no
//! readiness or startup probe of a regular container holds back another one.

use std::fmt;

use crate::plan::{ContainerId, Kind, Plan};

/// One thing that must have happened before a container may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The sandbox is there: nothing comes before this container.
    Sandbox,
    /// A plain init container has ended with 0.
    Ended(ContainerId),
    /// A native sidecar counts as started.
    Released(ContainerId, Gate),
    /// A container that is before it in `containers` was started, and its postStart hook has ended.
    Begun {
        /// The container before.
        container: ContainerId,
        /// Whether it has a postStart hook.
        hook: bool,
    },
    /// The end of its own last run, and the back-off after it.
    BackOff,
}

/// What makes a native sidecar count as started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Its process runs.
    Process,
    /// Its postStart hook has ended.
    PostStart,
    /// Its startupProbe has succeeded (after the hook, if there is one).
    StartupProbe,
}

impl Gate {
    /// The gate of a native sidecar.
    pub fn of(plan: &Plan, sidecar: ContainerId) -> Self {
        let c = plan.container(sidecar);
        match (c.startup.is_some(), c.post_start) {
            (true, _) => Self::StartupProbe,
            (false, true) => Self::PostStart,
            (false, false) => Self::Process,
        }
    }
}

/// What the first start of a container waits for, in the order in which it happens.
///
/// # Panics
/// If the id is not of this plan.
pub fn waits(plan: &Plan, id: ContainerId) -> Vec<Wait> {
    let released = |before: Option<ContainerId>| match before {
        None => Wait::Sandbox,
        Some(b) if plan.container(b).kind == Kind::Sidecar => Wait::Released(b, Gate::of(plan, b)),
        Some(b) => Wait::Ended(b),
    };
    match plan.container(id).kind {
        Kind::Ephemeral => vec![Wait::Sandbox],
        Kind::Init | Kind::Sidecar => vec![released(plan.inits().take_while(|&i| i < id).last())],
        Kind::Regular => {
            let mut all = vec![released(plan.inits().next_back())];
            let before = plan.regulars().take_while(|&r| r < id).last();
            all.extend(before.map(|container| {
                let hook = plan.container(container).post_start;
                Wait::Begun { container, hook }
            }));
            all
        }
    }
}

impl Wait {
    /// The container that is waited for.
    pub const fn container(self) -> Option<ContainerId> {
        match self {
            Self::Ended(id) | Self::Released(id, _) | Self::Begun { container: id, .. } => Some(id),
            Self::Sandbox | Self::BackOff => None,
        }
    }

    /// `the sandbox`, `init container a to end with 0`, ….
    pub fn words(self, plan: &Plan) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let name = |id: ContainerId| &plan.container(id).name;
            match self {
                Self::Sandbox => f.write_str("the sandbox"),
                Self::BackOff => f.write_str("the end of its last run and its back-off"),
                Self::Ended(id) => write!(f, "init container {} to end with 0", name(id)),
                Self::Released(id, gate) => {
                    let what = match gate {
                        Gate::Process => "process",
                        Gate::PostStart => "postStart hook",
                        Gate::StartupProbe => "startupProbe",
                    };
                    write!(f, "the {what} of sidecar {}", name(id))
                }
                Self::Begun { container, hook: true } => {
                    write!(f, "the start and postStart hook of {}", name(container))
                }
                Self::Begun { container, hook: false } => {
                    write!(f, "the start of {}", name(container))
                }
            }
        })
    }
}

/// All of them, joined by `, then `.
pub fn words(plan: &Plan, waits: &[Wait]) -> String {
    let all: Vec<String> = waits.iter().map(|w| w.words(plan).to_string()).collect();
    all.join(", then ")
}
