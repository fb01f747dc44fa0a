//! Reading manifests, and what commands say of them.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, bail};
use holdfast_lifecycle::fault::{Fault, FaultKind};
use holdfast_manifest::expand::pod_of;
use holdfast_manifest::{Loaded, Options, Source, Style};

use crate::args::FaultArg;
use crate::output::say;

/// Reads the manifests; `-` is standard input. `None` if they are wrong and that has been said.
///
/// # Errors
/// If a file cannot be read, or if the manifests hold no pod at all.
pub(crate) fn load(files: &[PathBuf], options: &Options) -> anyhow::Result<Option<Loaded>> {
    let mut sources = Vec::new();
    for file in files {
        let (name, bytes) = if file.as_os_str() == "-" {
            let bytes = read(std::io::stdin(), options).context("cannot read standard input")?;
            ("<stdin>".to_owned(), bytes)
        } else {
            let bytes = std::fs::File::open(file)
                .and_then(|open| read(open, options))
                .with_context(|| format!("cannot read {}", file.display()))?;
            (file.display().to_string(), bytes)
        };
        sources.push(Source::new(name, bytes));
    }
    let style = if std::io::stderr().is_terminal() { Style::Colored } else { Style::Plain };
    let loaded = match holdfast_manifest::load(&sources, options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            say!("{}", diagnostics.render(style).trim_end());
            return Ok(None);
        }
    };
    if !loaded.warnings.is_empty() {
        say!("{}", loaded.warnings.render(style).trim_end());
    }
    if !loaded.objects.iter().any(|o| pod_of(o).is_some()) {
        bail!("there is nothing to run: the manifests hold no Pod, Job, CronJob or other workload");
    }
    Ok(Some(loaded))
}

/// Reads a manifest, but not much more than is accepted: a device or a pipe may never end.
fn read(from: impl Read, options: &Options) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(options.limits.bytes as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A fault that names a container which no pod has would never strike, and nobody would notice.
///
/// # Errors
/// The first such fault.
pub(crate) fn check_faults(faults: &[FaultArg], loaded: &Loaded) -> anyhow::Result<()> {
    for fault in faults {
        let FaultArg::At(Fault { kind: FaultKind::Kill(name) | FaultKind::Oom(name), .. }) = fault
        else {
            continue;
        };
        let pods = loaded.objects.iter().filter_map(pod_of).map(|(_, pod)| pod.spec);
        let names: BTreeSet<String> = pods
            .flat_map(|spec| spec.init_containers.into_iter().chain(spec.containers))
            .map(|container| container.name)
            .collect();
        if !names.contains(name) {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            bail!("--fault: no pod has a container {name:?}; there are: {names}");
        }
    }
    Ok(())
}
