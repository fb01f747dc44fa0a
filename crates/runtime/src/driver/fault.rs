//! Faults on purpose: `--fault KIND@TIME`.

use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use holdfast_lifecycle::Input;

use super::Driver;
use crate::contract::Runtime;

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What breaks.
    pub kind: FaultKind,
    /// How long after the start of the pod.
    pub after: Duration,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The sandbox is gone, as after a reboot of the node: init containers run again.
    SandboxLost,
    /// SIGKILL to one container.
    Kill(String),
    /// One container is killed as the kernel does when memory runs out.
    Oom(String),
    /// The driver forgets what it was doing, as a kubelet does that is restarted.
    RuntimeRestart,
}

/// Why a fault cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid fault {0:?}: expected sandbox-lost@TIME, kill:CONTAINER@TIME, oom:CONTAINER@TIME or \
     runtime-restart@TIME, with a TIME such as 5s, 250ms or 1m"
)]
pub struct ParseFaultError(String);

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseFaultError(text.to_owned());
        let (kind, after) = text.rsplit_once('@').ok_or_else(error)?;
        let after = parse_duration(after).ok_or_else(error)?;
        let kind = match kind.split_once(':') {
            Some(("kill", name)) if !name.is_empty() => FaultKind::Kill(name.into()),
            Some(("oom", name)) if !name.is_empty() => FaultKind::Oom(name.into()),
            None if kind == "sandbox-lost" => FaultKind::SandboxLost,
            None if kind == "runtime-restart" => FaultKind::RuntimeRestart,
            _ => return Err(error()),
        };
        Ok(Self { kind, after })
    }
}

/// Reads `5s`, `250ms`, `2m`, `1h` or `1.5s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

impl<R: Runtime + 'static> Driver<R> {
    pub(super) fn fault(&mut self, fault: &FaultKind) {
        match fault {
            FaultKind::SandboxLost => {
                self.kill_all(false);
                self.feed(Input::SandboxLost);
            }
            FaultKind::Kill(name) => self.kill_container(name, false),
            FaultKind::Oom(name) => self.kill_container(name, true),
            FaultKind::RuntimeRestart => self.feed(Input::DriverRestarted),
        }
    }

    fn kill_container(&mut self, name: &str, oom: bool) {
        let Some(id) = self.plan.find(name) else { return };
        let Some(run) = self.engine.view().newest(id).filter(|i| i.is_running()) else { return };
        let (env, instance) = (Rc::clone(&self.env), run.id);
        self.operations.spawn_local(async move { env.runtime.kill(instance, oom).await });
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
        for bad in [
            "",
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
