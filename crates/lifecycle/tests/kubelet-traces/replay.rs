//! The engine in the world of a trace.
//!
//! The engine asks, the trace answers: a request waits for the moment at which the kubelet's own call
//! had that answer. The kubelet learns of everything up to a second late (its relist), so the engine
//! asks first, and the answer comes a little later. Two things are faults: the kubelet did something
//! that the engine had not asked for by then, and the engine asked for something that the kubelet did
//! not do soon.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_lifecycle::plan::{ContainerId, HookKind, ProbeKind};
use holdfast_lifecycle::status::{ContainerStatus, State};
use holdfast_lifecycle::{
    Input, InstanceId, Lifecycle, Options, Output, PodStatus, ProbeResult, StartStage, Time,
};

use crate::reduce;
use crate::trace::{Fact, Trace, epoch, seconds};

/// How much later than the engine the kubelet may do something: a relist (1 s), the sync, and on a
/// busy machine the runtime's calls before it.
const LATE: Duration = Duration::from_millis(2500);
/// How much earlier than the engine the kubelet may do something: the clocks of the parts that a trace
/// is put together from (containerd's events, the kubelet's log, the API server's watch).
const EARLY: Duration = Duration::from_millis(150);
/// A registry that is not there says so late.
const REGISTRY: Duration = Duration::from_secs(20);
/// What ends so soon after the sandbox was lost, ended with it.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The kubelet counts `initialDelaySeconds` from `startedAt`, which it has in whole seconds.
const PROBE_EARLY: Duration = Duration::from_millis(1150);

/// What came of it.
pub(crate) struct Replayed {
    pub(crate) states: Vec<Published>,
    pub(crate) faults: Vec<String>,
    pub(crate) log: Vec<String>,
}

/// A state that the engine published.
pub(crate) struct Published {
    pub(crate) at: Time,
    pub(crate) lines: Vec<String>,
    /// The same, but for containers that were refused a start: they are as at some time before.
    pub(crate) unrefused: Vec<Vec<String>>,
}

/// Something that the engine asked for, and the trace answers. Two are the same if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Mount,
    Sandbox(u32),
    /// Of an image whose registry does not answer; others are there, or are not, at once.
    Pull(String),
    Start(String),
    Probe(String, ProbeKind),
    Hook(String, HookKind),
    Stop(String, usize),
}

struct Open {
    ask: Ask,
    at: Time,
    instance: Option<InstanceId>,
    /// How late the kubelet may be.
    late: Duration,
    grace: u64,
}

/// What was published of containers since before they were refused a start.
///
/// The kubelet publishes a refusal (`CrashLoopBackOff`, `ErrImagePull`, …) with its next sync, and that
/// may come as late as the end of the back-off; the engine says so after a moment.
#[derive(Default)]
struct Before(HashMap<Arc<str>, Vec<ContainerStatus>>);

/// Reasons of a container that was refused a start.
const REFUSALS: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "PostStartHookError",
    "RunContainerError",
];

impl Before {
    fn take(&mut self, status: &PodStatus) {
        for new in status.all() {
            let history = self.0.entry(Arc::clone(&new.name)).or_default();
            let is_refused = matches!(&new.state, State::Waiting { reason, .. }
                if REFUSALS.contains(&reason.as_ref()));
            if !is_refused {
                history.clear();
            }
            history.push(new.clone());
        }
    }

    /// The status with containers as they were before, in every combination.
    fn of(&self, status: &PodStatus) -> Vec<PodStatus> {
        let mut all = vec![status.clone()];
        for (name, history) in &self.0 {
            let (_, earlier) = history.split_last().unwrap_or((&history[0], &[]));
            let variants = earlier.iter().flat_map(|before| {
                all.iter().map(|status| {
                    let mut status = status.clone();
                    let lists = status.init.iter_mut().chain(&mut status.regular);
                    lists.filter(|s| s.name == *name).for_each(|s| *s = before.clone());
                    status
                })
            });
            let variants: Vec<PodStatus> = variants.collect();
            all.extend(variants);
        }
        all.split_off(1)
    }
}

struct Replay<'a> {
    engine: Lifecycle,
    now: Time,
    trace: &'a Trace,
    open: Vec<Open>,
    /// What the kubelet did before the engine asked for it.
    early: Vec<(Time, Fact)>,
    /// The runs of each container, as they were answered.
    runs: HashMap<String, Vec<InstanceId>>,
    /// How often the image of each container could not be pulled.
    pulls: HashMap<String, u32>,
    /// The last answer of each readiness probe.
    answers: HashMap<String, ProbeResult>,
    /// Refusals to start a container are repeated as often as the engine asks.
    refusals: HashMap<String, Fact>,
    before: Before,
    out: Replayed,
}

pub(crate) fn run(trace: &Trace) -> Result<Replayed, String> {
    // The kubelet's relist is a sampling of everything that there was.
    let options = Options { minor: trace.minor, relist: Duration::ZERO, ..Options::default() };
    let mut replay = Replay {
        engine: Lifecycle::new(trace.plan.clone(), options, epoch() + trace.offset),
        now: epoch(),
        trace,
        open: Vec::new(),
        early: Vec::new(),
        runs: HashMap::new(),
        refusals: HashMap::new(),
        pulls: HashMap::new(),
        answers: HashMap::new(),
        before: Before::default(),
        out: Replayed { states: Vec::new(), faults: Vec::new(), log: Vec::new() },
    };
    replay.drain();
    let mut world = trace.world.clone();
    while !world.is_empty() {
        let (at, fact) = world.remove(0);
        replay.until(at)?;
        if matches!(fact, Fact::SandboxLost) {
            // Everything in it ends with it: the kubelet finds all of that at once.
            let with_it =
                |(t, f): &(Time, Fact)| matches!(f, Fact::Exited { .. }) && t.since(at) < AT_ONCE;
            let (ends, rest) = world.into_iter().partition(with_it);
            world = rest;
            replay.sandbox_lost(ends);
        } else {
            replay.happen(&fact);
        }
    }
    let end = trace.states.last().map_or(replay.now, |s| s.at).max(replay.now);
    replay.until(end)?;
    replay.end();
    Ok(replay.out)
}

impl Replay<'_> {
    /// Lets time pass.
    fn until(&mut self, at: Time) -> Result<(), String> {
        let mut turns = 0;
        let due = |engine: &Lifecycle| engine.poll_timeout().map(|due| due - self.trace.offset);
        while let Some(due) = due(&self.engine).filter(|due| *due < at) {
            self.now = self.now.max(due);
            self.handle(Input::Tick);
            self.drain();
            turns += 1;
            if turns > 100_000 {
                return Err(format!("the engine does not let time pass at {}", seconds(self.now)));
            }
        }
        self.now = self.now.max(at);
        Ok(())
    }

    fn tell(&mut self, input: Input) {
        self.out.log.push(format!("{} <- {input:?}", seconds(self.now)));
        self.handle(input);
        self.drain();
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.now + self.trace.offset, input);
    }

    fn fault(&mut self, what: String) {
        self.out.faults.push(what);
    }

    fn name(&self, id: ContainerId) -> String {
        self.engine.plan().container(id).name.to_string()
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll() {
            self.obey(output);
        }
    }

    fn obey(&mut self, output: Output) {
        match &output {
            Output::StatusChanged | Output::Event(_) => {}
            other => self.out.log.push(format!("{} -> {other:?}", seconds(self.now))),
        }
        match output {
            Output::MountVolumes => self.ask(Ask::Mount, None, LATE, 0),
            Output::CreateSandbox { attempt } => self.ask(Ask::Sandbox(attempt), None, LATE, 0),
            Output::Pull { container } => self.pull(container),
            Output::Start { container, instance, restart_count } => {
                // The first restart is immediate. Then the kubelet comes back when the back-off is
                // over, times 1 to 1.5 (spec A1).
                let back_off = match restart_count.checked_sub(2) {
                    Some(n) => Duration::from_secs(10 << n.min(5)).min(Duration::from_secs(300)),
                    None => Duration::ZERO,
                };
                let ask = Ask::Start(self.name(container));
                self.ask(ask, Some(instance), LATE + back_off / 2, 0);
            }
            Output::RunProbe { container, instance, probe } => {
                // Its ticker has any phase (spec A8).
                let period = self.engine.plan().container(container).probe(probe);
                let period = period.map_or(Duration::ZERO, |p| p.period);
                let ask = Ask::Probe(self.name(container), probe);
                self.ask(ask, Some(instance), LATE + period, 0);
            }
            Output::RunHook { container, instance, hook } => {
                let ask = Ask::Hook(self.name(container), hook);
                self.ask(ask, Some(instance), Duration::MAX, 0);
            }
            Output::Stop { container, instance, grace } => {
                let name = self.name(container);
                let run = self.run_of(&name, instance);
                self.ask(Ask::Stop(name, run), Some(instance), LATE, grace.as_secs());
            }
            Output::Remove { instance, .. } => self.tell(Input::Removed { instance }),
            Output::StatusChanged => self.published(),
            Output::StopSandbox { .. } | Output::Event(_) | Output::Finished => {}
        }
    }

    /// The engine publishes.
    fn published(&mut self) {
        let status = self.engine.status().clone();
        let lines = reduce::lines(&self.engine, &status);
        self.before.take(&status);
        let before = self.before.of(&status);
        let unrefused = before.iter().map(|s| reduce::lines(&self.engine, s)).collect();
        if self.out.states.last().is_none_or(|last| last.lines != lines) {
            self.out.states.push(Published { at: self.now, lines, unrefused });
        }
    }

    fn run_of(&self, name: &str, instance: InstanceId) -> usize {
        let runs = self.runs.get(name).map_or(&[][..], Vec::as_slice);
        runs.iter().position(|i| *i == instance).unwrap_or(runs.len())
    }

    /// The image is there, unless the next thing that the kubelet says of the container is that it is
    /// not.
    fn pull(&mut self, id: ContainerId) {
        let name = self.name(id);
        let next = self.next_start(&name).cloned();
        match next {
            Some(Fact::PullFailed(_, reason, _)) if reason == "ErrImagePull" => {
                // Its back-off is as that of a crash loop.
                let tries = self.pulls.entry(name.clone()).or_default();
                let back_off = Duration::from_secs(10 << (*tries).min(5));
                *tries += 1;
                self.ask(Ask::Pull(name), None, REGISTRY + back_off / 2, 0);
            }
            Some(Fact::PullFailed(_, reason, message)) => {
                let fact = Fact::PullFailed(name.clone(), reason.clone(), message.clone());
                self.refusals.insert(name, fact);
                let reason = reason.into();
                self.tell(Input::PullFailed { container: id, reason, message });
            }
            _ => self.tell(Input::Pulled { container: id, image_id: String::new() }),
        }
    }

    /// The next try of the kubelet's to start a container: one that is still to come, else the last
    /// that failed.
    fn next_start(&self, name: &str) -> Option<&Fact> {
        let is_try = |fact: &&Fact| match fact {
            Fact::Started(n) | Fact::StartFailed(n, ..) | Fact::PullFailed(n, ..) => n == name,
            _ => false,
        };
        let early = self.early.iter().map(|(_, f)| f).find(is_try);
        let later = self.trace.world.iter().filter(|(at, _)| *at >= self.now).map(|(_, f)| f);
        early.or_else(|| later.clone().find(is_try)).or_else(|| self.refusals.get(name))
    }

    /// The engine asks for something.
    fn ask(&mut self, ask: Ask, instance: Option<InstanceId>, late: Duration, grace: u64) {
        let open = Open { ask, at: self.now, instance, late, grace };
        let early = self.early.iter().position(|(_, fact)| open.ask.is_answered_by(fact));
        if let Ask::Start(name) = &open.ask
            && early.is_none()
            && let Some(refusal) = self.refusals.get(name).cloned()
            && matches!(self.next_start(name), Some(Fact::StartFailed(..)))
        {
            self.answer(open, &refusal);
        } else if let Some(early) = early {
            let (at, fact) = self.early.remove(early);
            let allowed = if matches!(open.ask, Ask::Probe(..)) { PROBE_EARLY } else { EARLY };
            if self.now.since(at) > allowed {
                let (ask, at, now) = (&open.ask, seconds(at), seconds(self.now));
                self.fault(format!("{ask:?}: the kubelet at {at}, the engine only at {now}"));
            }
            self.answer(open, &fact);
        } else {
            self.open.push(open);
        }
    }

    /// The sandbox is lost with everything in it.
    fn sandbox_lost(&mut self, ends: Vec<(Time, Fact)>) {
        for (_, fact) in ends {
            self.out.log.push(format!("{} <- {fact:?}", seconds(self.now)));
            if let Some(input) = self.exited(&fact) {
                self.handle(input);
            }
        }
        self.tell(Input::SandboxLost);
    }

    /// The end of a run as an input.
    fn exited(&mut self, fact: &Fact) -> Option<Input> {
        let Fact::Exited { name, run, code, oom, message } = fact else { return None };
        let Some(&instance) = self.runs.get(name).and_then(|runs| runs.get(*run)) else {
            self.fault(format!("run {run} of {name} ended, the engine does not know it"));
            return None;
        };
        let reason = oom.then_some("OOMKilled".into());
        Some(Input::Exited { instance, code: *code, reason, message: message.clone() })
    }

    /// Something happens in the trace.
    fn happen(&mut self, fact: &Fact) {
        match fact {
            Fact::Exited { .. } => {
                if let Some(input) = self.exited(fact) {
                    self.tell(input);
                }
            }
            Fact::Delete(grace) => self.tell(Input::Delete { grace: Some(*grace) }),
            Fact::SandboxLost => self.tell(Input::SandboxLost),
            Fact::KubeletRestarted => {
                self.open.retain(|o| !matches!(o.ask, Ask::Hook(..) | Ask::Probe(..)));
                self.tell(Input::DriverRestarted);
            }
            Fact::Gone => {
                if !self.engine.is_finished() {
                    self.fault("the object is gone, the engine has not finished".into());
                }
            }
            // The kubelet tries again whenever it looks at the pod; the engine when it is time.
            Fact::StartFailed(name, StartStage::Config | StartStage::Create, _)
                if self.refusals.contains_key(name) => {}
            Fact::PullFailed(name, reason, _) if reason != "ErrImagePull" => {
                self.refusals.insert(name.clone(), fact.clone());
            }
            answer => {
                let open = self.open.iter().position(|o| o.ask.is_answered_by(answer));
                let Some(open) = open else {
                    if !self.is_late_probe(answer) && !self.is_repeated(answer) {
                        self.early.push((self.now, answer.clone()));
                    }
                    return;
                };
                let open = self.open.remove(open);
                if self.now.since(open.at) > open.late {
                    let (ask, at, now) = (&open.ask, seconds(open.at), seconds(self.now));
                    self.fault(format!("{ask:?}: the engine at {at}, the kubelet only at {now}"));
                }
                self.answer(open, answer);
            }
        }
    }

    /// Whether this is a readiness probe that says the same as the one before: while a container is not
    /// ready the kubelet probes it whenever it builds a status, and it builds more of them.
    fn is_repeated(&self, fact: &Fact) -> bool {
        let Fact::Probe(name, ProbeKind::Readiness, result) = fact else { return false };
        let last = self.answers.get(name);
        last.is_some_and(|last| std::mem::discriminant(last) == std::mem::discriminant(result))
    }

    /// Whether this is a probe of a container that has ended: the kubelet does not know it yet.
    fn is_late_probe(&self, fact: &Fact) -> bool {
        let Fact::Probe(name, ..) = fact else { return false };
        let id = self.engine.plan().find(name);
        let newest = id.and_then(|id| self.engine.view().newest(id));
        let ended = newest.and_then(|run| run.exit()).and_then(|t| t.finished_at);
        ended.is_some_and(|at| (self.now + self.trace.offset).since(at) <= LATE)
    }

    fn answer(&mut self, open: Open, fact: &Fact) {
        let instance = open.instance.unwrap_or(InstanceId(0));
        match fact {
            Fact::Mounted => self.tell(Input::VolumesMounted),
            Fact::Sandbox(attempt, ip) => {
                self.tell(Input::SandboxCreated { attempt: *attempt, ip: *ip });
            }
            Fact::PullFailed(name, reason, message) => {
                let Some(container) = self.engine.plan().find(name) else { return };
                let (reason, message) = (reason.clone().into(), message.clone());
                self.tell(Input::PullFailed { container, reason, message });
            }
            Fact::Started(name) => {
                self.refusals.remove(name);
                self.runs.entry(name.clone()).or_default().push(instance);
                self.tell(Input::Started { instance });
            }
            Fact::StartFailed(name, stage, message) => {
                if *stage == StartStage::Run {
                    self.runs.entry(name.clone()).or_default().push(instance);
                } else {
                    self.refusals.insert(name.clone(), fact.clone());
                }
                let (stage, message) = (*stage, message.clone());
                self.tell(Input::StartFailed { instance, stage, message });
            }
            Fact::Probe(name, probe, result) => {
                let result = result.clone();
                if *probe == ProbeKind::Readiness {
                    self.answers.insert(name.clone(), result.clone());
                }
                self.tell(Input::ProbeDone { instance, probe: *probe, result });
            }
            Fact::Hook(_, hook, result) => {
                let result = result.clone();
                self.tell(Input::HookDone { instance, hook: *hook, result });
            }
            Fact::Stop { name, grace, .. }
                // Both count whole seconds, from moments that are up to a second apart.
                if open.grace.abs_diff(*grace) > 1 => {
                    let mine = open.grace;
                    self.fault(format!("stop {name}: grace {mine} s, the kubelet's {grace} s"));
                }
            _ => {}
        }
    }

    /// Everything that was asked for has been answered.
    fn end(&mut self) {
        for (at, fact) in std::mem::take(&mut self.early) {
            let at = seconds(at);
            self.fault(format!("{fact:?} at {at}: the engine never asked for it"));
        }
        let now = self.now;
        for open in std::mem::take(&mut self.open) {
            let wanted = match open.ask {
                // A hook may be given up, and a probe's next turn may come after the end.
                Ask::Hook(..) => false,
                Ask::Probe(..) => false,
                Ask::Mount | Ask::Sandbox(_) | Ask::Pull(_) | Ask::Start(_) | Ask::Stop(..) => {
                    now.since(open.at) > open.late
                }
            };
            if wanted {
                let at = seconds(open.at);
                self.fault(format!("{:?} at {at}: the kubelet never did it", open.ask));
            }
        }
    }
}

impl Ask {
    fn is_answered_by(&self, fact: &Fact) -> bool {
        match (self, fact) {
            (Self::Mount, Fact::Mounted) => true,
            (Self::Sandbox(a), Fact::Sandbox(b, _)) => a == b,
            (Self::Pull(a), Fact::PullFailed(b, reason, _)) => a == b && reason == "ErrImagePull",
            (Self::Start(a), Fact::Started(b) | Fact::StartFailed(b, ..)) => a == b,
            (Self::Probe(a, k), Fact::Probe(b, l, _)) => a == b && k == l,
            (Self::Hook(a, k), Fact::Hook(b, l, _)) => a == b && k == l,
            (Self::Stop(a, r), Fact::Stop { name, run, .. }) => a == name && r == run,
            _ => false,
        }
    }
}
