//! Delays after failures (backoff_utils_test.go: TestNewBackoffRecord, TestGetFinishedTime,
//! TestGetRemainingBackoffTime).

use std::time::Duration;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::job::{Backoff, PodSummary, finish_time, remaining};
use holdfast_lifecycle::status::{PodStatus, State};

use crate::{NOW, condition, container, ended, with_conditions};

fn millis_ago(millis: u64) -> Time {
    NOW - Duration::from_millis(millis)
}

#[test]
fn failures_since_the_last_success() {
    // name, failures before, ended well and badly (milliseconds ago) -> failures, last
    let cases: [(&str, u32, &[u64], &[u64], u32, Option<u64>); 8] = [
        ("Empty backoff store and one new failure", 0, &[], &[0], 1, Some(0)),
        ("Empty backoff store and two new failures", 0, &[], &[0, 1], 2, Some(0)),
        ("Empty backoff store, two failures followed by success", 0, &[0], &[2, 1], 0, None),
        (
            "Empty backoff store, two failures, one success and two more failures",
            0,
            &[2],
            &[0, 4, 3, 1],
            2,
            Some(0),
        ),
        ("Backoff store having failure count 2 and one new failure", 2, &[], &[0], 3, Some(0)),
        ("Empty backoff store with success and failure at same timestamp", 0, &[0], &[0], 0, None),
        ("Empty backoff store with no success/failure", 0, &[], &[], 0, None),
        ("Empty backoff store with one success", 0, &[0], &[], 0, None),
    ];
    for (name, before, succeeded, failed, failures, last) in cases {
        let times = |ago: &[u64]| -> Vec<Time> { ago.iter().map(|a| millis_ago(*a)).collect() };
        let before = Backoff { failures: before, last_failure: None };
        let want = Backoff { failures, last_failure: last.map(millis_ago) };
        assert_eq!(before.after(&times(succeeded), &times(failed)), want, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn when_a_pod_ended() {
    let ago = |secs| NOW - Duration::from_secs(secs);
    let at = |secs: &[u64]| PodStatus {
        regular: secs.iter().map(|s| ended("c", 0, Some(ago(*s)))).collect(),
        ..Default::default()
    };
    let running = |mut status: PodStatus| {
        status.regular.push(container("r", State::Running { started_at: ago(9) }));
        status
    };
    let unknown_end = |mut status: PodStatus| {
        status.regular.push(ended("c", 1, None));
        status
    };
    let with_init = {
        let mut status = at(&[1]);
        status.init.push(ended("sidecar", 0, Some(NOW)));
        status
    };
    let ready = |status, ago: Time| with_conditions(vec![condition("Ready", status, ago)]);
    // name, status, deletion asked for, creation -> end
    let cases = [
        (
            "Pod with multiple containers and all containers terminated",
            at(&[1, 0, 2]),
            None,
            ago(99),
            NOW,
        ),
        (
            "Pod with multiple containers; two containers in terminated state and one in running \
             state; fallback to deletionTimestamp",
            running(at(&[1, 2])),
            Some(NOW),
            ago(99),
            NOW,
        ),
        ("fallback to deletionTimestamp", running(at(&[])), Some(NOW), ago(99), NOW),
        (
            "fallback to deletionTimestamp, decremented by grace period",
            running(at(&[])),
            Some(ago(30)),
            ago(99),
            ago(30),
        ),
        (
            "fallback to PodReady.LastTransitionTime when status of the condition is False",
            unknown_end(ready(false, NOW)),
            None,
            ago(99),
            NOW,
        ),
        (
            "skip fallback to PodReady.LastTransitionTime when status of the condition is True",
            unknown_end(ready(true, ago(30))),
            Some(NOW),
            ago(99),
            NOW,
        ),
        ("fallback to creationTimestamp", unknown_end(at(&[])), None, NOW, NOW),
        ("Pod with init container and all containers terminated", with_init, None, ago(99), NOW),
    ];
    for (name, status, deleted, created, end) in &cases {
        let pod = PodSummary {
            status: status.clone(),
            deleted: *deleted,
            created: *created,
            ..Default::default()
        };
        assert_eq!(finish_time(&pod), *end, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn time_left() {
    // name, failures, seconds since the last -> seconds left; 5 s doubled, at most 700 s
    let cases = [
        ("no failures", 0, 0, 0),
        ("one failure; current time and failure time are same", 1, 0, 5),
        ("one failure; current time == 1 second + failure time", 1, 1, 4),
        ("one failure; current time == expected backoff time", 1, 5, 0),
        ("one failure; current time == expected backoff time + 1 Second", 1, 6, 0),
        ("three failures; current time and failure time are same", 3, 0, 20),
        ("eight failures; backoff not exceeding maxBackoff", 8, 0, 640),
        ("nine failures; backoff exceeding maxBackoff", 9, 0, 700),
        ("a great many failures", u32::MAX, 0, 700),
    ];
    let secs = Duration::from_secs;
    for (name, failures, since, left) in cases {
        let last = Some(NOW - secs(since));
        assert_eq!(remaining(NOW, failures, last, secs(5), secs(700)), secs(left), "{name}");
    }
    println!("{} cases", cases.len());
}
