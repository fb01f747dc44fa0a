//! `holdfast doctor` on this machine, and on one that lacks something.

use std::process::Command;

use crate::HOLDFAST;

/// The findings, and the exit code.
fn doctor(wrapper: &[&str], purpose: &str) -> (Vec<serde_json::Value>, i32) {
    let words = [wrapper, &[HOLDFAST, "doctor", "-o", "json", "--for", purpose]].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    (found, output.status.code().unwrap())
}

fn level<'a>(found: &'a [serde_json::Value], what: &str) -> &'a str {
    let finding = found.iter().find(|f| f["what"] == what).unwrap();
    assert_eq!(finding["advice"].is_null(), finding["level"] == "good", "{finding}");
    finding["level"].as_str().unwrap()
}

#[test]
fn each_purpose_includes_those_before_it_and_the_exit_code_says_whether_all_is_there() {
    let mut before = 0;
    for purpose in ["pods", "mesh", "kubernetes"] {
        let (found, code) = doctor(&[], purpose);
        assert!(found.len() > before);
        before = found.len();
        assert_eq!(code == 1, found.iter().any(|f| f["level"] == "missing"), "{found:#?}");
    }
    let output = Command::new(HOLDFAST).args(["doctor", "--for", "pods"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("ok ") && text.contains("/proc") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn what_is_taken_away_is_missed() {
    if !crate::pid1::is_root("what_is_taken_away_is_missed") {
        return;
    }
    // A network of its own has no ports taken and no routes; a /dev of its own has nothing.
    let bare = [
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev && exec \"$@\"",
        "sh",
    ];
    let (found, code) = doctor(&bare, "kubernetes");
    assert_eq!((level(&found, "/dev/kmsg"), code), ("missing", 1));
    assert_eq!((level(&found, "API server port"), level(&found, "gossip port")), ("good", "good"));
    let kernel = std::path::Path::new("/sys/module/wireguard").exists();
    assert_eq!(level(&found, "WireGuard"), if kernel { "good" } else { "missing" });

    let taken = "ip link set lo up; ip addr add 10.42.7.1/24 dev lo; socat tcp-listen:6443,fork /dev/null & \
                 while ! ss -ltn | grep -q :6443; do sleep 0.05; done; \"$@\"; code=$?; kill $!; exit $code";
    let (found, code) = doctor(&["unshare", "--net", "sh", "-c", taken, "sh"], "kubernetes");
    assert_eq!((level(&found, "API server port"), code), ("missing", 1));
    assert_eq!(level(&found, "kubelet port"), "good");
}
