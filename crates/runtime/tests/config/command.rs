//! What runs: command, args, directory, limits, signals.

use std::path::PathBuf;

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{Limits, RootFs, StartError};
use serde_json::json;

use super::Bench;

#[test]
fn command_and_args_against_the_image() {
    let bench = Bench::new();
    for (container, argv) in [
        (json!({}), vec!["/entry", "cmd"]),
        (json!({"args": ["a"]}), vec!["/entry", "a"]),
        (json!({"command": ["/c"]}), vec!["/c"]),
        (json!({"command": ["/c"], "args": ["a", "b"]}), vec!["/c", "a", "b"]),
    ] {
        assert_eq!(bench.config(container.clone()).argv, argv, "{container}");
    }
}

#[test]
fn references_are_expanded_with_the_pods_variables_only() {
    let bench = Bench::new();
    let argv = bench
        .config(json!({
            "env": [{"name": "WHO", "value": "you"}],
            "command": ["echo", "$(WHO)", "$$(WHO)", "$(FROM)", "$(HOSTNAME)"],
        }))
        .argv;
    // As in Kubernetes, the image's variables are not known to the kubelet.
    assert_eq!(argv, ["echo", "you", "$(WHO)", "$(FROM)", "$(HOSTNAME)"]);
}

#[test]
fn nothing_to_run_is_an_error_of_the_runtime() {
    let mut bench = Bench::new();
    bench.image.config.entrypoint.clear();
    bench.image.config.cmd.clear();
    let error = StartError::from(bench.error(json!({})));
    assert_eq!(error.stage, StartStage::Create);
    assert!(error.message.starts_with("no command specified: the image has no"), "{error}");
    bench.image.root = RootFs::Host;
    let error = bench.error(json!({})).to_string();
    assert!(error.contains("the container needs a command"), "{error}");
    assert_eq!(bench.config(json!({"args": ["/bin/true"]})).argv, ["/bin/true"]);
}

#[test]
fn directory_limits_and_identity() {
    let mut bench = Bench::new();
    assert_eq!(bench.config(json!({})).cwd, None);
    bench.image.config.working_dir = Some("/srv".into());
    assert_eq!(bench.config(json!({})).cwd, Some(PathBuf::from("/srv")));
    let config = bench.config(json!({
        "workingDir": "/own",
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "0.2"}},
    }));
    assert_eq!(config.cwd, Some(PathBuf::from("/own")));
    let limits = Limits {
        memory: Some(64 << 20),
        cpu_milli: Some(1500),
        cpu_request_milli: Some(200),
        oom_score: 999,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.instance, InstanceId(7));
    assert_eq!((&*config.pod, config.name.as_str(), config.restart_count), ("uid-1", "main", 2));
    let config = bench.config(json!({"resources": {"limits": {"cpu": 2}}}));
    assert_eq!(config.limits.cpu_request_milli, Some(2000), "a request defaults to the limit");
    let none = Limits { oom_score: 1000, ..Limits::default() };
    assert_eq!(bench.config(json!({})).limits, none);
}

#[test]
fn stop_signals_and_termination_messages() {
    let mut bench = Bench::new();
    assert_eq!(bench.config(json!({})).stop_signal, 15);
    bench.image.config.stop_signal = Some("SIGQUIT".into());
    assert_eq!(bench.config(json!({})).stop_signal, 3);
    let container = json!({"lifecycle": {"stopSignal": "SIGUSR1"}});
    assert_eq!(bench.config(container).stop_signal, 10);
    bench.image.config.stop_signal = Some("SIGWHAT".into());
    assert_eq!(bench.error(json!({})).to_string(), "invalid stop signal \"SIGWHAT\"");
    bench.image.config.stop_signal = None;
    let config = bench.config(json!({}));
    assert_eq!(config.termination_message_path, "/dev/termination-log");
    assert!(!config.termination_message_from_logs);
    let config = bench.config(json!({
        "terminationMessagePath": "/t", "terminationMessagePolicy": "FallbackToLogsOnError",
    }));
    assert_eq!(config.termination_message_path, "/t");
    assert!(config.termination_message_from_logs);
}
