//! Carrying out faults.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use holdfast_lifecycle::fault::FaultKind;
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
    /// What else strikes, once the engine knows of all this: the ends that are kept from it belong to one
    /// fault only.
    next: VecDeque<Then>,
}

/// What happens when everything is down.
#[derive(Clone, Copy)]
enum Then {
    /// All of it is started again by somebody else.
    Restart,
    /// The engine hears of it, and that the sandbox is gone too.
    SandboxLost,
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
        match &mut self.held {
            Some(held) => held.next.push_back(then),
            None => self.take_down_now(then, VecDeque::new()),
        }
    }

    fn take_down_now(&mut self, then: Then, next: VecDeque<Then>) {
        let waiting: HashSet<InstanceId> = self.running_instances().into_iter().collect();
        self.kill_all(false);
        self.held = Some(Held { waiting, back: None, inputs: Vec::new(), then, next });
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
        let ids = self.container_ids.clone();
        self.operations.spawn_local(async move {
            for (container, instance, config) in configs {
                let result = env.runtime.start(config).await;
                ids.add(instance, env.runtime.container_id(instance));
                match result {
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
        let (since, mut next) =
            self.held.take().map_or_else(Default::default, |held| (held.inputs, held.next));
        for input in inputs.into_iter().chain(since) {
            self.engine.handle(self.env.clock.now(), input);
        }
        if let Some(then) = next.pop_front() {
            self.take_down_now(then, next);
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
