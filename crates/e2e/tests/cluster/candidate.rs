//! Candidates of an election as processes, and namespaces for them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use holdfast_e2e::cluster::Cluster;
use holdfast_e2e::cluster::api::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::place::{PATIENCE, built, namespace, shared};
use crate::relay::Relay;

/// A candidate, and what it has said so far.
pub struct Candidate {
    pub identity: String,
    pub child: Child,
    said: Arc<(Mutex<Vec<Line>>, Condvar)>,
    log: PathBuf,
}

/// Nanoseconds since the machine's start, and words.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: u64,
    pub words: String,
}

impl Candidate {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn lines(&self) -> Vec<Line> {
        self.said.0.lock().unwrap().clone()
    }

    /// Waits for a line, from the `from`th on; which it is.
    pub fn wait(&self, what: &str, from: usize, is: impl Fn(&str) -> bool) -> (usize, Line) {
        let end = Instant::now() + PATIENCE;
        let (lines, more) = &*self.said;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some(n) = (from..lines.len()).find(|&n| is(&lines[n].words)) {
                return (n, lines[n].clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = lines.last();
                panic!("{}: {what}: not seen; it said {last:?}\n{}", self.identity, self.log());
            }
            lines = more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// When it acted, in nanoseconds.
    pub fn acts(&self) -> Vec<u64> {
        self.lines().into_iter().filter(|line| line.words == "acts").map(|line| line.at).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until one of them acts that is none of these; which, and when it first did.
pub fn next_leader(all: &[Candidate], but: &[usize]) -> (usize, u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        for (n, candidate) in all.iter().enumerate().filter(|(n, _)| !but.contains(n)) {
            if let Some(first) = candidate.acts().first() {
                return (n, *first);
            }
        }
        assert!(Instant::now() < end, "nobody leads");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who acted, in the order of time, each once for as long as nobody else did: with two at a time there would
/// be more changes than elections.
pub fn reigns(all: &[Candidate]) -> Vec<usize> {
    let acts = |n: usize| all[n].acts().into_iter().map(move |at| (at, n));
    let mut acts: Vec<(u64, usize)> = (0..all.len()).flat_map(acts).collect();
    acts.sort_unstable();
    let mut reigns: Vec<usize> = acts.into_iter().map(|(_, n)| n).collect();
    reigns.dedup();
    reigns
}

/// A namespace with candidates in it.
pub struct Place {
    pub client: Client,
    cluster: Cluster,
    pub namespace: String,
    program: PathBuf,
    pub dir: tempfile::TempDir,
}

impl Place {
    pub async fn new(name: &str) -> Self {
        // First, as it may take long, and a connection that nobody tends for long is closed.
        let package = ["-p", "holdfast-manager", "--example", "candidate"];
        Self::of(name, built("examples/candidate", &package)).await
    }

    /// With processes of this program.
    pub async fn of(name: &str, program: PathBuf) -> Self {
        let cluster = shared().await;
        let client = cluster.client().unwrap();
        let namespace = namespace(&client, name).await;
        Self { client, cluster, namespace, program, dir: tempfile::tempdir().unwrap() }
    }

    /// Host and port of the API server.
    pub fn server(&self) -> String {
        let server = self.admin()["clusters"][0]["cluster"]["server"].clone();
        server.as_str().unwrap().strip_prefix("https://").unwrap().to_owned()
    }

    fn admin(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.cluster.kubeconfig()).unwrap()).unwrap()
    }

    /// What the documentation says that a replica needs.
    pub async fn usual_rights(&self, account: &str) {
        self.rights_on("lock", account).await;
    }

    /// The same, for a Lease of this name.
    pub async fn rights_on(&self, lease: &str, account: &str) {
        let rules = json!([
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
              "resourceNames": [lease], "verbs": ["get", "update", "watch"] },
            { "apiGroups": [""], "resources": ["events"], "verbs": ["create"] },
        ]);
        self.rights(account, &rules).await;
    }

    /// Gives an account these rights, and no others.
    pub async fn rights(&self, account: &str, rules: &Value) {
        let about = |kind: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": { "name": account, "namespace": self.namespace },
            })
        };
        let mut role = about("Role");
        role["rules"] = rules.clone();
        self.client.apply(&role).await.unwrap();
        let mut binding = about("RoleBinding");
        binding["roleRef"] =
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account });
        binding["subjects"] =
            json!([{ "kind": "ServiceAccount", "name": account, "namespace": self.namespace }]);
        self.client.apply(&binding).await.unwrap();
    }

    /// A kubeconfig of a service account; `relay` stands before the API server.
    pub async fn kubeconfig(&self, account: &str, relay: Option<&Relay>) -> PathBuf {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": account, "namespace": self.namespace },
        });
        self.client.apply(&object).await.unwrap();
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", self.namespace);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
        });
        let token = self.client.post(&path, &request).await.unwrap()["status"]["token"].clone();
        let mut config = self.admin();
        config["users"][0]["user"] = json!({ "token": token });
        if let Some(relay) = relay {
            let cluster = &mut config["clusters"][0]["cluster"];
            cluster["server"] = json!(format!("https://{}", relay.address()));
            cluster["tls-server-name"] = json!(relay.upstream_host());
        }
        let file = self.dir.path().join(format!("{account}.kubeconfig"));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// A process that takes part; lease duration, renew deadline and retry period in milliseconds.
    pub fn start(&self, identity: &str, kubeconfig: &Path, durations: [u64; 3]) -> Candidate {
        let log = self.dir.path().join(format!("{identity}.log"));
        let mut child = Command::new(&self.program)
            .args([identity, &self.namespace, "lock"])
            .args(durations.map(|d| d.to_string()))
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (out, sink) = (child.stdout.take().unwrap(), Arc::clone(&said));
        // It ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                let (at, words) = line.split_once(' ').unwrap();
                let line = Line { at: at.parse().unwrap(), words: words.to_owned() };
                sink.0.lock().unwrap().push(line);
                sink.1.notify_all();
            }
        });
        Candidate { identity: identity.to_owned(), child, said, log }
    }

    /// Candidates `c0`, `c1`, … of one account, of which `c0` leads.
    pub async fn candidates(&self, n: usize, durations: [u64; 3]) -> Vec<Candidate> {
        let kubeconfig = self.kubeconfig("replica", None).await;
        self.usual_rights("replica").await;
        let mut all = vec![self.start("c0", &kubeconfig, durations)];
        all[0].wait("leads", 0, |words| words == "acts");
        for number in 1..n {
            let next = self.start(&format!("c{number}"), &kubeconfig, durations);
            next.wait("sees the leader", 0, |words| words == "state false c0");
            all.push(next);
        }
        all
    }

    /// `spec` of the Lease.
    pub async fn lease(&self) -> Value {
        let group = "/apis/coordination.k8s.io/v1";
        let path = format!("{group}/namespaces/{}/leases/lock", self.namespace);
        self.client.get(&path).await.unwrap()["spec"].clone()
    }

    /// What `kubectl get events` shows of elections: type, kind of the object, component, message.
    pub fn events(&self) -> Vec<String> {
        let output = self
            .cluster
            .kubectl()
            .unwrap()
            .args(["get", "events", "-n", &self.namespace, "--no-headers"])
            .args(["--field-selector", "reason=LeaderElection"])
            .args(["-o", "custom-columns=:type,:involvedObject.kind,:source.component,:message"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    pub async fn wait_for_event(&self, event: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.events().iter().any(|known| known.contains(event)) {
            assert!(Instant::now() < end, "no event {event:?}: {:#?}", self.events());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
