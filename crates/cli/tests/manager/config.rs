//! What it is told and makes no sense ends it with exit code 2 before it does anything.

use super::process::command;

#[test]
fn bad_settings_end_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for (words, said) in [
        (
            &["WIREGUARD_RETRY_MAX_ATTEMPTS=ten"][..],
            "error: WIREGUARD_RETRY_MAX_ATTEMPTS=\"ten\": expected",
        ),
        (&["PROXY_MODE=open"], "error: PROXY_MODE=\"open\": expected auth or noauth"),
        (&["--leader-elect=maybe"], "error: --leader-elect=\"maybe\": expected true or false"),
        (&["--nope"], "error: flag \"--nope\": no such flag"),
    ] {
        let output = command(words, &dir).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.contains(said)), (Some(2), true), "{text}");
    }
    // What only turns out when it is tried is another code.
    let words = ["PROXY_MODE=auth", "--kubeconfig=/no/such/file", "--health-probe-bind-address=0"];
    let output = command(&words, &dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.contains("/no/such/file")), (Some(1), true), "{text}");
    assert!(!dir.path().join("status.json").exists());
}

/// The Netmaker operator's Deployment calls `/manager` with flags alone.
#[test]
fn called_manager_it_is_that_command() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("manager");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_holdfast"), &link).unwrap();
    let flags = ["--leader-elect", "--health-probe-bind-address=nowhere"];
    let output = std::process::Command::new(&link).args(flags).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = text.contains("error: --health-probe-bind-address=\"nowhere\"");
    assert_eq!((output.status.code(), said), (Some(2), true), "{text}");
}
