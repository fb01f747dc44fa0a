//! Carrying out what the engine asks for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::order::{self, Wait};
use holdfast_lifecycle::status::InstanceId;
use holdfast_lifecycle::{ContainerId, HookKind, Input, Output, ProbeKind, ProbeResult};

use super::{Driver, spec_of};
use crate::contract::Runtime;
use crate::hook;
use crate::image::PullPolicy;
use crate::notice::{MarkStep, Notice};
use crate::probe::{self, Target};

/// How often the kubelet's eviction manager looks at volumes.
const EVICTION_PERIOD: Duration = Duration::from_secs(10);

/// What an evicted pod's containers get, whatever the pod says (kubelet:
/// `immediateEvictionGracePeriodSeconds`).
const EVICTION_GRACE: Duration = Duration::from_secs(1);

impl<R: Runtime + 'static> Driver<R> {
    pub(super) fn carry_out(&mut self, output: Output) {
        if matches!(
            output,
            Output::MountVolumes | Output::CreateSandbox { .. } | Output::Start { .. }
        ) {
            self.asked += 1;
        }
        match output {
            Output::MountVolumes => self.mount_volumes(),
            Output::CreateSandbox { attempt } => self.create_sandbox(attempt),
            Output::StopSandbox { attempt } => {
                let (env, uid) = (Rc::clone(&self.env), Arc::clone(&self.uid));
                self.operations.spawn_local(async move {
                    env.runtime.stop_sandbox(&uid, attempt).await;
                });
            }
            Output::Pull { container } => self.pull(container),
            Output::Start { container, instance, restart_count } => {
                self.start(container, instance, restart_count);
            }
            Output::Stop { container, instance, grace } => {
                let run = self.runs.get(&instance).map_or(0, |r| r.1);
                self.mark(Some(container), run, MarkStep::Stop { grace: grace.as_secs() });
                let env = Rc::clone(&self.env);
                self.operations.spawn_local(async move {
                    env.runtime.stop(instance, grace).await;
                });
            }
            Output::Remove { instance, .. } => {
                let env = Rc::clone(&self.env);
                self.runs.remove(&instance);
                self.operations.spawn_local(async move { env.runtime.remove(instance).await });
            }
            Output::RunHook { container, instance, hook } => self.hook(container, instance, hook),
            Output::RunProbe { container, instance, probe } => {
                self.probe(container, instance, probe);
            }
            Output::StatusChanged => self.status_changed(),
            Output::Event(event) => {
                let container = event.container.map(|id| Arc::clone(&self.plan.container(id).name));
                let (at, pod) = (self.env.clock.now(), Arc::clone(&self.name));
                if event.reason == "BackOff" {
                    let reason = event.message.clone();
                    self.mark(event.container, 0, MarkStep::Refused { reason });
                }
                self.notify(Notice::Event { at, pod, container, event });
            }
            Output::Finished => {}
        }
    }

    /// Marks what an input says, before the engine sees it.
    pub(super) fn observe(&mut self, input: &Input) {
        if matches!(
            input,
            Input::VolumesMounted
                | Input::VolumesFailed { .. }
                | Input::SandboxCreated { .. }
                | Input::SandboxFailed { .. }
                | Input::Started { .. }
                | Input::StartFailed { .. }
        ) {
            self.asked = self.asked.saturating_sub(1);
        }
        match input {
            Input::VolumesMounted => self.watch_limits(),
            Input::SandboxCreated { .. } => self.mark(None, 0, MarkStep::SandboxReady),
            Input::Pulled { container, .. } => self.mark(Some(*container), 0, MarkStep::Pulled),
            Input::Started { instance } => {
                if let Some(&(id, run)) = self.runs.get(instance) {
                    self.mark(Some(id), run, MarkStep::Started);
                }
            }
            Input::Exited { instance, code, .. } => {
                if let Some(&(id, run)) = self.runs.get(instance) {
                    self.mark(Some(id), run, MarkStep::Exited { code: *code });
                }
            }
            Input::StartFailed { instance, message, .. } => {
                if let Some(&(id, run)) = self.runs.get(instance) {
                    self.mark(Some(id), run, MarkStep::Refused { reason: message.clone() });
                }
            }
            Input::PullFailed { container, reason, .. } => {
                self.mark(Some(*container), 0, MarkStep::Refused { reason: reason.to_string() });
            }
            Input::ProbeDone { instance, probe, result } => {
                if let Some(&(id, run)) = self.runs.get(instance) {
                    self.mark(Some(id), run, MarkStep::Probe(*probe, result.clone()));
                }
            }
            Input::HookDone { instance, hook, .. } => {
                self.hooks.retain(|(i, h, _)| (i, h) != (instance, hook));
                if let Some(&(id, run)) = self.runs.get(instance) {
                    self.mark(Some(id), run, MarkStep::HookEnded(*hook));
                }
            }
            _ => {}
        }
    }

    fn mount_volumes(&mut self) {
        let (assets, answers) = (Rc::clone(&self.assets), self.answers.clone());
        self.operations.spawn_local(async move {
            let input = match assets.mount_volumes().await {
                Ok(()) => Input::VolumesMounted,
                Err(message) => Input::VolumesFailed { message },
            };
            let _ = answers.send(input);
        });
    }

    /// Measures volumes with a `sizeLimit` from time to time: nothing tells of a file that grows.
    pub(super) fn watch_limits(&mut self) {
        if self.limits.is_some() || !self.assets.has_limits() {
            return;
        }
        let (assets, answers) = (Rc::clone(&self.assets), self.answers.clone());
        self.limits = Some(self.operations.spawn_local(async move {
            loop {
                tokio::time::sleep(EVICTION_PERIOD).await;
                if let Some(message) = assets.over_limit() {
                    let (reason, grace) = ("Evicted".into(), Some(EVICTION_GRACE));
                    let _ = answers.send(Input::Evict { reason, message, grace });
                }
            }
        }));
    }

    fn create_sandbox(&mut self, attempt: u32) {
        let (config, notes) = self.assets.sandbox(attempt);
        let missing = self.assets.missing_pull_secrets().filter(|_| attempt == 0);
        for note in notes.into_iter().chain(missing) {
            self.notify(Notice::Message(note));
        }
        let fallback = self.assets.fallback_address();
        let (env, answers) = (Rc::clone(&self.env), self.answers.clone());
        self.operations.spawn_local(async move {
            let input = match env.runtime.create_sandbox(&config).await {
                Ok(ip) => Input::SandboxCreated { attempt, ip: ip.or(fallback) },
                Err(message) => Input::SandboxFailed { attempt, message },
            };
            let _ = answers.send(input);
        });
    }

    fn pull(&mut self, id: ContainerId) {
        self.mark(Some(id), 0, MarkStep::Pull);
        let (env, assets) = (Rc::clone(&self.env), Rc::clone(&self.assets));
        let answers = self.answers.clone();
        let task = self.operations.spawn_local(async move {
            let input = match assets.pull(id, &env.runtime).await {
                Ok(image_id) => Input::Pulled { container: id, image_id },
                Err((reason, message)) => Input::PullFailed { container: id, reason, message },
            };
            let _ = answers.send(input);
        });
        self.pulls.retain(|(_, task)| !task.is_finished());
        self.pulls.push((id, task));
    }

    fn start(&mut self, id: ContainerId, instance: InstanceId, count: u32) {
        self.runs.insert(instance, (id, count));
        let again = count > 0 && self.engine.view().previous(id).is_some();
        let waited_for = if again { vec![Wait::BackOff] } else { order::waits(&self.plan, id) };
        self.mark(Some(id), count, MarkStep::Start { waited_for });
        let address = self.engine.view().sandbox().and_then(|s| s.ip);
        let config = self.assets.config(id, instance, count, address);
        let (env, answers) = (Rc::clone(&self.env), self.answers.clone());
        match config {
            Err(e) => {
                let (stage, message) = (e.stage, e.message);
                let _ = answers.send(Input::StartFailed { instance, stage, message });
            }
            Ok((config, notes)) => {
                for note in notes {
                    self.notify(Notice::Message(note));
                }
                let ids = self.container_ids.clone();
                self.operations.spawn_local(async move {
                    let result = env.runtime.start(config).await;
                    ids.add(instance, env.runtime.container_id(instance));
                    let input = match result {
                        Ok(()) => Input::Started { instance },
                        Err(e) => {
                            Input::StartFailed { instance, stage: e.stage, message: e.message }
                        }
                    };
                    let _ = answers.send(input);
                });
            }
        }
    }

    fn target(&self) -> Target {
        Target { address: self.address(), kubernetes_minor: self.env.options.minor }
    }

    fn probe(&mut self, id: ContainerId, instance: InstanceId, kind: ProbeKind) {
        let spec = spec_of(&self.pod, id);
        let probe = spec.and_then(|c| match kind {
            ProbeKind::Startup => c.startup_probe.as_ref(),
            ProbeKind::Readiness => c.readiness_probe.as_ref(),
            ProbeKind::Liveness => c.liveness_probe.as_ref(),
        });
        let (Some(spec), Some(probe), Some(plan)) =
            (spec, probe, self.plan.container(id).probe(kind).copied())
        else {
            return;
        };
        let handler = probe::Handler::from_manifest(probe, spec);
        let (env, answers, target) = (Rc::clone(&self.env), self.answers.clone(), self.target());
        let task = self.operations.spawn_local(async move {
            let result = match handler {
                Ok(handler) => {
                    probe::probe(&target, &handler, plan.timeout, async |argv, timeout| {
                        env.runtime.exec(instance, argv, timeout).await
                    })
                    .await
                }
                Err(e) => ProbeResult::Error(e.to_string()),
            };
            let _ = answers.send(Input::ProbeDone { instance, probe: kind, result });
        });
        self.watchers.entry(instance).or_default().push(task);
    }

    fn hook(&mut self, id: ContainerId, instance: InstanceId, kind: HookKind) {
        let run = self.runs.get(&instance).map_or(0, |r| r.1);
        let Some(spec) = spec_of(&self.pod, id) else { return };
        let lifecycle = spec.lifecycle.as_ref();
        let handler = match kind {
            HookKind::PostStart => lifecycle.and_then(|l| l.post_start.as_ref()),
            HookKind::PreStop => lifecycle.and_then(|l| l.pre_stop.as_ref()),
        };
        let Some(handler) = handler else { return };
        self.mark(Some(id), run, MarkStep::HookBegun(kind));
        let handler = hook::Handler::from_manifest(handler, spec);
        let (env, answers, target) = (Rc::clone(&self.env), self.answers.clone(), self.target());
        let (pod, name) = (Rc::clone(&self.pod), spec.name.clone());
        let notices = self.env.notices.clone();
        let task = self.operations.spawn_local(async move {
            let meta = &pod.metadata;
            let owner = hook::Owner {
                namespace: &meta.namespace,
                pod: &meta.name,
                uid: &meta.uid,
                container: &name,
            };
            let result = match handler {
                Err(e) => Err(e.to_string()),
                Ok(handler) => {
                    let exec = async |argv: &[String], timeout| {
                        env.runtime.exec(instance, argv, timeout).await
                    };
                    match hook::run(&target, &handler, owner, exec).await {
                        Ok(hook::Done::Plainly) => Ok(()),
                        Ok(hook::Done::FellBack(message)) => {
                            let _ = notices.send(Notice::Message(message));
                            Ok(())
                        }
                        Err(e) => Err(e.to_string()),
                    }
                }
            };
            let _ = answers.send(Input::HookDone { instance, hook: kind, result });
        });
        self.hooks.push((instance, kind, task));
    }

    /// Ends every hook that runs: someone wants the pod gone at once.
    pub(super) fn abort_hooks(&mut self) {
        for (instance, hook, task) in std::mem::take(&mut self.hooks) {
            task.abort();
            self.feed(Input::HookDone { instance, hook, result: Err("killed".into()) });
        }
    }

    /// Ends every pull that runs: the pod is deleted, and the kubelet then cancels the context of the
    /// sync that waits for it. Looking for an image that is never pulled ends by itself.
    pub(super) fn abort_pulls(&mut self) {
        for (container, task) in std::mem::take(&mut self.pulls) {
            if !task.is_finished() && self.assets.pull_policy(container) != Some(PullPolicy::Never)
            {
                task.abort();
                let message = "rpc error: code = Canceled desc = context canceled".to_owned();
                let reason = "ErrImagePull".into();
                self.feed(Input::PullFailed { container, reason, message });
            }
        }
    }

    /// SIGKILL to every container of the pod.
    pub(super) fn kill_all(&mut self, oom: bool) {
        for instance in self.running_instances() {
            let env = Rc::clone(&self.env);
            self.operations.spawn_local(async move { env.runtime.kill(instance, oom).await });
        }
    }

    pub(super) fn running_instances(&self) -> Vec<InstanceId> {
        self.engine.view().all().filter(|i| i.is_running()).map(|i| i.id).collect()
    }
}
