//! Output and probes of containers that a real containerd runs.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::containerd::{self, Setup};
use crate::objects::{With, c, pod, server, sidecar};
use crate::run::Run;

crate::tests! {
    ;
    root: output_of_every_shape,
    five_thousand_lines_a_second,
    a_long_log_is_begun_anew,
    an_exec_probe_that_never_returns,
    probes_go_to_the_pods_address,
    a_grpc_probe_goes_to_the_pods_address,
    a_terminal,
}

fn output_of_every_shape() {
    containerd::share().unwrap();
    // A line that containerd splits into parts, one to each stream in turn, and one without an end.
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo; \
                  echo out; sleep 0.1; echo err >&2; sleep 0.1; echo out; printf 'no end'";
    let mut app = c("app", script);
    app["volumeMounts"] = json!([]);
    let done = Run::of(&[pod("web", "Never", vec![], vec![app])]).done().code(0);
    let written = done.written("web", "app");
    // Holdfast itself passes lines on in pieces of 16 KiB.
    let long: usize = written.iter().filter(|line| line.starts_with('x')).map(|l| l.len()).sum();
    assert_eq!(long, 100_000);
    let rest: Vec<&str> = written.into_iter().filter(|line| !line.starts_with('x')).collect();
    assert_eq!(rest, ["", "out", "err", "out", "no end"]);
}

/// All of it comes, in order, and the end after it; others are not kept waiting.
fn five_thousand_lines_a_second() {
    containerd::share().unwrap();
    let loud =
        c("loud", "for s in 1 2 3; do seq $((s * 5000 - 4999)) $((s * 5000)); sleep 1; done");
    let quiet = c("quiet", "for s in 1 2 3 4 5 6; do say tick; sleep 0.5; done").with(json!({
        "readinessProbe": { "exec": { "command": ["true"] }, "periodSeconds": 1 },
    }));
    let live = Run::of(&[pod("web", "Never", vec![], vec![loud, quiet])]).start();
    live.err("[web/loud] 15000");
    let status = std::fs::read_to_string(format!("/proc/{}/status", live.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let done = live.done().code(0);
    let lines = done.written("web", "loud");
    assert_eq!(lines.len(), 15_000);
    assert!(lines.iter().zip(1..).all(|(line, number)| line.parse() == Ok(number)));
    assert_eq!(done.log().len(), 6);
    assert!(peak < 80 << 10, "{peak} KiB of memory");
}

fn a_long_log_is_begun_anew() {
    containerd::share().unwrap();
    // 12 MB, in lines that can be told from one another.
    let script = "line=$(head -c 990 /dev/zero | tr '\\0' x); \
                  seq 12000 | sed \"s/\\$/ $line/\"; say written; until test -e /log/go; do sleep 0.05; done";
    let live = Run::of(&[pod("web", "Never", vec![], vec![c("app", script)])]).start();
    live.err("[web/app] 12000 ");
    let pods = live.dir.path().join("state/pods");
    let size = || {
        let logs = std::fs::read_dir(&pods).unwrap().flatten().flat_map(|pod| {
            std::fs::read_dir(pod.path().join("logs/app")).into_iter().flatten().flatten()
        });
        logs.map(|log| log.metadata().map_or(0, |meta| meta.len())).sum::<u64>()
    };
    // The last of it may still be under way to another name.
    let begin = Instant::now();
    while size() > 10 << 20 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} bytes", size());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(live.dir.path().join("log/go"), "").unwrap();
    let done = live.done().code(0);
    let numbers: Vec<usize> = done
        .written("web", "app")
        .iter()
        .filter_map(|line| line.split_once(" x")?.0.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 12_000);
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected));
    assert!(!pods.read_dir().unwrap().flatten().any(|e| e.path().is_dir()), "the logs are gone");
}

/// The runtime ends the command; the probe has failed, in the kubelet's words.
fn an_exec_probe_that_never_returns() {
    let containerd = containerd::own(Setup::default());
    let app = server("app").with(json!({
        "livenessProbe": {
            "exec": { "command": ["sh", "-c", "trap '' TERM INT HUP; : never-returns; while :; do sleep 1; done"] },
            "timeoutSeconds": 1, "periodSeconds": 1, "failureThreshold": 1,
        },
    }));
    let live = Run::of(&[pod("web", "Always", vec![], vec![app, server("beside")])]).start();
    live.row("2/2 Running");
    let said = live.err("pod/web: Unhealthy: Liveness probe failed: command timed out:");
    assert!(said.ends_with(" timed out after 1s"), "{said}");
    live.out_where("a restart", |row| row.contains(" Running ") && row.contains(" 1 ("));
    live.signal(Signal::SIGTERM);
    let done = live.done().code(130);
    done.logged_in_order(&["app up", "app down", "app up"]);
    assert_eq!(done.log().iter().filter(|line| *line == "beside up").count(), 1);
    let left = containerd.run_inside("busybox", &["pgrep", "-f", "never-returns"]);
    assert_eq!(left, "", "a command of a probe lives on");
}

fn probes_go_to_the_pods_address() {
    containerd::share().unwrap();
    let web = c(
        "web",
        "trap 'exit 0' TERM; mkdir /www; echo ok > /www/healthy; \
                        httpd -p 8080 -h /www; sleep 1000 & wait",
    );
    let web = web.with(json!({
        "restartPolicy": "Always",
        "startupProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
        "readinessProbe": { "httpGet": { "path": "/healthy", "port": 8080 }, "periodSeconds": 1 },
    }));
    let app = server("app").with(json!({
        "readinessProbe": { "grpc": { "port": 5999 }, "periodSeconds": 1 },
        "ports": [{ "containerPort": 9999, "name": "none" }],
        "livenessProbe": { "httpGet": { "path": "/", "port": "none" }, "periodSeconds": 1, "failureThreshold": 90 },
    }));
    let live = Run::of(&[pod("web", "Always", vec![web], vec![app])]).args("-o jsonl").start();
    let event = live.out_where("an address", |line| line.contains(r#""podIP":"10.88."#));
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    let address = event["object"]["status"]["podIP"].as_str().unwrap().to_owned();
    // The sidecar is started and ready by tcp and http; nobody answers for the app.
    live.out_where("the sidecar", |line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let sidecar = &event["object"]["status"]["initContainerStatuses"][0];
        sidecar["started"] == true && sidecar["ready"] == true
    });
    let said = live.err("Unhealthy: Liveness probe failed: Get");
    let words = format!(
        "Get \"http://{address}:9999/\": dial tcp {address}:9999: connect: connection refused"
    );
    assert!(said.ends_with(&words), "{said}");
    let said = live.err("Unhealthy: Readiness probe failed: timeout: failed to connect service");
    assert!(said.contains(&format!("\"{address}:5999\"")), "{said}");
    live.signal(Signal::SIGTERM);
    live.done().code(130);
}

/// A server in the pod says that it is healthy, and then that it is not.
fn a_grpc_probe_goes_to_the_pods_address() {
    containerd::share().unwrap();
    let me = std::env::current_exe().unwrap();
    let mut app = c("app", "");
    app["command"] = json!(["/me", crate::ACTOR, "main", "app", "/log"]);
    app["args"] = json!(["grpc=5999", "readiness=ok,bad@4000", "term=0@0"]);
    app["readinessProbe"] = json!({
        "grpc": { "port": 5999, "service": "readiness" }, "periodSeconds": 1, "failureThreshold": 1,
    });
    app["volumeMounts"].as_array_mut().unwrap().push(json!({ "name": "me", "mountPath": "/me" }));
    let mut web = pod("web", "Always", vec![], vec![app]);
    let me = json!({ "name": "me", "hostPath": { "path": me, "type": "File" } });
    web["spec"]["volumes"].as_array_mut().unwrap().push(me);
    let live = Run::of(&[web]).start();
    live.row("1/1 Running");
    let said = live.err("Unhealthy: Readiness probe failed:");
    assert!(said.ends_with("service unhealthy (responded with \"NOT_SERVING\")"), "{said}");
    live.signal(Signal::SIGTERM);
    let rows = live.done().code(130).rows("web");
    assert!(rows.windows(2).any(|two| two == ["1/1 Running", "0/1 Running"]), "{rows:?}");
}

fn a_terminal() {
    containerd::share().unwrap();
    let app = c("app", "test -t 0 && test -t 1 && echo terminal")
        .with(json!({ "tty": true, "stdin": true }));
    let p = pod("web", "Never", vec![sidecar("s")], vec![app]);
    let done = Run::of(&[p]).done().code(0);
    assert_eq!(done.written("web", "app"), ["terminal"], "{done:#?}");
}
