//! The same pods under `podman kube play`, in the same run: how long they take, and which of the
//! promises of a Pod are kept.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cases::{self, Case};
use crate::manifests::{containers, pod};
use crate::podman::{IMAGE, Podman};
use crate::report::{Row, Section};
use crate::run::{Holdfast, millis};
use crate::stats::Samples;

/// The program that ends at once, in the image.
const TRUE: [&str; 1] = ["/bin/true"];

/// Times and promises, or why there are none.
///
/// # Errors
/// If holdfast does not do what it should; a podman that does not run is not an error.
pub fn report(holdfast: &Holdfast, rounds: usize) -> Result<Section> {
    let mut section = Section::new(
        "`podman kube play`",
        "The same pods from the same root directory, in turns. The time is that of `holdfast run`, \
         and of `podman kube play`, `podman wait` and `podman kube down` together, which do the same.",
    );
    let podman = match Podman::find() {
        Ok(podman) => podman,
        Err(e) => {
            section.note(format!("No comparison on this machine: {e:#}."));
            return Ok(section);
        }
    };
    section.note(format!("Peer: {}.", podman.about));
    times(holdfast, &podman, rounds, &mut section)?;
    start_order(holdfast, &podman, rounds, &mut section)?;
    promises(holdfast, &podman, &mut section)?;
    Ok(section)
}

/// `--image` for the root directory.
fn image(podman: &Podman) -> String {
    format!("{IMAGE}={}", podman.root().display())
}

fn on_host(mut pod: Value) -> Value {
    pod["spec"]["hostNetwork"] = json!(true);
    pod
}

fn times(holdfast: &Holdfast, podman: &Podman, rounds: usize, section: &mut Section) -> Result<()> {
    let word = |word, count| containers(word, count, IMAGE, &TRUE);
    let pods = [
        ("1 container", "single", word("init", 0), word("app", 1)),
        ("5 containers", "five", word("init", 0), word("app", 5)),
        ("5 init containers, then 1", "inits", word("init", 5), word("app", 1)),
        ("20 containers", "twenty", word("init", 0), word("app", 20)),
    ];
    let image = image(podman);
    for (what, name, inits, apps) in pods {
        let count = apps.len();
        let all = count + inits.len();
        let manifest =
            holdfast.write(&format!("{name}.yaml"), &[on_host(pod(name, inits, apps))])?;
        // The first pod has podman build the image of its pause container.
        podman.run(&manifest, name, count)?;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let a = millis(holdfast.run(&manifest, &["--image", &image])?);
            let [_, b] = podman.run(&manifest, name, count)?;
            ratios.push(millis(b) / a);
            ours.push(a);
            theirs.push(millis(b));
        }
        let (ours, theirs) = (Samples::new(ours).median(), Samples::new(theirs).median());
        let ratio = Samples::new(ratios).median();
        section.push(
            Row::new(&format!("pod of {what}, start to end"))
                .wanted("faster")
                .got(&format!(
                    "holdfast {ours:.0} ms, podman {theirs:.0} ms: {ratio:.0} times faster \
                     ({:.1} and {:.1} ms a container)",
                    ours / all as f64,
                    theirs / all as f64
                ))
                .ok(ratio > 1.0),
        );
    }
    Ok(())
}

/// Whether app containers start in the order of the manifest.
fn start_order(
    holdfast: &Holdfast,
    podman: &Podman,
    rounds: usize,
    section: &mut Section,
) -> Result<()> {
    const COUNT: usize = 5;
    let apps = containers("app", COUNT, IMAGE, &TRUE);
    let manifest = holdfast.write("sorted.yaml", &[on_host(pod("sorted", vec![], apps))])?;
    let wanted: Vec<String> = (0..COUNT).map(|at| format!("app-{at}")).collect();
    let (mut ours, mut theirs) = (0, 0);
    for _ in 0..rounds {
        let marks = holdfast.marks(&manifest, &["--image", &image(podman)])?;
        let order = marks.into_iter().filter(|m| m.step == "running").map(|m| m.container);
        ours += usize::from(order.eq(wanted.iter().cloned()));

        let file = manifest.to_string_lossy();
        podman.text(&["kube", "play", &file])?;
        let format = "{{.Name}} {{.State.StartedAt.UnixNano}}";
        let names: Vec<String> = wanted.iter().map(|name| format!("sorted-{name}")).collect();
        let mut inspect = vec!["inspect", "--format", format];
        inspect.extend(names.iter().map(String::as_str));
        let text = podman.text(&inspect)?;
        podman.text(&["kube", "down", &file])?;
        let at: Option<Vec<i64>> =
            text.lines().map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
        let at = at.with_context(|| format!("podman inspect said:\n{text}"))?;
        theirs += usize::from(at.is_sorted());
    }
    section.push(
        Row::new("app containers start in the order of the manifest (kubelet: always)")
            .wanted("always")
            .got(&format!("holdfast {ours} of {rounds} pods, podman {theirs} of {rounds}"))
            .ok(ours == rounds),
    );
    Ok(())
}

/// Runs every case on both sides.
fn promises(holdfast: &Holdfast, podman: &Podman, section: &mut Section) -> Result<()> {
    for case in cases::all() {
        let ours = on_holdfast(holdfast, podman, &case)?;
        let (theirs, said) = on_podman(holdfast, podman, &case)?;
        let same = |log: &[String]| log == case.expected;
        let word = |log: &[String]| {
            let log = if log.is_empty() { "nothing".into() } else { log.join(", ") };
            format!("“{log}”")
        };
        let mut got = format!("holdfast: {}", word(&ours));
        if same(&theirs) {
            got += "; podman: the same";
        } else {
            got += &format!("; **podman: {}**{said}", word(&theirs));
        }
        section.push(
            Row::new(case.what)
                .wanted(&format!("“{}”", case.expected.join(", ")))
                .got(&got)
                .ok(same(&ours)),
        );
    }
    Ok(())
}

/// A directory for the log, and the manifest that uses it.
fn prepare(holdfast: &Holdfast, case: &Case, who: &str) -> Result<(PathBuf, PathBuf)> {
    let dir = holdfast.dir().join(format!("{}-{who}", case.name));
    std::fs::create_dir_all(&dir)?;
    let manifest = holdfast.write(&format!("{}-{who}.yaml", case.name), &[case.manifest(&dir)])?;
    Ok((dir, manifest))
}

fn on_holdfast(holdfast: &Holdfast, podman: &Podman, case: &Case) -> Result<Vec<String>> {
    let (dir, manifest) = prepare(holdfast, case, "holdfast")?;
    let timeout = format!("{}ms", case.limit.as_millis());
    // What became of the pod is in the log; some of the pods are meant to fail.
    holdfast
        .command(&manifest)
        .args(["--image", &image(podman), "--timeout", &timeout])
        .output()?;
    Ok(cases::log(&dir))
}

/// The log, and what was remarkable.
fn on_podman(holdfast: &Holdfast, podman: &Podman, case: &Case) -> Result<(Vec<String>, String)> {
    let (dir, manifest) = prepare(holdfast, case, "podman")?;
    let file = manifest.to_string_lossy().into_owned();
    let start = Instant::now();
    let mut play = podman.command(&["kube", "play", &file]);
    let errors = dir.join("stderr");
    play.stdout(Stdio::null()).stderr(std::fs::File::create(&errors)?);
    let mut play = play.spawn()?;
    let mut status = None;
    while start.elapsed() < case.limit {
        // The peer's events are not ours to wait for; nothing is timed here.
        std::thread::sleep(Duration::from_millis(50));
        status = play.try_wait()?;
        if status.is_some() && (!status.is_some_and(|s| s.success()) || over(podman, case)?) {
            break;
        }
    }
    let mut said = String::new();
    match status {
        None => {
            said = format!(" (`kube play` still waits after {} s)", case.limit.as_secs());
            play.kill()?;
            play.wait()?;
        }
        Some(s) if !s.success() => {
            let text = std::fs::read_to_string(&errors)?;
            said = format!(" ({})", text.lines().next_back().unwrap_or("it failed").trim());
        }
        Some(_) => {}
    }
    let _ = podman.text(&["kube", "down", &file]);
    podman.text(&["pod", "rm", "--all", "--force", "--time", "0"])?;
    Ok((cases::log(&dir), said))
}

/// Whether every container but podman's own has ended.
fn over(podman: &Podman, case: &Case) -> Result<bool> {
    let list = podman.text(&["ps", "--format", "{{.Names}}"])?;
    let own = format!("{}-", case.name);
    Ok(!list.lines().any(|name| name.starts_with(&own)))
}
