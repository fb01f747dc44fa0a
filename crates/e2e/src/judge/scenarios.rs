//! The pods of the traces, chosen so that each rule of the kubelet's is seen at work once.
//!
//! Steps are those of `holdfast-actor` (`crates/actor/src/script.rs`). Moments that matter are three
//! seconds apart or more: the kubelet looks once a second, and a machine may be busy.

use super::pod::{
    Act, By, Container, Deed, Hook, Kind, Pod,
    Policy::{self, Always, Never, OnFailure},
    Probe, Rule, StartFault,
};

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
    inits(&mut all);
    sidecars(&mut all);
    restarts(&mut all);
    probes(&mut all);
    hooks(&mut all);
    deletions(&mut all);
    faults(&mut all);
    sandboxes(&mut all);
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

fn inits(t: &mut Table) {
    t.add(
        "init-ok",
        Never,
        "Init containers one after the other, then the app; all end well.",
        [init("first", "exit=0@3000"), init("second", "exit=0@3000"), app("app", "exit=0@3000")],
        |p| p,
    );
    t.add(
        "init-fails-never",
        Never,
        "An init container fails under restartPolicy Never: the pod fails, the app never starts.",
        [init("init", "exit=3@3000"), app("app", "")],
        |p| p,
    );
    t.add(
        "init-retries-on-failure",
        OnFailure,
        "An init container fails once under restartPolicy OnFailure, and is run again at once.",
        [init("init", "exit=3@3000 / exit=0@3000"), app("app", "exit=0@3000")],
        |p| p,
    );
    t.add(
        "init-retries-always",
        Always,
        "The second init container fails twice, the first is not run again; deleted when it runs.",
        [
            init("first", "exit=0@3000"),
            init("second", "exit=1@3000 / exit=1@3000 / exit=0@3000"),
            app("app", ""),
        ],
        |p| p.deleted("app", 0, 4000),
    );
    t.add(
        "init-own-policy",
        Always,
        "An init container with a restartPolicy of its own, Never: its failure ends the pod.",
        [init("init", "exit=3@3000").policy(Never), app("app", "")],
        |p| p,
    );
    t.add(
        "init-own-rule",
        Never,
        "An init container whose rule restarts it on code 3, under restartPolicy Never.",
        [
            init("init", "exit=3@3000 / exit=0@3000").policy(Never).rule(false, &[3]),
            app("app", "exit=0@3000"),
        ],
        |p| p,
    );
}

fn sidecars(t: &mut Table) {
    t.add(
        "sidecar-startup",
        Never,
        "A sidecar with a startup probe holds the app back; it stops last.",
        [
            sidecar("proxy", "startup=bad,ok@5000 term=0@1000")
                .startup(Probe { failures: 10, ..by(By::Exec) }),
            app("app", "exit=0@5000"),
        ],
        |p| p,
    );
    t.add(
        "sidecars-stop-in-reverse",
        Never,
        "Three sidecars and an app that ends: they stop one after the other, the last first.",
        [
            sidecar("one", "term=0@2000"),
            sidecar("two", "term=1@2000"),
            sidecar("three", "term=0@2000"),
            app("app", "exit=0@5000"),
        ],
        |p| p,
    );
    t.add(
        "sidecar-between-inits",
        Never,
        "A sidecar between two init containers, up before the second and until the end.",
        [
            init("first", "exit=0@3000"),
            sidecar("proxy", ""),
            init("second", "exit=0@3000"),
            app("app", "exit=7@4000"),
        ],
        |p| p,
    );
    t.add(
        "sidecar-crashes",
        Never,
        "A sidecar that crashes while the app runs is started again, also under Never.",
        [sidecar("proxy", "exit=1@4000 /"), app("app", "exit=0@12000")],
        |p| p,
    );
    t.add(
        "sidecar-startup-fails",
        Never,
        "A sidecar whose startup probe fails is killed and started again; the pod stays Pending.",
        [
            sidecar("proxy", "startup=bad term=0@1000 / startup=ok")
                .startup(Probe { failures: 2, ..by(By::Exec) }),
            app("app", "exit=0@4000"),
        ],
        |p| p,
    );
    t.add(
        "sidecar-liveness",
        Never,
        "A liveness probe restarts a sidecar and nothing else.",
        [
            sidecar("proxy", "liveness=ok,bad@4000 /").liveness(by(By::Http)),
            app("app", "exit=0@14000"),
        ],
        |p| p,
    );
    t.add(
        "sidecar-readiness",
        Never,
        "The readiness of a sidecar counts for the pod and holds nobody back.",
        [
            sidecar("proxy", "readiness=bad,ok@7000").readiness(by(By::Http)),
            app("app", "exit=0@12000"),
        ],
        |p| p,
    );
    t.add(
        "sidecars-ignore-term",
        Never,
        "Deleted: the app ends at once, the second sidecar ignores SIGTERM until the grace period ends.",
        [sidecar("one", "term=0@1000"), sidecar("two", "term=ignore"), app("app", "")],
        |p| p.grace(6).deleted("app", 0, 4000),
    );
    t.add(
        "sidecar-pre-stop",
        Never,
        "preStop hooks of app and sidecars begin together when the pod is deleted.",
        [
            sidecar("one", "").pre(Hook::Exec(2000, 0)),
            sidecar("two", "").pre(Hook::Exec(2000, 1)),
            app("app", "").pre(Hook::Exec(4000, 0)),
        ],
        |p| p.deleted("app", 0, 4000),
    );
}

fn restarts(t: &mut Table) {
    t.add(
        "crash-loop",
        Always,
        "An app that crashes: at once again, then after 10 s; deleted while it backs off.",
        [app("app", "exit=1@3000")],
        |p| p.deleted("app", 2, 6000),
    );
    t.add(
        "crash-loop-long",
        Always,
        "The back-off doubles: 10 s, then 20 s. Ending with 0 does not help under Always.",
        [app("app", "exit=0@3000 / exit=2@3000 / exit=0@3000 / ")],
        |p| p.deleted("app", 3, 4000),
    );
    t.add(
        "on-failure-retries",
        OnFailure,
        "An app that fails once and then ends well.",
        [app("app", "exit=1@3000 / exit=0@3000")],
        |p| p,
    );
    t.add(
        "never-two-apps",
        Never,
        "Two apps under Never: one fails, the pod fails when the other ends too.",
        [app("bad", "exit=4@3000"), app("good", "exit=0@8000")],
        |p| p,
    );
    t.add(
        "on-failure-two-apps",
        OnFailure,
        "Two apps under OnFailure: the one that ended well stays ended while the other is run again.",
        [app("good", "exit=0@3000"), app("bad", "exit=1@6000 / exit=0@3000")],
        |p| p,
    );
    t.add(
        "own-policy-never",
        Always,
        "An app with a restartPolicy of its own, Never, beside one that goes on.",
        [app("once", "exit=1@3000").policy(Never), app("on", "")],
        |p| p.deleted("once", 0, 8000),
    );
    t.add(
        "own-rule-restarts",
        Never,
        "A rule restarts an app on code 42; the second run ends with 1, which no rule names.",
        [app("app", "exit=42@3000 / exit=1@3000").policy(Never).rule(false, &[42])],
        |p| p,
    );
    t.add(
        "own-rule-not-in",
        Never,
        "A NotIn rule: every code but 0 restarts.",
        [app("app", "exit=9@3000 / exit=0@3000").policy(Never).rule(true, &[0])],
        |p| p,
    );
    t.add(
        "deadline",
        Never,
        "activeDeadlineSeconds is over while an init container has ended and the app runs.",
        [init("init", "exit=0@3000"), app("app", "term=0@1000")],
        |p| p.deadline(10),
    );
    t.add(
        "deadline-in-init",
        Always,
        "activeDeadlineSeconds is over while an init container runs; a sidecar is up.",
        [sidecar("proxy", ""), init("init", "term=5@0"), app("app", "")],
        |p| p.deadline(8),
    );
    t.add(
        "message",
        Never,
        "A termination message in its file.",
        [app("app", "message=done print=printed exit=1@3000")],
        |p| p,
    );
    t.add(
        "message-from-logs",
        Never,
        "FallbackToLogsOnError: the output of a failure is its message, that of a success is not.",
        [
            Container { message_from_logs: true, ..app("bad", "print=why-it-failed exit=1@3000") },
            Container { message_from_logs: true, ..app("good", "print=fine exit=0@3000") },
        ],
        |p| p,
    );
}

fn probes(t: &mut Table) {
    t.add(
        "liveness-exec",
        Always,
        "A liveness command fails twice in a row: killed, and started again in the same sync.",
        [app("app", "liveness=ok,bad@5000 term=0@1000 /")
            .liveness(Probe { failures: 2, ..by(By::Exec) })],
        |p| p.deleted("app", 1, 5000),
    );
    t.add(
        "liveness-never",
        Never,
        "A liveness probe under Never: killed, not started again; it ended with 0, so it succeeded.",
        [app("app", "liveness=ok,bad@5000 term=0@1000").liveness(by(By::Http))],
        |p| p,
    );
    t.add(
        "liveness-tcp-grace",
        Always,
        "A port that closes; the probe's own grace period, and a container that ignores SIGTERM.",
        [app("app", "liveness=ok,bad@5000 term=ignore / ")
            .liveness(Probe { grace: Some(3), ..by(By::Tcp) })],
        |p| p.grace(20).deleted("app", 1, 5000),
    );
    t.add(
        "liveness-grpc",
        OnFailure,
        "gRPC health turns to NOT_SERVING: killed, ended with 1, started again.",
        [app("app", "liveness=ok,bad@5000 term=1@0 / exit=0@5000").liveness(by(By::Grpc))],
        |p| p,
    );
    t.add(
        "liveness-timeout",
        Always,
        "A liveness command that hangs counts as failed when its time is over.",
        [app("app", "liveness=ok,hang@5000 /").liveness(Probe { timeout: 2, ..by(By::Exec) })],
        |p| p.deleted("app", 1, 5000),
    );
    t.add(
        "readiness-flaps",
        Always,
        "Ready, not ready, ready again, by HTTP with two successes in a row.",
        [app("app", "readiness=bad,ok@3000,bad@10000,ok@14000")
            .readiness(Probe { successes: 2, ..by(By::Http) })],
        |p| p.deleted("app", 0, 21000),
    );
    t.add(
        "readiness-of-two",
        Always,
        "Two apps: the pod is ready when both are.",
        [
            app("tcp", "readiness=bad,ok@5000").readiness(by(By::Tcp)),
            app("grpc", "readiness=bad,ok@10000").readiness(by(By::Grpc)),
        ],
        |p| p.deleted("grpc", 0, 15000),
    );
    t.add(
        "startup-then-others",
        Always,
        "Liveness and readiness wait for the startup probe; readiness then runs at once.",
        [app("app", "startup=bad,ok@6000")
            .startup(Probe { failures: 10, ..by(By::Tcp) })
            .readiness(Probe { period: 30, ..by(By::Exec) })
            .liveness(by(By::Http))],
        |p| p.deleted("app", 0, 13000),
    );
    t.add(
        "startup-fails",
        Always,
        "A startup probe that fails too often: killed and started again, then backed off.",
        [app("app", "startup=bad term=0@0").startup(Probe { failures: 2, ..by(By::Exec) })],
        |p| p.deleted("app", 2, 1500),
    );
    t.add(
        "probe-delays",
        Always,
        "initialDelaySeconds of a readiness probe.",
        [app("app", "").readiness(Probe { delay: 5, ..by(By::Http) })],
        |p| p.deleted("app", 0, 11000),
    );
    t.add(
        "unready-while-stopping",
        Always,
        "A readiness probe goes on while the pod is being deleted, and turns.",
        [app("app", "readiness=ok,bad@6000 term=0@8000").readiness(by(By::Http))],
        |p| p.deleted("app", 0, 4000),
    );
}

fn hooks(t: &mut Table) {
    t.add(
        "post-start",
        Never,
        "A postStart hook of the first app holds back the second.",
        [app("first", "exit=0@9000").post(Hook::Exec(4000, 0)), app("second", "exit=0@4000")],
        |p| p,
    );
    t.add(
        "post-start-sleep",
        Never,
        "A postStart hook of a sidecar, sleep: what comes after waits for it.",
        [sidecar("proxy", "").post(Hook::Sleep(4)), app("app", "exit=0@4000")],
        |p| p,
    );
    t.add(
        "post-start-fails",
        OnFailure,
        "A postStart hook that fails: the container is killed, and run again.",
        [app("app", "term=3@0 / exit=0@5000").post(Hook::Exec(3000, 1))],
        |p| p.deleted("app", 1, 8000),
    );
    t.add(
        "pre-stop",
        Always,
        "A preStop hook runs before SIGTERM when the pod is deleted.",
        [app("app", "term=0@1000").pre(Hook::Exec(3000, 0))],
        |p| p.deleted("app", 0, 4000),
    );
    t.add(
        "pre-stop-hangs",
        Always,
        "A preStop hook that outlasts the grace period.",
        [app("app", "term=ignore").pre(Hook::Exec(60_000, 0))],
        |p| p.grace(5).deleted("app", 0, 4000),
    );
    t.add(
        "pre-stop-fails",
        Always,
        "A preStop hook that fails changes nothing; an HTTP one beside it.",
        [app("exec", "").pre(Hook::Exec(1000, 1)), app("http", "").pre(Hook::Http)],
        |p| p.deleted("http", 0, 4000),
    );
    t.add(
        "pre-stop-on-liveness",
        Always,
        "A liveness kill runs preStop too, and everything of the pod waits for it.",
        [
            app("sick", "liveness=ok,bad@5000 /").liveness(by(By::Http)).pre(Hook::Sleep(4)),
            app("well", ""),
        ],
        |p| p.deleted("sick", 1, 5000),
    );
    t.add(
        "no-pre-stop-on-exit",
        Never,
        "A container that ends by itself has no preStop.",
        [app("app", "exit=0@3000").pre(Hook::Exec(3000, 0))],
        |p| p,
    );
}

fn deletions(t: &mut Table) {
    t.add(
        "delete-running",
        Always,
        "Deleted while it runs; the app takes three seconds to stop and ends with 0.",
        [app("app", "term=0@3000")],
        |p| p.deleted("app", 0, 5000),
    );
    t.add(
        "delete-in-init",
        Always,
        "Deleted in the first of two init containers: neither the second nor the app starts.",
        [init("first", "term=0@1000"), init("second", ""), app("app", "")],
        |p| p.deleted("first", 0, 4000),
    );
    t.add(
        "delete-in-init-with-sidecar",
        Never,
        "Deleted in an init container after a sidecar: the sidecar stops after it.",
        [sidecar("proxy", "term=0@1000"), init("init", "term=9@1000"), app("app", "")],
        |p| p.deleted("init", 0, 4000),
    );
    t.add(
        "delete-ignored",
        Always,
        "SIGTERM is ignored: SIGKILL after the grace period, code 137, the pod failed.",
        [app("app", "term=ignore"), app("other", "")],
        |p| p.grace(5).deleted("app", 0, 4000),
    );
    t.add(
        "delete-own-grace",
        Always,
        "A delete with a grace period of its own, shorter than the pod's.",
        [app("app", "term=ignore")],
        |p| p.then("app", 0, 4000, Deed::Delete(Some(3))),
    );
    t.add(
        "delete-shortened",
        Always,
        "A second delete shortens the first.",
        [app("app", "term=ignore")],
        |p| {
            p.then("app", 0, 4000, Deed::Delete(Some(60))).then(
                "app",
                0,
                8000,
                Deed::Delete(Some(3)),
            )
        },
    );
    t.add(
        "delete-in-post-start",
        Always,
        "Deleted while a postStart hook runs, which outlasts the grace period.",
        [app("app", "term=0@1000").post(Hook::Exec(14_000, 0)), app("other", "")],
        |p| p.grace(5).deleted("app", 0, 4000),
    );
    t.add(
        "delete-in-liveness-kill",
        Always,
        "Deleted with a short grace period while a liveness kill waits for a container to stop.",
        [app("app", "liveness=ok,bad@3000 term=ignore").liveness(by(By::Exec))],
        |p| p.grace(25).then("app", 0, 11_000, Deed::Delete(Some(4))),
    );
    t.add(
        "delete-in-stop",
        Never,
        "Deleted with a short grace period while a sidecar stops because the app has ended.",
        [sidecar("proxy", "term=ignore"), app("app", "exit=0@4000")],
        |p| p.grace(25).then("app", 0, 9000, Deed::Delete(Some(4))),
    );
    t.add(
        "delete-unstarted-sidecar",
        Never,
        "Deleted while a sidecar's startup probe still fails.",
        [
            sidecar("one", "term=0@1000"),
            sidecar("two", "startup=bad").startup(Probe { failures: 100, ..by(By::Exec) }),
            app("app", ""),
        ],
        |p| p.deleted("two", 0, 5000),
    );
    t.add(
        "delete-after-end",
        Never,
        "Deleted when it has long ended.",
        [app("app", "exit=0@3000")],
        |p| p.deleted("app", 0, 10_000),
    );
}

fn faults(t: &mut Table) {
    t.add(
        "image-never",
        Always,
        "ErrImageNeverPull beside a container that runs.",
        [app("none", "").broken(StartFault::NeverPull), app("well", "")],
        |p| p.deleted("well", 0, 8000),
    );
    t.add(
        "image-name",
        Never,
        "InvalidImageName of an init container.",
        [init("init", "").broken(StartFault::InvalidName), app("app", "")],
        |p| p.deleted_after(8000),
    );
    t.add(
        "image-registry",
        Always,
        "ErrImagePull, ImagePullBackOff, and again, beside a container that runs.",
        [app("none", "").broken(StartFault::NoRegistry), app("well", "")],
        |p| p.deleted("well", 0, 30_000),
    );
    t.add(
        "config-map",
        Always,
        "CreateContainerConfigError: a ConfigMap that does not exist; a sidecar before it runs.",
        [sidecar("proxy", ""), app("app", "").broken(StartFault::NoConfigMap)],
        |p| p.deleted("proxy", 0, 8000),
    );
    t.add(
        "no-command",
        Never,
        "A command that is not there: RunContainerError, code 128.",
        [app("app", "").broken(StartFault::NoCommand)],
        |p| p,
    );
    t.add(
        "no-command-always",
        Always,
        "A command that is not there under Always, beside one that runs.",
        [app("none", "").broken(StartFault::NoCommand), app("well", "")],
        |p| p.deleted("well", 0, 18_000),
    );
    t.add(
        "no-command-sidecar",
        Always,
        "A sidecar whose command is not there holds everything back.",
        [sidecar("none", "").broken(StartFault::NoCommand), app("app", "")],
        |p| p.deleted_after(18_000),
    );
}

fn sandboxes(t: &mut Table) {
    t.add(
        "sandbox-lost",
        Always,
        "The sandbox is lost while the app runs: a new one, and everything from the first init.",
        [init("init", "exit=0@3000"), sidecar("proxy", "term=0@0"), app("app", "term=0@0")],
        |p| p.then("app", 0, 5000, Deed::LoseSandbox).deleted("app", 1, 5000),
    );
    t.add(
        "sandbox-lost-in-init",
        OnFailure,
        "The sandbox is lost while the second init container runs.",
        [init("first", "exit=0@3000"), init("second", "/ exit=0@3000"), app("app", "exit=0@3000")],
        |p| p.then("second", 0, 4000, Deed::LoseSandbox),
    );
    t.add(
        "sandbox-lost-never",
        Never,
        "The sandbox is lost under Never: the pod is not made again.",
        [init("init", "exit=0@3000"), app("app", "")],
        |p| p.then("app", 0, 5000, Deed::LoseSandbox),
    );
    t.add(
        "sandbox-lost-on-failure",
        OnFailure,
        "The sandbox is lost when one of two apps has ended well: only the other starts again.",
        [app("done", "exit=0@3000"), app("app", "/ exit=0@4000")],
        |p| p.then("app", 0, 7000, Deed::LoseSandbox),
    );
    t.add(
        "sandbox-lost-back-off",
        Always,
        "The sandbox is lost when the app has crashed before: it backs off in the new one.",
        [
            sidecar("one", ""),
            sidecar("two", "startup=bad,ok@5000").startup(Probe { failures: 9, ..by(By::Exec) }),
            app("app", "exit=1@3000 / "),
        ],
        |p| p.then("app", 1, 5000, Deed::LoseSandbox).deleted("app", 2, 6000),
    );
    t.add(
        "kubelet-restarts",
        Always,
        "The kubelet is restarted under a running pod: nothing happens to it.",
        [
            init("init", "exit=0@3000"),
            sidecar("proxy", "").startup(by(By::Exec)),
            app("app", "").readiness(by(By::Http)).liveness(by(By::Http)),
        ],
        |p| p.then("app", 0, 14_000, Deed::RestartKubelet).deleted("app", 0, 32_000),
    );
    t.add(
        "kubelet-restarts-in-init",
        Never,
        "The kubelet is restarted in the second init container; the first is not run again.",
        [init("first", "exit=0@3000"), init("second", "exit=0@24000"), app("app", "exit=0@4000")],
        |p| p.then("second", 0, 6000, Deed::RestartKubelet),
    );
}
