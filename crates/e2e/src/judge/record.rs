//! `cargo xtask judge record`: runs the scenarios on the kubelet and writes down what happened.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::bench::Bench;
use super::pod::{Act, Deed, Pod};
use super::reduce;
use super::scenarios::{self, Scenario};
use super::trace;
use super::watch::{Seen, Sight, Watch, now};
use super::world::{self, Done, History};

/// How long a pod may take for each thing that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// After the last word of a pod nothing more comes: two relists.
const QUIET: Duration = Duration::from_secs(3);

/// Options of `judge record`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the scenarios of these names
    names: Vec<String>,
    /// How many pods at a time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
}

/// Records the scenarios.
pub(super) fn run(args: &Args) -> Result<()> {
    let wanted = |s: &Scenario| args.names.is_empty() || args.names.contains(&s.pod.name);
    let scenarios: Vec<Scenario> = scenarios::all().into_iter().filter(wanted).collect();
    if scenarios.is_empty() {
        let names: Vec<String> = scenarios::all().into_iter().map(|s| s.pod.name).collect();
        bail!("there is no such scenario; there are: {}", names.join(", "));
    }
    let bench = Bench::up()?;
    let to = crate::workspace().join("crates/lifecycle/tests/kubelet-traces");
    std::fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    let watch = Watch::start(&bench)?;
    let failed = Mutex::new(Vec::new());
    let one = |n: usize, s: &Scenario| {
        let result = record(&bench, &watch, s, n).and_then(|(manifest, h)| {
            let text = trace::text(s.about, bench.version(), &manifest, &h);
            let file = to.join(format!("{}.trace", s.pod.name));
            std::fs::write(&file, text).with_context(|| file.display().to_string())
        });
        match result {
            Ok(()) => eprintln!("recorded {}", s.pod.name),
            Err(e) => {
                eprintln!("{}: {e:#}", s.pod.name);
                failed.lock().unwrap_or_else(|e| e.into_inner()).push(s.pod.name.clone());
            }
        }
    };
    // Pods under which the kubelet is restarted are alone with it.
    let (alone, together): (Vec<_>, Vec<_>) =
        scenarios.iter().enumerate().partition(|(_, s)| s.pod.restarts_kubelet());
    in_parallel(args.jobs, &together, |(n, s)| one(*n, s));
    in_parallel(1, &alone, |(n, s)| one(*n, s));
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    if !failed.is_empty() {
        bail!("{} of {} scenarios could not be recorded", failed.len(), scenarios.len());
    }
    Ok(())
}

/// Does something with every item, so many at a time.
pub(super) fn in_parallel<T: Sync>(jobs: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

fn record(
    bench: &Bench,
    watch: &Watch,
    scenario: &Scenario,
    slot: usize,
) -> Result<(Value, History)> {
    let pod = &scenario.pod;
    let dir = bench.shared(&format!("record-{}", pod.name))?;
    let (sights, done) = on_kubelet(bench, watch, pod, &dir, slot as u16)?;
    let log = std::fs::read_to_string(dir.join("trace")).unwrap_or_default();
    let history = world::history(pod, &sights, &log, &done);
    // The directory is this machine's affair.
    let manifest = pod.manifest(Path::new("/shared"), slot as u16);
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok((manifest, history))
}

/// Runs a pod on the kubelet to its end, and returns everything that was seen.
pub(super) fn on_kubelet(
    bench: &Bench,
    watch: &Watch,
    pod: &Pod,
    dir: &Path,
    slot: u16,
) -> Result<(Vec<Sight>, Vec<Done>)> {
    watch.forget(&pod.name);
    bench.create(&pod.manifest(dir, slot))?;
    let mut done = Vec::new();
    let result = play(bench, watch, pod, &mut done);
    if result.is_err() || !done.iter().any(|d| matches!(d.what, Deed::Delete(_))) {
        std::thread::sleep(QUIET);
        let sights = watch.of(&pod.name);
        bench.delete(&pod.name, Some(1))?;
        watch.wait(&pod.name, PATIENCE, |s| is_gone(s).then_some(()));
        watch.forget(&pod.name);
        let last = || {
            let objects = sights.iter().rev().filter_map(|s| match &s.what {
                Seen::Object { object, .. } => Some(reduce::pod(object).join("\n  ")),
                _ => None,
            });
            objects.take(1).collect::<String>()
        };
        let result = result.with_context(|| format!("it was last\n  {}", last()));
        return result.map(|()| (sights, done));
    }
    // kubectl prints its last row a moment after the object is gone.
    let counts = |sights: &[&Sight]| {
        let of = |f: fn(&Seen) -> bool| sights.iter().filter(|s| f(&s.what)).count();
        (of(|s| matches!(s, Seen::Row(_))), of(|s| matches!(s, Seen::Object { .. })))
    };
    watch.wait(&pod.name, QUIET, |sights| {
        let (rows, objects) = counts(sights);
        (rows >= objects).then_some(())
    });
    let sights = watch.of(&pod.name);
    watch.forget(&pod.name);
    Ok((sights, done))
}

/// Does to the pod what is to be done, and waits for its end.
fn play(bench: &Bench, watch: &Watch, pod: &Pod, done: &mut Vec<Done>) -> Result<()> {
    for act in &pod.acts {
        if !wait_for(watch, pod, act)? {
            return Ok(());
        }
        let before = now();
        match act.what {
            Deed::Delete(grace) => bench.delete(&pod.name, grace)?,
            Deed::LoseSandbox => Bench::kill_tasks(&everything(&watch.of(&pod.name)))?,
            Deed::KillPause => Bench::kill_tasks(&pause(&watch.of(&pod.name)))?,
            Deed::RestartKubelet => bench.restart_kubelet()?,
        }
        done.push(Done { at: before, what: act.what });
    }
    let deleted = pod.acts.iter().any(|a| matches!(a.what, Deed::Delete(_)));
    let over = watch.wait(&pod.name, PATIENCE, |sights| {
        let over = if deleted { is_gone(sights) } else { is_over(sights) };
        over.then_some(())
    });
    over.with_context(|| format!("the pod is not over after {} s", PATIENCE.as_secs()))
}

/// Waits for the moment of an act; false if the pod is over before.
fn wait_for(watch: &Watch, pod: &Pod, act: &Act) -> Result<bool> {
    if let Some((container, run)) = &act.since {
        let started = watch.wait(&pod.name, PATIENCE, |sights| {
            let mut starts = sights.iter().filter(
                |s| matches!(&s.what, Seen::Started { container: Some(c), .. } if c == container),
            );
            let start = starts.nth(*run).map(|s| Some(s.at));
            start.or_else(|| is_over(sights).then_some(None))
        });
        let started = started.with_context(|| format!("run {run} of {container} did not start"))?;
        let Some(at) = started else { return Ok(false) };
        let due = at + i128::from(act.millis) * 1_000_000;
        let left = u64::try_from(due - now()).unwrap_or(0);
        std::thread::sleep(Duration::from_nanos(left));
    } else {
        std::thread::sleep(Duration::from_millis(act.millis));
    }
    Ok(true)
}

/// The processes of a pod that run, the sandbox last.
pub(super) fn everything(sights: &[Sight]) -> Vec<String> {
    let mut running = Vec::new();
    for sight in sights {
        match &sight.what {
            Seen::Started { id, .. } => running.insert(0, id.clone()),
            Seen::Exited { id, .. } => running.retain(|r| r != id),
            _ => {}
        }
    }
    running
}

/// The sandbox that runs.
pub(super) fn pause(sights: &[Sight]) -> Vec<String> {
    let is_pause = |sight: &Sight, id: &String| matches!(&sight.what, Seen::Started { container: None, id: of } if of == id);
    let running = everything(sights);
    running.into_iter().filter(|id| sights.iter().any(|s| is_pause(s, id))).collect()
}

fn is_gone(sights: &[&Sight]) -> bool {
    sights.iter().any(|s| matches!(s.what, Seen::Object { deleted: true, .. }))
}

/// Whether the pod is terminal and its sandbox is down.
fn is_over(sights: &[&Sight]) -> bool {
    sights.iter().rev().find_map(|s| match &s.what {
        Seen::Object { object, .. } => {
            Some(matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
        }
        _ => None,
    }) == Some(true)
}
