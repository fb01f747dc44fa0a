//! `cargo xtask judge --seed S --count N`: random pods on all sides.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use super::compare::{self, Difference};
use super::outcome::Outcome;
use super::pod::{Pod, SLOTS};
use super::record::in_parallel;
use super::sides::{Side, Sides};
use super::{random, shrink, yaml};

/// Options of `judge` itself.
///
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Where the random pods come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many pods
    #[arg(long, default_value_t = 60)]
    count: u64,
    /// Begin with this pod of the seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only these pods of the seed
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["count", "from"])]
    only: Vec<u64>,
    /// How many pods at a time
    #[arg(long, default_value_t = 16)]
    jobs: usize,
    /// Who is held against the kubelet
    #[arg(long, value_delimiter = ',', default_values_t = [Side::Kubelet, Side::Process])]
    targets: Vec<Side>,
    /// Print differences as they are, without looking for a smaller pod
    #[arg(long)]
    no_shrink: bool,
    /// Take the judge's cluster down afterwards
    #[arg(long)]
    down: bool,
    /// Print every state and trace of each side, whether they differ or not
    #[arg(long)]
    verbose: bool,
}

/// What became of one pod.
#[derive(Debug)]
pub(super) enum Verdict {
    Same,
    /// The kubelet did not do the same twice.
    Race,
    /// It differed at first, and was the same when both ran again, at the latest among few.
    Unsteady(Side, Vec<Difference>),
    Different(Side, Vec<Difference>),
}

/// Everything that a round needs.
pub(super) struct Judge {
    pub(super) sides: Sides,
    others: Vec<Side>,
    next_slot: AtomicU64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let result = hold(args);
    if args.down {
        super::bench::down()?;
    }
    result
}

fn hold(args: &Args) -> Result<()> {
    let others: Vec<Side> =
        args.targets.iter().copied().filter(|side| *side != Side::Kubelet).collect();
    if others.is_empty() {
        bail!("there is nobody to hold against the kubelet: --targets process,cri");
    }
    let judge = Judge { sides: Sides::new()?, others, next_slot: AtomicU64::new(0) };
    let numbers = match args.only.is_empty() {
        true => (args.from..args.from + args.count).collect(),
        false => args.only.clone(),
    };
    let pods: Vec<Pod> = numbers.into_iter().map(|n| random::pod(args.seed, n)).collect();
    let results = Mutex::new(BTreeMap::new());
    let begin = std::time::Instant::now();
    in_parallel(args.jobs, &pods, |pod| {
        let result = judge.verdict(pod, args.verbose);
        match &result {
            Ok(Verdict::Same) => eprintln!("{}: the same", pod.name),
            Ok(Verdict::Race) => eprintln!("{}: a race of the kubelet's", pod.name),
            Ok(Verdict::Unsteady(side, found)) => {
                let places: Vec<&str> = found.iter().map(|d| d.place.as_str()).collect();
                eprintln!("{}: {side} differed at first in {}", pod.name, places.join(", "));
            }
            Ok(Verdict::Different(side, found)) => {
                let places: Vec<&str> = found.iter().map(|d| d.place.as_str()).collect();
                eprintln!("{}: {side} differs in {}", pod.name, places.join(", "));
            }
            Err(e) => eprintln!("{}: {e:#}", pod.name),
        }
        results.lock().unwrap_or_else(|e| e.into_inner()).insert(pod.name.clone(), result);
    });
    let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    // What differs only while a dozen others run beside it, on a machine that is too slow for them, is
    // the machine's doing.
    let differ = |pod: &&Pod| matches!(results.get(&pod.name), Some(Ok(Verdict::Different(..))));
    let differing: Vec<&Pod> = pods.iter().filter(differ).collect();
    let settled = Mutex::new(Vec::new());
    in_parallel(FEW, &differing, |pod| {
        if let Ok(Verdict::Same | Verdict::Race) = judge.verdict(pod, args.verbose) {
            eprintln!("{}: the same among few", pod.name);
            settled.lock().unwrap_or_else(|e| e.into_inner()).push(pod.name.clone());
        }
    });
    for name in settled.into_inner().unwrap_or_else(|e| e.into_inner()) {
        if let Some(Ok(verdict)) = results.get_mut(&name)
            && let Verdict::Different(side, found) = &*verdict
        {
            *verdict = Verdict::Unsteady(*side, found.clone());
        }
    }
    let count = |f: fn(&Result<Verdict>) -> bool| results.values().filter(|r| f(r)).count();
    let (same, races) =
        (count(|r| matches!(r, Ok(Verdict::Same))), count(|r| matches!(r, Ok(Verdict::Race))));
    let once = count(|r| matches!(r, Ok(Verdict::Unsteady(..))));
    let (different, failed) =
        (count(|r| matches!(r, Ok(Verdict::Different(..)))), count(|r| r.is_err()));
    for side in &judge.others {
        let out = pods.iter().filter(|pod| !side.can_run(pod)).count();
        if out > 0 {
            println!(
                "{out} pods were not run on {side}: their sandbox is lost with everything in it"
            );
        }
    }
    let mut shown = 0;
    for pod in &pods {
        if let Some(Ok(Verdict::Different(side, found))) = results.get(&pod.name) {
            let (pod, found) = if args.no_shrink || shown >= shrink::AT_MOST {
                (pod.clone(), found.clone())
            } else {
                shrink::shrink(&judge, *side, pod, found, args.jobs)
            };
            shown += 1;
            report(*side, &pod, &found);
        }
    }
    for pod in &pods {
        if let Some(Ok(Verdict::Unsteady(side, found))) = results.get(&pod.name) {
            for difference in found {
                println!("# {} on {side}, at first: {difference}", pod.name);
            }
        }
    }
    let secs = begin.elapsed().as_secs();
    println!(
        "{} pods of seed {} in {secs} s: {same} the same, {races} races of the kubelet's, {once} \
         different at first, {different} different, {failed} failed",
        pods.len(),
        args.seed
    );
    if different + failed > 0 {
        bail!(
            "{different} pods went another way than on the kubelet, {failed} could not be compared"
        );
    }
    Ok(())
}

/// Prints a difference: the pod, and what each side did.
fn report(side: Side, pod: &Pod, found: &[Difference]) {
    println!("--- # {}: {side} is not as the kubelet", pod.name);
    print!("{}", yaml::text(&pod.manifest("/shared".as_ref(), 0)));
    for act in &pod.acts {
        println!("# {act}");
    }
    for difference in found {
        println!("# {}", difference.to_string().replace('\n', "\n# "));
    }
}

impl Judge {
    /// A slot that no pod which runs has: there are more of them than pods at a time.
    fn slot(&self) -> u16 {
        (self.next_slot.fetch_add(1, Ordering::Relaxed) % u64::from(SLOTS - 1)) as u16
    }

    /// Runs a pod on every side at the same time, and compares.
    pub(super) fn verdict(&self, pod: &Pod, verbose: bool) -> Result<Verdict> {
        let slot = self.slot();
        let (kubelet, others) = std::thread::scope(|scope| {
            let others: Vec<_> = self
                .others
                .iter()
                .filter(|side| side.can_run(pod))
                .map(|&side| (side, scope.spawn(move || self.sides.run(side, pod, slot))))
                .collect();
            let kubelet = self.sides.run(Side::Kubelet, pod, slot);
            let join = |(side, thread): (Side, std::thread::ScopedJoinHandle<'_, _>)| {
                (side, thread.join().unwrap_or_else(|_| bail!("panicked")))
            };
            (kubelet, others.into_iter().map(join).collect::<Vec<(Side, Result<Outcome>)>>())
        });
        let kubelet = kubelet?;
        if verbose {
            show("kubelet", &kubelet);
        }
        for (side, outcome) in others {
            let outcome = outcome?;
            if verbose {
                show(&side.to_string(), &outcome);
            }
            let found = compare::compare(pod, &kubelet, &outcome);
            if found.is_empty() {
                continue;
            }
            return self.again(side, pod, slot, found, &kubelet, &outcome);
        }
        Ok(Verdict::Same)
    }

    /// Runs a pod that differed again, on both sides.
    fn again(
        &self,
        side: Side,
        pod: &Pod,
        slot: u16,
        found: Vec<Difference>,
        kubelet: &Outcome,
        other: &Outcome,
    ) -> Result<Verdict> {
        let (second, again) = std::thread::scope(|scope| {
            let again = scope.spawn(|| self.sides.run(side, pod, slot));
            let second = self.sides.run(Side::Kubelet, pod, slot);
            (second, again.join().unwrap_or_else(|_| bail!("panicked")))
        });
        let (second, again) = (second?, again?);
        let then = compare::compare(pod, &second, &again);
        // Where the kubelet was not as itself, nobody can be as the kubelet.
        let own = compare::compare(pod, kubelet, &second);
        let steady = |found: &[Difference]| {
            let all = found.iter().filter(|d| !own.iter().any(|own| own.place == d.place));
            all.cloned().collect::<Vec<_>>()
        };
        if same_places(&steady(&found), &steady(&then)) {
            return Ok(Verdict::Different(side, then));
        }
        let is_kubelets = compare::compare(pod, &second, other).is_empty() || !own.is_empty();
        Ok(if is_kubelets { Verdict::Race } else { Verdict::Unsteady(side, found) })
    }
}

/// How many pods run at a time that have differed among many.
const FEW: usize = 3;

/// Whether something is different in both.
pub(super) fn same_places(a: &[Difference], b: &[Difference]) -> bool {
    a.iter().any(|a| b.iter().any(|b| a.place == b.place))
}

fn show(side: &str, outcome: &Outcome) {
    let start = outcome.states.first().map_or(0, |s| s.at);
    let seconds = |at: i128| (at - start) as f64 / 1e9;
    println!("=== {side}");
    for state in &outcome.states {
        println!("@ {:.3}\n  {}", seconds(state.at), state.lines.join("\n  "));
    }
    for t in &outcome.trace {
        println!("{:.3} {} {} {}", seconds(t.at), t.container, t.run, t.what);
    }
}
