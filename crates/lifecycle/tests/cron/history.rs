//! History limits, changed specs, columns and names (TestByJobStartTime,
//! TestControllerV2CleanupFinishedJobs, TestControllerV2UpdateCronJob, TestGetJobFromTemplate2,
//! TestPrintCronJob).

use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::cron::{
    Action, ChildJob, CronJob, CronJobSpec, CronJobStatus, Finished, job_name,
};

use crate::{at, millis, secs};

fn done(name: &str, start: Option<i64>) -> ChildJob {
    let finished = Some(Finished::Complete { at: start.map(secs) });
    ChildJob { name: name.into(), start: start.map(secs), finished }
}

fn failed(name: &str, start: Option<i64>) -> ChildJob {
    ChildJob { finished: Some(Finished::Failed), ..done(name, start) }
}

fn deleted(jobs: &[ChildJob], succeeded: Option<u32>, failed: Option<u32>) -> Vec<String> {
    let spec = CronJobSpec {
        keep_succeeded: succeeded,
        keep_failed: failed,
        suspend: true,
        ..CronJobSpec::new("fooer", "0 * * * ?")
    };
    let sync = CronJob::new(spec, secs(-3_600)).sync(secs(60), jobs);
    let names = sync.actions.iter().filter_map(|a| match a {
        Action::DeleteJob { name } => Some(name.to_string()),
        _ => None,
    });
    names.collect()
}

#[test]
fn the_oldest_go_first() {
    // TestByJobStartTime: which of two comes first, told by which one is deleted.
    let cases = [
        ("both have nil start times", [done("b", None), done("a", None)], "a"),
        ("only the first has a nil start time", [done("a", None), done("b", Some(0))], "b"),
        ("only the second has a nil start time", [done("a", Some(0)), done("b", None)], "a"),
        ("both have non-nil, equal start time", [done("b", Some(0)), done("a", Some(0))], "a"),
        ("both have non-nil, different start time", [done("a", Some(9)), done("b", Some(0))], "b"),
    ];
    for (name, jobs, first) in &cases {
        assert_eq!(deleted(jobs, Some(1), None), [*first], "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn limits_count_by_outcome() {
    let jobs: Vec<ChildJob> = (0..5)
        .flat_map(|i| [done(&format!("ok-{i}"), Some(i)), failed(&format!("bad-{i}"), Some(i))])
        .chain([ChildJob { name: "runs".into(), start: Some(secs(0)), finished: None }])
        .collect();
    assert_eq!(
        deleted(&jobs, Some(3), Some(1)),
        ["ok-0", "ok-1", "bad-0", "bad-1", "bad-2", "bad-3"]
    );
    assert_eq!(deleted(&jobs, None, Some(5)), Vec::<String>::new());
    assert_eq!(deleted(&jobs, Some(0), None).len(), 5);
}

#[test]
fn jobs_are_deleted_even_if_none_can_be_created() {
    // TestControllerV2CleanupFinishedJobs: a quota of Jobs must not lock the CronJob up.
    let spec = CronJobSpec { keep_succeeded: Some(1), ..CronJobSpec::new("fooer", "0 * * * ?") };
    let status = CronJobStatus { last_schedule: Some(secs(-3_540)), ..Default::default() };
    let jobs = [done("started-minute-ago", Some(-60)), done("started-hour-ago", Some(-3_660))];
    let sync = CronJob::with_status(spec, secs(-7_200), status).sync(secs(60), &jobs);
    let first = Action::DeleteJob { name: "started-hour-ago".into() };
    assert_eq!(sync.actions.first(), Some(&first));
    assert!(sync.actions.iter().any(|a| matches!(a, Action::CreateJob { .. })));
}

#[test]
fn a_changed_spec() {
    let now = secs(-1);
    let status = CronJobStatus { last_schedule: Some(secs(-60)), ..Default::default() };
    // name, old schedule, new schedule -> milliseconds from now until the next look
    let cases = [
        ("spec.template changed", "30 * * * *", "30 * * * *", Some(0)),
        ("spec.schedule changed", "30 * * * *", "*/1 * * * *", Some(1_100)),
        (
            "spec.schedule with @every changed - cadence decrease",
            "@every 1m",
            "@every 3m",
            Some(121_100),
        ),
        (
            "spec.schedule with @every changed - cadence increase",
            "@every 3m",
            "@every 1m",
            Some(1_100),
        ),
        ("not a schedule any more", "30 * * * *", "never", None),
    ];
    for (name, old, new, wait) in cases {
        let spec = CronJobSpec::new("fooer", old);
        let mut cron_job = CronJob::with_status(spec, secs(-7_200), status.clone());
        let sync = cron_job.spec_changed(now, CronJobSpec::new("fooer", new));
        assert_eq!(sync.wake, wait.map(|w| millis(-1_000 + w)), "{name}");
        assert_eq!(sync.actions.is_empty(), wait.is_some(), "{name}");
    }
    let zoned = |zone: Option<&str>| CronJobSpec {
        time_zone: zone.map(Arc::from),
        ..CronJobSpec::new("fooer", "0 * * * *")
    };
    let mut cron_job = CronJob::with_status(zoned(Some("America/New_York")), secs(0), status);
    let same = cron_job.spec_changed(now, zoned(Some("America/New_York")));
    assert_eq!(same.wake, Some(now), "spec.timeZone not changed");
    let other = cron_job.spec_changed(now, zoned(None));
    assert_eq!(other.wake, Some(millis(100)), "spec.timeZone changed");
    println!("{} cases", cases.len() + 2);
}

#[test]
fn the_job_carries_its_time() {
    let cases = [
        ("UTC timezone", Some("UTC"), "2016-05-19T10:00:00Z"),
        ("nil timezone", None, "2016-05-19T10:00:00Z"),
        ("correct timezone", Some("Europe/Rome"), "2016-05-19T12:00:00+02:00"),
    ];
    for (name, zone, want) in cases {
        let spec = CronJobSpec {
            time_zone: zone.map(Arc::from),
            ..CronJobSpec::new("mycronjob", "0 * * * ?")
        };
        let sync = CronJob::new(spec, secs(-60)).sync(secs(1), &[]);
        let Some(Action::CreateJob { name: job, timestamp, scheduled }) = sync.actions.first()
        else {
            panic!("{name}: no job");
        };
        assert_eq!((&**job, timestamp.as_str()), ("mycronjob-24394200", want), "{name}");
        assert_eq!(*scheduled, secs(0));
    }
    assert_eq!(job_name("hello", at("2023-04-18T11:53:59Z")), "hello-28030313");
    println!("{} cases", cases.len());
}

#[test]
fn columns() {
    let age = Duration::from_secs(300);
    let now = Time::from_secs(1_000_000_000);
    let mut spec = CronJobSpec::new("cronjob1", "0/5 * * * ?");
    let mut status = CronJobStatus::default();
    let row = |spec: &CronJobSpec, status: &CronJobStatus, created: Time| {
        CronJob::with_status(spec.clone(), created, status.clone()).columns(now).0.join("|")
    };
    let fresh = row(&spec, &status, now - age);
    assert_eq!(fresh, "cronjob1|0/5 * * * ?|<none>|False|0|<none>|5m");
    spec.suspend = true;
    spec.time_zone = Some("Europe/Paris".into());
    status.active = vec!["cronjob1-1".into(), "cronjob1-2".into()];
    status.last_schedule = Some(now - Duration::from_secs(30));
    let busy = row(&spec, &status, now - Duration::from_secs(400 * 86_400));
    assert_eq!(busy, "cronjob1|0/5 * * * ?|Europe/Paris|True|2|30s|400d");
}
