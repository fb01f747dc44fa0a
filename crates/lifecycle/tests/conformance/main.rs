//! Kubernetes' own test cases for the life of a pod, as data, run in virtual time.
//!
//! Each table beside this file holds one family; each case names the upstream test it restates.
//! `cargo test -p holdfast-lifecycle --test conformance -- L120 "restartPolicy=Never"` runs the cases
//! with that number or with that text in their name.

mod cond;
mod driver;
mod order;
mod runner;
mod scenario;
mod script;
mod step;
mod text;
mod units;

use std::collections::BTreeSet;
use std::process::ExitCode;

/// One case of any family, ready to run.
struct Case {
    id: String,
    name: String,
    place: String,
    skip: Option<String>,
    run: Box<dyn Fn() -> Result<(), String>>,
}

/// The families and how many cases each has.
const FAMILIES: [(char, u32); 11] = [
    ('L', 150),
    ('R', 12),
    ('B', 4),
    ('N', 4),
    ('X', 27),
    ('H', 17),
    ('P', 46),
    ('U', 100),
    ('F', 94),
    ('G', 46),
    ('K', 33),
];

/// Cases of upstream's probe workers, counted apart.
const PROBERS: (char, u32) = ('W', 10);

/// Tables of scenarios.
const SCENARIOS: [(&str, &str); 10] = [
    ("lifecycle-regular.txt", include_str!("tables/lifecycle-regular.txt")),
    ("lifecycle-sidecar.txt", include_str!("tables/lifecycle-sidecar.txt")),
    ("lifecycle-termination.txt", include_str!("tables/lifecycle-termination.txt")),
    ("restart-rules.txt", include_str!("tables/restart-rules.txt")),
    ("pods.txt", include_str!("tables/pods.txt")),
    ("stopping.txt", include_str!("tables/stopping.txt")),
    ("workers.txt", include_str!("tables/workers.txt")),
    ("hooks.txt", include_str!("tables/hooks.txt")),
    ("probes.txt", include_str!("tables/probes.txt")),
    ("probes-sidecar.txt", include_str!("tables/probes-sidecar.txt")),
];

fn main() -> ExitCode {
    let mut list = false;
    let mut filters = Vec::new();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--list" => list = true,
            // Flags meant for the usual harness change nothing here.
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let cases = match load() {
        Ok(cases) => cases,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    if list {
        for case in &cases {
            println!("{} \"{}\": test", case.id, case.name);
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |c: &&Case| {
        filters.is_empty() || filters.iter().any(|f| c.id == *f || c.name.contains(f.as_str()))
    };
    report(cases.iter().filter(wanted))
}

fn load() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for (file, text) in SCENARIOS {
        for s in scenario::parse(file, text)? {
            cases.push(Case {
                id: s.id.clone(),
                name: s.name.clone(),
                place: s.place.clone(),
                skip: s.skip.clone(),
                run: Box::new(move || runner::run(&s)),
            });
        }
    }
    cases.extend(units::cases()?);
    complete(&cases)?;
    Ok(cases)
}

/// Every number of every family exists exactly once.
fn complete(cases: &[Case]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for case in cases {
        if !seen.insert(case.id.clone()) {
            return Err(format!("{}: {} is there twice", case.place, case.id));
        }
    }
    for (family, count) in FAMILIES.into_iter().chain([PROBERS]) {
        for n in 1..=count {
            if !seen.remove(&format!("{family}{n}")) {
                return Err(format!("case {family}{n} is missing"));
            }
        }
    }
    match seen.first() {
        None => Ok(()),
        Some(id) => Err(format!("there is no upstream case {id}")),
    }
}

fn report<'a>(cases: impl Iterator<Item = &'a Case>) -> ExitCode {
    let total: u32 = FAMILIES.iter().map(|(_, n)| n).sum();
    let (mut passed, mut probers) = (0, 0);
    let (mut failed, mut left_out) = (Vec::new(), Vec::new());
    // A panic of the engine is a failure of one case.
    std::panic::set_hook(Box::new(|_| {}));
    for case in cases {
        if let Some(reason) = &case.skip {
            left_out.push((case, reason));
            continue;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (case.run)()))
            .unwrap_or_else(|p| {
                let text = p
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| p.downcast_ref::<&str>().copied());
                Err(format!("panicked: {}", text.unwrap_or("?")))
            });
        match result {
            Ok(()) if case.id.starts_with(PROBERS.0) => probers += 1,
            Ok(()) => passed += 1,
            Err(why) => failed.push((case, why)),
        }
    }
    for (case, why) in &failed {
        println!("FAILED {} \"{}\"\n  {why}", case.id, case.name);
    }
    for (case, reason) in &left_out {
        println!("left out {} \"{}\": {reason}", case.id, case.name);
    }
    if !failed.is_empty() {
        let ids: Vec<&str> = failed.iter().map(|(c, _)| c.id.as_str()).collect();
        println!("failed: {}", ids.join(" "));
    }
    println!("{probers} of {} cases of probe workers", PROBERS.1);
    println!("{passed} of {total} cases");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
