//! The engine alone: whole lives of pods in virtual time.
//!
//! The driver answers every request at once and does with each output what a driver has to; time is
//! CPU time of the one thread, so that neighbours on the machine do not count.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use holdfast_lifecycle::status::{ConditionKind, InstanceId};
use holdfast_lifecycle::{
    Container, ContainerId, Input, Kind, Lifecycle, Options, Output, Phase, Plan, Probe,
    ProbeResult, RestartPolicy, Time,
};

use crate::machine::cpu_time;
use crate::report::{Row, Section};
use crate::stats::Samples;

/// When containers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// As soon as they run.
    AtOnce,
    /// One after another, a virtual second apart, once all regular containers have been seen running.
    OneByOne,
}

/// What a life was like, to be sure that all of it happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Runs that were started.
    pub starts: usize,
    /// Statuses that were published.
    pub statuses: usize,
    /// The last phase.
    pub phase: Phase,
}

/// A pod of these containers, in this order, whose policy is `Never`.
pub fn plan(kinds: impl IntoIterator<Item = (Kind, usize)>) -> Plan {
    let mut containers = Vec::new();
    for (kind, count) in kinds {
        let word = match kind {
            Kind::Init => "init",
            Kind::Sidecar => "sidecar",
            Kind::Regular => "app",
            Kind::Ephemeral => "debug",
        };
        containers.extend(
            (0..count)
                .map(|at| Container::new(&format!("{word}-{at:04}"), kind, "registry/image:1")),
        );
    }
    Plan {
        namespace: "default".into(),
        name: "bench".into(),
        uid: "5f0c1d52-6f0e-4b0a-9a58-1f4a6f0c3f10".into(),
        restart_policy: RestartPolicy::Never,
        termination_grace: Duration::from_secs(30),
        active_deadline: None,
        host_network: true,
        readiness_gates: Vec::new(),
        containers,
    }
}

/// Lives one life from `new` to `Finished`.
///
/// # Panics
/// If the engine waits for something that will never come: then it is not the engine that it was.
pub fn live(plan: Plan, ends: Ends) -> Life {
    let mut now = Time::ZERO;
    let mut life = Life::default();
    let mut pod = Lifecycle::new(plan, Options::default(), now);
    let mut running: BTreeMap<InstanceId, ContainerId> = BTreeMap::new();
    loop {
        while let Some(output) = pod.poll() {
            match output {
                Output::MountVolumes => pod.handle(now, Input::VolumesMounted),
                Output::CreateSandbox { attempt } => {
                    pod.handle(now, Input::SandboxCreated { attempt, ip: None });
                }
                Output::Pull { container } => {
                    pod.handle(now, Input::Pulled { container, image_id: String::new() });
                }
                Output::Start { container, instance, .. } => {
                    life.starts += 1;
                    pod.handle(now, Input::Started { instance });
                    match (pod.plan().container(container).kind, ends) {
                        (Kind::Sidecar, _) => {}
                        (Kind::Regular, Ends::OneByOne) => {
                            running.insert(instance, container);
                        }
                        _ => pod.handle(now, exit(instance)),
                    }
                }
                Output::Stop { instance, .. } => pod.handle(now, exit(instance)),
                Output::Remove { instance, .. } => pod.handle(now, Input::Removed { instance }),
                Output::RunHook { instance, hook, .. } => {
                    pod.handle(now, Input::HookDone { instance, hook, result: Ok(()) });
                }
                Output::RunProbe { instance, probe, .. } => {
                    let result = ProbeResult::Success;
                    pod.handle(now, Input::ProbeDone { instance, probe, result });
                }
                Output::StatusChanged => {
                    life.statuses += 1;
                    let status = pod.status();
                    black_box((status.phase, status.is_true(&ConditionKind::Ready)));
                }
                Output::Event(event) => {
                    black_box(event);
                }
                Output::StopSandbox { .. } | Output::Finished => {}
            }
        }
        if pod.is_finished() {
            life.phase = pod.status().phase;
            return life;
        }
        match (pod.poll_timeout(), running.pop_first()) {
            (Some(at), first) => {
                running.extend(first);
                now = at;
                pod.handle(now, Input::Tick);
            }
            (None, Some((instance, _))) => {
                now = now + Duration::from_secs(1);
                pod.handle(now, exit(instance));
            }
            (None, None) => panic!("the engine waits for nothing: {pod:?}"),
        }
    }
}

const fn exit(instance: InstanceId) -> Input {
    Input::Exited { instance, code: 0, reason: None, message: String::new() }
}

/// CPU time of one life in nanoseconds: the median of `rounds` rounds, each of as many lives as fill
/// about `round`.
pub fn measure(plan: &Plan, ends: Ends, rounds: usize, round: Duration) -> f64 {
    let batch = |lives: usize| {
        let plans = vec![plan.clone(); lives];
        let start = cpu_time();
        for plan in plans {
            let life = black_box(live(plan, ends));
            assert_eq!(life.phase, Phase::Succeeded, "{life:?}");
        }
        cpu_time().saturating_sub(start).as_secs_f64() * 1e9 / lives as f64
    };
    let lives = (round.as_nanos() as f64 / batch(1)).clamp(1.0, 20_000.0) as usize;
    Samples::new((0..rounds).map(|_| batch(lives)).collect()).median()
}

/// Pods of one kind of container.
fn uniform(kind: Kind, count: usize) -> Plan {
    match kind {
        // A pod has at least one regular container.
        Kind::Init | Kind::Sidecar => plan([(kind, count), (Kind::Regular, 1)]),
        Kind::Regular | Kind::Ephemeral => plan([(Kind::Regular, count)]),
    }
}

/// Sidecars that each hold the next one back until their startup probe has passed.
fn probed(count: usize) -> Plan {
    let mut plan = uniform(Kind::Sidecar, count);
    for c in plan.containers.iter_mut().filter(|c| c.kind == Kind::Sidecar) {
        c.startup = Some(Probe::default());
        c.liveness = Some(Probe::default());
    }
    plan
}

/// Everything about the engine; pods have up to `largest` containers, and at least 10.
pub fn report(rounds: usize, round: Duration, largest: usize) -> Section {
    let mut section = Section::new(
        "Engine",
        "Virtual lifecycles on one core, from `Lifecycle::new` to `Output::Finished`; every request \
         is answered at once, every container ends with 0. CPU time, median of the rounds.",
    );
    let three = [
        ("3 regular containers", plan([(Kind::Regular, 3)])),
        ("init, sidecar, regular", plan([(Kind::Init, 1), (Kind::Sidecar, 1), (Kind::Regular, 1)])),
    ];
    for (name, plan) in three {
        let rate = 1e9 / measure(&plan, Ends::AtOnce, rounds, round);
        section.push(
            Row::new(&format!("lifecycles a second, {name}"))
                .wanted(">= 100,000")
                .got(&thousands(rate))
                .ok(rate >= 100_000.0),
        );
    }
    let mut sizes = vec![1, 10, 100, 1000];
    sizes.retain(|&n| n <= largest);
    type Shape = fn(usize) -> Plan;
    let shapes: [(&str, Shape, Ends); 5] = [
        ("all regular", |n| uniform(Kind::Regular, n), Ends::AtOnce),
        ("all regular, ending one by one", |n| uniform(Kind::Regular, n), Ends::OneByOne),
        ("all init, then one regular", |n| uniform(Kind::Init, n), Ends::AtOnce),
        ("all sidecars, and one regular", |n| uniform(Kind::Sidecar, n), Ends::AtOnce),
        ("all sidecars with startup and liveness probes, and one regular", probed, Ends::AtOnce),
    ];
    for (name, shape, ends) in shapes {
        let costs: Vec<f64> = sizes
            .iter()
            .map(|&n| {
                let plan = shape(n);
                let containers = plan.containers.len() as f64;
                measure(&plan, ends, rounds, round) / containers / 1e3
            })
            .collect();
        let text: Vec<String> = costs.iter().map(|us| format!("{us:.2}")).collect();
        // A pod costs something whatever it holds, so the smallest is no measure for the rest.
        let [_, ten, .., most] = costs[..] else { continue };
        section.push(
            Row::new(&format!("µs a container at {} containers, {name}", list(&sizes)))
                .wanted("flat: the last at most 1.5 times that at 10")
                .got(&format!("{} ({:.1} times)", text.join(", "), most / ten))
                .ok(most <= 1.5 * ten),
        );
    }
    section
}

/// `1, 10, 100`.
fn list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// `123456.7` as `123,457`.
fn thousands(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_a_whole_life() {
        let three = plan([(Kind::Init, 1), (Kind::Sidecar, 1), (Kind::Regular, 1)]);
        let life = live(three, Ends::AtOnce);
        assert_eq!((life.starts, life.phase), (3, Phase::Succeeded));
        assert!(life.statuses >= 4, "{life:?}");
    }

    #[test]
    fn ends_one_by_one_are_published_one_by_one() {
        let life = live(plan([(Kind::Regular, 10)]), Ends::OneByOne);
        assert!(life.statuses >= 10, "{life:?}");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
    }
}
