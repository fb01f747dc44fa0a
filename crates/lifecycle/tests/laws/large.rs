//! Large pods to which everything happens, in any order and whether it makes sense or not.
//!
//! The engine keeps account of all containers from change to change, and compares that with a walk
//! over all of them wherever debug assertions are on. These pods are larger than a machine word has
//! bits, and get inputs that a [`World`](crate::world::World) never gives.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_lifecycle::status::InstanceId;
use holdfast_lifecycle::*;
use proptest::prelude::*;

use crate::random;

/// An engine, and what it waits for.
struct Chaos {
    engine: Lifecycle,
    now: Time,
    /// Answers to what was asked: the good one and the bad one.
    open: Vec<[Input; 2]>,
    up: BTreeSet<InstanceId>,
    statuses: usize,
}

impl Chaos {
    fn feed(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        while let Some(output) = self.engine.poll() {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        let text = || "no".to_owned();
        self.open.push(match output {
            Output::MountVolumes => {
                [Input::VolumesMounted, Input::VolumesFailed { message: text() }]
            }
            Output::CreateSandbox { attempt } => [
                Input::SandboxCreated { attempt, ip: Some([10, 0, 0, 1].into()) },
                Input::SandboxFailed { attempt, message: text() },
            ],
            Output::Pull { container } => [
                Input::Pulled { container, image_id: "i".into() },
                Input::PullFailed { container, reason: "ErrImagePull".into(), message: text() },
            ],
            Output::Start { instance, .. } => [
                Input::Started { instance },
                Input::StartFailed { instance, stage: StartStage::Create, message: text() },
            ],
            Output::RunHook { instance, hook, .. } => {
                [Ok(()), Err(text())].map(|result| Input::HookDone { instance, hook, result })
            }
            Output::RunProbe { instance, probe, .. } => {
                [ProbeResult::Success, ProbeResult::Failure(text())]
                    .map(|result| Input::ProbeDone { instance, probe, result })
            }
            Output::Stop { instance, .. } => [137, 0].map(|code| exit(instance, code)),
            Output::StatusChanged => {
                self.statuses += 1;
                return;
            }
            Output::StopSandbox { .. }
            | Output::Remove { .. }
            | Output::Event(_)
            | Output::Finished => return,
        });
    }

    /// Does what the dice say.
    fn step(&mut self, (what, which): (u8, u16)) {
        let pick = |n: usize| usize::from(which) % n.max(1);
        match what {
            // Mostly good answers, so that pods get far.
            0..=159 if !self.open.is_empty() => {
                let [good, bad] = self.open.remove(pick(self.open.len()));
                let input = if what < 145 { good } else { bad };
                if let Input::Started { instance } = &input {
                    self.up.insert(*instance);
                }
                if let Input::Exited { instance, .. } = &input {
                    self.up.remove(instance);
                }
                self.feed(input);
            }
            0..=189 => {
                if let Some(at) = self.engine.poll_timeout() {
                    self.now = self.now.max(at);
                }
                self.feed(Input::Tick);
            }
            190..=239 => {
                if let Some(instance) = self.up.iter().nth(pick(self.up.len())).copied() {
                    self.feed(match what {
                        190..=199 => exit(instance, 1),
                        200 => Input::Unknown { instance },
                        201 => Input::Removed { instance },
                        _ => exit(instance, 0),
                    });
                    self.up.remove(&instance);
                }
            }
            240 => self.feed(Input::SandboxLost),
            241 => self.feed(Input::DriverRestarted),
            242..=245 => {
                let gate = if what < 244 { "a" } else { "b" };
                self.feed(Input::GateSet { gate: gate.into(), value: which % 2 == 0 });
            }
            246..=248 => {
                let mut plan = self.engine.plan().clone();
                let at = pick(plan.containers.len());
                plan.containers[at].image = "other".into();
                self.feed(Input::PlanChanged(Box::new(plan)));
            }
            249 | 250 => {
                let mut plan = self.engine.plan().clone();
                let name = format!("e{}", plan.containers.len());
                plan.containers.push(Container::new(&name, Kind::Ephemeral, "image"));
                self.feed(Input::PlanChanged(Box::new(plan)));
            }
            251 | 252 => {
                let container = ContainerId(pick(self.engine.plan().containers.len()) as u32);
                let instance = InstanceId(1_000_000 + u64::from(which));
                self.up.insert(instance);
                self.feed(Input::Found { container, instance });
            }
            253 if which % 4 == 0 => {
                self.feed(Input::Delete { grace: Some(Duration::from_secs(5)) });
            }
            254 if which % 4 == 0 => {
                let grace = Some(Duration::from_secs(1));
                let (reason, message) = ("Evicted".into(), "full".into());
                self.feed(Input::Evict { reason, message, grace });
            }
            _ => {}
        }
    }
}

fn exit(instance: InstanceId, code: i32) -> Input {
    Input::Exited { instance, code, reason: None, message: String::new() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn accounts_are_right(
        plan in random::plan(0..80, 1..80),
        minor in 29..=36u32,
        dice in prop::collection::vec(any::<(u8, u16)>(), 1..600),
    ) {
        let plan = Plan { readiness_gates: vec!["a".into(), "b".into()], ..plan };
        let options = Options { minor, ..Options::default() };
        let mut chaos = Chaos {
            engine: Lifecycle::new(plan, options, Time::ZERO),
            now: Time::ZERO,
            open: Vec::new(),
            up: BTreeSet::new(),
            statuses: 0,
        };
        chaos.feed(Input::Tick);
        for die in dice {
            chaos.step(die);
        }
        prop_assert!(chaos.statuses > 0);
    }
}
