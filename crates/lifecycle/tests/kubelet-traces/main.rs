//! What the kubelet did, replayed: each trace beside this file is a pod that ran on a real kubelet.
//! What happened outside is fed to the engine in virtual time, and what the engine decides and
//! publishes is held against what the kubelet decided and published.
//!
//! `cargo test -p holdfast-lifecycle --test kubelet-traces -- NAME` replays the traces with that text
//! in their name; with `--verbose` it prints what the engine did. `cargo xtask judge record` records
//! them again. How they are compared, and with how much slack: [`compare`] and `docs/conformance.md`.

mod compare;
mod reduce;
mod replay;
mod spoil;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use compare::Slack;

fn main() -> ExitCode {
    let (mut list, mut verbose) = (false, false);
    let mut filters = Vec::new();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--list" => list = true,
            "--verbose" => verbose = true,
            // Flags meant for the usual harness change nothing here.
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let files = match files() {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => {
            eprintln!("there are no traces");
            return ExitCode::FAILURE;
        }
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    if list {
        for (name, _) in &files {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    let (mut total, mut failed, mut slack, mut spoilt) = (0, 0, Slack::default(), 0);
    for (name, path) in files.iter().filter(|(name, _)| wanted(name)) {
        total += 1;
        let faults = match std::fs::read_to_string(path) {
            Ok(text) => {
                let mut faults = check(&text, verbose, &mut slack);
                faults.extend(unnoticed(&text, &mut spoilt));
                faults
            }
            Err(e) => vec![format!("{}: {e}", path.display())],
        };
        if !faults.is_empty() {
            failed += 1;
            println!("FAILED {name}");
            for fault in faults {
                println!("  {}", fault.replace('\n', "\n  "));
            }
        }
    }
    println!("{slack}; {spoilt} spoilt traces were found out");
    println!("{} of {total} traces", total - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The traces, by name.
fn files() -> Result<Vec<(String, PathBuf)>, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubelet-traces");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "trace"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    files.sort();
    Ok(files)
}

/// Replays one trace; what is wrong.
fn check(text: &str, verbose: bool, slack: &mut Slack) -> Vec<String> {
    let trace = match trace::Trace::parse(text) {
        Ok(trace) => trace,
        Err(e) => return vec![e],
    };
    let replayed = match replay::run(&trace) {
        Ok(replayed) => replayed,
        Err(e) => return vec![e],
    };
    if verbose {
        for line in &replayed.log {
            println!("  {line}");
        }
        for state in &replayed.states {
            println!("  @ {}\n    {}", trace::seconds(state.at), state.lines.join("\n    "));
        }
    }
    let mut faults = replayed.faults;
    faults.extend(compare::states(&trace.plan, &trace.states, &replayed.states, slack));
    faults
}

/// Spoils the trace in every way and replays that; what would not have been noticed.
fn unnoticed(text: &str, count: &mut usize) -> Vec<String> {
    let all = spoil::all(text);
    *count += all.len();
    let good = all.iter().filter(|s| check(&s.text, false, &mut Slack::default()).is_empty());
    good.map(|s| format!("not noticed: {}", s.how)).collect()
}
