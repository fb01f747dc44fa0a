//! What `holdfast run --timeline` wrote.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    at: f64,
    pub(crate) container: String,
    pub(crate) step: String,
    passed: bool,
}

/// The marks of a file, in order.
pub(crate) fn read(path: &Path) -> Result<Vec<Mark>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the timeline {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is not a timeline", path.display()))
}

fn parse(text: &str) -> Result<Vec<Mark>> {
    let document: Value = serde_json::from_str(text)?;
    let marks = document["marks"].as_array().context("no list `marks`")?;
    marks
        .iter()
        .map(|m| {
            Ok(Mark {
                at: m["at"].as_f64().context("a mark without `at`")?,
                container: m["container"].as_str().unwrap_or_default().to_owned(),
                step: m["step"].as_str().context("a mark without `step`")?.to_owned(),
                passed: m["passed"].as_bool().unwrap_or(false),
            })
        })
        .collect()
}

/// From each mark that `cause` accepts to the next start of another container.
pub(crate) fn gaps(marks: &[Mark], cause: impl Fn(&Mark) -> bool) -> Vec<Duration> {
    let mut gaps = Vec::new();
    for (at, mark) in marks.iter().enumerate().filter(|(_, m)| cause(m)) {
        let next =
            marks[at + 1..].iter().find(|m| m.step == "running" && m.container != mark.container);
        gaps.extend(next.map(|n| Duration::from_secs_f64((n.at - mark.at).max(0.0))));
    }
    gaps
}

/// A container ended.
pub(crate) fn ended(mark: &Mark) -> bool {
    mark.step == "exited"
}

/// A probe succeeded.
pub(crate) fn passed(mark: &Mark) -> bool {
    mark.step == "probe" && mark.passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_go_from_a_cause_to_the_next_start_of_another() {
        let text = r#"{"marks":[
            {"at":1.0,"container":"a","step":"running"},
            {"at":2.0,"container":"a","step":"exited"},
            {"at":2.5,"container":"b","step":"start"},
            {"at":2.75,"container":"b","step":"running"},
            {"at":3.0,"container":"b","step":"probe","passed":true},
            {"at":3.0,"container":"b","step":"running"},
            {"at":4.0,"container":"c","step":"running"},
            {"at":9.0,"container":"c","step":"exited"}]}"#;
        let marks = parse(text).unwrap();
        assert_eq!(gaps(&marks, ended), [Duration::from_millis(750)]);
        assert_eq!(gaps(&marks, passed), [Duration::from_secs(1)]);
        assert!(parse("{}").is_err());
    }
}
