//! `--timeline FILE.json`: what happened to every container, when, and what each start waited for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use holdfast_lifecycle::{ProbeKind, ProbeResult, Time};
use holdfast_runtime::notice::{Mark, MarkStep};
use serde_json::{Map, Value, json};

/// The marks of a run.
#[derive(Debug)]
pub(crate) struct Timeline {
    origin: Time,
    marks: Vec<Value>,
}

impl Timeline {
    pub(crate) const fn new(origin: Time) -> Self {
        Self { origin, marks: Vec::new() }
    }

    pub(crate) fn add(&mut self, mark: &Mark) {
        let mut entry = Map::new();
        let seconds = mark.at.since(self.origin).as_secs_f64();
        entry.insert("at".into(), json!((seconds * 1e6).round() / 1e6));
        entry.insert("pod".into(), json!(&*mark.pod));
        if let Some(container) = &mark.container {
            entry.insert("container".into(), json!(&**container));
            entry.insert("run".into(), json!(mark.run));
        }
        let step = match &mark.step {
            MarkStep::SandboxReady => "sandboxReady",
            MarkStep::Pull => "pull",
            MarkStep::Pulled => "pulled",
            MarkStep::Start { waited_for } => {
                entry.insert("waitedFor".into(), json!(waited_for));
                "start"
            }
            MarkStep::Started => "running",
            MarkStep::Became(what) => what,
            MarkStep::Unready => "unready",
            MarkStep::Probe(kind, result) => {
                let kind = match kind {
                    ProbeKind::Startup => "startup",
                    ProbeKind::Readiness => "readiness",
                    ProbeKind::Liveness => "liveness",
                };
                entry.insert("probe".into(), json!(kind));
                let (passed, message) = match result {
                    ProbeResult::Success => (json!(true), None),
                    ProbeResult::Warning(m) => (json!(true), Some(m)),
                    ProbeResult::Failure(m) => (json!(false), Some(m)),
                    ProbeResult::Error(m) => (Value::Null, Some(m)),
                };
                entry.insert("passed".into(), passed);
                if let Some(message) = message {
                    entry.insert("message".into(), json!(message));
                }
                "probe"
            }
            MarkStep::Hook(what) => what,
            MarkStep::Stop { grace } => {
                entry.insert("graceSeconds".into(), json!(grace));
                "stop"
            }
            MarkStep::Exited { code } => {
                entry.insert("exitCode".into(), json!(code));
                "exited"
            }
            MarkStep::Refused { reason } => {
                entry.insert("reason".into(), json!(reason));
                "refused"
            }
        };
        entry.insert("step".into(), json!(step));
        self.marks.push(Value::Object(entry));
    }

    /// Whether a timeline can be written to `path`, to be known before a run that may last for hours.
    pub(crate) fn check(path: &Path) -> std::io::Result<()> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
            Ok(meta) if !meta.is_file() => {
                std::fs::OpenOptions::new().write(true).open(path).map(drop)
            }
            _ => Draft::new(path).map(drop),
        }
    }

    /// Writes the file: all of it or nothing. What is no file, such as `/dev/stdout`, is written to.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let document = json!({
            "version": 1,
            "start": holdfast_manifest::wire::time(self.origin),
            "marks": self.marks,
        });
        let text = format!("{document:#}\n");
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            return std::fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
        }
        let draft = Draft::new(path)?;
        (&draft.file).write_all(text.as_bytes())?;
        std::fs::rename(&draft.path, path)
    }
}

/// A file beside the one that it is to replace. It goes with the value, unless it was renamed.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn new(beside: &Path) -> std::io::Result<Self> {
        let name = beside.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}", std::process::id()));
        let path = beside.with_file_name(draft);
        let file = File::create_new(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it was renamed.
        let _ = std::fs::remove_file(&self.path);
    }
}
