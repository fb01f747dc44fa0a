//! One pod of the virtual driver: what its containers do, and what the engine asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::columns::{self, Meta, Row};
use holdfast_lifecycle::fault::FaultKind;
use holdfast_lifecycle::job::JobInput;
use holdfast_lifecycle::order::{self, Wait};
use holdfast_lifecycle::progress::{Progress, progress};
use holdfast_lifecycle::status::{ConditionKind, InstanceId};
use holdfast_lifecycle::{
    ContainerId, HookKind, Input, Kind, Lifecycle, Options, Output, Phase, Plan, PodStatus,
    ProbeKind, ProbeResult, Time, Timer,
};

use super::{Happening, Pick, World};
use crate::assume::Exits;
use crate::span::Span;
use crate::timeline::Step;

/// Killed by SIGKILL.
const KILLED: i32 = 137;
/// Ended by SIGTERM, as by one that nothing handles. What is shown where nothing says what does
/// ([`Behaviour::stop_code`](crate::assume::Behaviour::stop_code)), which the notes then say.
pub(crate) const TERMINATED: i32 = 143;

/// Runs that nobody asked for are numbered from here.
const FOUND: u64 = 1 << 62;

/// A pod in virtual time.
pub(super) struct VirtualPod {
    pub(super) engine: Lifecycle,
    /// When it came to be.
    pub(super) created: Time,
    /// When its deletion was asked for.
    pub(super) deleted: Option<Time>,
    runs: BTreeMap<InstanceId, Run>,
    /// Containers that have started once.
    began: Vec<bool>,
    /// The status that was looked at last.
    shown: PodStatus,
    row: Option<Row>,
    next_found: u64,
}

/// One run of a container.
#[derive(Clone, Copy, Debug)]
struct Run {
    container: ContainerId,
    count: u32,
    /// Its process runs.
    runs: bool,
    /// From when on its probes pass.
    ready: Option<Time>,
}

impl Run {
    fn answers(&self, now: Time) -> bool {
        self.runs && self.ready.is_some_and(|ready| ready <= now)
    }
}

impl VirtualPod {
    pub(super) fn new(plan: Plan, options: Options, now: Time) -> Self {
        let began = vec![false; plan.containers.len()];
        Self {
            engine: Lifecycle::new(plan, options, now),
            created: now,
            deleted: None,
            runs: BTreeMap::new(),
            began,
            shown: PodStatus::default(),
            row: None,
            next_found: FOUND,
        }
    }

    fn name(&self, id: ContainerId) -> Arc<str> {
        Arc::clone(&self.engine.plan().container(id).name)
    }

    /// Whether only probes are left, and none of them will change anything.
    pub(super) fn is_steady(&self, now: Time) -> bool {
        if self.engine.is_finished() {
            return true;
        }
        if self.engine.timers().iter().any(|(timer, _)| *timer != Timer::Probe) {
            return false;
        }
        let plan = self.engine.plan();
        self.runs.values().filter(|run| run.runs).all(|run| {
            let c = plan.container(run.container);
            let answers = run.answers(now);
            let status = self.engine.status().all().find(|s| *s.name == *c.name);
            let started = status.is_some_and(|s| s.started == Some(true));
            let ready = status.is_some_and(|s| s.ready);
            c.kind == Kind::Init
                || (started || c.startup.is_none())
                    && (answers || c.liveness.is_none())
                    && (c.readiness.is_none() || ready == answers)
                    && (answers || run.ready.is_none())
        })
    }
}

impl World<'_> {
    /// Does what the engine of a pod asks for.
    pub(super) fn carry_out(&mut self, at: usize, output: Output, pick: &mut Pick<'_>) {
        let now = self.now;
        match output {
            Output::MountVolumes => self.pods[at].engine.handle(now, Input::VolumesMounted),
            Output::CreateSandbox { attempt } => {
                let here = std::net::IpAddr::from([10, 0, 0, 1]);
                self.mark(at, None, Step::SandboxReady);
                let input = Input::SandboxCreated { attempt, ip: Some(here) };
                self.pods[at].engine.handle(now, input);
            }
            Output::Pull { container } => {
                let input = Input::Pulled { container, image_id: String::new() };
                self.pods[at].engine.handle(now, input);
            }
            Output::Start { container, instance, restart_count } => {
                self.start(at, container, instance, restart_count, pick);
            }
            Output::Stop { container, instance, grace } => {
                let Some(run) = self.pods[at].runs.get(&instance).copied() else { return };
                self.container_mark(at, run, Step::Stop { grace_seconds: grace.as_secs() });
                let b = &self.behaviours[container.index()];
                let (after, code) = match pick(b.stops) {
                    Some(after) if after < grace => (after, b.stop_code.unwrap_or(TERMINATED)),
                    _ => (grace, KILLED),
                };
                self.later(at, after, Happening::Input(exited(instance, code)));
            }
            Output::Remove { instance, .. } => {
                self.pods[at].runs.remove(&instance);
                self.pods[at].engine.handle(now, Input::Removed { instance });
            }
            Output::RunHook { container, instance, hook } => {
                let Some(run) = self.pods[at].runs.get(&instance).copied() else { return };
                self.container_mark(at, run, Step::HookBegun { hook: hook.into() });
                let b = &self.behaviours[container.index()];
                let span = match hook {
                    HookKind::PostStart => b.post_start,
                    HookKind::PreStop => b.pre_stop,
                };
                if let Some(after) = pick(span) {
                    let done = Input::HookDone { instance, hook, result: Ok(()) };
                    self.later(at, after, Happening::Input(done));
                }
            }
            Output::RunProbe { container, instance, probe } => {
                self.probe(at, container, instance, probe, pick);
            }
            Output::StatusChanged => self.status_changed(at),
            Output::Event(event) => {
                if let ("BackOff", Some(id)) = (event.reason, event.container) {
                    let name = self.pods[at].name(id);
                    self.mark(at, Some((&name, 0)), Step::Refused { reason: event.message });
                }
            }
            Output::StopSandbox { .. } => {}
            Output::Finished => {
                if let (Some(job), true) = (&mut self.job, self.pods[at].deleted.is_some()) {
                    job.handle(now, JobInput::PodDeleted { pod: self.ids[at] });
                }
            }
        }
    }

    fn start(
        &mut self,
        at: usize,
        container: ContainerId,
        instance: InstanceId,
        count: u32,
        pick: &mut Pick<'_>,
    ) {
        let pod = &mut self.pods[at];
        let run = Run { container, count, runs: false, ready: None };
        pod.runs.insert(instance, run);
        let plan = pod.engine.plan();
        let again = count > 0 && pod.engine.view().previous(container).is_some();
        let waits = if again { vec![Wait::BackOff] } else { order::waits(plan, container) };
        let step = Step::start(plan, &waits);
        self.container_mark(at, run, step);
        if let Some(after) = pick(self.behaviours[container.index()].start) {
            self.later(at, after, Happening::Input(Input::Started { instance }));
        }
    }

    fn probe(
        &mut self,
        at: usize,
        container: ContainerId,
        instance: InstanceId,
        probe: ProbeKind,
        pick: &mut Pick<'_>,
    ) {
        let answers = self.pods[at].runs.get(&instance).is_some_and(|run| run.answers(self.now));
        let result = if answers {
            ProbeResult::Success
        } else {
            ProbeResult::Failure("it does not answer yet".into())
        };
        let timeout = self.pods[at].engine.plan().container(container).probe(probe);
        let timeout = timeout.map_or(Duration::ZERO, |p| p.timeout);
        let after = pick(Span::new(Duration::ZERO, timeout)).unwrap_or(timeout);
        let done = Input::ProbeDone { instance, probe, result };
        self.later(at, after, Happening::Input(done));
    }

    /// Something happens to a pod.
    pub(super) fn input(&mut self, at: usize, input: Input, pick: &mut Pick<'_>) {
        match &input {
            Input::Started { instance } => {
                let Some(run) = self.pods[at].runs.get(instance).copied() else { return };
                self.begin(at, *instance, run, pick);
            }
            Input::Exited { instance, code, .. } => {
                let Some(run) = self.pods[at].runs.get_mut(instance) else { return };
                if !run.runs {
                    return;
                }
                run.runs = false;
                let run = *run;
                self.container_mark(at, run, Step::Exited { exit_code: *code });
            }
            Input::HookDone { instance, hook, .. } => {
                let Some(run) = self.pods[at].runs.get(instance).copied() else { return };
                self.container_mark(at, run, Step::HookEnded { hook: (*hook).into() });
            }
            Input::ProbeDone { instance, probe, result } => {
                let Some(run) = self.pods[at].runs.get(instance).copied() else { return };
                self.container_mark(at, run, Step::probe(*probe, result));
            }
            _ => {}
        }
        self.pods[at].engine.handle(self.now, input);
    }

    /// The process of a run is there: what will become of it is decided now.
    fn begin(&mut self, at: usize, instance: InstanceId, mut run: Run, pick: &mut Pick<'_>) {
        let now = self.now;
        let b = &self.behaviours[run.container.index()];
        run.runs = true;
        run.ready = b.ready.and_then(&mut *pick).map(|after| now + after);
        let pod = &mut self.pods[at];
        pod.runs.insert(instance, run);
        let first = !std::mem::replace(&mut pod.began[run.container.index()], true);
        let is_there = |needed: &ContainerId| {
            pod.runs.values().any(|r| r.container == *needed && r.answers(now))
        };
        let kind = pod.engine.plan().container(run.container).kind;
        let end = if b.needs.iter().all(is_there) {
            match b.exits {
                Exits::Unknown if kind == Kind::Init => pick(Span::ANY).map(|after| (after, 0)),
                Exits::Never | Exits::Unknown => None,
                Exits::After(span, code) => pick(span).map(|after| (after, code)),
            }
        } else {
            Some((Duration::ZERO, 1))
        };
        self.container_mark(at, run, Step::Running);
        if let Some((after, code)) = end {
            self.later(at, after, Happening::Input(exited(instance, code)));
        }
        let name = self.pods[at].name(run.container);
        for fault in self.faults {
            if first && fault.since.as_deref() == Some(&*name) {
                self.later(at, fault.after, Happening::Fault(fault.kind.clone()));
            }
        }
    }

    /// Something breaks, as the drivers of real containers break it.
    pub(super) fn fault(&mut self, at: usize, kind: &FaultKind, pick: &mut Pick<'_>) {
        if self.pods[at].engine.is_finished() {
            return;
        }
        let running = |pod: &VirtualPod| -> Vec<(InstanceId, ContainerId)> {
            let runs = pod.runs.iter().filter(|(_, run)| run.runs);
            runs.map(|(instance, run)| (*instance, run.container)).collect()
        };
        match kind {
            FaultKind::Kill(name) | FaultKind::Oom(name) => {
                let oom = matches!(kind, FaultKind::Oom(_));
                let named = self.pods[at].engine.plan().find(name);
                for (instance, container) in running(&self.pods[at]) {
                    if Some(container) == named {
                        let reason = oom.then(|| "OOMKilled".into());
                        let message = String::new();
                        let input = Input::Exited { instance, code: KILLED, reason, message };
                        self.input(at, input, pick);
                    }
                }
            }
            FaultKind::SandboxLost => {
                for (instance, _) in running(&self.pods[at]) {
                    self.input(at, exited(instance, KILLED), pick);
                }
                self.input(at, Input::SandboxLost, pick);
            }
            FaultKind::PauseKilled => self.input(at, Input::SandboxLost, pick),
            FaultKind::RuntimeRestart => {
                // Whoever ran a hook is gone, and so is its answer.
                self.queue.retain(|_, (pod, happening)| {
                    *pod != at || !matches!(happening, Happening::Input(Input::HookDone { .. }))
                });
                self.input(at, Input::DriverRestarted, pick);
            }
            FaultKind::DaemonRestart => self.restart_all(at, pick),
        }
    }

    /// Every container that ever ran is started again, all at once.
    fn restart_all(&mut self, at: usize, pick: &mut Pick<'_>) {
        let pod = &self.pods[at];
        let view = pod.engine.view();
        let known: Vec<(ContainerId, u32)> = pod
            .engine
            .plan()
            .ids()
            .filter_map(|id| Some((id, view.newest(id)?.restart_count + 1)))
            .collect();
        let running = pod.runs.iter().filter(|(_, run)| run.runs).map(|(instance, _)| *instance);
        for instance in running.collect::<Vec<_>>() {
            self.input(at, exited(instance, KILLED), pick);
        }
        for (container, count) in known {
            let instance = InstanceId(self.pods[at].next_found);
            self.pods[at].next_found += 1;
            let run = Run { container, count, runs: false, ready: None };
            let step = Step::start(self.pods[at].engine.plan(), &[]);
            self.container_mark(at, run, step);
            self.begin(at, instance, run, pick);
            self.pods[at].engine.handle(self.now, Input::Found { container, instance });
        }
    }

    fn status_changed(&mut self, at: usize) {
        let mut old = std::mem::take(&mut self.pods[at].shown);
        let pod = &self.pods[at];
        let new = pod.engine.status();
        let meta = Meta { deleting: pod.deleted.is_some(), ..Meta::default() };
        let row = columns::row(pod.engine.plan(), new, meta, pod.engine.features());
        let name = Arc::clone(&pod.engine.plan().name);
        let is_new = pod.row.as_ref().is_none_or(|last| {
            (last.ready, last.total, &last.status, last.restarts)
                != (row.ready, row.total, &row.status, row.restarts)
        });
        let mut steps = Vec::new();
        for (status, change) in progress(&old, new) {
            let step = match change {
                Progress::Started => Step::Started,
                Progress::Ready => Step::Ready,
                Progress::Unready => Step::Unready,
            };
            steps.push((Some((Arc::clone(&status.name), status.restart_count)), step));
        }
        if new.is_true(&ConditionKind::Ready) && !old.is_true(&ConditionKind::Ready) {
            steps.push((None, Step::Ready));
        }
        if new.phase != old.phase && new.phase != Phase::Pending {
            steps.push((None, Step::Phase { phase: new.phase.as_str().to_owned() }));
        }
        let told = self.job.as_ref().map(|_| new.clone());
        update(&mut old, new);
        for (container, step) in steps {
            let container: Option<(Arc<str>, u32)> = container;
            self.mark(at, container.as_ref().map(|(name, run)| (&**name, *run)), step);
        }
        let pod = &mut self.pods[at];
        pod.shown = old;
        if is_new {
            pod.row = Some(row.clone());
            self.rows.push((self.now.since(Time::ZERO), name, row));
        }
        if let (Some(job), Some(status)) = (&mut self.job, told) {
            let (pod, deleted) = (self.ids[at], self.pods[at].deleted);
            job.handle(self.now, JobInput::PodChanged { pod, status, deleted });
        }
    }

    fn container_mark(&mut self, at: usize, run: Run, step: Step) {
        let name = self.pods[at].name(run.container);
        self.mark(at, Some((&name, run.count)), step);
    }
}

/// Makes `old` the same as `new`. Of a pod of many containers mostly one has changed, and only that is copied.
fn update(old: &mut PodStatus, new: &PodStatus) {
    let lists = [
        (&mut old.init, &new.init),
        (&mut old.regular, &new.regular),
        (&mut old.ephemeral, &new.ephemeral),
    ];
    for (old, new) in lists {
        old.truncate(new.len());
        for (old, new) in old.iter_mut().zip(new).filter(|(old, new)| old != new) {
            old.clone_from(new);
        }
        old.extend_from_slice(&new[old.len()..]);
    }
    let PodStatus { phase, reason, message, conditions, start_time, pod_ip, .. } = new;
    (old.phase, old.start_time, old.pod_ip) = (*phase, *start_time, *pod_ip);
    old.reason.clone_from(reason);
    old.message.clone_from(message);
    old.conditions.clone_from(conditions);
}

fn exited(instance: InstanceId, code: i32) -> Input {
    Input::Exited { instance, code, reason: None, message: String::new() }
}
