//! Pods run on the kubelet and on Holdfast, and compared.
//!
//! | module | what is there |
//! |---|---|
//! | [`pod`], [`yaml`] | pods whose containers follow scripts, and their manifests |
//! | [`mod@bench`], [`watch`], [`klog`] | the cluster, and everything that can be seen of its pods |
//! | [`world`], [`reduce`] | histories: what happened, and what was published, reduced to what is compared |
//! | [`record`], [`scenarios`], [`trace`] | `judge record`: the traces that the engine is tested with |
//! | [`mod@run`], [`random`], [`sides`] | `judge`: random pods, on the kubelet and on Holdfast |
//! | [`examples`] | `judge examples`: CronJobs, and kubectl's rows of their pods |
//! | [`outcome`], [`compare`], [`shrink`] | what became of them, differences, and smaller pods that differ too |

mod bench;
mod compare;
mod examples;
mod klog;
mod outcome;
mod pod;
mod random;
mod record;
mod reduce;
mod run;
mod scenarios;
mod shrink;
mod sides;
mod trace;
mod watch;
mod world;
mod yaml;

use anyhow::Result;

/// `cargo xtask judge …`
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 nothing differed but by a race in the kubelet itself, or but once; \
                  1 something differed, or could not be compared."
)]
pub struct Command {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Run the scenarios on the kubelet, and write down what happened for the tests of the engine
    Record(record::Args),
    /// Run the CronJobs of examples/cronjobs on both, and compare the rows of `kubectl get pods -w`
    Examples,
}

/// Carries out a command.
///
/// # Errors
/// What went wrong, and where.
pub fn run(command: Command) -> Result<()> {
    match command.task {
        Some(Task::Record(args)) => record::run(&args),
        Some(Task::Examples) => examples::run(),
        None => run::run(&command.run),
    }
}
