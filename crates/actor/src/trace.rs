//! The record that the judge reads.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes lines about one run of one container.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    file: Arc<File>,
    name: String,
    run: usize,
}

impl Trace {
    /// The trace of a new run of the container, and the number of the run, from 0.
    pub(crate) fn begin(dir: &str, name: &str) -> Result<(Self, usize), String> {
        let counter = Path::new(dir).join(format!("{name}.runs"));
        let run = read_number(&counter).map_or(0, |last| last + 1);
        std::fs::write(&counter, run.to_string())
            .map_err(|e| format!("{}: {e}", counter.display()))?;
        Ok((Self::open(dir, name, run)?, run))
    }

    /// The trace of the run that is under way.
    pub(crate) fn current(dir: &str, name: &str) -> Result<Self, String> {
        let run = read_number(&Path::new(dir).join(format!("{name}.runs"))).unwrap_or(0);
        Self::open(dir, name, run)
    }

    fn open(dir: &str, name: &str, run: usize) -> Result<Self, String> {
        let path = Path::new(dir).join("trace");
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self { file: Arc::new(file), name: name.to_owned(), run })
    }

    /// Adds a line. One write, so that lines of several processes do not mix.
    pub(crate) fn write(&self, what: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let line = format!("{now} {} {} {what}\n", self.name, self.run);
        if let Err(e) = (&*self.file).write_all(line.as_bytes()) {
            eprintln!("actor: cannot write the trace: {e}");
        }
    }
}

fn read_number(path: &Path) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
