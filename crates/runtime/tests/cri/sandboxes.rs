//! Sandboxes.

use std::time::Duration;

use holdfast_runtime::contract::{Runtime, RuntimeEvent};
use holdfast_runtime::cri::api;

use crate::bench::{self, Bench, pod};
use crate::fake::{Answer, UNKNOWN};

const CNI: &str =
    "failed to setup network for sandbox \"x\": plugin type=\"bridge\" failed (add): no";

#[test]
fn a_failure_is_in_the_runtimes_words_and_leaves_nothing() {
    bench::with(async |bench: Bench| {
        // As containerd 2.0 does it: the sandbox stays, its name with it.
        bench.fake.decide(|method, before| match (method, before) {
            ("RunPodSandbox", 0) => Answer::Refuse(UNKNOWN, CNI.into()),
            _ => Answer::Usual,
        });
        bench.fake.table(|table| {
            let labels = [
                ("io.holdfast.managed-by", "holdfast-run"),
                ("io.holdfast.run", "another"),
                ("io.holdfast.pod.uid", "uid-1"),
            ];
            let config = api::PodSandboxConfig {
                metadata: Some(api::PodSandboxMetadata::default()),
                labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                ..api::PodSandboxConfig::default()
            };
            table.sandboxes.insert("other".into(), (config, api::PodSandboxState::Ready));
        });
        let words = bench.runtime.create_sandbox(&bench.sandbox(0)).await.unwrap_err();
        assert_eq!(words, format!("rpc error: code = Unknown desc = {CNI}"));
        assert_eq!(bench.fake.table(|table| table.sandboxes.len()), 1, "another run's");
        bench.make_sandbox().await;
        bench.runtime.remove_pod(&pod()).await;
        assert_eq!(bench.fake.table(|table| table.sandboxes.len()), 1);
        bench.runtime.shutdown().await;
    });
}

#[test]
fn the_end_of_a_sandbox_is_told() {
    bench::with(async |mut bench: Bench| {
        bench.make_sandbox().await;
        bench.fake.table(|table| {
            table.sandboxes.values_mut().for_each(|s| s.1 = api::PodSandboxState::NotReady);
        });
        let event = bench.event().await;
        assert!(matches!(event, RuntimeEvent::SandboxLost { attempt: 0, .. }), "{event:?}");
        bench.runtime.stop_sandbox(&pod(), 0).await;
        assert_eq!(bench.fake.table(|table| table.sandboxes.len()), 0);
        // One that was taken down is not lost.
        bench.runtime.create_sandbox(&bench.sandbox(1)).await.unwrap();
        bench.runtime.stop_sandbox(&pod(), 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(bench.events.try_recv().is_err());
        bench.runtime.shutdown().await;
    });
}

#[test]
fn the_configuration_is_a_pods() {
    bench::with(async |bench: Bench| {
        let mut config = bench.sandbox(3);
        config.runtime_handler = "kata".into();
        bench.runtime.create_sandbox(&config).await.unwrap();
        let request = &bench.fake.requests::<api::RunPodSandboxRequest>()[0];
        assert_eq!(request.runtime_handler, "kata");
        let made = request.config.as_ref().unwrap();
        let metadata = made.metadata.as_ref().unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.uid.as_str(), metadata.attempt),
            ("web", "uid-1", 3)
        );
        assert_eq!(made.labels["io.kubernetes.pod.name"], "web");
        assert!(std::path::Path::new(&made.log_directory).is_dir());
        assert_eq!(made.linux.as_ref().unwrap().cgroup_parent, "");
        bench.runtime.shutdown().await;
    });
}
