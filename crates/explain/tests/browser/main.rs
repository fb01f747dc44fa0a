//! The page of a timeline in a real browser: what is seen, what can be done with it, and what it leaves
//! alone.

#![allow(clippy::unwrap_used, reason = "a test program")]

mod chromium;

use std::path::PathBuf;

use chromium::Chromium;
use holdfast_explain::picture;
use holdfast_explain::timeline::Timeline;
use serde_json::{Value, json};

const WRONG: &str = include_str!("check.js");

/// A pod of `n` containers with everything that a page can show.
fn timeline(n: usize) -> Timeline {
    let name = |i: usize| match i {
        0 => "a-container-with-a-name-as-long-as-a-label-of-dns-can-be-63-chars".to_owned(),
        i => format!("container-{i}"),
    };
    let kind = |i: usize| match i {
        0 => "init",
        1 => "sidecar",
        _ => "app",
    };
    let containers: Vec<Value> = (0..n)
        .map(|i| json!({ "name": name(i), "kind": kind(i), "image": format!("registry.example/{i}:1") }))
        .collect();
    let mut marks = vec![json!({ "at": 0.1, "pod": "shop", "step": "sandboxReady" })];
    let mut mark = |at: f64, i: usize, mut rest: Value| {
        rest["at"] = json!(at);
        rest["pod"] = json!("shop");
        rest["container"] = json!(name(i));
        rest["run"] = rest.get("run").cloned().unwrap_or(json!(0));
        marks.push(rest);
    };
    let evil =
        format!("</script><img src=http://evil.example/x>\u{202e}{}", "long ".repeat(20_000));
    for i in 0..n {
        let at = 0.2 + 0.3 * i as f64;
        let after = match i {
            0 => json!([]),
            i => {
                json!([{ "container": name(i - 1), "reached": if i == 1 { "exited" } else { "running" } }])
            }
        };
        mark(at, i, json!({ "step": "pull" }));
        mark(at + 0.05, i, json!({ "step": "pulled" }));
        let waited =
            if i == 0 { "the sandbox".to_owned() } else { format!("the start of {}", name(i - 1)) };
        mark(at + 0.05, i, json!({ "step": "start", "waitedFor": waited, "after": after }));
        mark(at + 0.1, i, json!({ "step": "running" }));
        if i == 0 {
            mark(at + 0.15, i, json!({ "step": "exited", "exitCode": 137 }));
            mark(at + 0.15, i, json!({ "step": "refused", "reason": evil }));
            mark(
                at + 0.2,
                i,
                json!({ "step": "start", "run": 1, "waitedFor": "the end of its last run" }),
            );
            mark(at + 0.2, i, json!({ "step": "running", "run": 1 }));
            mark(at + 0.3, i, json!({ "step": "exited", "run": 1, "exitCode": 0 }));
            continue;
        }
        mark(at + 0.1, i, json!({ "step": "started" }));
        for (by, passed) in [(0.2, json!(false)), (0.3, Value::Null), (0.4, json!(true))] {
            let probe = json!({
                "step": "probe", "probe": "readiness", "passed": passed, "message": "<b>not yet</b>",
            });
            mark(at + by, i, probe);
        }
        mark(at + 0.4, i, json!({ "step": "ready" }));
    }
    let end = 0.3 * n as f64 + 3.0;
    for i in 1..n {
        mark(end, i, json!({ "step": "hookBegun", "hook": "preStop" }));
        mark(end + 0.1, i, json!({ "step": "stop", "graceSeconds": 30 }));
        mark(end + 0.5, i, json!({ "step": "exited", "exitCode": 143 }));
    }
    marks.sort_by(|a, b| a["at"].as_f64().unwrap().total_cmp(&b["at"].as_f64().unwrap()));
    let bounds = json!([
        { "pod": "shop", "what": "ready", "earliest": 1.0, "latest": null, "note": "nothing ends it" },
        { "pod": "shop", "container": name(1), "what": "start", "earliest": 0.5, "latest": 1.0 },
        { "pod": "shop", "container": name(1), "what": "kill", "earliest": end, "latest": end + 0.4 },
    ]);
    let document = json!({
        "version": 1, "start": "2026-01-02T03:04:05Z", "marks": marks, "bounds": bounds,
        "pods": [{ "name": "shop", "containers": containers }],
    });
    Timeline::parse(&document.to_string()).unwrap()
}

struct Pages {
    browser: Chromium,
    dir: tempfile::TempDir,
}

impl Pages {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { browser: Chromium::start(), dir }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the page has asked for and complained of since it was opened.
    fn complaints(&mut self) -> Vec<String> {
        let own = format!("file://{}", self.dir.path().display());
        let events = self.browser.events();
        let said = events.iter().filter_map(|event| {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => {
                    Some(params.to_string())
                }
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    let fine = url.starts_with(&own) || url.starts_with("data:");
                    (!fine).then(|| format!("asks for {url}"))
                }
                _ => None,
            }
        });
        said.collect()
    }

    fn wrong(&mut self) -> Value {
        self.browser.evaluate(WRONG)
    }

    fn is_open(&mut self) -> bool {
        self.browser.evaluate("!document.getElementById('panel').hidden") == true
    }
}

/// One browser for all: its start is most of the time.
#[test]
fn pages_in_a_browser() {
    let mut pages = Pages::new();
    for lanes in [3, 60] {
        let t = timeline(lanes);
        let html = pages.write(&format!("{lanes}.html"), &picture::html(&t));
        for width in [400, 1600] {
            for dark in [false, true] {
                let what = format!("{lanes} lanes, {width} px, dark: {dark}");
                pages.browser.open(&html, (width, 900), dark);
                assert_eq!(pages.wrong(), json!([]), "{what}");
                let count = pages.browser.evaluate("document.querySelectorAll('.row.lane').length");
                assert_eq!(count, lanes, "{what}");
                let back = "getComputedStyle(document.body).backgroundColor";
                let expected = if dark { "rgb(18, 22, 28)" } else { "rgb(255, 255, 255)" };
                assert_eq!(pages.browser.evaluate(back), expected, "{what}");
                assert_eq!(pages.complaints(), Vec::<String>::new(), "{what}");
            }
        }
        details_by_mouse(&mut pages);
        details_by_keyboard(&mut pages);
        zoom_and_pan(&mut pages);
        prints(&mut pages, lanes);
    }
    pictures_and_comparisons(&mut pages);
    faults_are_seen(&mut pages);
}

fn details_by_mouse(pages: &mut Pages) {
    assert!(!pages.is_open());
    pages.browser.hover("[data-row=\"2\"] .seg.ready");
    let tip = pages.browser.evaluate("!tip.hidden && tip.textContent");
    assert!(tip.as_str().is_some_and(|t| t.starts_with("ready, ")), "{tip}");
    pages.browser.click("[data-row=\"2\"] .seg.ready");
    assert!(pages.is_open());
    let title = pages.browser.evaluate("document.querySelector('#panel h2').textContent");
    assert_eq!(title, "container-1");
    let on = pages.browser.evaluate("document.querySelectorAll('#panel li.on').length");
    assert!(on.as_u64() > Some(0), "no mark of the segment is marked");
    assert_eq!(pages.wrong(), json!([]));
    pages.browser.click("#panel .close");
    assert!(!pages.is_open());
    // A message of 100 kB: short at first, all of it in the details, and nothing of it is markup.
    pages.browser.click("[data-row=\"1\"] .name");
    let length = pages.browser.evaluate("document.querySelector('#panel pre').textContent.length");
    assert!(length.as_u64() > Some(100_000), "{length}");
    let seen =
        pages.browser.evaluate("document.querySelector('#panel summary').textContent.length");
    assert!(seen.as_u64() < Some(300), "{seen}");
    assert_eq!(pages.browser.evaluate("document.querySelectorAll('img').length"), 0);
    let odd = pages.browser.evaluate("document.documentElement.textContent.includes('\\u202e')");
    assert_eq!(odd, false, "a character turns the direction of the text");
    assert_eq!(pages.wrong(), json!([]));
    pages.browser.key("Escape");
    assert!(!pages.is_open());
}

fn details_by_keyboard(pages: &mut Pages) {
    pages.browser.evaluate("document.activeElement.blur(); scroll.scrollTop = 0; document.getElementById('fit').focus()");
    pages.browser.key("Tab");
    let focus = "document.activeElement.getAttribute('aria-label') || document.activeElement.id";
    // From the buttons into the chart: to where one was last, by the mouse.
    for _ in 0..3 {
        if pages.browser.evaluate("!!document.activeElement.closest('.chart')") == true {
            break;
        }
        pages.browser.key("Tab");
    }
    let at = pages.browser.evaluate(focus);
    assert!(at.as_str().is_some_and(|l| l.starts_with("init container a-container")), "{at}");
    pages.browser.key("ArrowDown");
    let at = pages.browser.evaluate(focus);
    assert!(at.as_str().is_some_and(|l| l.starts_with("sidecar container container-1")), "{at}");
    pages.browser.key("ArrowRight");
    let at = pages.browser.evaluate(focus);
    assert!(at.as_str().is_some_and(|l| l.starts_with("waiting for the start of")), "{at}");
    for key in ["Enter", " "] {
        pages.browser.key(key);
        assert!(pages.is_open(), "{key:?} opens nothing");
        let within = pages.browser.evaluate("!!document.activeElement.closest('#panel')");
        assert_eq!(within, true, "the focus stays outside");
        pages.browser.key("Escape");
        assert!(!pages.is_open());
        assert_eq!(pages.browser.evaluate(focus), at, "the focus does not come back");
    }
    pages.browser.key("End");
    let last = pages.browser.evaluate(focus);
    assert!(last.as_str().is_some_and(|l| l.contains("143")), "{last}");
    // Every cell says what it is.
    let silent = "[...document.querySelectorAll('[role=gridcell],[role=rowheader]')]\
                  .filter((c) => !c.getAttribute('aria-label')).length";
    assert_eq!(pages.browser.evaluate(silent), 0);
}

fn zoom_and_pan(pages: &mut Pages) {
    let width = "document.getElementById('chart').getBoundingClientRect().width";
    let fit = pages.browser.evaluate(width).as_f64().unwrap();
    pages.browser.key("+");
    let closer = pages.browser.evaluate(width).as_f64().unwrap();
    assert!(closer > fit * 1.3, "{closer} of {fit}");
    pages.browser.click("#in");
    let closer_still = pages.browser.evaluate(width).as_f64().unwrap();
    assert!(closer_still > closer * 1.3);
    assert_eq!(pages.wrong(), json!([]));
    // With the wheel, what is under the pointer stays there.
    let at = pages.browser.hover("[data-row=\"2\"] .seg.ready");
    let seconds = format!(
        "(() => {{ const box = document.getElementById('axis').getBoundingClientRect(); \
         return ({} - box.left) / box.width; }})()",
        at.0
    );
    let before = pages.browser.evaluate(&seconds).as_f64().unwrap();
    pages.browser.wheel(at, -300.0);
    let zoomed = format!(
        "new Promise((done) => {{ const look = () => {width} > {closer_still} * 1.3 ? done(1) : requestAnimationFrame(look); look(); }})"
    );
    pages.browser.evaluate(&zoomed);
    let after = pages.browser.evaluate(&seconds).as_f64().unwrap();
    assert!((after - before).abs() < 0.01, "{before} became {after}");
    // To drag pans.
    let left = "document.getElementById('scroll').scrollLeft";
    let before = pages.browser.evaluate(left).as_f64().unwrap();
    pages.browser.mouse("mousePressed", at.0, at.1);
    pages.browser.mouse("mouseMoved", at.0 - 40.0, at.1);
    pages.browser.mouse("mouseReleased", at.0 - 40.0, at.1);
    let after = pages.browser.evaluate(left).as_f64().unwrap();
    assert!((after - before - 40.0).abs() < 1.5, "{before} became {after}");
    assert!(!pages.is_open(), "to drag is not to click");
    pages.browser.key("0");
    assert_eq!(pages.browser.evaluate(width).as_f64(), Some(fit));
}

fn prints(pages: &mut Pages, lanes: usize) {
    let params = json!({ "printBackground": false, "preferCSSPageSize": true });
    let pdf = pages.browser.call("Page.printToPDF", &params)["data"].clone();
    let pdf = pdf.as_str().unwrap();
    // `%PDF-` in base64.
    assert!(pdf.starts_with("JVBERi") && pdf.len() > 10_000, "{} characters", pdf.len());
    pages.browser.call("Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    let shown = "[...document.querySelectorAll('.row.lane')].filter((r) => r.getClientRects().length).length";
    assert_eq!(pages.browser.evaluate(shown), lanes);
    // Nothing is behind the edge of a box that paper cannot scroll.
    let overflow = "getComputedStyle(document.getElementById('scroll')).overflowY";
    assert_eq!(pages.browser.evaluate(overflow), "visible");
    let back = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(pages.browser.evaluate(back), "rgb(255, 255, 255)");
    pages.browser.call("Emulation.setEmulatedMedia", &json!({ "media": "" }));
}

fn pictures_and_comparisons(pages: &mut Pages) {
    let (a, b) = (timeline(3), timeline(5));
    let html = pages.write("compare.html", &picture::compare_html(&a, &b));
    for width in [400, 1600] {
        pages.browser.open(&html, (width, 900), false);
        assert_eq!(pages.wrong(), json!([]), "comparison at {width}");
        assert_eq!(pages.browser.evaluate("document.querySelectorAll('.row.lane').length"), 8);
        assert_eq!(pages.complaints(), Vec::<String>::new());
    }
    for (name, text) in
        [("one.svg", picture::svg(&timeline(60))), ("two.svg", picture::compare_svg(&a, &b))]
    {
        let file = pages.write(name, &text);
        pages.browser.open(&file, (1200, 900), true);
        // Each text within the picture, by the browser's own measure.
        let outside = "(() => { const edge = document.documentElement.getBoundingClientRect().right; \
            return [...document.querySelectorAll('text')].filter((t) => t.getBoundingClientRect().right > edge + 1) \
            .map((t) => t.textContent); })()";
        assert_eq!(pages.browser.evaluate(outside), json!([]), "{name}");
        // No label reaches out of its bar.
        let out = "[...document.querySelectorAll('g > rect + text')].filter((t) => { \
            const box = t.previousElementSibling.getBoundingClientRect(), own = t.getBoundingClientRect(); \
            return !t.closest('.bounds, .legend') && own.right > box.right + 1; }).map((t) => t.textContent)";
        assert_eq!(pages.browser.evaluate(out), json!([]), "{name}");
        assert_eq!(pages.complaints(), Vec::<String>::new(), "{name}");
    }
}

/// The checks above can fail.
fn faults_are_seen(pages: &mut Pages) {
    let html = picture::html(&timeline(3));
    let bad = html.replace("'use strict';", "console.error('seen'); undefined.x;");
    let file = pages.write("bad.html", &bad);
    pages.browser.open(&file, (1600, 900), false);
    let complaints = pages.complaints();
    assert!(complaints.iter().any(|c| c.contains("seen")), "{complaints:?}");
    assert!(complaints.iter().any(|c| c.contains("TypeError")), "{complaints:?}");
    let bad = html.replace("<h1>", "<img src=\"http://127.0.0.1:1/x\"><h1>");
    let file = pages.write("asks.html", &bad);
    pages.browser.open(&file, (1600, 900), false);
    // The page's own policy would stop it, and says so.
    let complaints = pages.complaints();
    assert!(complaints.iter().any(|c| c.contains("127.0.0.1:1")), "{complaints:?}");
    let file = pages.write("good.html", &html);
    pages.browser.open(&file, (400, 900), false);
    pages.browser.evaluate(
        "document.querySelectorAll('.seg b').forEach((b) => { b.style.display = 'block'; })",
    );
    let wrong = pages.wrong();
    assert!(wrong.as_array().is_some_and(|w| w.len() > 3), "{wrong}");
}
