//! Starting: init containers and sidecars.

use super::{Table, app, by, init, sidecar};
use crate::judge::pod::Policy::{Always, Never, OnFailure};
use crate::judge::pod::{By, Hook, Probe};

pub(super) fn inits(t: &mut Table) {
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

pub(super) fn sidecars(t: &mut Table) {
    t.add(
        "probes-after-post-start",
        Always,
        "Nothing is probed while its postStart hook runs, nor is an app while the hook of the next one does.",
        [
            sidecar("proxy", "startup=bad,ok@3000")
                .startup(Probe { period: 1, ..by(By::Exec) })
                .post(Hook::Exec(5000, 0)),
            app("first", "liveness=bad,ok@3000").liveness(Probe { period: 1, ..by(By::Exec) }),
            app("second", "startup=bad,ok@3000 exit=0@14000")
                .startup(Probe { period: 1, ..by(By::Exec) })
                .post(Hook::Exec(5000, 0)),
        ],
        |p| p.deleted("second", 0, 11_000),
    );
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
