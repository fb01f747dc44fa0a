//! What is deployed: the chart, and the plain manifests that are made from it.
//!
//! `deploy/chart` is written by hand; `deploy/manifests/NAME.yaml` is the chart with the values of
//! `deploy/chart/variants/NAME.yaml`, as helm renders it, so that the two never say different things.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::go;

/// The chart.
#[must_use]
pub fn chart() -> PathBuf {
    crate::workspace().join("deploy/chart")
}

/// The plain manifests.
#[must_use]
pub fn manifests() -> PathBuf {
    crate::workspace().join("deploy/manifests")
}

/// The chart's variants, as plain manifests: name to text.
///
/// # Errors
/// When helm does not build, or refuses one.
pub fn render() -> Result<BTreeMap<String, String>> {
    let helm = go::helm()?;
    let dir = chart().join("variants");
    let mut rendered = BTreeMap::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let values = entry?.path();
        let name = values.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        rendered.insert(name.clone(), variant(&helm, &name, &values)?);
    }
    Ok(rendered)
}

/// Writes them; what has no variant any more is removed.
///
/// # Errors
/// As [`render`], or when they cannot be written.
pub fn write() -> Result<()> {
    let rendered = render()?;
    let dir = manifests();
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    for (name, text) in &rendered {
        let path = dir.join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    eprintln!("xtask: {} manifests are in {}", rendered.len(), dir.display());
    Ok(())
}

fn variant(helm: &Path, name: &str, values: &Path) -> Result<String> {
    let output = Command::new(helm)
        .args(["template", RELEASE, "--namespace", RELEASE])
        .args(["--set", "namespace.create=true", "--values"])
        .arg(values)
        .arg(chart())
        .output()
        .context("cannot run helm")?;
    if !output.status.success() {
        bail!("{}: {}", values.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    // What the variant is for, in its own words.
    let text = fs::read_to_string(values).with_context(|| values.display().to_string())?;
    let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let head = format!(
        "{}\n#\n# Made from deploy/chart (values: variants/{name}.yaml) by `cargo xtask deploy`. netclient, if it \
         is\n# in here, needs a Secret with its enrolment token:\n#\n#   kubectl -n {RELEASE} create secret \
         generic netclient-token --from-literal=token=…\n",
        comment.join("\n")
    );
    // Objects in the order in which they need each other, so that `kubectl apply -f` does it in one go.
    Ok(format!("{head}{}", in_order(&String::from_utf8(output.stdout)?)))
}

/// Documents by kind, the Namespace first; helm goes by the names of the templates.
fn in_order(text: &str) -> String {
    let mut documents: Vec<&str> =
        text.split("---\n").filter(|document| !document.trim().is_empty()).collect();
    documents.sort_by_key(|document| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or("");
        KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len())
    });
    let documents = documents.iter().map(|document| {
        let lines = document.lines().filter(|line| !line.starts_with("# Source: "));
        lines.map(|line| format!("{}\n", line.trim_end())).collect::<String>()
    });
    documents.map(|document| format!("---\n{document}")).collect()
}

/// What others need comes first.
const KINDS: &[&str] = &[
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
];

/// The release's name, and its namespace.
const RELEASE: &str = "holdfast";
