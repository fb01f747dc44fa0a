//! Runs the tests: each in a thread of its own and many at once, because most of them wait.
//!
//! libtest would run as many at once as there are processors, which makes a suite that mostly sleeps
//! last for minutes on a small machine.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Root,
    /// Root, and cgroup v2 with controllers.
    Controllers,
}

#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
    pub needs: Needs,
    /// Whether containerd runs the containers.
    pub cri: bool,
}

/// The same tests once more, with containerd: those with one of these names.
pub fn with_containerd(tests: &[Test], names: &[&str]) -> Vec<Test> {
    let missing = names.iter().find(|name| !tests.iter().any(|test| short(test.name) == **name));
    assert_eq!(missing, None, "no such test");
    let wanted = tests.iter().filter(|test| names.contains(&short(test.name)));
    let name = |test: &Test| &*format!("it::cri::{}", short(test.name)).leak();
    wanted.map(|test| Test { name: name(test), cri: true, needs: Needs::Root, ..*test }).collect()
}

/// Lists test functions: those after `root:` need root, those after `cgroup2:` controllers of cgroup v2.
#[macro_export]
macro_rules! tests {
    (cgroup2: $($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
                needs: $crate::harness::Needs::Controllers,
                cri: false,
            },)*
        ];
    };
    ($($any:ident),* $(,)? $(; root: $($root:ident),* $(,)?)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($any)),
                run: $any,
                needs: $crate::harness::Needs::Nothing,
                cri: false,
            },)*
            $($($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($root)),
                run: $root,
                needs: $crate::harness::Needs::Root,
                cri: false,
            },)*)?
        ];
    };
}

/// Most tests wait most of the time.
const AT_ONCE: usize = 10;
/// In the virtual machine waiting takes no time, and what runs is slow and shares one processor.
const AT_ONCE_IN_VM: usize = 2;
/// A test that takes longer is slow, and said to be.
const SLOW: Duration = Duration::from_secs(8);

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this is the virtual machine of `cargo xtask vm`.
fn in_vm() -> bool {
    std::env::var_os("HOLDFAST_VM").is_some()
}

/// Why limits cannot be tested here, if they cannot.
fn no_controllers() -> Option<&'static str> {
    // There it is what the machine is for.
    if in_vm() {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let controllers = target.and_then(|line| line.split(' ').nth(4)).and_then(|target| {
        std::fs::read_to_string(std::path::Path::new(target).join("cgroup.controllers")).ok()
    });
    let controllers = controllers.unwrap_or_default();
    let has = |name| controllers.split_whitespace().any(|word| word == name);
    let there = is_root() && has("cpu") && has("memory");
    (!there).then_some(
        "it needs root and the cpu and memory controllers of cgroup v2: `cargo xtask vm` runs it",
    )
}

/// Marks this test as skipped: what it needs is not part of the repository.
pub fn skip(reason: &str) {
    SKIPPED.with_borrow_mut(|s| *s = Some(reason.to_owned()));
}

pub fn main(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        for test in tests {
            println!("{}: test", short(test.name));
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted =
        |test: &&Test| filters.is_empty() || filters.iter().any(|f| test.name.contains(f.as_str()));
    let queue: VecDeque<Test> = tests.iter().filter(wanted).copied().collect();
    let at_once = if in_vm() { AT_ONCE_IN_VM } else { AT_ONCE };
    println!("\nrunning {} tests, {at_once} at once", queue.len());
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|p| p.push_str(&info.to_string()));
    }));
    let (queue, failures) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let counts = Mutex::new((0, 0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(test) = queue.lock().unwrap().pop_front() else { return };
                    // A thread a test: what it does to its own namespaces ends with it.
                    let (word, detail, took) =
                        std::thread::spawn(move || one(test)).join().unwrap();
                    let slow = if took > SLOW { ", slow" } else { "" };
                    println!(
                        "test {} ... {word} ({} ms{slow})",
                        short(test.name),
                        took.as_millis()
                    );
                    match word {
                        "ok" => counts.lock().unwrap().0 += 1,
                        "skipped" => {
                            println!("    {detail}");
                            counts.lock().unwrap().1 += 1;
                        }
                        _ => failures.lock().unwrap().push((test.name, detail)),
                    }
                }
            });
        }
    });
    crate::containerd::end();
    let failures = failures.into_inner().unwrap();
    for (name, detail) in &failures {
        println!("\n---- {} ----\n{detail}", short(name));
    }
    let (passed, skipped) = counts.into_inner().unwrap();
    let took = begin.elapsed().as_secs_f64();
    println!("\n{passed} passed, {} failed, {skipped} skipped in {took:.1} s", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(test: Test) -> (&'static str, String, Duration) {
    let start = Instant::now();
    if test.needs == Needs::Root && !is_root() && std::env::var_os("CI").is_none() {
        return ("skipped", "it needs root".to_owned(), start.elapsed());
    }
    if test.needs == Needs::Controllers
        && let Some(reason) = no_controllers()
    {
        return ("skipped", reason.to_owned(), start.elapsed());
    }
    if test.cri
        && let Err(reason) = crate::containerd::share()
    {
        return ("FAILED", reason, start.elapsed());
    }
    let passed = catch_unwind(AssertUnwindSafe(test.run)).is_ok();
    let took = start.elapsed();
    if !passed {
        return ("FAILED", PANIC.take(), took);
    }
    match SKIPPED.take() {
        Some(reason) => ("skipped", reason, took),
        None => ("ok", String::new(), took),
    }
}

fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, short)| short)
}
