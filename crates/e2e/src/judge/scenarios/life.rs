//! Living: restarts, probes and hooks.

use super::{Table, app, by, init, sidecar};
use crate::judge::pod::Policy::{Always, Never, OnFailure};
use crate::judge::pod::{By, Container, Hook, Probe};

pub(super) fn restarts(t: &mut Table) {
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

pub(super) fn probes(t: &mut Table) {
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

pub(super) fn hooks(t: &mut Table) {
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
