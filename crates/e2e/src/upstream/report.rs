//! What came of it, as tables and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::specs::Outcome;

/// Writes every outcome.
pub(super) fn write(outcomes: &[Outcome], path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(outcomes)?;
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// A table of families, and one of what did not pass.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut families: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for outcome in outcomes {
        let row = families.entry(&outcome.family).or_default();
        let column = match outcome.state.as_str() {
            "passed" => 0,
            "skipped" => 2,
            _ => 1,
        };
        row[column] += 1;
        row[3] += outcome.seconds;
    }
    let mut text = String::from(
        "| family | passed | failed | does not apply | seconds |\n|---|---:|---:|---:|---:|\n",
    );
    let mut sum = [0; 4];
    for (family, row) in &families {
        line(&mut text, family, row);
        sum = std::array::from_fn(|i| sum[i] + row[i]);
    }
    line(&mut text, "all", &sum);
    let others: Vec<_> = outcomes.iter().filter(|outcome| outcome.state != "passed").collect();
    if !others.is_empty() {
        text.push_str("\n| spec | state | why |\n|---|---|---|\n");
        for outcome in others {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                cell(&outcome.spec),
                outcome.state,
                cell(&outcome.why)
            );
        }
    }
    text
}

fn line(text: &mut String, name: &str, [passed, failed, other, seconds]: &[u64; 4]) {
    let _ = writeln!(text, "| {} | {passed} | {failed} | {other} | {seconds} |", cell(name));
}

fn cell(text: &str) -> String {
    text.replace('|', r"\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_pass_is_named_with_the_reason() {
        let outcome = |spec: &str, state: &str| Outcome {
            spec: spec.into(),
            family: "Pods".into(),
            state: state.into(),
            seconds: 3,
            why: "a | b".into(),
        };
        let outcomes =
            [outcome("one", "passed"), outcome("two", "timedout"), outcome("x", "skipped")];
        let text = table(&outcomes);
        assert!(text.contains("| Pods | 1 | 1 | 1 | 9 |\n"), "{text}");
        assert!(text.contains("| two | timedout | a \\| b |\n"), "{text}");
        assert!(!text.contains("| one |"), "{text}");
    }
}
