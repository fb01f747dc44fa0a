//! Runs a scenario step by step.

use std::time::Duration;

use holdfast_lifecycle::plan::HookKind;
use holdfast_lifecycle::status::Reason;
use holdfast_lifecycle::{Input, Time};

use crate::cond::{Cond, Scene, find};
use crate::driver::World;
use crate::scenario::Scenario;
use crate::step::{Span, Step};

/// What every case is run with: the Kubernetes minor version, and how late the engine learns what the
/// runtime did. The kubelet learns it by its relist, once a second; Holdfast's drivers sooner. Upstream's
/// end-to-end cases are the same in both versions.
const SETTINGS: [(u32, Duration); 2] =
    [(36, Duration::from_secs(1)), (35, Duration::from_millis(100))];

/// Runs a case; the error says which step failed and why.
pub(crate) fn run(case: &Scenario) -> Result<(), String> {
    let (lo, hi, n) = case.sweep.unwrap_or((Duration::ZERO, Duration::ZERO, 1));
    for (minor, relist) in SETTINGS {
        for i in 0..n {
            let t = lo + (hi - lo) * i / (n - 1).max(1);
            once(case, minor, relist, t).map_err(|e| {
                let swept = if n > 1 { format!(", $T = {t:?}") } else { String::new() };
                format!("{e}    (Kubernetes 1.{minor}, relist {relist:?}{swept})")
            })?;
        }
    }
    Ok(())
}

fn once(case: &Scenario, minor: u32, relist: Duration, swept: Duration) -> Result<(), String> {
    let mut world = World::new(&case.pod, minor, relist);
    let mut mark = world.now;
    for (line, step) in &case.steps {
        let done = perform(&mut world, step, swept, &mut mark);
        let done = match world.broken.take() {
            Some(why) => Err(why),
            None => done,
        };
        if let Err(why) = done {
            let file = case.place.split(':').next().unwrap_or_default();
            return Err(format!("{file}:{line}: {why}\n{}", story(&world)));
        }
    }
    Ok(())
}

/// What happened, for a failure message.
fn story(world: &World) -> String {
    let mut out = format!("    at {:.3}\n", seconds(world.now));
    out.push_str(&world.log.print());
    for s in world.history.iter().rev().take(4).rev() {
        out.push_str(&format!("      {:>9.3} status {:?}", seconds(s.at), s.status.phase));
        if !s.status.reason.is_empty() {
            out.push_str(&format!(" ({})", s.status.reason));
        }
        for c in s.status.all() {
            out.push_str(&format!(
                "; {} {} rc={}{}{}",
                c.name,
                state(&c.state),
                c.restart_count,
                if c.ready { " ready" } else { "" },
                if c.started == Some(true) { " started" } else { "" },
            ));
        }
        for c in &s.status.conditions {
            if !c.status {
                out.push_str(&format!("; {}=False {} {}", c.kind.as_str(), c.reason, c.message));
            }
        }
        out.push('\n');
    }
    for (at, e) in world.events.iter().rev().take(6).rev() {
        out.push_str(&format!("      {:>9.3} event {} {}\n", seconds(*at), e.reason, e.message));
    }
    out
}

fn state(s: &holdfast_lifecycle::status::State) -> String {
    use holdfast_lifecycle::status::State;
    match s {
        State::Waiting { reason, .. } => format!("waiting({reason})"),
        State::Running { .. } => "running".into(),
        State::Terminated(t) => format!("exited({} {})", t.exit_code, t.reason),
    }
}

fn seconds(t: Time) -> f64 {
    t.as_nanos() as f64 / 1e9
}

/// Lets time pass up to `limit`; `seen` is told every new status and may stop it.
fn pass(
    world: &mut World,
    limit: Time,
    mut seen: impl FnMut(&Scene<'_>, Time) -> Result<bool, String>,
) -> Result<bool, String> {
    let mut known = world.history.len();
    if seen(&world.scene(), world.now)? {
        return Ok(true);
    }
    loop {
        let more = world.advance(limit);
        if world.broken.is_some() {
            return Ok(true);
        }
        let fresh = world.history.len() > known;
        for s in &world.history[known..] {
            let gone = world.deleted && world.finished;
            if seen(&Scene { status: &s.status, gone }, s.at)? {
                return Ok(true);
            }
        }
        known = world.history.len();
        if !fresh && seen(&world.scene(), world.now)? {
            return Ok(true);
        }
        if !more {
            return Ok(false);
        }
    }
}

fn held(cond: &Cond, scene: &Scene<'_>, at: Time) -> Result<(), String> {
    if cond.holds(scene) {
        Ok(())
    } else {
        Err(format!("at {:.3} it did not hold that {}", seconds(at), cond.text))
    }
}

fn perform(world: &mut World, step: &Step, swept: Duration, mark: &mut Time) -> Result<(), String> {
    match step {
        Step::Wait { until, hold, within } => {
            let limit = world.now + *within;
            let came = pass(world, limit, |scene, at| {
                if let Some(hold) = hold {
                    held(hold, scene, at)?;
                }
                Ok(until.holds(scene))
            })?;
            if came {
                Ok(())
            } else {
                Err(format!("{} did not come within {within:?}", until.text))
            }
        }
        Step::Always { cond, span } => {
            let limit = world.now + *span;
            pass(world, limit, |scene, at| held(cond, scene, at).map(|()| false)).map(drop)
        }
        Step::Ever(cond) => {
            let ever =
                world.history.iter().any(|s| cond.holds(&Scene { status: &s.status, gone: false }));
            if ever { Ok(()) } else { Err(format!("{} was never published", cond.text)) }
        }
        Step::Stays(cond) => {
            let holds = |s: &&crate::driver::Snapshot| {
                cond.holds(&Scene { status: &s.status, gone: false })
            };
            let mut later = world.history.iter().skip_while(|s| !holds(s));
            match later.find(|s| !holds(s)) {
                None => Ok(()),
                Some(s) => {
                    Err(format!("at {:.3} it no longer held that {}", seconds(s.at), cond.text))
                }
            }
        }
        Step::Run(span) => {
            let span = match span {
                Span::Fixed(d) => *d,
                Span::Swept => swept,
            };
            let limit = world.now + span;
            pass(world, limit, |_, _| Ok(false)).map(drop)
        }
        Step::Image(name, image) => change(world, |plan| {
            let id = plan.find(name).ok_or_else(|| format!("no container `{name}`"))?;
            plan.containers[id.index()].image = image.as_str().into();
            Ok(())
        }),
        Step::Deadline(d) => change(world, |plan| {
            plan.active_deadline = Some(*d);
            Ok(())
        }),
        Step::Delete(grace) => {
            world.tell(Input::Delete { grace: *grace });
            Ok(())
        }
        Step::Kubelet(true) => {
            world.kubelet_up();
            Ok(())
        }
        Step::Kubelet(false) => {
            world.kubelet_down();
            Ok(())
        }
        Step::StopSandbox => {
            world.stop_sandbox();
            Ok(())
        }
        Step::Prune(names) => {
            for name in names {
                let id = id(world, name)?;
                world.prune(id);
            }
            Ok(())
        }
        Step::Evict(reason) => {
            world.tell(Input::Evict {
                reason: Reason::Owned(reason.clone()),
                message: "the node was low on a resource".into(),
                grace: Some(Duration::from_secs(1)),
            });
            Ok(())
        }
        Step::Gate(name, value) => {
            world.tell(Input::GateSet { gate: name.clone(), value: *value });
            Ok(())
        }
        Step::Kill(name, code) => {
            let id = id(world, name)?;
            world.kill(id, *code)
        }
        Step::Mark => {
            *mark = world.now;
            Ok(())
        }
        _ => assert_step(world, step, *mark),
    }
}

/// The steps that only look.
fn assert_step(world: &World, step: &Step, mark: Time) -> Result<(), String> {
    match step {
        Step::Elapsed(lo, hi) => within(world.now.since(mark), *lo, *hi, "it took"),
        Step::Check(cond) => held(cond, &world.scene(), world.now),
        Step::Expect(orders) => {
            for order in orders {
                world.log.check(order).map_err(|e| format!("{order:?}: {e}"))?;
            }
            Ok(())
        }
        Step::Event { some, reason, contains } => {
            let found = world
                .events
                .iter()
                .find(|(at, e)| *at >= mark && e.reason == reason && e.message.contains(contains));
            match (found, some) {
                (None, true) => Err(format!("no event {reason} with `{contains}`")),
                (Some((at, e)), false) => {
                    Err(format!("event {} at {:.3}: {}", e.reason, seconds(*at), e.message))
                }
                _ => Ok(()),
            }
        }
        Step::Starts(name, bound) => {
            let n = world.runs.get(&id(world, name)?).map_or(0, Vec::len);
            if bound.holds(n as i64) {
                Ok(())
            } else {
                Err(format!("{name} was started {n} times"))
            }
        }
        Step::Delays(name, n, lo, hi) => {
            let runs = world.runs.get(&id(world, name)?).map_or(&[][..], Vec::as_slice);
            let delays: Vec<Duration> =
                runs.windows(2).filter_map(|w| Some(w[1].0.since(w[0].1?))).collect();
            let tail = delays.len().checked_sub(*n).ok_or("too few restarts")?;
            for d in &delays[tail..] {
                within(*d, *lo, *hi, "a delay is")?;
            }
            Ok(())
        }
        Step::Probes(name, kind, bound) => {
            let n = world.probes.get(&(id(world, name)?, *kind)).copied().unwrap_or(0);
            if bound.holds(i64::from(n)) { Ok(()) } else { Err(format!("the probe ran {n} times")) }
        }
        Step::Grace(name, want) => {
            let id = id(world, name)?;
            let last =
                world.stops.iter().rev().find(|s| s.0 == id).ok_or("it was never stopped")?;
            if last.2 == *want { Ok(()) } else { Err(format!("its grace was {:?}", last.2)) }
        }
        Step::Stopped(name, lo, hi) => {
            let id = id(world, name)?;
            let first = world
                .stops
                .iter()
                .find(|s| s.0 == id && s.1 >= mark)
                .ok_or("it was not stopped")?;
            within(first.1.since(mark), *lo, *hi, "told to stop after")
        }
        Step::Hook(name, post, bound) => {
            let id = id(world, name)?;
            let kind = if *post { HookKind::PostStart } else { HookKind::PreStop };
            let n = world.hooks.iter().filter(|(c, k, _)| *c == id && *k == kind).count();
            if bound.holds(n as i64) { Ok(()) } else { Err(format!("the hook ran {n} times")) }
        }
        Step::ReadyAfter(name, lo, hi) => {
            let when = |f: fn(&holdfast_lifecycle::status::ContainerStatus) -> bool| {
                world
                    .history
                    .iter()
                    .find(|s| find(&s.status, name).is_some_and(f))
                    .map(|s| s.at)
                    .ok_or_else(|| format!("{name} never was so"))
            };
            let started = when(|c| c.started == Some(true))?;
            let ready = when(|c| c.ready)?;
            if ready < started {
                return Err("ready before started".into());
            }
            within(ready.since(started), *lo, *hi, "ready after")
        }
        other => Err(format!("not an assertion: {other:?}")),
    }
}

fn within(d: Duration, lo: Duration, hi: Duration, what: &str) -> Result<(), String> {
    if (lo..=hi).contains(&d) { Ok(()) } else { Err(format!("{what} {d:?}, not {lo:?}..{hi:?}")) }
}

fn id(world: &World, name: &str) -> Result<holdfast_lifecycle::ContainerId, String> {
    world.plan().find(name).ok_or_else(|| format!("no container `{name}`"))
}

fn change(
    world: &mut World,
    edit: impl FnOnce(&mut holdfast_lifecycle::Plan) -> Result<(), String>,
) -> Result<(), String> {
    let mut plan = world.plan().clone();
    edit(&mut plan)?;
    world.tell(Input::PlanChanged(Box::new(plan)));
    Ok(())
}
