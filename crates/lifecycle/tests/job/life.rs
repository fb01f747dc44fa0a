//! Whole lives of Jobs, told by what happens when.

use std::time::Duration;

use holdfast_lifecycle::Time;
use holdfast_lifecycle::job::{
    Action, CompletionMode, Job, JobInput, JobOutput, JobSpec, JobStatus, PodId, PodReplacement,
    PodSummary, SuccessRule,
};
use holdfast_lifecycle::plan::RestartPolicy;
use holdfast_lifecycle::status::{Phase, PodStatus, State};

use crate::sync_job::exit_codes;
use crate::world::{Run, World};
use crate::{LONG_AGO, NOW, container};

fn spec() -> JobSpec {
    JobSpec::new("default", "pi")
}

fn indexed(completions: u32, parallelism: u32) -> JobSpec {
    let mode = CompletionMode::Indexed;
    JobSpec { mode, completions: Some(completions), parallelism, ..spec() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn one_pod_that_succeeds() {
    let mut world = World::new(spec(), 36, NOW, |_| Run::new(5, 0));
    world.run(1_000);
    let events = ["SuccessfulCreate: Created pod: pi-bbbbb", "Completed: Job completed"];
    assert_eq!(world.events, events);
    let conditions = ["SuccessCriteriaMet/CompletionsReached", "Complete/CompletionsReached"];
    assert_eq!(world.conditions(), conditions);
    let status = world.job.status();
    assert_eq!(status.completion_time, Some(NOW + secs(5)));
    assert_eq!(status.conditions[1].message, "Reached expected number of succeeded pods");
    assert_eq!(world.job.as_child().start, Some(NOW));
    let later = world.job.columns(NOW + secs(60)).0;
    assert_eq!(later, ["pi", "Complete", "1/1", "5s", "60s"]);
    assert_eq!(world.job.poll_timeout(), None);
}

#[test]
fn before_1_31_there_is_only_the_last_condition() {
    let mut world = World::new(spec(), 30, NOW, |_| Run::new(5, 0));
    world.run(1_000);
    assert_eq!(world.conditions(), ["Complete/"]);
    let mut world = World::new(JobSpec { backoff_limit: 0, ..spec() }, 29, NOW, |_| Run::new(5, 1));
    world.run(1_000);
    assert_eq!(world.conditions(), ["Failed/BackoffLimitExceeded"]);
}

#[test]
fn seven_pods_that_fail() {
    let mut world = World::new(spec(), 36, NOW, |_| Run::new(1, 1));
    world.run(10_000);
    // Each ends a second after it started; then 10, 20, 40, … seconds pass.
    let times: Vec<u64> = world.created.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 11, 32, 73, 154, 315, 636]);
    assert_eq!(world.job.status().failed, 7);
    let conditions = ["FailureTarget/BackoffLimitExceeded", "Failed/BackoffLimitExceeded"];
    assert_eq!(world.conditions(), conditions);
    let last = "!BackoffLimitExceeded: Job has reached the specified backoff limit";
    assert_eq!(world.events.last().map(String::as_str), Some(last));
    assert_eq!(world.job.status().completion_time, None);
}

#[test]
fn the_delay_ends_at_ten_minutes_and_a_success_resets_it() {
    let spec = JobSpec { backoff_limit: 99, completions: Some(2), ..spec() };
    let mut n = 0;
    let mut world = World::new(spec, 36, NOW, |_| {
        n += 1;
        Run::new(1, i32::from(n != 10 && n != 12))
    });
    world.run(100_000);
    let times: Vec<u64> = world.created.iter().map(|(at, _)| *at).collect();
    let waits: Vec<u64> = times.windows(2).map(|w| w[1] - w[0] - 1).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600, 0, 10]);
    assert_eq!(world.conditions()[1], "Complete/CompletionsReached");
}

#[test]
fn too_few_active_pods_and_active_back_off() {
    let failed = PodSummary {
        created: LONG_AGO,
        status: PodStatus {
            phase: Phase::Failed,
            regular: vec![crate::ended("main", 1, Some(NOW))],
            ..Default::default()
        },
        ..Default::default()
    };
    let mut job = Job::resume(spec(), 36, LONG_AGO, JobStatus::default(), [failed]);
    job.handle(NOW, JobInput::Tick);
    assert_eq!(job.poll(), Some(JobOutput::StatusChanged));
    assert_eq!(job.poll(), None);
    assert_eq!(job.poll_timeout(), Some(NOW + secs(10)));
    // The object may go in the meantime.
    job.handle(NOW + secs(1), JobInput::PodDeleted { pod: PodId(0) });
    assert_eq!(job.poll_timeout(), Some(NOW + secs(10)));
    assert_eq!((job.status().failed, job.pods().count()), (1, 0));
    job.handle(NOW + secs(10), JobInput::Tick);
    assert!(matches!(job.poll(), Some(JobOutput::CreatePod(_))));
}

#[test]
fn containers_restarted_in_place_count() {
    // TestJobBackoffForOnFailure: restarts of the pods' containers against backoffLimit.
    let cases = [
        ("backoffLimit 0 should have 1 pod active", 1, 1, 0, [0, 0], Phase::Running, true),
        (
            "backoffLimit 1 with restartCount 0 should have 1 pod active",
            1,
            1,
            1,
            [0, 0],
            Phase::Running,
            true,
        ),
        (
            "backoffLimit 1 with restartCount 1 and podRunning should have 0 pod active",
            1,
            1,
            1,
            [1, 0],
            Phase::Running,
            false,
        ),
        (
            "backoffLimit 1 with restartCount 1 and podPending should have 0 pod active",
            1,
            1,
            1,
            [1, 0],
            Phase::Pending,
            false,
        ),
        (
            "too many job failures with podRunning - single pod",
            1,
            5,
            2,
            [2, 0],
            Phase::Running,
            false,
        ),
        (
            "too many job failures with podPending - single pod",
            1,
            5,
            2,
            [2, 0],
            Phase::Pending,
            false,
        ),
        (
            "too many job failures with podRunning - multiple pods",
            2,
            5,
            2,
            [1, 1],
            Phase::Running,
            false,
        ),
        (
            "too many job failures with podPending - multiple pods",
            2,
            5,
            2,
            [1, 1],
            Phase::Pending,
            false,
        ),
        ("not enough failures", 2, 5, 3, [1, 1], Phase::Running, true),
    ];
    for (name, parallelism, completions, backoff_limit, restarts, phase, goes_on) in cases {
        let spec = JobSpec {
            parallelism,
            completions: Some(completions),
            backoff_limit,
            restart_policy: RestartPolicy::OnFailure,
            ..spec()
        };
        let pods = restarts.iter().take(parallelism as usize).map(|n| {
            let mut one = container("main", State::Running { started_at: NOW });
            one.restart_count = *n;
            let status = PodStatus { phase, init: vec![one], ..Default::default() };
            PodSummary { name: "p".into(), status, created: NOW, ..Default::default() }
        });
        let mut job = Job::resume(spec, 30, NOW, JobStatus::default(), pods);
        job.handle(NOW, JobInput::Tick);
        assert_eq!(job.status().finished().is_none(), goes_on, "{name}");
        assert_eq!(job.status().active, if goes_on { parallelism } else { 0 }, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn the_deadline_is_a_timer() {
    // TestPastDeadlineJobFinished.
    let spec = JobSpec { active_deadline: Some(secs(10)), ..spec() };
    let mut world = World::new(spec, 36, NOW, |_| Run::new(100, 0));
    assert_eq!(world.job.poll_timeout(), Some(NOW + secs(10)));
    world.run(9);
    assert_eq!(world.job.columns(world.now).0, ["pi", "Running", "0/1", "9s", "9s"]);
    world.run(11);
    // The pod takes two seconds to stop; the Job waits for it.
    assert_eq!(world.conditions(), ["FailureTarget/DeadlineExceeded"]);
    assert_eq!(world.job.columns(world.now).0[1], "FailureTarget");
    world.run(100);
    let conditions = ["FailureTarget/DeadlineExceeded", "Failed/DeadlineExceeded"];
    assert_eq!(world.conditions(), conditions);
    assert_eq!(world.job.status().conditions[1].last_transition, NOW + secs(12));
    assert_eq!(world.job.status().failed, 1);
}

#[test]
fn suspended_and_resumed() {
    for minor in [31, 36] {
        let spec = JobSpec { active_deadline: Some(secs(10)), suspend: true, ..spec() };
        let resumed = Box::new(JobSpec { suspend: false, ..spec.clone() });
        let suspended = Box::new(spec.clone());
        let mut world = World::new(spec, minor, NOW, |_| Run::new(8, 0));
        world.run(50);
        assert!(world.created.is_empty() && world.job.status().start_time.is_none());
        assert_eq!(world.conditions(), ["Suspended/JobSuspended"]);
        world.tell(JobInput::SpecChanged(resumed.clone()));
        assert_eq!(world.job.status().start_time, Some(NOW + secs(50)));
        world.run(55);
        world.tell(JobInput::SpecChanged(suspended));
        assert_eq!(world.job.status().start_time.is_none(), minor == 36);
        world.run(200);
        assert_eq!((world.job.status().failed, world.created.len()), (0, 1));
        // The deadline starts anew, although it was over long ago.
        world.tell(JobInput::SpecChanged(resumed));
        world.run(1_000);
        assert_eq!(world.conditions()[0], "-Suspended/JobResumed");
        assert_eq!(world.conditions()[2], "Complete/CompletionsReached");
        let normal: Vec<&String> = world.events.iter().filter(|e| !e.contains("pod: ")).collect();
        let want = [
            "Suspended: Job suspended",
            "Resumed: Job resumed",
            "Suspended: Job suspended",
            "Resumed: Job resumed",
            "Completed: Job completed",
        ];
        assert_eq!(normal, want);
    }
}

#[test]
fn deleted_when_its_time_to_live_is_over() {
    let spec = JobSpec { ttl_after_finished: Some(secs(100)), ..spec() };
    let mut world = World::new(spec, 36, NOW, |_| Run::new(5, 0));
    world.run(104);
    assert_eq!(world.job.deletion_time(), Some(NOW + secs(105)));
    assert!(!world.expired);
    world.run(105);
    assert!(world.expired);
    assert_eq!(world.job.poll_timeout(), None);
    world.tell(JobInput::Delete);
    assert!(world.job.is_gone());
    assert_eq!(world.job.columns(world.now).0[1], "Complete");
}

#[test]
fn deleted_while_it_runs() {
    let spec = JobSpec { parallelism: 3, completions: Some(9), ..spec() };
    let mut world = World::new(spec, 36, NOW, |_| Run::new(50, 0));
    world.run(10);
    world.tell(JobInput::Delete);
    assert_eq!(world.job.columns(world.now).0[1], "Terminating");
    assert!(!world.job.is_gone());
    world.run(100);
    assert!(world.job.is_gone());
    assert_eq!(world.created.len(), 3);
}

#[test]
fn a_work_queue_ends_when_its_last_pod_does() {
    let spec = JobSpec { parallelism: 3, completions: None, ..spec() };
    let mut n = 0;
    let mut world = World::new(spec, 36, NOW, |_| {
        n += 1;
        Run::new(n * 10, i32::from(n == 3))
    });
    world.run(25);
    assert_eq!(world.job.columns(world.now).0[2], "2/1 of 3");
    assert!(world.job.status().finished().is_none());
    world.run(1_000);
    // The third failed, but one had succeeded before: it is not replaced.
    assert_eq!((world.created.len(), world.job.status().failed), (3, 1));
    assert_eq!(world.conditions()[1], "Complete/CompletionsReached");
}

#[test]
fn indexes_run_in_order_and_each_once() {
    let mut world = World::new(indexed(7, 3), 36, NOW, |_| Run::new(10, 0));
    world.run(1_000);
    let indexes: Vec<u32> = world.created.iter().filter_map(|(_, i)| *i).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(world.job.status().completed_indexes.to_string(), "0-6");
    assert_eq!(world.most_active, 3);
    assert!(world.events[0].starts_with("SuccessfulCreate: Created pod: pi-0-"));
}

#[test]
fn an_index_has_its_own_limit_and_delay() {
    let spec =
        JobSpec { backoff_limit: u32::MAX, backoff_limit_per_index: Some(2), ..indexed(3, 3) };
    let mut world = World::new(spec, 36, NOW, |pod| {
        // Index 1 always fails, index 2 the first time.
        let fails = pod.index == Some(1) || (pod.index == Some(2) && pod.failures == Some(0));
        Run::new(1, i32::from(fails))
    });
    world.run(10_000);
    let mut times = world.created.clone();
    times.sort();
    let times: Vec<(u64, u32)> = times.into_iter().map(|(at, i)| (at, i.unwrap())).collect();
    assert_eq!(times, [(0, 0), (0, 1), (0, 2), (11, 1), (11, 2), (32, 1)]);
    let status = world.job.status();
    assert_eq!(status.completed_indexes.to_string(), "0,2");
    assert_eq!(status.failed_indexes.as_ref().map(ToString::to_string).as_deref(), Some("1"));
    assert_eq!(status.failed, 4);
    assert_eq!(world.conditions(), ["FailureTarget/FailedIndexes", "Failed/FailedIndexes"]);
}

#[test]
fn ignored_failures_delay_but_do_not_count() {
    // TestGetNewIndexFailureCountValue: what a new pod inherits.
    let spec = JobSpec {
        backoff_limit_per_index: Some(1),
        failure_policy: Some(vec![exit_codes(Action::Ignore, &[3])]),
        replacement: PodReplacement::Failed,
        ..indexed(1, 1)
    };
    let mut seen = Vec::new();
    let mut world = World::new(spec, 36, NOW, |pod| {
        seen.push((pod.failures, pod.ignored_failures));
        Run::new(1, if seen.len() < 4 { 3 } else { 1 })
    });
    world.run(10_000);
    let times: Vec<u64> = world.created.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 11, 32, 73, 154]);
    assert_eq!(world.job.status().failed, 2);
    assert_eq!(world.conditions()[1], "Failed/FailedIndexes");
    let ignored = [None, Some(1), Some(2), Some(3), Some(3)];
    let failures = [0, 0, 0, 0, 1];
    let want: Vec<_> = failures.into_iter().map(Some).zip(ignored).collect();
    assert_eq!(seen, want);
}

#[test]
fn success_by_policy_stops_the_rest() {
    let rule = SuccessRule { indexes: Some("0".into()), count: None };
    let spec = JobSpec { success_policy: Some(vec![rule]), ..indexed(3, 3) };
    let run = |secs| {
        move |pod: &holdfast_lifecycle::job::NewPod| {
            Run::new(if pod.index == Some(0) { 5 } else { secs }, 0)
        }
    };
    let mut world = World::new(spec.clone(), 36, NOW, run(100));
    world.run(6);
    assert_eq!(world.conditions(), ["SuccessCriteriaMet/SuccessPolicy"]);
    assert_eq!(world.job.columns(world.now).0[1], "SuccessCriteriaMet");
    world.run(1_000);
    let conditions = ["SuccessCriteriaMet/SuccessPolicy", "Complete/SuccessPolicy"];
    assert_eq!(world.conditions(), conditions);
    assert_eq!((world.job.status().succeeded, world.job.status().failed), (1, 0));
    // 1.30 does not know the policy.
    let mut world = World::new(spec, 30, NOW, run(100));
    world.run(1_000);
    assert_eq!(world.job.status().succeeded, 3);
}

#[test]
fn a_deleted_pod_is_replaced_at_once_or_when_it_has_ended() {
    for (replacement, at) in
        [(PodReplacement::TerminatingOrFailed, 10), (PodReplacement::Failed, 30)]
    {
        let mut job = Job::new(JobSpec { replacement, ..spec() }, 36, NOW);
        let running = PodStatus { phase: Phase::Running, ..Default::default() };
        job.handle(NOW, JobInput::Tick);
        let changed = |status: &PodStatus, deleted| JobInput::PodChanged {
            pod: PodId(0),
            status: status.clone(),
            deleted,
        };
        job.handle(NOW, changed(&running, None));
        let asked = NOW + secs(10);
        job.handle(asked, changed(&running, Some(asked)));
        let failed = PodStatus { phase: Phase::Failed, ..running.clone() };
        // It counts as a failure, so the next one waits ten seconds from then.
        let mut created = None;
        for t in 10..60 {
            let now = NOW + secs(t);
            let input = match t {
                20 => changed(&failed, Some(asked)),
                21 => JobInput::PodDeleted { pod: PodId(0) },
                _ => JobInput::Tick,
            };
            job.handle(now, input);
            while let Some(output) = job.poll() {
                if matches!(output, JobOutput::CreatePod(ref pod) if pod.id == PodId(1)) {
                    created.get_or_insert(t);
                }
            }
        }
        let first = if at == 10 { 20 } else { at.min(20) };
        assert_eq!(created, Some(first), "{replacement:?}");
        assert_eq!(job.status().failed, 1);
    }
}

#[test]
fn pods_that_cannot_be_created() {
    let mut job = Job::new(spec(), 36, NOW);
    let mut now = NOW;
    let mut waits = Vec::new();
    job.handle(now, JobInput::Tick);
    for _ in 0..8 {
        let id = std::iter::from_fn(|| job.poll()).find_map(|o| match o {
            JobOutput::CreatePod(pod) => Some(pod.id),
            _ => None,
        });
        let message = "quota".to_owned();
        job.handle(now, JobInput::CreateFailed { pod: id.unwrap(), message });
        let wake = job.poll_timeout().unwrap();
        waits.push(wake.since(now).as_secs());
        assert_eq!(job.status().active, 0);
        now = wake;
        job.handle(now, JobInput::Tick);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn parallelism_up_and_down() {
    let of = |parallelism| JobSpec { parallelism, completions: Some(20), ..spec() };
    let mut world = World::new(of(2), 36, NOW, |_| Run::new(100, 0));
    world.run(10);
    world.tell(JobInput::SpecChanged(Box::new(of(5))));
    assert_eq!(world.job.status().active, 5);
    world.run(20);
    world.tell(JobInput::SpecChanged(Box::new(of(1))));
    assert_eq!((world.job.status().active, world.job.status().terminating), (1, 4));
    // The youngest went; what was surplus is not a failure.
    let left: Vec<Time> =
        world.job.pods().filter(|(_, p)| p.deleted.is_none()).map(|(_, p)| p.created).collect();
    assert_eq!(left, [NOW]);
    world.run(99);
    assert_eq!(world.job.status().failed, 0);
}

#[test]
fn a_finished_job_stays_so() {
    // TestSyncJobComplete.
    let mut world = World::new(spec(), 36, NOW, |_| Run::new(1, 0));
    world.run(10);
    let status = world.job.status().clone();
    for input in [
        JobInput::Tick,
        JobInput::SpecChanged(Box::new(JobSpec { completions: Some(5), ..spec() })),
        JobInput::PodDeleted { pod: PodId(0) },
        JobInput::PodDeleted { pod: PodId(7) },
        JobInput::Delete,
    ] {
        world.tell(input);
        assert_eq!(*world.job.status(), status);
    }
    assert_eq!(world.created.len(), 1);
}

/// The new pods that a Job asks for.
fn created(job: &mut Job) -> Vec<holdfast_lifecycle::job::NewPod> {
    let outputs = std::iter::from_fn(|| job.poll());
    let pods = outputs.filter_map(|o| match o {
        JobOutput::CreatePod(pod) => Some(pod),
        _ => None,
    });
    pods.collect()
}

fn failed(index: u32, failures: u32, at: Time) -> PodSummary {
    let regular = vec![crate::ended("main", 1, Some(at))];
    let status = PodStatus { phase: Phase::Failed, regular, ..Default::default() };
    PodSummary { index: Some(index), failures, status, created: LONG_AGO, ..Default::default() }
}

#[test]
fn the_last_failure_of_an_index_is_what_counts() {
    let spec = JobSpec { backoff_limit: 99, backoff_limit_per_index: Some(9), ..indexed(2, 1) };
    // The highest count, and of equal counts the latest end.
    let cases = [
        ([(0, LONG_AGO), (2, LONG_AGO), (1, LONG_AGO)], NOW, Some(3)),
        ([(1, NOW - secs(99)), (1, NOW), (1, NOW - secs(99))], NOW + secs(20), None),
    ];
    for (pods, until, failures) in cases {
        let pods = pods.map(|(failures, at)| failed(0, failures, at));
        let mut job = Job::resume(spec.clone(), 36, LONG_AGO, JobStatus::default(), pods);
        job.handle(NOW, JobInput::Tick);
        let new = created(&mut job);
        assert_eq!(new.first().and_then(|p| p.failures), failures);
        assert_eq!(job.poll_timeout().unwrap_or(NOW), until);
        assert_eq!(job.status().failed, 2, "the last one is kept until it is replaced");
    }
}

#[test]
fn an_index_is_delayed_though_its_pod_is_gone() {
    let spec = JobSpec { backoff_limit_per_index: Some(9), ..indexed(1, 1) };
    let mut job = Job::resume(spec, 36, LONG_AGO, JobStatus::default(), [failed(0, 0, NOW)]);
    job.handle(NOW, JobInput::Tick);
    job.handle(NOW + secs(1), JobInput::PodDeleted { pod: PodId(0) });
    assert!(created(&mut job).is_empty());
    job.handle(NOW + secs(10), JobInput::Tick);
    assert_eq!(created(&mut job)[0].failures, Some(1));
}

#[test]
fn an_index_that_is_ending_is_taken() {
    let pod = |index| {
        let status = PodStatus { phase: Phase::Running, ..Default::default() };
        let deleted = Some(NOW);
        PodSummary { index: Some(index), status, deleted, ..Default::default() }
    };
    for (replacement, want) in [
        (PodReplacement::Failed, vec![Some(1)]),
        // Its failure delays the others, too.
        (PodReplacement::TerminatingOrFailed, vec![]),
    ] {
        let spec = JobSpec { replacement, ..indexed(5, 2) };
        let mut job = Job::resume(spec, 36, LONG_AGO, JobStatus::default(), [pod(0)]);
        job.handle(NOW, JobInput::Tick);
        let indexes: Vec<Option<u32>> = created(&mut job).iter().map(|p| p.index).collect();
        assert_eq!(indexes, want, "{replacement:?}");
    }
}

#[test]
fn the_least_far_pod_goes_first() {
    // controller.ActivePods: pending, not ready, ready for a shorter time, restarted, younger.
    let pod = |phase, ready: Option<u64>, restarts, age| {
        let mut one = container("main", State::Running { started_at: LONG_AGO });
        one.restart_count = restarts;
        let ready = ready.map(|ago| crate::condition("Ready", true, NOW - secs(ago)));
        let conditions = ready.into_iter().collect();
        let status = PodStatus { phase, conditions, regular: vec![one], ..Default::default() };
        PodSummary { status, created: NOW - secs(age), ..Default::default() }
    };
    let (pending, running) = (Phase::Pending, Phase::Running);
    let order = [
        pod(pending, None, 0, 50),
        pod(running, None, 3, 60),
        pod(running, None, 0, 10),
        pod(running, None, 0, 20),
        pod(running, Some(5), 0, 90),
        pod(running, Some(8), 7, 90),
        pod(running, Some(8), 0, 90),
    ];
    for n in 1..order.len() {
        let left = u32::try_from(order.len() - n).unwrap();
        let spec = JobSpec { parallelism: left, completions: Some(99), ..spec() };
        // From the other end, so that the order is not the one they come in.
        let pods = order.iter().rev().cloned();
        let mut job = Job::resume(spec, 36, LONG_AGO, JobStatus::default(), pods);
        job.handle(NOW, JobInput::Tick);
        let gone = job.pods().filter(|(_, p)| p.deleted.is_some()).map(|(_, p)| p.created);
        let mut gone: Vec<Time> = gone.collect();
        let mut want: Vec<Time> = order.iter().take(n).map(|p| p.created).collect();
        gone.sort();
        want.sort();
        assert_eq!(gone, want, "{n} to delete");
    }
}

#[test]
fn a_deletion_is_not_taken_back() {
    // A status that was on its way when the deletion was asked for does not know of it.
    let mut job = Job::new(spec(), 36, NOW);
    job.handle(NOW, JobInput::Tick);
    job.handle(NOW, JobInput::SpecChanged(Box::new(JobSpec { parallelism: 0, ..spec() })));
    let status = PodStatus { phase: Phase::Running, ..Default::default() };
    job.handle(NOW, JobInput::PodChanged { pod: PodId(0), status, deleted: None });
    assert_eq!((job.status().active, job.status().terminating), (0, 1));
    let deletions = std::iter::from_fn(|| job.poll())
        .filter(|o| matches!(o, JobOutput::DeletePod { .. }))
        .count();
    assert_eq!(deletions, 1);
}
