//! Images: when they are pulled, and with what.

use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_runtime::contract::Runtime;
use holdfast_runtime::cri::api;
use holdfast_runtime::image::PullPolicy::{Always, IfNotPresent, Never};

use crate::bench::{self, Bench, secret};
use crate::fake::{Answer, UNKNOWN};

#[test]
fn policies_decide_about_pulls() {
    bench::with(async |bench: Bench| {
        let pull = async |image, policy| bench.runtime.pull(&bench.pull(image, policy)).await;
        let error = pull("busybox", Never).await.unwrap_err();
        assert_eq!(error.reason, "ErrImageNeverPull");
        assert_eq!(
            error.message,
            "Container image \"busybox\" is not present with pull policy of Never"
        );
        let image = pull("busybox", IfNotPresent).await.unwrap();
        assert_eq!(
            (image.id.as_str(), bench.fake.count("PullImage")),
            ("sha256:busybox:latest", 1)
        );
        pull("busybox", IfNotPresent).await.unwrap();
        pull("busybox", Never).await.unwrap();
        assert_eq!(bench.fake.count("PullImage"), 1);
        pull("busybox", Always).await.unwrap();
        assert_eq!(bench.fake.count("PullImage"), 2);
        let error = pull("No Such", Always).await.unwrap_err();
        assert_eq!(error.reason, "InvalidImageName");
        assert!(error.message.starts_with(
            "Failed to apply default image tag \"No Such\": couldn't parse image name \"No Such\":"
        ));
        bench.runtime.shutdown().await;
    });
}

#[test]
fn every_credential_that_fits_is_tried() {
    bench::with(async |bench: Bench| {
        let words = "failed to pull and unpack image \"quay.io/a/b:1\": unauthorized";
        bench.fake.decide(move |method, before| match (method, before) {
            ("PullImage", 0 | 2..) => Answer::Refuse(UNKNOWN, words.into()),
            _ => Answer::Usual,
        });
        let mut request = bench.pull("quay.io/a/b:1", Always);
        let config = r#"{"auths": {"quay.io": {"username": "one", "password": "x"},
                                   "quay.io/a": {"username": "two", "password": "x"}}}"#;
        request.secrets =
            vec![secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", config)];
        bench.runtime.pull(&request).await.unwrap();
        let tried = || -> Vec<String> {
            let requests = bench.fake.requests::<api::PullImageRequest>();
            requests.iter().map(|r| r.auth.clone().unwrap_or_default().username).collect()
        };
        assert_eq!(tried(), ["two", "one"], "the more special first");
        let error = bench.runtime.pull(&request).await.unwrap_err();
        assert_eq!(error.reason, "ErrImagePull");
        assert_eq!(error.message, format!("rpc error: code = Unknown desc = {words}"));
        let error = bench.runtime.pull(&bench.pull("ghcr.io/x", Always)).await.unwrap_err();
        assert_eq!(error.reason, "ErrImagePull");
        assert_eq!(tried().last().unwrap(), "", "none fits");
        bench.runtime.shutdown().await;
    });
}

#[test]
fn a_pull_that_hangs_ends_when_nobody_waits_for_it() {
    bench::with(async |bench: Bench| {
        bench.fake.decide(|method, _| match method {
            "PullImage" => Answer::Hang,
            _ => Answer::Usual,
        });
        let request = bench.pull("busybox", Always);
        let pull = bench.runtime.pull(&request);
        assert!(tokio::time::timeout(Duration::from_millis(100), pull).await.is_err());
        let cancelled = &bench.fake.inner.cancelled;
        bench.until("it is cancelled", |_| cancelled.load(Ordering::SeqCst) == 1).await;
        bench.runtime.shutdown().await;
    });
}
