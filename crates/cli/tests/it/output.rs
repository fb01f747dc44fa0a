//! What is printed: rows, watch events, final objects, timelines, container output.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::containerd;
use crate::objects::{With, c, job, pod, server, sidecar};
use crate::run::{Done, Run};

crate::tests! {
    rows_of_a_pod,
    a_live_table_on_a_terminal,
    container_output_has_a_prefix,
    watch_events,
    watch_events_while_stopping,
    final_objects,
    a_timeline_explains_every_start,
    a_timeline_that_cannot_be_written_is_an_error,
    a_timeline_goes_into_a_pipe,
    a_job_that_is_deleted_is_said_to_be,
    a_closed_stdout_does_not_break_the_run,
    a_closed_stderr_does_not_break_the_run,
    a_full_disk_behind_stderr_does_not_break_the_run,
    a_full_disk_behind_stdout_is_an_error,
    standard_input,
    termination_messages,
}

fn three() -> Value {
    let ready = c("proxy", "trap 'exit 0' TERM; sleep 0.2; : > /log/ready; sleep 1000 & wait").with(json!({
        "restartPolicy": "Always",
        "startupProbe": { "exec": { "command": ["test", "-e", "/log/ready"] }, "periodSeconds": 1 },
    }));
    let inits = vec![c("init", "echo from init"), ready];
    pod("three", "Never", inits, vec![c("app", "echo one; echo two >&2; sleep 0.3; exit 0")])
}

fn rows_of_a_pod() {
    let done = Run::of(&[three()]).done().code(0);
    assert_eq!(done.out[0], "NAME    READY   STATUS              RESTARTS   AGE");
    let expected = [
        "0/2 Pending",
        "0/2 Init:0/2",
        "0/2 Init:1/2",
        "1/2 PodInitializing",
        "2/2 Running",
        "1/2 Completed",
        "0/2 Completed",
    ];
    assert_eq!(done.rows("three"), expected);
    for line in &done.out {
        assert_eq!(line.split_whitespace().count(), 5, "{line:?}");
        assert!(!line.contains('\x1b'), "colours in a pipe: {line:?}");
    }
}

fn a_live_table_on_a_terminal() {
    let pods = ["one", "two"].map(|name| {
        pod(
            name,
            "Never",
            vec![],
            vec![c("app", "echo from $POD; sleep 0.3").with(json!({
                "env": [{ "name": "POD", "value": name }],
            }))],
        )
    });
    let run = Run::of(&pods);
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = run.command();
    command.stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut screen = Vec::new();
    // A terminal whose programs are all gone ends with EIO.
    let _ = std::fs::File::from(pty.master).read_to_end(&mut screen);
    assert!(child.wait().unwrap().success());
    let screen = String::from_utf8(screen).unwrap();
    assert!(
        screen.contains("\x1b[2J") || screen.contains("\x1b[J"),
        "nothing is drawn anew: {screen:?}"
    );
    assert!(screen.contains("\x1b[32mRunning"), "no colours: {screen:?}");
    // What stays is the whole table, and the output of containers above it.
    let last = screen.rsplit("\x1b[J").next().unwrap();
    let rows = last.lines().filter(|l| l.contains("Completed")).count();
    assert_eq!((rows, last.matches("NAME").count()), (2, 1), "{last:?}");
    for name in ["one", "two"] {
        assert_eq!(screen.matches(&format!("from {name}")).count(), 1, "{screen:?}");
    }
}

fn container_output_has_a_prefix() {
    let app = c(
        "app",
        r#"printf 'a\tb\n'; printf 'odd \033[2Jclear \377\n'; printf 'no end'; echo; head -c 40000 /dev/zero | tr '\0' x; echo; echo last"#,
    );
    let done = Run::of(&[pod("out", "Never", vec![], vec![app])]).done().code(0);
    let lines = done.written("out", "app");
    assert_eq!(lines[..3], ["a\tb", "odd clear \u{fffd}", "no end"], "{lines:?}");
    assert_eq!(lines.last(), Some(&"last"));
    let long: usize = lines[3..lines.len() - 1].iter().map(|l| l.len()).sum();
    assert_eq!(long, 40_000);
    assert!(done.out.iter().all(|l| !l.contains("last")), "output of containers on stdout");
}

/// What has to be true of every series of watch events.
fn check_watch(done: &Done) -> Vec<Value> {
    let events = done.events();
    assert_eq!(events[0]["type"], "ADDED");
    let added = events.iter().filter(|e| e["type"] == "ADDED");
    let names: Vec<&Value> = added.map(|e| &e["object"]["metadata"]["uid"]).collect();
    assert!(names.iter().all(|n| names.iter().filter(|m| m == &n).count() == 1), "added twice");
    let (mut restarts, mut version) = (0, 0);
    for event in &events {
        let object = &event["object"];
        assert!(
            matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")),
            "{event}"
        );
        assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Pod"), &json!("v1")));
        let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        assert!(meta["uid"].as_str().unwrap().len() == 36, "{meta}");
        assert_eq!(meta["namespace"], "default");
        let this: u64 = meta["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(this > version, "resourceVersion did not grow");
        version = this;
        // A delete is a change of what is wanted; the kubelet says which one it has seen.
        let generation = if meta["deletionTimestamp"].is_string() { 2 } else { 1 };
        assert_eq!(meta["generation"], generation, "{meta}");
        if status["startTime"].is_string() {
            assert_eq!(status["observedGeneration"], generation, "{status}");
        }
        assert!(meta["creationTimestamp"].as_str().unwrap().ends_with('Z'));
        assert!(spec["containers"].is_array() && spec["nodeName"].is_string(), "{spec}");
        assert_eq!(spec["terminationGracePeriodSeconds"], 5);
        assert!(status["phase"].is_string() && status["qosClass"] == "BestEffort", "{status}");
        for condition in status["conditions"].as_array().into_iter().flatten() {
            assert!(condition["lastTransitionTime"].as_str().unwrap().ends_with('Z'));
            assert!(matches!(condition["status"].as_str(), Some("True" | "False")), "{condition}");
        }
        for container in status["containerStatuses"].as_array().into_iter().flatten() {
            let state = container["state"].as_object().unwrap();
            assert_eq!(state.len(), 1, "{container:#}");
            let count = container["restartCount"].as_u64().unwrap();
            assert!(count >= restarts, "restartCount went back");
            restarts = count;
        }
    }
    events
}

fn watch_events() {
    let done = Run::of(&[three()]).args("-o jsonl").done().code(0);
    let events = check_watch(&done);
    let phases: Vec<&str> =
        events.iter().map(|e| e["object"]["status"]["phase"].as_str().unwrap()).collect();
    let mut distinct = phases.clone();
    distinct.dedup();
    assert_eq!(distinct, ["Pending", "Running", "Succeeded"]);
    let condition = |event: &Value, kind: &str| {
        let list = event["object"]["status"]["conditions"].as_array().unwrap().clone();
        list.iter().find(|c| c["type"] == kind).map(|c| c["status"] == "True")
    };
    // Nothing is deleted: the pod stays as it ended.
    let last = events.last().unwrap();
    assert_eq!(last["type"], "MODIFIED");
    for (kind, value) in [
        ("PodScheduled", true),
        ("Initialized", true),
        ("Ready", false),
        ("ContainersReady", false),
    ] {
        assert_eq!(condition(last, kind), Some(value), "{kind}: {last:#}");
    }
    assert!(events.iter().any(|e| condition(e, "Ready") == Some(true)));
    assert!(events.iter().any(|e| condition(e, "Initialized") == Some(false)));
    let statuses = &last["object"]["status"];
    let with_processes = containerd::current().is_none();
    assert_eq!(statuses["podIP"] == "127.0.0.1", with_processes, "{statuses}");
    for (list, i) in
        [("initContainerStatuses", 0), ("initContainerStatuses", 1), ("containerStatuses", 0)]
    {
        let end = &statuses[list][i]["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("Completed")));
        assert!(end["startedAt"].as_str() <= end["finishedAt"].as_str(), "{end}");
        let id = end["containerID"].as_str().unwrap();
        let (runtime, id) = id.split_once("://").unwrap();
        let expected = if with_processes { ("holdfast", 16) } else { ("containerd", 64) };
        assert_eq!((runtime, id.len()), expected, "{end}");
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{end}");
    }
}

fn watch_events_while_stopping() {
    let slow = c("app", "trap 'sleep 0.3; exit 0' TERM; echo up; sleep 1000 & wait");
    let run = Run::of(&[pod("stop", "Always", vec![sidecar("s")], vec![slow])]);
    let done = run.args("-o jsonl --timeout 700ms").done().code(124);
    let events = check_watch(&done);
    let stopping = |e: &&Value| e["object"]["metadata"]["deletionTimestamp"].is_string();
    let first = events.iter().position(|e| stopping(&e)).unwrap();
    assert!(events[..first].iter().any(|e| e["object"]["status"]["phase"] == "Running"));
    assert!(events[first..].iter().all(|e| stopping(&e)), "deletionTimestamp went away");
    assert_eq!(events[first]["object"]["metadata"]["deletionGracePeriodSeconds"], 5);
    // It is being stopped, not gone: its containers still run.
    let state = &events[first]["object"]["status"]["containerStatuses"][0]["state"];
    assert!(state["running"].is_object(), "{state}");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "DELETED");
    assert_eq!(last["object"]["status"]["phase"], "Succeeded");
    assert_eq!(last["object"]["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(events.iter().filter(|e| e["type"] == "DELETED").count(), 1);
}

fn final_objects() {
    let pods = [three(), pod("two", "Never", vec![], vec![c("app", "exit 9")])];
    let done = Run::of(&pods).args("-o json").done().code(1);
    let list = done.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("List"), &json!("v1")));
    let items = list["items"].as_array().unwrap();
    let named = |name: &str| items.iter().find(|i| i["metadata"]["name"] == name).unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(named("three")["status"]["phase"], "Succeeded");
    let two = &named("two")["status"];
    assert_eq!(two["phase"], "Failed");
    assert_eq!(two["containerStatuses"][0]["state"]["terminated"]["exitCode"], 9);
}

fn a_timeline_explains_every_start() {
    let done = Run::of(&[three()]).args("--timeline {DIR}/timeline.json").done().code(0);
    let marks = done.timeline();
    assert!(marks.windows(2).all(|w| w[0].at <= w[1].at), "not in order of time");
    let at = |container: &str, step: &str| {
        let mark = marks.iter().find(|m| m.container == container && m.step == step);
        mark.unwrap_or_else(|| panic!("{container} has no {step}: {marks:#?}")).clone()
    };
    for container in ["init", "proxy", "app"] {
        let times = ["start", "running", "exited"].map(|step| at(container, step).at);
        assert!(times.is_sorted(), "{container}: {times:?}");
        assert!(at(container, "start").all["waitedFor"].is_string());
        assert_eq!(at(container, "exited").all["exitCode"], 0);
    }
    let waited =
        |container: &str| at(container, "start").all["waitedFor"].as_str().unwrap().to_owned();
    assert!(waited("proxy").contains("init container init"), "{}", waited("proxy"));
    assert!(waited("app").contains("startupProbe of sidecar proxy"), "{}", waited("app"));
    assert!(at("init", "exited").at <= at("proxy", "start").at);
    assert!(at("proxy", "started").at <= at("app", "start").at);
    assert!(at("app", "exited").at <= at("proxy", "stop").at);
    let probes: Vec<_> = marks.iter().filter(|m| m.step == "probe").collect();
    assert!(probes.iter().any(|m| m.all["passed"] == true && m.all["probe"] == "startup"));
}

fn a_timeline_that_cannot_be_written_is_an_error() {
    let run = Run::of(&[pod("p", "Never", vec![], vec![c("app", "say app")])]);
    let done = run.args("--timeline {DIR}/no/such/dir.json").done();
    assert_eq!(done.code, 2);
    assert!(done.said("cannot write the timeline"), "{done:#?}");
    // Before anything has run for nothing.
    assert!(done.log().is_empty() && done.out.is_empty(), "{done:#?}");
    let run = Run::of(&[pod("p", "Never", vec![], vec![c("app", "say app")])]);
    let done = run.args("--timeline {DIR}").done().code(2);
    assert!(done.said("cannot write the timeline") && done.log().is_empty(), "{done:#?}");
}

/// What is no file is written to, not replaced by one: as root, `--timeline /dev/null` would otherwise
/// take `/dev/null` from the machine.
fn a_timeline_goes_into_a_pipe() {
    let run = Run::of(&[pod("p", "Never", vec![], vec![c("app", "say app")])]);
    let pipe = run.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Both ends, so that nobody waits for the other.
    let mut ours = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let _done = run.args("--timeline {DIR}/pipe").done().code(0);
    let mut begin = [0; 16];
    ours.read_exact(&mut begin).unwrap();
    assert_eq!(begin, *b"{\n  \"version\": 1");
    let kind = std::fs::symlink_metadata(&pipe).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind), "{kind:?}");
}

fn a_job_that_is_deleted_is_said_to_be() {
    let short = pod("", "Never", vec![], vec![c("w", "say job")]);
    let short = job("short", json!({ "ttlSecondsAfterFinished": 0 }), short);
    let long = pod("long", "Never", vec![], vec![server("app")]);
    let live = Run::of(&[short, long]).args("-o jsonl").start();
    live.out_where("the end of the Job", |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"] == "DELETED" && event["object"]["kind"] == "Job"
    });
    live.signal(nix::sys::signal::Signal::SIGINT);
    let events = live.done().code(130).events();
    let deleted: Vec<&Value> =
        events.iter().filter(|e| e["type"] == "DELETED").map(|e| &e["object"]).collect();
    // Its pods go first, the other pod is the last, and nothing goes twice.
    let kinds: Vec<&Value> = deleted.iter().map(|o| &o["kind"]).collect();
    assert_eq!(kinds, ["Pod", "Job", "Pod"], "{deleted:#?}");
}

fn a_closed_stdout_does_not_break_the_run() {
    let app = c("app", "sleep 0.4; say app");
    let run = Run::of(&[pod("pipe", "Never", vec![c("i", "say i")], vec![app])]).args("-o jsonl");
    let dir = std::sync::Arc::clone(&run.dir);
    let mut child = run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    stdout.read_exact(&mut byte).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(dir.path().join("log/log")).unwrap(), "i\napp\n");
}

fn a_closed_stderr_does_not_break_the_run() {
    let app = c("app", "echo a; sleep 0.3; echo b; echo b; say app");
    let run = Run::of(&[pod("pipe", "Never", vec![c("i", "say i")], vec![app])]);
    let dir = std::sync::Arc::clone(&run.dir);
    let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(dir.path().join("log/log")).unwrap(), "i\napp\n");
}

fn full_disk() -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn a_full_disk_behind_stderr_does_not_break_the_run() {
    let run = Run::of(&[pod("full", "Never", vec![], vec![c("app", "echo a; say app")])]);
    let mut child = run.command().stdout(Stdio::null()).stderr(full_disk()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(run.path("log/log")).unwrap(), "app\n");
    let run = Run::text("bad.yaml", "kind: Pod");
    let mut child = run.command().stdout(Stdio::null()).stderr(full_disk()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// The pod runs to its end, but nobody may take an empty file for its record.
fn a_full_disk_behind_stdout_is_an_error() {
    for format in ["table", "jsonl", "json"] {
        let app = c("app", "say app");
        let run = Run::of(&[pod("full", "Never", vec![], vec![app])]).args("-o").arg(format);
        let dir = std::sync::Arc::clone(&run.dir);
        let mut command = run.command();
        let done = command.stdout(full_disk()).stderr(Stdio::piped()).spawn().unwrap();
        let done = done.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{format}: {said}");
        let words = "not all output could be written to stdout: No space left on device";
        assert!(said.contains(words), "{format}: {said}");
        assert_eq!(std::fs::read_to_string(dir.path().join("log/log")).unwrap(), "app\n");
    }
}

fn standard_input() {
    use std::io::Write;
    let text = pod("stdin", "Never", vec![], vec![c("app", "say app")]).to_string();
    let run = Run::bare().arg("-");
    let text = text.replace("{DIR}", run.dir.path().to_str().unwrap());
    let mut command = run.command();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(run.path("log/log")).unwrap(), "app\n");
}

fn termination_messages() {
    let file = c("a", "echo why > /tmp/note; echo not this; exit 1")
        .with(json!({ "terminationMessagePath": "/tmp/note" }));
    let logs = c("b", "echo first; echo last words; exit 1")
        .with(json!({ "terminationMessagePolicy": "FallbackToLogsOnError" }));
    let p = pod("msg", "Never", vec![], vec![file, logs, server("c")]);
    let done = Run::of(&[p]).args("-o json --timeout 600ms").done().code(124);
    let statuses = &done.json()["items"][0]["status"]["containerStatuses"];
    let message = |i: usize| statuses[i]["state"]["terminated"]["message"].as_str().unwrap_or("");
    assert_eq!(message(0), "why\n");
    assert_eq!(message(1), "first\nlast words\n");
    assert_eq!(message(2), "");
}
