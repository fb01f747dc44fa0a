//! `--timeline` as pictures and pages, and `holdfast timeline`.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::objects::{c, pod};
use crate::run::{HOLDFAST, Run};

crate::tests! {
    a_timeline_is_what_its_name_says,
    an_unknown_kind_of_timeline_is_said_before_anything_runs,
    pods_of_the_same_name_have_lanes_of_their_own,
    a_recorded_timeline_is_drawn_again,
    two_timelines_are_compared,
    what_is_no_timeline_is_said,
}

fn a_timeline_is_what_its_name_says() {
    for (name, begin, end) in [
        ("t.svg", "<svg xmlns=", "</svg>\n"),
        ("t.HTML", "<!doctype html>", "</html>\n"),
        ("t.json", "{\n  \"version\": 1", "}\n"),
    ] {
        let run = Run::of(&[pod("p", "Never", vec![], vec![c("app", "say app")])]);
        let done = run.args(&format!("--timeline {{DIR}}/{name}")).done().code(0);
        let text = std::fs::read_to_string(done.path(name)).unwrap();
        assert!(text.starts_with(begin) && text.ends_with(end), "{name}: {text}");
        assert!(text.contains("app"), "{name}: {text}");
    }
}

fn an_unknown_kind_of_timeline_is_said_before_anything_runs() {
    for (name, why) in [("t.png", "has the unknown .png"), ("t", "has no")] {
        let run = Run::of(&[pod("p", "Never", vec![], vec![c("app", "say app")])]);
        let done = run.args(&format!("--timeline {{DIR}}/{name}")).done().code(2);
        assert!(
            done.said(why) && done.said(".svg is a picture, .html a page, .json data"),
            "{done:#?}"
        );
        assert!(done.log().is_empty() && done.out.is_empty(), "{done:#?}");
        assert!(!done.path(name).exists());
    }
}

fn pods_of_the_same_name_have_lanes_of_their_own() {
    let of = |namespace: &str, code: i32| {
        let mut pod = pod("same", "Never", vec![], vec![c("app", &format!("exit {code}"))]);
        pod["metadata"]["namespace"] = json!(namespace);
        pod
    };
    let run = Run::of(&[of("blue", 3), of("red", 4)]);
    let done = run.args("--timeline {DIR}/timeline.json").done().code(1);
    let text = std::fs::read_to_string(done.path("timeline.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&Value> =
        document["pods"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["blue/same", "red/same"]);
    for (name, code) in [("blue/same", 3), ("red/same", 4)] {
        let marks = done.timeline();
        let exits: Vec<_> =
            marks.iter().filter(|m| m.all["pod"] == name && m.step == "exited").collect();
        assert_eq!(exits.len(), 1, "{marks:#?}");
        assert_eq!(exits[0].all["exitCode"], code);
    }
}

/// A pod that was ready at a time.
fn recorded(ready: f64) -> String {
    let mark = |at: f64, step: Value| {
        let mut mark = json!({ "at": at, "pod": "web" });
        for (key, value) in step.as_object().unwrap() {
            mark[key] = value.clone();
        }
        mark
    };
    let app = |step: &str| json!({ "container": "app", "run": 0, "step": step });
    let mut start = app("start");
    start["waitedFor"] = json!("the sandbox");
    let marks = [
        mark(0.1, json!({ "step": "sandboxReady" })),
        mark(0.1, start),
        mark(0.2, app("running")),
        mark(ready, app("ready")),
        mark(9.0, json!({ "container": "app", "run": 0, "step": "exited", "exitCode": 0 })),
    ];
    let containers = json!([{ "name": "app", "kind": "app", "image": "web:1" }]);
    let pods = json!([{ "name": "web", "containers": containers }]);
    json!({ "version": 1, "pods": pods, "marks": marks }).to_string()
}

fn draw(args: &[&str]) -> Output {
    Command::new(HOLDFAST).arg("timeline").args(args).output().unwrap()
}

fn text(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

fn a_recorded_timeline_is_drawn_again() {
    let run = Run::bare().with_file("a.json", &recorded(1.0));
    let path = run.path("a.json");
    let path = path.to_str().unwrap();
    let chart = draw(&[path]);
    let chart = text(&chart);
    assert!(chart.starts_with("web  Ready at 1 s, ended at 9 s\n"), "{chart}");
    assert!(chart.contains("critical path: sandbox 100 ms → app 900 ms"), "{chart}");
    assert!(chart.lines().all(|l| l.chars().count() <= 120) && !chart.contains('\x1b'), "{chart}");
    assert!(text(&draw(&[path, "-o", "svg"])).starts_with("<svg"));
    assert!(text(&draw(&[path, "-o", "html"])).starts_with("<!doctype html>"));
    let json: Value = serde_json::from_str(text(&draw(&[path, "-o", "json"]))).unwrap();
    assert_eq!(json["marks"].as_array().unwrap().len(), 5);
}

fn two_timelines_are_compared() {
    let run = Run::bare().with_file("a.json", &recorded(1.0)).with_file("b.json", &recorded(3.5));
    let (a, b) = (run.path("a.json"), run.path("b.json"));
    let files = [a.to_str().unwrap(), b.to_str().unwrap()];
    let table = draw(&files);
    let table = text(&table);
    let app = table.lines().find(|l| l.trim_start().starts_with("app")).unwrap();
    let words: Vec<&str> = app.split_whitespace().collect();
    assert_eq!(words.join(" "), "app 200 ms 200 ms = 1 s 3.5 s +2.5 s 9 s 9 s = 0 0", "{table}");
    let svg = draw(&[files[0], files[1], "-o", "svg"]);
    assert!(text(&svg).matches("<svg").count() == 1 && text(&svg).contains("web (b)"));
    assert!(text(&draw(&[files[0], files[1], "-o", "html"])).contains("class=\"chart two\""));
    let refused = draw(&[files[0], files[1], "-o", "json"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

fn what_is_no_timeline_is_said() {
    let run =
        Run::bare().with_file("a.json", "{}").with_file("b.json", "{\"version\":9,\"marks\":[]}");
    for (name, why) in
        [("a.json", "not a timeline"), ("b.json", "of version 9"), ("none.json", "No such file")]
    {
        let path = run.path(name);
        let output = draw(&[path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(said.contains(why) && said.contains(name), "{said}");
        assert!(output.stdout.is_empty());
    }
}
