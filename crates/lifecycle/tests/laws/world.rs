//! A world around one engine that answers in any order, and checks the laws at every output.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use holdfast_lifecycle::*;

/// An answer that the engine waits for, or something that may happen by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    /// Answer an open request; false is the bad answer.
    Answer(usize, bool),
    /// A running process ends with this code.
    Exit(InstanceId, i32),
    /// Time passes up to the next timer (or to the next SIGKILL).
    Timer,
    /// The pod is deleted.
    Delete(u64),
    /// The sandbox is lost, and with it what ran in it.
    SandboxLost,
    /// The driver restarts.
    Restart,
}

/// A request of the engine that has not been answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Open {
    Volumes,
    Sandbox(u32),
    Pull(ContainerId),
    Start(ContainerId, InstanceId),
    Hook(InstanceId, HookKind),
    Probe(InstanceId, ProbeKind),
}

/// A process of the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    container: ContainerId,
    /// When SIGKILL comes, once it was told to stop.
    kill_at: Option<Time>,
    /// When the engine began to stop it.
    stopping_since: Option<Time>,
}

/// The engine and everything outside it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) engine: Lifecycle,
    pub(crate) now: Time,
    open: Vec<Open>,
    processes: BTreeMap<InstanceId, Process>,
    /// Containers that did what others wait for, since the newest sandbox.
    completed: BTreeSet<ContainerId>,
    was_started: BTreeSet<ContainerId>,
    deleted: bool,
    /// Containers that were started after the deletion, by the sync that was under way.
    started_late: BTreeSet<ContainerId>,
    counts: BTreeMap<String, u32>,
    /// What was fed and what came out, to be fed again.
    pub(crate) fed: Vec<(Time, Input)>,
    pub(crate) got: Vec<Output>,
    pub(crate) record: bool,
    exits: u32,
    pub(crate) disturbances: u32,
}

impl World {
    pub(crate) fn new(plan: Plan, options: Options) -> Self {
        let mut world = Self {
            engine: Lifecycle::new(plan, options, Time::ZERO),
            now: Time::ZERO,
            open: Vec::new(),
            processes: BTreeMap::new(),
            completed: BTreeSet::new(),
            was_started: BTreeSet::new(),
            deleted: false,
            started_late: BTreeSet::new(),
            counts: BTreeMap::new(),
            fed: Vec::new(),
            got: Vec::new(),
            record: false,
            exits: 0,
            disturbances: 0,
        };
        world.drain();
        world
    }

    /// Everything that can happen next. `codes` are the exit codes to try.
    pub(crate) fn choices(
        &self,
        codes: &[i32],
        max_exits: u32,
        max_disturbances: u32,
    ) -> Vec<Choice> {
        let mut all = Vec::new();
        for (at, open) in self.open.iter().enumerate() {
            all.push(Choice::Answer(at, true));
            let can_fail = !matches!(open, Open::Volumes | Open::Sandbox(_));
            if can_fail && (self.exits < max_exits || matches!(open, Open::Probe(..))) {
                all.push(Choice::Answer(at, false));
            }
        }
        if self.exits < max_exits {
            for &id in self.processes.keys() {
                all.extend(codes.iter().map(|&code| Choice::Exit(id, code)));
            }
        }
        if self.next_time().is_some() {
            all.push(Choice::Timer);
        }
        if !self.deleted && !self.engine.is_finished() {
            all.push(Choice::Delete(3));
        }
        if self.disturbances < max_disturbances && !self.engine.is_finished() {
            if self.engine.view().sandbox().is_some_and(|s| s.ready) {
                all.push(Choice::SandboxLost);
            }
            all.push(Choice::Restart);
        }
        all
    }

    fn next_time(&self) -> Option<Time> {
        let kills = self.processes.values().filter_map(|p| p.kill_at).min();
        [self.engine.poll_timeout(), kills].into_iter().flatten().min()
    }

    pub(crate) fn choose(&mut self, choice: &Choice) {
        match *choice {
            Choice::Answer(at, good) => {
                let open = self.open.remove(at);
                self.answer(&open, good);
            }
            Choice::Exit(id, code) => {
                self.exits += 1;
                self.exit(id, code);
            }
            Choice::Timer => {
                let at = self.next_time().expect("offered only if there is one");
                self.now = self.now.max(at);
                let killed: Vec<_> = self
                    .processes
                    .iter()
                    .filter(|(_, p)| p.kill_at.is_some_and(|k| k <= self.now))
                    .map(|(&id, _)| id)
                    .collect();
                for id in killed {
                    self.exit(id, 137);
                }
                self.feed(Input::Tick);
            }
            Choice::Delete(secs) => {
                self.deleted = true;
                self.feed(Input::Delete { grace: Some(Duration::from_secs(secs)) });
            }
            Choice::SandboxLost => {
                self.disturbances += 1;
                for id in self.processes.keys().copied().collect::<Vec<_>>() {
                    self.exit(id, 137);
                }
                self.feed(Input::SandboxLost);
            }
            Choice::Restart => {
                self.disturbances += 1;
                // What ran in the driver is forgotten: nobody answers it. A postStart hook is lost
                // with it, and its container counts as started (as with a kubelet that restarts).
                for open in &self.open {
                    if let Open::Hook(instance, HookKind::PostStart) = open
                        && let Some(p) = self.processes.get(instance)
                        && self.engine.plan().container(p.container).startup.is_none()
                    {
                        self.was_started.insert(p.container);
                    }
                }
                self.open.retain(|o| matches!(o, Open::Volumes));
                for p in self.processes.values_mut() {
                    p.kill_at = None;
                    p.stopping_since = None;
                }
                self.feed(Input::DriverRestarted);
            }
        }
        self.check_alive();
    }

    fn answer(&mut self, open: &Open, good: bool) {
        let input = match *open {
            Open::Volumes => Input::VolumesMounted,
            Open::Sandbox(attempt) => {
                self.completed.clear();
                self.was_started.clear();
                Input::SandboxCreated { attempt, ip: Some([10, 0, 0, 1].into()) }
            }
            Open::Pull(container) if good => Input::Pulled { container, image_id: "i".into() },
            Open::Pull(container) => {
                self.exits += 1;
                Input::PullFailed { container, reason: "ErrImagePull".into(), message: "no".into() }
            }
            Open::Start(container, instance) if good => {
                let process = Process { container, kill_at: None, stopping_since: None };
                self.processes.insert(instance, process);
                let c = self.engine.plan().container(container);
                if c.startup.is_none() && !c.post_start {
                    self.was_started.insert(container);
                }
                Input::Started { instance }
            }
            Open::Start(_, instance) => {
                self.exits += 1;
                Input::StartFailed { instance, stage: StartStage::Run, message: "no".into() }
            }
            Open::Hook(instance, hook) => {
                if let Some(p) = self.processes.get(&instance)
                    && hook == HookKind::PostStart
                    && good
                    && self.engine.plan().container(p.container).startup.is_none()
                {
                    self.was_started.insert(p.container);
                }
                let result = if good { Ok(()) } else { Err("no".into()) };
                Input::HookDone { instance, hook, result }
            }
            Open::Probe(instance, probe) => {
                if let Some(p) = self.processes.get(&instance)
                    && good
                    && probe == ProbeKind::Startup
                {
                    self.was_started.insert(p.container);
                }
                let result =
                    if good { ProbeResult::Success } else { ProbeResult::Failure("no".into()) };
                Input::ProbeDone { instance, probe, result }
            }
        };
        self.feed(input);
    }

    fn exit(&mut self, id: InstanceId, code: i32) {
        let Some(p) = self.processes.remove(&id) else { return };
        if code == 0 {
            self.completed.insert(p.container);
        }
        // Probes and hooks of a dead container fail or never answer; here they never do, but for
        // hooks, which somebody waits for.
        let hooks: Vec<Open> = self
            .open
            .extract_if(.., |o| matches!(o, Open::Hook(i, _) | Open::Probe(i, _) if *i == id))
            .collect();
        self.feed(Input::Exited { instance: id, code, reason: None, message: String::new() });
        for open in hooks {
            if let Open::Hook(instance, hook) = open {
                self.feed(Input::HookDone { instance, hook, result: Err("gone".into()) });
            }
        }
    }

    fn feed(&mut self, input: Input) {
        if self.record {
            self.fed.push((self.now, input.clone()));
        }
        self.engine.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll() {
            if self.record {
                self.got.push(output.clone());
            }
            self.check(&output);
            match output {
                Output::MountVolumes => self.open.push(Open::Volumes),
                Output::CreateSandbox { attempt } => self.open.push(Open::Sandbox(attempt)),
                Output::Pull { container } => self.open.push(Open::Pull(container)),
                Output::Start { container, instance, .. } => {
                    self.open.push(Open::Start(container, instance));
                }
                Output::Stop { instance, grace, .. } => {
                    let now = self.now;
                    if let Some(p) = self.processes.get_mut(&instance) {
                        p.kill_at = Some(now + grace);
                    }
                }
                Output::RunHook { instance, hook, .. } => {
                    self.open.push(Open::Hook(instance, hook))
                }
                Output::RunProbe { instance, probe, .. } => {
                    self.open.push(Open::Probe(instance, probe));
                }
                Output::StopSandbox { .. } | Output::Remove { .. } => {}
                Output::StatusChanged | Output::Event(_) | Output::Finished => {}
            }
        }
    }

    /// The engine must not be stuck: it waits for an answer, a process or time, or it is over.
    fn check_alive(&self) {
        // The kubelet leaves such a pod hanging (kubernetes/kubernetes#118321).
        let never = self.engine.plan().restart_policy == RestartPolicy::Never;
        let abandoned = never && self.engine.view().sandbox().is_some_and(|s| !s.ready);
        let waits = abandoned
            || !self.open.is_empty()
            || !self.processes.is_empty()
            || self.engine.poll_timeout().is_some()
            || self.engine.is_finished();
        assert!(waits, "the engine is stuck: {:#?}", self.engine);
    }

    /// The laws.
    fn check(&mut self, output: &Output) {
        let plan = self.engine.plan();
        match output {
            Output::Start { container, .. } => {
                // A sync that is under way goes on, and there is no other.
                assert!(
                    !self.deleted || self.started_late.insert(*container),
                    "{container:?} is started twice after the deletion"
                );
                assert!(
                    !self.engine.status().phase.is_terminal(),
                    "{container:?} is started in a terminal phase"
                );
                assert!(
                    !self.processes.values().any(|p| p.container == *container),
                    "{container:?} runs twice"
                );
                let regular_active = self.regular_active();
                for id in plan.inits().take_while(|&id| id < *container) {
                    let done = match plan.container(id).kind {
                        Kind::Init => self.completed.contains(&id),
                        _ => self.was_started.contains(&id),
                    };
                    assert!(done || regular_active, "{container:?} does not wait for {id:?}");
                }
            }
            Output::StatusChanged => {
                let status = self.engine.status();
                if status.phase.is_terminal() {
                    assert!(self.processes.is_empty(), "{:?} while processes run", status.phase);
                }
                for s in &status.regular {
                    let before = self.counts.insert(s.name.to_string(), s.restart_count);
                    assert!(
                        before.unwrap_or(0) <= s.restart_count,
                        "the restart count of {} shrinks",
                        s.name
                    );
                }
            }
            Output::Event(e) if e.reason == "Killing" => {
                let now = self.now;
                let id = e.container;
                for p in self.processes.values_mut().filter(|p| Some(p.container) == id) {
                    p.stopping_since.get_or_insert(now);
                }
            }
            Output::Stop { container, instance, grace } => {
                let Some(since) = self.processes.get(instance).and_then(|p| p.stopping_since)
                else {
                    return;
                };
                // The grace period covers hook, turn and signal; the signal has at least 2 s, and
                // whole seconds are counted.
                let probe = |p: Option<&Probe>| p.and_then(|p| p.termination_grace);
                let c = plan.container(*container);
                let longest = [probe(c.liveness.as_ref()), probe(c.startup.as_ref())]
                    .into_iter()
                    .flatten()
                    .chain(self.engine.deletion())
                    .fold(plan.termination_grace, Duration::max);
                let limit = since + longest + Duration::from_secs(3);
                assert!(self.now + *grace <= limit, "{container:?} outlives its grace period");
            }
            Output::Finished => {
                assert!(self.processes.is_empty(), "finished while processes run");
                assert!(self.engine.status().phase.is_terminal(), "finished but not over");
            }
            _ => {}
        }
    }

    fn regular_active(&self) -> bool {
        let plan = self.engine.plan();
        plan.regulars()
            .any(|id| self.engine.view().newest(id).is_some_and(view::Instance::is_active))
    }

    /// What makes two worlds the same for everything that can follow.
    pub(crate) fn key(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut h = DefaultHasher::new();
        format!("{:?}", self.engine).hash(&mut h);
        (self.now, &self.open, &self.processes, self.deleted, self.exits, self.disturbances)
            .hash(&mut h);
        (&self.completed, &self.was_started, &self.started_late).hash(&mut h);
        h.finish()
    }
}
