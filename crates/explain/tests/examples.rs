//! What is said of the examples, word for word where it matters.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::path::Path;

use holdfast_explain::assume::{self, Assume, AssumeError};
use holdfast_explain::bounds::{Chance, When};
use holdfast_explain::explanation::{Explanation, JobForecast, explain};
use holdfast_explain::span::Span;
use holdfast_explain::subject::Subject;
use holdfast_explain::{text, timeline};
use holdfast_lifecycle::Options;
use holdfast_manifest::Source;

fn subjects(text: &str) -> Vec<Subject> {
    let sources = [Source::new("test.yaml", text)];
    let loaded = holdfast_manifest::load(&sources, &holdfast_manifest::Options::default()).unwrap();
    loaded.objects.iter().filter_map(Subject::of).collect()
}

fn of(text: &str, assumed: &[&str]) -> Explanation {
    let assumed: Vec<Assume> = assumed.iter().map(|text| text.parse().unwrap()).collect();
    let subjects = subjects(text);
    assume::check(&subjects, &assumed).unwrap();
    explain(&subjects[0], &assumed, &[], &Options::default()).unwrap()
}

fn example(name: &str, assumed: &[&str]) -> Explanation {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    of(&std::fs::read_to_string(path).unwrap(), assumed)
}

fn plain(e: &Explanation) -> String {
    text::text(e, 35, 1000, false)
}

/// The server sleeps 5 s before it listens and never ends; the client asks once, at its start.
const SERVER: [&str; 4] = [
    "slow-sidecar.ready=5s",
    "slow-sidecar.exits=never",
    "sidecar-user.needs=slow-sidecar",
    "sidecar-user.exits=0s",
];

fn cronjob(number: u8) -> (Explanation, Vec<String>) {
    let names = [
        "1-cronjob-without-sidecar-container.yaml",
        "2-cronjob-with-init-container.yaml",
        "3-cronjob-with-sidecar-container.yaml",
        "4-cronjob-with-sidecar-container-and-startup-probe.yaml",
    ];
    let name = names[usize::from(number) - 1];
    let e = example(&format!("cronjobs/{name}"), &SERVER);
    let rows = e.earliest.rows.iter().filter(|(_, pod, _)| pod.ends_with("-1"));
    let rows = rows.map(|(_, _, row)| format!("{} {}", row.ready_text(), row.status)).collect();
    (e, rows)
}

#[test]
fn side_by_side_nothing_orders_them() {
    let (e, rows) = cronjob(1);
    assert_eq!(rows.last().unwrap(), "1/2 Error");
    assert_eq!(e.job, Some(JobForecast::Never("slow-sidecar never ends by itself".into())));
    let said = plain(&e);
    for words in [
        "nothing orders sidecar-user and slow-sidecar",
        "sidecar-user needs slow-sidecar, which answers too late, by 5 s: it ends with 1",
        "The Job ends: never, for slow-sidecar never ends by itself",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_server_as_init_container_never_ends() {
    let (e, rows) = cronjob(2);
    assert_eq!(rows, ["0/1 Pending", "0/1 Init:0/1"]);
    assert!(!e.earliest.goes_on);
    let never = "init container slow-sidecar never ends";
    assert_eq!(e.bounds.containers[1].start, When::Never(never.into()));
    assert_eq!(e.job, Some(JobForecast::Never(never.into())));
}

#[test]
fn a_sidecar_without_a_startup_probe_is_too_late() {
    let (e, rows) = cronjob(3);
    assert_eq!(rows.last().unwrap(), "0/2 Error");
    assert!(rows.contains(&"1/2 Error".to_owned()), "{rows:?}");
    let Some(JobForecast::Ends { end, .. }) = &e.job else { panic!("{:?}", e.job) };
    assert_eq!((end.complete, end.pods, end.reason.as_str()), (false, 7, "BackoffLimitExceeded"));
    // Six waits: 10 + 20 + … + 320 s.
    assert_eq!(end.at.as_secs(), 630);
    let said = plain(&e);
    assert!(said.contains("sidecar slow-sidecar has no startupProbe"), "{said}");
}

#[test]
fn a_startup_probe_keeps_the_order() {
    let (e, rows) = cronjob(4);
    assert_eq!(rows.last().unwrap(), "0/2 Completed");
    let seconds = |n| std::time::Duration::from_secs(n);
    // initialDelaySeconds 5, periodSeconds 1, timeoutSeconds 1.
    let start = When::Within(Span::new(seconds(5), seconds(7)));
    assert_eq!(e.bounds.containers[1].start, start);
    let Some(JobForecast::Ends { end, .. }) = &e.job else { panic!("{:?}", e.job) };
    assert!(end.complete && end.pods == 1);
    assert!(e.notes.not_guaranteed.is_empty(), "{:?}", e.notes);
    let said = plain(&e);
    assert!(said.contains("it grants 9 s for certain (5 s + 4 × 1 s)"), "{said}");
}

#[test]
fn the_startup_probe_of_the_manager_may_kill_it() {
    let e = example("side-by-side.yaml", &[]);
    let kill = &e.bounds.containers[0].kills[0];
    assert_eq!((kill.after.min.as_secs(), kill.chance), (105, Chance::Possible));
    let said = plain(&e);
    for words in [
        "nothing orders manager and netclient",
        "manager may run before netclient is ready (at 10 s at the earliest): a readinessProbe gates no sibling",
        "the startupProbe of manager may kill it 105 s after its start at the earliest (10 s + 19 × 5 s)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Its own retries end after 95 s: ten seconds to spare.
    let e = example("side-by-side.yaml", &["manager.ready=5s..95s"]);
    assert_eq!(e.bounds.containers[0].kills[0].chance, Chance::Excluded);
    let e = example("side-by-side.yaml", &["manager.ready=106s"]);
    assert_eq!(e.bounds.containers[0].kills[0].chance, Chance::Possible);
    let e = example("side-by-side.yaml", &["manager.ready=never"]);
    assert_eq!(e.bounds.containers[0].kills[0].chance, Chance::Certain);
}

const STOPS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: p }
spec:
  terminationGracePeriodSeconds: 20
  initContainers:
    - { name: a, image: host, command: [x], restartPolicy: Always }
    - name: b
      image: host
      command: [x]
      restartPolicy: Always
      lifecycle: { preStop: { exec: { command: [x] } } }
  containers:
    - { name: one, image: host, command: [x] }
    - name: two
      image: host
      command: [x]
      lifecycle: { preStop: { sleep: { seconds: 5 } } }
";

#[test]
fn stops_are_in_order() {
    let e = of(STOPS, &["one.stops=1s", "two.stops=1s", "b.stops=2s", "b.preStop=1s"]);
    let steps: Vec<String> = e.stops.iter().map(|s| format!("{}: {}", s.at, s.what)).collect();
    assert_eq!(
        steps,
        [
            "0 s: the preStop hooks of b and two, at the same time",
            "0 s: the stop signal to one",
            "5 s: the stop signal to two",
            "6 s: the stop signal to sidecar b, once all before have ended",
            "8 s: the stop signal to sidecar a, once all before have ended",
            "20 s: the stop signal to what still waits for its turn, and SIGKILL 2 s later",
        ]
    );
}

/// What never starts gets no signal, and what keeps it from starting does.
#[test]
fn what_never_starts_is_not_stopped() {
    let steps =
        |e: &Explanation| -> Vec<String> { e.stops.iter().map(|s| s.what.clone()).collect() };
    let (e, _) = cronjob(2);
    assert_eq!(
        steps(&e),
        ["the stop signal to init container slow-sidecar", "SIGKILL to what still runs"]
    );
    let text = "
apiVersion: v1
kind: Pod
metadata: { name: p }
spec:
  initContainers:
    - { name: side, image: host, command: [x], restartPolicy: Always }
    - { name: init, image: host, command: [x] }
    - { name: late, image: host, command: [x], restartPolicy: Always }
  containers: [{ name: app, image: host, command: [x] }]
";
    assert_eq!(
        steps(&of(text, &["init.exits=never"])),
        [
            "the stop signal to init container init",
            "the stop signal to sidecar side, once all before have ended",
            "the stop signal to what still waits for its turn, and SIGKILL 2 s later",
        ]
    );
    // If it ends, it is gone by then.
    assert!(!steps(&of(text, &[])).iter().any(|what| what.contains("init container")));
}

/// Nothing says what a container makes of its stop signal: what is shown then is said to be no fact.
#[test]
fn an_exit_code_that_nobody_gave_is_said_to_be_one() {
    let note = "with which exit code slow-sidecar ends after its stop signal: 143 is shown";
    let (e, _) = cronjob(4);
    assert!(plain(&e).contains("exit 143") && plain(&e).contains(note), "{}", plain(&e));
    let name = "cronjobs/4-cronjob-with-sidecar-container-and-startup-probe.yaml";
    let said = plain(&example(name, &[&SERVER[..], &["slow-sidecar.stops=1s:0"]].concat()));
    assert!(!said.contains("143"), "{said}");
    assert!(
        said.contains("assumed: slow-sidecar ends with 0, 1 s after the stop signal"),
        "{said}"
    );
    // Nobody is stopped.
    assert!(!plain(&cronjob(2).0).contains("143"));
}

/// Where nothing is reached, a path has no length: how far the picture goes is no fact about the pod.
#[test]
fn a_path_to_nowhere_has_no_length() {
    for number in [1, 2] {
        let said = plain(&cronjob(number).0);
        assert!(said.contains("\ncritical path: slow-sidecar …\n"), "{said}");
    }
}

/// Two failures of the first run and one of the second are three in a row: a probe that cannot kill the first
/// run kills the second, and if that ends with 0 it is not started again.
#[test]
fn failures_are_counted_over_a_restart() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: p }
spec:
  restartPolicy: OnFailure
  containers:
    - name: app
      image: host
      command: [x]
      livenessProbe: { exec: { command: [x] }, initialDelaySeconds: 3, periodSeconds: 2 }
";
    let assumed = ["app.ready=5250ms", "app.exits=6s:1", "app.stops=0s:0"];
    let e = of(pod, &assumed);
    assert_eq!(e.bounds.containers[0].kills[0].chance, Chance::Excluded);
    let over = e.earliest.over.unwrap();
    assert!(over > std::time::Duration::from_secs(6), "{over:?}");
    let end = e.bounds.end.span().unwrap();
    assert!(end.min <= over && end.max.is_none(), "{end:?}");
    // One that answers before it is asked is never killed.
    let e = of(pod, &["app.ready=3s", "app.exits=6s:1", "app.stops=0s:0"]);
    assert!(matches!(e.bounds.end, When::Never(_)), "{:?}", e.bounds.end);
}

#[test]
fn bad_assumptions_are_refused() {
    let subjects = subjects(STOPS);
    let error = |text: &str| -> String {
        let one: Assume = match text.parse() {
            Ok(one) => one,
            Err(error) => return error.to_string(),
        };
        let all = [one];
        let known = assume::check(&subjects, &all);
        let applied = known.and_then(|()| assume::behaviours(&subjects[0], &all).map(drop));
        applied.map_or_else(|e: AssumeError| e.to_string(), |()| String::new())
    };
    for (text, words) in [
        ("", "expected CONTAINER.WHAT=VALUE"),
        ("one", "expected CONTAINER.WHAT=VALUE"),
        ("one.ready", "expected CONTAINER.WHAT=VALUE"),
        (".ready=5s", "expected CONTAINER.WHAT=VALUE"),
        ("one.well=5s", "expected CONTAINER.WHAT=VALUE"),
        ("one.ready=5", "invalid time \"5\""),
        ("one.ready=5s..1s", "invalid time"),
        ("one.exits=1s:x", "expected CONTAINER.WHAT=VALUE"),
        ("one.exits=1s:256", "expected CONTAINER.WHAT=VALUE"),
        ("three.ready=5s", "no container \"three\"; there is a, b, one, two in p"),
        ("q/one.ready=5s", "no container \"q/one\""),
        ("one.needs=three", "no container \"three\""),
        ("one.needs=one", "cannot need itself"),
        ("one.stops=1s:256", "expected CONTAINER.WHAT=VALUE"),
        ("one.stops=1s:", "expected CONTAINER.WHAT=VALUE"),
        ("one.stops=1s..2s:3", ""),
        ("one.preStop=5s", "\"one\" has no preStop hook"),
        ("one.postStart=5s", "\"one\" has no postStart hook"),
        ("p/one.exits=1s..2s:3", ""),
        ("*.start=0s..2s", ""),
        ("*.preStop=1s", ""),
        ("*.needs=one", ""),
        ("one.ready=never", ""),
        ("two.preStop=1s", ""),
    ] {
        let error = error(text);
        assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{text}: {error}");
    }
}

#[test]
fn a_picture_has_the_bounds() {
    let timeline = example("side-by-side.yaml", &[]).timeline();
    let kill = timeline.bounds.iter().find(|b| b.what == timeline::Bounded::Kill).unwrap();
    assert_eq!((kill.earliest, kill.container.as_deref()), (105.0, Some("manager")));
    assert_eq!(timeline::Timeline::parse(&timeline.to_json()).unwrap(), timeline);
}
