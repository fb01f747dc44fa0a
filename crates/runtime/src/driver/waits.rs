//! Why a container had to wait, in words, for timelines.

use holdfast_lifecycle::{ContainerId, Kind};

use super::Driver;
use crate::contract::Runtime;

impl<R: Runtime + 'static> Driver<R> {
    /// What the start of this container waited for, by the rules of the engine.
    pub(super) fn waited_for(&self, id: ContainerId, restart_count: u32) -> String {
        let plan = &self.plan;
        if restart_count > 0 && self.engine.view().previous(id).is_some() {
            return "the end of its last run and its back-off".into();
        }
        let released = |before: ContainerId| {
            let c = plan.container(before);
            match (c.kind, c.post_start, c.startup.is_some()) {
                (Kind::Sidecar, _, true) => format!("the startupProbe of sidecar {}", c.name),
                (Kind::Sidecar, true, false) => format!("the postStart hook of sidecar {}", c.name),
                (Kind::Sidecar, false, false) => format!("the process of sidecar {}", c.name),
                _ => format!("init container {} to end with 0", c.name),
            }
        };
        match plan.container(id).kind {
            Kind::Ephemeral => "the sandbox".into(),
            Kind::Init | Kind::Sidecar => match id.0.checked_sub(1) {
                Some(before) => released(ContainerId(before)),
                None => "the sandbox".into(),
            },
            Kind::Regular => {
                let first = match plan.inits().next_back() {
                    Some(last) => released(last),
                    None => "the sandbox".into(),
                };
                let before = plan.regulars().take_while(|&r| r < id).last();
                match before.map(|b| plan.container(b)) {
                    Some(c) if c.post_start => {
                        format!("{first}, then the start and postStart hook of {}", c.name)
                    }
                    Some(c) => format!("{first}, then the start of {}", c.name),
                    None => first,
                }
            }
        }
    }
}
