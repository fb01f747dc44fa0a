//! Faults on purpose, which drivers carry out: `KIND@TIME`, or `KIND@CONTAINER+TIME`.

use std::str::FromStr;
use std::time::Duration;

use crate::time::parse_duration;

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What breaks.
    pub kind: FaultKind,
    /// The container whose first start the time is counted from; `None` is the start of the pod.
    pub since: Option<String>,
    /// How long after that.
    pub after: Duration,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The sandbox is gone, as after a reboot of the node: init containers run again.
    SandboxLost,
    /// The process that holds the sandbox is killed, and nothing else: what runs is stopped, and all of
    /// it comes again in a new sandbox.
    PauseKilled,
    /// SIGKILL to one container.
    Kill(String),
    /// One container is killed as the kernel does when memory runs out.
    Oom(String),
    /// Every container of the pod is restarted at once and in no order, init containers that had
    /// ended included, as an old Docker daemon did when it was restarted.
    DaemonRestart,
    /// The driver forgets what it was doing, as a kubelet does that is restarted.
    RuntimeRestart,
}

/// Why a fault cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid fault {0:?}: expected sandbox-lost@TIME, pause-killed@TIME, kill:CONTAINER@TIME, \
     oom:CONTAINER@TIME, daemon-restart@TIME or runtime-restart@TIME, with a TIME such as 5s, 250ms or 1m, or \
     CONTAINER+5s after the first start of a container"
)]
pub struct ParseFaultError(String);

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseFaultError(text.to_owned());
        let (kind, after) = text.rsplit_once('@').ok_or_else(error)?;
        let (since, after) = match after.rsplit_once('+') {
            Some(("", _)) => return Err(error()),
            Some((name, after)) => (Some(name.to_owned()), after),
            None => (None, after),
        };
        let after = parse_duration(after).ok_or_else(error)?;
        let kind = match kind.split_once(':') {
            Some(("kill", name)) if !name.is_empty() => FaultKind::Kill(name.into()),
            Some(("oom", name)) if !name.is_empty() => FaultKind::Oom(name.into()),
            None if kind == "sandbox-lost" => FaultKind::SandboxLost,
            None if kind == "pause-killed" => FaultKind::PauseKilled,
            None if kind == "daemon-restart" => FaultKind::DaemonRestart,
            None if kind == "runtime-restart" => FaultKind::RuntimeRestart,
            _ => return Err(error()),
        };
        Ok(Self { kind, since, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let fault: Fault = "kill:app@1.5s".parse().unwrap();
        assert_eq!(fault.kind, FaultKind::Kill("app".into()));
        assert_eq!(fault.after, Duration::from_millis(1500));
        assert_eq!(
            "sandbox-lost@250ms".parse::<Fault>().unwrap().after,
            Duration::from_millis(250)
        );
        let fault: Fault = "sandbox-lost@app-0+2s".parse().unwrap();
        assert_eq!((fault.since.as_deref(), fault.after.as_secs()), (Some("app-0"), 2));
        for bad in [
            "",
            "sandbox-lost@+2s",
            "sandbox-lost@app+",
            "kill@5s",
            "kill:@5s",
            "oom:a@",
            "oom:a@5",
            "sandbox-lost:x@5s",
            "x@5s",
            "oom:a@-1s",
        ] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(error.to_string().contains("expected"), "{bad}");
        }
    }
}
