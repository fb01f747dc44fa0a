//! What `explain` says beforehand, against what `run` does: random pods of real processes, each of whose
//! starts, and whatever else was foretold, must lie within the predicted interval.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::objects::With;
use crate::run::{HOLDFAST, Mark, Run};

crate::tests! {
    what_run_does_was_foretold,
}

/// Pods of a run.
const PODS: usize = 25;
/// The seeds of runs: those of a list one after the other, the lists at the same time.
const SEEDS: [[u64; 2]; 4] = [[1, 2], [3, 4], [5, 6], [7, 8]];

/// What a busy machine may take, in seconds, for each start, answer and end.
const BUSY: f64 = 8.0;

/// When a run is over, in seconds: a sidecar that is killed before it is ready is started again for ever.
const OVER: f64 = 12.0;

/// Clocks are rounded.
const ROUNDED: f64 = 0.002;

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Tenths of seconds below `n`.
    fn tenths(&mut self, n: u64) -> f64 {
        self.below(n) as f64 / 10.0
    }
}

/// A container, and what is to be assumed of it.
fn container(random: &mut Random, pod: &str, name: &str, kind: &str) -> (Value, Vec<String>) {
    let file = format!("{{DIR}}/{pod}-{name}");
    let ready = random.tenths(25);
    let (ends, code) = match kind {
        "init" => (Some(random.tenths(8)), u64::from(random.one_in(12))),
        "sidecar" => (None, 0),
        _ => (Some(0.5 + random.tenths(25)), u64::from(random.one_in(4))),
    };
    let script = format!(
        "trap 'exit 0' TERM; rm -f {file}; (sleep {ready}; : > {file}) & sleep {} & wait $!; exit {code}",
        ends.unwrap_or(1000.0)
    );
    let mut c = json!({ "name": name, "image": "host", "command": ["sh", "-c", script] });
    if kind == "sidecar" {
        c["restartPolicy"] = json!("Always");
    }
    let probe = |random: &mut Random| {
        json!({
            "exec": { "command": ["test", "-e", file] },
            "initialDelaySeconds": random.below(2),
            "periodSeconds": 1,
            // A busy machine is no reason to be killed.
            "timeoutSeconds": 20,
            "failureThreshold": 1 + random.below(5),
        })
    };
    if kind != "init" {
        for name in ["startupProbe", "readinessProbe"] {
            if random.one_in(2) {
                c[name] = probe(random);
            }
        }
    }
    let mut assumed = vec![
        format!("{pod}/{name}.start=0s..{BUSY}s"),
        format!("{pod}/{name}.ready={ready}s..{}s", ready + BUSY),
    ];
    assumed.push(match ends {
        Some(ends) => format!("{pod}/{name}.exits={ends}s..{}s:{code}", ends + BUSY),
        None => format!("{pod}/{name}.exits=never"),
    });
    (c, assumed)
}

fn pod(random: &mut Random, name: &str) -> (Value, Vec<String>) {
    let mut assumed = Vec::new();
    let mut some = |random: &mut Random, count: u64, first: u64, init: bool| -> Vec<Value> {
        (0..count)
            .map(|at| {
                let kind = match init {
                    true if random.one_in(2) => "sidecar",
                    true => "init",
                    false => "app",
                };
                let (c, more) = container(random, name, &format!("c{}", first + at), kind);
                assumed.extend(more);
                c
            })
            .collect()
    };
    let inits = random.below(4);
    let apps = 1 + random.below(3);
    let inits_of = some(random, inits, 0, true);
    let apps_of = some(random, apps, inits, false);
    let pod = crate::objects::pod(name, "Never", inits_of, apps_of)
        .with(json!({ "spec": { "terminationGracePeriodSeconds": 10 } }));
    (pod, assumed)
}

fn explain(run: &Run, assumed: &[String]) -> BTreeMap<String, Value> {
    let mut command = Command::new(HOLDFAST);
    command.args(["explain", "-o", "json"]).arg(run.path("manifest.json"));
    for one in assumed {
        command.args(["--assume", one]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = all["workloads"].as_array().unwrap().iter();
    all.map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone())).collect()
}

/// What is wrong with a moment, if it lies outside of what was foretold.
fn outside(foretold: &Value, at: Option<f64>) -> Option<String> {
    match (foretold.get("never"), at) {
        (Some(_), None) => None,
        (Some(why), Some(at)) => Some(format!("at {at}, but never: {why}")),
        (None, at) => {
            let earliest = foretold["earliest"].as_f64().unwrap();
            let latest = foretold["latest"].as_f64();
            let late = match at {
                Some(at) => latest.is_some_and(|latest| at > latest + ROUNDED),
                None => latest.is_some_and(|latest| latest < OVER - 1.0),
            };
            let early = at.is_some_and(|at| at + ROUNDED < earliest);
            (late || early).then(|| format!("at {at:?}, but {foretold}"))
        }
    }
}

/// Runs the pods of a seed. How many moments were compared, and how many of them had a latest time; or what
/// was not foretold.
fn compare(seed: u64) -> Result<(usize, usize), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let names: Vec<String> = (0..PODS).map(|at| format!("p{at}")).collect();
    let (pods, assumed): (Vec<Value>, Vec<_>) =
        names.iter().map(|name| pod(&mut random, name)).unzip();
    let run = Run::of(&pods).args(&format!("--timeline {{DIR}}/timeline.json --timeout {OVER}s"));
    let foretold = explain(&run, &assumed.concat());
    let done = run.done();
    assert!([0, 1, 124].contains(&done.code), "{done:#?}");
    let marks = done.timeline();
    let first = |pod: &str, container: &str, step: &str| {
        let is = |m: &&Mark| m.all["pod"] == pod && m.container == container && m.step == step;
        marks.iter().find(is).map(|m| m.at)
    };
    let (mut compared, mut bounded) = (0, 0);
    for (name, pod) in &foretold {
        let Some(zero) = first(name, "", "sandboxReady") else {
            return Err(format!("seed {seed}: {name} has no sandbox after {OVER} s\n{done:#?}"));
        };
        let containers = pod["containers"].as_array().unwrap();
        let mut check = |container: &str, what: &str, step: &str, foretold: &Value| {
            let at = first(name, container, step).map(|at| at - zero);
            compared += usize::from(at.is_some());
            bounded += usize::from(at.is_some() && foretold["latest"].is_number());
            match outside(foretold, at) {
                None => Ok(()),
                Some(wrong) => {
                    let of = |m: &&Mark| m.all["pod"] == **name;
                    let marks: Vec<String> =
                        marks.iter().filter(of).map(|m| m.all.to_string()).collect();
                    let (pod, marks) = (&pod["containers"], marks.join("\n"));
                    Err(format!(
                        "seed {seed}: {what} of {name}/{container} {wrong}\n{pod:#}\n{marks}"
                    ))
                }
            }
        };
        for c in containers {
            let container = c["name"].as_str().unwrap();
            check(container, "start", "running", &c["start"])?;
            if c["kind"] != "init" {
                check(container, "started", "started", &c["started"])?;
                check(container, "ready", "ready", &c["ready"])?;
            }
        }
        check("", "ready", "ready", &pod["ready"])?;
    }
    Ok((compared, bounded))
}

fn what_run_does_was_foretold() {
    let all = |seeds: [u64; 2]| seeds.map(compare).into_iter().collect::<Result<Vec<_>, _>>();
    let counts = std::thread::scope(|scope| {
        let lists = SEEDS.map(|seeds| scope.spawn(move || all(seeds)));
        // The panic of a thread is this test's.
        let join = |list: std::thread::ScopedJoinHandle<'_, _>| {
            list.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        lists.map(join).into_iter().collect::<Result<Vec<_>, String>>()
    });
    let counts = counts.unwrap_or_else(|wrong| panic!("{wrong}")).concat();
    let compared: usize = counts.iter().map(|c| c.0).sum();
    let bounded: usize = counts.iter().map(|c| c.1).sum();
    // If most of it were open, nothing would have been foretold.
    assert!(
        compared > 1000 && bounded * 4 > compared,
        "{bounded} of {compared} moments had an end"
    );
}
