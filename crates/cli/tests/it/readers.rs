//! Readers that stop reading, as `| less` does: pods go their way, and nothing of the output is lost.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::containerd;
use crate::objects::{With, c, pod, server, sidecar};
use crate::run::Run;

crate::tests! {
    a_reader_that_stops_reading_stops_nobody,
    a_second_ctrl_c_ends_a_run_that_nobody_reads,
    output_that_nobody_reads_waits_in_its_container,
    the_last_rows_come_when_somebody_reads_again,
    ;
    root: an_end_does_not_wait_for_a_reader,
}

/// No test has to wait longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose output goes into two pipes of one page each, which nobody reads.
struct Unread {
    child: Child,
    out: PipeReader,
    err: PipeReader,
    run: Run,
}

impl Unread {
    fn start(run: Run) -> Self {
        let pipe = || {
            let (reader, writer) = std::io::pipe().unwrap();
            rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
            (reader, writer)
        };
        let ((out, out_end), (err, err_end)) = (pipe(), pipe());
        let child = run.command().stdout(out_end).stderr(err_end).spawn().unwrap();
        Self { child, out, err, run }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.run.path("log/log")).unwrap_or_default()
    }

    /// Waits until a container has said this.
    fn logged(&self, line: &str) {
        until(line, || self.log().lines().any(|l| l == line));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    #[track_caller]
    fn still_runs(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "nobody has read what it had to say");
    }

    /// Whether nothing of the run is left but the program that has something to say: the run's directory
    /// for volumes is empty.
    fn is_taken_down(&self) -> bool {
        let pods = std::fs::read_dir(self.run.path("state/pods")).into_iter().flatten();
        pods.filter_map(Result::ok).all(|entry| !entry.path().is_dir())
    }

    /// Reads everything, and waits for the end.
    fn read(mut self) -> (i32, String, String) {
        let mut err = self.err.try_clone().unwrap();
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        (code, out, err.join().unwrap().unwrap())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a number of lines of 100 characters, its number first.
fn writes(lines: usize) -> String {
    let rest = "x".repeat(90);
    format!("seq -f '%08.0f {rest}' 1 {lines}")
}

fn lines_of<'a>(err: &'a str, container: &str) -> Vec<&'a str> {
    let prefix = format!("[web/{container}] ");
    err.lines().filter_map(|line| line.strip_prefix(&*prefix)).collect()
}

/// The number that each of the lines begins with.
fn numbers(lines: &[&str]) -> Vec<usize> {
    lines.iter().map(|line| line[..8].parse().unwrap()).collect()
}

/// The watch events, whose versions must follow one another.
fn events(out: &str) -> Vec<Value> {
    let events: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (at, event) in events.iter().enumerate() {
        let version = &event["object"]["metadata"]["resourceVersion"];
        assert_eq!(version, &Value::from((at + 1).to_string()), "one is lost or too early");
    }
    events
}

/// A run with that timeout in seconds, of which not a byte has been read: its containers have started,
/// ended and been stopped in time. `None` if the last of them had not been up by then.
fn stopped_in_time(timeout: u64) -> Option<Unread> {
    let init = |name: &str| c(name, &format!("{}; say {name}", writes(200)));
    let inits = vec![init("i1"), init("i2"), init("i3")];
    let run = Run::of(&[pod("web", "Never", inits, vec![server("app"), c("b", "say b; exit 3")])])
        .args("-o jsonl --timeout")
        .arg(&format!("{timeout}s"));
    let begin = Instant::now();
    let unread = Unread::start(run);
    let was_up = || unread.log().lines().any(|line| line == "app up");
    let is_down = || unread.log().lines().any(|line| line == "app down");
    let is_over = || begin.elapsed().as_secs() > timeout && unread.is_taken_down();
    until("it is stopped", || is_down() || (is_over() && !was_up()));
    is_down().then_some(unread)
}

fn a_reader_that_stops_reading_stops_nobody() {
    // On a busy machine nothing may have been up by the first time.
    let unread = [2, 8, 32].into_iter().find_map(stopped_in_time);
    let mut unread = unread.expect("the app never ran");
    unread.still_runs();
    assert_eq!(unread.log().lines().take(3).collect::<Vec<_>>(), ["i1", "i2", "i3"]);
    until("the pod's directory is gone", || unread.is_taken_down());
    unread.still_runs();
    let (code, out, err) = unread.read();
    assert_eq!(code, 124, "{err}");
    let events = events(&out);
    assert_eq!(events[0]["type"], "ADDED");
    assert_eq!(events.last().unwrap()["type"], "DELETED");
    for name in ["i1", "i2", "i3"] {
        assert_eq!(numbers(&lines_of(&err, name)), Vec::from_iter(1..=200), "{name}");
    }
    assert!(err.contains("timed out; stopping"), "{err}");
}

fn a_second_ctrl_c_ends_a_run_that_nobody_reads() {
    let run = Run::of(&[pod("web", "Always", vec![], vec![server("app")])]).args("-o jsonl");
    let mut unread = Unread::start(run);
    unread.logged("app up");
    unread.signal(Signal::SIGINT);
    unread.logged("app down");
    until("the pod's directory is gone", || unread.is_taken_down());
    unread.still_runs();
    unread.signal(Signal::SIGINT);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match unread.child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < deadline, "it waits for its reader"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(130));
}

/// Resident memory in KiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn output_that_nobody_reads_waits_in_its_container() {
    const LINES: usize = 60_000;
    let app = c("app", &format!("{}; say written", writes(LINES)));
    // Others have nothing to do with that.
    let other = c("other", "sleep 1.5; say other");
    let run = Run::of(&[pod("web", "Never", vec![sidecar("s")], vec![app, other])]).args("-o json");
    let unread = Unread::start(run);
    unread.logged("other");
    assert!(!unread.log().contains("written"), "6 MB went somewhere");
    let resident = resident(unread.child.id());
    assert!(resident < 48 << 10, "{resident} KiB");
    let (code, out, err) = unread.read();
    assert_eq!(code, 0, "{out}");
    assert_eq!(numbers(&lines_of(&err, "app")), Vec::from_iter(1..=LINES));
}

/// A CRI runtime keeps output in files, so that a container never waits for a reader: neither does the news
/// of its end, or what comes after it.
fn an_end_does_not_wait_for_a_reader() {
    // Numbers of eight digits: busybox's `seq` has no format.
    const LINES: [usize; 2] = [10_000_001, 10_100_000];
    const FEWER: [usize; 2] = [LINES[0], 10_050_000];
    let writes =
        |[from, to]: [usize; 2]| format!("seq {from} {to} | sed 's/$/ {}/'", "x".repeat(90));
    containerd::share().unwrap();
    let loud = c("loud", &format!("{}; say written", writes(LINES)));
    let fails = c("fails", &format!("{}; echo last words; exit 3", writes(FEWER)))
        .with(json!({ "terminationMessagePolicy": "FallbackToLogsOnError" }));
    let run = Run::of(&[pod("web", "Never", vec![loud], vec![c("next", "say next"), fails])])
        .args("-o jsonl");
    let mut unread = Unread::start(run);
    unread.logged("written");
    unread.logged("next");
    // Of the 15 MB nobody has read a byte.
    let (mut out, mut events) = (unread.out.try_clone().unwrap(), String::new());
    let mut buffer = [0; 4096];
    while !events.contains(r#""phase":"Failed""#) {
        let read = out.read(&mut buffer).unwrap();
        events.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    unread.still_runs();
    let resident = resident(unread.child.id());
    assert!(resident < 64 << 10, "{resident} KiB");
    let (code, out, err) = unread.read();
    assert_eq!(code, 1, "{err}");
    let events = self::events(&(events + &out));
    let status = &events.last().unwrap()["object"]["status"];
    assert_eq!(status["phase"], "Failed");
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    let message = ended["message"].as_str().unwrap();
    assert!(message.len() == 2048 && message.ends_with("\nlast words\n"), "{message}");
    let all = |lines: &[&str], [from, to]: [usize; 2]| numbers(lines).into_iter().eq(from..=to);
    assert!(all(&lines_of(&err, "loud"), LINES), "something is lost, or not in order");
    let fails = lines_of(&err, "fails");
    assert_eq!(fails.last(), Some(&"last words"));
    assert!(all(&fails[..fails.len() - 1], FEWER), "something is lost, or not in order");
}

fn the_last_rows_come_when_somebody_reads_again() {
    let apps = (0..40).map(|at| c(&format!("app-{at}"), "say app")).collect();
    // Its rows are long enough for the pipe.
    let name = format!("web-{}", "x".repeat(200));
    let run = Run::of(&[pod(&name, "Never", vec![], apps)]);
    let mut unread = Unread::start(run);
    until("all have run", || unread.log().lines().count() == 40);
    until("the pod's directory is gone", || unread.is_taken_down());
    unread.still_runs();
    let (code, out, err) = unread.read();
    assert_eq!(code, 0, "{err}");
    let last: Vec<&str> = out.lines().last().unwrap().split_whitespace().take(3).collect();
    assert_eq!(last, [&*name, "0/40", "Completed"], "{out}");
}
