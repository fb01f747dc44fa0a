//! How findings look.

use holdfast_manifest::Style;

use super::{container_with, read};

#[test]
fn plain_findings() {
    let text = container_with(
        "    imagePullPolcy: Never\n    livenessProbe: {}\n    env:\n    - {name: A, value: on}\n",
    );
    let findings = read(text).unwrap_err();
    assert_eq!(
        format!("\n{}\n", findings.render(Style::Plain)),
        r#"
error: Pod/p: unknown field "spec.containers[0].imagePullPolcy"
 --> test.yaml:8:5
  |
8 |     imagePullPolcy: Never
  |     ^^^^^^^^^^^^^^
  |
  = help: did you mean "imagePullPolicy"?

error: Pod/p: spec.containers[0].livenessProbe: Required value: must specify a handler type
 --> test.yaml:9:5
  |
9 |     livenessProbe: {}
  |     ^^^^^^^^^^^^^

error: Pod/p: spec.containers[0].env[0].value: expected a string, found the boolean true
  --> test.yaml:11:24
   |
11 |     - {name: A, value: on}
   |                        ^^
   |
   = help: YAML reads this word as the boolean true; write it in quotes
"#
    );
}

#[test]
fn one_line_findings() {
    let findings = read(container_with("    imagee: x\n")).unwrap_err();
    assert_eq!(
        findings.to_string(),
        "test.yaml:8:5: error: Pod/p: unknown field \"spec.containers[0].imagee\" (did you mean \"image\"?)"
    );
    assert!(findings.render(Style::Colored).contains('\u{1b}'));
    assert!(!findings.render(Style::Plain).contains('\u{1b}'));
}
