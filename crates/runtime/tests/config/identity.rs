//! Users, groups, capabilities.

use holdfast_lifecycle::StartStage;
use holdfast_runtime::contract::User;
use serde_json::{Value, json};

use super::Bench;

fn user(bench: &Bench, container: Value, pod: Value) -> User {
    let container = json!({"securityContext": container});
    bench.configure(container, json!({"securityContext": pod})).unwrap().config.user
}

fn is(uid: Option<u32>, gid: Option<u32>, groups: &[u32]) -> User {
    User { uid, gid, groups: groups.to_vec(), name: None }
}

#[test]
fn users_of_the_image() {
    let mut bench = Bench::new();
    for (image, expected) in [
        ("", is(None, None, &[0, 4])),
        ("0", is(None, None, &[0, 4])),
        ("root", is(Some(0), Some(0), &[0, 4])),
        ("web", is(Some(101), Some(102), &[102, 200, 4])),
        ("101", is(Some(101), Some(102), &[102, 200, 4])),
        // Kubernetes hands on the user only.
        ("web:www", is(Some(101), Some(102), &[102, 200, 4])),
        ("5000:5000", is(Some(5000), Some(0), &[0])),
    ] {
        bench.image.config.user = image.into();
        assert_eq!(user(&bench, json!({}), json!({})), expected, "{image:?}");
    }
    bench.image.config.user = "nobody".into();
    let error = bench.error(json!({}));
    assert!(error.to_string().contains("no users found"), "{error}");
    assert_eq!(error.stage(), StartStage::Create);
}

#[test]
fn the_pod_decides_and_the_container_more() {
    let mut bench = Bench::new();
    bench.image.config.user = "web".into();
    let pod = json!({
        "runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000,
        "supplementalGroups": [4000, 3000, 2000],
    });
    assert_eq!(
        user(&bench, json!({}), pod.clone()),
        is(Some(1000), Some(3000), &[3000, 2000, 4000])
    );
    let own = json!({"runAsUser": 101, "runAsGroup": 5});
    assert_eq!(user(&bench, own, pod), is(Some(101), Some(5), &[5, 200, 4, 2000, 4000, 3000]));
    let strict = json!({"supplementalGroupsPolicy": "Strict", "supplementalGroups": [9]});
    assert_eq!(user(&bench, json!({}), strict), is(Some(101), Some(102), &[102, 9]));
    bench.image.config.user.clear();
    assert_eq!(user(&bench, json!({"runAsGroup": 7}), json!({})), is(None, Some(7), &[7, 0, 4]));
    assert_eq!(user(&bench, json!({"runAsUser": 0}), json!({})), is(Some(0), Some(0), &[0, 4]));
}

#[test]
fn without_root_only_the_groups_asked_for() {
    let mut bench = Bench::new();
    bench.groups = false;
    assert_eq!(user(&bench, json!({}), json!({})), is(None, None, &[]));
    assert_eq!(user(&bench, json!({}), json!({"fsGroup": 5})), is(None, None, &[5]));
}

#[test]
fn run_as_non_root() {
    let mut bench = Bench::new();
    let who = "pod: \"web-0_ns(uid-1)\", container: main";
    for (image, security, words) in [
        ("web", json!({"runAsUser": 0}), "container's runAsUser breaks non-root policy ({who})"),
        ("", json!({}), "container has runAsNonRoot and image will run as root ({who})"),
        ("0:5", json!({}), "container has runAsNonRoot and image will run as root ({who})"),
        (
            "web",
            json!({}),
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is \
             non-root ({who})",
        ),
    ] {
        bench.image.config.user = image.into();
        let mut security = security;
        security["runAsNonRoot"] = json!(true);
        let error = bench.error(json!({"securityContext": security}));
        assert_eq!(error.to_string(), words.replace("{who}", who));
        assert_eq!(error.stage(), StartStage::Config);
    }
    bench.image.config.user = "101".into();
    let pod = json!({"runAsNonRoot": true});
    assert_eq!(user(&bench, json!({}), pod.clone()).uid, Some(101));
    bench.image.config.user.clear();
    assert_eq!(user(&bench, json!({"runAsUser": 5}), pod.clone()).uid, Some(5));
    assert_eq!(user(&bench, json!({"runAsNonRoot": false}), pod).uid, None);
}

#[test]
fn privileges() {
    let bench = Bench::new();
    let config = bench.config(json!({}));
    assert!(!config.privileged && !config.no_new_privileges && !config.read_only_root);
    assert_eq!(config.capabilities.unwrap().len(), 14);
    let config = bench.config(json!({"securityContext": {
        "privileged": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": true}}));
    assert!(config.privileged && config.read_only_root && !config.no_new_privileges);
    assert_eq!(config.capabilities, None);
    let config = bench.config(json!({"securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}));
    assert!(config.no_new_privileges);
    assert_eq!(config.capabilities, Some(Vec::new()));
}
