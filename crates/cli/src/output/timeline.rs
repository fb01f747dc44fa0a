//! `--timeline FILE`: what happened to every container, when, and what each start waited for; as a picture,
//! a page or data.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use holdfast_explain::picture;
use holdfast_explain::timeline::{self as document, Pod, Step, VERSION};
use holdfast_lifecycle::{Plan, Time};
use holdfast_runtime::notice::{Mark, MarkStep};

/// The marks of a run.
#[derive(Debug)]
pub(crate) struct Timeline {
    origin: Time,
    /// Each pod, and when it came to be.
    plans: Vec<(Rc<Plan>, Time)>,
    marks: Vec<Mark>,
}

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Svg,
    Html,
    Json,
}

impl FileKind {
    /// By the end of its name. What is no file, such as a pipe, gets data whatever it is called.
    fn of(path: &Path) -> std::io::Result<Self> {
        let end = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        match end.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("html") => Ok(Self::Html),
            Some("json") => Ok(Self::Json),
            _ if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) => Ok(Self::Json),
            end => {
                let what = end
                    .map_or_else(|| "has no".to_owned(), |end| format!("has the unknown .{end}"));
                Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidFilename,
                    format!(
                        "the name {what} at its end; .svg is a picture, .html a page, .json data"
                    ),
                ))
            }
        }
    }
}

impl Timeline {
    pub(crate) const fn new(origin: Time) -> Self {
        Self { origin, plans: Vec::new(), marks: Vec::new() }
    }

    /// A pod that is there; its first time is when it came to be.
    pub(crate) fn pod(&mut self, plan: &Rc<Plan>, at: Time) {
        if !self.plans.iter().any(|(p, _)| p.uid == plan.uid) {
            self.plans.push((Rc::clone(plan), at));
        }
    }

    pub(crate) fn add(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// What is to be written.
    fn document(&self) -> document::Timeline {
        let names = self.names();
        let pods = self.plans.iter().zip(&names).map(|((plan, at), name)| {
            let at = self.seconds(*at);
            Pod { name: name.clone(), at, ..Pod::of(plan) }
        });
        document::Timeline {
            version: VERSION,
            start: holdfast_manifest::wire::time(self.origin).as_str().map(str::to_owned),
            pods: pods.collect(),
            marks: self.marks.iter().filter_map(|mark| self.mark(mark, &names)).collect(),
            bounds: Vec::new(),
        }
    }

    /// What each pod is called: no two the same, so that no two share a lane.
    fn names(&self) -> Vec<String> {
        let one_namespace = self.plans.windows(2).all(|w| w[0].0.namespace == w[1].0.namespace);
        let mut names: Vec<String> = Vec::new();
        for (plan, _) in &self.plans {
            let name = match one_namespace {
                true => plan.name.to_string(),
                false => format!("{}/{}", plan.namespace, plan.name),
            };
            // One that took the place of another, as those of a StatefulSet do.
            let again = (2..).map(|n| format!("{name} ({n})"));
            let free = std::iter::once(name.clone()).chain(again).find(|n| !names.contains(n));
            names.push(free.unwrap_or(name));
        }
        names
    }

    fn seconds(&self, at: Time) -> f64 {
        let micros = (at.since(self.origin).as_secs_f64() * 1e6).round();
        micros / 1e6
    }

    fn mark(&self, mark: &Mark, names: &[String]) -> Option<document::Mark> {
        let place = self.plans.iter().position(|(plan, _)| plan.uid == mark.uid)?;
        let (plan, name) = (&self.plans.get(place)?.0, names.get(place)?);
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
            MarkStep::HookBegun(kind) => Step::HookBegun { hook: (*kind).into() },
            MarkStep::HookEnded(kind) => Step::HookEnded { hook: (*kind).into() },
            MarkStep::Stop { grace } => Step::Stop { grace_seconds: *grace },
            MarkStep::Exited { code } => Step::Exited { exit_code: *code },
            MarkStep::Refused { reason } => Step::Refused { reason: reason.clone() },
        };
        Some(document::Mark {
            at: self.seconds(mark.at),
            pod: name.clone(),
            container: mark.container.as_deref().map(str::to_owned),
            run: mark.container.is_some().then_some(mark.run),
            step,
        })
    }

    /// Whether a timeline can be written to `path`, to be known before a run that may last for hours.
    pub(crate) fn check(path: &Path) -> std::io::Result<()> {
        if !path.is_dir() {
            FileKind::of(path)?;
        }
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
        let document = self.document();
        let text = match FileKind::of(path)? {
            FileKind::Svg => picture::svg(&document),
            FileKind::Html => picture::html(&document),
            FileKind::Json => document.to_json(),
        };
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
