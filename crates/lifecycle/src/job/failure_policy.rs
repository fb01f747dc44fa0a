//! `podFailurePolicy` (pkg/controller/job/pod_failure_policy.go).

use super::pod::PodSummary;
use super::spec::{Action, ExitCodes, FailureRule, On};
use crate::status::ContainerStatus;

/// What a policy says about a failed pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureMatch {
    /// The action of the first rule that matches.
    pub action: Option<Action>,
    /// The message of the Job's condition, only with [`Action::FailJob`].
    pub message: Option<String>,
}

impl FailureMatch {
    /// Whether the failure counts towards the limits.
    pub fn counts(&self) -> bool {
        self.action != Some(Action::Ignore)
    }
}

/// Looks for the first rule that matches a failed pod (matchPodFailurePolicy).
pub fn match_failure_policy(
    rules: &[FailureRule],
    namespace: &str,
    pod: &PodSummary,
) -> FailureMatch {
    for (index, rule) in rules.iter().enumerate() {
        let Some(found) = matched(&rule.on, namespace, pod) else { continue };
        let fails = rule.action == Action::FailJob;
        return FailureMatch {
            action: Some(rule.action),
            message: fails.then(|| format!("{found} matching FailJob rule at index {index}")),
        };
    }
    FailureMatch::default()
}

/// The first half of the message, if it matches.
fn matched(on: &On, namespace: &str, pod: &PodSummary) -> Option<String> {
    let name = &pod.name;
    match on {
        On::ExitCodes(codes) => {
            let listed = pod.status.regular.iter().chain(&pod.status.init);
            let (container, code) =
                listed.filter_map(|c| Some((c, exit_code(c, codes)?))).next()?;
            Some(format!(
                "Container {} for pod {namespace}/{name} failed with exit code {code}",
                container.name
            ))
        }
        On::PodConditions(patterns) => {
            let is = |c: &&crate::status::Condition| {
                patterns.iter().any(|p| p.kind == c.kind && p.status == c.status)
            };
            let condition = pod.status.conditions.iter().find(is)?;
            Some(format!("Pod {namespace}/{name} has condition {}", condition.kind.as_str()))
        }
    }
}

/// The exit code of a container that matches.
fn exit_code(container: &ContainerStatus, codes: &ExitCodes) -> Option<i32> {
    let code = container.state.terminated()?.exit_code;
    let named = codes.container.as_ref().is_none_or(|name| *name == container.name);
    (named && code != 0 && codes.values.contains(&code) != codes.negated).then_some(code)
}
