//! `--timeline FILE.json`: what happened to every container, when, and what each start waited for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use holdfast_explain::timeline::{self as document, HookName, Pod, Step, VERSION};
use holdfast_lifecycle::{HookKind, Plan, Time};
use holdfast_runtime::notice::{Mark, MarkStep};

/// The marks of a run.
#[derive(Debug)]
pub(crate) struct Timeline {
    origin: Time,
    plans: Vec<Rc<Plan>>,
    marks: Vec<Mark>,
}

impl Timeline {
    pub(crate) const fn new(origin: Time) -> Self {
        Self { origin, plans: Vec::new(), marks: Vec::new() }
    }

    /// A pod that came to be.
    pub(crate) fn pod(&mut self, plan: &Rc<Plan>) {
        if !self.plans.iter().any(|p| p.uid == plan.uid) {
            self.plans.push(Rc::clone(plan));
        }
    }

    pub(crate) fn add(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// What is to be written.
    fn document(&self) -> document::Timeline {
        document::Timeline {
            version: VERSION,
            start: holdfast_manifest::wire::time(self.origin).as_str().map(str::to_owned),
            pods: self.plans.iter().map(|plan| Pod::of(plan)).collect(),
            marks: self.marks.iter().filter_map(|mark| self.mark(mark)).collect(),
            bounds: Vec::new(),
        }
    }

    fn mark(&self, mark: &Mark) -> Option<document::Mark> {
        let plan = self.plans.iter().find(|plan| plan.name == mark.pod)?;
        let hook = |kind: HookKind| match kind {
            HookKind::PostStart => HookName::PostStart,
            HookKind::PreStop => HookName::PreStop,
        };
        let step = match &mark.step {
            MarkStep::SandboxReady => Step::SandboxReady,
            MarkStep::Phase(phase) => Step::Phase { phase: phase.as_str().to_owned() },
            MarkStep::Pull => Step::Pull,
            MarkStep::Pulled => Step::Pulled,
            MarkStep::Start { waited_for } => Step::start(plan, waited_for),
            MarkStep::Started => Step::Running,
            MarkStep::BecameStarted => Step::Started,
            MarkStep::BecameReady => Step::Ready,
            MarkStep::Unready => Step::Unready,
            MarkStep::Probe(kind, result) => Step::probe(*kind, result),
            MarkStep::HookBegun(kind) => Step::HookBegun { hook: hook(*kind) },
            MarkStep::HookEnded(kind) => Step::HookEnded { hook: hook(*kind) },
            MarkStep::Stop { grace } => Step::Stop { grace_seconds: *grace },
            MarkStep::Exited { code } => Step::Exited { exit_code: *code },
            MarkStep::Refused { reason } => Step::Refused { reason: reason.clone() },
        };
        let micros = (mark.at.since(self.origin).as_secs_f64() * 1e6).round();
        Some(document::Mark {
            at: micros / 1e6,
            pod: mark.pod.to_string(),
            container: mark.container.as_deref().map(str::to_owned),
            run: mark.container.is_some().then_some(mark.run),
            step,
        })
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
        let text = self.document().to_json();
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
