//! What runs in the containers of the judge's pods: it behaves as its arguments say, and writes down
//! what happens to it.
//!
//! ```text
//! actor main  NAME DIR [http=PORT] [grpc=PORT] [tcp=PROBE:PORT] STEP… [/ STEP…]…
//! actor probe NAME DIR PROBE                 the command of an exec probe
//! actor hook  NAME DIR HOOK MILLIS CODE      the command of an exec hook
//! ```
//!
//! The steps up to the first `/` are for the first run of the container, those after it for the
//! second, and so on; the last ones serve every later run too. See module `script` for the steps.
//!
//! DIR is a directory that all containers of a pod share with the one who started it. `trace` in it
//! gets one line for everything that happens: nanoseconds since the Unix epoch, container, run, and
//! what it is (`start`, `term`, `exit CODE`, `probe PROBE ANSWER`, `HOOK begin`, `HOOK end CODE`).

#![forbid(unsafe_code)]

mod grpc;
mod moment;
mod probe;
mod script;
mod serve;
mod trace;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::moment::Clock;
use crate::script::{Script, Term};
use crate::trace::Trace;

/// Bad arguments: a mistake of the judge, not of what it judges.
const USAGE: u8 = 99;

/// The program, with its arguments. Another program can be one: tests are in a container that has nothing
/// else to answer a probe of grpc.
pub fn act(words: impl Iterator<Item = String>) -> ExitCode {
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["main", name, dir, steps @ ..] => run(name, dir, steps),
        ["probe", name, dir, probe] => probe::run(name, dir, probe),
        ["hook", name, dir, hook, millis, code] => self::hook(name, dir, hook, millis, code),
        _ => Err("usage: actor main|probe|hook NAME DIR …".to_owned()),
    };
    ExitCode::from(result.unwrap_or_else(|e| {
        eprintln!("actor: {e}");
        USAGE
    }))
}

/// The main process of a container, from here to its exit code.
fn run(name: &str, dir: &str, steps: &[&str]) -> Result<u8, String> {
    // Before any thread: all of them inherit the mask, so that only `Signals` sees the signal.
    let signals = serve::Signals::block()?;
    let (trace, run) = Trace::begin(dir, name)?;
    trace.write("start");
    let clock = Clock::new(dir, Clock::now());
    if run == 0 {
        clock.mark(name)?;
    }
    let script = Script::parse(steps, run)?;
    probe::announce(dir, name, run, &clock, &script)?;
    if let Some(text) = &script.print {
        println!("{text}");
    }
    if let Some(text) = &script.message {
        let path = "/dev/termination-log";
        std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))?;
    }
    serve::start(&trace, &clock, &script)?;
    // Whoever sets it first decides on the end.
    let ending = Arc::new(AtomicBool::new(false));
    if let Some((code, at)) = script.exit.clone() {
        let (ending, trace) = (Arc::clone(&ending), trace.clone());
        std::thread::spawn(move || {
            clock.sleep_until(&at);
            if !ending.swap(true, Ordering::SeqCst) {
                exit(&trace, code);
            }
        });
    }
    loop {
        if !signals.wait(None)? {
            continue;
        }
        trace.write("term");
        if let Term::Exit(code, after) = script.term
            && !ending.swap(true, Ordering::SeqCst)
        {
            std::thread::sleep(after);
            exit(&trace, code);
        }
    }
}

fn exit(trace: &Trace, code: u8) -> ! {
    trace.write(&format!("exit {code}"));
    std::process::exit(code.into())
}

/// The command of an exec hook.
fn hook(name: &str, dir: &str, hook: &str, millis: &str, code: &str) -> Result<u8, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let trace = Trace::current(dir, name)?;
    trace.write(&format!("{hook} begin"));
    std::thread::sleep(Duration::from_millis(number(millis)?));
    trace.write(&format!("{hook} end {code}"));
    u8::try_from(number(code)?).map_err(|e| format!("{code:?}: {e}"))
}
