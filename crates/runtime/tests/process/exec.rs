//! Commands inside a running container.

use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{ExecOutcome, Runtime};

use crate::harness::{sh, with_pod};

crate::tests! {
    root:
        it_runs_inside_with_the_containers_identity,
        its_exit_code_and_output_come_back,
        a_missing_command_is_an_error,
        on_timeout_the_whole_group_is_killed,
        a_dropped_call_kills_the_command,
        a_background_child_does_not_hold_it_up,
        not_in_what_does_not_run;
    any:
}

fn text(outcome: ExecOutcome) -> (i32, String) {
    match outcome {
        ExecOutcome::Ended { code, output } => (code, String::from_utf8(output).unwrap()),
        ExecOutcome::TimedOut => panic!("timed out"),
    }
}

fn it_runs_inside_with_the_containers_identity() {
    with_pod(async |world| {
        let mut config = sh(1, "echo mine > /tmp/hf-exec-test; echo up; exec sleep 1000");
        config.env.push(("A".to_owned(), "b".to_owned()));
        config.cwd = Some("/var".into());
        config.user.uid = Some(1234);
        config.user.gid = Some(2345);
        config.user.groups = vec![3456];
        world.start(config).await.unwrap();
        world.line("up").await;
        let script = "cat /tmp/hf-exec-test; hostname; pwd; echo $A; id -u; id -G; cat /proc/1/comm; \
                      grep -c . /proc/self/cgroup; grep CapEff /proc/self/status";
        let (code, output) = text(world.exec(1, script).await);
        let mut lines = output.lines();
        let head: Vec<_> = lines.by_ref().take(7).collect();
        assert_eq!(head, ["mine", "web", "/var", "b", "1234", "2345 3456", "sleep"]);
        assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
        assert_eq!(code, 0);
        assert!(!std::path::Path::new("/tmp/hf-exec-test").exists());
    });
}

fn its_exit_code_and_output_come_back() {
    with_pod(async |world| {
        world.start(sh(1, "exec sleep 1000")).await.unwrap();
        assert_eq!(
            text(world.exec(1, "echo a; echo b >&2; exit 5").await),
            (5, "a\nb\n".to_owned())
        );
        let (code, output) = text(world.exec(1, "yes | head -c 100000; exit 1").await);
        assert_eq!((code, output.len()), (1, 10 * 1024));
        assert_eq!(text(world.exec(1, "kill -9 $$").await).0, 137);
        // Many at once.
        let both = tokio::join!(world.exec(1, "sleep 0.1; echo 1"), world.exec(1, "echo 2"));
        assert_eq!((text(both.0).1, text(both.1).1), ("1\n".to_owned(), "2\n".to_owned()));
    });
}

fn a_missing_command_is_an_error() {
    with_pod(async |world| {
        world.start(sh(1, "exec sleep 1000")).await.unwrap();
        let error =
            world.runtime.exec(InstanceId(1), &["nope".to_owned()], None).await.unwrap_err();
        assert_eq!(
            error,
            "OCI runtime exec failed: exec failed: unable to start container process: \
             exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(text(world.exec(1, "echo fine").await).1, "fine\n");
    });
}

fn on_timeout_the_whole_group_is_killed() {
    with_pod(async |world| {
        world.start(sh(1, "exec sleep 1000")).await.unwrap();
        let argv = ["sh", "-c", "sleep 777 & sleep 778"].map(str::to_owned);
        let start = Instant::now();
        let timeout = Some(Duration::from_millis(100));
        let outcome = world.runtime.exec(InstanceId(1), &argv, timeout).await.unwrap();
        assert_eq!(outcome, ExecOutcome::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(1));
        gone(world, "sleep 77").await;
    });
}

/// Waits until no process of container 1 has such a command line. The container's own PID 1 has to
/// reap first, so a zombie (with an empty command line) counts as gone.
async fn gone(world: &crate::harness::World, pattern: &str) {
    let script = format!("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o '{pattern}' | wc -l");
    for _ in 0..100 {
        // The pattern is in our own command line: once as argument of sh, once of grep.
        if text(world.exec(1, &script).await).1.trim() == "2" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pattern} still runs");
}

fn a_dropped_call_kills_the_command() {
    with_pod(async |world| {
        world.start(sh(1, "exec sleep 1000")).await.unwrap();
        let argv = ["sleep", "777"].map(str::to_owned);
        let call = world.runtime.exec(InstanceId(1), &argv, None);
        assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
        gone(world, "sleep 77").await;
    });
}

fn a_background_child_does_not_hold_it_up() {
    with_pod(async |world| {
        world.start(sh(1, "exec sleep 1000")).await.unwrap();
        let start = Instant::now();
        assert_eq!(text(world.exec(1, "sleep 999 & echo done").await).1, "done\n");
        assert!(start.elapsed() < Duration::from_secs(2));
        // As in Kubernetes, what a hook leaves behind lives on in the container …
        assert_ne!(text(world.exec(1, "grep -l 999 /proc/[0-9]*/cmdline | wc -l").await).1, "0\n");
        // … and ends with it.
        world.runtime.kill(InstanceId(1), false).await;
        assert_eq!(world.ended(1).await.code, 137);
    });
}

fn not_in_what_does_not_run() {
    with_pod(async |world| {
        let argv = ["true".to_owned()];
        assert!(world.runtime.exec(InstanceId(1), &argv, None).await.is_err());
        world.sh(1, "true").await;
        assert!(world.runtime.exec(InstanceId(1), &argv, None).await.is_err());
    });
}
