//! `cargo xtask judge examples`: the CronJobs of `examples/cronjobs`, on the kubelet and on
//! `holdfast run`: the rows of `kubectl get pods -w` held against those that `run` prints.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::bench::{self, Bench, HOLDFASTS};
use super::pod::NAMESPACE;
use crate::image::{Image, Node};

/// How long the rows are watched: the slowest of the four is over by then.
const WATCHED: Duration = Duration::from_secs(20);
/// The programs of the CronJobs' images, which are examples of `crates/cli`.
const PROGRAMS: [(&str, &str); 2] =
    [("zwindler/slow-sidecar", "slow_sidecar"), ("zwindler/sidecar-user", "sidecar_user")];

pub(super) fn run() -> Result<()> {
    let holdfast = bench::build("holdfast-cli", "holdfast")?;
    let programs = programs(&holdfast)?;
    let bench = Bench::up()?;
    for (image, program) in &programs {
        bench.load(&archive(image, program)?)?;
    }
    let dir = crate::workspace().join("examples/cronjobs");
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut different = 0;
    for file in &files {
        let kubelet = on_kubelet(&bench, file)?;
        let run = on_run(&bench, &holdfast, &programs, file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let settled = settled(&kubelet);
        let same = is_among(&settled, &run);
        let verdict = match kubelet.len() - settled.len() {
            _ if !same => "different".to_owned(),
            0 => "the same".to_owned(),
            more => format!("the same, but for {more} of the kubelet's between two syncs"),
        };
        println!("{name}: {verdict}");
        println!("  kubelet: {}\n  run:     {}", kubelet.join(" · "), run.join(" · "));
        different += usize::from(!same);
    }
    if different > 0 {
        bail!("{different} of {} examples print other rows than kubectl", files.len());
    }
    Ok(())
}

/// The programs, by image.
fn programs(holdfast: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "holdfast-cli", "--examples"])
        .current_dir(crate::workspace())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the examples of holdfast-cli do not build");
    }
    let dir = holdfast.parent().map(|dir| dir.join("examples")).unwrap_or_default();
    Ok(PROGRAMS.map(|(image, program)| (image, dir.join(program))).to_vec())
}

/// An image with nothing but the program.
fn archive(image: &str, program: &Path) -> Result<PathBuf> {
    let mut made = Image::new(&format!("docker.io/{image}:latest"))
        .with("program", Node::File(program.to_owned()));
    made.entrypoint = vec!["/program".into()];
    let dir = crate::cache().join("images");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let archive = dir.join(format!("{}.tar", image.replace('/', "-")));
    made.write(&archive)?;
    Ok(archive)
}

/// The rows of the first pod of the Job that the CronJob would make now.
fn on_kubelet(bench: &Bench, file: &Path) -> Result<Vec<String>> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = bench
        .kubectl(&["create", "--dry-run=client", "--output", "json", "--filename"])?
        .arg(file)
        .output()?;
    let cron: Value = serde_json::from_slice(&out.stdout)
        .with_context(|| format!("kubectl: {}", String::from_utf8_lossy(&out.stderr)))?;
    let mut spec = cron["spec"]["jobTemplate"]["spec"].clone();
    for list in ["initContainers", "containers"] {
        let containers = spec["template"]["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten() {
            // There is no registry.
            container["imagePullPolicy"] = "Never".into();
        }
    }
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": spec,
    });
    let selector = format!("job-name={name}");
    let mut watch =
        bench.kubectl(&["get", "pods", "--watch", "--no-headers", "--selector", &selector])?;
    bench.create(&job)?;
    let rows = rows(&mut watch, WATCHED);
    bench
        .kubectl(&["delete", "job", &name, "--cascade=foreground", "--wait=true"])?
        .stdout(Stdio::null())
        .status()?;
    rows
}

/// The rows of the first pod that `run` makes of the CronJob.
fn on_run(
    bench: &Bench,
    holdfast: &Path,
    programs: &[(&str, PathBuf)],
    file: &Path,
) -> Result<Vec<String>> {
    // All of them use port 8081: there nobody else does.
    let mut command = bench.on_node(HOLDFASTS, holdfast)?;
    command.arg("run").arg(file).args(["--timeout", &format!("{}s", WATCHED.as_secs())]);
    for (image, program) in programs {
        command.arg("--image").arg(format!("{image}={}", program.display()));
    }
    command.arg("--state-dir").arg(bench.shared("examples")?);
    rows(command.stderr(Stdio::null()), WATCHED * 4)
}

/// What a command prints of the first pod that it names, `READY STATUS RESTARTS`, each row once in a row
/// and none from its deletion on. It is killed when the time is over.
fn rows(command: &mut Command, within: Duration) -> Result<Vec<String>> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run it")?;
    let out = child.stdout.take().context("a child without its stdout")?;
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let (end, mut first, mut rows) = (Instant::now() + within, None, Vec::<String>::new());
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, ready, status, restarts, ..] = words.as_slice() else { continue };
        // A heading, or a Job's row.
        if *name == "NAME" || !ready.contains('/') || name.contains('/') {
            continue;
        }
        if *first.get_or_insert_with(|| (*name).to_owned()) != *name {
            continue;
        }
        if *status == "Terminating" {
            break;
        }
        let row = format!("{ready} {status} {restarts}");
        if rows.last() != Some(&row) {
            rows.push(row);
        }
    }
    let _ = child.kill();
    child.wait()?;
    let _ = reader.join();
    Ok(rows)
}

/// Without the rows between two syncs. A passed startup probe is published at once and by itself (kubelet:
/// `SetContainerStartup` sets nothing but `started`); that the container is ready follows with the sync that
/// it brings about. Whether the API server sees the first of the two depends on which is sent sooner
/// (`syncBatch`), so kubectl shows it in one run and not in the next.
fn settled(rows: &[String]) -> Vec<String> {
    let is_half = |row: &str, next: &str| {
        let (ready, rest) = row.split_once('/')?;
        let (next_ready, next_rest) = next.split_once('/')?;
        let (ready, next_ready) = (ready.parse::<u32>().ok()?, next_ready.parse::<u32>().ok()?);
        (rest == next_rest && ready + 1 == next_ready).then_some(())
    };
    let next = rows.iter().skip(1).map(Some).chain([None]);
    let kept = rows
        .iter()
        .zip(next)
        .filter(|(row, next)| next.is_none_or(|next| is_half(row, next).is_none()));
    kept.map(|(row, _)| row.clone()).collect()
}

/// Whether the kubelet's rows are among the others, in their order and to the last. The first may have
/// gone by before kubectl began to watch.
fn is_among(kubelet: &[String], run: &[String]) -> bool {
    let mut rest = run.iter();
    kubelet.iter().all(|row| rest.any(|other| other == row)) && kubelet.last() == run.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_first_pod_before_it_is_deleted() {
        let mut command = Command::new("printf");
        command.arg("a 0/1 Pending 0 0s\\nb 0/1 X 0\\na 0/1 Pending 0 1s\\na 1/1 Running 1 (1s ago) 2s\\na 1/1 Terminating 0\\na 0/1 Error 0\\n");
        let rows = rows(&mut command, Duration::from_secs(10)).unwrap();
        assert_eq!(rows, ["0/1 Pending 0", "1/1 Running 1"]);
    }

    #[test]
    fn a_row_between_two_syncs_is_passed_over() {
        let list = |rows: &[&str]| rows.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = list(&["0/2 Init:0/1 0", "0/2 PodInitializing 0", "1/2 PodInitializing 0"]);
        assert_eq!(settled(&rows), list(&["0/2 Init:0/1 0", "1/2 PodInitializing 0"]));
        // Another status, a step back, more than one, and the last row are what they are.
        for rows in [
            ["0/2 Init:0/1 0", "1/2 PodInitializing 0"],
            ["1/2 Error 0", "0/2 Error 0"],
            ["0/2 Running 0", "2/2 Running 0"],
            ["0/2 Running 0", "1/2 Running 1"],
        ] {
            assert_eq!(settled(&list(&rows)), list(&rows));
        }
    }

    #[test]
    fn the_kubelet_may_pass_over_rows_and_not_turn_them_round() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        assert!(is_among(&list("a c"), &list("a b c")));
        assert!(!is_among(&list("a c b"), &list("a b c")));
        assert!(!is_among(&list("a b"), &list("a b c")));
    }
}
