//! The client, against the real server.

use std::time::Duration;

use holdfast_e2e::cluster::api::{ApiError, EventKind, Patch};
use serde_json::{Value, json};

use crate::place::{namespace, possible, shared};

#[tokio::test]
async fn objects_are_made_read_changed_watched_and_deleted() {
    if !possible() {
        return;
    }
    let client = shared().await.client().unwrap();
    let namespace = &namespace(&client, "api").await;
    let object = |value: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "words", "namespace": namespace },
            "data": { "word": value },
        })
    };
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let path = format!("{all}/words");

    assert!(client.get(&path).await.unwrap_err().is_not_found());
    let made = client.create(&object("one")).await.unwrap();
    assert!(client.create(&object("one")).await.unwrap_err().is_conflict());
    let version = made.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap();
    let mut watch = client.watch(&all, version).await.unwrap();

    let patch = json!([{ "op": "replace", "path": "/data/word", "value": "two" }]);
    client.patch(&path, Patch::Json, &patch).await.unwrap();
    client.patch(&path, Patch::Merge, &json!({ "data": { "word": "three" } })).await.unwrap();
    client.apply(&object("four")).await.unwrap();
    client.put(&path, &object("five")).await.unwrap();
    assert!(client.put(&path, &made).await.unwrap_err().is_conflict(), "an old version");
    client.delete(&path, None).await.unwrap();

    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = watch.next().await.unwrap().unwrap();
        if event.object.pointer("/metadata/name").and_then(Value::as_str) == Some("words") {
            let word = event.object.pointer("/data/word").and_then(Value::as_str).unwrap();
            seen.push((event.kind, word.to_owned()));
        }
    }
    let expected = ["two", "three", "four", "five", "five"].map(str::to_owned);
    let kinds = [[EventKind::Modified; 4].as_slice(), &[EventKind::Deleted]].concat();
    assert_eq!(seen, kinds.into_iter().zip(expected).collect::<Vec<_>>());

    let late = client.wait(&path, Duration::from_millis(100), |object| object.map(|_| ())).await;
    assert!(matches!(late, Err(ApiError::Late { .. })), "{late:?}");
    let gone = client.wait(&path, Duration::from_secs(5), |o| o.is_none().then_some(())).await;
    gone.unwrap();
}

#[tokio::test]
async fn a_wait_sees_what_comes_later_and_many_share_a_connection() {
    if !possible() {
        return;
    }
    let client = shared().await.client().unwrap();
    let namespace = &namespace(&client, "wait").await;
    let waits = (0..20).map(|number| {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/c{number}");
        let client = client.clone();
        tokio::spawn(async move {
            client
                .wait(&path, Duration::from_secs(60), |object| {
                    object?.pointer("/data/n")?.as_str().map(str::to_owned)
                })
                .await
        })
    });
    let waits: Vec<_> = waits.collect();
    for number in 0..20 {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": format!("c{number}"), "namespace": namespace },
            "data": { "n": number.to_string() },
        });
        client.create(&object).await.unwrap();
    }
    for (number, wait) in waits.into_iter().enumerate() {
        assert_eq!(wait.await.unwrap().unwrap(), number.to_string());
    }
}
