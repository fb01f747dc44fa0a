//! What is refused: exit code 2, what and where, and nothing started.

use serde_json::json;

use crate::objects::{c, pod};
use crate::run::{Done, Run};

crate::tests! {
    a_missing_file,
    input_without_an_end,
    a_timeout_beyond_all_clocks,
    not_yaml,
    an_unknown_field_names_the_nearest,
    a_wrong_type,
    a_duplicate_key,
    a_missing_field,
    an_unsupported_field,
    a_field_of_a_newer_kubernetes,
    nothing_to_run,
    one_bad_file_among_good_ones,
    bad_flags,
    a_bad_image_map,
    a_bad_config_file,
    an_unusable_state_directory,
}

/// Runs it beside a good pod that must not start.
fn refused(name: &str, text: &str) -> Done {
    let good = pod("good", "Never", vec![], vec![c("app", "say started")]).to_string();
    let run = Run::text("good.json", &good);
    let bad = run.path(name);
    std::fs::write(&bad, text).unwrap();
    let done = run.arg(bad.to_str().unwrap()).done().code(2);
    assert!(done.out.is_empty(), "{done:#?}");
    assert!(done.log().is_empty(), "{done:#?}");
    done
}

#[track_caller]
fn says(done: &Done, texts: &[&str]) {
    for text in texts {
        assert!(done.said(text), "{text:?} is not said: {:#?}", done.err);
    }
}

const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: bad
spec:
  containers:
    - name: app
      image: host
      command: [\"true\"]
";

fn a_missing_file() {
    let done = Run::bare().arg("/no/such/file.yaml").done().code(2);
    says(&done, &["cannot read /no/such/file.yaml", "No such file"]);
}

fn input_without_an_end() {
    let done = Run::bare().arg("/dev/zero").done().code(2);
    says(&done, &["/dev/zero:1:1", "at most 16777216"]);
    let good = || Run::of(&[pod("good", "Never", vec![], vec![c("app", "say started")])]);
    let done = good().args("--config /dev/zero").done().code(2);
    says(&done, &["cannot read /dev/zero: it has more than"]);
    // Every cause is said once.
    let done = good().args("--config /no/such").done().code(2);
    let said = done.err.iter().filter(|line| line.contains("No such file")).count();
    assert_eq!(said, 1, "{done:#?}");
    assert!(!done.said("(os error 2): No such"), "{done:#?}");
}

fn a_timeout_beyond_all_clocks() {
    let good = pod("good", "Never", vec![], vec![c("app", "say started")]);
    Run::of(&[good]).args("--timeout 3000000000000000h").done().code(0);
}

fn not_yaml() {
    says(&refused("bad.yaml", "a: [b\nc: }"), &["bad.yaml:2:"]);
    let done = refused("bad.yaml", "\x7fELF\x02\x01\x01\0\0\0");
    says(&done, &["bad.yaml"]);
}

fn an_unknown_field_names_the_nearest() {
    let done = refused(
        "bad.yaml",
        &POD.replace("image: host", "imagePullPolice: Always\n      image: host"),
    );
    says(&done, &["bad.yaml:8:7", "imagePullPolice", "imagePullPolicy"]);
}

fn a_wrong_type() {
    let done = refused("bad.yaml", &POD.replace("[\"true\"]", "7"));
    says(&done, &["bad.yaml:9:16", "command"]);
}

fn a_duplicate_key() {
    let done = refused("bad.yaml", &POD.replace("image: host", "image: host\n      image: other"));
    says(&done, &["bad.yaml:9:7", "image"]);
}

fn a_missing_field() {
    let done = refused("bad.yaml", &POD.replace("name: app\n      ", ""));
    says(&done, &["bad.yaml:7:", "spec.containers[0].name", "Required value"]);
}

fn an_unsupported_field() {
    let text = POD.replace(
        "  containers:",
        "  volumes: [{name: v, nfs: {server: s, path: /}}]\n  containers:",
    );
    let done = refused("bad.yaml", &text);
    // As every other finding: which line, and the line itself.
    says(&done, &["Pod/bad: spec.volumes[0].nfs:", "bad.yaml:6:23", "^^^"]);
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: bad}}\nspec:\n  template:\n    spec:\n      \
         restartPolicy: Never\n      hostUsers: false\n      {}",
        "containers: [{name: c, image: host, command: [x]}]\n"
    );
    let done = refused("bad.yaml", &job);
    says(&done, &["Job/bad: spec.template.spec.hostUsers:", "bad.yaml:8:18", "^^^^^"]);
}

fn a_field_of_a_newer_kubernetes() {
    let init = "  initContainers:\n    - {name: i, image: host, restartPolicy: Always, command: [x], restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]}\n  containers:";
    let text = POD.replace("  containers:", init);
    let run = Run::text("new.yaml", &text).args("--kubernetes 1.29");
    let done = run.done().code(2);
    says(&done, &["new.yaml:7:", "restartPolicyRules"]);
}

fn nothing_to_run() {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } });
    says(&Run::of(&[map]).done().code(2), &["there is nothing to run"]);
    Run::text("empty.yaml", "").done().code(2);
}

fn one_bad_file_among_good_ones() {
    let done =
        refused("bad.json", r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "X!"}}"#);
    says(&done, &["bad.json:1:", "metadata.name"]);
}

fn bad_flags() {
    let good = || Run::of(&[pod("good", "Never", vec![], vec![c("app", "say started")])]);
    for (flags, text) in [
        ("--timeout 5", "expected a time such as 30s"),
        ("--fault explode@5s", "invalid fault"),
        ("--fault kill:app", "invalid fault"),
        ("--fault kill:ap@1s", "no pod has a container \"ap\"; there are: app"),
        ("--kubernetes 1.12", "expected 1.29 to 1.36"),
        ("--for condition=Happy", "condition=Ready"),
        ("--no-such-flag", "--no-such-flag"),
    ] {
        let done = good().args(flags).done().code(2);
        says(&done, &[text]);
        assert!(done.log().is_empty() && done.out.is_empty(), "{done:#?}");
    }
    // No file at all.
    Run::bare().done().code(2);
}

fn a_bad_image_map() {
    let good = || Run::of(&[pod("good", "Never", vec![], vec![c("app", "say started")])]);
    for (map, text) in [("web", "NAME=SOURCE"), ("=host", "=host"), ("web=", "web=")] {
        let done = good().arg("--image").arg(map).done().code(2);
        says(&done, &[text]);
        assert!(done.log().is_empty() && done.out.is_empty(), "{done:#?}");
    }
}

fn a_bad_config_file() {
    let run = Run::of(&[pod("good", "Never", vec![], vec![c("app", "say started")])]);
    let done = run.with_file("holdfast.yaml", "images:\n  a: host\n  b: [1]\n").done().code(2);
    says(&done, &["holdfast.yaml:3:6"]);
    assert!(done.log().is_empty() && done.out.is_empty(), "{done:#?}");
}

fn an_unusable_state_directory() {
    let good = pod("good", "Never", vec![], vec![c("app", "say started")]);
    let run = Run::of(&[good]).with_file("file", "");
    let below_a_file = run.path("file/state");
    let done = run.state_dir(&below_a_file).done().code(2);
    says(&done, &["--state-dir"]);
}
