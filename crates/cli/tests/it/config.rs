//! What containers are given: environment, volumes, files, working directories.

use serde_json::{Value, json};

use crate::containerd;
use crate::objects::{With, c, pod, server};
use crate::run::{Done, Run};

crate::tests! {
    environment,
    a_missing_config_map_is_waited_for_as_in_kubernetes,
    volumes_of_config_maps_and_secrets,
    empty_directories_are_shared_and_go_with_the_pod,
    memory_volumes,
    projected_and_downward_volumes,
    host_paths,
    a_claim_is_kept_between_runs,
    a_sub_path_keeps_its_inode_until_the_container_restarts,
    a_stale_sub_path_outlives_a_restart,
    working_directories_and_arguments,
    host_names,
    an_empty_directory_over_its_limit_evicts_the_pod,
}

fn map() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" },
        "data": { "COLOUR": "green", "file.txt": "line one\nline two\n" },
    })
}

fn secret() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" },
        "stringData": { "TOKEN": "s3cret" },
    })
}

/// Runs a container with this script and these additions to it and its pod.
fn script(script: &str, container: Value, spec: Value) -> Done {
    let p = pod("web", "Never", vec![], vec![c("app", script).with(container)]).spec(spec);
    Run::of(&[map(), secret(), p]).done().code(0)
}

fn environment() {
    let env = json!([
        { "name": "PLAIN", "value": "a b" },
        { "name": "FROM_MAP", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "COLOUR" } } },
        { "name": "FROM_SECRET", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "TOKEN" } } },
        { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['tier']" } } },
        { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "requests.cpu", "divisor": "1m" } } },
        { "name": "MIX", "value": "$(POD)/$(PLAIN) $$(POD) $(NONE)" },
        { "name": "GONE", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "x", "optional": true } } },
    ]);
    let container = json!({
        "env": env,
        "envFrom": [{ "prefix": "P_", "secretRef": { "name": "keys" } }, { "configMapRef": { "name": "settings" } }],
        "resources": { "requests": { "cpu": "250m" } },
    });
    let text = r#"for v in PLAIN FROM_MAP FROM_SECRET POD IP LABEL CPU MIX P_TOKEN COLOUR; do
                    eval "echo \"\${$v}\""
                  done
                  echo ${GONE-unset} ${LEAK-unset}"#;
    let p = pod("web", "Never", vec![], vec![c("app", text).with(container)])
        .with(json!({ "metadata": { "labels": { "tier": "front" } } }));
    let run = Run::of(&[map(), secret(), p]).env("LEAK", "host").args("-o json");
    let done = run.done().code(0);
    let address = done.json()["items"][0]["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(address == "127.0.0.1", containerd::current().is_none(), "{address}");
    let expected = [
        "a b",
        "green",
        "s3cret",
        "web",
        &address,
        "front",
        "250",
        "web/a b $(POD) $(NONE)",
        "s3cret",
        "green",
        "unset unset",
    ];
    assert_eq!(done.written("web", "app"), expected, "{done:#?}");
}

fn a_missing_config_map_is_waited_for_as_in_kubernetes() {
    let app =
        c("app", "say app").with(json!({ "envFrom": [{ "configMapRef": { "name": "none" } }] }));
    let p = pod("web", "Never", vec![], vec![app]);
    let done = Run::of(&[p]).args("--timeout 700ms").done().code(124);
    let rows = done.rows("web");
    assert!(rows.contains(&"0/1 CreateContainerConfigError".to_owned()), "{done:#?}");
    assert!(done.said("configmap \"none\" not found"), "{done:#?}");
    assert!(done.log().is_empty());
}

fn volumes_of_config_maps_and_secrets() {
    let done = script(
        "cat /c/file.txt; echo $(ls /c); readlink /c/COLOUR; cat /s/t; stat -Lc %a /s/t; \
         (echo x > /c/new) 2>/dev/null || echo read-only",
        json!({ "volumeMounts": [{ "name": "c", "mountPath": "/c" }, { "name": "s", "mountPath": "/s" }] }),
        json!({ "volumes": [
            { "name": "c", "configMap": { "name": "settings" } },
            { "name": "s", "secret": {
                "secretName": "keys", "defaultMode": 0o400, "items": [{ "key": "TOKEN", "path": "t" }],
            } },
        ] }),
    );
    let expected =
        ["line one", "line two", "COLOUR file.txt", "..data/COLOUR", "s3cret400", "read-only"];
    assert_eq!(done.written("web", "app"), expected, "{done:#?}");
}

fn empty_directories_are_shared_and_go_with_the_pod() {
    let mount = json!({ "volumeMounts": [{ "name": "e", "mountPath": "/e" }] });
    let init = c("init", "echo made > /e/file").with(mount.clone());
    let app = c("app", "cat /e/file; echo more >> /e/file").with(mount);
    let p = pod("web", "Never", vec![init], vec![app])
        .spec(json!({ "volumes": [{ "name": "e", "emptyDir": {} }] }));
    let done = Run::of(&[p]).done().code(0);
    assert_eq!(done.written("web", "app"), ["made"], "{done:#?}");
    let mut left = Vec::new();
    find(&done.path("state"), "file", &mut left);
    assert!(left.is_empty(), "{left:?}");
}

fn find(dir: &std::path::Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|n| n == name) {
            found.push(path.clone());
        }
        if path.is_dir() && !path.is_symlink() {
            find(&path, name, found);
        }
    }
}

fn memory_volumes() {
    let done = script(
        "stat -f -c %T /m",
        json!({ "volumeMounts": [{ "name": "m", "mountPath": "/m" }] }),
        json!({ "volumes": [{ "name": "m", "emptyDir": { "medium": "Memory" } }] }),
    );
    assert_eq!(done.written("web", "app"), ["tmpfs"], "{done:#?}");
}

fn projected_and_downward_volumes() {
    let done = script(
        "cat /p/sub/colour; echo; cat /p/name; echo; cat /p/token; echo; cat /p/mem",
        json!({
            "volumeMounts": [{ "name": "p", "mountPath": "/p" }],
            "resources": { "limits": { "memory": "64Mi" } },
        }),
        json!({ "volumes": [{ "name": "p", "projected": { "sources": [
            { "configMap": { "name": "settings", "items": [{ "key": "COLOUR", "path": "sub/colour" }] } },
            { "secret": { "name": "keys", "items": [{ "key": "TOKEN", "path": "token" }] } },
            { "downwardAPI": { "items": [
                { "path": "name", "fieldRef": { "fieldPath": "metadata.name" } },
                { "path": "mem", "resourceFieldRef": { "containerName": "app", "resource": "limits.memory" } },
            ] } },
        ] } }] }),
    );
    assert_eq!(done.written("web", "app"), ["green", "web", "s3cret", "67108864"], "{done:#?}");
}

fn host_paths() {
    let mount =
        |ro| json!({ "volumeMounts": [{ "name": "h", "mountPath": "/h", "readOnly": ro }] });
    let writer = c("a", "echo out > /h/file").with(mount(false));
    let reader = c("b", "(echo x > /h/no) 2>/dev/null || echo read-only").with(mount(true));
    let volume = json!({ "volumes": [{ "name": "h", "hostPath": { "path": "{DIR}/made", "type": "DirectoryOrCreate" } }] });
    let done =
        Run::of(&[pod("web", "Never", vec![], vec![writer, reader]).spec(volume)]).done().code(0);
    assert_eq!(std::fs::read_to_string(done.path("made/file")).unwrap(), "out\n");
    assert_eq!(done.written("web", "b"), ["read-only"], "{done:#?}");

    let volume = json!({ "volumes": [{ "name": "h", "hostPath": { "path": "{DIR}/none", "type": "File" } }] });
    let p = pod("web", "Never", vec![], vec![c("a", "say a").with(mount(false))]).spec(volume);
    let done = Run::of(&[p]).args("--timeout 600ms").done().code(124);
    assert!(done.said("FailedMount") && done.said("hostPath"), "{done:#?}");
    assert!(done.log().is_empty());
}

fn a_claim_is_kept_between_runs() {
    let app = c("app", "echo run >> /d/file; wc -l < /d/file")
        .with(json!({ "volumeMounts": [{ "name": "d", "mountPath": "/d" }] }));
    let p = pod("web", "Never", vec![], vec![app]).spec(json!({
        "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }],
    }));
    let first = Run::of(std::slice::from_ref(&p)).done().code(0);
    let second = Run::of(&[p]).state_dir(&first.path("state")).done().code(0);
    assert_eq!((first.written("web", "app"), second.written("web", "app")), (vec!["1"], vec!["2"]));
}

/// A pod whose app sees a file through a subPath that its sidecar replaces.
fn sub_path(faults: &str) -> Done {
    let init = c("init", "echo old > /v/file")
        .with(json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let text = "say $(cat /file); if test -e /log/again; then exit 0; fi; : > /log/again; \
                while [ -e /log/again ] && ! test -e /log/swapped; do sleep 0.02; done; say $(cat /file); exit 1";
    let app = c("app", text).with(json!({
        "volumeMounts": [{ "name": "v", "mountPath": "/file", "subPath": "file" }],
    }));
    let text = "while ! test -e /log/again; do sleep 0.02; done; echo new > /v/x; mv /v/x /v/file; : > /log/swapped";
    let swap =
        c("swap", text).with(json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let p = pod("web", "OnFailure", vec![init], vec![app, swap])
        .spec(json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    Run::of(&[p]).args(faults).done().code(0)
}

fn a_sub_path_keeps_its_inode_until_the_container_restarts() {
    let done = sub_path("");
    assert_eq!(done.log(), ["old", "old", "new"], "{done:#?}");
}

fn a_stale_sub_path_outlives_a_restart() {
    let done = sub_path("--fault stale-subpath");
    assert_eq!(done.log(), ["old", "old", "old"], "{done:#?}");
}

fn working_directories_and_arguments() {
    let app = json!({
        "name": "app", "image": "host", "command": ["sh", "-c", "pwd; echo \"$0 $@\""],
        "args": ["zero", "$(WORD)", "$$(WORD)"], "workingDir": "/usr",
        "env": [{ "name": "WORD", "value": "one two" }],
    });
    let done = Run::of(&[pod("web", "Never", vec![], vec![app])]).done().code(0);
    assert_eq!(done.written("web", "app"), ["/usr", "zero one two $(WORD)"], "{done:#?}");
}

fn host_names() {
    let spec = json!({
        "hostname": "busy", "subdomain": "sub",
        "hostAliases": [{ "ip": "10.1.2.3", "hostnames": ["far.example"] }],
    });
    let done = script("hostname; grep far /etc/hosts; grep -c busy /etc/hosts", json!({}), spec);
    assert_eq!(done.written("web", "app"), ["busy", "10.1.2.3\tfar.example", "1"], "{done:#?}");
}

/// The kubelet looks every 10 s, and then leaves a second to a program, whatever the pod says.
fn an_empty_directory_over_its_limit_evicts_the_pod() {
    let app = c("app", "head -c 200000 /dev/zero > /e/big; trap '' TERM; sleep 1000")
        .with(json!({ "volumeMounts": [{ "name": "e", "mountPath": "/e" }] }));
    let p = pod("web", "Always", vec![], vec![app, server("b")])
        .spec(json!({ "volumes": [{ "name": "e", "emptyDir": { "sizeLimit": "100k" } }], "terminationGracePeriodSeconds": 60 }));
    let done = Run::of(&[p]).args("-o json --timeout 20s").done().code(1);
    let status = &done.json()["items"][0]["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")));
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("exceeds the limit"), "{message}");
    assert_eq!(done.log(), ["b up", "b down"]);
}
