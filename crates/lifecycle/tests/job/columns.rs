//! `kubectl get jobs` (printers_test.go: TestPrintJob) and spans of time (duration_test.go:
//! TestHumanDuration, through column AGE).

use std::time::Duration;

use holdfast_lifecycle::job::{
    Indexes, Job, JobCondition, JobConditionKind, JobInput, JobReason, JobSpec, JobStatus,
};

use crate::NOW;

fn minutes_ago(minutes: u64) -> holdfast_lifecycle::Time {
    NOW - Duration::from_secs(minutes * 60)
}

fn row(spec: JobSpec, status: JobStatus) -> String {
    let mut job = Job::resume(spec, 36, NOW, status, []);
    assert!(job.poll().is_none());
    job.columns(NOW).0.join("|")
}

fn is(kind: JobConditionKind) -> Vec<JobCondition> {
    let (reason, message) = (JobReason::None, "".into());
    vec![JobCondition { kind, status: true, reason, message, last_transition: NOW }]
}

#[test]
fn rows() {
    let spec = |completions| JobSpec { completions, ..JobSpec::new("default", "job1") };
    let started = |start, end: Option<u64>| JobStatus {
        start_time: Some(minutes_ago(start)),
        completion_time: end.map(minutes_ago),
        ..JobStatus::default()
    };
    let with = |kind| JobStatus { conditions: is(kind), ..JobStatus::default() };
    let one = |succeeded| JobStatus { succeeded, ..JobStatus::default() };
    let parallel = JobSpec { parallelism: 2, ..spec(None) };
    let cases = [
        (spec(Some(2)), one(1), "job1|Running|1/2||0s"),
        (spec(None), JobStatus::default(), "job1|Running|0/1||0s"),
        (parallel, one(1), "job1|Running|1/1 of 2||0s"),
        (spec(Some(1)), started(2, Some(1)), "job1|Running|0/1|60s|0s"),
        (spec(Some(1)), started(20, None), "job1|Running|0/1|20m|0s"),
        (spec(Some(1)), with(JobConditionKind::Complete), "job1|Complete|0/1||0s"),
        (spec(Some(1)), with(JobConditionKind::Failed), "job1|Failed|0/1||0s"),
        (spec(Some(1)), with(JobConditionKind::Suspended), "job1|Suspended|0/1||0s"),
        (spec(Some(1)), with(JobConditionKind::FailureTarget), "job1|FailureTarget|0/1||0s"),
        (
            spec(Some(1)),
            with(JobConditionKind::SuccessCriteriaMet),
            "job1|SuccessCriteriaMet|0/1||0s",
        ),
    ];
    for (spec, status, want) in cases.clone() {
        assert_eq!(row(spec, status), want);
    }
    let mut job = Job::new(spec(Some(1)), 36, NOW);
    job.handle(NOW, JobInput::Delete);
    assert_eq!(job.columns(NOW).0.join("|"), "job1|Terminating|0/1|0s|0s");
    println!("{} cases", cases.len() + 1);
}

#[test]
fn ages() {
    let cases = [
        (1, "1s"),
        (70, "70s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (10 * 60, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3_600 + 60, "3h1m"),
        (7 * 3_600 + 1_800, "7h30m"),
        (47 * 3_600, "47h"),
        (48 * 3_600, "2d"),
        (4 * 86_400 + 3_600, "4d1h"),
        (10 * 86_400, "10d"),
        (729 * 86_400, "729d"),
        (730 * 86_400, "2y"),
        (731 * 86_400, "2y1d"),
        (2_920 * 86_400, "8y"),
    ];
    for (secs, want) in cases {
        let created = NOW - Duration::from_secs(secs);
        let job = Job::new(JobSpec::new("default", "job1"), 36, created);
        assert_eq!(job.columns(NOW).0[4], want, "{secs} s");
    }
    println!("{} cases", cases.len());
}

#[test]
fn words_of_the_api() {
    let status = JobStatus {
        completed_indexes: [0, 1, 2, 4].into_iter().collect::<Indexes>(),
        conditions: is(JobConditionKind::Complete),
        ..JobStatus::default()
    };
    assert_eq!(status.completed_indexes.to_string(), "0-2,4");
    assert_eq!(status.finished().map(|c| c.kind.as_str()), Some("Complete"));
    assert_eq!(JobReason::MaxFailedIndexesExceeded.as_str(), "MaxFailedIndexesExceeded");
}
