//! Whatever happens in virtual time lies within the bounds that were reckoned beforehand.
//!
//! Random pods whose containers start, answer and end at random moments of what is assumed of them, and
//! whose probes answer at random moments of their timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_explain::assume::{Behaviour, Exits};
use holdfast_explain::bounds::{Chance, PodBounds, When, bounds};
use holdfast_explain::span::Span;
use holdfast_explain::subject::Subject;
use holdfast_explain::timeline::{Mark, Step, Timeline};
use holdfast_explain::world::{self, Course, course};
use holdfast_lifecycle::{
    Container, ContainerId, Kind, Options, Plan, Probe, ProbeKind, RestartPolicy,
};
use proptest::prelude::*;

/// The engine publishes a start this late.
const RELIST: Duration = Duration::from_micros(1);
/// What that may add up to.
const SLACK: f64 = 0.001;

fn options() -> Options {
    Options { relist: RELIST, ..Options::default() }
}

fn secs() -> impl Strategy<Value = Duration> {
    (0..60u64).prop_map(|n| Duration::from_millis(n * 250))
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        secs().prop_map(Span::exactly),
        (secs(), secs()).prop_map(|(a, b)| Span::new(a.min(b), a.max(b))),
        secs().prop_map(|min| Span { min, max: None }),
    ]
}

fn probe() -> impl Strategy<Value = Option<Probe>> {
    let some = (0..8u64, 1..5u64, 1..7u64, 1..4u32, 1..6u32).prop_map(
        |(delay, period, timeout, successes, failures)| Probe {
            initial_delay: Duration::from_secs(delay),
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(timeout),
            success_threshold: successes,
            failure_threshold: failures,
            termination_grace: None,
        },
    );
    proptest::option::weighted(0.4, some)
}

fn container(kind: Kind) -> impl Strategy<Value = (Container, Behaviour)> {
    let probes = (probe(), probe(), probe(), proptest::bool::weighted(0.2));
    let exits = prop_oneof![
        2 => Just(Exits::Unknown),
        1 => Just(Exits::Never),
        3 => (span(), prop_oneof![3 => Just(0), 1 => Just(1)])
            .prop_map(|(span, code)| Exits::After(span, code)),
    ];
    let times = (span(), proptest::option::weighted(0.9, span()), exits, span(), span());
    let stop_code = prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    (probes, times, stop_code).prop_map(move |(probes, times, stop_code)| {
        let (startup, readiness, liveness, hook) = probes;
        let (start, ready, exits, stops, post_start) = times;
        let mut c = Container::new("", kind, "image");
        if kind != Kind::Init {
            let once = |p: Probe| Probe { success_threshold: 1, ..p };
            c.startup = startup.map(once);
            c.readiness = readiness;
            c.liveness = liveness.map(once);
            c.post_start = hook;
        }
        let behaviour = Behaviour {
            start,
            ready,
            ready_is_known: true,
            exits,
            needs: Vec::new(),
            stops,
            stop_code,
            post_start: if c.post_start { post_start } else { Span::ZERO },
            pre_stop: Span::ZERO,
        };
        (c, behaviour)
    })
}

/// A pod, what is assumed of it, and who needs whom.
fn pod() -> impl Strategy<Value = (Subject, Vec<Behaviour>)> {
    let inits = proptest::collection::vec(
        prop_oneof![container(Kind::Init), container(Kind::Sidecar)],
        0..4,
    );
    let apps = proptest::collection::vec(container(Kind::Regular), 1..4);
    let policy = prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never),
    ];
    let deadline = proptest::option::weighted(0.1, (1..60u64).prop_map(Duration::from_secs));
    let need = proptest::option::weighted(0.4, (any::<u32>(), any::<u32>()));
    (inits, apps, policy, deadline, need).prop_map(|(inits, apps, policy, deadline, need)| {
        let (mut containers, mut behaviours): (Vec<_>, Vec<_>) =
            inits.into_iter().chain(apps).unzip();
        for (at, c) in containers.iter_mut().enumerate() {
            c.name = format!("c{at}").into();
        }
        let count = containers.len() as u32;
        if let Some((who, whom)) = need
            && who % count != whom % count
        {
            behaviours[(who % count) as usize].needs.push(ContainerId(whom % count));
        }
        let plan = Plan {
            namespace: "default".into(),
            name: "pod".into(),
            uid: "1".into(),
            restart_policy: policy,
            termination_grace: Duration::from_secs(5),
            active_deadline: deadline,
            host_network: true,
            readiness_gates: vec![],
            containers,
        };
        let hooks = vec![[None, None]; plan.containers.len()];
        let workload = "pod".to_owned();
        (Subject { kind: "Pod", workload, count: 1, plan, hooks, job: None }, behaviours)
    })
}

/// Chooses any moment; what has no bound happens late or never.
fn random(seed: u64) -> impl FnMut(Span) -> Option<Duration> {
    let mut state = seed | 1;
    move |span| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match span.max {
            None if state.is_multiple_of(3) => None,
            None => Some(span.min + Duration::from_millis(state % 90_000)),
            Some(max) if state.is_multiple_of(4) => Some(max),
            Some(_) if state % 4 == 1 => Some(span.min),
            Some(max) => Some(span.min + (max - span.min).mul_f64((state % 1000) as f64 / 999.0)),
        }
    }
}

/// When each container reached something first.
fn first(timeline: &Timeline, is: impl Fn(&Step) -> bool) -> BTreeMap<&str, f64> {
    let mut all = BTreeMap::new();
    for mark in timeline.marks.iter().filter(|m| is(&m.step)) {
        if let Mark { container: Some(name), at, .. } = mark {
            all.entry(name.as_str()).or_insert(*at);
        }
    }
    all
}

fn inside(what: &str, name: &str, when: &When, at: f64) -> Result<(), String> {
    match when {
        When::Never(why) => Err(format!("{what} of {name} at {at}, but never: {why}")),
        When::Within(span) => {
            let late = span.max.is_some_and(|max| at > max.as_secs_f64() + SLACK);
            let early = at + SLACK < span.min.as_secs_f64();
            if late || early {
                return Err(format!("{what} of {name} at {at}, but it is {span}"));
            }
            Ok(())
        }
    }
}

/// Everything that happened, against what was said before. `whole`: nothing more could happen, so that
/// what has a latest time must have happened.
fn holds(subject: &Subject, bounds: &PodBounds, course: &Course) -> Result<(), String> {
    let t = &course.timeline;
    let reached: [(&str, BTreeMap<&str, f64>); 3] = [
        ("start", first(t, |s| matches!(s, Step::Running))),
        ("started", first(t, |s| matches!(s, Step::Started))),
        ("ready", first(t, |s| matches!(s, Step::Ready))),
    ];
    let last = t.end();
    for (id, c) in subject.plan.ids().map(|id| (id, subject.plan.container(id))) {
        let b = &bounds.containers[id.index()];
        for ((what, seen), when) in reached.iter().zip([&b.start, &b.started, &b.ready]) {
            if c.kind == Kind::Init && *what != "start" {
                continue;
            }
            match (seen.get(&*c.name), when.span().and_then(|s| s.max)) {
                (Some(&at), _) => inside(what, &c.name, when, at)?,
                // What has a latest time must come.
                (None, Some(max)) if last > max.as_secs_f64() + SLACK || course.over.is_some() => {
                    return Err(format!("{what} of {} never came, but until {max:?}", c.name));
                }
                (None, _) => {}
            }
        }
        // A deadline may strike in the moment of an answer, and be taken for a kill by a probe.
        if subject.plan.active_deadline.is_none() {
            kills(c, b, t)?;
        }
    }
    let ready = t.marks.iter().find(|m| m.container.is_none() && m.step == Step::Ready);
    match (ready, bounds.ready.span().and_then(|s| s.max)) {
        (Some(mark), _) => inside("ready", "the pod", &bounds.ready, mark.at)?,
        (None, Some(max)) if last > max.as_secs_f64() + SLACK || course.over.is_some() => {
            return Err(format!("the pod was never ready, but until {max:?}"));
        }
        (None, _) => {}
    }
    match (course.over, bounds.end.span().and_then(|s| s.max)) {
        // A deadline ends a pod earlier than it ends by itself.
        (Some(over), _) if subject.plan.active_deadline.is_none() => {
            inside("end", "the pod", &bounds.end, over.as_secs_f64())?;
        }
        (None, Some(max)) if last > max.as_secs_f64() + SLACK => {
            return Err(format!("the pod is not over, but until {max:?}"));
        }
        _ => {}
    }
    Ok(())
}

/// A probe that cannot kill does not, and one that can does it in its window.
fn kills(
    c: &Container,
    b: &holdfast_explain::bounds::ContainerBounds,
    t: &Timeline,
) -> Result<(), String> {
    let name = &*c.name;
    let mine =
        || t.marks.iter().filter(|m| m.container.as_deref() == Some(name) && m.run == Some(0));
    let Some(start) = mine().find(|m| matches!(m.step, Step::Running)).map(|m| m.at) else {
        return Ok(());
    };
    for kill in &b.kills {
        let wanted = match kill.probe {
            ProbeKind::Startup => holdfast_explain::timeline::ProbeName::Startup,
            _ => holdfast_explain::timeline::ProbeName::Liveness,
        };
        // What caused a stop is the last of enough failures in the same moment.
        let enough = c.probe(kill.probe).map_or(1, |probe| probe.failure_threshold);
        let (mut failures, mut last) = (0, None);
        for mark in mine() {
            match &mark.step {
                Step::Probe { probe, passed, .. } if *probe == wanted => {
                    failures = if *passed == Some(false) { failures + 1 } else { 0 };
                    last = Some(mark.at);
                }
                Step::Probe { .. } => last = None,
                Step::Stop { .. } if last == Some(mark.at) && failures >= enough => {
                    let after = mark.at - start;
                    let min = kill.after.min.as_secs_f64();
                    let late = kill.after.max.is_some_and(|m| after > m.as_secs_f64() + SLACK);
                    if kill.chance == Chance::Excluded || after + SLACK < min || late {
                        return Err(format!("{name} killed after {after}: {kill:?}"));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A case in a few lines.
fn describe(
    subject: &Subject,
    behaviours: &[Behaviour],
    bounds: &PodBounds,
    t: &Timeline,
) -> String {
    let (policy, deadline) = (subject.plan.restart_policy, subject.plan.active_deadline);
    let mut text =
        format!("{policy:?} {deadline:?} ready {:?} end {:?}\n", bounds.ready, bounds.end);
    let probe = |p: &Option<Probe>| {
        p.map(|p| {
            let (d, n, s) = (p.initial_delay.as_secs(), p.period.as_secs(), p.timeout.as_secs());
            format!("{d}+{n}/{s} ok {} fail {}", p.success_threshold, p.failure_threshold)
        })
    };
    for ((c, b), k) in subject.plan.containers.iter().zip(behaviours).zip(&bounds.containers) {
        let kills: Vec<_> = k.kills.iter().map(|k| format!("{} {:?}", k.after, k.chance)).collect();
        text += &format!(
            "{} {:?} startup {:?} readiness {:?} liveness {:?}\n  start {} ready {} exits {:?} needs {:?} hook {}\n  \
             = start {:?} started {:?} ready {:?} needs {:?} kills {kills:?}\n",
            c.name,
            c.kind,
            probe(&c.startup),
            probe(&c.readiness),
            probe(&c.liveness),
            b.start,
            b.ready.map_or("never".into(), |r| r.to_string()),
            b.exits,
            b.needs,
            b.post_start,
            k.start,
            k.started,
            k.ready,
            k.needs,
        );
    }
    for mark in t.marks.iter().take(60) {
        text += &format!(
            "{:.3} {} {:?}\n",
            mark.at,
            mark.container.as_deref().unwrap_or(""),
            mark.step
        );
    }
    text
}

/// Bounds, and courses that must lie within them.
fn check(subject: &Subject, behaviours: &[Behaviour], seed: u64) -> Result<(), TestCaseError> {
    let bounds = bounds(subject, behaviours, &options().features());
    let mut random = random(seed);
    let picks: [&mut world::Pick<'_>; 3] = [&mut random, &mut world::earliest, &mut world::latest];
    for pick in picks {
        let course = course(subject, behaviours, &[], &options(), pick);
        holds(subject, &bounds, &course).map_err(|fault| {
            let case = describe(subject, behaviours, &bounds, &course.timeline);
            TestCaseError::fail(format!("{fault}\n{case}"))
        })?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_happens_was_foretold((subject, behaviours) in pod(), seed in any::<u64>()) {
        check(&subject, &behaviours, seed)?;
    }
}
