//! A file that an init container makes, an app that reads it by subPath, and a daemon that restarts all
//! containers of the pod at once: what `cp` and `sed -i` leave to read, and that `holdfast render` leaves
//! nothing but the right file. Each pod is struck at another instant of its life.

use serde_json::{Value, json};

use crate::objects::With;
use crate::run::{Done, HOLDFAST, Run};

crate::tests! {
    sed_is_read_half_done,
    render_struck_early,
    render_struck_midway,
    render_struck_late,
}

/// Pods in a run; each waits a little longer than the one before.
const PODS: u32 = 25;
/// Runs the pods, and says how often the app read the right file and how often something else.
fn reads(init: &Value, strike: u32) -> (usize, usize) {
    let text = "dc=customDataCenter\nrack=RACK\n";
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "rackdc" },
        "data": { "rackdc.properties": text },
    });
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let init = init.clone().with(json!({
        "name": "rack",
        "volumeMounts": [
            mount("config", "/config"), mount("shared", "/shared"), mount("podinfo", "/etc/podinfo"),
        ],
    }));
    let pods = (0..PODS).map(|number| {
        let wait = format!("sleep 0.{:03}", number * 200 / PODS);
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": format!("p{number}"), "labels": { "vm/rack": "r7" } },
            "spec": {
                "restartPolicy": "Never",
                "initContainers": [
                    { "name": "wait", "image": "host", "command": ["sh", "-c", wait] },
                    init,
                ],
                "containers": [{
                    "name": "db",
                    "image": "host",
                    "command": ["sh", "-c", "for i in 1 2 3 4; do grep rack= /rackdc || echo nothing; sleep 0.1; done"],
                    "volumeMounts": [mount("shared", "/rackdc").with(json!({ "subPath": "rackdc.properties" }))],
                }],
                "volumes": [
                    { "name": "config", "configMap": { "name": "rackdc" } },
                    { "name": "shared", "emptyDir": {} },
                    { "name": "podinfo", "downwardAPI": { "items": [
                        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
                    ] } },
                ],
            },
        })
    });
    let objects: Vec<Value> = std::iter::once(config).chain(pods).collect();
    let image = format!("holdfast={HOLDFAST}");
    let fault = format!("--fault daemon-restart@{strike}ms");
    let done: Done = Run::of(&objects).args("--image").arg(&image).args(&fault).done();
    // One that was struck in its init containers may have failed (restartPolicy Never); none is lost.
    assert!(done.code < 2, "{done:#?}");
    let read = done.err.iter().filter_map(|line| line.split_once("/db] "));
    let (right, wrong): (Vec<_>, Vec<_>) = read.partition(|(_, text)| *text == "rack=r7");
    assert!(right.len() + wrong.len() >= PODS as usize * 2, "{done:#?}");
    (right.len(), wrong.len())
}

fn sed_is_read_half_done() {
    let script = "cp /config/rackdc.properties /shared/; sleep 0.1; sed -i s/RACK/r7/ /shared/rackdc.properties";
    let init = json!({ "image": "host", "command": ["sh", "-c", script] });
    // On a busy machine everything comes later.
    let mut strikes = (1..20).map(|try_| 350 * try_);
    assert!(strikes.any(|strike| reads(&init, strike).1 > 0), "the fault is not one");
}

fn render_struck_early() {
    never_half_done([50, 150, 200, 250]);
}

fn render_struck_midway() {
    never_half_done([300, 350, 400, 450]);
}

fn render_struck_late() {
    never_half_done([500, 550, 650, 750]);
}

/// Pods that are struck at these instants, in milliseconds: three hundred in all the tests together.
fn never_half_done(strikes: [u32; 4]) {
    let args = [
        "render",
        "--from=/config/rackdc.properties",
        "--to=/shared/rackdc.properties",
        "--replace=RACK=label:vm/rack",
    ];
    let init = json!({ "image": "holdfast", "args": args });
    for strike in strikes {
        let (right, wrong) = reads(&init, strike);
        assert_eq!(wrong, 0, "{right} were right; struck after {strike} ms");
    }
}
