//! Upstream's own node tests (`test/e2e/common/node`), against the bench's kubelet or another target.
//!
//! On the bench's own cluster they are its calibration: what a real kubelet does not pass here, nobody
//! can be held to. The same program then asks the same of whatever else calls itself a node.

mod images;
mod report;
mod specs;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cluster::{Cluster, Mirror, Options};
use crate::{cluster, go};
use specs::{Outcome, Spec, Suite};

/// `cargo xtask upstream …`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which specs, as a regular expression on their whole text
    #[arg(long, default_value = FAMILIES)]
    focus: String,
    /// Which not; those that need features that are off, huge pages or much time are never run otherwise
    #[arg(long, default_value = UNFIT)]
    skip: String,
    /// How many at a time
    #[arg(long, default_value_t = 12)]
    jobs: usize,
    /// Only say which specs there are
    #[arg(long)]
    list: bool,
    /// Run them on this cluster instead of the bench's own; it must have the images
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What the tests are to believe of that cluster's provider
    #[arg(long, default_value = "local")]
    provider: String,
    /// The minor version of Kubernetes: of the tests, and of the bench's own cluster
    #[arg(long, default_value = go::MINORS[0], value_parser = clap::builder::PossibleValuesParser::new(go::MINORS))]
    kubernetes: String,
    /// The directory of the bench's own cluster
    #[arg(long, default_value_os_t = cluster::default_dir())]
    dir: PathBuf,
    /// Where the logs of the specs go, and results.json
    #[arg(long, value_name = "DIR", default_value_os_t = crate::workspace().join("target/upstream"))]
    out: PathBuf,
    /// More for the test program
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs them, prints a table, and fails if one did.
///
/// # Errors
/// What went wrong, and where.
pub fn run(args: Args) -> Result<()> {
    let suite = Suite::new(go::node_tests(&args.kubernetes)?);
    let specs = suite.list(&args.focus, &args.skip)?;
    let chosen: Vec<Spec> = specs.iter().filter(|spec| spec.chosen).cloned().collect();
    if chosen.is_empty() {
        bail!("no spec's text matches {:?}", args.focus);
    }
    if args.list {
        chosen.iter().for_each(|spec| println!("{}", spec.text));
        return Ok(());
    }
    let (kubeconfig, _mirror) = target(&args, &suite)?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let mut target = vec![
        format!("-kubeconfig={}", kubeconfig.display()),
        format!("-provider={}", args.provider),
    ];
    target.extend(args.more.iter().cloned());
    let start = Instant::now();
    let outcomes = run_all(&suite, chosen, &target, args.jobs.max(1), &args.out)?;
    report::write(&outcomes, &args.out.join("results.json"))?;
    print!("{}", report::table(&outcomes));
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    eprintln!(
        "{} specs in {} s, {failed} failed; logs are in {}",
        outcomes.len(),
        start.elapsed().as_secs(),
        args.out.display()
    );
    if failed > 0 {
        bail!("{failed} of {} specs failed", outcomes.len());
    }
    Ok(())
}

/// The kubeconfig to run against; the bench's own cluster is brought up and given the images. It can pull
/// them as well, while the second lives: one spec wants to see that.
fn target(args: &Args, suite: &Suite) -> Result<(PathBuf, Option<Mirror>)> {
    if let Some(kubeconfig) = &args.kubeconfig {
        return Ok((std::path::absolute(kubeconfig)?, None));
    }
    let options = Options { kubernetes: args.kubernetes.clone(), ..Options::default() };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let cluster = Cluster::up(&args.dir, &options).await?;
        let images = images::make(&suite.images()?, &args.kubernetes)?;
        for image in &images {
            cluster.load(image).await?;
        }
        let mirror = cluster.mirror("registry.k8s.io", &images)?;
        Ok((cluster.kubeconfig(), Some(mirror)))
    })
}

/// Runs each spec as a program of its own, several at a time: most of them wait most of the time. What
/// must not run beside others comes last, alone.
fn run_all(
    suite: &Suite,
    specs: Vec<Spec>,
    target: &[String],
    jobs: usize,
    out: &Path,
) -> Result<Vec<Outcome>> {
    let (alone, mut together): (Vec<Spec>, Vec<Spec>) =
        specs.into_iter().partition(|spec| spec.text.contains("[Serial]"));
    // The slow ones first, so that nobody has to wait for them alone.
    together.sort_by_key(|spec| !spec.text.contains("[Slow]"));
    let mut outcomes = side_by_side(suite, together, target, jobs, out)?;
    outcomes.extend(side_by_side(suite, alone, target, 1, out)?);
    outcomes.sort_by(|a, b| a.spec.cmp(&b.spec));
    Ok(outcomes)
}

fn side_by_side(
    suite: &Suite,
    specs: Vec<Spec>,
    target: &[String],
    jobs: usize,
    out: &Path,
) -> Result<Vec<Outcome>> {
    let count = specs.len();
    let queue = Mutex::new(VecDeque::from(specs));
    let next = || queue.lock().ok()?.pop_front();
    let worker = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(spec) = next() {
            let outcome = suite.run(&spec, target, out)?;
            eprintln!("{:>8} {:>4} s  {}", outcome.state, outcome.seconds, spec.text);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = Vec::with_capacity(count);
        for worker in workers {
            let done = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            outcomes.extend(done?);
        }
        Ok(outcomes)
    })
}

/// What Holdfast's engine is about.
const FAMILIES: &str = r"InitContainer|Lifecycle Hook|(?i:lifecycle sleep)|Probing|Container Runtime|Variable Expansion|Downward API|\[sig-node\] (ConfigMap|Secrets|Pods) ";
/// What no cluster without special hardware or switches passes.
const UNFIT: &str =
    r"\[Alpha\]|\[Feature:OffByDefault\]|\[Feature:DownwardAPIHugePages\]|\[Flaky\]";
