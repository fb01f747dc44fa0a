//! `podFailurePolicy` and `successPolicy` (pod_failure_policy_test.go: TestMatchPodFailurePolicy;
//! success_policy_test.go: TestMatchSuccessPolicy).
//!
//! Left out: unknown actions and operators and conditions of status Unknown, which the types do not
//! allow, and disabled feature gates.

use holdfast_lifecycle::Time;
use holdfast_lifecycle::job::{
    Action, FailureRule, Indexes, On, PodSummary, SuccessRule, match_failure_policy,
    match_success_policy,
};
use holdfast_lifecycle::status::{Phase, PodStatus, State};

use crate::sync_job::{exit_codes, pod_condition};
use crate::{condition, container, ended};

fn not_in(action: Action, values: &[i32]) -> FailureRule {
    let mut rule = exit_codes(action, values);
    if let On::ExitCodes(codes) = &mut rule.on {
        codes.negated = true;
    }
    rule
}

/// A failed pod of the main container with this code, and others.
fn exited(codes: &[(&str, i32)]) -> PodStatus {
    let regular = codes.iter().map(|(name, code)| ended(name, *code, None)).collect();
    PodStatus { phase: Phase::Failed, regular, ..Default::default() }
}

fn disrupted(status: bool) -> PodStatus {
    let conditions = vec![condition("DisruptionTarget", status, Time::ZERO)];
    PodStatus { phase: Phase::Failed, conditions, ..Default::default() }
}

#[test]
fn failure_policy() {
    use Action::{Count, FailIndex, FailJob, Ignore};
    let main = |code| exited(&[("main-container", code)]);
    let target = |action, status| vec![pod_condition(action, "DisruptionTarget", status)];
    let with_ok_init = {
        let mut status = exited(&[("main-container", 111), ("suppport-container", 0)]);
        status.init.push(ended("init-container", 0, None));
        status
    };
    let waiting_and_ended = {
        let mut status = exited(&[("bar", 2)]);
        let waiting = State::Waiting { reason: "".into(), message: "".into() };
        status.regular.insert(0, container("foo", waiting));
        status
    };
    let mixed = vec![
        not_in(Count, &[8]),
        exit_codes(Ignore, &[1, 2, 3]),
        not_in(FailJob, &[5, 6, 7]),
        pod_condition(Count, "ResourceLimitExceeded", true),
        pod_condition(Ignore, "DisruptionTarget", true),
    ];
    let code = |c: i32, i: u32| {
        let who = "Container main-container for pod default/mypod";
        Some(format!("{who} failed with exit code {c} matching FailJob rule at index {i}"))
    };
    let target_message =
        "Pod default/mypod has condition DisruptionTarget matching FailJob rule at index 0";
    // name, rules, pod -> action, message
    let cases = [
        ("no policy rules", vec![], main(2), None, None),
        (
            "ignore rule matched for exit codes",
            vec![exit_codes(Ignore, &[1, 2, 3])],
            main(2),
            Some(Ignore),
            None,
        ),
        (
            "FailJob rule matched for exit codes",
            vec![exit_codes(FailJob, &[1, 2, 3])],
            main(2),
            Some(FailJob),
            code(2, 0),
        ),
        (
            "successful containers are skipped by the rules",
            vec![not_in(FailJob, &[111])],
            with_ok_init,
            None,
            None,
        ),
        (
            "FailIndex rule matched for exit codes; JobBackoffLimitPerIndex enabled",
            vec![exit_codes(FailIndex, &[1, 2, 3])],
            main(2),
            Some(FailIndex),
            None,
        ),
        (
            "pod failure policy with NotIn operator and value 0",
            vec![not_in(FailJob, &[0])],
            exited(&[("main-container", 1), ("suppport-container", 0)]),
            Some(FailJob),
            code(1, 0),
        ),
        (
            "second jobfail rule matched for exit codes",
            vec![exit_codes(Count, &[1, 2, 3]), exit_codes(FailJob, &[4, 5, 6])],
            main(6),
            Some(FailJob),
            code(6, 1),
        ),
        (
            "count rule matched for exit codes",
            vec![exit_codes(Count, &[1, 2, 3])],
            waiting_and_ended,
            Some(Count),
            None,
        ),
        (
            "FailIndex rule matched for pod conditions; JobBackoffLimitPerIndex enabled",
            target(FailIndex, true),
            disrupted(true),
            Some(FailIndex),
            None,
        ),
        (
            "ignore rule matched for pod conditions",
            target(Ignore, true),
            disrupted(true),
            Some(Ignore),
            None,
        ),
        (
            "ignore rule matches by the status=False",
            target(Ignore, false),
            disrupted(false),
            Some(Ignore),
            None,
        ),
        (
            "ignore rule does not match when status for pattern is False, but actual True",
            target(Ignore, false),
            disrupted(true),
            None,
            None,
        ),
        (
            "ignore rule does not match when status for pattern is True, but actual False",
            target(Ignore, true),
            disrupted(false),
            None,
            None,
        ),
        (
            "job fail rule matched for pod conditions",
            target(FailJob, true),
            disrupted(true),
            Some(FailJob),
            Some(target_message.to_owned()),
        ),
        (
            "count rule matched for pod conditions",
            target(Count, true),
            disrupted(true),
            Some(Count),
            None,
        ),
        ("no rule matched", mixed, main(32), Some(Count), None),
    ];
    for (name, rules, status, action, message) in &cases {
        let pod = PodSummary { name: "mypod".into(), status: status.clone(), ..Default::default() };
        let got = match_failure_policy(rules, "default", &pod);
        assert_eq!((&got.action, &got.message), (action, message), "{name}");
        assert_eq!(got.counts(), *action != Some(Ignore), "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn a_rule_for_one_container() {
    let mut rule = exit_codes(Action::FailJob, &[137]);
    if let On::ExitCodes(codes) = &mut rule.on {
        codes.container = Some("main".into());
    }
    // A sidecar that was killed at the end would match a rule without a name.
    let mut status = exited(&[("main", 1)]);
    status.init.push(ended("sidecar", 137, None));
    let pod = PodSummary { status, ..Default::default() };
    assert_eq!(match_failure_policy(&[rule], "default", &pod).action, None);
    let any = exit_codes(Action::FailJob, &[137]);
    assert_eq!(match_failure_policy(&[any], "default", &pod).action, Some(Action::FailJob));
}

#[test]
fn success_policy() {
    let any = "rules.succeededIndexes and rules.succeededCount are specified";
    let all = "rules.succeededIndexes is specified";
    // name, rules as indexes#count, succeeded indexes, met
    let cases: [(&str, &str, &[&str], &str, Option<usize>); 26] = [
        ("", "any rules are nothing", &[], "0", None),
        ("", "rules.succeededIndexes is invalid format", &["invalid-form#"], "0", None),
        (all, "matched rules", &["0-2#"], "0-2,4-7", Some(0)),
        (all, "didn't match rules", &["3#"], "0-2", None),
        ("", "rules.succeededCount is specified; matched", &["#2"], "0-2", Some(0)),
        ("", "rules.succeededCount is specified; didn't match", &["#4"], "0-2", None),
        ("multiple rules", "met one of rules", &["9#", "4,6#"], "0-2,4-7", Some(1)),
        ("multiple rules", "met all rules", &["0,1#", "5#"], "0-2,4-7", Some(0)),
        (any, "met all rules", &["3-6#2"], "0-2,4-7", Some(0)),
        (any, "didn't match rules", &["3-6#2"], "0-2,6,7", None),
        (all, "succeededIndexes are nothing", &["#4"], "", None),
        (all, "rules is proper subset of succeededIndexes", &["2-4,6-8#"], "1-9", Some(0)),
        (all, "rules equals succeededIndexes", &["2-4,6-9#"], "2-4,6-9", Some(0)),
        (all, "rules is subset of succeededIndexes", &["2-4,8-12#"], "2-5,7-15", Some(0)),
        (all, "rules is an empty set", &["#"], "1-3", None),
        (all, "rules and succeededIndexes are empty set", &["#"], "", None),
        (all, "none of the rule's indexes", &["10-12,14-16#"], "1-3,5-7", None),
        (all, "rules overlaps succeededIndexes at first", &["1-3,5-7#"], "2-4,6-8", None),
        (any, "rules overlaps succeededIndexes at first", &["1-3,5-7#4"], "2-4,6-8", Some(0)),
        (all, "rules overlaps succeededIndexes at last", &["2-4,6-9#"], "1-3,5-7", None),
        (any, "rules overlaps succeededIndexes at last", &["2-4,6-9#4"], "1-3,5-7", Some(0)),
        (all, "rules completely overlaps succeededIndexes", &["0-4,6-9#"], "1-3,7,8", None),
        (any, "rules completely overlaps succeededIndexes", &["0-4,6-9#5"], "1-3,7,8", Some(0)),
        (all, "overlaps multiple at last", &["0-6,8-9#"], "1-3,5-9", None),
        (any, "overlaps multiple at last", &["0-6,8-9#7"], "1-3,5-9", Some(0)),
        (any, "the first rules overlaps at first", &["0-3,6-9#7"], "1-10", Some(0)),
    ];
    for (group, name, rules, succeeded, met) in cases {
        let rules = rules.iter().map(|rule| {
            let (indexes, count) = rule.split_once('#').unwrap();
            let indexes = (!indexes.is_empty()).then(|| indexes.into());
            SuccessRule { indexes, count: count.parse().ok() }
        });
        let rules: Vec<SuccessRule> = rules.collect();
        let got = match_success_policy(&rules, 10, &Indexes::parse(succeeded, u32::MAX));
        let want = met.map(|index| format!("Matched rules at index {index}"));
        assert_eq!(got, want, "{group}; {name}");
    }
    println!("{} cases", cases.len());
}
