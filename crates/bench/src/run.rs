//! `holdfast run` on real processes.
//!
//! What is compared takes turns, round by round; a whole command is timed, as a user would see it:
//! reading the manifest, setting up, running, taking down.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::manifests::{TRUE, container, containers, file, pod, sidecar};
use crate::report::{Row, Section};
use crate::stats::Samples;
use crate::{bare, memory, timeline};

/// The image that stands for the machine's own files.
const HOST: &str = "host";

/// The release binary, and a place for files.
#[derive(Debug)]
pub struct Holdfast {
    binary: PathBuf,
    dir: TempDir,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Init containers of the pod that is watched for reaction times.
    pub steps: usize,
    /// Sidecars with a startup probe of the other one.
    pub sidecars: usize,
    /// Containers of the large pod.
    pub large: usize,
    /// Pods of the file of many.
    pub pods: usize,
    /// Init containers of the pod whose processor time is measured.
    pub inits: usize,
}

impl Size {
    /// What the numbers are made with.
    pub const FULL: Self =
        Self { rounds: 20, steps: 50, sidecars: 10, large: 200, pods: 50, inits: 800 };
    /// What shows that the bench works.
    pub const SMOKE: Self = Self { rounds: 1, steps: 3, sidecars: 2, large: 8, pods: 2, inits: 16 };
}

impl Holdfast {
    /// The binary at `path`, or the one that was built beside this program.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(path: Option<PathBuf>) -> Result<Self> {
        let binary = match path {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("holdfast"),
        };
        if !binary.is_file() {
            bail!(
                "there is no {}: build it with `cargo build --release -p holdfast-cli`, or name one \
                 with --holdfast",
                binary.display()
            );
        }
        let dir = tempfile::Builder::new().prefix("holdfast-bench-").tempdir()?;
        Ok(Self { binary: binary.canonicalize()?, dir })
    }

    /// The path of the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The directory for files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the manifest.
    pub(crate) fn write(&self, name: &str, objects: &[Value]) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, file(objects))?;
        Ok(path)
    }

    /// `holdfast run` of the file.
    pub(crate) fn command(&self, manifest: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .arg(manifest)
            .current_dir(self.dir.path())
            .env("HOLDFAST_STATE_DIR", self.dir.path().join("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the file to its end, all of whose pods succeed.
    pub(crate) fn run(&self, manifest: &Path, options: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        let output = self.command(manifest).args(options).output()?;
        let took = start.elapsed();
        ensure!(
            output.status.success(),
            "holdfast run {} ended with {}:\n{}{}",
            manifest.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(took)
    }

    /// Runs the file, and returns what happened when.
    pub(crate) fn marks(&self, manifest: &Path, options: &[&str]) -> Result<Vec<timeline::Mark>> {
        let path = self.dir.path().join("timeline.json");
        let path_text = path.to_string_lossy();
        self.run(manifest, &[&["--timeline", &path_text], options].concat())?;
        timeline::read(&path)
    }
}

/// Everything about `run`.
///
/// # Errors
/// If a pod does not do what it should.
pub fn report(holdfast: &Holdfast, size: Size) -> Result<Section> {
    let mut section = Section::new(
        "`holdfast run` on processes",
        "Every container is a host process in namespaces of its own, as far as this machine allows \
         them. Whole commands are timed from their start to their end.",
    );
    reactions(holdfast, size, &mut section)?;
    times(holdfast, size, &mut section)?;
    growth(holdfast, size, &mut section)?;
    binary(holdfast, &mut section)?;
    idle(holdfast, &mut section)?;
    Ok(section)
}

/// From the event that a container waits for to its start.
fn reactions(holdfast: &Holdfast, size: Size, section: &mut Section) -> Result<()> {
    let inits = containers("step", size.steps, HOST, &TRUE);
    let steps = holdfast
        .write("steps.yaml", &[pod("steps", inits, vec![container("app", HOST, &TRUE)])])?;
    let chain = (0..size.sidecars)
        .map(|at| sidecar(&format!("side-{at}"), HOST, &["/bin/sleep", "60"], &TRUE))
        .collect();
    let chain = holdfast
        .write("chain.yaml", &[pod("chain", chain, vec![container("app", HOST, &TRUE)])])?;
    let (mut exits, mut probes) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds.div_ceil(2) {
        let gaps = timeline::gaps(&holdfast.marks(&steps, &[])?, timeline::ended);
        ensure!(gaps.len() == size.steps, "{} starts followed {} ends", gaps.len(), size.steps);
        exits.extend(gaps);
        let gaps = timeline::gaps(&holdfast.marks(&chain, &[])?, timeline::passed);
        ensure!(
            gaps.len() == size.sidecars,
            "{} starts followed {} probes",
            gaps.len(),
            size.sidecars
        );
        probes.extend(gaps);
    }
    for (what, gaps) in [
        ("an init container has ended → the next one runs", exits),
        ("a startupProbe has succeeded → the next container runs", probes),
    ] {
        let s = Samples::millis(gaps);
        section.push(
            Row::new(&format!("{what} ({} times)", s.len()))
                .wanted("p99 <= 10 ms")
                .got(&format!(
                    "p50 {:.1}, p99 {:.1}, max {:.1} ms",
                    s.median(),
                    s.percentile(99.0),
                    s.max()
                ))
                .ok(s.percentile(99.0) <= 10.0),
        );
    }
    Ok(())
}

/// What one round of [`times`] took, in milliseconds.
struct Round {
    bare: f64,
    small: f64,
    one: f64,
    large: Option<f64>,
    many: Option<f64>,
}

/// From start to end, beside bare fork and exec, and for many containers and pods.
fn times(holdfast: &Holdfast, size: Size, section: &mut Section) -> Result<()> {
    const SMALL: usize = 5;
    let apps = |count| containers("app", count, HOST, &TRUE);
    let one = holdfast.write("one.yaml", &[pod("one", vec![], apps(1))])?;
    let small = holdfast.write("small.yaml", &[pod("small", vec![], apps(SMALL))])?;
    let large = holdfast.write("large.yaml", &[pod("large", vec![], apps(size.large))])?;
    let per_pod = size.large.div_ceil(size.pods);
    let many: Vec<Value> =
        (0..size.pods).map(|at| pod(&format!("pod-{at}"), vec![], apps(per_pod))).collect();
    let many = holdfast.write("many.yaml", &many)?;
    let mut rounds = Vec::new();
    for round in 0..size.rounds {
        // The large ones take long, and have many containers to average over.
        let big = round < size.rounds.div_ceil(4);
        let each = |file: &Path| big.then(|| holdfast.run(file, &[]).map(millis)).transpose();
        rounds.push(Round {
            bare: millis(bare::together(&TRUE, SMALL)?),
            small: millis(holdfast.run(&small, &[])?),
            one: millis(holdfast.run(&one, &[])?),
            large: each(&large)?,
            many: each(&many)?,
        });
    }
    let median = |f: &dyn Fn(&Round) -> Option<f64>| {
        Samples::new(rounds.iter().filter_map(f).collect()).median()
    };
    let n = SMALL as f64;
    let above = median(&|r| Some((r.small - r.bare) / n));
    section.push(
        Row::new(&format!("pod of {SMALL} containers, whole command, above bare fork+exec"))
            .wanted("<= 2 ms a container")
            .got(&format!(
                "{above:.2} ms a container ({:.1} ms; bare: {:.1} ms)",
                median(&|r| Some(r.small)),
                median(&|r| Some(r.bare))
            ))
            .ok(above <= 2.0),
    );
    let marginal = median(&|r| Some((r.small - r.one) / (n - 1.0) - r.bare / n));
    section.push(
        Row::new("… of which each container more (5 containers against 1, above bare)").got(
            &format!("{marginal:.2} ms; a pod of one takes {:.1} ms", median(&|r| Some(r.one))),
        ),
    );
    let base = median(&|r| Some(r.small / n));
    let shapes = [
        (format!("one pod of {} containers", size.large), median(&|r| r.large), size.large),
        (
            format!("{} pods of {per_pod} in one file", size.pods),
            median(&|r| r.many),
            size.pods * per_pod,
        ),
    ];
    for (what, took, count) in shapes {
        let each = took / count as f64;
        section.push(
            Row::new(&what)
                .wanted(&format!("no slower a container than in the pod of {SMALL}"))
                .got(&format!("{each:.2} ms a container ({took:.0} ms), against {base:.2}"))
                .ok(each <= base),
        );
    }
    Ok(())
}

/// What a container costs in a large pod, where every step changes and publishes the status of the pod.
fn growth(holdfast: &Holdfast, size: Size, section: &mut Section) -> Result<()> {
    const PARTS: usize = 8;
    let app = || vec![container("app", HOST, &TRUE)];
    let write = |name: &str, count| {
        let inits = containers("step", count, HOST, &TRUE);
        holdfast.write(&format!("{name}.yaml"), &[pod(name, inits, app())])
    };
    let (whole, part) = (write("whole", size.inits)?, write("part", size.inits / PARTS)?);
    let cost = |file: &Path, times: usize| -> Result<f64> {
        let before = children_time()?;
        for _ in 0..times {
            holdfast.run(file, &[])?;
        }
        Ok(millis(children_time()? - before) / size.inits as f64)
    };
    let (parts, whole) = (cost(&part, PARTS)?, cost(&whole, 1)?);
    section.push(
        Row::new(&format!(
            "processor time a container: {} init containers in one pod, against {PARTS} pods",
            size.inits
        ))
        .wanted("<= 1.2 times")
        .got(&format!(
            "{whole:.2} ms, against {parts:.2}: {:.2} times",
            whole / parts.max(f64::MIN_POSITIVE)
        ))
        .ok(whole <= parts * 1.2),
    );
    Ok(())
}

/// The time that processes which we have waited for have spent, with those that they have waited for.
fn children_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name before may have spaces in it. Fields 16 and 17, in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Size, and whether it is static.
fn binary(holdfast: &Holdfast, section: &mut Section) -> Result<()> {
    let size = std::fs::metadata(&holdfast.binary)?.len() as f64 / 1e6;
    let ldd = Command::new("ldd").arg(&holdfast.binary).output().context("cannot run ldd")?;
    let text = [ldd.stdout, ldd.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let is_static = text.contains("statically linked") || text.contains("not a dynamic executable");
    section.push(
        Row::new("size of the binary, and what `ldd` says")
            .wanted("<= 20 MB, static")
            .got(&format!("{size:.1} MB, {}", text.lines().next().unwrap_or_default().trim()))
            .ok(size <= 20.0 && is_static),
    );
    Ok(())
}

/// Memory of all processes of holdfast while a pod sleeps.
fn idle(holdfast: &Holdfast, section: &mut Section) -> Result<()> {
    let sleeper = container("sleeper", HOST, &["/bin/sleep", "60"]);
    let manifest = holdfast.write("idle.yaml", &[pod("idle", vec![], vec![sleeper])])?;
    let mut command = holdfast.command(&manifest);
    let child = command.args(["-o", "jsonl"]).stdout(Stdio::piped()).spawn()?;
    let mut child = Ended(child);
    let stdout = child.0.stdout.take().context("no stdout")?;
    let running = std::io::BufRead::lines(std::io::BufReader::new(stdout))
        .map_while(Result::ok)
        .any(|line| line.contains(r#""phase":"Running""#));
    ensure!(running, "the pod that sleeps never ran");
    let used = memory::of_program(child.0.id(), &holdfast.binary)?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    section.push(
        Row::new(&format!("idle memory of `run` ({} processes of holdfast)", used.processes))
            .wanted("<= 15 MB resident")
            .got(&format!(
                "RSS {:.1} MiB, shared pages counted once {:.1} MiB",
                mib(used.rss_kib),
                mib(used.pss_kib)
            ))
            .ok(mib(used.rss_kib) <= 15.0),
    );
    Ok(())
}

/// A process that is ended with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; nobody can do more about it here. With holdfast its pods end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
