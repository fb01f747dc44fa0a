//! What holds for every schedule.

use std::time::Duration;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::cron::{
    Action, ChildJob, ConcurrencyPolicy, CronJob, CronJobSpec, Finished, Schedule,
    most_recent_schedule_time, zone,
};
use proptest::prelude::*;

/// Zones that never skipped a midnight in the time of the tests: where one does, robfig's search
/// misses the change of day (see `next_where_the_clocks_change`).
const ZONES: [&str; 6] = [
    "UTC",
    "America/New_York",
    "Europe/London",
    "Europe/Paris",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
];

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = min..=max;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        2 => value.clone().prop_map(|v| v.to_string()),
        1 => (value.clone(), 1..=max).prop_map(|(v, s)| format!("{v}/{s}")),
        1 => (1..=max + 3).prop_map(|s| format!("*/{s}")),
        1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value.clone(), value).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn schedule() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(m, h, dom, mon, dow)| format!("{m} {h} {dom} {mon} {dow}"))
}

/// 1990 to 2060, to the nanosecond.
fn moment() -> impl Strategy<Value = Time> {
    (631_152_000_000_000_000_u64..2_840_140_800_000_000_000).prop_map(Time::from_nanos)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_read_or_refused(text in "\\PC{0,40}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
            let _ = error.hint();
        }
    }

    #[test]
    fn likely_mistakes_do_not_panic(text in "[-0-9*/?,@TZ= a-zL#]{0,30}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let _ = schedule.next(Time::from_secs(1_700_000_000));
        }
    }

    #[test]
    fn the_next_time_is_later_and_matches(text in schedule(), from in moment(), z in 0..ZONES.len()) {
        let schedule = Schedule::parse_in(&text, zone(ZONES[z]).unwrap()).unwrap();
        if let Some(next) = schedule.next(from) {
            prop_assert!(next > from);
            prop_assert!(next.since(from) < Duration::from_secs(6 * 366 * 86_400));
            prop_assert!(schedule.matches(next), "{text} {next:?}");
        }
    }

    /// In UTC no time is left out. (Where clocks change, robfig may leave one out.)
    #[test]
    fn nothing_lies_between(text in schedule(), from in moment(), probe in 0.0..1.0_f64) {
        let schedule = Schedule::parse(&text).unwrap();
        if let Some(next) = schedule.next(from) {
            let span = next.as_secs() - from.as_secs();
            let between = Time::from_secs(from.as_secs() + (span as f64 * probe) as u64);
            if between > from && between < next {
                prop_assert!(!schedule.matches(between));
                prop_assert_eq!(schedule.next(between), Some(next));
            }
        }
    }

    #[test]
    fn every_is_constant(secs in 1_u64..100_000, from in moment()) {
        let schedule = Schedule::parse(&format!("@every {secs}s")).unwrap();
        prop_assert_eq!(schedule.next(from), Some(Time::from_secs(from.as_secs() + secs)));
    }

    #[test]
    fn what_is_due_is_a_time_of_the_schedule(
        text in schedule(),
        since in moment(),
        secs in 0_u64..100_000_000,
    ) {
        let schedule = Schedule::parse(&text).unwrap();
        let now = since + Duration::from_secs(secs);
        if let Ok(recent) = most_recent_schedule_time(&schedule, since, None, now)
            && let Some(due) = recent.due
        {
            prop_assert!(due > since && due <= now);
            prop_assert!(schedule.matches(due));
            prop_assert!(schedule.next(due).is_none_or(|t| t > now));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A day of a CronJob: no time is started twice, and Forbid and Replace keep one Job at most.
    #[test]
    fn a_day_of_a_cron_job(
        every in 1_u64..90,
        lasts in 1_u64..200,
        policy in prop_oneof![
            Just(ConcurrencyPolicy::Allow),
            Just(ConcurrencyPolicy::Forbid),
            Just(ConcurrencyPolicy::Replace),
        ],
        keep in 0_u32..4,
    ) {
        let start = Time::from_secs(1_700_000_000);
        let spec = CronJobSpec {
            concurrency: policy,
            keep_succeeded: Some(keep),
            ..CronJobSpec::new("c", format!("*/{} * * * *", every.min(59)))
        };
        let mut cron_job = CronJob::new(spec, start);
        let mut jobs: Vec<ChildJob> = Vec::new();
        let mut started = std::collections::BTreeSet::new();
        let mut now = start;
        while now < start + Duration::from_secs(86_400) {
            let sync = cron_job.sync(now, &jobs);
            for action in sync.actions {
                match action {
                    Action::CreateJob { name, scheduled, .. } => {
                        prop_assert!(scheduled <= now && started.insert(scheduled));
                        jobs.push(ChildJob { name, start: Some(now), finished: None });
                    }
                    Action::DeleteJob { name } => jobs.retain(|j| j.name != name),
                    Action::Event(_) => {}
                }
            }
            let active = jobs.iter().filter(|j| j.finished.is_none()).count();
            prop_assert_eq!(active, cron_job.status().active.len());
            prop_assert!(policy == ConcurrencyPolicy::Allow || active <= 1);
            let wake = sync.wake.unwrap();
            prop_assert!(wake > now);
            let lasts = Duration::from_secs(lasts * 60);
            let ends = jobs.iter().filter(|j| j.finished.is_none()).filter_map(|j| j.start).min();
            now = ends.map_or(wake, |e| wake.min(e + lasts)).max(now + Duration::from_nanos(1));
            for job in &mut jobs {
                if job.start.is_some_and(|s| s + lasts <= now) && job.finished.is_none() {
                    job.finished = Some(Finished::Complete { at: Some(now) });
                }
            }
        }
        prop_assert!(!started.is_empty());
    }
}
