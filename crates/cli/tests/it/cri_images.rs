//! Pulls of a real containerd, from a registry of our own.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::containerd::{self, Setup};
use crate::objects::{With, c, pod};
use crate::registry::{Manner, Registry};
use crate::run::Run;

crate::tests! {
    ;
    root: pulls_by_policy,
    images_that_cannot_be,
    credentials_of_secrets_and_of_the_user,
    a_pull_that_hangs_ends_with_its_pod,
    what_an_image_says_is_done,
}

/// The base64 of `user:secret`.
const LOGIN: &str = "dXNlcjpzZWNyZXQ=";

/// A pod with the registry's image.
fn of(registry: &Registry, policy: &str) -> Value {
    let app =
        c("app", "say app").with(json!({ "image": registry.image, "imagePullPolicy": policy }));
    pod("web", "Never", vec![], vec![app])
}

fn pulls_by_policy() {
    let containerd = containerd::own(Setup::default());
    let registry = Registry::start(&containerd, Manner::Open);
    let pulled = |policy: &str| {
        let done = Run::of(&[of(&registry, policy)]).args("-o json").done().code(0);
        assert_eq!(done.log(), ["app"]);
        let status = done.json()["items"][0]["status"]["containerStatuses"][0].clone();
        let id = status["imageID"].as_str().unwrap().to_owned();
        let repository = registry.image.strip_suffix(":1").unwrap();
        assert!(id.starts_with(&format!("{repository}@sha256:")), "{status:#}");
        registry.pulls() > 0
    };
    assert!(pulled("IfNotPresent"), "it was not there");
    assert!(!pulled("IfNotPresent"), "it was there");
    assert!(!pulled("Never"));
    assert!(pulled("Always"));
}

fn images_that_cannot_be() {
    let containerd = containerd::own(Setup::default());
    let registry = Registry::start(&containerd, Manner::Open);
    let with = |name: &str, image: &str, policy: &str| {
        let app = c("app", "say app").with(json!({ "image": image, "imagePullPolicy": policy }));
        pod(name, "Never", vec![], vec![app])
    };
    let missing = format!("{}/team/none:1", registry.server);
    let pods = [
        with("never", &missing, "Never"),
        with("missing", &missing, "IfNotPresent"),
        with("name", "No/Such", "IfNotPresent"),
    ];
    let live = Run::of(&pods).start();
    live.out_where("never", |row| row.starts_with("never") && row.contains("ErrImageNeverPull"));
    live.out_where("missing", |row| row.starts_with("missing") && row.contains("ImagePullBackOff"));
    live.out_where("name", |row| row.starts_with("name") && row.contains("InvalidImageName"));
    live.signal(Signal::SIGTERM);
    let done = live.done().code(130);
    let words = |resolve: &str| {
        format!(
            "pod/missing: Failed: Failed to pull image \"{missing}\": rpc error: code = NotFound desc \
             = failed to pull and unpack image \"{missing}\": failed to resolve {resolve}: \
             {missing}: not found"
        )
    };
    // containerd 1.6 and 2.1.
    let said = done.said(&words(&format!("reference \"{missing}\""))) || done.said(&words("image"));
    assert!(said, "{done:#?}");
    assert!(done.rows("missing").contains(&"0/1 ErrImagePull".to_owned()), "{done:#?}");
    let words = format!("Container image \"{missing}\" is not present with pull policy of Never");
    assert!(done.said(&words), "{done:#?}");
    assert!(done.log().is_empty());
}

fn credentials_of_secrets_and_of_the_user() {
    let containerd = containerd::own(Setup::default());
    let registry = Registry::start(&containerd, Manner::Wants(LOGIN));
    let config =
        |auth: &str| json!({ "auths": { &registry.server: { "auth": auth } } }).to_string();
    let none = tempfile::tempdir().unwrap();
    let run =
        |objects: &[Value]| Run::of(objects).env("DOCKER_CONFIG", none.path().to_str().unwrap());

    // Without: refused, in the registry's words.
    let live = run(&[of(&registry, "IfNotPresent")]).start();
    let said = live.err("pod/web: Failed: Failed to pull image");
    assert!(said.contains("rpc error: code = Unknown desc = failed to pull and unpack"), "{said}");
    live.row("0/1 ImagePullBackOff");
    live.signal(Signal::SIGTERM);
    live.done().code(130);
    assert!(registry.refused() > 0);

    // Those of a Secret of the same file.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": config(LOGIN) },
    });
    let with = of(&registry, "Always").spec(json!({ "imagePullSecrets": [{ "name": "login" }] }));
    assert_eq!(run(&[secret, with]).done().code(0).log(), ["app"]);
    assert!(registry.pulls() > 0);

    // The user's own, when the Secret is not there: which is said.
    let with = of(&registry, "Always").spec(json!({ "imagePullSecrets": [{ "name": "none" }] }));
    let home = run(&[with]).with_file("config.json", &config(LOGIN));
    let dir = home.path("").to_str().unwrap().to_owned();
    let done = home.env("DOCKER_CONFIG", &dir).done().code(0);
    assert_eq!(done.log(), ["app"]);
    assert!(registry.pulls() > 0);
    assert!(done.said("FailedToRetrieveImagePullSecret"), "{done:#?}");
}

fn a_pull_that_hangs_ends_with_its_pod() {
    let containerd = containerd::own(Setup::default());
    let registry = Registry::start(&containerd, Manner::Silent);
    let beside = pod("beside", "Never", vec![], vec![c("app", "say beside")]);
    let live = Run::of(&[of(&registry, "Always"), beside]).start();
    live.out("Completed");
    let begin = Instant::now();
    while registry.connections() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "containerd does not ask");
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    live.signal(Signal::SIGTERM);
    let done = live.done().code(130);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(done.log(), ["beside"]);
    // containerd was told, too.
    while registry.connections() > 0 {
        assert!(asked.elapsed() < Duration::from_secs(20), "containerd still waits");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(containerd.containers(), Vec::<String>::new());
    // And it can be pulled when the registry has come to.
    registry.change(Manner::Open);
    assert_eq!(Run::of(&[of(&registry, "Always")]).done().code(0).log(), ["app"]);
}

/// Entrypoint, Cmd, Env, User, WorkingDir and StopSignal are the image's, as far as the Pod says
/// nothing.
fn what_an_image_says_is_done() {
    containerd::share().unwrap();
    let image = json!({ "image": crate::image_archive::WEB, "imagePullPolicy": "Never" });
    let plain = json!({ "name": "plain" }).with(image.clone());
    let args = json!({ "name": "args", "args": ["echo $0 $FROM $MORE"], "workingDir": "/tmp",
                       "env": [{ "name": "MORE", "value": "more" }] })
    .with(image.clone());
    let command =
        json!({ "name": "command", "command": ["echo", "only this"] }).with(image.clone());
    let user = json!({ "name": "user", "securityContext": { "runAsUser": 7, "runAsGroup": 8 } })
        .with(image.clone());
    let mut p = pod("web", "Never", vec![], vec![plain, args, command, user]);
    p["spec"]["volumes"] = json!([]);
    let done = Run::of(&[p]).done().code(0);
    let written = |name: &str| done.written("web", name).join("|");
    assert_eq!(written("plain"), "uid=101(web) gid=102(web) groups=102(web),200(extra)|/srv|image");
    assert_eq!(written("args"), "sh image more");
    assert_eq!(written("command"), "only this");
    assert_eq!(written("user"), "uid=7 gid=8 groups=8|/srv|image");

    // StopSignal.
    let script = "trap 'echo usr1; exit 0' USR1; trap 'echo term; exit 0' TERM; echo up; \
                  while :; do sleep 0.05; done";
    let stop = json!({ "name": "app", "args": [script] }).with(image.clone());
    let mut own = stop.clone();
    own["name"] = json!("own");
    own["lifecycle"] = json!({ "stopSignal": "SIGTERM" });
    let mut p = pod("stop", "Never", vec![], vec![stop, own]);
    p["spec"]["volumes"] = json!([]);
    p["spec"]["os"] = json!({ "name": "linux" });
    let live = Run::of(&[p]).start();
    live.err("[stop/app] up");
    live.err("[stop/own] up");
    live.signal(Signal::SIGTERM);
    let done = live.done().code(130);
    assert_eq!(done.written("stop", "app"), ["up", "usr1"]);
    assert_eq!(done.written("stop", "own"), ["up", "term"], "{done:#?}");
}
