//! `holdfast run --runtime cri` beside the kubelet: the same pods and images on the same containerd, in
//! turns. While one side has its turn the other is stopped (the kubelet: SIGSTOP), as a kubelet ends
//! the pods of others.

mod moments;
mod node;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::manifests::{container, pod, sidecar};
use crate::report::{Row, Section};
use crate::run::Holdfast;
use crate::stats::Samples;

use self::moments::Moments;
use self::node::{Bench, Side, Used};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Pods of 5 containers, on each side.
    pub rounds: usize,
    /// Pods that are started at once.
    pub pods: usize,
}

impl Size {
    /// What the numbers are made with.
    pub const FULL: Self = Self { rounds: 15, pods: 100 };
}

/// The image of all containers: the cluster has it.
const IMAGE: &str = "docker.io/library/busybox:latest";
/// Both sides, in the order of their turns.
const SIDES: [Side; 2] = [Side::Kubelet, Side::Holdfast];

/// Times, processor time and memory.
///
/// # Errors
/// If the cluster does not come up, or a pod does not do what it should.
pub fn report(holdfast: &Holdfast, size: Size) -> Result<Section> {
    let bench = Bench::up(holdfast)?;
    let mut section = Section::new(
        "The kubelet",
        "The same pods on the same containerd 1.6 and runc, in turns; `holdfast run --runtime cri` from \
         the start of the process, the kubelet of Kubernetes 1.35 with its defaults from the POST to the \
         API server, without a scheduler. What a dependent waits for is the end of an init container or \
         the success of a startupProbe, as the containers themselves notice it.",
    );
    five(&bench, size, &mut section)?;
    many(&bench, size, &mut section)?;
    section.note(format!(
        "Load at the end: {}. The API server, etcd and the controllers, which the kubelet needs, are not \
         in its figures.",
        crate::machine::load()
    ));
    Ok(section)
}

/// Pods of 2 init containers, 1 sidecar with a startupProbe and 2 apps.
fn five(bench: &Bench<'_>, size: Size, section: &mut Section) -> Result<()> {
    let mut ready = [const { Vec::new() }; 2];
    let mut asked = [const { Vec::new() }; 2];
    let mut running = [const { Vec::new() }; 2];
    for round in 0..=size.rounds {
        for (at, side) in SIDES.into_iter().enumerate() {
            let name = format!("{side}-{round}").to_lowercase();
            let dir = bench.shared(&name)?;
            let took = bench.turn(side, &[pod_of_five(&name, &dir.display().to_string())])?.took;
            if round == 0 {
                // The first is for warming up.
                continue;
            }
            ready[at].push(took);
            let moments = Moments::of(bench.containerd_log(), dir);
            for (before, after) in [("i0.end", "i1"), ("i1.end", "s"), ("s.probed", "a0")] {
                let since = moments.touched(before)?;
                asked[at].push(moments.asked_for(&format!("{name}-{after}"))? - since);
                running[at].push(moments.touched(&format!("{after}.start"))? - since);
            }
        }
    }
    let count = asked[0].len();
    let what =
        format!("its dependency is ready → the runtime is asked for a container ({count} times)");
    section.push(compare(&what, 50.0, &asked));
    section.push(compare("… → it runs, with the runtime's own time for that", 50.0, &running));
    let seconds = ready.map(|all| all.iter().map(Duration::as_secs_f64).collect());
    let what = "a pod of 5 (2 init, a sidecar with a startupProbe, 2 apps), start to Ready";
    section.push(compare(what, 3.0, &seconds));
    Ok(())
}

/// A row about seconds on both sides.
fn compare(what: &str, wanted: f64, [theirs, ours]: &[Vec<f64>; 2]) -> Row {
    let of = |seconds: &[f64]| Samples::new(seconds.iter().map(|s| s * 1e3).collect());
    let (theirs, ours) = (of(theirs), of(ours));
    // The clock of the containers' marks ticks every 4 ms.
    let ratio = theirs.median() / ours.median().max(1.0);
    let row = Row::new(what).got(&format!(
        "holdfast p50 {:.0} ms (max {:.0}), kubelet p50 {:.0} ms (max {:.0}): {ratio:.1} times",
        ours.median(),
        ours.max(),
        theirs.median(),
        theirs.max(),
    ));
    row.wanted(&format!("≥ {wanted:.0} times faster")).ok(ratio >= wanted)
}

fn pod_of_five(name: &str, dir: &str) -> Value {
    let named = |short: &str| format!("{name}-{short}");
    let init = |short: &str| {
        let script = format!("touch /t/{short}.start; sleep 0.2; touch /t/{short}.end");
        container(&named(short), IMAGE, &["sh", "-c", &script])
    };
    let stays =
        |short: &str| format!("trap 'exit 0' TERM; touch /t/{short}.start; sleep 100000 & wait");
    let probe = ["sh", "-c", "touch /t/s.probed"];
    let sidecar = sidecar(&named("s"), IMAGE, &["sh", "-c", &stays("s")], &probe);
    let app = |short: &str| container(&named(short), IMAGE, &["sh", "-c", &stays(short)]);
    let mut pod = pod(name, vec![init("i0"), init("i1"), sidecar], vec![app("a0"), app("a1")]);
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["volumeMounts"] = json!([{ "name": "t", "mountPath": "/t" }]);
        }
    }
    pod["spec"]["volumes"] = json!([{ "name": "t", "hostPath": { "path": dir } }]);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

/// Many pods of one container at once.
fn many(bench: &Bench<'_>, size: Size, section: &mut Section) -> Result<()> {
    let script = "trap 'exit 0' TERM; sleep 100000 & wait";
    let mut turns = Vec::new();
    for side in SIDES {
        let pods: Vec<Value> = (0..size.pods)
            .map(|at| {
                let app = container("app", IMAGE, &["sh", "-c", script]);
                let mut pod = pod(&format!("many-{side}-{at}").to_lowercase(), vec![], vec![app]);
                pod["spec"]["automountServiceAccountToken"] = json!(false);
                pod
            })
            .collect();
        turns.push(bench.turn(side, &pods)?);
    }
    let (theirs, ours) = (&turns[0], &turns[1]);
    let pods = size.pods;
    let row = |what: &str, unit: &str, of: &dyn Fn(Duration, Used) -> f64| {
        let (theirs, ours) = (of(theirs.took, theirs.used), of(ours.took, ours.used));
        Row::new(&format!("{pods} pods at once: {what}"))
            .wanted("less")
            .got(&format!(
                "holdfast {ours:.1} {unit}, kubelet {theirs:.1} {unit}: {:.1} times",
                theirs / ours
            ))
            .ok(ours < theirs)
    };
    section.push(row("time until all are Ready", "s", &|took, _| took.as_secs_f64()));
    section.push(row("processor time until then", "s", &|_, used| used.cpu.as_secs_f64()));
    section.push(row("resident memory then", "MiB", &|_, used| used.rss_kib as f64 / 1024.0));
    Ok(())
}
