//! Who leads, as others see it: the Lease, the metrics of each replica, and their processes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::release::{PATIENCE, Release, done};

/// The name of the Lease.
pub const NAME: &str = "3820d23d.netmaker.io";

/// The Lease, as `kubectl get --watch` shows it.
pub struct Lease {
    child: Child,
    seen: Arc<(Mutex<Holders>, Condvar)>,
}

/// Who held it, and since when it is known; nobody has no name.
type Holders = Vec<(Instant, String)>;

impl Lease {
    pub fn watch(release: &Release) -> Self {
        let mut kubectl = release.kubectl(&["get", "lease", NAME, "--watch"]);
        let output = r#"jsonpath={.spec.holderIdentity}{"\n"}"#;
        let mut child = kubectl.args(["-o", output]).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let sink = Arc::clone(&seen);
        // It ends with the process.
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(holder) = line else { return };
                sink.0.lock().unwrap().push((Instant::now(), holder));
                sink.1.notify_all();
            }
        });
        Self { child, seen }
    }

    /// How much has been seen so far.
    pub fn now(&self) -> usize {
        self.seen.0.lock().unwrap().len()
    }

    /// Who holds it now, once it is so.
    pub fn holder(&self) -> String {
        self.first("somebody leads", self.now().saturating_sub(1), |holder| !holder.is_empty()).1
    }

    /// Waits for the first that is so, of what has been seen from there on; since when, and who held it.
    pub fn first(&self, what: &str, from: usize, is: impl Fn(&str) -> bool) -> (Instant, String) {
        let end = Instant::now() + PATIENCE;
        let (seen, more) = &*self.seen;
        let mut seen = seen.lock().unwrap();
        loop {
            if let Some(found) = seen.iter().skip(from).find(|(_, holder)| is(holder)) {
                return found.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never: {what}; the Lease: {:?}", seen.last());
            seen = more.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer to the question whether a replica leads, true of some moment between two.
#[derive(Clone, Copy, Debug)]
struct View {
    asked: Instant,
    answered: Instant,
    leads: bool,
}

/// What replicas say themselves, all the time.
pub struct Views {
    seen: Arc<Mutex<BTreeMap<String, Vec<View>>>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Views {
    /// Of pods and their addresses.
    pub fn of(pods: Vec<(String, IpAddr)>) -> Self {
        let (seen, end) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let mut views = Self { seen, end, threads: Vec::new() };
        for (pod, ip) in pods {
            let (seen, end) = (Arc::clone(&views.seen), Arc::clone(&views.end));
            views.threads.push(std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    if let Some(leads) = ask((ip, 8080).into()) {
                        let view = View { asked, answered: Instant::now(), leads };
                        seen.lock().unwrap().entry(pod.clone()).or_default().push(view);
                    }
                    std::thread::sleep(Duration::from_millis(25));
                }
            }));
        }
        views
    }

    /// What was seen before does not count.
    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// Waits until a replica says it, to a question from now on.
    pub fn until(&self, pod: &str, leads: bool) {
        let now = Instant::now();
        while !self.all(pod).iter().any(|view| view.asked > now && view.leads == leads) {
            assert!(
                now.elapsed() < PATIENCE,
                "{pod} never says {leads}: {:?}",
                self.all(pod).last()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn all(&self, pod: &str) -> Vec<View> {
        self.seen.lock().unwrap().get(pod).cloned().unwrap_or_default()
    }

    /// Nobody has led but these one after the other: who was followed never said so after who followed did.
    pub fn never_two(&self, [before, after]: &[&str; 2]) {
        for (pod, views) in &*self.seen.lock().unwrap() {
            let led = views.iter().any(|view| view.leads);
            assert!(!led || [before, after].contains(&&pod.as_str()), "{pod} has led as well");
        }
        let begun = self.all(after).into_iter().find(|view| view.leads);
        let begun = begun.unwrap_or_else(|| panic!("{after} has not led"));
        for view in self.all(before).into_iter().filter(|view| view.leads) {
            assert!(
                view.asked < begun.answered,
                "{before} says that it leads {:?} after {after} has said so",
                view.asked - begun.answered
            );
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether the metrics there say so; nothing if nobody answers in time.
fn ask(at: SocketAddr) -> Option<bool> {
    let patience = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&at, patience).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = format!("leader_election_master_status{{name=\"{NAME}\"}} ");
    let (_, value) = answer.split_once(&line)?;
    Some(value.starts_with('1'))
}

/// The manager's process of a pod, as the host sees it.
#[derive(Clone, Copy, Debug)]
pub struct Process(Pid);

impl Process {
    pub fn of(release: &Release, pod: &str) -> Self {
        let words = |path: &str| -> Vec<String> {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.split(|&b| b == 0).map(|word| String::from_utf8_lossy(word).into()).collect()
        };
        let (name, namespace) =
            (format!("POD_NAME={pod}"), format!("POD_NAMESPACE={}", release.namespace));
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let command = words(&format!("/proc/{pid}/cmdline"));
            if command.first()? != "/holdfast" || command.get(1)? != "manager" {
                return None;
            }
            let env = words(&format!("/proc/{pid}/environ"));
            (env.contains(&name) && env.contains(&namespace)).then(|| Pid::from_raw(pid))
        });
        Self(found.unwrap_or_else(|| panic!("no process of {pod}: {}", release.trouble())))
    }

    pub fn signal(self, signal: Signal) {
        kill(self.0, signal).unwrap();
    }

    pub fn is_alive(self) -> bool {
        kill(self.0, None).is_ok()
    }

    /// A command in the network of its pod.
    fn in_network(self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0)).arg(program);
        command
    }
}

/// Nothing passes between a pod and the API server, in either direction, and no connection is closed.
pub struct Barrier {
    process: Process,
    server: String,
}

/// Cuts a pod off until the result is dropped.
pub fn cut_off(release: &Release, process: &Process) -> Barrier {
    let address = ["-o", "jsonpath={.spec.clusterIP}", "--namespace", "default"];
    let server = release.ask(&[&["get", "service", "kubernetes"][..], &address].concat());
    let barrier = Barrier { process: *process, server };
    for rule in barrier.rules() {
        done(barrier.process.in_network("iptables").args(["-w", "-I"]).args(rule));
    }
    barrier
}

impl Barrier {
    fn rules(&self) -> [[&str; 5]; 2] {
        [["OUTPUT", "-d", &self.server, "-j", "DROP"], ["INPUT", "-s", &self.server, "-j", "DROP"]]
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        for rule in self.rules() {
            let _ = self.process.in_network("iptables").args(["-w", "-D"]).args(rule).output();
        }
    }
}
