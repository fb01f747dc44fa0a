//! Kubernetes' TestControllerV2SyncCronJob: what the controller does at a moment, by what went
//! before. The table is the upstream one, a line a case; times are milliseconds after 10:00.
//!
//! Two of its cases have no counterpart here and are left out: `still active, is time, get job
//! failed, R` (the list of Jobs is not asked for again) and `do nothing if the namespace is
//! terminating` (there is no such answer). In the cases where upstream's own caches lag behind
//! ("went missing", "not present in cronjob active list") the list of Jobs and the status are
//! simply up to date. Where upstream states a number of active Jobs that its own test does not
//! check and that is wrong, the table has the right one.

use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::Event;
use holdfast_lifecycle::cron::{
    Action, ChildJob, ConcurrencyPolicy, CreateError, CronJob, CronJobSpec, CronJobStatus,
    Decision, Finished, job_name,
};

use crate::{at, millis, secs};

/// One line of the table: `name; policy, schedule, zone, deadline (s); what was; times; what is
/// expected`. `-` is none.
const TABLE: &str = include_str!("sync_cron_job.txt");

#[test]
fn sync_cron_job() {
    let lines: Vec<&str> = TABLE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    for line in &lines {
        let parts: Vec<&str> = line.split(" ; ").map(str::trim).collect();
        let [name, spec, was, times, expected] = parts[..] else { panic!("{line}") };
        check(name, spec, was, times, expected);
    }
    println!("{} of 71 cases", lines.len());
    assert_eq!(lines.len(), COUNT);
}

fn check(name: &str, spec: &str, was: &str, times: &str, expected: &str) {
    let spec: Vec<&str> = spec.split(" | ").collect();
    let was = |word: &str| was.split(' ').any(|w| w == word);
    let times: Vec<Option<i64>> = times.split(' ').map(|t| t.parse().ok()).collect();
    let [created, job, last, now] = times[..] else { panic!("{name}: times") };
    let now = millis(now.unwrap());
    let spec = CronJobSpec {
        name: "mycronjob".into(),
        schedule: spec[1].into(),
        time_zone: (spec[2] != "-").then(|| spec[2].into()),
        suspend: was("suspended"),
        concurrency: match spec[0] {
            "Allow" => ConcurrencyPolicy::Allow,
            "Forbid" => ConcurrencyPolicy::Forbid,
            _ => ConcurrencyPolicy::Replace,
        },
        starting_deadline: spec[3].parse().ok().map(Duration::from_secs),
        keep_succeeded: None,
        keep_failed: None,
    };
    let job_created = millis(job.unwrap());
    let job: Arc<str> = job_name("mycronjob", job_created).into();
    let completed = job_created + Duration::from_secs(10);
    let mut status = CronJobStatus::default();
    let mut jobs = Vec::new();
    if was("ran") {
        status.last_schedule = Some(last.map_or_else(|| secs(-3_540), secs));
        let finished = (!was("active")).then_some(Finished::Complete { at: Some(completed) });
        jobs.push(ChildJob { name: Arc::clone(&job), start: None, finished });
        if was("active") {
            status.active.push(job);
        }
    }
    let created = created.map_or_else(|| secs(if was("ran") { -3_660 } else { -60 }), secs);
    let mut cron_job = CronJob::with_status(spec, created, status.clone());
    let mut sync = cron_job.sync(now, &jobs);

    let expects = |word: &str| expected.split(' ').any(|w| w == word);
    let number = |key: &str| -> Option<i64> {
        expected.split(' ').find_map(|w| w.strip_prefix(key)).map(|n| n.parse().unwrap())
    };
    if expects("create-fails") {
        let Some(Action::CreateJob { name, .. }) = sync.actions.first().cloned() else {
            panic!("{name}: nothing to fail");
        };
        let undone = cron_job.create_failed(&name, &CreateError::AlreadyExists);
        assert!(undone.actions.is_empty() && undone.status_changed);
        assert_eq!(cron_job.status().last_schedule, status.last_schedule);
        sync.actions.clear();
    }
    let count = |pick: fn(&Action) -> bool| sync.actions.iter().filter(|a| pick(a)).count();
    let creates = count(|a| matches!(a, Action::CreateJob { .. }));
    let deletes = count(|a| matches!(a, Action::DeleteJob { .. }));
    assert_eq!(creates, usize::from(expects("create")), "{name}: creates");
    assert_eq!(deletes, usize::from(expects("delete")), "{name}: deletes");
    let warnings = count(|a| matches!(a, Action::Event(Event { warning: true, .. })));
    assert_eq!(warnings, usize::from(expects("warn")), "{name}: warnings {:?}", sync.actions);
    let events = count(|a| matches!(a, Action::Event(_)));
    let skipped = usize::from(name == "still active, is time, F");
    assert_eq!(events, creates + deletes + warnings + skipped, "{name}: {:?}", sync.actions);
    let wake = number("wake=").map(|w| now + Duration::from_millis(u64::try_from(w).unwrap()));
    assert_eq!(sync.wake, wake, "{name}: wake");
    assert_eq!(sync.status_changed, expects("update"), "{name}: status changed");
    let active = i64::try_from(cron_job.status().active.len()).unwrap();
    assert_eq!(Some(active), number("active="), "{name}: active");
    if was("ran") && !was("active") {
        assert_eq!(cron_job.status().last_successful, Some(completed), "{name}: last success");
    }
}

/// How many lines the table has; a line that gets lost is an error.
const COUNT: usize = 69;

fn events(sync: &Decision) -> Vec<String> {
    let text = |e: &Event| {
        format!("{} {} {}", if e.warning { "Warning" } else { "Normal" }, e.reason, e.message)
    };
    let events = sync.actions.iter().filter_map(|a| match a {
        Action::Event(e) => Some(text(e)),
        _ => None,
    });
    events.collect()
}

fn hourly() -> CronJobSpec {
    CronJobSpec::new("c", "0 * * * *")
}

#[test]
fn what_the_events_say() {
    let mut spec = hourly();
    spec.time_zone = Some("bad timezone".into());
    assert_eq!(
        events(&CronJob::new(spec, secs(-60)).sync(secs(60), &[])),
        [
            "Warning UnknownTimeZone invalid timeZone: \"bad timezone\": unknown time zone bad timezone"
        ]
    );
    let spec = CronJobSpec::new("c", "obvious error schedule");
    assert_eq!(
        events(&CronJob::new(spec, secs(-60)).sync(secs(60), &[])),
        [
            "Warning UnparseableSchedule unparseable schedule: \"obvious error schedule\" : expected \
          exactly 5 fields, found 3: [obvious error schedule]"
        ]
    );
    let spec = CronJobSpec::new("c", "59 23 31 2 *");
    let sync = CronJob::new(spec, secs(-60)).sync(secs(60), &[]);
    assert_eq!(
        events(&sync),
        ["Warning InvalidSchedule invalid schedule: 59 23 31 2 * : time difference between two \
          schedules is less than 1 second"]
    );
    assert_eq!(sync.wake, None);
    let sync = CronJob::new(hourly(), secs(-60)).sync(secs(168 * 3_600), &[]);
    assert_eq!(
        events(&sync),
        [
            "Warning TooManyMissedTimes too many missed start times. Set or decrease \
             .spec.startingDeadlineSeconds or check clock skew",
            "Normal SuccessfulCreate Created job c-24404280",
        ]
    );
    // A deadline that ends just before the scheduled time: seen at 10:00:11 for 10:00:00.
    let mut spec = CronJobSpec::new("c", "@every 1h");
    spec.starting_deadline = Some(Duration::from_secs(10));
    let mut missed = CronJob::new(spec, secs(-3_600));
    assert!(events(&missed.sync(secs(11), &[])).is_empty(), "the deadline moves @every along");
}

#[test]
fn the_life_of_a_job() {
    let mut spec = hourly();
    spec.concurrency = ConcurrencyPolicy::Forbid;
    let mut cron_job = CronJob::new(spec, secs(-60));
    let first = cron_job.sync(secs(0), &[]);
    assert_eq!(events(&first), ["Normal SuccessfulCreate Created job c-24394200"]);
    let job = |finished| ChildJob { name: "c-24394200".into(), start: Some(secs(0)), finished };
    let second = cron_job.sync(secs(3_600), &[job(None)]);
    assert_eq!(
        events(&second),
        ["Normal JobAlreadyActive Not starting job because prior execution is running and \
          concurrency policy is Forbid"]
    );
    let third = cron_job.sync(secs(3_700), &[job(Some(Finished::Failed))]);
    assert_eq!(
        events(&third)[0],
        "Normal SawCompletedJob Saw completed job: c-24394200, condition: Failed"
    );
    // The slot of 11:00 is still due, and is made up for now.
    assert_eq!(events(&third)[1], "Normal SuccessfulCreate Created job c-24394260");
    let gone = cron_job.sync(secs(3_800), &[]);
    assert_eq!(events(&gone), ["Normal MissingJob Active job went missing: c-24394260"]);
    assert_eq!(cron_job.status().active.len(), 0);
}

#[test]
fn strange_jobs() {
    let mut cron_job = CronJob::new(hourly(), secs(-60));
    let stranger = ChildJob { name: "by-hand".into(), start: None, finished: None };
    assert_eq!(
        events(&cron_job.sync(secs(-30), &[stranger])),
        ["Warning UnexpectedJob Saw a job that the controller did not create or forgot: by-hand"]
    );
    // A Job of the due name is there, as after a crash between creating it and saying so.
    let own = ChildJob { name: "c-24394200".into(), start: None, finished: None };
    let sync = cron_job.sync(secs(1), &[own]);
    assert!(!sync.actions.iter().any(|a| matches!(a, Action::CreateJob { .. })));
    assert_eq!(cron_job.status().active, ["c-24394200".into()]);
}

#[test]
fn a_failed_create_is_tried_again() {
    let mut cron_job = CronJob::new(hourly(), secs(-60));
    cron_job.sync(secs(1), &[]);
    let failed = cron_job.create_failed("c-24394200", &CreateError::Other("no space".to_owned()));
    assert_eq!(events(&failed), ["Warning FailedCreate Error creating job: no space"]);
    let again = cron_job.sync(secs(2), &[]);
    assert_eq!(events(&again), ["Normal SuccessfulCreate Created job c-24394200"]);
}

#[test]
fn a_deleted_cron_job_starts_nothing() {
    let mut cron_job = CronJob::new(hourly(), secs(-60));
    cron_job.delete();
    let sync = cron_job.sync(at("2016-05-19T12:00:00Z"), &[]);
    assert_eq!(sync, Decision::default());
}
