//! The pictures of the documentation, drawn from runs of the examples on this machine.

use std::fs;

use anyhow::{Context as _, Result};

use crate::run::{cargo, root};

/// A picture, and the run that it is of.
const RUNS: &[(&str, &[&str])] = &[
    ("order", &["examples/order.yaml"]),
    ("retry", &["examples/retry.yaml"]),
    ("sidecar-stop-order", &["examples/sidecar-stop-order.yaml"]),
];

/// A picture of what would happen, and what is explained.
const EXPLAINED: &[(&str, &[&str])] = &[
    ("explain-side-by-side", &["examples/side-by-side.yaml", "--assume", "manager.ready=5s..95s"]),
    (
        "explain-cronjob",
        &[
            "examples/cronjobs/4-cronjob-with-sidecar-container-and-startup-probe.yaml",
            "--assume=slow-sidecar.ready=5s",
            "--assume=slow-sidecar.exits=never",
            "--assume=sidecar-user.exits=1s",
        ],
    ),
];

/// Two runs in one picture: the order as it should be, and with a fault.
const COMPARED: (&str, &str, &[&str]) =
    ("init-order-lost", "examples/init-order-lost.yaml", &["--fault", "daemon-restart@1500ms"]);

pub(crate) fn run() -> Result<()> {
    let pictures = root().join("docs/pictures");
    let data = root().join("target/pictures");
    for dir in [&pictures, &data] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    for (name, args) in RUNS {
        record(args, &pictures.join(format!("{name}.svg")))?;
    }
    for (name, args) in EXPLAINED {
        let svg = holdfast(&["explain", "-o", "svg"]).args(*args).text()?;
        let path = pictures.join(format!("{name}.svg"));
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
    }
    let (name, file, fault) = COMPARED;
    let [without, with] = ["without", "with"].map(|end| data.join(format!("{name}-{end}.json")));
    record(&[file], &without)?;
    record(&[&[file], fault].concat(), &with)?;
    let svg = holdfast(&["timeline", "-o", "svg"]).args([&without, &with]).text()?;
    let path = pictures.join(format!("{name}.svg"));
    fs::write(&path, svg).with_context(|| path.display().to_string())?;
    eprintln!("xtask: pictures are in {}", pictures.display());
    Ok(())
}

fn record(args: &[&str], to: &std::path::Path) -> Result<()> {
    let state = root().join("target/pictures/state");
    if to.exists() {
        fs::remove_file(to).with_context(|| to.display().to_string())?;
    }
    let run = holdfast(&["run", "--state-dir"]).args([&state]).args(args);
    match run.args(["--timeline".as_ref(), to]).go() {
        // A pod that fails, as with a fault it may, has a timeline all the same.
        Err(e) if !to.exists() => Err(e),
        _ => Ok(()),
    }
}

fn holdfast(words: &[&str]) -> crate::run::Run {
    cargo(["run", "--quiet", "--package", "holdfast-cli", "--"]).args(words)
}
