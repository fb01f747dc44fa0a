//! Kubernetes' utils_test.go: TestMostRecentScheduleTime, TestNextScheduleTime,
//! TestNextScheduleTimeDuration. Times are minutes after 10:00 (`s` marks seconds).

use std::time::Duration;

use holdfast_lifecycle::cron::{
    Missed, Schedule, most_recent_schedule_time, next_schedule_time, requeue_time,
};

use crate::secs;

const M: i64 = 60;
const H: i64 = 3_600;

#[test]
fn most_recent() {
    use Missed::{Few, Many, None as No};
    let weekdays = "30 6-16/4 * * 1-5";
    // name, schedule, since, deadline, now -> earliest, due, missed
    let cases = [
        ("now before next schedule", "0 * * * *", 0, None, 30, 0, None, No),
        ("now just after next schedule", "0 * * * *", 0, None, 61 * M, 0, Some(H), No),
        ("missed 5 schedules", "0 * * * *", 10, None, 301 * M, 10, Some(5 * H), Few),
        (
            "complex schedule",
            weekdays,
            30 * M,
            None,
            24 * H + 31 * M,
            30 * M,
            Some(24 * H + 30 * M),
            Few,
        ),
        (
            "another complex schedule",
            "30 10,11,12 * * 1-5",
            30 * M,
            None,
            30 * H + 30 * M,
            30 * M,
            None,
            Few,
        ),
        (
            "complex schedule with longer diff between executions",
            weekdays,
            30 * M,
            None,
            96 * H + 31 * M,
            30 * M,
            Some(96 * H + 30 * M),
            Few,
        ),
        (
            "complex schedule with shorter diff between executions",
            weekdays,
            0,
            None,
            24 * H + 31 * M,
            0,
            Some(24 * H + 30 * M),
            Few,
        ),
        ("@every schedule", "@every 1h", M, None, 168 * H, M, Some(167 * H + M), Many),
        (
            "earliestTime being CreationTimestamp and LastScheduleTime",
            "0 * * * *",
            0,
            None,
            30,
            0,
            None,
            No,
        ),
        (
            "earliestTime being LastScheduleTime",
            "*/5 * * * *",
            30 * M,
            None,
            31 * M,
            30 * M,
            None,
            No,
        ),
        (
            "earliestTime being LastScheduleTime (within StartingDeadlineSeconds)",
            "*/5 * * * *",
            30 * M,
            Some(60),
            31 * M,
            30 * M,
            None,
            No,
        ),
        (
            "earliestTime being LastScheduleTime (outside StartingDeadlineSeconds)",
            "*/5 * * * *",
            30 * M,
            Some(60),
            32 * M,
            31 * M,
            None,
            No,
        ),
    ];
    for (name, schedule, since, deadline, now, earliest, due, missed) in cases {
        let schedule = Schedule::parse(schedule).unwrap();
        let deadline = deadline.map(Duration::from_secs);
        let got = most_recent_schedule_time(&schedule, secs(since), deadline, secs(now)).unwrap();
        assert_eq!(got.earliest, secs(earliest), "{name}: earliest");
        assert_eq!(got.due, due.map(secs), "{name}: due");
        assert_eq!(got.missed, missed, "{name}: missed");
    }
    let rogue = Schedule::parse("59 23 31 2 *").unwrap();
    let got = most_recent_schedule_time(&rogue, secs(10), None, secs(H));
    assert!(got.is_err(), "rogue cronjob");
    println!("{} cases", cases.len() + 1);
}

#[test]
fn due_now() {
    let day = 24 * H;
    // name, since, deadline, now -> due (minutes), or any
    let cases = [
        ("Case 1: no known start times, and none needed yet", -10 * M, None, -7 * M, None),
        ("Case 2: no known start times, and one needed", -10 * M, None, 2, Some(0)),
        ("Case 3: known LastScheduleTime, no start needed", 0, None, 2 * M, None),
        ("Case 4: known LastScheduleTime, a start needed", 0, None, H + 5 * M, Some(H)),
        ("Case 5: known LastScheduleTime, two starts needed", -H, None, H + 5 * M, Some(H)),
        ("Case 6: way ahead, no deadline", -H, None, H + 10 * day, Some(H + 10 * day)),
        ("Case 7: way ahead, short deadline", -H, Some(7_200), H + 10 * day, Some(H + 10 * day)),
    ];
    let hourly = Schedule::parse("0 * * * ?").unwrap();
    for (name, since, deadline, now, due) in cases {
        let deadline = deadline.map(Duration::from_secs);
        let got = next_schedule_time(&hourly, secs(since), deadline, secs(now)).unwrap();
        assert_eq!(got.map(|(t, _)| t), due.map(secs), "{name}");
    }
    let rogue = Schedule::parse("59 23 31 2 *").unwrap();
    assert!(next_schedule_time(&rogue, secs(10), None, secs(H)).is_err(), "Case 8: the error");
    println!("{} cases", cases.len() + 1);
}

#[test]
fn requeue() {
    let day = 24 * H;
    // name, schedule, since, now -> seconds from now, without the padding
    let cases = [
        (
            "complex schedule skipping weekend",
            "30 6-16/4 * * 1-5",
            30 * M,
            day + 31 * M,
            3 * H + 59 * M,
        ),
        (
            "another complex schedule skipping weekend",
            "30 10,11,12 * * 1-5",
            30 * M,
            30 * H + 30 * M,
            66 * H,
        ),
        (
            "once a week cronjob, missed two runs",
            "0 12 * * 4",
            2 * H,
            19 * day + H + 30 * M,
            48 * H + 30 * M,
        ),
        ("no previous run of a cronjob", "0 12 * * 5", 0, 6 * H, 20 * H),
    ];
    for (name, schedule, since, now, wait) in cases {
        let schedule = Schedule::parse(schedule).unwrap();
        let got = requeue_time(&schedule, secs(since), secs(now)).unwrap();
        assert_eq!(got, secs(now + wait) + Duration::from_millis(100), "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn a_long_sleep_costs_little() {
    // Every minute for thirty years: only the last few are looked at.
    let schedule = Schedule::parse("* * * * *").unwrap();
    let now = secs(30 * 365 * 24 * H + 30);
    let got = most_recent_schedule_time(&schedule, secs(0), None, now).unwrap();
    assert_eq!(got.due, Some(secs(30 * 365 * 24 * H)));
    assert_eq!(got.missed, Missed::Many);
}
