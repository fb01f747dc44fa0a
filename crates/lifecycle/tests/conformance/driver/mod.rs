//! The outside world of one pod in virtual time: a runtime whose containers follow scripts, and an
//! API server that keeps every published status.
//!
//! Everything is deterministic: one queue of events ordered by time and, within a time, by the
//! order in which they were asked for.

mod invariants;
mod probe;
mod process;

use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use holdfast_lifecycle::plan::{ContainerId, HookKind, ProbeKind};
use holdfast_lifecycle::status::Reason;
use holdfast_lifecycle::{
    Event, Input, InstanceId, Lifecycle, Options, Output, PodStatus, ProbeResult, StartStage, Time,
};

use crate::cond::Scene;
use crate::order::{Line, Log};
use crate::scenario::Pod;
use crate::script::Script;
use invariants::Invariants;
use process::Process;

/// How long the parts of the runtime take.
mod latency {
    use std::time::Duration;

    pub(super) const VOLUMES: Duration = Duration::from_millis(50);
    pub(super) const SANDBOX: Duration = Duration::from_millis(300);
    pub(super) const PULL: Duration = Duration::from_millis(200);
    pub(super) const START: Duration = Duration::from_millis(250);
    pub(super) const EXEC: Duration = Duration::from_millis(40);
    pub(super) const REMOVE: Duration = Duration::from_millis(10);
    /// Between two things a shell script does.
    pub(super) const STEP: Duration = Duration::from_millis(1);
    /// From the start of a process to the runtime's word that it runs; none ends earlier.
    pub(super) const SEEN: Duration = Duration::from_millis(10);
    /// Between two lines of a looping hook.
    pub(super) const LOOP: Duration = Duration::from_millis(200);
}

/// A status as the API server got it.
pub(crate) struct Snapshot {
    /// When.
    pub(crate) at: Time,
    /// What.
    pub(crate) status: PodStatus,
}

/// The world of one pod.
pub(crate) struct World {
    /// Now.
    pub(crate) now: Time,
    engine: Lifecycle,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    scripts: Vec<Script>,
    volumes_missing: bool,
    processes: BTreeMap<InstanceId, Process>,
    /// How often each container's process was started.
    pub(crate) starts: BTreeMap<ContainerId, u32>,
    start_tries: BTreeMap<ContainerId, u32>,
    /// When runs started and ended, by container.
    pub(crate) runs: BTreeMap<ContainerId, Vec<(Time, Option<Time>)>>,
    /// What hooks did: container, hook, when.
    pub(crate) hooks: Vec<(ContainerId, HookKind, Time)>,
    /// How often probes were run.
    pub(crate) probes: BTreeMap<(ContainerId, ProbeKind), u32>,
    /// How often a probe of a run has answered.
    answers: BTreeMap<(InstanceId, ProbeKind), usize>,
    /// What the runtime was told to stop: container, when, grace period.
    pub(crate) stops: Vec<(ContainerId, Time, Duration)>,
    /// The log of all containers.
    pub(crate) log: Log,
    /// Every published status.
    pub(crate) history: Vec<Snapshot>,
    /// Every event.
    pub(crate) events: Vec<(Time, Event)>,
    /// Whether the engine said that the pod is over.
    pub(crate) finished: bool,
    /// Whether somebody deleted the pod.
    pub(crate) deleted: bool,
    down: bool,
    /// Counts restarts of the kubelet: answers to questions of an earlier life are lost.
    life: u32,
    missed: Vec<Input>,
    sandbox: Option<u32>,
    invariants: Invariants,
    /// The first broken invariant or error of the engine.
    pub(crate) broken: Option<String>,
    ticks_now: u32,
}

/// Something that will happen.
#[derive(Clone, Debug)]
enum Happening {
    /// An answer to a question of the engine, lost if it restarts before.
    Answer(u32, Input),
    /// Something the runtime tells whoever listens.
    News(Input),
    SandboxUp(u32),
    Launch(ContainerId, InstanceId),
    Process(InstanceId, process::Turn),
    HookEnds(InstanceId, HookKind, Result<(), String>),
    HookLogs(InstanceId, HookKind, &'static str),
    HookLoops(InstanceId),
    ProbeLogs(InstanceId, ProbeKind),
    ProbeEnds(u32, ContainerId, InstanceId, ProbeKind),
}

struct Entry {
    at: Time,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl World {
    /// A world in which the pod has just been accepted.
    pub(crate) fn new(pod: &Pod, minor: u32, relist: Duration) -> Self {
        let mut options = Options { minor, relist, ..Options::default() };
        // Upstream's cases of this feature turn its gate on where it is off by default.
        if pod.containers.iter().any(|(c, _)| !c.restart_rules.is_empty()) {
            options.restart_all_containers = Some(true);
        }
        options.back_off.max = pod.backoff_max;
        options.back_off.initial = pod.backoff_initial.min(pod.backoff_max);
        let plan = pod.plan();
        // The node has been up for an hour, so that its start plays no part.
        let now = Time::from_secs(3600);
        let engine = Lifecycle::new(plan, options, now);
        let mut world = Self {
            now,
            engine,
            queue: BinaryHeap::new(),
            sequence: 0,
            scripts: pod.ordered().map(|(_, s)| s.clone()).collect(),
            volumes_missing: pod.volumes_missing,
            processes: BTreeMap::new(),
            starts: BTreeMap::new(),
            start_tries: BTreeMap::new(),
            runs: BTreeMap::new(),
            hooks: Vec::new(),
            probes: BTreeMap::new(),
            answers: BTreeMap::new(),
            stops: Vec::new(),
            log: Log::default(),
            history: Vec::new(),
            events: Vec::new(),
            finished: false,
            deleted: false,
            down: false,
            life: 0,
            missed: Vec::new(),
            sandbox: None,
            invariants: Invariants::new(minor),
            broken: None,
            ticks_now: 0,
        };
        world.drain();
        world
    }

    /// The last published status.
    pub(crate) fn status(&self) -> &PodStatus {
        self.history.last().map_or_else(|| self.engine.status(), |s| &s.status)
    }

    /// The last published status as conditions see it.
    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene { status: self.status(), gone: self.deleted && self.finished }
    }

    /// The plan as the engine has it now.
    pub(crate) fn plan(&self) -> &holdfast_lifecycle::Plan {
        self.engine.plan()
    }

    /// Lets the next thing happen, unless it is later than `limit`; then the time is `limit`.
    /// Returns whether something happened.
    pub(crate) fn advance(&mut self, limit: Time) -> bool {
        let timer = if self.down { None } else { self.engine.poll_timeout() };
        let event = self.queue.peek().map(|e| e.at);
        let next = match (timer, event) {
            (None, None) => None,
            (Some(t), None) => Some((t, true)),
            (None, Some(e)) => Some((e, false)),
            (Some(t), Some(e)) => Some(if t < e { (t, true) } else { (e, false) }),
        };
        let Some((at, tick)) = next.filter(|(at, _)| *at <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        if at > self.now {
            self.now = at;
            self.ticks_now = 0;
        }
        self.ticks_now += 1;
        if self.ticks_now > 2000 {
            self.fail("the engine does not let time pass".into());
            return false;
        }
        if tick {
            self.tell(Input::Tick);
        } else if let Some(entry) = self.queue.pop() {
            self.happen(entry.what);
        }
        true
    }

    fn fail(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    fn after(&mut self, delay: Duration, what: Happening) {
        self.sequence += 1;
        self.queue.push(Entry { at: self.now + delay, sequence: self.sequence, what });
    }

    fn answer(&mut self, delay: Duration, input: Input) {
        self.after(delay, Happening::Answer(self.life, input));
    }

    fn write(&mut self, who: String, what: &'static str) {
        self.log.lines.push(Line { at: self.now, who, what });
    }

    fn name(&self, container: ContainerId) -> String {
        self.engine.plan().container(container).name.to_string()
    }

    /// Gives the engine an input, or keeps it until the kubelet is up again.
    pub(crate) fn tell(&mut self, input: Input) {
        if self.down {
            self.missed.push(input);
            return;
        }
        if matches!(input, Input::Delete { .. }) {
            self.deleted = true;
        }
        self.engine.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll() {
            if let Err(why) = self.invariants.output(&output, &self.engine, self.deleted) {
                self.fail(why);
            }
            self.obey(output);
        }
    }

    /// The kubelet stops.
    pub(crate) fn kubelet_down(&mut self) {
        self.down = true;
    }

    /// The kubelet starts again.
    pub(crate) fn kubelet_up(&mut self) {
        self.down = false;
        self.life += 1;
        self.tell(Input::DriverRestarted);
        // What it missed, the state of the sandbox first, as its first relist would find it.
        let mut missed = std::mem::take(&mut self.missed);
        missed.sort_by_key(|i| !matches!(i, Input::SandboxLost));
        for input in missed {
            self.tell(input);
        }
    }

    /// Somebody stops the sandbox behind the kubelet's back.
    pub(crate) fn stop_sandbox(&mut self) {
        self.sandbox = None;
        self.invariants.sandbox_gone();
        let running: Vec<_> = self.running().collect();
        for id in running {
            self.end(id, 137);
        }
        self.tell(Input::SandboxLost);
    }

    /// The runtime forgets the ended runs of a container.
    pub(crate) fn prune(&mut self, container: ContainerId) {
        let ended: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, p)| p.container == container && p.ended)
            .map(|(id, _)| *id)
            .collect();
        for instance in ended {
            self.processes.remove(&instance);
            self.tell(Input::Removed { instance });
        }
        self.invariants.pruned();
    }

    /// The newest running process of a container ends by itself.
    pub(crate) fn kill(&mut self, container: ContainerId, code: i32) -> Result<(), String> {
        let id = self
            .running()
            .filter(|id| self.processes[id].container == container)
            .last()
            .ok_or("it does not run")?;
        self.end(id, code);
        Ok(())
    }

    fn running(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.processes.iter().filter(|(_, p)| !p.ended).map(|(id, _)| *id)
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::MountVolumes => {
                let input = if self.volumes_missing {
                    Input::VolumesFailed { message: "secret \"missing\" not found".into() }
                } else {
                    Input::VolumesMounted
                };
                self.answer(latency::VOLUMES, input);
            }
            Output::CreateSandbox { attempt } => {
                self.after(latency::SANDBOX, Happening::SandboxUp(attempt));
            }
            Output::StopSandbox { .. } => {
                let left: Vec<_> = self.running().collect();
                for id in left {
                    self.fail(format!("sandbox stopped while {} runs", self.who(id)));
                    self.end(id, 137);
                }
                self.sandbox = None;
            }
            Output::Pull { container } => {
                let image = self.engine.plan().container(container).image.clone();
                let input = if &*image == "bad" {
                    Input::PullFailed {
                        container,
                        reason: Reason::Borrowed("ErrImagePull"),
                        message: "not found".into(),
                    }
                } else {
                    Input::Pulled { container, image_id: format!("sha256:{image}") }
                };
                self.answer(latency::PULL, input);
            }
            Output::Start { container, instance, .. } => {
                self.after(latency::START, Happening::Launch(container, instance));
            }
            Output::Stop { container, instance, grace } => {
                self.stops.push((container, self.now, grace));
                self.stop(instance, grace);
            }
            Output::Remove { instance, .. } => {
                self.processes.remove(&instance);
                self.after(latency::REMOVE, Happening::News(Input::Removed { instance }));
            }
            Output::RunHook { container, instance, hook } => {
                self.run_hook(container, instance, hook);
            }
            Output::RunProbe { container, instance, probe } => {
                self.run_probe(container, instance, probe);
            }
            Output::StatusChanged => {
                let status = self.engine.status().clone();
                if let Err(why) = self.invariants.published(&status, self.engine.plan(), || {
                    self.processes.values().any(|p| !p.ended)
                }) {
                    self.fail(why);
                }
                self.history.push(Snapshot { at: self.now, status });
            }
            Output::Event(event) => self.events.push((self.now, event)),
            Output::Finished => {
                if self.running().next().is_some() {
                    self.fail("finished while a container runs".into());
                }
                self.finished = true;
            }
        }
    }

    fn who(&self, id: InstanceId) -> String {
        self.processes.get(&id).map_or_else(|| format!("{id:?}"), |p| self.name(p.container))
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Answer(life, input) => {
                if life == self.life && !self.down {
                    self.tell(input);
                }
            }
            Happening::News(input) => self.tell(input),
            Happening::SandboxUp(attempt) => {
                self.sandbox = Some(attempt);
                self.invariants.sandbox(attempt);
                let ip = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2 + attempt as u8)));
                self.tell(Input::SandboxCreated { attempt, ip });
            }
            Happening::Launch(container, instance) => self.launch(container, instance),
            Happening::Process(id, turn) => self.turn(id, turn),
            Happening::HookEnds(id, hook, result) => self.hook_ends(id, hook, result),
            Happening::HookLogs(id, hook, what) => self.hook_logs(id, hook, what),
            Happening::HookLoops(id) => self.hook_loops(id),
            Happening::ProbeLogs(id, kind) => self.probe_logs(id, kind),
            Happening::ProbeEnds(life, container, instance, kind) => {
                self.probe_ends(life, container, instance, kind);
            }
        }
    }

    fn launch(&mut self, container: ContainerId, instance: InstanceId) {
        let tries = self.start_tries.entry(container).or_default();
        *tries += 1;
        let fails = *tries <= self.scripts[container.index()].start_failures;
        if fails || self.sandbox.is_none() {
            let message = if fails { "exec: not found" } else { "sandbox is gone" }.to_owned();
            self.runs.entry(container).or_default().push((self.now, Some(self.now)));
            let input = Input::StartFailed { instance, stage: StartStage::Run, message };
            self.tell(input);
            return;
        }
        if self.running().any(|id| self.processes[&id].container == container) {
            self.fail(format!("two processes of {} at once", self.name(container)));
        }
        let n = self.starts.entry(container).or_default();
        let program = self.scripts[container.index()].program(*n as usize).clone();
        *n += 1;
        self.runs.entry(container).or_default().push((self.now, None));
        self.begin(container, instance, program);
        self.after(latency::SEEN, Happening::News(Input::Started { instance }));
    }
}

/// A probe's answer as an input.
const fn probe_done(instance: InstanceId, probe: ProbeKind, result: ProbeResult) -> Input {
    Input::ProbeDone { instance, probe, result }
}
