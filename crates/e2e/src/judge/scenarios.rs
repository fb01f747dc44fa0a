//! The pods of the traces, chosen so that each rule of the kubelet's is seen at work once.
//!
//! Steps are those of `holdfast-actor` (`crates/actor/src/script.rs`). Moments that matter are three
//! seconds apart or more: the kubelet looks once a second, and a machine may be busy.

mod life;
mod start;
mod trouble;

use super::pod::{Act, By, Container, Deed, Hook, Kind, Pod, Policy, Probe, Rule, StartFault};

/// A scenario: what it shows, and the pod.
pub(super) struct Scenario {
    pub(super) about: &'static str,
    pub(super) pod: Pod,
}

fn init(name: &str, steps: &str) -> Container {
    Container::new(Kind::Init, name, steps)
}

fn sidecar(name: &str, steps: &str) -> Container {
    Container::new(Kind::Sidecar, name, steps)
}

fn app(name: &str, steps: &str) -> Container {
    Container::new(Kind::App, name, steps)
}

const fn by(by: By) -> Probe {
    Probe { by, delay: 0, period: 2, timeout: 1, successes: 1, failures: 1, grace: None }
}

impl Container {
    fn startup(self, probe: Probe) -> Self {
        Self { startup: Some(probe), ..self }
    }

    fn readiness(self, probe: Probe) -> Self {
        Self { readiness: Some(probe), ..self }
    }

    fn liveness(self, probe: Probe) -> Self {
        Self { liveness: Some(probe), ..self }
    }

    fn post(self, hook: Hook) -> Self {
        Self { post: Some(hook), ..self }
    }

    fn pre(self, hook: Hook) -> Self {
        Self { pre: Some(hook), ..self }
    }

    fn broken(self, fault: StartFault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    fn policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    fn rule(mut self, negated: bool, codes: &[u8]) -> Self {
        self.rules.push(Rule { negated, codes: codes.to_vec() });
        self
    }
}

impl Pod {
    /// `deed`, so many milliseconds after the start of a run.
    fn then(mut self, container: &str, run: usize, millis: u64, what: Deed) -> Self {
        let since = Some((container.to_owned(), run));
        self.acts.push(Act { since, millis, what });
        self
    }

    fn deleted(self, container: &str, run: usize, millis: u64) -> Self {
        self.then(container, run, millis, Deed::Delete(None))
    }

    /// Deleted so many milliseconds after it was made.
    fn deleted_after(mut self, millis: u64) -> Self {
        self.acts.push(Act { since: None, millis, what: Deed::Delete(None) });
        self
    }

    fn grace(self, seconds: u64) -> Self {
        Self { grace: Some(seconds), ..self }
    }

    fn deadline(self, seconds: u64) -> Self {
        Self { deadline: Some(seconds), ..self }
    }
}

/// All of them.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = Table(Vec::new());
    start::inits(&mut all);
    start::sidecars(&mut all);
    life::restarts(&mut all);
    life::probes(&mut all);
    life::hooks(&mut all);
    trouble::deletions(&mut all);
    trouble::faults(&mut all);
    trouble::sandboxes(&mut all);
    all.0
}

struct Table(Vec<Scenario>);

impl Table {
    fn add<const N: usize>(
        &mut self,
        name: &str,
        policy: Policy,
        about: &'static str,
        containers: [Container; N],
        more: impl FnOnce(Pod) -> Pod,
    ) {
        let pod = Pod {
            name: name.to_owned(),
            policy,
            grace: None,
            deadline: None,
            containers: containers.into(),
            acts: Vec::new(),
        };
        self.0.push(Scenario { about, pod: more(pod) });
    }
}
