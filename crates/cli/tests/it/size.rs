//! Many containers, many pods, replicas, indexes.

use std::time::Duration;

use serde_json::json;

use crate::objects::{c, job, pod, server};
use crate::run::Run;

crate::tests! {
    a_pod_of_two_hundred_containers,
    fifty_pods_in_one_file,
    a_job_with_indexes,
    a_deployment_keeps_its_replicas,
    a_stateful_set_starts_in_order,
}

fn a_pod_of_two_hundred_containers() {
    let name = |i: usize| format!("c{i:03}");
    let inits = (0..100).map(|i| c(&name(i), "say $NAME")).collect();
    let apps = (100..200).map(|i| c(&name(i), "say $NAME")).collect();
    let done = Run::of(&[pod("big", "Never", inits, apps)]).done().code(0);
    let mut log = done.log();
    let expected: Vec<String> = (0..200).map(name).collect();
    assert_eq!(log[..100], expected[..100], "init containers out of order");
    // Containers start one after another, but run at once.
    log.sort();
    assert_eq!(log, expected);
    assert_eq!(done.rows("big").last().unwrap(), "0/100 Completed");
    // Far from what a step a second would take; the number itself is the benchmark's business.
    assert!(done.took < Duration::from_secs(20), "{:?}", done.took);
}

fn fifty_pods_in_one_file() {
    let name = |i: usize| format!("p{i:02}");
    let pods: Vec<_> = (0..50)
        .map(|i| {
            let word = name(i);
            let init = c("i", &format!("say {word} init"));
            pod(&word, "Never", vec![init], vec![c("app", &format!("say {word} app"))])
        })
        .collect();
    let done = Run::of(&pods).done().code(0);
    let log = done.log();
    assert_eq!(log.len(), 100);
    for i in 0..50 {
        let name = name(i);
        let at = |what: &str| log.iter().position(|l| *l == format!("{name} {what}")).unwrap();
        assert!(at("init") < at("app"), "{name}");
        assert_eq!(done.rows(&name).last().unwrap(), "0/1 Completed");
    }
}

fn a_job_with_indexes() {
    let p = pod("", "Never", vec![], vec![c("w", "say $JOB_COMPLETION_INDEX; sleep 0.1")]);
    let spec = json!({ "completions": 6, "parallelism": 3, "completionMode": "Indexed" });
    let done = Run::of(&[job("idx", spec, p)]).args("-o json").done().code(0);
    let mut log = done.log();
    log.sort();
    assert_eq!(log, ["0", "1", "2", "3", "4", "5"], "{done:#?}");
    let items = done.json();
    let job = &items["items"][0];
    assert_eq!(job["status"]["completedIndexes"], "0-5", "{job:#}");
    assert_eq!(items["items"].as_array().unwrap().len(), 7);
}

fn workload(kind: &str, script: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "web" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": pod("", "Always", vec![c("i", "sleep 0.2; say begin")], vec![c("app", script)])["spec"],
            },
        },
    })
}

fn a_deployment_keeps_its_replicas() {
    let script = server("x")["command"][2].as_str().unwrap().to_owned();
    let done = Run::of(&[workload("Deployment", &script)])
        .args("--for condition=Ready -o jsonl")
        .done()
        .code(0);
    let added = done.events().iter().filter(|e| e["type"] == "ADDED").count();
    assert_eq!(added, 3);
    // --for waits for all of them, not for those that happen to be there.
    assert_eq!(done.log().iter().filter(|l| *l == "begin").count(), 3, "{:?}", done.log());
    assert_eq!(done.log().iter().filter(|l| *l == "app up").count(), 3, "{:?}", done.log());
}

fn a_stateful_set_starts_in_order() {
    let script = "say $HOSTNAME; trap 'exit 0' TERM; sleep 1000 & wait";
    let done =
        Run::of(&[workload("StatefulSet", script)]).args("--for condition=Ready").done().code(0);
    assert_eq!(done.log(), ["begin", "web-0", "begin", "web-1", "begin", "web-2"], "{done:#?}");
    assert_eq!(done.rows("web-2")[0], "0/1 Pending");
}
