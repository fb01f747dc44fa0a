//! Replicas of `holdfast manager` elect a leader, and say so where people look: health, metrics, Events.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::candidate::Place;
use crate::place::{PATIENCE, built, possible};

/// The Lease of the Netmaker operator.
const LEASE: &str = "3820d23d.netmaker.io";

struct Replica {
    child: Child,
    health: SocketAddr,
    metrics: SocketAddr,
    log: std::path::PathBuf,
}

impl Replica {
    fn start(place: &Place, program: &Path, kubeconfig: &Path, pod: &str) -> Self {
        let [health, metrics] = free();
        let log = place.dir.path().join(format!("{pod}.log"));
        let child = Command::new(program)
            .arg("manager")
            .arg(format!("--health-probe-bind-address={health}"))
            .arg(format!("--metrics-bind-address={metrics}"))
            .arg("--metrics-secure=false")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--status-file={}", place.dir.path().join(pod).display()))
            .env_clear()
            .envs([("POD_NAME", pod), ("POD_NAMESPACE", &place.namespace)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, health, metrics, log }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn ready(&self) -> String {
        get(self.health, "/readyz?verbose").unwrap_or_default()
    }

    fn leads(&self) -> bool {
        let line = format!("leader_election_master_status{{name=\"{LEASE}\"}} 1\n");
        get(self.metrics, "/metrics").is_some_and(|text| text.contains(&line))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Addresses that nobody listened on a moment ago.
fn free() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Head and body of an answer, if there is one.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = String::new();
    write!(request, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn until(what: &str, mut is: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

#[tokio::test]
async fn replicas_of_the_manager_say_who_leads() {
    if !possible() {
        return;
    }
    let program = built("holdfast", &["-p", "holdfast-cli"]);
    let place = Place::of("election-manager", program.clone()).await;
    let kubeconfig = place.kubeconfig("manager", None).await;
    place.rights_on(LEASE, "manager").await;
    let mut all: Vec<Replica> =
        (0..3).map(|n| Replica::start(&place, &program, &kubeconfig, &format!("m{n}"))).collect();
    until("a leader", || all.iter().any(Replica::leads));
    let leader = all.iter().position(Replica::leads).unwrap();
    // Those that do not lead are ready as well.
    for replica in &all {
        until("ready", || replica.ready().starts_with("HTTP/1.1 200 "));
        assert!(replica.ready().contains("[+]leaderElection ok\n"), "{}", replica.ready());
    }
    assert_eq!(all.iter().filter(|replica| replica.leads()).count(), 1);

    let mut leader = all.remove(leader);
    leader.signal(Signal::SIGTERM);
    let took = until("another leader", || all.iter().any(Replica::leads));
    println!("from SIGTERM until another replica's metrics say that it leads: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(leader.child.wait().unwrap().success());
    assert_eq!(all.iter().filter(|replica| replica.leads()).count(), 1);
    let told = |words: &str| place.events().iter().filter(|event| event.ends_with(words)).count();
    until("Events", || told("became leader") == 2 && told("stopped leading") == 1);
}
