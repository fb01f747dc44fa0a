//! Ending: deletions, containers that cannot start, lost sandboxes and kubelets.

use super::{Table, app, by, init, sidecar};
use crate::judge::pod::Policy::{Always, Never, OnFailure};
use crate::judge::pod::{By, Deed, Hook, Probe, StartFault};

pub(super) fn deletions(t: &mut Table) {
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

pub(super) fn faults(t: &mut Table) {
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

pub(super) fn sandboxes(t: &mut Table) {
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
        "sandbox-lost-sidecars",
        Always,
        "The sandbox is lost: between the first sidecar's startup and the second's start the pod is Running.",
        [
            sidecar("one", "startup=bad,ok@3000").startup(Probe { failures: 9, ..by(By::Exec) }),
            sidecar("two", ""),
            app("app", "term=0@0"),
        ],
        |p| p.then("app", 0, 5000, Deed::LoseSandbox).deleted("app", 1, 5000),
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
