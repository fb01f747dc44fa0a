//! Details that no case of upstream and no law holds: found by changing the code and watching that
//! every test still passed.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::time::Duration;

use holdfast_lifecycle::columns::{self, Meta};
use holdfast_lifecycle::restart::{Verdict, effective_policy, on_exit};
use holdfast_lifecycle::status::{ContainerStatus, State, Terminated};
use holdfast_lifecycle::{
    Container, HookKind, Input, Kind, Lifecycle, Options, Output, Phase, Plan, PodStatus,
    RestartPolicy, Time, conditions,
};

fn plan(policy: RestartPolicy, containers: Vec<Container>) -> Plan {
    Plan {
        namespace: "test".into(),
        name: "pod".into(),
        uid: "uid".into(),
        restart_policy: policy,
        termination_grace: Duration::ZERO,
        active_deadline: None,
        host_network: true,
        readiness_gates: Vec::new(),
        containers,
    }
}

fn ended(name: &str, code: i32, reason: &'static str) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        state: State::Terminated(Terminated {
            exit_code: code,
            reason: reason.into(),
            message: "".into(),
            started_at: None,
            finished_at: None,
            instance: None,
        }),
        last_state: None,
        ready: false,
        started: None,
        restart_count: 0,
        image: "image".into(),
        image_id: "".into(),
        instance: None,
    }
}

/// What a pod asked for while its regular containers ended at once and its sidecars when told to.
fn whole_life(plan: Plan) -> Vec<Output> {
    let kinds: Vec<Kind> = plan.containers.iter().map(|c| c.kind).collect();
    let mut pod = Lifecycle::new(plan, Options::default(), Time::ZERO);
    let (mut now, mut asked) = (Time::ZERO, Vec::new());
    while !pod.is_finished() {
        let Some(output) = pod.poll() else {
            now = pod.poll_timeout().expect("it waits for nothing").max(now);
            pod.handle(now, Input::Tick);
            continue;
        };
        asked.push(output.clone());
        match output {
            Output::MountVolumes => pod.handle(now, Input::VolumesMounted),
            Output::CreateSandbox { attempt } => {
                pod.handle(now, Input::SandboxCreated { attempt, ip: None });
            }
            Output::Pull { container } => {
                pod.handle(now, Input::Pulled { container, image_id: String::new() });
            }
            Output::Start { container, instance, .. } => {
                pod.handle(now, Input::Started { instance });
                if kinds[container.index()] == Kind::Regular {
                    pod.handle(now, exited(instance));
                }
            }
            Output::Stop { instance, .. } => pod.handle(now, exited(instance)),
            Output::RunHook { instance, hook, .. } => {
                pod.handle(now, Input::HookDone { instance, hook, result: Ok(()) });
            }
            _ => {}
        }
    }
    asked
}

fn exited(instance: holdfast_lifecycle::InstanceId) -> Input {
    Input::Exited { instance, code: 0, reason: None, message: String::new() }
}

/// kubelet: `killContainer` runs the hook only `if gracePeriod > 0`.
#[test]
fn without_grace_there_is_no_pre_stop() {
    let mut sidecar = Container::new("s", Kind::Sidecar, "image");
    sidecar.pre_stop = true;
    let containers = vec![sidecar, Container::new("r", Kind::Regular, "image")];
    let hooks = |grace| {
        let mut plan = plan(RestartPolicy::Never, containers.clone());
        plan.termination_grace = Duration::from_secs(grace);
        let asked = whole_life(plan);
        assert!(asked.iter().any(|o| matches!(o, Output::Stop { .. })), "{asked:#?}");
        let pre_stop = |o: &&Output| matches!(o, Output::RunHook { hook: HookKind::PreStop, .. });
        asked.iter().filter(pre_stop).count()
    };
    assert_eq!((hooks(0), hooks(1)), (0, 1));
}

/// kubelet: `evictPod` overrides the grace period of the pod (`immediateEvictionGracePeriodSeconds`);
/// a stop signal has 2 s at least.
#[test]
fn an_eviction_brings_its_own_grace_period() {
    let stopped = |grace| {
        let mut plan =
            plan(RestartPolicy::Always, vec![Container::new("r", Kind::Regular, "image")]);
        plan.termination_grace = Duration::from_secs(30);
        let mut pod = Lifecycle::new(plan, Options::default(), Time::ZERO);
        let mut stops = Vec::new();
        for second in 0..10 {
            let now = Time::from_secs(second);
            if second == 5 {
                let (reason, message) = ("Evicted".into(), "full".into());
                pod.handle(now, Input::Evict { reason, message, grace });
            }
            pod.handle(now, Input::Tick);
            while let Some(output) = pod.poll() {
                let answer = match output {
                    Output::MountVolumes => Input::VolumesMounted,
                    Output::CreateSandbox { attempt } => {
                        Input::SandboxCreated { attempt, ip: None }
                    }
                    Output::Pull { container } => {
                        Input::Pulled { container, image_id: String::new() }
                    }
                    Output::Start { instance, .. } => Input::Started { instance },
                    Output::Stop { instance, grace, .. } => {
                        stops.push(grace.as_secs());
                        exited(instance)
                    }
                    _ => continue,
                };
                pod.handle(now, answer);
            }
        }
        assert_eq!((pod.status().phase, &*pod.status().reason), (Phase::Failed, "Evicted"));
        stops
    };
    assert_eq!(stopped(Some(Duration::from_secs(1))), [2]);
    assert_eq!(stopped(None), [30]);
}

/// kubelet: `GenerateContainersReadyCondition` says PodCompleted only if it knows every container.
#[test]
fn a_pod_with_unknown_containers_is_not_said_to_be_completed() {
    let containers = ["a", "b"].map(|name| Container::new(name, Kind::Regular, "image")).to_vec();
    let plan = plan(RestartPolicy::Never, containers);
    let mut status =
        PodStatus { regular: vec![ended("a", 0, "Completed")], ..PodStatus::default() };
    let ready = |status: &PodStatus| {
        conditions::containers_ready(&plan, Some(status), Phase::Succeeded).reason.into_owned()
    };
    assert_eq!(ready(&status), "ContainersNotReady");
    status.regular.push(ended("b", 0, "Completed"));
    assert_eq!(ready(&status), "PodCompleted");
}

/// A container's own restartPolicy counts from 1.35 on (ContainerRestartRules).
#[test]
fn an_older_kubernetes_knows_no_restart_policy_of_containers() {
    let mut container = Container::new("c", Kind::Regular, "image");
    container.restart_policy = Some(RestartPolicy::Always);
    let plan = plan(RestartPolicy::Never, vec![container]);
    let container = &plan.containers[0];
    for (minor, policy, verdict) in
        [(34, RestartPolicy::Never, Verdict::Stay), (35, RestartPolicy::Always, Verdict::Restart)]
    {
        let features = Options { minor, ..Options::default() }.features();
        assert_eq!(effective_policy(&plan, container, &features), policy, "1.{minor}");
        assert_eq!(on_exit(&plan, container, 1, &features), verdict, "1.{minor}");
    }
}

/// kubectl: `printPod` walks from the last container to the first, and the last error it comes to wins.
#[test]
fn the_error_of_the_first_container_is_shown() {
    let names = ["a", "b", "c"];
    let containers = names.map(|name| Container::new(name, Kind::Regular, "image")).to_vec();
    let plan = plan(RestartPolicy::Never, containers);
    let status = PodStatus {
        phase: Phase::Failed,
        regular: vec![
            ended("a", 0, "Completed"),
            ended("b", 1, "Error"),
            ended("c", 137, "OOMKilled"),
        ],
        ..PodStatus::default()
    };
    let meta = Meta { deleting: false, scheduling_gated: false };
    let row = columns::row(&plan, &status, meta, &Options::default().features());
    assert_eq!(row.status, "Error");
}
