//! What differs between the versions of Kubernetes: each row on both sides of its version.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::time::Duration;

use holdfast_lifecycle::actions::{self, Context, PodActions};
use holdfast_lifecycle::columns::{self, Meta};
use holdfast_lifecycle::plan::{RestartRule, RuleAction};
use holdfast_lifecycle::probe::ProbeResults;
use holdfast_lifecycle::restart::{Verdict, on_exit};
use holdfast_lifecycle::status::{ConditionKind, ContainerStatus, State, Terminated};
use holdfast_lifecycle::view::{Instance, InstanceState, RuntimeView, Sandbox};
use holdfast_lifecycle::{
    Container, ContainerId, Features, Input, InstanceId, Kind, Lifecycle, Options, Output, Phase,
    Plan, PodStatus, Probe, ProbeKind, ProbeResult, RestartPolicy, Time,
};

fn plan(policy: RestartPolicy, containers: &[(&str, Kind)]) -> Plan {
    let container = |&(name, kind): &(&str, Kind)| Container::new(name, kind, "image");
    Plan {
        namespace: "test".into(),
        name: "pod".into(),
        uid: "uid".into(),
        restart_policy: policy,
        termination_grace: Duration::from_secs(30),
        active_deadline: None,
        host_network: true,
        readiness_gates: Vec::new(),
        containers: containers.iter().map(container).collect(),
    }
}

fn options(minor: u32) -> Options {
    Options { minor, ..Options::default() }
}

/// Every version, with what is observed on it, against the version from which it is `true`.
fn since(first: u32, observe: impl Fn(u32) -> bool) {
    for minor in Options::MINORS {
        assert_eq!(observe(minor), minor >= first, "1.{minor}");
    }
}

/// A runtime that holds one sandbox and these newest runs.
fn view(plan: &Plan, runs: &[Option<(i32, &'static str)>]) -> RuntimeView {
    let mut view = RuntimeView::new(plan);
    view.sandboxes.push(Sandbox { attempt: 0, ready: true, ip: None });
    for (at, run) in runs.iter().enumerate() {
        let Some((exit_code, reason)) = *run else { continue };
        view.push(Instance {
            id: InstanceId(at as u64 + 1),
            container: ContainerId(at as u32),
            sandbox: 0,
            state: InstanceState::Exited(Terminated {
                exit_code,
                reason: reason.into(),
                finished_at: Some(Time::from_secs(1)),
                ..Terminated::default()
            }),
            image: "image".into(),
            image_id: "".into(),
            created_at: Time::ZERO,
            restart_count: 0,
        });
    }
    view
}

fn compute(plan: &Plan, view: &RuntimeView, features: &Features) -> PodActions {
    actions::compute(&Context {
        plan,
        view,
        results: &ProbeResults::default(),
        features,
        deleted: false,
        restarting_all: false,
    })
}

/// A pod whose runtime does what it is asked at once; what it was asked for is kept.
struct World {
    pod: Lifecycle,
    now: Time,
    asked: Vec<(Time, Output)>,
    /// When init containers end: a second after their start.
    ends: Vec<(Time, InstanceId)>,
    /// What startup and readiness probes say.
    answer: ProbeResult,
}

impl World {
    fn new(plan: Plan, minor: u32) -> Self {
        let pod = Lifecycle::new(plan, options(minor), Time::ZERO);
        Self {
            pod,
            now: Time::ZERO,
            asked: Vec::new(),
            ends: Vec::new(),
            answer: ProbeResult::Success,
        }
    }

    fn feed(&mut self, input: Input) {
        self.pod.handle(self.now, input);
        while let Some(output) = self.pod.poll() {
            self.asked.push((self.now, output.clone()));
            let answer = match output {
                Output::MountVolumes => Input::VolumesMounted,
                Output::CreateSandbox { attempt } => Input::SandboxCreated { attempt, ip: None },
                Output::Pull { container } => Input::Pulled { container, image_id: String::new() },
                Output::Start { container, instance, .. } => {
                    if self.pod.plan().container(container).kind == Kind::Init {
                        self.ends.push((self.now + Duration::from_secs(1), instance));
                    }
                    Input::Started { instance }
                }
                Output::Stop { instance, .. } => exited(instance, 0),
                Output::RunProbe { instance, probe, .. } => {
                    Input::ProbeDone { instance, probe, result: self.answer.clone() }
                }
                _ => continue,
            };
            self.pod.handle(self.now, answer);
        }
    }

    /// Lets so many seconds pass.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.feed(Input::Tick);
        loop {
            let first = self.ends.iter().map(|&(at, _)| at).min();
            let next = [self.pod.poll_timeout(), first].into_iter().flatten().min();
            let Some(at) = next.filter(|&at| at <= end) else { break };
            self.now = at.max(self.now);
            let now = self.now;
            for (_, instance) in self.ends.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>()
            {
                self.feed(exited(instance, 0));
            }
            self.feed(Input::Tick);
        }
        self.now = end;
    }

    fn run_of(&self, name: &str) -> InstanceId {
        self.pod.view().newest(self.pod.plan().find(name).unwrap()).unwrap().id
    }

    fn end(&mut self, name: &str, code: i32) {
        let instance = self.run_of(name);
        self.feed(exited(instance, code));
    }

    /// The sandbox is lost with all that ran in it.
    fn lose_sandbox(&mut self) {
        let running: Vec<InstanceId> =
            self.pod.view().all().filter(|i| i.is_running()).map(|i| i.id).collect();
        for instance in running {
            self.pod.handle(self.now, exited(instance, 137));
        }
        self.feed(Input::SandboxLost);
    }

    fn status(&self, name: &str) -> &ContainerStatus {
        self.pod.status().all().find(|s| &*s.name == name).unwrap()
    }
}

fn exited(instance: InstanceId, code: i32) -> Input {
    Input::Exited { instance, code, reason: None, message: String::new() }
}

fn every_second() -> Option<Probe> {
    Some(Probe { period: Duration::from_secs(1), ..Probe::default() })
}

/// Native sidecars are on in every version that is known.
#[test]
fn sidecars_are_there_from_the_first_version_on() {
    since(29, |minor| {
        let plan = plan(RestartPolicy::Never, &[("s", Kind::Sidecar), ("r", Kind::Regular)]);
        let mut world = World::new(plan, minor);
        world.run(2);
        world.end("s", 1);
        world.run(2);
        world.status("s").restart_count == 1 && world.pod.status().phase == Phase::Running
    });
}

/// `ContainerRestartRules`: off in 1.34, on in 1.35.
#[test]
fn rules_of_containers() {
    let mut plan = plan(RestartPolicy::Never, &[("r", Kind::Regular)]);
    plan.containers[0].restart_policy = Some(RestartPolicy::Never);
    let rule = RestartRule { action: RuleAction::Restart, negated: false, values: vec![42] };
    plan.containers[0].restart_rules.push(rule);
    since(35, |minor| {
        on_exit(&plan, &plan.containers[0], 42, &options(minor).features()) == Verdict::Restart
    });
}

/// `RestartAllContainersOnContainerExits`: off in 1.35, on in 1.36.
#[test]
fn rules_that_restart_all() {
    let kinds = [("a", Kind::Regular), ("b", Kind::Regular)];
    let mut plan = plan(RestartPolicy::Never, &kinds);
    plan.containers[0].restart_policy = Some(RestartPolicy::Never);
    let action = RuleAction::RestartAllContainers;
    plan.containers[0].restart_rules.push(RestartRule { action, negated: false, values: vec![42] });
    since(36, |minor| {
        let mut world = World::new(plan.clone(), minor);
        world.run(2);
        world.end("a", 42);
        world.run(60);
        world.status("b").restart_count == 1
    });
}

/// `ChangeContainerStatusOnKubeletRestart`: a restarted kubelet made Ready pods unready up to 1.34.
#[test]
fn a_restarted_kubelet_keeps_what_is_ready() {
    let mut plan = plan(RestartPolicy::Always, &[("r", Kind::Regular)]);
    plan.containers[0].readiness = every_second();
    since(35, |minor| {
        let mut world = World::new(plan.clone(), minor);
        world.run(20);
        assert!(world.pod.status().is_true(&ConditionKind::Ready), "1.{minor}");
        // From here on nobody answers.
        world.answer = ProbeResult::Error("no answer".into());
        world.feed(Input::DriverRestarted);
        world.run(5);
        world.status("r").ready && world.pod.status().is_true(&ConditionKind::Ready)
    });
}

/// `printPod`: an error is shown rather than `Completed` from 1.35 on.
#[test]
fn an_error_is_shown_rather_than_completed() {
    let plan = plan(RestartPolicy::Never, &[("a", Kind::Regular), ("b", Kind::Regular)]);
    let ended = |name: &str, exit_code, reason: &'static str| ContainerStatus {
        name: name.into(),
        state: State::Terminated(Terminated {
            exit_code,
            reason: reason.into(),
            ..Terminated::default()
        }),
        last_state: None,
        ready: false,
        started: None,
        restart_count: 0,
        image: "image".into(),
        image_id: "".into(),
        instance: None,
    };
    let status = PodStatus {
        phase: Phase::Failed,
        regular: vec![ended("a", 0, "Completed"), ended("b", 1, "Error")],
        ..PodStatus::default()
    };
    let meta = Meta { deleting: false, scheduling_gated: false };
    since(35, |minor| {
        let row = columns::row(&plan, &status, meta, &options(minor).features());
        assert!(["Completed", "Error"].contains(&&*row.status), "{}", row.status);
        row.status == "Error"
    });
}

/// The phase asks for a regular container in the current sandbox from 1.33 on: a pod that comes up
/// again is Pending while a sidecar has not started.
#[test]
fn a_pod_that_comes_up_again_is_pending() {
    let kinds = [("s", Kind::Sidecar), ("r", Kind::Regular)];
    let mut plan = plan(RestartPolicy::Always, &kinds);
    plan.containers[0].startup = every_second();
    plan.containers[0].startup.as_mut().unwrap().failure_threshold = 100;
    since(33, |minor| {
        let mut world = World::new(plan.clone(), minor);
        world.run(20);
        assert_eq!(world.pod.status().phase, Phase::Running, "1.{minor}");
        world.answer = ProbeResult::Failure("not yet".into());
        world.lose_sandbox();
        world.run(5);
        assert_eq!(world.status("s").started, Some(false), "1.{minor}");
        world.pod.status().phase == Phase::Pending
    });
}

/// kubernetes#124002: after a reboot the init containers run again even if a regular container is
/// known to have ended; 1.31.
#[test]
fn an_ended_container_proves_no_initialization() {
    let plan = plan(RestartPolicy::Always, &[("i", Kind::Init), ("r", Kind::Regular)]);
    let view = view(&plan, &[None, Some((0, "Completed"))]);
    since(31, |minor| {
        let actions = compute(&plan, &view, &options(minor).features());
        assert_ne!(actions.start_init.is_empty(), actions.start_regular.is_empty(), "1.{minor}");
        !actions.start_init.is_empty()
    });
}

/// kubernetes#125935: up to 1.30 a sidecar waits until its grace period is over for a later one that
/// does not run.
#[test]
fn a_sidecar_waits_for_no_one_who_does_not_run() {
    let kinds = [("s1", Kind::Sidecar), ("s2", Kind::Sidecar), ("r", Kind::Regular)];
    let mut plan = plan(RestartPolicy::Always, &kinds);
    plan.containers[0].startup = every_second();
    plan.containers[0].startup.as_mut().unwrap().failure_threshold = 100;
    since(31, |minor| {
        let mut world = World::new(plan.clone(), minor);
        world.answer = ProbeResult::Failure("not yet".into());
        world.run(5);
        let told = world.now;
        world.feed(Input::Delete { grace: None });
        world.run(60);
        assert!(world.pod.is_finished(), "1.{minor}");
        let stops: Vec<Time> = world
            .asked
            .iter()
            .filter_map(|(at, o)| matches!(o, Output::Stop { .. }).then_some(*at))
            .collect();
        let after: Vec<Duration> = stops.iter().map(|at| at.since(told)).collect();
        assert!(after == [Duration::ZERO] || after == [plan.termination_grace], "{after:?}");
        after == [Duration::ZERO]
    });
}

/// An init container that was killed for memory and yet ended with 0 has failed, from 1.34 on.
#[test]
fn an_init_container_that_ran_out_of_memory_has_failed() {
    let plan = plan(RestartPolicy::Never, &[("i", Kind::Init), ("r", Kind::Regular)]);
    let view = view(&plan, &[Some((0, "OOMKilled")), None]);
    since(34, |minor| {
        let actions = compute(&plan, &view, &options(minor).features());
        assert_ne!(actions.kill_pod, !actions.start_regular.is_empty(), "1.{minor}");
        actions.kill_pod
    });
}

/// With the gate of 1.36 the count of an init container that was purged goes on; before, only that of
/// the first does.
#[test]
fn restart_counts_of_purged_init_containers() {
    let kinds = [("i1", Kind::Init), ("i2", Kind::Init), ("r", Kind::Regular)];
    since(36, |minor| {
        let mut world = World::new(plan(RestartPolicy::Always, &kinds), minor);
        world.run(5);
        world.lose_sandbox();
        world.run(60);
        assert_eq!(world.pod.status().phase, Phase::Running, "1.{minor}");
        assert_eq!(world.status("i1").restart_count, 1, "1.{minor}");
        world.status("i2").restart_count == 1
    });
}

/// `Initialized` is never taken back with the gate of 1.36.
#[test]
fn what_was_initialized_stays_so() {
    let kinds = [("s", Kind::Sidecar), ("r", Kind::Regular)];
    let mut plan = plan(RestartPolicy::Always, &kinds);
    plan.containers[0].startup = every_second();
    plan.containers[0].startup.as_mut().unwrap().failure_threshold = 100;
    since(36, |minor| {
        let mut world = World::new(plan.clone(), minor);
        world.run(20);
        assert!(world.pod.status().is_true(&ConditionKind::Initialized), "1.{minor}");
        // The runtime forgets what ran in the old sandbox.
        world.answer = ProbeResult::Failure("not yet".into());
        let instance = world.run_of("r");
        world.pod.handle(world.now, Input::Removed { instance });
        world.lose_sandbox();
        world.run(5);
        world.pod.status().is_true(&ConditionKind::Initialized)
    });
}

/// Liveness answers the same in all versions: a sanity check of this file's own world.
#[test]
fn what_does_not_differ() {
    let mut plan = plan(RestartPolicy::Always, &[("r", Kind::Regular)]);
    plan.containers[0].liveness = every_second();
    for minor in Options::MINORS {
        let mut world = World::new(plan.clone(), minor);
        world.answer = ProbeResult::Failure("no".into());
        world.run(8);
        let probes = world
            .asked
            .iter()
            .filter(|(_, o)| matches!(o, Output::RunProbe { probe: ProbeKind::Liveness, .. }));
        assert!(probes.count() >= 3, "1.{minor}");
        assert!(world.status("r").restart_count >= 1, "1.{minor}");
    }
}
