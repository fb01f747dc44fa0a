//! `--runtime cri` with a real containerd.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::containerd::{self, Setup};
use crate::objects::{With, c, pod, server, sidecar};
use crate::run::Run;

/// Tests of the process runtime that hold for a CRI runtime as they are.
pub const AS_WITH_PROCESSES: &[&str] = &[
    "config::a_claim_is_kept_between_runs",
    "config::a_missing_config_map_is_waited_for_as_in_kubernetes",
    "config::a_stale_sub_path_outlives_a_restart",
    "config::a_sub_path_keeps_its_inode_until_the_container_restarts",
    "config::an_empty_directory_over_its_limit_evicts_the_pod",
    "config::empty_directories_are_shared_and_go_with_the_pod",
    "config::environment",
    "config::host_names",
    "config::host_paths",
    "config::memory_volumes",
    "config::projected_and_downward_volumes",
    "config::volumes_of_config_maps_and_secrets",
    "config::working_directories_and_arguments",
    "ending::a_crash_loop_backs_off",
    "ending::a_failed_job_is_exit_code_one",
    "ending::a_failed_pod_is_exit_code_one",
    "ending::a_failed_post_start_hook_restarts_the_container",
    "ending::a_hook_uses_up_the_grace_period",
    "ending::a_job_succeeds_after_a_retry",
    "ending::a_second_sigint_kills",
    "ending::a_timeout_stops_everything",
    "ending::an_active_deadline_stops_the_pod",
    "ending::an_oom_kill_says_so",
    "ending::apps_wait_for_the_post_start_hook_of_the_one_before",
    "ending::for_complete",
    "ending::for_ready",
    "ending::for_ready_waits_for_the_readiness_probe",
    "ending::pre_stop_runs_before_sigterm",
    "ending::sigint_stops_in_the_termination_order",
    "ending::sigterm_and_sighup_stop_too",
    "ending::the_grace_period_ends_with_sigkill",
    "inits::a_failed_init_is_retried",
    "inits::a_lost_sandbox_runs_them_again",
    "inits::a_policy_of_its_own_wins",
    "inits::an_app_that_restarts_does_not_run_them_again",
    "inits::inits_run_one_by_one_to_completion_before_any_container",
    "inits::never_fails_the_pod",
    "inits::on_failure_retries_too",
    "isolation::a_shared_process_namespace",
    "isolation::capabilities_and_read_only_roots",
    "isolation::run_as_non_root_is_checked",
    "isolation::users_and_groups",
    "output::a_closed_stdout_does_not_break_the_run",
    "output::a_timeline_explains_every_start",
    "output::container_output_has_a_prefix",
    "output::final_objects",
    "output::rows_of_a_pod",
    "output::termination_messages",
    "output::watch_events",
    "output::watch_events_while_stopping",
    "sidecars::a_failing_startup_probe_restarts_it_for_ever",
    "sidecars::a_killed_sidecar_comes_back",
    "sidecars::a_liveness_probe_restarts_it_alone",
    "sidecars::a_post_start_hook_gates_what_follows",
    "sidecars::a_startup_probe_gates_what_follows",
    "sidecars::exit_codes_do_not_count",
    "sidecars::restarted_whatever_the_policy",
    "sidecars::stopped_last_and_in_reverse_order",
    "sidecars::without_probe_or_hook_the_process_is_enough",
];

crate::tests! {
    ;
    root: containers_outlive_containerd,
    containers_outlive_the_latest_containerd,
    ends_are_seen_without_pidfds,
    a_killed_run_is_removed_by_the_next,
    a_network_that_fails,
}

/// containerd is killed and comes back: nobody is restarted, and what happens meanwhile is not lost.
fn containers_outlive_containerd() {
    outlive(Setup::default());
}

fn containers_outlive_the_latest_containerd() {
    outlive(Setup { latest: true, ..Setup::default() });
}

fn outlive(setup: Setup) {
    let containerd = containerd::own(setup);
    let short = c("short", "say short; until test -e /log/go; do sleep 0.05; done; exit 3");
    let p = pod("web", "OnFailure", vec![sidecar("s")], vec![server("app"), short]);
    let live = Run::of(&[p]).args("-o jsonl").start();
    let ready = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["object"]["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    live.out_where("Ready", ready);
    containerd.kill();
    // It ends while nobody looks after it.
    std::fs::write(live.dir.path().join("log/go"), "").unwrap();
    live.err("the container runtime is gone");
    containerd.restart();
    live.err("the container runtime is back");
    // Its exit code came through: a second run of it alone.
    live.out_where("a restart", |line| {
        line.contains(r#""restartCount":1"#) && line.contains("\"exitCode\":3")
    });
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    let log = done.log();
    let count = |word: &str| log.iter().filter(|line| *line == word).count();
    assert_eq!((count("s up"), count("app up")), (1, 1), "{done:#?}");
    assert_eq!((count("s down"), count("app down")), (1, 1), "{done:#?}");
    assert_eq!(containerd.containers(), Vec::<String>::new());
}

/// A runtime in another process namespace: ends come by its events, or by lists where it has none.
fn ends_are_seen_without_pidfds() {
    for latest in [false, true] {
        let containerd = containerd::own(Setup { latest, ..Setup::default() });
        let inits = ["a", "b", "c", "d"].map(|name| c(name, "say $NAME"));
        let p = pod("web", "Never", inits.into(), vec![c("app", "say app")]);
        let done = Run::of(&[p])
            .under(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .done()
            .code(0);
        assert_eq!(done.log(), ["a", "b", "c", "d", "app"], "{done:#?}");
        // Each of the five ends is looked for every 10 s in any case.
        assert!(done.took < Duration::from_secs(40), "{:?}", done.took);
        assert_eq!(containerd.containers(), Vec::<String>::new());
    }
}

fn a_killed_run_is_removed_by_the_next() {
    let containerd = containerd::own(Setup::default());
    let memory = json!({ "volumes": [{ "name": "m", "emptyDir": { "medium": "Memory" } }] });
    let app = server("app").with(json!({
        "volumeMounts": [
            { "name": "m", "mountPath": "/m" },
            { "name": "m", "mountPath": "/part", "subPath": "part" },
        ],
    }));
    let live = Run::of(&[pod("first", "Always", vec![], vec![app]).spec(memory)]).start();
    live.row("1/1 Running");
    let beside = Run::of(&[pod("beside", "Always", vec![], vec![server("app")])]).start();
    beside.row("1/1 Running");
    assert_eq!(containerd.containers().len(), 4, "two sandboxes, two containers");
    live.signal(Signal::SIGKILL);
    let state = live.dir.path().join("state");
    let killed = live.done().code(-9);
    let mounts = || containerd.run_inside("cat", &["/proc/mounts"]);
    let of_killed = |line: &&str| line.contains("/run/holdfast-cri") && line.contains("/memory/");
    assert_eq!(mounts().lines().filter(of_killed).count(), 1, "{}", mounts());
    assert_eq!(containerd.containers().len(), 4, "they are containerd's, and go on");
    let next = Run::of(&[pod("next", "Never", vec![], vec![c("app", "say app")])])
        .state_dir(&state)
        .done()
        .code(0);
    assert_eq!(next.log(), ["app"], "{next:#?}");
    assert_eq!(mounts().lines().filter(of_killed).count(), 0, "{}", mounts());
    // What a run has that lives is not touched.
    assert_eq!(containerd.containers().len(), 2);
    let volumes = std::fs::read_dir(state.join("pods")).unwrap().flatten();
    let left: Vec<_> = volumes.map(|v| v.file_name()).filter(|v| v != ".lock").collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(killed.log(), ["app up"], "killed, as nobody knows how long it may take");
    beside.signal(Signal::SIGINT);
    assert_eq!(beside.done().code(130).log(), ["app up", "app down"]);
    assert_eq!(containerd.containers(), Vec::<String>::new());
}

/// A CNI plugin fails: said in its words, tried again, and it leaves nothing.
fn a_network_that_fails() {
    let containerd = containerd::own(Setup { broken_network: true, ..Setup::default() });
    let web = pod("web", "Always", vec![], vec![server("app")]);
    let host = pod("host", "Never", vec![], vec![c("host", "say host")])
        .spec(json!({ "hostNetwork": true }));
    let live = Run::of(&[web, host]).start();
    let said = live.err("pod/web: FailedCreatePodSandBox");
    let words = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup \
                 network for sandbox";
    assert!(said.contains(words) && said.contains("no network today"), "{said}");
    // A pod that needs no network goes its way.
    live.out("Completed");
    live.err("pod/web: FailedCreatePodSandBox");
    std::fs::remove_file(containerd.dir.path().join("broken")).unwrap();
    live.out_where("web Running", |row| row.starts_with("web") && row.contains("Running"));
    live.signal(Signal::SIGTERM);
    let done = live.done().code(130);
    assert_eq!(done.log(), ["host", "app up", "app down"], "{done:#?}");
    assert_eq!(containerd.containers(), Vec::<String>::new(), "{done:#?}");
    let namespaces = containerd.run_inside("ip", &["netns"]);
    assert_eq!(namespaces.lines().count(), 0, "{namespaces}");
}
