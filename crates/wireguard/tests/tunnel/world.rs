//! Hosts, and the wires between them.

use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holdfast_wireguard::{
    Backend, Device, Options, Peer, PeerStatus, PrivateKey, PublicKey, Status, Update,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::{Builder, Runtime};

/// No test has to wait longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this test can run here; else it says why not.
pub fn can_run(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{test} needs root, and CI is set");
    if !root {
        println!("{test}: skipped, it needs root");
    }
    root
}

type Job = Box<dyn FnOnce(&Runtime) + Send>;

/// A machine of its own, as far as networks and sockets in /run are concerned: a thread. All that is in
/// it ends with it.
pub struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    network: String,
}

impl Host {
    pub fn new() -> Self {
        let (jobs, receiver) = channel::<Job>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            fs::create_dir_all("/run/wireguard").unwrap();
            mount(Some("none"), "/run/wireguard", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            for which in ["all", "default"] {
                // Peers share machines in some tests.
                fs::write(format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"), "0").unwrap();
            }
            // An address that goes does not take the others of its network with it.
            fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1").unwrap();
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            for job in receiver {
                job(&runtime);
            }
        });
        let mut host = Self { jobs: Some(jobs), thread: Some(thread), network: String::new() };
        let id = host.run(|| nix::unistd::gettid().as_raw());
        host.network = format!("/proc/{}/task/{id}/ns/net", std::process::id());
        host.ip("link set lo up");
        host
    }

    fn job<T: Send + 'static>(&self, job: impl FnOnce(&Runtime) -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        let job = move |runtime: &Runtime| drop(sender.send(job(runtime)));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        receiver.recv().expect("a job of the host has panicked")
    }

    /// Does something there. What sockets it makes are of that network, wherever they are used.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.job(move |_| job())
    }

    pub fn wait<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> T {
        self.job(move |runtime| runtime.block_on(job))
    }

    /// Runs a program there; its input is `input`.
    pub fn program(&self, words: &str, input: &str) -> Output {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let input = input.to_owned();
        self.run(move || {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stdin(Stdio::piped());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command
                .spawn()
                .unwrap_or_else(|error| panic!("{words:?}: {error}; is it installed?"));
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
    }

    /// Runs a program there that must succeed, and returns what it prints.
    pub fn must(&self, words: &str, input: &str) -> String {
        let output = self.program(words, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ip(&self, words: &str) {
        self.must(&format!("ip {words}"), "");
    }

    /// Starts a program that ends with the host at the latest.
    pub fn start(&self, words: &str) -> Child {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        self.run(move || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).args(&words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("setpriv, of util-linux")
        })
    }

    /// A device of ours.
    pub fn device(&self, options: Options) -> Device {
        self.wait(async move { Device::create(&options).await }).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Joins two hosts: 192.0.2.1 and .2, 2001:db8::1 and ::2.
pub fn wire(one: &Host, two: &Host) {
    one.ip(&format!("link add wire type veth peer name wire netns {}", two.network));
    for (host, number) in [(one, 1), (two, 2)] {
        host.ip(&format!("addr add 192.0.2.{number}/24 dev wire"));
        host.ip(&format!("addr add 2001:db8::{number}/64 dev wire nodad"));
        host.ip("link set wire up");
    }
}

/// A runtime to ask devices in.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A device of ours, and what is known of it.
pub struct Ours {
    pub device: Device,
    pub key: PublicKey,
    pub private: PrivateKey,
}

/// Options of a device whose addresses within are 10.44.0.N and fd44::N.
pub fn options(number: u8) -> Options {
    Options {
        backend: Backend::Userspace,
        addresses: vec![
            format!("10.44.0.{number}/24").parse().unwrap(),
            format!("fd44::{number}/64").parse().unwrap(),
        ],
        ..Options::new("wg0")
    }
}

impl Ours {
    pub fn new(host: &Host, options: Options) -> Self {
        let private = PrivateKey::generate();
        let ours = Self { device: host.device(options), key: private.public(), private };
        ours.update(Update { private_key: Some(ours.private.clone()), ..Update::default() });
        ours
    }

    pub fn update(&self, update: Update) {
        runtime().block_on(self.device.update(update)).unwrap();
    }

    pub fn status(&self) -> Status {
        runtime().block_on(self.device.status()).unwrap()
    }

    pub fn port(&self) -> u16 {
        self.status().listen_port
    }

    pub fn peer(&self, key: PublicKey) -> PeerStatus {
        self.status().peer(&key).expect("there is no such peer").clone()
    }

    pub fn set_peers(&self, peers: &[Peer]) {
        runtime().block_on(self.device.set_peers(peers)).unwrap();
    }

    /// Waits until the status is as it should be.
    pub fn becomes(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "not {what}: {status:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A peer whose addresses within are 10.44.0.N and fd44::N.
pub fn peer(key: PublicKey, number: u8, endpoint: Option<&str>) -> Peer {
    Peer {
        public_key: key,
        preshared_key: None,
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        persistent_keepalive: None,
        allowed_ips: vec![
            format!("10.44.0.{number}/32").parse().unwrap(),
            format!("fd44::{number}/128").parse().unwrap(),
        ],
    }
}

/// Two hosts, joined by a wire and by devices of ours that know where the other is.
pub struct Pair {
    pub one: Ours,
    pub two: Ours,
    pub a: Host,
    pub b: Host,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(options(1), options(2))
    }

    pub fn with(first: Options, second: Options) -> Self {
        let (a, b) = (Host::new(), Host::new());
        wire(&a, &b);
        let (one, two) = (Ours::new(&a, first), Ours::new(&b, second));
        one.set_peers(&[peer(two.key, 2, Some(&format!("192.0.2.2:{}", two.port())))]);
        two.set_peers(&[peer(one.key, 1, Some(&format!("192.0.2.1:{}", one.port())))]);
        Self { one, two, a, b }
    }
}
