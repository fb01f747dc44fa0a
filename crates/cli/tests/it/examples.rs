//! Every manifest of `examples/` does what its comment says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::run::{HOLDFAST, Run};

crate::tests! {
    order,
    sidecar_stop_order,
    retry,
    a_rack_in_order,
    a_rack_when_the_order_is_lost,
    a_rack_that_is_rendered,
    job_indexed,
    deployment,
    config,
    docker_restart,
    side_by_side,
    screens_of_explain,
    no_example_is_forgotten,
}

/// The examples that have a test here; those in `cronjobs` are in the module of that name.
const TESTED: &[&str] = &[
    "config.yaml",
    "deployment.yaml",
    "init-order-lost.yaml",
    "job-indexed.yaml",
    "order.yaml",
    "rack-render.yaml",
    "rack-sed.yaml",
    "retry.yaml",
    "side-by-side.yaml",
    "sidecar-stop-order.yaml",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn example(name: &str) -> Run {
    assert!(TESTED.contains(&name));
    Run::file(&folder().join(name))
}

fn no_example_is_forgotten() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    assert_eq!(files, TESTED);
}

/// Its program is no real one; `explain` says what would become of it.
fn side_by_side() {
    let path = folder().join("side-by-side.yaml");
    let explain = |more: &[&str]| {
        let output = Command::new(HOLDFAST).arg("explain").arg(&path).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = explain(&[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("nothing orders manager and netclient"), "{said}");
    assert!(said.contains("from 105 s"), "{said}");
    // No colours in a pipe.
    assert!(!said.contains('\u{1b}'), "{said}");
    let (code, said) = explain(&["--assume", "nobody.ready=5s"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    let (code, said) = explain(&["--fault", "kill:nobody@5s"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    let (code, said) = explain(&["-o", "json", "--fault", "kill:manager@5s"]);
    let all: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(0));
    let marks = &all["workloads"][0]["earliest"]["timeline"]["marks"];
    let killed = |m: &serde_json::Value| m["exitCode"] == 137 && m["at"] == 5.0;
    assert!(marks.as_array().unwrap().iter().any(killed), "{marks:#}");
}

/// The container output on stderr, without the prefix of the pod.
fn lines(done: &crate::run::Done) -> Vec<String> {
    let line = |l: &String| Some(l.strip_prefix('[')?.split_once('/')?.1.replacen(']', ":", 1));
    done.err.iter().filter_map(line).collect()
}

/// The first command of the README, whose screen is what comes out.
fn order() {
    let done = example("order.yaml").done().code(0);
    let expected = [
        "migrate: creating tables",
        "tunnel: connecting",
        "tunnel: connected",
        "app: tables ok, tunnel up",
        "app: done",
        "tunnel: closing the tunnel",
    ];
    assert_eq!(lines(&done), expected, "{done:#?}");
    assert!(done.took < Duration::from_secs(6), "{:?}", done.took);

    let readme = std::fs::read_to_string(folder().join("../README.md")).unwrap();
    let screen: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.ends_with("run examples/order.yaml"))
        .take_while(|line| *line != "```")
        .collect();
    assert!(!screen.is_empty(), "the README does not begin with this example");
    let cells = |line: &&str| line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = screen.iter().filter(|l| l.starts_with("shop ")).map(cells).collect();
    assert_eq!(done.rows("shop"), rows, "the README shows other rows");
    for line in screen.iter().filter(|l| l.starts_with("[shop/")) {
        assert!(done.err.iter().any(|l| l == line), "only in the README: {line}");
    }
}

fn sidecar_stop_order() {
    let done = example("sidecar-stop-order.yaml").done().code(0);
    let lines = lines(&done);
    let stops = ["app: last request served", "mesh: stopped", "logs: stopped", "secrets: stopped"];
    assert_eq!(lines[lines.len() - 4..], stops, "{done:#?}");
    assert_eq!(done.rows("stop-order").last().unwrap(), "0/4 Completed");
}

fn retry() {
    let done = example("retry.yaml").args("--timeout 2s").done().code(124);
    let rows = done.rows("retry");
    assert!(rows.contains(&"0/1 Init:CrashLoopBackOff".to_owned()), "{rows:?}");
    assert_eq!(lines(&done).len(), 2, "{done:#?}");
}

/// Given its time, it succeeds.
fn docker_restart() {
    let plain = example("init-order-lost.yaml").done().code(0);
    assert_eq!(
        lines(&plain),
        ["prepare: preparing", "prepare: prepared", "app: found what was prepared"]
    );
    let broken =
        example("init-order-lost.yaml").args("--fault daemon-restart@1500ms").done().code(1);
    assert!(lines(&broken).contains(&"app: nothing is prepared!".to_owned()), "{broken:#?}");
}

/// What the database reads, of the pods of `docs/init-containers.md`.
fn rack(name: &str, args: &str) -> Vec<String> {
    let image = format!("holdfast={}", crate::run::HOLDFAST);
    let done = example(name).args("--image").arg(&image).args(args).done().code(0);
    let lines = done.err.iter().filter_map(|line| line.strip_prefix("[cassandra/cassandra] "));
    lines.map(str::to_owned).collect()
}

fn a_rack_in_order() {
    assert_eq!(rack("rack-sed.yaml", ""), ["rack=r7"; 3]);
}

fn a_rack_when_the_order_is_lost() {
    let read = rack("rack-sed.yaml", "--fault daemon-restart@2500ms");
    assert!(read.contains(&"rack=RACK".to_owned()), "{read:?}");
}

fn a_rack_that_is_rendered() {
    let read = rack("rack-render.yaml", "--fault daemon-restart@2500ms");
    assert!(read.len() > 3 && read.iter().all(|line| line == "rack=r7"), "{read:?}");
}

fn job_indexed() {
    let done = example("job-indexed.yaml").done().code(0);
    let mut lines = lines(&done);
    lines.sort();
    assert_eq!(
        lines,
        ["worker: part 0 of 3", "worker: part 1 of 3", "worker: part 2 of 3"],
        "{done:#?}"
    );
}

fn deployment() {
    let done = example("deployment.yaml").args("--for condition=Ready").done().code(0);
    let ready = done.out.iter().filter(|l| l.contains("1/1     Running"));
    assert!(ready.count() >= 2, "{done:#?}");
}

fn config() {
    let done = example("config.yaml").done().code(0);
    let expected = [
        "app: hello from config on port 8080",
        "app: greeting file: good morning",
        "app: token has 6 letters",
    ];
    assert_eq!(lines(&done), expected, "{done:#?}");
}

/// The screens of docs/explain.md (`cargo xtask pictures` makes them again).
fn screens_of_explain() {
    let root = folder().join("..");
    let page = std::fs::read_to_string(root.join("docs/explain.md")).unwrap();
    let mut count = 0;
    for block in page.split("```console\n$ holdfast explain ").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        let (args, screen) = block.split_once('\n').unwrap();
        let mut command = Command::new(HOLDFAST);
        let output =
            command.current_dir(&root).arg("explain").args(args.split(' ')).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), screen, "explain {args}");
        count += 1;
    }
    assert_eq!(count, 6);
}
