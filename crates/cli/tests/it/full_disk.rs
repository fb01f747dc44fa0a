//! A state directory on a disk that is full.

use serde_json::{Value, json};

use crate::containerd::{self, Setup};
use crate::objects::{With, c, pod};
use crate::run::Run;

crate::tests! {
    ;
    root: a_volume_waits_for_room,
    a_volume_waits_for_room_with_containerd,
    output_that_has_no_room,
}

/// A ConfigMap that takes some room, and a pod that wants it.
fn objects() -> [Value; 2] {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "map" },
        "data": { "text": "x".repeat(100_000) },
    });
    let app = c("app", "say $(wc -c < /map/text)")
        .with(json!({ "volumeMounts": [{ "name": "map", "mountPath": "/map" }] }));
    let volume = json!({ "volumes": [{ "name": "map", "configMap": { "name": "map" } }] });
    [map, pod("web", "Never", vec![], vec![app]).spec(volume)]
}

fn a_volume_waits_for_room() {
    // Holdfast's own mount namespace, in which its state directory is small and full; a file beside it
    // says when to make room.
    let script = "mkdir -p state && mount -t tmpfs -o size=64k small state || exit 9; \
                  head -c 1000000 /dev/zero > state/filler; \
                  (until test -e room; do sleep 0.05; done; rm state/filler; mount -o remount,size=8m state) & \
                  exec \"$@\"";
    let run = Run::of(&objects()).under(&["unshare", "-m", "sh", "-c", script, "sh"]);
    until_there_is_room(run);
}

fn a_volume_waits_for_room_with_containerd() {
    let containerd = containerd::own(Setup::default());
    let run = Run::of(&objects());
    let (state, room) = (run.path("state"), run.path("room"));
    let script = format!(
        "mkdir -p {0} && mount -t tmpfs -o size=64k small {0} || exit 9; \
         head -c 1000000 /dev/zero > {0}/filler; \
         (until test -e {1}; do sleep 0.05; done; rm {0}/filler; mount -o remount,size=8m {0}) >&- 2>&- &",
        state.display(),
        room.display()
    );
    containerd.run_inside("sh", &["-c", &script]);
    until_there_is_room(run);
    assert_eq!(containerd.containers(), Vec::<String>::new());
}

/// As on a kubelet: it is said, and tried again.
fn until_there_is_room(run: Run) {
    let live = run.start();
    let said = live.err("pod/web: FailedMount");
    assert!(said.contains("No space left on device"), "{said}");
    std::fs::write(live.dir.path().join("room"), "").unwrap();
    let done = live.done().code(0);
    assert_eq!(done.log(), ["100000"], "{done:#?}");
}

/// What does not fit is lost, as with a kubelet; the container and its pod go their way.
fn output_that_has_no_room() {
    let containerd = containerd::own(Setup::default());
    let app = c("app", "yes no room for this | head -n 200000; say written; sleep 1; exit 3");
    let run = Run::of(&[pod("web", "Never", vec![], vec![app])]).args("-o json");
    let state = run.path("state");
    let script = format!("mkdir -p {0} && mount -t tmpfs -o size=1m small {0}", state.display());
    containerd.run_inside("sh", &["-c", &script]);
    let done = run.done().code(1);
    assert_eq!(done.log(), ["written"]);
    let lines = done.written("web", "app");
    assert!(lines.len() > 1000, "what had room was shown: {}", lines.len());
    let status = &done.json()["items"][0]["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["terminated"]["exitCode"], 3, "{status:#}");
    assert_eq!(containerd.containers(), Vec::<String>::new());
}
