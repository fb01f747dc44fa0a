//! `successPolicy` (pkg/controller/job/success_policy.go).

use super::indexes::Indexes;
use super::spec::SuccessRule;

/// Looks for the first rule that is met, and gives the message of the Job's condition
/// (matchSuccessPolicy).
pub fn match_success_policy(
    rules: &[SuccessRule],
    completions: u32,
    succeeded: &Indexes,
) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let met = |rule: &SuccessRule| match &rule.indexes {
        Some(text) => {
            let required = Indexes::parse(text, completions);
            let both = required.overlap(succeeded);
            !required.is_empty()
                && (both == required.len() || rule.count.is_some_and(|count| both >= count))
        }
        None => rule.count.is_some_and(|count| succeeded.len() >= count),
    };
    let index = rules.iter().position(met)?;
    Some(format!("Matched rules at index {index}"))
}
