use std::cell::Cell;
use std::time::Duration;

use holdfast_lifecycle::ProbeResult;
use holdfast_runtime::contract::ExecOutcome;
use holdfast_runtime::probe::{Exec, Handler, probe};

use crate::server::run;
use crate::{LOCAL, failure};

/// Runs an exec probe whose command ends in `outcome`; also says how often it was run.
async fn exec(outcome: Result<ExecOutcome, String>) -> (ProbeResult, u32) {
    let runs = Cell::new(0);
    let command = vec!["test".to_owned(), "-f".to_owned(), "/tmp/a b".to_owned()];
    let handler = Handler::Exec(Exec { command: command.clone() });
    let timeout = Duration::from_secs(90);
    let result = probe(&LOCAL, &handler, timeout, async |argv: &[String], limit| {
        assert_eq!((argv, limit), (&command[..], Some(timeout)));
        runs.set(runs.get() + 1);
        outcome.clone()
    })
    .await;
    (result, runs.get())
}

fn ended(code: i32, output: &[u8]) -> Result<ExecOutcome, String> {
    Ok(ExecOutcome::Ended { code, output: output.to_vec() })
}

#[test]
fn the_exit_code_decides() {
    run(async {
        assert_eq!(exec(ended(0, b"no matter")).await, (ProbeResult::Success, 1));
        assert_eq!(exec(ended(2, b"cat: x\n")).await, (failure("cat: x\n"), 1));
        assert_eq!(exec(ended(137, b"\xff")).await, (failure("\u{fffd}"), 1));
    });
}

#[test]
fn a_command_that_takes_too_long_failed() {
    run(async {
        let words = "command timed out: \"test -f /tmp/a b\" timed out after 1m30s";
        assert_eq!(exec(Ok(ExecOutcome::TimedOut)).await, (failure(words), 1));
    });
}

#[test]
fn a_command_that_cannot_run_is_tried_three_times() {
    run(async {
        let error = "container not running".to_owned();
        assert_eq!(exec(Err(error.clone())).await, (ProbeResult::Error(error), 3));
    });
}

#[test]
fn a_second_try_that_works_counts() {
    run(async {
        let tries = Cell::new(0);
        let handler = Handler::Exec(Exec { command: vec!["true".to_owned()] });
        let exec = async |_: &[String], _| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 { Err("busy".to_owned()) } else { ended(0, b"") }
        };
        let result = probe(&LOCAL, &handler, Duration::from_secs(1), exec).await;
        assert_eq!((result, tries.get()), (ProbeResult::Success, 2));
    });
}
