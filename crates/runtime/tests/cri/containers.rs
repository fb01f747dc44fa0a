//! Containers from their start to their end.

use std::io::Write;
use std::time::{Duration, Instant};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Below, ExecOutcome, Mount, MountSource, Propagation, Runtime, RuntimeEvent,
};
use holdfast_runtime::cri::api::{self, ContainerState};

use crate::bench::{self, Bench, container, pod};
use crate::fake::{Answer, DEADLINE_EXCEEDED, Fake, UNKNOWN};

const T: &str = "2026-11-20T10:00:00.000000001Z";

#[test]
fn ends_come_with_the_events_of_a_runtime_that_has_them() {
    bench::with_prepared(
        |fake| fake.table(|table| table.events = true),
        async |mut bench: Bench| {
            bench.up().await;
            bench.until("it is asked for once", |fake| fake.count("ContainerStatus") == 1).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let begin = Instant::now();
            bench.fake.exit("c1", 3);
            assert_eq!(bench.exit().await, (1, 3, String::new()));
            assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
            let lists = bench.fake.count("ListContainers");
            assert!(lists < 4, "{lists} lists: the stream was there at once, or nearly so");
            bench.runtime.shutdown().await;
        },
    );
}

#[test]
fn without_events_there_are_lists_while_something_runs() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        bench.until("lists", |fake| fake.count("ListContainers") > 3).await;
        bench.fake.exit("c1", 0);
        assert_eq!(bench.exit().await.1, 0);
        bench.runtime.remove_pod(&pod()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = bench.fake.count("ListContainers");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(bench.fake.count("ListContainers"), before, "nothing is expected any more");
        bench.runtime.shutdown().await;
    });
}

/// kubelet: `resolveRecursiveReadOnly`.
#[test]
fn what_is_mounted_below_is_read_only_if_the_runtime_can_do_it() {
    for able in [true, false] {
        let prepare = |fake: &Fake| fake.table(|table| table.read_only_below = able);
        bench::with_prepared(prepare, async |bench: Bench| {
            bench.make_sandbox().await;
            let start = async |number: u64, below| {
                let mut config = container(number);
                config.mounts.push(Mount {
                    source: MountSource::Bind(bench.temp.path().to_owned()),
                    target: "/v".into(),
                    read_only: true,
                    below,
                    propagation: Propagation::Private,
                });
                bench.runtime.start(config).await.map_err(|error| error.message)
            };
            let strict = start(1, Below::ReadOnly).await;
            assert_eq!(strict.is_ok(), able, "{strict:?}");
            let words = "volume mount /v requested recursive read-only mode, but it is not \
                         supported by the runtime";
            assert!(able || strict == Err(words.to_owned()), "{strict:?}");
            start(2, Below::ReadOnlyIfPossible).await.unwrap();
            start(3, Below::AsTheyAre).await.unwrap();
            let asked: Vec<bool> = bench.fake.table(|table| {
                let mounts = table.containers.values().flat_map(|entry| &entry.config.mounts);
                mounts
                    .filter(|mount| mount.container_path == "/v")
                    .map(|mount| mount.recursive_read_only)
                    .collect()
            });
            let expected: &[bool] = if able { &[true, true, false] } else { &[false, false] };
            assert_eq!(asked, expected);
            bench.runtime.shutdown().await;
        });
    }
}

#[test]
fn all_output_comes_before_the_end() {
    bench::with(async |mut bench: Bench| {
        bench.make_sandbox().await;
        let mut config = container(1);
        config.termination_message_from_logs = true;
        bench.runtime.start(config).await.unwrap();
        let log = bench.fake.table(|table| table.containers["container1"].log.clone());
        let mut file = std::fs::File::options().append(true).open(&log).unwrap();
        let mut text = String::new();
        for number in 0..5000 {
            let stream = if number % 2 == 0 { "stdout" } else { "stderr" };
            text.push_str(&format!("{T} {stream} P {number}-\n{T} {stream} F end\n"));
        }
        file.write_all(text.as_bytes()).unwrap();
        bench.fake.exit("c1", 1);
        let mut seen = Vec::new();
        let message = loop {
            match bench.event().await {
                RuntimeEvent::Output { line, stderr, .. } => seen.push((line, stderr)),
                RuntimeEvent::Exited { message, .. } => break message,
                other => panic!("{other:?}"),
            }
        };
        let expected: Vec<_> =
            (0..5000).map(|n| (format!("{n}-end").into_bytes(), n % 2 == 1)).collect();
        assert_eq!(seen, expected);
        assert!(message.ends_with("4998-end\n4999-end\n"), "{message}");
        bench.runtime.shutdown().await;
    });
}

#[test]
fn a_log_that_grows_is_begun_anew_and_nothing_is_lost() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        let log = bench.fake.table(|table| table.containers["container1"].log.clone());
        let line = format!("{T} stdout F {}\n", "x".repeat(1000));
        let count = 12_000;
        std::fs::write(&log, line.repeat(count)).unwrap();
        let mut seen = 0;
        while seen < count {
            if let RuntimeEvent::Output { .. } = bench.event().await {
                seen += 1;
            }
        }
        bench.until("a new log is asked for", |fake| fake.count("ReopenContainerLog") > 0).await;
        // This runtime cannot do it, so the file is what it was.
        bench.until("the name is back", |_| log.exists()).await;
        bench.fake.exit("c1", 0);
        assert_eq!(bench.exit().await.1, 0);
        bench.runtime.shutdown().await;
    });
}

#[test]
fn stops_are_in_seconds_and_asked_for_until_it_is_so() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        bench.fake.decide(|method, before| match (method, before) {
            ("StopContainer", 0) => Answer::Refuse(UNKNOWN, "the shim is busy".into()),
            _ => Answer::Usual,
        });
        bench.runtime.stop(InstanceId(1), Duration::from_millis(4200)).await;
        assert_eq!(bench.exit().await.1, 143);
        let timeouts: Vec<i64> =
            bench.fake.requests::<api::StopContainerRequest>().iter().map(|r| r.timeout).collect();
        assert_eq!(timeouts[0], 5, "a second that has begun counts");
        assert!((3..=4).contains(&timeouts[1]), "what is left: {timeouts:?}");
        assert!(bench.warning().await.contains("the shim is busy"));
        bench.runtime.shutdown().await;
    });
}

#[test]
fn failures_say_how_far_it_got() {
    bench::with(async |mut bench: Bench| {
        let error = bench.runtime.start(container(1)).await.unwrap_err();
        assert_eq!(
            (error.stage, error.message.as_str()),
            (StartStage::Create, "the pod has no sandbox")
        );
        bench.make_sandbox().await;
        bench.fake.decide(|method, before| match (method, before) {
            ("CreateContainer", 0) => Answer::Refuse(UNKNOWN, "no such image".into()),
            ("StartContainer", 0) => Answer::Refuse(UNKNOWN, "exec: \"nope\": not found".into()),
            _ => Answer::Usual,
        });
        let error = bench.runtime.start(container(1)).await.unwrap_err();
        assert_eq!((error.stage, error.message.as_str()), (StartStage::Create, "no such image"));
        let error = bench.runtime.start(container(2)).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Run);
        assert_eq!(error.message, "exec: \"nope\": not found", "without the kubelet's `rpc error`");
        bench.runtime.remove(InstanceId(2)).await;
        assert_eq!(bench.fake.table(|table| table.containers.len()), 0);
        assert!(bench.events.try_recv().is_err());
        bench.runtime.shutdown().await;
    });
}

#[test]
fn a_name_that_an_old_container_has_is_freed() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        bench.fake.exit("c1", 0);
        bench.exit().await;
        bench.fake.decide(|method, before| match (method, before) {
            ("CreateContainer", 1) => Answer::Refuse(
                UNKNOWN,
                "failed to reserve container name \"c1_web\": name \"c1_web\" is reserved for \"x\"".into(),
            ),
            _ => Answer::Usual,
        });
        let mut again = container(2);
        again.name = "c1".into();
        bench.runtime.start(again).await.unwrap();
        assert_eq!(bench.fake.table(|table| table.containers.len()), 1);
        bench.runtime.shutdown().await;
    });
}

#[test]
fn commands_end_or_time_out() {
    bench::with(async |bench: Bench| {
        bench.up().await;
        bench.fake.table(|table| {
            table.exec = api::ExecSyncResponse {
                stdout: vec![b'o'; 10_000],
                stderr: vec![b'e'; 10_000],
                exit_code: 7,
            };
        });
        let exec = async |timeout| bench.runtime.exec(InstanceId(1), &["x".into()], timeout).await;
        let Ok(ExecOutcome::Ended { code: 7, output }) = exec(None).await else { panic!() };
        assert_eq!((output.len(), output[9_999], output[10_000]), (10_240, b'o', b'e'));
        bench.fake.decide(|method, before| match (method, before) {
            ("ExecSync", 1) => Answer::Refuse(DEADLINE_EXCEEDED, "timeout 1s exceeded".into()),
            ("ExecSync", 2) => Answer::Refuse(UNKNOWN, "no such file".into()),
            ("ExecSync", _) => Answer::Hang,
            _ => Answer::Usual,
        });
        let second = Some(Duration::from_secs(1));
        assert_eq!(exec(second).await, Ok(ExecOutcome::TimedOut));
        assert_eq!(exec(second).await, Err("rpc error: code = Unknown desc = no such file".into()));
        let timeouts: Vec<i64> =
            bench.fake.requests::<api::ExecSyncRequest>().iter().map(|r| r.timeout).collect();
        assert_eq!(timeouts, [0, 1, 1]);
        // One that nobody waits for any more is ended.
        let hanging = tokio::time::timeout(Duration::from_millis(50), exec(second)).await;
        assert!(hanging.is_err());
        let cancelled = &bench.fake.inner.cancelled;
        bench
            .until("it is cancelled", |_| cancelled.load(std::sync::atomic::Ordering::SeqCst) == 1)
            .await;
        assert!(bench.runtime.exec(InstanceId(9), &[], None).await.is_err());
        bench.runtime.shutdown().await;
    });
}

#[test]
fn what_someone_else_does_to_a_container_is_told() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        bench.start(2).await;
        bench.fake.change("c1", |status| status.set_state(ContainerState::Unknown));
        let event = bench.event().await;
        assert!(
            matches!(event, RuntimeEvent::Unknown { instance: InstanceId(1), .. }),
            "{event:?}"
        );
        bench.fake.table(|table| {
            table.containers.retain(|_, e| e.config.metadata.as_ref().unwrap().name != "c2")
        });
        let event = bench.event().await;
        assert!(
            matches!(event, RuntimeEvent::Removed { instance: InstanceId(2), .. }),
            "{event:?}"
        );
        bench.fake.change("c1", |status| {
            status.set_state(ContainerState::Exited);
            status.exit_code = 255;
            status.reason = "OOMKilled".into();
            status.message = "words of the runtime".into();
        });
        let event = bench.event().await;
        let RuntimeEvent::Exited { code: 255, oom: true, message, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(message, "words of the runtime");
        bench.runtime.shutdown().await;
    });
}
