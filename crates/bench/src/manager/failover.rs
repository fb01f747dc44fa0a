//! How long nobody leads.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use holdfast_e2e::cluster::{self, Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::run::Holdfast;
use crate::stats::Samples;

/// What becomes of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Killed,
    Frozen,
}

impl End {
    const ALL: [Self; 3] = [Self::Clean, Self::Killed, Self::Frozen];

    /// What it is sent.
    const fn signal(self) -> Signal {
        match self {
            Self::Clean => Signal::TERM,
            Self::Killed => Signal::KILL,
            Self::Frozen => Signal::STOP,
        }
    }

    /// A namespace of its own, and so a Lease.
    fn namespace(self) -> String {
        format!("failover-{}", format!("{self:?}").to_lowercase())
    }
}

/// How many take part.
const REPLICAS: usize = 3;
/// How long anything may take: longer than a lease.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds without a leader, for each end. The three are measured at the same time, in elections of their
/// own: nearly all of it is waiting for a lease to end.
pub(super) fn measure(holdfast: &Holdfast, count: usize) -> Result<Vec<(End, Samples)>> {
    let plane = Plane::up()?;
    let samples = std::thread::scope(|scope| {
        let kubeconfig = plane.kubeconfig.as_path();
        let lanes = End::ALL.map(|end| scope.spawn(move || lane(holdfast, kubeconfig, end, count)));
        let ended = lanes.map(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?);
        ended.into_iter().collect::<Result<Vec<Samples>>>()
    })?;
    Ok(End::ALL.into_iter().zip(samples).collect())
}

/// A control plane; it goes with the value.
struct Plane {
    cluster: Cluster,
    kubeconfig: PathBuf,
}

impl Plane {
    fn up() -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("holdfast-e2e");
        ensure!(
            program.is_file(),
            "there is no {}: build it with `cargo build --release -p holdfast-e2e`",
            program.display()
        );
        let dir = cluster::default_dir().with_file_name(format!("bench-{}", std::process::id()));
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { program: Some(program), nodes: 0, ..Options::default() };
        let cluster = reactor.block_on(Cluster::up(&dir, &options))?;
        let this = Self { kubeconfig: cluster.kubeconfig(), cluster };
        let client = this.cluster.client()?;
        for end in End::ALL {
            let metadata = json!({ "name": end.namespace() });
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
            reactor.block_on(client.create(&object))?;
        }
        Ok(this)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Err(error) = cluster::down(self.cluster.layout()) {
            eprintln!("the control plane stays up: {error:#}");
        }
        let _ = std::fs::remove_dir_all(self.cluster.layout().dir());
    }
}

/// What a replica has said, and when.
#[derive(Debug)]
enum Said {
    /// It leads.
    Leads,
    /// It has seen another lead.
    Follows,
    /// It does not lead any more.
    Lost,
}

/// A replica.
struct Replica {
    child: Child,
    number: usize,
}

impl Replica {
    fn start(
        holdfast: &Holdfast,
        kubeconfig: &Path,
        namespace: &str,
        number: usize,
        said: Sender<(usize, Said, Instant)>,
    ) -> Result<Self> {
        let pod = format!("{namespace}-{number}");
        let mut child = Command::new(holdfast.binary())
            .args(["manager", "--health-probe-bind-address=0"])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", &pod)
            .env("POD_NAMESPACE", namespace)
            .env("STATUS_FILE", holdfast.dir().join(&pod))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        // It ends with the process.
        std::thread::spawn(move || {
            for line in lines {
                let (Ok(line), at) = (line, Instant::now()) else { return };
                let what = match line {
                    line if line.contains("successfully acquired lease") => Said::Leads,
                    line if line.contains("new leader elected") => Said::Follows,
                    line if line.contains("failed to renew lease") => Said::Lost,
                    _ => continue,
                };
                if said.send((number, what, at)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, number })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lane(holdfast: &Holdfast, kubeconfig: &Path, end: End, count: usize) -> Result<Samples> {
    let namespace = end.namespace();
    let (sender, said) = channel();
    let start =
        |number: usize| Replica::start(holdfast, kubeconfig, &namespace, number, sender.clone());
    let mut replicas = vec![start(0)?];
    let mut leader = next(&said, |_, said| matches!(said, Said::Leads))?.0;
    for number in 1..REPLICAS {
        replicas.push(start(number)?);
        next(&said, |who, said| who == number && matches!(said, Said::Follows))?;
    }
    let mut samples = Vec::new();
    for round in 0..count {
        // Renewals come every 2 s: not always at the same time after one.
        std::thread::sleep(Duration::from_millis(500 + round as u64 * 370));
        let at = replicas.iter().position(|replica| replica.number == leader);
        let old = replicas.swap_remove(at.context("no such replica")?);
        let begin = Instant::now();
        old.signal(end.signal())?;
        let (who, when) =
            next(&said, |who, said| who != old.number && matches!(said, Said::Leads))?;
        samples.push(when - begin);
        leader = who;
        if end == End::Frozen {
            old.signal(Signal::CONT)?;
            next(&said, |who, said| who == old.number && matches!(said, Said::Lost))?;
        }
        drop(old);
        let number = REPLICAS + round;
        replicas.push(start(number)?);
        next(&said, |who, said| who == number && matches!(said, Said::Follows))?;
    }
    Ok(Samples::millis(samples))
}

/// Waits for something to be said; by whom, and when. What else is said is passed over.
fn next(
    said: &Receiver<(usize, Said, Instant)>,
    is: impl Fn(usize, &Said) -> bool,
) -> Result<(usize, Instant)> {
    let end = Instant::now() + PATIENCE;
    let mut heard = String::new();
    while let Ok((who, what, at)) = said.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        if is(who, &what) {
            return Ok((who, at));
        }
        write!(heard, "{who}: {what:?}; ")?;
    }
    bail!("the election does not go on; meanwhile: {heard}")
}
