//! Random pods, random worlds.

use std::ops::Range;
use std::time::Duration;

use holdfast_lifecycle::plan::{RestartRule, RuleAction};
use holdfast_lifecycle::*;
use proptest::prelude::*;

use crate::world::World;

fn probe() -> impl Strategy<Value = Option<Probe>> {
    let some = (0..4u64, 1..4u64, 1..3u32, prop::option::of(1..6u64)).prop_map(
        |(delay, period, failures, grace)| Probe {
            initial_delay: Duration::from_secs(delay),
            period: Duration::from_secs(period),
            failure_threshold: failures,
            termination_grace: grace.map(Duration::from_secs),
            ..Probe::default()
        },
    );
    prop_oneof![2 => Just(None), 1 => some.prop_map(Some)]
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ]
}

fn rules() -> impl Strategy<Value = Vec<RestartRule>> {
    let rule = (any::<bool>(), any::<bool>(), prop::collection::vec(0..4i32, 1..3)).prop_map(
        |(all, negated, values)| RestartRule {
            action: if all { RuleAction::RestartAllContainers } else { RuleAction::Restart },
            negated,
            values,
        },
    );
    prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(rule, 1..3)]
}

fn container(kinds: &'static [Kind]) -> impl Strategy<Value = Container> {
    let parts = (
        prop::sample::select(kinds),
        prop::option::weighted(0.2, policy()),
        rules(),
        probe(),
        probe(),
        probe(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    parts.prop_map(|(kind, own, rules, startup, readiness, liveness, post_start, pre_stop)| {
        let mut c = Container::new("", kind, "image");
        if kind != Kind::Sidecar {
            c.restart_policy = own;
            if own.is_some() {
                c.restart_rules = rules;
            }
        }
        if kind != Kind::Init {
            // Only a readiness probe may not have a grace period of its own.
            c.readiness = readiness.map(|p| Probe { termination_grace: None, ..p });
            (c.startup, c.liveness) = (startup, liveness);
            (c.post_start, c.pre_stop) = (post_start, pre_stop);
        }
        c
    })
}

/// A pod with so many entries in its init list, and so many regular containers.
pub(crate) fn plan(inits: Range<usize>, regulars: Range<usize>) -> impl Strategy<Value = Plan> {
    let inits = prop::collection::vec(container(&[Kind::Init, Kind::Sidecar]), inits);
    let regulars = prop::collection::vec(container(&[Kind::Regular]), regulars);
    let deadline = prop::option::weighted(0.2, 5..60u64);
    (inits, regulars, policy(), 1..8u64, deadline).prop_map(
        |(inits, regulars, restart_policy, grace, deadline)| {
            let mut containers: Vec<Container> = inits.into_iter().chain(regulars).collect();
            for (i, c) in containers.iter_mut().enumerate() {
                c.name = format!("c{i}").into();
            }
            Plan {
                namespace: "default".into(),
                name: "pod".into(),
                uid: "uid".into(),
                restart_policy,
                termination_grace: Duration::from_secs(grace),
                active_deadline: deadline.map(Duration::from_secs),
                host_network: false,
                readiness_gates: Vec::new(),
                containers,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold(plan in plan(0..4, 1..4), minor in 29..=36u32, dice in prop::collection::vec(any::<u16>(), 1..120)) {
        let options = Options { minor, ..Options::default() };
        let mut world = World::new(plan.clone(), options.clone());
        world.record = true;
        for die in dice {
            let choices = world.choices(&[0, 0, 1, 2], 40, 3);
            if choices.is_empty() {
                break;
            }
            world.choose(&choices[usize::from(die) % choices.len()]);
        }
        // The same inputs give the same outputs.
        let mut again = World::new(plan, options);
        let mut got = Vec::new();
        for (at, input) in &world.fed {
            again.engine.handle(*at, input.clone());
            got.extend(std::iter::from_fn(|| again.engine.poll()));
        }
        prop_assert_eq!(got, world.got);
        prop_assert_eq!(again.engine.status(), world.engine.status());
    }

    /// Left alone with answers that are good, every pod that can end does, once it is deleted.
    #[test]
    fn a_deleted_pod_ends(plan in plan(0..4, 1..4), dice in prop::collection::vec(any::<u16>(), 1..60)) {
        let mut world = World::new(plan, Options::default());
        for die in dice {
            let choices = world.choices(&[0, 1], 20, 1);
            if choices.is_empty() {
                break;
            }
            world.choose(&choices[usize::from(die) % choices.len()]);
        }
        world.engine_delete();
        for _ in 0..2_000 {
            if world.engine.is_finished() {
                return Ok(());
            }
            let choices = world.choices(&[], 0, 0);
            prop_assert!(!choices.is_empty());
            world.choose(&choices[0]);
        }
        prop_assert!(false, "never ends: {:#?}", world.engine);
    }
}

impl World {
    fn engine_delete(&mut self) {
        if !self.engine.is_finished() && self.engine.deletion().is_none() {
            self.choose(&crate::world::Choice::Delete(2));
        }
    }
}
