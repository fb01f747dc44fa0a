//! Random pods: the same ones for the same seed.
//!
//! What happens in a pod happens at moments that lie seconds apart: counted from the first start of
//! its last app (`Plot::anchor`), one event to a slot. So the outcome does not hang on who is a moment
//! quicker, and the kubelet, which looks once a second, can be held against somebody who does not wait.

use super::pod::{Act, By, Container, Deed, Hook, Kind, Pod, Policy, Probe, Rule, StartFault};

/// The distance of two events.
const SLOT: u64 = 5000;
/// Slots in which a back-off of 10 s is over for the kubelet too: it comes back up to half as late
/// again.
const BACK_OFF: u64 = 4;
/// A postStart hook that fails.
const FAILING: Hook = Hook::Exec(2000, 1);

/// Numbers that look random (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`.
    const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True in so many of a hundred cases.
    const fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// The `n`th pod of a seed.
pub(super) fn pod(seed: u64, n: u64) -> Pod {
    let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(n));
    // The first numbers of near seeds are alike.
    random.next();
    let mut plot = Plot::new(random, format!("s{seed}-{n}"));
    plot.containers();
    match plot.course() {
        Course::Runs => {
            plot.events();
            plot.end();
        }
        // The apps never run: it is deleted when it has been seen to be stuck, and before a back-off
        // of 10 s is over.
        Course::Stuck(since) => {
            let since = since.map(|name| (name, 0));
            plot.pod.acts.push(Act { since, millis: 9000, what: Deed::Delete(None) });
        }
        Course::Fails => {}
    }
    plot.pod
}

/// How far a pod gets by itself.
enum Course {
    /// All its apps start.
    Runs,
    /// It stands still for ever, once this container has started.
    Stuck(Option<String>),
    /// An init container fails for good.
    Fails,
}

/// A pod in the making.
struct Plot {
    random: Random,
    pod: Pod,
    /// The last app: moments are counted from its start.
    anchor: String,
    /// The next slot that is free.
    slot: u64,
    /// Slots that must pass at the end, because a container backs off.
    rest: u64,
}

impl Plot {
    fn new(mut random: Random, name: String) -> Self {
        let policy = random.pick(&[Policy::Always, Policy::OnFailure, Policy::Never]);
        let pod = Pod {
            name,
            policy,
            grace: None,
            deadline: None,
            containers: Vec::new(),
            acts: Vec::new(),
        };
        Self { random, pod, anchor: String::new(), slot: 1, rest: 0 }
    }

    fn containers(&mut self) {
        let inits = self.random.pick(&[0, 0, 1, 1, 2, 2, 3, 4, 5]);
        let apps = self.random.pick(&[1, 1, 1, 2, 2, 3, 4]);
        for n in 0..inits {
            let container = if self.random.percent(45) {
                self.sidecar(&format!("side-{n}"))
            } else {
                self.init(&format!("init-{n}"))
            };
            self.pod.containers.push(container);
        }
        for n in 0..apps {
            let app = self.app(&format!("app-{n}"));
            self.pod.containers.push(app);
        }
        self.anchor = format!("app-{}", apps - 1);
        if self.random.percent(8) {
            let broken = self.random.below(self.pod.containers.len() as u64) as usize;
            let fault = self.random.pick(&[
                StartFault::NeverPull,
                StartFault::InvalidName,
                StartFault::Refused,
                StartFault::NoConfigMap,
                StartFault::NoCommand,
            ]);
            // One that is tried again and again would be at another count on each side.
            let anchor = self.pod.containers.len() - 1;
            let again = fault == StartFault::NoCommand;
            let is_app = self.pod.containers[broken].kind == Kind::App;
            let broken = if again && is_app { anchor } else { broken };
            self.pod.containers[broken].fault = Some(fault);
        }
        // So would be two containers whose hooks fail.
        let fails = |c: &Container| c.post == Some(FAILING);
        let first = self.pod.containers.iter().position(fails);
        for c in self.pod.containers.iter_mut().skip(first.map_or(0, |first| first + 1)) {
            if fails(c) {
                c.post = Some(Hook::Sleep(1));
            }
        }
    }

    fn init(&mut self, name: &str) -> Container {
        let random = &mut self.random;
        let takes = random.pick(&[1000, 2000, 3000]);
        let code = random.pick(&[1, 2, 42]);
        let steps = match random.below(20) {
            0..=15 => format!("exit=0@{takes}"),
            16..=17 => format!("exit={code}@{takes} / exit=0@1000"),
            18 => format!("exit={code}@{takes} / exit={code}@2000 / exit=0@1000"),
            _ => format!("exit={code}@{takes} / exit={code}@{takes}"),
        };
        let mut container = Container::new(Kind::Init, name, &steps);
        self.policies(&mut container);
        container
    }

    /// A restartPolicy of the container's own, and rules.
    fn policies(&mut self, container: &mut Container) {
        let random = &mut self.random;
        if !random.percent(15) {
            return;
        }
        container.policy = Some(random.pick(&[Policy::Always, Policy::OnFailure, Policy::Never]));
        // An init container with Always is a sidecar.
        if container.kind == Kind::Init && container.policy == Some(Policy::Always) {
            container.policy = Some(Policy::OnFailure);
        }
        if random.percent(60) {
            let (negated, codes) =
                random.pick(&[(false, &[42][..]), (true, &[0, 1]), (false, &[1, 2])]);
            container.rules.push(Rule { negated, codes: codes.to_vec() });
        }
    }

    fn sidecar(&mut self, name: &str) -> Container {
        let steps = self.term();
        let mut container = Container::new(Kind::Sidecar, name, &steps);
        if self.random.percent(35) {
            self.startup(&mut container);
        }
        self.probes_and_hooks(&mut container);
        container
    }

    fn app(&mut self, name: &str) -> Container {
        let mut steps = self.term();
        if self.random.percent(12) {
            steps.push_str(" message=a-message");
        }
        let mut container = Container::new(Kind::App, name, &steps);
        if self.random.percent(12) {
            container.message_from_logs = true;
            container.runs[0].push("print=a-line".to_owned());
        }
        if self.random.percent(20) {
            self.startup(&mut container);
        }
        self.policies(&mut container);
        self.probes_and_hooks(&mut container);
        container
    }

    /// What SIGTERM does.
    fn term(&mut self) -> String {
        match self.random.below(10) {
            0..=3 => "term=0@0".to_owned(),
            4..=5 => "term=143@0".to_owned(),
            6..=7 => format!("term={}@1000", self.random.pick(&[0, 1, 7])),
            8 => "term=0@2000".to_owned(),
            _ => {
                self.pod.grace = Some(4);
                "term=ignore".to_owned()
            }
        }
    }

    fn by(&mut self) -> By {
        self.random.pick(&[By::Exec, By::Http, By::Http, By::Tcp, By::Grpc])
    }

    fn startup(&mut self, container: &mut Container) {
        let by = self.by();
        let ok = self.random.pick(&[0, 2000, 4000]);
        if ok > 0 {
            container.runs[0].push(format!("startup=bad,ok@{ok}"));
        }
        container.startup =
            Some(Probe { by, period: 1, timeout: 4, failures: 30, ..Probe::default() });
    }

    fn probes_and_hooks(&mut self, container: &mut Container) {
        if self.random.percent(30) {
            let by = self.by();
            let successes = self.random.pick(&[1, 1, 2]);
            let probe = Probe { by, period: 1, timeout: 4, successes, ..Probe::default() };
            container.readiness = Some(probe);
            if self.random.percent(25) {
                container.runs[0].push("readiness=bad,ok@4000".to_owned());
            }
        }
        if self.random.percent(20) {
            container.post = Some(self.random.pick(&[
                Hook::Exec(1000, 0),
                Hook::Exec(2000, 0),
                Hook::Sleep(2),
                FAILING,
            ]));
            // One that fails would never let the next one run.
            if container.post == Some(FAILING) && self.random.percent(70) {
                container.post = Some(Hook::Sleep(1));
            }
        }
        if self.random.percent(25) {
            container.pre = Some(self.random.pick(&[
                Hook::Exec(1000, 0),
                Hook::Exec(2000, 1),
                Hook::Sleep(2),
                Hook::Http,
            ]));
        }
    }

    /// The moment of the next slot, as a time in a script.
    fn moment(&mut self) -> String {
        self.slot += 1;
        format!("{}+{}", self.anchor, (self.slot - 1) * SLOT)
    }

    /// What happens while the apps run, and how long it is watched.
    fn events(&mut self) {
        let events = self.random.pick(&[0, 1, 1, 2, 2, 3, 4]);
        let mut free: Vec<usize> = (0..self.pod.containers.len())
            .filter(|&at| self.pod.containers[at].kind != Kind::Init)
            .collect();
        for _ in 0..events {
            if free.is_empty() {
                break;
            }
            let at = free.swap_remove(self.random.below(free.len() as u64) as usize);
            self.event(at);
        }
        for container in &mut self.pod.containers {
            // A later run starts anew, long after the moments that were counted from the anchor.
            let later = Self::later(container);
            if container.kind != Kind::Init && container.runs.len() == 1 {
                container.runs.push(later);
            }
        }
    }

    /// The steps of later runs: those of the first but for its end and what turns bad.
    fn later(container: &Container) -> Vec<String> {
        let stays = |step: &&String| {
            ["term=", "startup=", "print=", "message="].iter().any(|s| step.starts_with(s))
        };
        container.runs[0].iter().filter(stays).cloned().collect()
    }

    /// Something happens to a container.
    fn event(&mut self, at: usize) {
        let moment = self.moment();
        let by = self.by();
        let code = self.random.pick(&[0, 0, 1, 2, 42]);
        let kind = self.random.below(10);
        let container = &mut self.pod.containers[at];
        let later = Self::later(container);
        match kind {
            0..=5 => {
                container.runs[0].push(format!("exit={code}@{moment}"));
                let mut second = later.clone();
                if self.random.percent(30) {
                    second.push(format!("exit={}@3000", self.random.pick(&[0, 1, 42])));
                    container.runs.push(second);
                    self.slot += 1;
                    self.rest = BACK_OFF;
                }
                container.runs.push(later);
            }
            6..=8 => {
                let failures = self.random.pick(&[1, 2]);
                let probe = Probe { by, period: 1, timeout: 4, failures, ..Probe::default() };
                container.liveness = Some(probe);
                container.runs[0].push(format!("liveness=ok,bad@{moment}"));
                container.runs.push(later);
            }
            _ => {
                let probe = Probe { by, period: 1, timeout: 4, ..Probe::default() };
                container.readiness = Some(probe);
                container.runs[0].retain(|s| !s.starts_with("readiness="));
                container.runs[0].push(format!("readiness=ok,bad@{moment}"));
                container.runs.push(later);
            }
        }
    }

    /// How it ends: by itself, by a deadline, or by a delete at the last slot or before.
    fn end(&mut self) {
        let starts = self.pod.containers.iter().filter(|c| c.kind != Kind::App).count() as u64;
        self.slot += self.rest;
        match self.random.below(20) {
            0..=2 => {
                self.slot += 1;
                let what = self.random.pick(&[Deed::LoseSandbox, Deed::KillPause, Deed::KillPause]);
                self.act(what);
                // All of it starts again, and that takes the kubelet longer.
                self.slot += starts;
                // Whoever was restarted before backs off, and twice as long the second time.
                self.slot += match (self.slot, self.rest) {
                    (..=3, _) => 2,
                    (_, 0) => BACK_OFF,
                    _ => 2 * BACK_OFF,
                };
                self.act(Deed::Delete(None));
            }
            3 => {
                self.pod.deadline = Some(20 + 4 * starts + self.slot * SLOT / 1000);
            }
            4..=7 => {
                let long = self.long();
                let what = Deed::Delete(None);
                match long.is_empty() {
                    true => self.act(what),
                    false => {
                        let name = long[self.random.below(long.len() as u64) as usize].clone();
                        self.pod.acts.push(Act { since: Some((name, 0)), millis: 700, what });
                    }
                }
            }
            _ => {
                self.slot += 1;
                self.act(Deed::Delete(None));
            }
        }
    }

    /// Containers with something in their first two seconds that everybody else waits for: there a
    /// delete finds the pod in the same state, whoever runs it.
    fn long(&self) -> Vec<String> {
        let takes = |c: &Container, what: &str| {
            let step = c.runs[0].iter().find(|s| s.starts_with(what));
            step.is_some_and(|s| !s.ends_with("@1000"))
        };
        let mut apps = self.pod.containers.iter().filter(|c| c.kind == Kind::App);
        let quiet = apps.all(|c| c.startup.is_none() && c.readiness.is_none());
        let long = |c: &&Container| match c.kind {
            Kind::App if !quiet => false,
            Kind::Init => c.runs[0].iter().any(|s| s.starts_with("exit=") && s.ends_with("@3000")),
            Kind::Sidecar if matches!(c.post, Some(Hook::Exec(2000, 0) | Hook::Sleep(2))) => true,
            Kind::Sidecar => c.startup.is_some() && takes(c, "startup="),
            Kind::App => c.name == self.anchor && c.post.is_none(),
        };
        self.pod.containers.iter().filter(long).map(|c| c.name.clone()).collect()
    }

    fn act(&mut self, what: Deed) {
        let since = Some((self.anchor.clone(), 0));
        self.pod.acts.push(Act { since, millis: self.slot * SLOT, what });
        self.slot += 1;
    }

    /// How far it gets, by what its containers do before the last app runs.
    fn course(&self) -> Course {
        let mut last = None;
        for c in &self.pod.containers {
            match (c.kind, c.fault) {
                (Kind::Init, Some(StartFault::NoCommand)) if !self.is_tried_again(c, 128) => {
                    return Course::Fails;
                }
                (Kind::Init | Kind::Sidecar, Some(_)) => return Course::Stuck(last),
                (Kind::App, Some(_)) if c.name == self.anchor => return Course::Stuck(last),
                (Kind::App, Some(_)) => continue,
                (_, None) => last = Some(c.name.clone()),
            }
            if c.kind == Kind::Init {
                let codes = c.runs.iter().filter_map(|run| code(run));
                let fails = codes.take_while(|code| *code != 0).collect::<Vec<u8>>();
                if fails.iter().any(|&code| !self.is_tried_again(c, code)) {
                    return Course::Fails;
                }
                if fails.len() == c.runs.len() {
                    return Course::Stuck(last);
                }
            } else if c.post == Some(FAILING) {
                return Course::Stuck(last);
            }
        }
        Course::Runs
    }

    /// Whether an init container is run again after it ended with this code.
    fn is_tried_again(&self, c: &Container, code: u8) -> bool {
        let by_rule = c.rules.iter().any(|rule| rule.codes.contains(&code) != rule.negated);
        by_rule || c.policy.unwrap_or(self.pod.policy) != Policy::Never
    }
}

/// The exit code of a run that ends by itself.
fn code(run: &[String]) -> Option<u8> {
    let step = run.iter().find_map(|step| step.strip_prefix("exit="))?;
    step.split_once('@')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_pods_and_all_sorts_of_them() {
        let pods: Vec<Pod> = (0..500).map(|n| pod(7, n)).collect();
        assert_eq!(pods[17], pod(7, 17));
        let some = |f: &dyn Fn(&Pod) -> bool| pods.iter().any(f);
        assert!(some(&|p| p.containers.len() > 6) && some(&|p| p.containers.len() == 1));
        assert!(some(&|p| p.deadline.is_some()));
        assert!(some(&|p| p.acts.iter().any(|a| a.what == Deed::LoseSandbox)));
        assert!(some(&|p| p.containers.iter().any(|c| !c.rules.is_empty())));
        assert!(some(&|p| p.containers.iter().any(|c| c.fault.is_some())));
        for by in [By::Exec, By::Http, By::Tcp, By::Grpc] {
            assert!(some(&|p| p.containers.iter().any(|c| c.liveness.is_some_and(|l| l.by == by))));
        }
        assert!(pods.iter().all(|p| p.containers.iter().all(|c| !c.runs.is_empty())));
    }
}
