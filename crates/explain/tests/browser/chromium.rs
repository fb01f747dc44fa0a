//! A headless Chromium, driven over its debugging protocol by a pair of pipes: no port, no driver program.
//! <https://chromedevtools.github.io/devtools-protocol/>

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What it has said on its own.
    events: Vec<Value>,
    // Removed after the browser has ended.
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts it with one empty page.
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // It talks on the descriptors 3 and 4.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
            --no-first-run --disable-extensions --disable-sync --disable-breakpad \
            --disable-background-networking --disable-component-update --force-color-profile=srgb \
            --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 </dev/null >/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, to, from, next: 0, session: None, events: vec![], _profile: profile };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attached)["sessionId"].clone();
        browser.session = Some(session.as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// A command and its answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        if self.to.write_all(&text).is_err() {
            self.is_missing();
        }
        loop {
            let answer = self.receive(method);
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn receive(&mut self, what: &str) -> Value {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.from.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(Timeout) => panic!("chromium does not answer {what}"),
            Err(Disconnected) => self.is_missing(),
        }
    }

    fn is_missing(&mut self) -> ! {
        let status = self.child.wait();
        panic!(
            "chromium has ended ({status:?}): is it installed? `cargo xtask test` does it, or \
             apt-get install chromium"
        );
    }

    /// Waits for an event.
    pub(crate) fn wait_for(&mut self, event: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|e| e["method"] == event) {
                return self.events.remove(at)["params"].clone();
            }
            let next = self.receive(event);
            self.events.push(next);
        }
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        // Whatever it has said before this answer is there now.
        self.evaluate("0");
        std::mem::take(&mut self.events)
    }

    /// Opens a file in a window of this size.
    pub(crate) fn open(&mut self, file: &std::path::Path, (width, height): (u32, u32), dark: bool) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &media);
        self.events();
        self.call("Page.navigate", &json!({ "url": format!("file://{}", file.display()) }));
        self.wait_for("Page.loadEventFired");
    }

    /// The value of an expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Presses and releases a key.
    pub(crate) fn key(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let text = match key {
                "Enter" => "\r",
                other if other.len() == 1 => other,
                _ => "",
            };
            let kind = if kind == "rawKeyDown" && !text.is_empty() { "keyDown" } else { kind };
            let mut params = json!({ "type": kind, "key": key, "code": key });
            if kind == "keyDown" {
                params["text"] = json!(text);
            }
            let code =
                [("Tab", 9), ("Enter", 13), ("Escape", 27), (" ", 32), ("End", 35), ("Home", 36)]
                    .into_iter()
                    .chain([
                        ("ArrowLeft", 37),
                        ("ArrowUp", 38),
                        ("ArrowRight", 39),
                        ("ArrowDown", 40),
                    ]);
            if let Some((_, code)) = code.into_iter().find(|(name, _)| *name == key) {
                params["windowsVirtualKeyCode"] = json!(code);
            }
            self.call("Input.dispatchKeyEvent", &params);
        }
    }

    /// Moves the mouse to the middle of what a selector finds; where that is.
    pub(crate) fn hover(&mut self, selector: &str) -> (f64, f64) {
        let script = format!(
            "(() => {{ const b = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        );
        let at = self.evaluate(&script);
        let (x, y) = (at[0].as_f64().unwrap(), at[1].as_f64().unwrap());
        self.mouse("mouseMoved", x, y);
        (x, y)
    }

    pub(crate) fn mouse(&mut self, kind: &str, x: f64, y: f64) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        let params = json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", &params);
    }

    pub(crate) fn click(&mut self, selector: &str) {
        let (x, y) = self.hover(selector);
        self.mouse("mousePressed", x, y);
        self.mouse("mouseReleased", x, y);
    }

    pub(crate) fn wheel(&mut self, (x, y): (f64, f64), by: f64) {
        let params = json!({
            "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by, "modifiers": 2,
        });
        self.call("Input.dispatchMouseEvent", &params);
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends its own processes when the browser does; being killed it could not, but they notice.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for message in std::iter::from_fn(|| self.from.recv_timeout(Duration::from_secs(5)).ok()) {
            drop(message);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
