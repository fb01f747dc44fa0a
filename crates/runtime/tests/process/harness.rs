//! Runs each test in a process of its own, and what the tests share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Confinement, ContainerConfig, ExecOutcome, Limits, PodUid, RootFs, Runtime, RuntimeEvent,
    SandboxConfig, StartError, User,
};
use holdfast_runtime::process::{Isolation, Network, ProcessOptions, ProcessRuntime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
    pub root: bool,
}

/// Lists test functions: those before `;` need root.
#[macro_export]
macro_rules! tests {
    (root: $($name:ident),* $(,)? ; any: $($any:ident),* $(,)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)), run: $name, root: true,
            },)*
            $($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($any)), run: $any, root: false,
            },)*
        ];
    };
}

const ONE: &str = "--holdfast-one-test";
const AT_ONCE: usize = 6;
/// In the virtual machine of `cargo xtask vm` waiting takes no time, and there is one slow processor.
const AT_ONCE_IN_VM: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, short)| short)
}

pub fn main(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &args[..]
        && flag == ONE
    {
        let test = tests.iter().find(|test| test.name == name).expect("a known test");
        (test.run)();
        return ExitCode::SUCCESS;
    }
    if let [flag, state, isolation, token] = &args[..]
        && flag == crate::killing::VICTIM
    {
        crate::killing::victim(state, isolation, token);
        return ExitCode::SUCCESS;
    }
    if let [flag, kind, address] = &args[..]
        && flag == crate::network::PEER
    {
        crate::network::peer(kind, address);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        for test in tests {
            println!("{}: test", short(test.name));
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted =
        |test: &&Test| filters.is_empty() || filters.iter().any(|f| test.name.contains(f.as_str()));
    let root = rustix::process::geteuid().is_root();
    let ci = std::env::var_os("CI").is_some();
    let mut queue = VecDeque::new();
    let mut skipped = 0;
    for test in tests.iter().filter(wanted) {
        if test.root && !root && !ci {
            println!("test {} ... skipped: it needs root", short(test.name));
            skipped += 1;
        } else {
            queue.push_back(*test);
        }
    }
    let total = queue.len();
    let queue = Mutex::new(queue);
    let failed = Mutex::new(Vec::new());
    let in_vm = std::env::var_os("HOLDFAST_VM").is_some();
    std::thread::scope(|scope| {
        for _ in 0..if in_vm { AT_ONCE_IN_VM } else { AT_ONCE } {
            scope.spawn(|| {
                loop {
                    let Some(test) = queue.lock().unwrap().pop_front() else { return };
                    let start = Instant::now();
                    let (ok, output) = run_one(&test);
                    let took = start.elapsed().as_millis();
                    let word = if ok { "ok" } else { "FAILED" };
                    println!("test {} ... {word} ({took} ms)", short(test.name));
                    if !ok || !output.is_empty() && (test.name.contains("timing")) {
                        println!("{output}");
                    }
                    if !ok {
                        failed.lock().unwrap().push(test.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("\n{} passed, {} failed, {skipped} skipped", total - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(test: &Test) -> (bool, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([ONE, test.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stdout, &mut text);
        let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
        text
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let output = reader.join().unwrap();
    match status {
        Some(status) => (status.success(), output),
        None => (false, format!("still running after {PATIENCE:?}\n{output}")),
    }
}

/// A runtime with its events, and a state directory of its own.
pub struct World {
    pub runtime: ProcessRuntime,
    pub events: UnboundedReceiver<RuntimeEvent>,
    pub warnings: UnboundedReceiver<String>,
    pub notices: Vec<String>,
    pub state: PathBuf,
    seen: Vec<RuntimeEvent>,
}

/// The one pod most tests have.
pub fn pod() -> PodUid {
    PodUid::from("11111111-2222-3333-4444-555555555555")
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A place of its own for each call: no directory that an earlier run left, perhaps as another user
/// and with a process number that came round again, is ever taken for it.
pub fn state_dir() -> PathBuf {
    let base = std::env::temp_dir().join("holdfast-tests");
    std::fs::create_dir_all(&base).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o1777));
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = base.join(format!("{}-{number}", std::process::id()));
        if !place.exists() {
            return place;
        }
    }
}

/// Forks a launcher, then runs `test` in a reactor with a runtime of the given kind.
pub fn with(isolation: Isolation, network: Network, test: impl AsyncFnOnce(&mut World)) {
    let launcher = holdfast_sys::launcher::fork().unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    reactor.block_on(async {
        let (sender, events) = unbounded_channel();
        let (warn, warnings) = unbounded_channel();
        let state = state_dir();
        let options =
            ProcessOptions { isolation, network, state_dir: state.clone(), warnings: Some(warn) };
        let (runtime, notices) = ProcessRuntime::new(launcher, options, sender).await.unwrap();
        let mut world = World { runtime, events, warnings, notices, state, seen: Vec::new() };
        test(&mut world).await;
        world.runtime.shutdown().await;
        let left: Vec<_> = std::fs::read_dir(&world.state)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != ".lock")
            .collect();
        assert!(left.is_empty(), "left in the state directory: {left:?}");
        std::fs::remove_dir_all(&world.state).unwrap();
    });
}

/// The usual: namespaces as root, with the pod's sandbox made.
pub fn with_pod(test: impl AsyncFnOnce(&mut World)) {
    with(Isolation::Namespaces, Network::Host, async |world| {
        world.runtime.create_sandbox(&sandbox()).await.unwrap();
        test(world).await;
    });
}

/// How a container ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub oom: bool,
    pub message: String,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    pub async fn next(&mut self) -> RuntimeEvent {
        let mut event = tokio::time::timeout(Duration::from_secs(10), self.events.recv())
            .await
            .expect("an event within 10 s")
            .expect("the runtime lives");
        // What is kept has been taken.
        if let RuntimeEvent::Output { receipt, .. } = &mut event {
            *receipt = None;
        }
        event
    }

    /// Waits for a line on stdout.
    pub async fn line(&mut self, wanted: &str) {
        loop {
            let event = self.next().await;
            let found =
                matches!(&event, RuntimeEvent::Output { line, .. } if line == wanted.as_bytes());
            let over = matches!(&event, RuntimeEvent::Exited { .. });
            self.seen.push(event);
            if found {
                return;
            }
            assert!(!over, "it ended without {wanted:?}: {:?}", self.seen);
        }
    }

    /// Waits for the end of a container; what it wrote is collected.
    pub async fn ended(&mut self, wanted: u64) -> Ended {
        let is_it = |e: &RuntimeEvent| matches!(e, RuntimeEvent::Exited { instance, .. } if instance.0 == wanted);
        let mut exited = self.seen.iter().position(is_it).map(|at| self.seen.remove(at));
        while exited.is_none() {
            let event = self.next().await;
            if is_it(&event) {
                exited = Some(event);
            } else {
                self.seen.push(event);
            }
        }
        let Some(RuntimeEvent::Exited { code, oom, message, .. }) = exited else { unreachable!() };
        let name = format!("c{wanted}");
        let (stdout, stderr) = (self.written(&name, false), self.written(&name, true));
        Ended { code, oom, message, stdout, stderr }
    }

    /// What a container wrote, as far as events were taken.
    pub fn written(&self, name: &str, err: bool) -> String {
        let mut text = String::new();
        for event in &self.seen {
            if let RuntimeEvent::Output { container, stderr, line, .. } = event
                && container == name
                && *stderr == err
            {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
        }
        text
    }

    pub async fn start(&self, config: ContainerConfig) -> Result<(), StartError> {
        self.runtime.start(config).await
    }

    /// Starts a shell script as container `number` and waits for its end.
    pub async fn sh(&mut self, number: u64, script: &str) -> Ended {
        self.run(sh(number, script)).await
    }

    pub async fn run(&mut self, config: ContainerConfig) -> Ended {
        let number = config.instance.0;
        self.start(config).await.unwrap();
        self.ended(number).await
    }

    pub async fn exec(&self, number: u64, script: &str) -> ExecOutcome {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        self.runtime.exec(InstanceId(number), &argv, None).await.unwrap()
    }
}

pub fn sandbox() -> SandboxConfig {
    SandboxConfig {
        pod: pod(),
        name: "web".to_owned(),
        hostname: Some("web".to_owned()),
        containers: 3,
        ..SandboxConfig::default()
    }
}

/// Container `c<number>` of the pod with a shell script.
pub fn sh(number: u64, script: &str) -> ContainerConfig {
    ContainerConfig {
        pod: pod(),
        name: format!("c{number}"),
        instance: InstanceId(number),
        restart_count: 0,
        image: "host".to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        args: Vec::new(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned())],
        cwd: None,
        root: RootFs::Host,
        read_only_root: false,
        mounts: Vec::new(),
        user: User::default(),
        privileged: false,
        capabilities: Some(default_capabilities()),
        changed_capabilities: Default::default(),
        no_new_privileges: false,
        confinement: Confinement::default(),
        limits: Limits::default(),
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_from_logs: false,
        stop_signal: 15,
        own_stop_signal: false,
        tty: false,
        stdin: false,
    }
}

pub fn default_capabilities() -> Vec<String> {
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .map(str::to_owned)
    .to_vec()
}
