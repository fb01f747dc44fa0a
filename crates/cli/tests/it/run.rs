//! One run of the real binary: made, watched, and what came of it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::containerd::{self, Containerd};
use crate::image_archive;

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test.
pub const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// One of the small programs in this crate's `examples`. They are static: they need nothing beside them.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(HOLDFAST).parent().unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo test -p holdfast-cli`, or `cargo build -p holdfast-cli --examples`",
        path.display()
    );
    path
}

/// A run that has not begun.
pub struct Run {
    pub dir: Arc<TempDir>,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// What runs the containers, if not holdfast itself.
    containerd: Option<Arc<Containerd>>,
}

/// How much later something is to happen with containerd, which takes its time for a pod.
pub fn slack() -> Duration {
    Duration::from_secs(if containerd::current().is_some() { 7 } else { 0 })
}

/// A time such as `700ms`, plus the slack; what is counted from the start of a container needs none.
fn later(text: &str) -> String {
    if slack().is_zero() || text.contains('+') {
        return text.to_owned();
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap());
    let unit = if unit == "s" { 1000 } else { 1 };
    format!("{}ms", number.parse::<u128>().unwrap() * unit + slack().as_millis())
}

impl Run {
    /// `holdfast run` of these objects; `{DIR}` in them stands for a directory of the test's own.
    pub fn of(objects: &[Value]) -> Self {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        Self::text("manifest.json", &list.to_string())
    }

    /// `holdfast run` of a file with this text.
    pub fn text(name: &str, text: &str) -> Self {
        let run = Self::bare();
        let file = run.dir.path().join(name);
        let text = text.replace("{DIR}", run.dir.path().to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        run.arg(file.to_str().unwrap())
    }

    /// `holdfast run` of a file that is there.
    pub fn file(path: &Path) -> Self {
        Self::bare().arg(path.to_str().unwrap())
    }

    /// `holdfast run` with nothing but a state directory.
    pub fn bare() -> Self {
        let dir = Arc::new(tempfile::Builder::new().prefix("holdfast-it-").tempdir().unwrap());
        // Containers of any user write their log here.
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), mode.clone()).unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::set_permissions(dir.path().join("log"), mode).unwrap();
        let state = dir.path().join("state").to_str().unwrap().to_owned();
        let command = vec![HOLDFAST.to_owned(), "run".to_owned()];
        let mut args = vec!["--state-dir".to_owned(), state];
        let containerd = containerd::current();
        if let Some(containerd) = &containerd {
            let image = format!("host={}", image_archive::BUSYBOX);
            let endpoint = containerd.endpoint();
            let cri = ["--runtime", "cri", "--endpoint", &endpoint, "--image", &image];
            args.extend(cri.map(str::to_owned));
        }
        Self { dir, command, args, env: Vec::new(), containerd }
    }

    /// More arguments, split at blanks; `{DIR}` is replaced. What is to happen at a time happens later
    /// with containerd ([`slack`]).
    pub fn args(mut self, text: &str) -> Self {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        let mut before = "";
        for arg in text.split_whitespace() {
            let later = match (before, arg.split_once('@')) {
                ("--timeout", _) => later(arg),
                // It strikes while a certain container runs.
                ("--fault", Some((kind, at))) if kind != "runtime-restart" => {
                    format!("{kind}@{}", later(&later(at)))
                }
                _ => arg.replace("{DIR}", &dir),
            };
            self.args.push(later);
            before = arg;
        }
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Another state directory than the test's own.
    pub fn state_dir(mut self, path: &Path) -> Self {
        self.args[1] = path.to_str().unwrap().to_owned();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs under another program, with a copy of the binary that anyone may execute.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        let copy = self.dir.path().join("holdfast");
        if std::fs::hard_link(HOLDFAST, &copy).is_err() {
            std::fs::copy(HOLDFAST, &copy).unwrap();
        }
        self.command[0] = copy.to_str().unwrap().to_owned();
        self.command.splice(0..0, wrapper.iter().map(|&w| w.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the test's directory.
    pub fn with_file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    /// The command, for those who want to start it in their own way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(&self.args).stdin(Stdio::null());
        command.current_dir(self.dir.path());
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command.env_remove("HOLDFAST_STATE_DIR");
        command
    }

    /// Starts it.
    pub fn start(self) -> Live {
        let command = self.command();
        self.begin(command)
    }

    /// Starts it in a process group of its own, as a shell does.
    pub fn start_group(self) -> Live {
        let mut command = self.command();
        command.process_group(0);
        self.begin(command)
    }

    fn begin(self, mut command: Command) -> Live {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match &self.containerd {
            Some(containerd) => containerd.inside(|| command.spawn()).unwrap(),
            None => command.spawn().unwrap(),
        };
        let out = Lines::read(child.stdout.take().unwrap());
        let err = Lines::read(child.stderr.take().unwrap());
        Live { child, out, err, begin: Instant::now(), dir: self.dir }
    }

    /// Runs it to its end.
    pub fn done(self) -> Done {
        self.start().done()
    }
}

/// The lines that a stream has given so far.
#[derive(Clone)]
struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The lines, and whether the stream has ended.
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let shared = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                shared.0.lines.lock().unwrap().0.push(text);
                shared.0.more.notify_all();
            }
            shared.0.lines.lock().unwrap().1 = true;
            shared.0.more.notify_all();
        });
        lines
    }

    /// Waits until a line fulfils the test, or the stream ends.
    fn wait(&self, what: &str, test: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.0.lines.lock().unwrap();
        // Each line is looked at once: there may be many, and each wakes this.
        let mut seen = 0;
        loop {
            if let Some(line) = guard.0[seen..].iter().find(|line| test(line)) {
                return line.clone();
            }
            seen = guard.0.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!guard.1 && !left.is_zero(), "no line with {what:?} came:\n{:#?}", guard.0);
            guard = self.0.more.wait_timeout(guard, left).unwrap().0;
        }
    }

    fn all(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.0.lines.lock().unwrap();
        while !guard.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "somebody keeps the stream open; so far:\n{:#?}", guard.0);
            guard = self.0.more.wait_timeout(guard, left).unwrap().0;
        }
        guard.0.clone()
    }
}

/// A run that is under way.
pub struct Live {
    pub child: Child,
    out: Lines,
    err: Lines,
    begin: Instant,
    pub dir: Arc<TempDir>,
}

impl Live {
    /// Waits for a line on stderr that contains this.
    pub fn err(&self, text: &str) -> String {
        self.err.wait(text, |line| line.contains(text))
    }

    /// Waits for a line on stdout that contains this.
    pub fn out(&self, text: &str) -> String {
        self.out.wait(text, |line| line.contains(text))
    }

    /// Waits for a line on stdout that fulfils this.
    pub fn out_where(&self, what: &str, test: impl Fn(&str) -> bool) -> String {
        self.out.wait(what, test)
    }

    /// Waits for a row with this READY and STATUS.
    pub fn row(&self, ready_status: &str) -> String {
        self.out.wait(ready_status, |line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            cells.len() > 2 && format!("{} {}", cells[1], cells[2]) == ready_status
        })
    }

    /// Waits for a line in the log that containers share.
    pub fn logged(&self, line: &str) {
        let log = || std::fs::read_to_string(self.dir.path().join("log/log")).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while !log().lines().any(|l| l == line) {
            assert!(Instant::now() < deadline, "no {line:?} in {:?}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end.
    pub fn done(mut self) -> Done {
        let deadline = self.begin + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    let (out, err) =
                        (self.out.0.lines.lock().unwrap(), self.err.0.lines.lock().unwrap());
                    panic!("still running after {PATIENCE:?}\n{:#?}\n{:#?}", out.0, err.0);
                }
                None => std::thread::sleep(Duration::from_millis(3)),
            }
        };
        let took = self.begin.elapsed();
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        let (out, err) = (self.out.all(), self.err.all());
        Done { code, out, err, took, dir: Arc::clone(&self.dir) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code, or the negated number of the signal.
    pub code: i32,
    pub out: Vec<String>,
    pub err: Vec<String>,
    pub took: Duration,
    pub dir: Arc<TempDir>,
}

impl Done {
    /// Fails unless the run ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "wrong exit code\n{self:#?}");
        self
    }

    /// READY and STATUS of the rows of pods whose name begins with this, equal neighbours once.
    pub fn rows(&self, pod: &str) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for line in self.out.iter().skip(1).filter(|line| line.starts_with(pod)) {
            let mut cells = line.split_whitespace().skip(1);
            rows.push([cells.next().unwrap(), cells.next().unwrap()].join(" "));
        }
        rows.dedup();
        rows
    }

    /// What a container wrote, from stderr.
    pub fn written(&self, pod: &str, container: &str) -> Vec<&str> {
        let prefix = format!("[{pod}/{container}] ");
        self.err.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    /// Whether a line of stderr contains this.
    pub fn said(&self, text: &str) -> bool {
        self.err.iter().any(|line| line.contains(text))
    }

    /// The lines that containers wrote to the log they share.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("log/log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Fails unless these lines are in the shared log in this order, others between them or not.
    #[track_caller]
    pub fn logged_in_order(&self, lines: &[&str]) {
        let log = self.log();
        let mut rest = log.iter();
        for line in lines {
            assert!(
                rest.any(|l| l == line),
                "{line:?} is missing or too early in {log:?}\n{self:#?}"
            );
        }
    }

    /// The watch events of `-o jsonl`.
    pub fn events(&self) -> Vec<Value> {
        let parse =
            |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.iter().map(parse).collect()
    }

    /// The document of `-o json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out.join("\n")).unwrap()
    }

    /// The marks of `--timeline {DIR}/timeline.json`.
    pub fn timeline(&self) -> Vec<Mark> {
        let text = std::fs::read_to_string(self.path("timeline.json")).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["version"], 1);
        let marks = document["marks"].as_array().unwrap();
        marks
            .iter()
            .map(|m| Mark {
                at: m["at"].as_f64().unwrap(),
                container: m["container"].as_str().unwrap_or_default().to_owned(),
                step: m["step"].as_str().unwrap().to_owned(),
                all: m.clone(),
            })
            .collect()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// One mark of a timeline.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Seconds since the start.
    pub at: f64,
    pub container: String,
    pub step: String,
    pub all: Value,
}
