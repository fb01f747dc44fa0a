//! `kill -9` at random instants leaves nothing behind.
//!
//! A *victim* is this program again, busy with pods. It is killed some time after its start; then no
//! process, cgroup, mount, network device or file of its may be left. The tests do this in cgroup,
//! mount and network namespaces of their own, so that "nothing" can be taken literally.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::Runtime;
use holdfast_runtime::process::{Isolation, Network, ProcessOptions, ProcessRuntime};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::unbounded_channel;

use crate::harness::{pod, sandbox, sh, state_dir};

crate::tests! {
    root:
        holdfast_is_killed,
        holdfast_and_its_launcher_are_killed,
        the_launcher_is_killed,
        holdfast_is_killed_with_plain_processes,
        both_are_killed_with_plain_processes;
    any:
}

pub const VICTIM: &str = "--holdfast-victim";

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Holdfast,
    Launcher,
    Both,
}

fn holdfast_is_killed() {
    many(Who::Holdfast, "namespaces", 160);
}

fn holdfast_and_its_launcher_are_killed() {
    many(Who::Both, "namespaces", 100);
}

fn the_launcher_is_killed() {
    many(Who::Launcher, "namespaces", 40);
}

fn holdfast_is_killed_with_plain_processes() {
    many(Who::Holdfast, "none", 60);
}

fn both_are_killed_with_plain_processes() {
    many(Who::Both, "none", 60);
}

/// The life of a victim.
pub fn victim(state: &str, isolation: &str, token: &str) {
    let launcher = holdfast_sys::launcher::fork().unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let isolation = if isolation == "none" { Isolation::None } else { Isolation::Namespaces };
    let network = if isolation == Isolation::None { Network::Host } else { Network::Pod };
    reactor.block_on(async {
        let (events, _keep) = unbounded_channel();
        let options =
            ProcessOptions { isolation, network, state_dir: state.into(), ..Default::default() };
        let Ok((runtime, _)) = ProcessRuntime::new(launcher, options, events).await else { return };
        let mut number = 0;
        for attempt in 0.. {
            let mut config = sandbox();
            config.attempt = attempt;
            config.share_process_namespace = attempt % 3 == 1;
            if runtime.create_sandbox(&config).await.is_err() {
                break;
            }
            for _ in 0..3 {
                number += 1;
                let script =
                    format!("(setsid sleep {token} &); sleep {token} & exec sleep {token}");
                let mut config = sh(number, &script);
                if isolation != Isolation::None {
                    config.mounts = vec![crate::memory::volume("m")];
                }
                if runtime.start(config).await.is_err() {
                    break;
                }
                let argv =
                    ["sh", "-c", &format!("setsid sleep {token} & sleep 0.002")].map(str::to_owned);
                let _ = runtime.exec(InstanceId(number), &argv, None).await;
                runtime.stop(InstanceId(number), Duration::from_millis(3)).await;
            }
            runtime.stop_sandbox(&pod(), attempt).await;
            runtime.remove_pod(&pod()).await;
        }
        // Only when the launcher was killed.
        runtime.shutdown().await;
    });
}

/// A small generator; the seed is printed with every failure.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

fn many(who: Who, isolation: &str, times: u32) {
    let cgroups = private_world();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() | 1;
    println!("seed {seed}");
    std::thread::scope(|scope| {
        for worker in 0..3_u64 {
            let cgroups = cgroups.as_deref();
            scope.spawn(move || {
                let mut random = Random((u64::from(seed) << 8) + worker + 1);
                while COUNT.fetch_add(1, Ordering::Relaxed) < times {
                    once(who, isolation, cgroups, &mut random);
                }
            });
        }
    });
    only_the_loopback_is_left();
    if let Some(cgroups) = cgroups {
        leave(&cgroups);
    }
}

/// The kernel takes network namespaces down in the background, and tells nobody.
fn only_the_loopback_is_left() {
    let names = || nix::net::if_::if_nameindex().unwrap().iter().count();
    let start = Instant::now();
    while names() > 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", nix::net::if_::if_nameindex());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn once(who: Who, isolation: &str, cgroups: Option<&Path>, random: &mut Random) {
    let state = state_dir();
    let token = format!("3600.{}", random.next(u64::MAX) % 1_000_000_000);
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args([VICTIM, state.to_str().unwrap(), isolation, &token]);
    victim.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut victim = victim.spawn().unwrap();
    let micros = random.next(70_000);
    std::thread::sleep(Duration::from_micros(micros));
    let launcher = launcher_of(&victim);
    let strike = |pid: u32| {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    };
    let main = victim.id();
    match (who, launcher) {
        (Who::Launcher, Some(launcher)) => strike(launcher),
        (Who::Both, Some(launcher)) if random.next(2) == 0 => {
            strike(launcher);
            strike(main);
        }
        (Who::Both, Some(launcher)) => {
            strike(main);
            strike(launcher);
        }
        (_, _) => strike(main),
    }
    let said = wait_for_everyone(&mut victim);
    let context = format!("after {micros} us, token {token}, launcher {launcher:?}: {said}");
    if who == Who::Both {
        next_start(&state, &token, &context);
    }
    nothing_left(&state, cgroups, &token, &context);
    let _ = std::fs::remove_dir_all(&state);
}

fn launcher_of(victim: &Child) -> Option<u32> {
    let pid = victim.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// The launcher and the shims keep the victim's stderr, so its end means that all of them are gone.
fn wait_for_everyone(victim: &mut Child) -> String {
    let mut said = String::new();
    victim.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    victim.wait().unwrap();
    said
}

/// Does what the next start does first, as often as it takes for the last of the dying to let go of
/// the run's lock: a process that is being killed closes its stderr a little before the rest.
fn next_start(state: &Path, token: &str, context: &str) {
    let start = Instant::now();
    loop {
        let problems = holdfast_sys::rundir::cleanup_stale(state);
        assert!(problems.is_empty(), "{problems:?} {context}");
        if processes(token).is_empty() && files(state).is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} {context}", processes(token));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn files(state: &Path) -> Vec<std::ffi::OsString> {
    let Ok(entries) = std::fs::read_dir(state) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".lock").collect()
}

fn processes(token: &str) -> Vec<String> {
    let running = |entry: std::fs::DirEntry| {
        let cmdline = std::fs::read(entry.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        text.contains(token).then(|| format!("{}: {text}", entry.file_name().display()))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| running(entry.ok()?)).collect()
}

fn nothing_left(state: &Path, cgroups: Option<&Path>, token: &str, context: &str) {
    let left = processes(token);
    assert!(left.is_empty(), "processes left: {left:?} {context}");
    let files = files(state);
    assert!(files.is_empty(), "files left: {files:?} {context}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(state.to_str().unwrap()), "mounts left: {mounts} {context}");
    if let Some(cgroups) = cgroups {
        // Other workers have theirs; a cgroup without a run directory is nobody's.
        for name in runs(cgroups) {
            let owned = std::fs::read_dir(state.parent().unwrap()).unwrap().any(|state| {
                state.is_ok_and(|state| state.path().join(&name["holdfast-".len()..]).exists())
            });
            let still = cgroups.join(&name).exists();
            assert!(owned || !still, "cgroup left: {name} {context}");
        }
    }
}

fn runs(cgroups: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cgroups).unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("holdfast-"))
        .collect()
}

/// Moves the test into namespaces of its own; the answer is where its cgroups are.
fn private_world() -> Option<PathBuf> {
    let base = holdfast_sys::cgroup::base(&holdfast_sys::mountinfo::read().unwrap(), true).unwrap();
    let own = base.as_ref().map(|base| base.join(format!("hf-test-{}", std::process::id())));
    if let Some(own) = &own {
        std::fs::create_dir(own).unwrap();
        std::fs::write(own.join("cgroup.procs"), "0").unwrap();
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    if let (Some(base), Some(own)) = (&base, &own) {
        nix::mount::mount(Some(own), base, none, MsFlags::MS_BIND, none).unwrap();
    }
    base
}

fn leave(base: &Path) {
    let left = runs(base);
    assert!(left.is_empty(), "cgroups left at the end: {left:?}");
    nix::mount::umount(base).unwrap();
    std::fs::write(base.join("cgroup.procs"), "0").unwrap();
    std::fs::remove_dir(base.join(format!("hf-test-{}", std::process::id()))).unwrap();
}
