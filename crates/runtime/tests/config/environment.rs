//! Variables: where they come from, and who wins.

use holdfast_lifecycle::StartStage;
use serde_json::{Value, json};

use super::Bench;

fn list(env: &[(String, String)]) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn order_and_precedence() {
    let bench = Bench::new();
    let env = bench
        .config(json!({
            "envFrom": [
                {"secretRef": {"name": "s"}},
                {"prefix": "P_", "configMapRef": {"name": "cm"}},
                {"configMapRef": {"name": "none", "optional": true}},
            ],
            "env": [
                {"name": "FROM", "value": "pod"},
                {"name": "P_KEY", "value": "own $(P_OTHER)"},
                {"name": "LATER", "value": "$(NEXT)"},
                {"name": "NEXT", "value": "$(TOKEN)"},
                {"name": "EMPTY"},
                {"name": "NEXT", "value": "$(NEXT)!"},
            ],
        }))
        .env;
    assert_eq!(
        list(&env),
        [
            "PATH=/image/bin",
            "HOSTNAME=web-0",
            "FROM=pod",
            "TOKEN=secret",
            "P_2bad=x",
            "P_KEY=own more",
            "P_OTHER=more",
            // A reference to what comes later stays.
            "LATER=$(NEXT)",
            "NEXT=secret!",
            "EMPTY=",
        ]
    );
}

#[test]
fn defaults_of_an_image_without_variables() {
    let mut bench = Bench::new();
    bench.image.config.env.clear();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(list(&bench.config(json!({})).env), [path, "HOSTNAME=web-0"]);
    let configured =
        bench.configure(json!({}), json!({"hostname": "h", "subdomain": "s"})).unwrap();
    assert_eq!(list(&configured.config.env)[1], "HOSTNAME=h");
}

#[test]
fn values_from_elsewhere() {
    let bench = Bench::new();
    let from = |name: &str, source: Value| json!({"name": name, "valueFrom": source});
    let env = bench
        .config(json!({
            "resources": {"limits": {"memory": "1Gi"}},
            "env": [
                from("A", json!({"configMapKeyRef": {"name": "cm", "key": "KEY"}})),
                from("B", json!({"secretKeyRef": {"name": "s", "key": "TOKEN"}})),
                from("C", json!({"configMapKeyRef": {"name": "cm", "key": "no", "optional": true}})),
                from("D", json!({"secretKeyRef": {"name": "no", "key": "x", "optional": true}})),
                from("IP", json!({"fieldRef": {"fieldPath": "status.podIP"}})),
                from("NODE", json!({"fieldRef": {"fieldPath": "spec.nodeName"}})),
                from("APP", json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})),
                from("MEM", json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}})),
                from("CPU", json!({"resourceFieldRef": {"resource": "limits.cpu"}})),
            ],
        }))
        .env;
    let expected =
        ["A=value", "B=secret", "IP=10.0.0.7", "NODE=node-1", "APP=web", "MEM=1024", "CPU=4"];
    assert_eq!(list(&env)[3..], expected);
}

#[test]
fn what_is_missing_is_said_in_kubernetes_words() {
    let bench = Bench::new();
    let from = |source: Value| json!({"env": [{"name": "X", "valueFrom": source}]});
    for (container, words) in [
        (json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), "configmap \"none\" not found"),
        (json!({"envFrom": [{"secretRef": {"name": "none"}}]}), "secret \"none\" not found"),
        (
            from(json!({"configMapKeyRef": {"name": "none", "key": "k"}})),
            "configmap \"none\" not found",
        ),
        (
            from(json!({"configMapKeyRef": {"name": "cm", "key": "k"}})),
            "couldn't find key k in ConfigMap ns/cm",
        ),
        (
            from(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            "couldn't find key k in Secret ns/s",
        ),
        (from(json!({"fieldRef": {"fieldPath": "status.x"}})), "unsupported fieldPath: status.x"),
        (
            json!({"env": [{"name": "X", "value": "a\u{0}b"}]}),
            "environment variable \"X\" has a NUL byte in its name or value, or `=` in its name",
        ),
    ] {
        let error = bench.error(container);
        assert_eq!(error.to_string(), words);
        assert_eq!(error.stage(), StartStage::Config);
    }
}

#[test]
fn old_versions_skip_keys_that_are_no_names() {
    let mut bench = Bench::new();
    bench.minor = 31;
    let container = json!({"envFrom": [{"configMapRef": {"name": "cm"}}]});
    let configured = bench.configure(container.clone(), json!({})).unwrap();
    assert!(!list(&configured.config.env).contains(&"2bad=x".to_owned()));
    let words = "Keys [2bad] from the EnvFrom configMap ns/cm were skipped since they are considered \
                 invalid environment variable names.";
    assert_eq!(configured.events, [("InvalidEnvironmentVariableNames", words.to_owned())]);
    bench.minor = 32;
    let configured = bench.configure(container, json!({})).unwrap();
    assert!(list(&configured.config.env).contains(&"2bad=x".to_owned()));
    assert!(configured.events.is_empty());
}
