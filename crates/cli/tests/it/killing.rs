//! `kill -9` of the whole program at random instants leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::objects::{With, c, pod};
use crate::run::Run;

crate::tests! {
    nothing_is_left_of_plain_processes;
    root:
    nothing_is_left,
    nothing_is_left_of_pod_networks,
    the_next_run_removes_run_directories,
}

const TIMES: u32 = 60;
const AT_ONCE: u32 = 4;

static MARK: AtomicU64 = AtomicU64::new(1);

/// A word that is in the arguments of every process of a run.
fn mark() -> String {
    let number = MARK.fetch_add(1, Ordering::Relaxed);
    format!("3600.{}{number:04}", std::process::id())
}

/// A pod with everything: init containers, sidecars, volumes, processes that left their session.
fn busy(mark: &str) -> Value {
    let work = format!("(setsid sleep {mark} &); sleep {mark} & sleep {mark} & wait");
    let mount = json!({ "volumeMounts": [{ "name": "e", "mountPath": "/e" }, { "name": "m", "mountPath": "/m" }] });
    let sidecar =
        |name| c(name, &work).with(json!({ "restartPolicy": "Always" })).with(mount.clone());
    let inits = vec![
        c("i1", &format!(": {mark}; echo x > /e/x; cat /m/COLOUR")).with(mount.clone()),
        sidecar("s1"),
        c("i2", &format!("sleep 0.05; : {mark}")),
        sidecar("s2").with(json!({ "lifecycle": { "postStart": { "exec": { "command": ["sh", "-c", format!("sleep 0.02; : {mark}")] } } } })),
    ];
    let app = c("app", &work).with(mount.clone()).with(json!({
        "readinessProbe": { "exec": { "command": ["sh", "-c", format!("sleep 0.2; : {mark}")] }, "periodSeconds": 1 },
    }));
    pod("busy", "Always", inits, vec![app, c("b", &work)]).spec(json!({
        "volumes": [
            { "name": "e", "emptyDir": {} },
            { "name": "m", "configMap": { "name": "settings" } },
        ],
    }))
}

fn run(mark: &str, isolation: &str) -> Run {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" },
        "data": { "COLOUR": "green" },
    });
    let mut pod = busy(mark);
    if isolation == "none" {
        // Nothing can be mounted there.
        for list in ["initContainers", "containers"] {
            for container in pod["spec"][list].as_array_mut().unwrap() {
                container["volumeMounts"] = json!([]);
                let script = container["command"][2].as_str().unwrap().replace("/e/x", "/dev/null");
                container["command"][2] = json!(script.replace("cat /m/COLOUR", ":"));
            }
        }
        pod["spec"]["volumes"] = json!([]);
    }
    Run::of(&[map, pod]).args(&format!("--isolation {isolation}"))
}

/// Processes with the mark in their arguments.
fn processes(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(mark) {
            found.push(format!("{pid}: {line}"));
        }
    }
    found
}

/// Waits until nothing is found any more: the kernel kills the members of a namespace on its own time.
fn gone(what: &str, find: impl Fn() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let found = find();
        if found.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{what} left behind: {found:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn mounts(word: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

fn many(isolation: &str, times: u32) {
    let whole = time_to_start(isolation).max(Duration::from_millis(300)) * 2;
    let counter = AtomicU32::new(0);
    let busy_ones = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let i = counter.fetch_add(1, Ordering::Relaxed);
                    if i >= times {
                        return;
                    }
                    // Instants over the whole of the start, and some of the time after it.
                    let delay = whole * (i * 7919 % 600) / 600;
                    if once(isolation, delay) {
                        busy_ones.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let busy_ones = busy_ones.into_inner();
    assert!(busy_ones > times / 4, "only {busy_ones} of {times} had processes to leave behind");
}

/// How long it takes until the last container of the run is there.
fn time_to_start(isolation: &str) -> Duration {
    let mark = mark();
    let run = run(&mark, isolation);
    let mut command = run.command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    // Two sidecars and two containers, with three processes each that are called so.
    let sleeping = || processes(&mark).iter().filter(|p| p.contains(": sleep ")).count();
    while sleeping() < 12 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = start.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    gone("processes", || processes(&mark));
    took
}

/// Starts a run, kills it after a while; whether it had containers by then.
fn once(isolation: &str, delay: Duration) -> bool {
    let mark = mark();
    let run = run(&mark, isolation);
    let mut command = run.command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let was_busy = !processes(&mark).is_empty();
    let state = run.path("state");
    // The host's end of the pods' network is named after the run.
    let interface = run_dir(&state).map(|d| format!("hf-{}", d.file_name().unwrap().display()));
    child.kill().unwrap();
    child.wait().unwrap();
    gone("processes", || processes(&mark));
    // Its launcher, too.
    gone("processes of the program", || processes(state.to_str().unwrap()));
    let dir = run.dir.path().to_str().unwrap().to_owned();
    gone("mounts", || mounts(&dir));
    if let Some(interface) = interface {
        let path = Path::new("/sys/class/net").join(&interface);
        gone("network interfaces", || {
            path.exists().then(|| interface.clone()).into_iter().collect()
        });
    }
    was_busy
}

fn nothing_is_left() {
    many("namespaces", TIMES);
}

fn nothing_is_left_of_plain_processes() {
    many("none", TIMES / 3);
}

fn nothing_is_left_of_pod_networks() {
    many("namespaces --network pod", TIMES / 3);
}

/// The run directory of the run with this state directory: its launcher holds a lock there.
fn run_dir(state: &Path) -> Option<PathBuf> {
    for process in processes(state.to_str().unwrap()) {
        let (pid, _) = process.split_once(':').unwrap();
        for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(path) = std::fs::read_link(fd.path()) else { continue };
            if path.starts_with("/run/holdfast") && path.ends_with("lock") {
                return path.parent().map(Path::to_owned);
            }
        }
    }
    None
}

fn the_next_run_removes_run_directories() {
    let mark = mark();
    let first = run(&mark, "namespaces");
    let state = first.path("state");
    let mut command = first.command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while processes(&mark).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    let dir = run_dir(&state).expect("a run directory");
    let cgroup = std::fs::read_to_string(dir.join("cgroup")).ok().map(PathBuf::from);
    child.kill().unwrap();
    child.wait().unwrap();
    gone("processes", || processes(&mark));
    let pods = || {
        let entries = std::fs::read_dir(state.join("pods")).into_iter().flatten().flatten();
        let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".lock").collect::<Vec<_>>()
    };
    assert_eq!(pods().len(), 1, "this test looks in the wrong place");
    let next = Run::of(&[pod("next", "Never", vec![], vec![c("app", "say app")])]);
    next.state_dir(&state).done().code(0);
    assert!(pods().is_empty(), "volumes left behind: {:?}", pods());
    assert!(!dir.exists(), "{} left behind", dir.display());
    if let Some(cgroup) = cgroup {
        assert!(!cgroup.exists(), "{} left behind", cgroup.display());
    }
}
