//! What holds for every Job, over random specs, pods and moments. `World::check` looks at the
//! status after every input.

use std::time::Duration;

use holdfast_lifecycle::job::{
    Action, CompletionMode, JobConditionKind, JobInput, JobSpec, PodReplacement, SuccessRule,
};
use holdfast_lifecycle::plan::RestartPolicy;
use proptest::prelude::*;

use crate::NOW;
use crate::sync_job::exit_codes;
use crate::world::{Run, World};

/// A random Job that must come to an end: failures are limited.
fn spec() -> impl Strategy<Value = JobSpec> {
    let size = (0_u32..6, prop::option::weighted(0.8, 0_u32..8), any::<bool>());
    let limits = (0_u32..5, prop::option::of(0_u32..3), prop::option::of(0_u32..3));
    let times = (prop::option::of(1_u64..300), prop::option::of(0_u64..50));
    let policies = (any::<bool>(), 0_u8..4, prop::option::of((0_u32..4, any::<bool>())));
    (size, limits, times, policies).prop_map(|(size, limits, times, policies)| {
        let (parallelism, completions, indexed) = size;
        let (backoff_limit, per_index, max_failed_indexes) = limits;
        let (deadline, ttl) = times;
        let (replace_failed, policy, success) = policies;
        let indexed = indexed && completions.is_some();
        let per_index = per_index.filter(|_| indexed);
        let failure_policy = match policy {
            0 => Some(vec![exit_codes(Action::FailJob, &[3])]),
            1 => Some(vec![exit_codes(Action::Count, &[2]), exit_codes(Action::FailIndex, &[1])]),
            _ => None,
        };
        let rule = |(count, all)| {
            let indexes = if all { Some("0-3".into()) } else { None };
            vec![SuccessRule { indexes, count: Some(count + 1) }]
        };
        JobSpec {
            // A Job of no pods at a time never ends.
            parallelism: parallelism.max(u32::from(deadline.is_none())),
            completions,
            mode: if indexed { CompletionMode::Indexed } else { CompletionMode::NonIndexed },
            backoff_limit,
            backoff_limit_per_index: per_index,
            max_failed_indexes: max_failed_indexes.filter(|_| per_index.is_some()),
            success_policy: success.filter(|_| indexed).map(rule),
            active_deadline: deadline.map(Duration::from_secs),
            ttl_after_finished: ttl.map(Duration::from_secs),
            replacement: match replace_failed || failure_policy.is_some() {
                true => PodReplacement::Failed,
                false => PodReplacement::TerminatingOrFailed,
            },
            failure_policy,
            restart_policy: RestartPolicy::Never,
            ..JobSpec::new("default", "j")
        }
    })
}

/// How pods run: their time and exit codes, over and over.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    let code = prop_oneof![3 => Just(0), 1 => 1..4_i32];
    let one = (0_u64..40, code, 0_u64..10).prop_map(|(lasts, code, stops)| Run {
        stops_in: Duration::from_secs(stops),
        ..Run::new(lasts, code)
    });
    prop::collection::vec(one, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends(spec in spec(), runs in runs(), minor in 29_u32..37) {
        let mut n = 0;
        let mut world = World::new(spec.clone(), minor, NOW, |_| {
            n += 1;
            runs[n % runs.len()]
        });
        world.run(100_000);
        let status = world.job.status();
        prop_assert!(status.finished().is_some(), "{status:?}");
        // Before 1.31 a Job does not wait for its last pods.
        prop_assert!(status.terminating == 0 || minor < 31);
        prop_assert!(world.most_active <= spec.parallelism as usize);
        prop_assert_eq!(world.expired, spec.ttl_after_finished.is_some());
        // An interim condition comes before the last one, from 1.31 on always.
        let kinds: Vec<JobConditionKind> = status.conditions.iter().map(|c| c.kind).collect();
        let complete = [JobConditionKind::SuccessCriteriaMet, JobConditionKind::Complete];
        let failed = [JobConditionKind::FailureTarget, JobConditionKind::Failed];
        prop_assert!(kinds == complete || kinds == failed || (minor < 31 && kinds.len() == 1));
        if status.is_true(JobConditionKind::Complete) && status.conditions[0].reason.as_str() != "SuccessPolicy" {
            prop_assert_eq!(status.succeeded, spec.completions.unwrap_or(status.succeeded));
        }
    }

    /// Whatever is done to a Job meanwhile: what it says stays consistent, and what is over is over.
    #[test]
    fn nothing_upsets_a_job(
        spec in spec(),
        runs in runs(),
        what in prop::collection::vec((0_u8..6, 1_u64..60, 1_u32..5), 1..10),
        minor in 29_u32..37,
    ) {
        let mut n = 0;
        let mut world = World::new(spec.clone(), minor, NOW, |_| {
            n += 1;
            runs[n % runs.len()]
        });
        let mut now = 0;
        let mut last = None;
        for (kind, wait, number) in what {
            now += wait;
            world.run(now);
            let mut changed = world.job.spec().clone();
            match kind {
                0 => changed.suspend = !changed.suspend,
                1 => changed.parallelism = number,
                2 => changed.active_deadline = Some(Duration::from_secs(number.into())),
                3 => changed.suspend = false,
                _ => {}
            }
            let input = match kind {
                5 => JobInput::Delete,
                4 => JobInput::Tick,
                _ => JobInput::SpecChanged(Box::new(changed)),
            };
            world.tell(input);
            if let Some(before) = &last {
                prop_assert_eq!(world.job.status(), before, "what is over is over");
            }
            last = world.job.status().finished().map(|_| world.job.status().clone());
        }
        world.tell(JobInput::Delete);
        world.run(now + 100);
        prop_assert!(world.job.is_gone());
    }

    /// The time between two pods of a Job that only fails never gets shorter, up to ten minutes.
    #[test]
    fn delays_grow(lasts in 0_u64..100, limit in 1_u32..12, per_index in any::<bool>()) {
        let limits = if per_index { (u32::MAX, Some(limit)) } else { (limit, None) };
        let spec = JobSpec {
            backoff_limit: limits.0,
            backoff_limit_per_index: limits.1,
            mode: if per_index { CompletionMode::Indexed } else { CompletionMode::NonIndexed },
            ..JobSpec::new("default", "j")
        };
        let mut world = World::new(spec, 36, NOW, |_| Run::new(lasts, 1));
        world.run(1_000_000);
        prop_assert_eq!(world.created.len(), limit as usize + 1);
        let starts: Vec<u64> = world.created.iter().map(|(at, _)| *at).collect();
        let waits: Vec<u64> = starts.windows(2).map(|w| w[1] - w[0] - lasts).collect();
        let want: Vec<u64> = (0..limit).map(|i| (10_u64 << i.min(20)).min(600)).collect();
        prop_assert_eq!(waits, want);
    }
}
