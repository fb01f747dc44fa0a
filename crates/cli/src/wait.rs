//! `holdfast wait`: what people see of the waiting, and the command afterwards.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anstyle::AnsiColor;
use holdfast_helpers::first_process::as_first_process;
use holdfast_helpers::wait::{News, Unmet, Wish, wait};
use holdfast_manager::config::STATUS_FILE;
use holdfast_manager::status::ask;

use crate::args::{HealthEndpoint, WaitArgs};
use crate::output::{self, say};

/// Something was not there in time.
const EXIT_UNMET: u8 = 1;
/// The command is there and cannot be run, as shells say it.
const EXIT_CANNOT_RUN: u8 = 126;
/// There is no such command, as shells say it.
const EXIT_NO_COMMAND: u8 = 127;

const PATIENCE: Duration = Duration::from_secs(60);
/// The `timeoutSeconds` of a probe that names none.
const PATIENCE_OF_A_PROBE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: WaitArgs) -> anyhow::Result<u8> {
    if let Some(endpoint) = args.health {
        return health(endpoint, &args);
    }
    let usual = if args.once { PATIENCE_OF_A_PROBE } else { PATIENCE };
    let wish = Wish {
        targets: args.targets,
        statuses: args.status.unwrap_or_default(),
        timeout: args.timeout.unwrap_or(usual),
        once: args.once,
    };
    let quiet = args.quiet || args.once;
    match wait_for(&wish, quiet)? {
        Err(signal) => Ok(crate::exit_of_signal(signal)),
        Ok(unmet) if unmet.is_empty() => become_command(&args.command),
        Ok(unmet) => {
            let time =
                if wish.once { String::new() } else { format!(" within {:?}", wish.timeout) };
            for Unmet { target, seen } in unmet {
                let target = &wish.targets[target];
                output::error(format_args!("{target} is not there{time}: {seen}"));
            }
            Ok(EXIT_UNMET)
        }
    }
}

/// Asks the manager that wrote the status; what it says goes into the event that the kubelet writes.
fn health(endpoint: HealthEndpoint, args: &WaitArgs) -> anyhow::Result<u8> {
    // The manager has the variable from the same container.
    let told = std::env::var_os("STATUS_FILE").filter(|path| !path.is_empty());
    let file = args.status_file.clone().or_else(|| told.map(PathBuf::from));
    let file = file.unwrap_or_else(|| PathBuf::from(STATUS_FILE));
    let endpoint = match endpoint {
        HealthEndpoint::Readyz => "readyz",
        HealthEndpoint::Healthz => "healthz",
    };
    let patience = args.timeout.unwrap_or(PATIENCE_OF_A_PROBE);
    let asked = crate::reactor()?.block_on(as_first_process(ask(&file, endpoint, patience)));
    match asked {
        Err(signal) => Ok(crate::exit_of_signal(signal)),
        Ok(Ok(())) => Ok(0),
        Ok(Err(error)) => {
            output::error(format_args!("{endpoint}: {error}"));
            Ok(EXIT_UNMET)
        }
    }
}

/// What was not there in time, or the signal that ended the wait.
fn wait_for(wish: &Wish, quiet: bool) -> anyhow::Result<Result<Vec<Unmet>, i32>> {
    let reactor = crate::reactor()?;
    let begin = Instant::now();
    let tell = |news: News| {
        if quiet {
            return;
        }
        match news {
            News::NotYet { target, seen } => {
                let (dim, reset) = (anstyle::Style::new().dimmed(), anstyle::Reset);
                say!("{dim}waiting for {}: {seen}{reset}", wish.targets[target]);
            }
            News::There { target, seen } => {
                let (green, reset) = (AnsiColor::Green.on_default(), anstyle::Reset);
                let after = begin.elapsed().as_secs_f64();
                say!("{green}{} is there{reset} after {after:.3} s: {seen}", wish.targets[target]);
            }
        }
    };
    let result = reactor.block_on(as_first_process(wait(wish, tell)));
    // A name that is still being looked up keeps nobody waiting.
    reactor.shutdown_background();
    Ok(result)
}

/// Becomes the command; comes back only if there is none or it cannot be run.
fn become_command(command: &[std::ffi::OsString]) -> anyhow::Result<u8> {
    let Some((program, args)) = command.split_first() else { return Ok(0) };
    let error = Command::new(program).args(args).exec();
    output::error(format_args!("cannot run {}: {error}", program.display()));
    Ok(if error.kind() == ErrorKind::NotFound { EXIT_NO_COMMAND } else { EXIT_CANNOT_RUN })
}
