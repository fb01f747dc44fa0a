//! The test program: what it has, and one spec of it run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Upstream's suite as a program.
#[derive(Debug)]
pub(super) struct Suite {
    program: PathBuf,
}

/// One test.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// Its whole text: containers and leaf.
    pub(super) text: String,
    /// The outermost container.
    pub(super) family: String,
    /// Whether it is in focus and not skipped.
    pub(super) chosen: bool,
}

/// What became of a spec.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// Its text.
    pub(super) spec: String,
    pub(super) family: String,
    /// Ginkgo's word: `passed`, `failed`, `timedout`, `skipped` …
    pub(super) state: String,
    pub(super) seconds: u64,
    /// The first words of why, if it did not pass.
    pub(super) why: String,
}

impl Outcome {
    /// A spec that finds that it does not apply is no failure.
    pub(super) fn passed(&self) -> bool {
        matches!(self.state.as_str(), "passed" | "skipped")
    }
}

impl Suite {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// The references of all images that upstream's tests know.
    pub(super) fn images(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.program)
            .arg("-bench.images")
            .stderr(Stdio::null())
            .output()
            .context("the test program")?;
        if !output.status.success() {
            bail!("the test program does not list its images: {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// All specs.
    pub(super) fn list(&self, focus: &str, skip: &str) -> Result<Vec<Spec>> {
        let dir = tempfile::tempdir()?;
        let report = dir.path().join("report.json");
        let output = Command::new(&self.program)
            .args(["-ginkgo.dry-run", "-ginkgo.no-color", "-provider=local", "-kubeconfig="])
            .arg(format!("-ginkgo.focus={focus}"))
            .arg(format!("-ginkgo.skip={skip}"))
            .arg(format!("-ginkgo.json-report={}", report.display()))
            .output()
            .context("the test program")?;
        let specs = read(&report).with_context(|| {
            let said = [output.stdout, output.stderr].concat();
            format!("the test program does not list its specs: {}", String::from_utf8_lossy(&said))
        })?;
        Ok(specs
            .iter()
            .map(|spec| Spec {
                text: text(spec),
                family: family(spec),
                chosen: spec.get("State").and_then(Value::as_str) != Some("skipped"),
            })
            .collect())
    }

    /// Runs one spec.
    pub(super) fn run(&self, spec: &Spec, target: &[String], out: &Path) -> Result<Outcome> {
        let hash = Sha256::digest(&spec.text);
        let name: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let [log, report] = ["log", "json"].map(|ending| out.join(format!("{name}.{ending}")));
        let _ = fs::remove_file(&report);
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let status = crate::tied(&self.program)
            .args(target)
            // Ginkgo matches against the suite's name, a space, and the text.
            .arg(format!("-ginkgo.focus=^node {}$", quote(&spec.text)))
            .args(["-ginkgo.no-color", "-ginkgo.v", TIMEOUT, "-test.timeout=0"])
            .arg(format!("-ginkgo.json-report={}", report.display()))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .context("the test program")?;
        let ran = read(&report).with_context(|| {
            format!("the test program did not report ({status}); its log is {}", log.display())
        })?;
        let mine = ran
            .iter()
            .find(|one| text(one) == spec.text)
            .with_context(|| format!("{}: the test program does not know it", spec.text))?;
        let state = mine.get("State").and_then(Value::as_str).unwrap_or("unknown");
        let nanoseconds = mine.get("RunTime").and_then(Value::as_u64).unwrap_or(0);
        let message = mine.pointer("/Failure/Message").and_then(Value::as_str).unwrap_or("");
        Ok(Outcome {
            spec: spec.text.clone(),
            family: spec.family.clone(),
            // One that was not selected after all has run for no time and is skipped without a word.
            state: if state == "skipped" && message.is_empty() { "unselected" } else { state }
                .into(),
            seconds: nanoseconds / 1_000_000_000,
            why: first_words(message),
        })
    }
}

/// The specs of a report.
fn read(path: &Path) -> Result<Vec<Value>> {
    let mut report: Value =
        serde_json::from_slice(&fs::read(path).with_context(|| path.display().to_string())?)?;
    let specs = report.pointer_mut("/0/SpecReports").map_or(Value::Null, Value::take);
    let Value::Array(specs) = specs else { bail!("{}: no specs in it", path.display()) };
    let is_test = |spec: &Value| spec.get("LeafNodeType").and_then(Value::as_str) == Some("It");
    Ok(specs.into_iter().filter(is_test).collect())
}

fn text(spec: &Value) -> String {
    let leaf = spec.get("LeafNodeText").and_then(Value::as_str).unwrap_or_default();
    containers(spec).chain([leaf]).collect::<Vec<_>>().join(" ")
}

fn family(spec: &Value) -> String {
    // Labels are of no interest in a table.
    let outermost = containers(spec).next().unwrap_or_default();
    outermost.split(' ').filter(|word| !word.starts_with('[')).collect::<Vec<_>>().join(" ")
}

fn containers(spec: &Value) -> impl Iterator<Item = &str> {
    let texts = spec.get("ContainerHierarchyTexts").and_then(Value::as_array);
    texts.into_iter().flatten().filter_map(Value::as_str)
}

/// A text as a regular expression that matches just it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// What fits a table.
fn first_words(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

const WIDTH: usize = 160;
/// One spec waits until back-off is at its highest, which takes most of half an hour.
const TIMEOUT: &str = "-ginkgo.timeout=1h";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_only_itself() {
        assert_eq!(quote("[sig-node] a (b)"), r"\[sig\-node\] a \(b\)");
    }

    #[test]
    fn a_family_is_its_name_without_labels() {
        let spec = serde_json::json!({
            "ContainerHierarchyTexts": ["[sig-node] Probing container [X]", "inner"],
            "LeafNodeText": "works",
        });
        assert_eq!(family(&spec), "Probing container");
        assert_eq!(text(&spec), "[sig-node] Probing container [X] inner works");
    }
}
