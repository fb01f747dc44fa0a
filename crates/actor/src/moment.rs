//! Times in scripts: after the start of the run, or after the first start of another container.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is looked whether another container has started. Its start is a file that appears, and
/// of what depends on it nothing happens earlier than seconds later.
const LOOK: Duration = Duration::from_millis(100);

/// A time in a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// The container whose start it is counted from; `None` is the run itself.
    anchor: Option<String>,
    after: Duration,
}

/// The clock of one run.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    dir: PathBuf,
    /// When the run started, since the Unix epoch.
    pub(crate) started: Duration,
}

impl At {
    /// Reads `MS` or `NAME+MS`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (anchor, millis) = match text.rsplit_once('+') {
            Some((anchor, millis)) => (Some(anchor.to_owned()), millis),
            None => (None, text),
        };
        let millis = millis.parse().map_err(|e| format!("{text:?}: {e}"))?;
        Ok(Self { anchor, after: Duration::from_millis(millis) })
    }

    pub(crate) fn text(&self) -> String {
        let millis = self.after.as_millis();
        self.anchor.as_ref().map_or_else(|| millis.to_string(), |name| format!("{name}+{millis}"))
    }

    /// The time, given those it may be counted from.
    pub(crate) fn since(&self, own: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
        let start = if self.anchor.is_some() { other } else { own };
        start.map(|start| start + self.after)
    }
}

impl Clock {
    pub(crate) fn new(dir: &str, started: Duration) -> Self {
        Self { dir: dir.into(), started }
    }

    /// Now, since the Unix epoch.
    pub(crate) fn now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// When this is, if it is known yet.
    pub(crate) fn when(&self, at: &At) -> Option<Duration> {
        let other = at.anchor.as_ref().and_then(|name| {
            let text = std::fs::read_to_string(file(&self.dir, name)).ok()?;
            text.trim().parse().ok().map(Duration::from_nanos)
        });
        at.since(Some(self.started), other)
    }

    /// Sleeps until then.
    pub(crate) fn sleep_until(&self, at: &At) {
        loop {
            let left = self.when(at).map(|at| at.saturating_sub(Self::now()));
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => std::thread::sleep(left),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Leaves word of the first start of a container, for others to count from.
    pub(crate) fn mark(&self, name: &str) -> Result<(), String> {
        let place = file(&self.dir, name);
        let draft = self.dir.join(format!("{name}.draft"));
        std::fs::write(&draft, self.started.as_nanos().to_string())
            .and_then(|()| std::fs::rename(&draft, &place))
            .map_err(|e| format!("{}: {e}", place.display()))
    }
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.started"))
}
