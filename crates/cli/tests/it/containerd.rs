//! A containerd of the tests' own, with runc and CNI, in namespaces that end with it: nothing of the host
//! is touched, and nothing is left however the tests end.
//!
//! ```text
//!   unshare (mount, network, pid) ─▶ sh, PID 1: reads commands; at the end of its input everything dies
//!                                     └─ sh in a cgroup namespace ─▶ containerd ─▶ shims ─▶ containers
//! ```
//!
//! It is the one in PATH, or in the directory that `HOLDFAST_TEST_CONTAINERD` names; tests of what 1.6 does
//! not have build a later one ([`Setup::latest`]).

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use holdfast_e2e::go;
use holdfast_e2e::packages::{self, Tool, tool};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;

use crate::image_archive::{self, BUSYBOX, PAUSE, WEB};

/// What the tests cannot do without, and the Debian packages it is in.
const TOOLS: [Tool; 7] = [
    tool("containerd", "containerd"),
    tool("ctr", "containerd"),
    tool("runc", "runc"),
    tool("busybox", "busybox-static"),
    tool("ip", "iproute2"),
    tool("iptables", "iptables"),
    tool("/usr/lib/cni/bridge", "containernetworking-plugins"),
];
/// What its directory and its cgroups begin with, before the process that made them.
const PREFIX: &str = "holdfast-containerd-";
/// Where Debian has the CNI plugins.
const CNI: &str = "/usr/lib/cni";
/// How long anything of it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd.
pub struct Containerd {
    pub dir: TempDir,
    name: String,
    unshare: Mutex<Child>,
    commands: Mutex<Option<ChildStdin>>,
    /// PID 1 of its namespaces, as the host counts.
    init: u32,
}

/// How one differs from the usual.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    /// Whether the CNI plugin fails as long as there is a file `broken` in the directory.
    pub broken_network: bool,
    /// Whether it is one with all that the CRI has by now.
    pub latest: bool,
}

thread_local! {
    /// The one that runs of this thread use.
    static CURRENT: RefCell<Option<Arc<Containerd>>> = const { RefCell::new(None) };
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

static SHARED: OnceLock<Result<Arc<Containerd>, String>> = OnceLock::new();
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The one that runs of this thread use, if they use any.
pub fn current() -> Option<Arc<Containerd>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs of this thread use the containerd that most tests share; the reason if there is none.
pub fn share() -> Result<(), String> {
    Turn::take();
    let shared =
        SHARED.get_or_init(|| Containerd::start(Setup::default()).map(Arc::new)).clone()?;
    CURRENT.set(Some(shared));
    Ok(())
}

/// Runs of this thread use a containerd of their own.
pub fn own(setup: Setup) -> Arc<Containerd> {
    Turn::take();
    let own = Arc::new(Containerd::start(setup).unwrap());
    CURRENT.set(Some(Arc::clone(&own)));
    own
}

/// One of the few runs with containerd that may be under way at a time: a pod costs it much more than a
/// test, and those that wait for a time want their pods soon.
struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(5), Condvar::new());

impl Turn {
    /// Takes one until the end of this thread.
    fn take() {
        TURN.with_borrow_mut(|turn| {
            turn.get_or_insert_with(Self::wait);
        });
    }

    fn wait() -> Self {
        let mut left = TURNS.0.lock().unwrap();
        while *left == 0 {
            left = TURNS.1.wait(left).unwrap();
        }
        *left -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap() += 1;
        TURNS.1.notify_one();
    }
}

/// Ends the shared one.
pub fn end() {
    if let Some(Ok(shared)) = SHARED.get() {
        shared.stop();
    }
}

impl Containerd {
    fn start(setup: Setup) -> Result<Self, String> {
        // apt runs once at a time.
        let installed = || packages::ensure(&TOOLS).map_err(|error| format!("{error:#}"));
        INSTALLED.get_or_init(installed).clone()?;
        remove_stale();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("net.d")).unwrap();
        fs::write(at("net.d/10-test.conflist"), network(dir.path())).unwrap();
        if setup.broken_network {
            break_network(dir.path());
        }
        let plugins = if setup.broken_network { at("cni") } else { CNI.into() };
        fs::write(at("config.toml"), config(dir.path(), &plugins)).unwrap();
        let mut path = path();
        if setup.latest {
            let programs = go::containerd().map_err(|error| format!("{error:#}"))?;
            fs::create_dir(at("bin")).unwrap();
            for (program, name) in programs.iter().zip(["containerd", "containerd-shim-runc-v2"]) {
                std::os::unix::fs::symlink(program, at("bin").join(name)).unwrap();
            }
            path = [at("bin").into_os_string(), path].join(OsStr::new(":"));
        }
        let log = fs::File::create(at("log")).unwrap();
        let mut unshare = Command::new("unshare")
            .args(["-m", "-n", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-c", INIT])
            .arg("sh")
            .arg(dir.path())
            .arg(&name)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let commands = unshare.stdin.take();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let begin = Instant::now();
        let init = loop {
            let text = fs::read_to_string(&children).unwrap_or_default();
            match text.trim().parse() {
                Ok(init) => break init,
                Err(_) => {
                    assert!(begin.elapsed() < PATIENCE, "unshare starts nothing");
                    std::thread::yield_now();
                }
            }
        };
        let (unshare, commands) = (Mutex::new(unshare), Mutex::new(commands));
        let this = Self { dir, name, unshare, commands, init };
        this.wait_until_up()?;
        for name in [PAUSE, BUSYBOX, WEB] {
            let archive = this.dir.path().join("image.tar");
            image_archive::write(name, &archive);
            this.ctr(&["images", "import", archive.to_str().unwrap()]);
        }
        Ok(this)
    }

    /// Waits until it answers.
    fn wait_until_up(&self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let answer = self.ctr_command(&["version"]).output().unwrap();
            if answer.status.success() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                return Err(format!("containerd does not come up:\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn ctr_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.env("PATH", path());
        command.arg("-a").arg(self.socket()).args(["-n", "k8s.io"]).args(args);
        command
    }

    /// Runs `ctr`; what it prints.
    pub fn ctr(&self, args: &[&str]) -> String {
        let output = self.ctr_command(args).output().unwrap();
        assert!(output.status.success(), "ctr {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ids of all containers, sandboxes among them.
    pub fn containers(&self) -> Vec<String> {
        self.ctr(&["containers", "ls", "-q"]).lines().map(str::to_owned).collect()
    }

    /// Kills containerd itself. Its shims and their containers go on.
    pub fn kill(&self) {
        self.command("kill");
        let begin = Instant::now();
        while self.ctr_command(&["version"]).output().unwrap().status.success() {
            assert!(begin.elapsed() < PATIENCE);
        }
    }

    /// Starts it again.
    pub fn restart(&self) {
        self.command("start");
    }

    fn command(&self, word: &str) {
        let mut commands = self.commands.lock().unwrap();
        writeln!(commands.as_mut().unwrap(), "{word}").unwrap();
    }

    /// Runs something in its mount and network namespaces, with children in its process namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let open = |kind: &str| fs::File::open(format!("/proc/{}/ns/{kind}", self.init)).unwrap();
        let (mounts, network, pids) = (open("mnt"), open("net"), open("pid"));
        // A thread of its own: in this state it cannot make threads, and it must not go back.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).unwrap();
                setns(network.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
                setns(pids.as_fd(), CloneFlags::CLONE_NEWPID).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Runs a command there; what it prints.
    pub fn run_inside(&self, program: &str, args: &[&str]) -> String {
        let output = self.inside(|| Command::new(program).args(args).output().unwrap());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn stop(&self) {
        // PID 1 ends, and everything in its namespace with it.
        drop(self.commands.lock().unwrap().take());
        let _ = self.unshare.lock().unwrap().wait();
        remove_cgroups(&self.name);
        let _ = fs::remove_dir_all(self.dir.path());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where programs are looked for.
fn path() -> OsString {
    let mut path = std::env::var_os("HOLDFAST_TEST_CONTAINERD").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// PID 1: moves into cgroups of its own, and then into a namespace in which they are all there is.
const INIT: &str = r#"
D=$1; N=$2
ip link set lo up
for c in /sys/fs/cgroup/*; do
    [ -e $c/cgroup.procs ] || continue
    mkdir $c/$N
    for f in cpuset.cpus cpuset.mems; do [ -e $c/$f ] && cat $c/$f > $c/$N/$f; done
    echo 0 > $c/$N/cgroup.procs
done
export D N
unshare -C sh -c '
    grep -E " cgroup2? " /proc/mounts | while read dev dir type options rest; do
        case $options in
            *name=*) o=none,name=${options##*name=}; o=${o%%,rw*} ;;
            *) o=${options##*relatime,} ;;
        esac
        umount $dir
        case $type in cgroup2) mount -t cgroup2 cgroup2 $dir ;; *) mount -t cgroup -o $o cgroup $dir ;; esac
    done
    start() { containerd -c $D/config.toml & P=$!; }
    start
    while read word; do
        case $word in
            kill) kill -9 $P; wait $P ;;
            start) start ;;
        esac
    done
'
"#;

fn config(dir: &Path, plugins: &Path) -> String {
    let (dir, plugins) = (dir.display(), plugins.display());
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "test.local/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{dir}/certs.d"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{dir}/net.d"
"#
    )
}

/// Puts something in the place of the plugins that is one of them only if nothing is `broken`.
fn break_network(dir: &Path) {
    let at = |name: &str| dir.join(name);
    fs::create_dir(at("cni")).unwrap();
    fs::write(at("broken"), "").unwrap();
    let script = format!(
        "#!/bin/sh\n\
         if [ $CNI_COMMAND = ADD ] && [ -e {} ]; then\n\
         echo '{{\"cniVersion\": \"0.4.0\", \"code\": 100, \"msg\": \"no network today\"}}'\n\
         exit 1\n\
         fi\n\
         exec {CNI}/${{0##*/}}\n",
        at("broken").display()
    );
    for name in ["bridge", "portmap"] {
        fs::write(at("cni").join(name), &script).unwrap();
        fs::set_permissions(at("cni").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["host-local", "loopback"] {
        std::os::unix::fs::symlink(format!("{CNI}/{name}"), at("cni").join(name)).unwrap();
    }
}

fn network(dir: &Path) -> String {
    let ipam = serde_json::json!({
        "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]],
        "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": dir.join("ipam"),
    });
    serde_json::json!({
        "cniVersion": "0.4.0", "name": "test",
        "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": ipam },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

/// The cgroup hierarchies.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists())
}

/// Removes what tests that were killed have left: cgroups and files. Everything else ended with them.
fn remove_stale() {
    let places = hierarchies().chain([std::env::temp_dir()]);
    for entry in places.flat_map(fs::read_dir).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
            continue;
        }
        if entry.path().starts_with("/sys") {
            remove_tree(&entry.path());
        } else {
            // Two may do it at once.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn remove_cgroups(name: &str) {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(name));
    }
}

/// Directories only: a cgroup's files go with it.
fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    // The kernel may still count a process that has just died.
    for _ in 0..100 {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(16) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return,
        }
    }
}
