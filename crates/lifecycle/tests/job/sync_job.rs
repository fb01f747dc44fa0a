//! Whole looks at a Job: `sync_job.txt`.
//!
//! Left out of upstream's tables are the cases about what does not exist here: errors of the pod
//! control and its limit, expectations that are not met, uncounted pods in the status, finalizers
//! that are expected to go, the cap of 500, feature gates in combinations that no version has, and
//! `managedBy`. "too few active pods and active back-off" is in `life.rs`.

use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::job::{
    Action, CompletionMode, ExitCodes, FailureRule, Indexes, Job, JobCondition, JobConditionKind,
    JobInput, JobOutput, JobReason, JobSpec, JobStatus, On, PodCondition, PodReplacement,
    PodSummary, SuccessRule,
};
use holdfast_lifecycle::status::{ConditionKind, Phase, State};

use crate::{LONG_AGO, NOW, condition, container, ended};

const TABLE: &str = include_str!("sync_job.txt");

/// How many lines the table has; a line that gets lost is an error.
const COUNT: usize = 143;

#[test]
fn sync_job() {
    let mut cases = 0;
    for table in TABLE.split("\n## ").skip(1) {
        // The two tables in which upstream counts created and deleted pods.
        let strict = ["TestControllerSyncJob", "TestSyncJobPastDeadline"];
        let strict = strict.iter().any(|name| table.starts_with(name));
        for line in table.lines().skip(1).filter(|l| !l.is_empty()) {
            let parts: Vec<&str> = line.rsplitn(4, " ;").map(str::trim).collect();
            let [expected, pods, spec, name] = parts[..] else { panic!("{line}") };
            check(name, spec, pods, expected, strict);
            cases += 1;
        }
    }
    println!("{cases} cases");
    assert_eq!(cases, COUNT);
}

fn check(name: &str, words: &str, pods: &str, expected: &str, strict: bool) {
    let has = |word: &str| words.split(' ').any(|w| w == word);
    let version = value(words, "v").unwrap().parse().unwrap();
    let pods: Vec<PodSummary> =
        pods.split(' ').filter(|p| !p.is_empty()).flat_map(summaries).collect();
    let pods = pods
        .into_iter()
        .enumerate()
        .map(|(i, pod)| PodSummary { name: format!("mypod-{i}").into(), ..pod });
    let mut job = Job::resume(spec(words), version, LONG_AGO, status(words), pods);
    job.handle(NOW, if has("deleting") { JobInput::Delete } else { JobInput::Tick });
    let (mut created, mut deleted) = (Vec::new(), 0);
    while let Some(output) = job.poll() {
        match output {
            JobOutput::CreatePod(pod) => created.push(pod.index),
            JobOutput::DeletePod { .. } => deleted += 1,
            _ => {}
        }
    }

    let (numbers, message) = expected.split_once('"').unwrap_or((expected, ""));
    let number = |key: &str| value(numbers, key).and_then(|n| n.parse::<u32>().ok());
    let status = job.status();
    let want = |key: &str| number(key).unwrap_or(0);
    assert_eq!(status.active, want("active"), "{name}: active");
    assert_eq!(status.ready, want("ready"), "{name}: ready");
    assert_eq!(status.succeeded, want("ok"), "{name}: succeeded");
    assert_eq!(status.failed, want("bad"), "{name}: failed");
    if let Some(terminating) = number("term") {
        assert_eq!(status.terminating, terminating, "{name}: terminating");
    }
    let number_of = |key: &str| number(key).or(strict.then_some(0));
    if let Some(creations) = number_of("create") {
        assert_eq!(created.len(), creations as usize, "{name}: creations");
    }
    if value(numbers, "delete") == Some("all") {
        // A deleted Job takes its pods with it, which upstream leaves to the garbage collector.
        assert_eq!(deleted, job.pods().count(), "{name}: deletions");
    } else if let Some(deletions) = number_of("delete") {
        assert_eq!(deleted, deletions as usize, "{name}: deletions");
    }
    let done = value(numbers, "done").unwrap_or_default();
    assert_eq!(status.completed_indexes.to_string(), done, "{name}: completed indexes");
    let failed = status.failed_indexes.as_ref().map(ToString::to_string);
    assert_eq!(failed.as_deref(), value(numbers, "failed"), "{name}: failed indexes");
    if let Some(new) = value(numbers, "new") {
        let got: Indexes = created.into_iter().flatten().collect();
        assert_eq!(got.to_string(), new, "{name}: created indexes");
    }
    if let Some(wake) = number("wake") {
        let at = NOW + Duration::from_secs(wake.into());
        assert_eq!(job.poll_timeout(), Some(at), "{name}: wake");
    }
    let conditions = status.conditions.iter().map(|c| {
        let sign = if c.status { "" } else { "-" };
        format!("{sign}{}/{}", c.kind.as_str(), c.reason.as_str())
    });
    let conditions: Vec<String> = conditions.collect();
    let wanted: Vec<&str> = numbers.split(' ').filter(|w| w.contains('/')).collect();
    assert_eq!(conditions, wanted, "{name}: conditions");
    if !message.is_empty() {
        let all = status.conditions.iter().map(|c| c.message.trim_end());
        assert!(all.clone().all(|m| m == message.trim_end_matches('"')), "{name}: {message}");
    }
    assert_eq!(status.start_time.is_none(), has("suspend") && !words.contains("started"), "{name}");
}

fn value<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}

fn spec(words: &str) -> JobSpec {
    let has = |word: &str| words.split(' ').any(|w| w == word);
    let number = |key: &str| value(words, key).and_then(|n| n.parse::<u32>().ok());
    let failure_policy = value(words, "policy").map(policy);
    let failed = has("replace-failed") || failure_policy.is_some();
    let success = |text: &str| {
        let (indexes, count) = text.split_once('#').unwrap();
        let indexes = (!indexes.is_empty()).then(|| indexes.into());
        vec![SuccessRule { indexes, count: count.parse().ok() }]
    };
    JobSpec {
        parallelism: number("p").unwrap(),
        completions: number("c"),
        backoff_limit: number("b").unwrap_or(u32::MAX),
        backoff_limit_per_index: number("i"),
        max_failed_indexes: number("m"),
        mode: if has("indexed") { CompletionMode::Indexed } else { CompletionMode::NonIndexed },
        suspend: has("suspend"),
        active_deadline: number("deadline").map(|s| Duration::from_secs(s.into())),
        replacement: match failed {
            true => PodReplacement::Failed,
            false => PodReplacement::TerminatingOrFailed,
        },
        failure_policy,
        success_policy: value(words, "s").map(success),
        ..JobSpec::new("default", "foobar")
    }
}

pub(crate) fn exit_codes(action: Action, values: &[i32]) -> FailureRule {
    let codes = ExitCodes { container: None, negated: false, values: values.to_vec() };
    FailureRule { action, on: On::ExitCodes(codes) }
}

pub(crate) fn pod_condition(action: Action, kind: &str, status: bool) -> FailureRule {
    let kind = ConditionKind::Other(kind.into());
    FailureRule { action, on: On::PodConditions(vec![PodCondition { kind, status }]) }
}

fn policy(name: &str) -> Vec<FailureRule> {
    use Action::{Count, FailIndex, FailJob, Ignore};
    let target = |action| pod_condition(action, "DisruptionTarget", true);
    let main = |mut rule: FailureRule| {
        if let On::ExitCodes(codes) = &mut rule.on {
            codes.container = Some("main-container".into());
        }
        rule
    };
    let not_in = |mut rule: FailureRule| {
        if let On::ExitCodes(codes) = &mut rule.on {
            codes.negated = true;
        }
        rule
    };
    match name {
        "empty" => vec![],
        "codes" => vec![exit_codes(Ignore, &[1, 2, 3]), exit_codes(FailJob, &[5, 6, 7])],
        "codes-main" => policy("codes").into_iter().map(main).collect(),
        "notin" => vec![not_in(exit_codes(FailJob, &[5, 6, 7]))],
        "count-codes" => vec![exit_codes(Count, &[1, 2]), exit_codes(Ignore, &[2, 3])],
        "count-conditions" => {
            vec![pod_condition(Count, "ResourceLimitExceeded", true), target(Ignore)]
        }
        "ignore-target" => vec![target(Ignore)],
        "fail-target" => vec![target(FailJob)],
        "count-target" => vec![target(Count)],
        "fail-index-3" => vec![exit_codes(FailIndex, &[3])],
        "fail-3" => vec![exit_codes(FailJob, &[3])],
        "ignore-3" => vec![exit_codes(Ignore, &[3])],
        other => panic!("no policy {other}"),
    }
}

fn status(words: &str) -> JobStatus {
    let number = |key: &str| value(words, key).and_then(|n| n.parse::<u32>().ok());
    let mut conditions = Vec::new();
    let mut add = |kind, status, reason, message: &'static str| {
        let message = message.into();
        conditions.push(JobCondition { kind, status, reason, message, last_transition: LONG_AGO });
    };
    match value(words, "had") {
        Some("FailureTarget/PodFailurePolicy") => {
            let (kind, reason) = (JobConditionKind::FailureTarget, JobReason::PodFailurePolicy);
            add(kind, true, reason, "as before");
        }
        Some("SuccessCriteriaMet/SuccessPolicy") => {
            let (kind, reason) = (JobConditionKind::SuccessCriteriaMet, JobReason::SuccessPolicy);
            add(kind, true, reason, "Matched rules at index 0");
        }
        Some("-FailureTarget") => {
            add(JobConditionKind::FailureTarget, false, JobReason::None, "Testing");
        }
        Some("-SuccessCriteriaMet") => {
            add(JobConditionKind::SuccessCriteriaMet, false, JobReason::None, "Testing");
        }
        Some(other) => panic!("no condition {other}"),
        None => {}
    }
    if words.contains("was-suspended") {
        add(JobConditionKind::Suspended, true, JobReason::JobSuspended, "Job suspended");
    }
    JobStatus {
        conditions,
        start_time: number("started").map(|ago| NOW - Duration::from_secs(ago.into())),
        succeeded: number("ok").unwrap_or(0),
        failed: number("bad").unwrap_or(0),
        failed_indexes: value(words, "fidx").map(|text| Indexes::parse(text, u32::MAX)),
        completed_indexes: Indexes::parse(value(words, "done").unwrap_or_default(), u32::MAX),
        ..JobStatus::default()
    }
}

/// The pods of a word like `2*1:bad/0!x=3+DisruptionTarget-deleted`.
fn summaries(word: &str) -> Vec<PodSummary> {
    let (count, word) = word.split_once('*').unwrap_or(("1", word));
    let (index, word) = word.split_once(':').map_or((None, word), |(i, w)| (Some(i), w));
    let (word, deleted) = word.strip_suffix("-deleted").map_or((word, false), |w| (w, true));
    let (word, conditions) = word.split_once('+').unwrap_or((word, ""));
    let (word, containers) = word.split_once('!').unwrap_or((word, ""));
    let (phase, failures) = word.split_once('/').unwrap_or((word, "0"));
    let mut pod = PodSummary {
        index: index.map(|i| i.parse().unwrap()),
        failures: failures.parse().unwrap(),
        created: LONG_AGO,
        deleted: deleted.then_some(NOW),
        ..PodSummary::default()
    };
    let kinds = conditions.split('+').filter(|c| !c.is_empty());
    pod.status.conditions = kinds.map(|c| condition(c, true, LONG_AGO)).collect();
    pod.status.phase = match phase {
        "new" => Phase::Pending,
        "run" | "ready" => Phase::Running,
        "ok" => Phase::Succeeded,
        "bad" => Phase::Failed,
        other => panic!("no phase {other}"),
    };
    if phase == "ready" {
        pod.status.conditions.push(condition("Ready", true, LONG_AGO));
    }
    for text in containers.split(',').filter(|c| !c.is_empty()) {
        let (name, code) = text.split_once('=').unwrap();
        let code = code.parse().unwrap();
        match name.strip_prefix('^') {
            Some(name) => pod.status.init.push(ended(name, code, Some(LONG_AGO))),
            None => pod.status.regular.push(ended(name, code, Some(LONG_AGO))),
        }
    }
    if pod.status.regular.is_empty() && !deleted {
        pod.status.regular.push(match phase {
            "ok" => ended("main", 0, Some(LONG_AGO)),
            "bad" => ended("main", 1, Some(LONG_AGO)),
            _ => container("main", State::Running { started_at: LONG_AGO }),
        });
    }
    vec![pod; count.parse().unwrap()]
}

#[test]
fn the_index_of_the_table_is_complete() {
    // Names are upstream's, so they must be unique within their table.
    for table in TABLE.split("\n## ") {
        let mut names: Vec<Arc<str>> = table
            .lines()
            .filter(|l| l.contains(" ; "))
            .map(|l| l.rsplitn(4, " ;").last().unwrap().into())
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
