//! Timelines for tests.

use crate::timeline::{
    After, Container, ContainerKind, HookName, Mark, Pod, ProbeName, Reached, Step, Timeline,
    VERSION,
};

/// Builds a timeline, pod by pod.
pub(crate) struct Told {
    pub(crate) timeline: Timeline,
    at: f64,
}

impl Told {
    pub(crate) fn new() -> Self {
        let timeline =
            Timeline { version: VERSION, start: None, pods: vec![], marks: vec![], bounds: vec![] };
        Self { timeline, at: 0.0 }
    }

    pub(crate) fn pod(mut self, name: &str, containers: &[(&str, ContainerKind)]) -> Self {
        let containers = containers.iter().map(|&(name, kind)| Container {
            name: name.to_owned(),
            kind,
            image: format!("registry.example/{name}:1"),
        });
        let containers = containers.collect();
        self.timeline.pods.push(Pod { name: name.to_owned(), at: self.at, containers });
        self
    }

    /// From now on, it is this late.
    pub(crate) fn at(mut self, at: f64) -> Self {
        self.at = at;
        self
    }

    /// Of the last pod, or of one of its containers.
    pub(crate) fn mark(mut self, container: &str, run: u32, step: Step) -> Self {
        let pod = self.timeline.pods.last().map_or("p", |p| &p.name).to_owned();
        let container = (!container.is_empty()).then(|| container.to_owned());
        let run = container.is_some().then_some(run);
        self.timeline.marks.push(Mark { at: self.at, pod, container, run, step });
        self
    }

    pub(crate) fn sandbox(self) -> Self {
        self.mark("", 0, Step::SandboxReady)
    }

    pub(crate) fn phase(self, phase: &str) -> Self {
        self.mark("", 0, Step::Phase { phase: phase.to_owned() })
    }

    /// A start that waited for this.
    pub(crate) fn start(self, container: &str, after: &[(&str, Reached)]) -> Self {
        let after: Vec<After> = after
            .iter()
            .map(|&(name, reached)| After { container: name.to_owned(), reached })
            .collect();
        let waited_for = match after.first() {
            None => "the sandbox".to_owned(),
            Some(first) => format!("{:?} of {}", first.reached, first.container),
        };
        self.mark(container, 0, Step::Start { waited_for, after })
    }

    pub(crate) fn again(self, container: &str, run: u32) -> Self {
        let waited_for = "the end of its last run and its back-off".to_owned();
        self.mark(container, run, Step::Start { waited_for, after: vec![] })
    }

    pub(crate) fn running(self, container: &str, run: u32) -> Self {
        self.mark(container, run, Step::Running)
    }

    pub(crate) fn started(self, container: &str, run: u32) -> Self {
        self.mark(container, run, Step::Started)
    }

    pub(crate) fn ready(self, container: &str, run: u32) -> Self {
        self.mark(container, run, Step::Ready)
    }

    pub(crate) fn exited(self, container: &str, run: u32, exit_code: i32) -> Self {
        self.mark(container, run, Step::Exited { exit_code })
    }

    pub(crate) fn probe(self, container: &str, probe: ProbeName, passed: Option<bool>) -> Self {
        let message =
            (passed != Some(true)).then(|| "HTTP probe failed with statuscode: 503".to_owned());
        self.mark(container, 0, Step::Probe { probe, passed, message })
    }

    pub(crate) fn pre_stop(self, container: &str) -> Self {
        self.mark(container, 0, Step::HookBegun { hook: HookName::PreStop })
    }
}

/// An init container, a sidecar with a startup probe, and an app that ends; then the sidecar is stopped.
pub(crate) fn shop() -> Timeline {
    use ContainerKind::{App, Init, Sidecar};
    Told::new()
        .pod("shop", &[("migrate", Init), ("tunnel", Sidecar), ("app", App)])
        .at(0.02)
        .sandbox()
        .start("migrate", &[])
        .at(0.03)
        .running("migrate", 0)
        .at(0.53)
        .exited("migrate", 0, 0)
        .start("tunnel", &[("migrate", Reached::Exited)])
        .at(0.54)
        .running("tunnel", 0)
        .at(0.55)
        .probe("tunnel", ProbeName::Startup, Some(false))
        .at(1.55)
        .probe("tunnel", ProbeName::Startup, Some(true))
        .started("tunnel", 0)
        .ready("tunnel", 0)
        .start("app", &[("tunnel", Reached::Started)])
        .at(1.56)
        .running("app", 0)
        .phase("Running")
        .started("app", 0)
        .at(1.6)
        .ready("app", 0)
        .at(2.6)
        .exited("app", 0, 0)
        .pre_stop("tunnel")
        .mark("tunnel", 0, Step::Stop { grace_seconds: 30 })
        .at(2.7)
        .exited("tunnel", 0, 0)
        .phase("Succeeded")
        .timeline
}

/// A pod of `n` containers, a few of them init containers, that become ready one after the other.
pub(crate) fn crowd(n: usize) -> Timeline {
    let inits = n / 5;
    let names: Vec<String> = (0..n).map(|i| format!("container-{i:02}")).collect();
    let kind = |i| if i < inits { ContainerKind::Init } else { ContainerKind::App };
    let containers: Vec<_> = names.iter().enumerate().map(|(i, n)| (n.as_str(), kind(i))).collect();
    let mut told = Told::new().pod("crowd", &containers).at(0.01).sandbox();
    for (i, name) in names.iter().enumerate() {
        let at = 0.02 + i as f64 * 0.1;
        let reached = if i > 0 && i <= inits { Reached::Exited } else { Reached::Running };
        let after: Vec<_> =
            i.checked_sub(1).map(|b| (names[b].as_str(), reached)).into_iter().collect();
        told = told.at(at).start(name, &after).at(at + 0.02).running(name, 0);
        told = match kind(i) {
            ContainerKind::Init => told.at(at + 0.09).exited(name, 0, 0),
            _ => told.started(name, 0),
        };
    }
    for (i, name) in names.iter().enumerate().skip(inits) {
        told = told.at(0.1 * n as f64 + 0.05 * i as f64).ready(name, 0);
    }
    told.timeline
}
