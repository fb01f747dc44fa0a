//! Faults on purpose: `--fault KIND@TIME`, or `KIND@CONTAINER+TIME`.

use std::collections::HashSet;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use holdfast_lifecycle::{ContainerId, Input};

use super::Driver;
use crate::contract::Runtime;
use crate::notice::{MarkStep, Notice};

/// What is kept from the engine until everything is down.
pub(super) struct Held {
    /// Runs that have not ended yet.
    waiting: HashSet<InstanceId>,
    /// Once these have ended: the runs that take their place, and of which the engine does not know yet.
    back: Option<HashSet<InstanceId>>,
    /// The ends of the ones, or after that of the others.
    inputs: Vec<Input>,
    /// What happens then.
    then: Then,
}

/// What happens when everything is down.
#[derive(Clone, Copy)]
enum Then {
    /// All of it is started again by somebody else.
    Restart,
    /// The engine hears of it, and that the sandbox is gone too.
    SandboxLost,
}

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
            FaultKind::SandboxLost => self.take_down(Then::SandboxLost),
            FaultKind::PauseKilled => self.feed(Input::SandboxLost),
            FaultKind::Kill(name) => self.kill_container(name, false),
            FaultKind::Oom(name) => self.kill_container(name, true),
            // Nothing of it is told before all containers run again, because the kubelet of that time
            // did not see it either.
            FaultKind::DaemonRestart => self.take_down(Then::Restart),
            // What the runtime has been asked for it does, and the kubelet that comes back finds it.
            FaultKind::RuntimeRestart => self.restart_due = true,
        }
    }

    /// Kills everything, and keeps it from the engine until all of it is down.
    fn take_down(&mut self, then: Then) {
        let waiting: HashSet<InstanceId> = self.running_instances().into_iter().collect();
        self.kill_all(false);
        self.held = Some(Held { waiting, back: None, inputs: Vec::new(), then });
        self.is_down();
    }

    /// Keeps an exit back that a fault caused; true if it did.
    pub(super) fn hold(&mut self, input: &Input) -> bool {
        let (Some(held), Input::Exited { instance, .. }) = (&mut self.held, input) else {
            return false;
        };
        let is_back = held.back.as_ref().is_some_and(|back| back.contains(instance));
        if !held.waiting.remove(instance) && !is_back {
            return false;
        }
        held.inputs.push(input.clone());
        self.observe(input);
        self.is_down();
        true
    }

    /// Goes on once everything is down.
    fn is_down(&mut self) {
        let ready = |held: &&mut Held| held.waiting.is_empty() && held.back.is_none();
        let Some(held) = self.held.as_mut().filter(ready) else { return };
        if matches!(held.then, Then::SandboxLost) {
            held.back = Some(HashSet::new());
            let mut inputs = std::mem::take(&mut held.inputs);
            inputs.push(Input::SandboxLost);
            let _ = self.batches.send(inputs);
            return;
        }
        let known: Vec<(ContainerId, u32)> = self
            .plan
            .ids()
            .filter_map(|id| Some((id, self.engine.view().newest(id)?.restart_count + 1)))
            .collect();
        let address = self.engine.view().sandbox().and_then(|s| s.ip);
        let mut configs = Vec::new();
        for (id, count) in known {
            let instance = InstanceId(self.next_found);
            self.next_found += 1;
            self.runs.insert(instance, (id, count));
            self.mark(Some(id), count, MarkStep::Start { waited_for: Vec::new() });
            match self.assets.config(id, instance, count, address) {
                Ok((config, _)) => configs.push((id, instance, config)),
                Err(e) => self.notify(Notice::Message(e.to_string())),
            }
        }
        let Some(held) = &mut self.held else { return };
        held.back = Some(configs.iter().map(|(_, instance, _)| *instance).collect());
        let mut inputs = std::mem::take(&mut held.inputs);
        let (env, batches) = (Rc::clone(&self.env), self.batches.clone());
        self.operations.spawn_local(async move {
            for (container, instance, config) in configs {
                match env.runtime.start(config).await {
                    Ok(()) => inputs.push(Input::Found { container, instance }),
                    Err(e) => drop(env.notices.send(Notice::Message(e.to_string()))),
                }
            }
            let _ = batches.send(inputs);
        });
    }

    /// Tells the engine what happened while the daemon was restarted, as one, and then of runs that have
    /// ended since.
    pub(super) fn catch_up(&mut self, inputs: Vec<Input>) {
        let since = self.held.take().map_or_else(Vec::new, |held| held.inputs);
        for input in inputs.into_iter().chain(since) {
            self.engine.handle(self.env.clock.now(), input);
        }
    }

    fn kill_container(&mut self, name: &str, oom: bool) {
        // Another pod's container.
        let Some(id) = self.plan.find(name) else { return };
        let Some(run) = self.engine.view().newest(id).filter(|i| i.is_running()) else {
            let kind = if oom { "oom" } else { "kill" };
            let text = format!(
                "--fault {kind}:{name} struck nothing: it is not running in pod {}",
                self.name
            );
            return self.notify(Notice::Message(text));
        };
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
