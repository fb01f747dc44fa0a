//! Whether an ended container is started again (spec A6; kubelet: `ShouldContainerBeRestarted`,
//! `ContainerShouldRestart`).

use crate::options::Features;
use crate::plan::{Container, Kind, Plan, RestartPolicy, RuleAction};
use crate::view::{Instance, InstanceState};

/// What the policies say about an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it ended.
    Stay,
    /// Start it again.
    Restart,
    /// Start every container of the pod again.
    RestartAll,
}

/// The policy that counts for a container that ended without rules being consulted (a probe kill,
/// a run in an unknown state): its own if set, else the pod's.
pub fn effective_policy(plan: &Plan, container: &Container, features: &Features) -> RestartPolicy {
    match container.restart_policy {
        Some(policy) if features.container_restart_rules => policy,
        _ => plan.restart_policy,
    }
}

/// What follows when the container ends with `code`.
pub fn on_exit(plan: &Plan, container: &Container, code: i32, features: &Features) -> Verdict {
    let rules_count = container.kind == Kind::Sidecar
        || (features.container_restart_rules && container.restart_policy.is_some());
    if rules_count {
        for rule in container.restart_rules.iter().filter(|r| r.matches(code)) {
            match rule.action {
                RuleAction::Restart => return Verdict::Restart,
                RuleAction::RestartAllContainers if features.restart_all_containers => {
                    return Verdict::RestartAll;
                }
                RuleAction::RestartAllContainers => {}
            }
        }
    }
    if container.kind == Kind::Sidecar {
        return Verdict::Restart;
    }
    let restart = match effective_policy(plan, container, features) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    if restart { Verdict::Restart } else { Verdict::Stay }
}

/// Whether the next sync starts the container, given its newest run.
pub fn should_restart(
    plan: &Plan,
    container: &Container,
    newest: Option<&Instance>,
    deleted: bool,
    features: &Features,
) -> bool {
    if deleted {
        return false;
    }
    match newest.map(|i| &i.state) {
        None | Some(InstanceState::Unknown | InstanceState::Created) => true,
        Some(InstanceState::Running { .. }) => false,
        Some(InstanceState::Exited(t)) => {
            on_exit(plan, container, t.exit_code, features) != Verdict::Stay
        }
    }
}
