//! When something happened in a pod, in seconds of the day: by files that its containers have touched, and
//! by the log of containerd, which says when it was asked for what.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

/// The sources of moments.
#[derive(Debug)]
pub(super) struct Moments {
    log: PathBuf,
    dir: PathBuf,
}

const DAY: f64 = 86_400.0;

impl Moments {
    /// Those of the pod whose containers touch files in `dir`.
    pub(super) fn of(log: PathBuf, dir: PathBuf) -> Self {
        Self { log, dir }
    }

    /// When a file was touched. The kernel's clock for this ticks every 4 ms or so.
    pub(super) fn touched(&self, file: &str) -> Result<f64> {
        let path = self.dir.join(file);
        let at = std::fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .with_context(|| path.display().to_string())?;
        Ok(at.duration_since(UNIX_EPOCH)?.as_secs_f64() % DAY)
    }

    /// When containerd was first asked to create the container of this name.
    pub(super) fn asked_for(&self, container: &str) -> Result<f64> {
        let text =
            std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())?;
        let of = format!("&ContainerMetadata{{Name:{container},Attempt:0,}}");
        text.lines()
            .find(|line| {
                line.contains("msg=\"CreateContainer within sandbox") && line.contains(&of)
            })
            .and_then(time)
            .with_context(|| format!("containerd was not asked for {container}, by its log"))
    }
}

/// The time of a line such as `time="2026-11-21T19:41:21.369786333Z" level=info …`.
fn time(line: &str) -> Option<f64> {
    let (_, time) = line.strip_prefix("time=\"")?.split_once('T')?;
    let mut parts = time.split('Z').next()?.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let at = time("time=\"2026-11-21T01:02:03.5Z\" level=info msg=\"x\"");
        assert_eq!(at, Some(3723.5));
        assert_eq!(time("something else"), None);
    }
}
