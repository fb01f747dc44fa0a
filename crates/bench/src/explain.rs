//! `holdfast explain`: how long a look ahead takes.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::manifests::{container, pod, sidecar};
use crate::report::{Row, Section};
use crate::run::Holdfast;
use crate::stats::Samples;

/// The pod: 20 init containers, 20 sidecars with startupProbes and 20 apps with all probes.
fn sixty() -> Value {
    let inits = (0..20).map(|at| container(&format!("init-{at}"), "host", &["true"]));
    let sidecars = (0..20).map(|at| sidecar(&format!("sidecar-{at}"), "host", &["x"], &["true"]));
    let apps = (0..20).map(|at| {
        let mut c = container(&format!("app-{at}"), "host", &["x"]);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            c[probe] = json!({ "httpGet": { "port": 8080 }, "periodSeconds": 5 });
        }
        c
    });
    pod("sixty", inits.chain(sidecars).collect(), apps.collect())
}

/// Times the whole command, so many times in each format.
///
/// # Errors
/// If it fails.
pub fn report(holdfast: &Holdfast, times: usize) -> Result<Section> {
    let mut section = Section::new(
        "`holdfast explain`",
        "The whole command from its start to its end, of a pod of 60 containers: 20 init containers, 20 \
         sidecars with startupProbes, 20 apps with all three probes.",
    );
    let manifest = holdfast.write("sixty.yaml", &[sixty()])?;
    for format in ["text", "json"] {
        let mut samples = Vec::new();
        for _ in 0..times {
            let mut command = std::process::Command::new(holdfast.binary());
            command.arg("explain").arg(&manifest).args(["-o", format]);
            command.stdout(Stdio::null()).stdin(Stdio::null());
            let begin = Instant::now();
            let status = command.status().context("cannot run holdfast")?;
            samples.push(begin.elapsed());
            ensure!(status.success(), "holdfast explain ended with {status}");
        }
        let samples = Samples::millis(samples);
        let (p50, max) = (samples.median(), samples.max());
        section.push(
            Row::new(&format!("60 containers as {format} ({times} times)"))
                .wanted("<= 5 ms")
                .got(&format!("p50 {p50:.1}, p99 {:.1}, max {max:.1} ms", samples.percentile(99.0)))
                .ok(p50 <= 5.0),
        );
    }
    Ok(section)
}
