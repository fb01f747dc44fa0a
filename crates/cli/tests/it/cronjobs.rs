//! The four CronJobs of the public sidecar-container-example: the rows are those that kubectl printed
//! for them on a kubelet 1.35.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::harness::{is_root, skip};
use crate::run::{Done, Run, program};

crate::tests! {
    side_by_side,
    plain_init_container,
    sidecar,
    sidecar_that_ignores_sigterm,
    sidecar_with_startup_probe,
    published_side_by_side,
    published_sidecar,
}

/// All of them use port 8081: each run gets a network of its own, or, without root, its turn.
fn own_port() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if !is_root() {
        return Some(TURN.lock().unwrap_or_else(PoisonError::into_inner));
    }
    // Of this thread, and of what it starts.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    reactor.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        let connection = tokio::spawn(connection);
        let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
        handle.link().set(up).execute().await.unwrap();
        connection.abort();
    });
    None
}

fn run(file: &Path) -> Run {
    with_images(Run::file(file))
}

fn with_images(run: Run) -> Run {
    let image = |name: &str, source: &str| format!("zwindler/{name}={}", program(source).display());
    run.arg("--image")
        .arg(&image("slow-sidecar", "slow_sidecar"))
        .arg("--image")
        .arg(&image("sidecar-user", "sidecar_user"))
}

fn example_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cronjobs").join(name)
}

fn example(name: &str) -> Run {
    run(&example_file(name))
}

/// A manifest as its authors published it: in `$HOLDFAST_CORPUS`, or kept beside the repository.
fn published(begin: &str) -> Option<Run> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let named = std::env::var_os("HOLDFAST_CORPUS").map(PathBuf::from);
    let folder = named.clone().unwrap_or_else(beside);
    let Ok(files) = std::fs::read_dir(&folder) else {
        assert_eq!(named, None, "HOLDFAST_CORPUS is not a directory");
        skip(&format!("there is no corpus of manifests at {}", folder.display()));
        return None;
    };
    let file = files.flatten().find(|f| f.file_name().to_string_lossy().starts_with(begin));
    Some(run(&file.unwrap().path()))
}

/// The rows before the pod is deleted.
fn rows(done: &Done) -> Vec<String> {
    let mut rows = settled(done, "sidecar-cronjob-");
    if let Some(at) = rows.iter().position(|row| row.ends_with(" Terminating")) {
        rows.truncate(at);
    }
    rows
}

/// The rows of pods that last: on a busy machine a program that only asks once is seen running.
fn settled(done: &Done, pod: &str) -> Vec<String> {
    let mut rows = done.rows(pod);
    rows.retain(|row| row != "2/2 Running");
    rows
}

fn fails_side_by_side(run: Run) {
    let _turn = own_port();
    let done = run.args("--timeout 2s").done().code(124);
    assert_eq!(rows(&done), ["0/2 Pending", "0/2 ContainerCreating", "1/2 Error"], "{done:#?}");
    assert!(done.said("the sidecar does not answer"), "{done:#?}");
    assert!(done.took < Duration::from_secs(5), "it stops at once: {:?}", done.took);
}

fn side_by_side() {
    fails_side_by_side(example("1-cronjob-without-sidecar-container.yaml"));
}

fn published_side_by_side() {
    if let Some(run) = published("001-") {
        fails_side_by_side(run);
    }
}

fn plain_init_container() {
    let _turn = own_port();
    // Long enough for the server to listen: that changes nothing.
    let done =
        example("2-cronjob-with-init-container.yaml").args("--timeout 5700ms").done().code(124);
    assert_eq!(rows(&done), ["0/1 Pending", "0/1 Init:0/1"], "{done:#?}");
    assert!(done.said("listening on port 8081"), "{done:#?}");
    assert!(!done.said("/sidecar-user]"), "{done:#?}");
}

fn fails_and_is_tried_again(run: Run) {
    let _turn = own_port();
    // The Job waits 10 s after the first failure.
    let live = run.args("--timeout 30s").start();
    let name = |row: &str| row.split_whitespace().next().unwrap().to_owned();
    let first = name(&live.row("0/2 Pending"));
    live.row("0/2 Error");
    let start = Instant::now();
    let another = name(&live.out_where("another pod", |line| {
        line.starts_with("sidecar-cronjob-") && !line.starts_with(&first)
    }));
    let waited = start.elapsed();
    // Not earlier: what PID 1 is told before it listens for signals, it never hears.
    live.out_where("the failure of another pod", |line| {
        line.starts_with(&another) && line.contains("1/2     Error")
    });
    live.signal(Signal::SIGINT);
    let done = live.done().code(130);
    assert!(
        Duration::from_millis(9500) < waited && waited < Duration::from_secs(11),
        "the second pod came after {waited:?}"
    );
    let expected = ["0/2 Pending", "0/2 Init:0/1", "1/2 PodInitializing", "1/2 Error", "0/2 Error"];
    assert_eq!(settled(&done, &first), expected, "{done:#?}");
    assert_eq!(settled(&done, &another)[..4], expected[..4], "{done:#?}");
}

fn sidecar() {
    fails_and_is_tried_again(example("3-cronjob-with-sidecar-container.yaml"));
}

fn published_sidecar() {
    if let Some(run) = published("003-") {
        fails_and_is_tried_again(run);
    }
}

/// The stand-ins that kubectl's rows were recorded with ran as PID 1 and had no handler.
fn sidecar_that_ignores_sigterm() {
    let _turn = own_port();
    let text =
        std::fs::read_to_string(example_file("3-cronjob-with-sidecar-container.yaml")).unwrap();
    let deaf = "zwindler/slow-sidecar\n              env: [{name: IGNORE_TERM, value: yes}]";
    let text = text.replace("zwindler/slow-sidecar", &deaf.replace("yes", "\"1\"")).replace(
        "restartPolicy: Never",
        "terminationGracePeriodSeconds: 1\n          restartPolicy: Never",
    );
    let run = with_images(Run::text("deaf.yaml", &text)).args("-o jsonl --timeout 4s");
    let done = run.done().code(124);
    let events = done.events();
    let failed = events.iter().find(|e| e["object"]["status"]["phase"] == "Failed").unwrap();
    let sidecar = &failed["object"]["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!((&sidecar["exitCode"], &sidecar["reason"]), (&137.into(), &"Error".into()));
    let job = events.iter().rfind(|e| e["object"]["kind"] == "Job").unwrap();
    assert_eq!(job["object"]["status"]["failed"], 1, "{job:#}");
    assert!(done.took > Duration::from_secs(4), "{:?}", done.took);
}

fn sidecar_with_startup_probe() {
    let _turn = own_port();
    let done = example("4-cronjob-with-sidecar-container-and-startup-probe.yaml").done().code(0);
    let expected =
        ["0/2 Pending", "0/2 Init:0/1", "1/2 PodInitializing", "1/2 Completed", "0/2 Completed"];
    assert_eq!(rows(&done), expected, "{done:#?}");
    assert!(done.said("the sidecar says hello"), "{done:#?}");
}
