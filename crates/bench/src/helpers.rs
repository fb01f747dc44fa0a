//! `holdfast wait` and `holdfast render`, beside what people use for it.
//!
//! Interfaces are made in a network namespace of this program's own: [`report`] runs it again inside of
//! one.

mod peers;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::peers::{Appearance, Thing};
use crate::report::{Row, Section};
use crate::run::Holdfast;
use crate::stats::Samples;

/// How often each is tried.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Addresses that appear.
    pub addresses: usize,
    /// Files, ports and pages that appear.
    pub others: usize,
    /// Those that appear to a peer, which sees them up to a second later.
    pub peer: usize,
    /// Renderings that are killed.
    pub kills: u32,
}

impl Size {
    /// What the numbers are made with.
    pub const FULL: Self = Self { addresses: 200, others: 100, peer: 5, kills: 300 };
}

/// Measures the helpers. Needs root, for the namespace.
///
/// # Errors
/// If a program that is compared is not there, or does not do what it is asked to.
pub fn report(holdfast: &Holdfast, size: Size) -> Result<Section> {
    let text = "From the moment that something is there until `wait` says so, and what is left of a file that \
                is being written when its writer is killed (SIGKILL at instants spread over a whole run).";
    let mut section = Section::new("`holdfast wait` and `holdfast render`", text);
    let wanted = "p99 <= 5 ms";
    let addresses = addresses(holdfast, size.addresses)?;
    section.push(
        Row::new(&format!("an address appears → `wait interface:` ({} times)", addresses.len()))
            .wanted(wanted)
            .got(&numbers(&addresses))
            .ok(addresses.percentile(99.0) <= 5.0),
    );
    let npm = peers::install()?;
    for thing in Thing::ALL {
        let ours = appearances(thing, size.others, |what| {
            let mut wait = Waiting::new(holdfast, &what.target())?;
            Ok(move || wait.is_there())
        })?;
        let (what, scheme) = (thing.words(), thing.scheme());
        section.push(
            Row::new(&format!("{what} → `wait {scheme}` ({} times)", ours.len()))
                .wanted("p99 < 10 ms")
                .got(&numbers(&ours))
                .ok(ours.percentile(99.0) < 10.0),
        );
        for peer in peers::PEERS.iter().filter(|peer| peer.can(thing)) {
            let theirs = appearances(thing, size.peer, |what| peer.start(&npm, what))?;
            let ratio = theirs.median() / ours.median();
            section.push(
                Row::new(&format!("… → {}, {} times", peer.name, theirs.len()))
                    .got(&format!("{}: {ratio:.0} times as long in the median", numbers(&theirs))),
            );
        }
    }
    for writer in WRITERS {
        let kills = size.kills / writer.slow;
        let left = killed(holdfast, *writer, kills)?;
        let text = match writer.ours {
            true => format!("{}, {} after the next run", left, left.stays),
            false => left.to_string(),
        };
        let row = Row::new(&format!("{} killed {kills} times", writer.name)).got(&text);
        section.push(match writer.ours {
            true => row
                .wanted("never half a file; nothing that the next run leaves")
                .ok(left.half + left.stays == 0),
            false => row,
        });
    }
    Ok(section)
}

fn numbers(samples: &Samples) -> String {
    let [p50, p99] = [50.0, 99.0].map(|percent| samples.percentile(percent));
    format!("p50 {p50:.1}, p99 {p99:.1}, max {:.1} ms", samples.max())
}

/// A `holdfast wait` that waits.
struct Waiting {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Waiting {
    fn new(holdfast: &Holdfast, target: &str) -> Result<Self> {
        let mut command = Command::new(holdfast.binary());
        command.args(["wait", "--timeout", "20s", target]);
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut waiting = Self { child, said };
        waiting.line("waiting for")?;
        Ok(waiting)
    }

    fn line(&mut self, begin: &str) -> Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        ensure!(line.starts_with(begin), "wait said {line:?}, not {begin:?}");
        Ok(())
    }

    /// Returns as soon as it says that it is there.
    fn is_there(&mut self) -> Result<Instant> {
        let mut line = String::new();
        while !line.contains(" is there after ") {
            line.clear();
            ensure!(self.said.read_line(&mut line)? > 0, "wait gave up");
        }
        let seen = Instant::now();
        ensure!(self.child.wait()?.success(), "wait failed");
        Ok(seen)
    }
}

/// The name of the interface.
const INTERFACE: &str = "hfwait";
/// Set in the copy of this program that has a network namespace of its own.
const INSIDE: &str = "HOLDFAST_BENCH_INSIDE";

fn addresses(holdfast: &Holdfast, count: usize) -> Result<Samples> {
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(["--holdfast".as_ref(), holdfast.binary().as_os_str()])
        .arg("helpers")
        .env(INSIDE, count.to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("there is no unshare (apt-get install util-linux)")?;
    ensure!(output.status.success(), "the trials in a network namespace failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let samples = text.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    ensure!(samples.len() == count, "{} of {count} trials", samples.len());
    Ok(Samples::new(samples))
}

/// If this is the copy inside of the namespace: prints a time in milliseconds for each trial.
///
/// # Errors
/// If an interface cannot be made, or `wait` does not see it.
pub fn inside(holdfast: &Holdfast) -> Result<bool> {
    let Ok(count) = std::env::var(INSIDE) else { return Ok(false) };
    let mut ip = Command::new("ip")
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("there is no ip (apt-get install iproute2)")?;
    let mut batch = ip.stdin.take().context("no stdin")?;
    writeln!(batch, "link add {INTERFACE} type veth peer name {INTERFACE}p")?;
    writeln!(batch, "link set {INTERFACE} up")?;
    for trial in 0..count.parse()? {
        let address = format!("10.99.{}.{}/32", trial / 250, trial % 250 + 1);
        let target = format!("interface:{INTERFACE}");
        let mut once = Command::new(holdfast.binary());
        once.args(["wait", "--once", &target]).stderr(Stdio::null());
        // `ip` takes the last address away when it gets to it.
        while once.status()?.success() {}
        let mut wait = Waiting::new(holdfast, &target)?;
        let begin = Instant::now();
        writeln!(batch, "addr add {address} dev {INTERFACE}")?;
        println!("{}", (wait.is_there()? - begin).as_secs_f64() * 1e3);
        writeln!(batch, "addr del {address} dev {INTERFACE}")?;
    }
    drop(batch);
    ensure!(ip.wait()?.success(), "ip failed");
    Ok(true)
}

/// Makes something appear so many times, and says how long it took until that was seen; `start` starts
/// what waits for it and gives what ends when it is seen.
fn appearances<W: FnOnce() -> Result<Instant>>(
    thing: Thing,
    count: usize,
    start: impl Fn(&Appearance) -> Result<W>,
) -> Result<Samples> {
    let directory = tempfile::Builder::new().prefix("holdfast-wait-").tempdir()?;
    let mut samples = Vec::new();
    for trial in 0..count {
        let what = Appearance::new(thing, directory.path().join(format!("ready-{trial}")))?;
        let seen = start(&what)?;
        // Not always in the same part of its turn.
        std::thread::sleep(Duration::from_millis(trial as u64 * 37 % 100));
        let begin = Instant::now();
        let _there = what.appear()?;
        samples.push(seen()? - begin);
    }
    Ok(Samples::millis(samples))
}

/// A way to put a value into a file.
#[derive(Clone, Copy)]
struct Writer {
    name: &'static str,
    ours: bool,
    /// It is killed so many times less often, for it takes so much longer.
    slow: u32,
    /// A shell's command, with `$HOLDFAST` and `$VALUE`; it makes `out` from `template`.
    command: &'static str,
}

const WRITERS: &[Writer] = &[
    Writer {
        name: "`holdfast render`",
        ours: true,
        slow: 1,
        command: "exec $HOLDFAST render --from template --to out --replace RACK=value:$VALUE",
    },
    Writer {
        name: "`cp` and `sed -i`",
        ours: false,
        slow: 1,
        command: "cp template out; exec sed -i s/RACK/$VALUE/ out",
    },
    Writer {
        name: "`envsubst >`",
        ours: false,
        slow: 1,
        command: "exec envsubst <template-env >out",
    },
    Writer {
        name: "`j2 -o` (j2cli)",
        ours: false,
        slow: 10,
        command: "exec j2 -o out template.j2",
    },
];

/// What was found after kills.
#[derive(Debug, Default)]
struct Left {
    /// Files beside it.
    beside: usize,
    /// Times when it was neither the old nor the new one.
    half: usize,
    /// Those of the files that are still there after the next run.
    stays: usize,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} times a reader saw neither the old file nor the new one; {} files left beside it",
            self.half, self.beside
        )
    }
}

fn killed(holdfast: &Holdfast, writer: Writer, kills: u32) -> Result<Left> {
    let dir = tempfile::Builder::new().prefix("holdfast-render-").tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let text = |rack: &str| format!("rack={rack}\n").repeat(5_000);
    fs::write(at("template"), text("RACK"))?;
    fs::write(at("template-env"), text("$VALUE"))?;
    fs::write(at("template.j2"), text("{{ VALUE }}"))?;
    let start = |value: &str| -> Result<Child> {
        let mut command = Command::new("sh");
        command.args(["-c", writer.command]).current_dir(&dir);
        command.env("HOLDFAST", holdfast.binary()).env("VALUE", value).stderr(Stdio::null());
        Ok(command.spawn()?)
    };
    let begin = Instant::now();
    ensure!(start("old")?.wait()?.success(), "{} failed", writer.name);
    let usual = begin.elapsed();
    ensure!(fs::read_to_string(at("out"))? == text("old"), "{} wrote something else", writer.name);
    let inputs = names(dir.path())?;
    let mut left = Left::default();
    let mut old = text("old");
    for round in 0..kills {
        let value = format!("r{round}");
        let mut child = start(&value)?;
        std::thread::sleep(usual * round / kills);
        let _ = child.kill();
        child.wait()?;
        let now = fs::read_to_string(at("out")).unwrap_or_default();
        let new = text(&value);
        left.half += usize::from(now != old && now != new);
        let beside =
            || -> Result<Vec<_>> { Ok(names(dir.path())?.difference(&inputs).cloned().collect()) };
        let found = beside()?.len();
        left.beside += found;
        if found > 0 && writer.ours {
            ensure!(start(&value)?.wait()?.success(), "{} failed", writer.name);
            left.stays += beside()?.len();
        }
        for name in beside()? {
            fs::remove_file(dir.path().join(name))?;
        }
        old = if now == new { new } else { old };
        fs::write(at("out"), &old)?;
    }
    Ok(left)
}

fn names(directory: &Path) -> Result<BTreeSet<std::ffi::OsString>> {
    Ok(fs::read_dir(directory)?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?)
}
