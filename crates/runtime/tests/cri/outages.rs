//! A runtime that is restarted, or killed in the middle of something.

use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::Runtime;

use crate::bench::{self, Bench, container, pod};
use crate::fake::Answer;

#[test]
fn calls_wait_for_a_runtime_that_is_restarted() {
    bench::with(async |mut bench: Bench| {
        bench.up().await;
        bench.fake.die();
        let runtime = bench.runtime.clone();
        let later = tokio::task::spawn_local(async move { runtime.start(container(2)).await });
        assert!(bench.warning().await.contains("the container runtime is gone"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!later.is_finished());
        bench.fake.listen();
        later.await.unwrap().unwrap();
        assert_eq!(bench.warning().await, "the container runtime is back");
        let names = bench.fake.table(|table| table.containers.len());
        assert_eq!(names, 2, "the first goes on, the second was made once");
        // What happened meanwhile, or happens now, is still told.
        bench.fake.exit("c1", 5);
        assert_eq!(bench.exit().await, (1, 5, String::new()));
        bench.runtime.shutdown().await;
    });
}

#[test]
fn nothing_is_made_twice() {
    for method in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
        bench::with(async move |bench: Bench| {
            bench.fake.decide(move |name, before| match (name == method, before) {
                (true, 0) => Answer::BreakAfter,
                _ => Answer::Usual,
            });
            bench.make_sandbox().await;
            bench.start(1).await;
            let counts = bench.fake.table(|table| {
                let running = |e: &&crate::fake::Entry| {
                    e.status.state() == holdfast_runtime::cri::api::ContainerState::Running
                };
                (
                    table.sandboxes.len(),
                    table.containers.len(),
                    table.containers.values().filter(running).count(),
                )
            });
            assert_eq!(counts, (1, 1, 1), "{method}");
            bench.runtime.remove_pod(&pod()).await;
            assert_eq!(bench.fake.table(|table| table.sandboxes.len()), 0);
            bench.runtime.shutdown().await;
        });
    }
}

#[test]
fn who_kills_does_not_wait() {
    bench::with(async |bench: Bench| {
        bench.up().await;
        bench.fake.die();
        let exec = bench.runtime.exec(InstanceId(1), &["x".into()], None).await;
        assert!(exec.unwrap_err().contains("code = Unavailable"), "a probe does not wait");
        bench.runtime.kill(InstanceId(1), false).await;
        // Everything that needs the runtime fails at once now.
        let limit = Duration::from_secs(15);
        tokio::time::timeout(limit, bench.runtime.remove_pod(&pod())).await.unwrap();
        tokio::time::timeout(limit, bench.runtime.shutdown()).await.unwrap();
    });
}
