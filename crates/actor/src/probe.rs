//! Exec probes: a command beside the main process, which has left word of what to answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::moment::Clock;
use crate::script::{Answer, Answers, Script};
use crate::trace::Trace;

/// Leaves word of what probes of this run are to be answered.
pub(crate) fn announce(
    dir: &str,
    name: &str,
    run: usize,
    clock: &Clock,
    script: &Script,
) -> Result<(), String> {
    let mut text = format!("{}\n", clock.started.as_nanos());
    for (probe, answers) in &script.answers {
        text.push_str(&format!("{probe} {}\n", answers.text()));
    }
    // Renamed into place, so that no probe reads half of it.
    let draft = file(dir, &format!("{name}.{run}"));
    let place = file(dir, name);
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, &place))
        .map_err(|e| format!("{}: {e}", place.display()))
}

/// The command of a probe: its exit code.
pub(crate) fn run(name: &str, dir: &str, probe: &str) -> Result<u8, String> {
    let trace = Trace::current(dir, name)?;
    let path = file(dir, name);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut lines = text.lines();
    let started: u64 = lines.next().and_then(|l| l.parse().ok()).ok_or("no start")?;
    let clock = Clock::new(dir, Duration::from_nanos(started));
    let mine = lines.filter_map(|l| l.split_once(' ')).find(|(kind, _)| *kind == probe);
    let answer = match mine {
        Some((_, answers)) => Answers::parse(answers)?.at(Clock::now(), |at| clock.when(at)),
        None => Answer::Ok,
    };
    trace.write(&format!("probe {probe} {}", answer.text()));
    if answer == Answer::Hang {
        std::thread::sleep(Duration::from_secs(3600));
    }
    Ok(u8::from(answer != Answer::Ok))
}

fn file(dir: &str, name: &str) -> PathBuf {
    Path::new(dir).join(format!("{name}.answers"))
}
