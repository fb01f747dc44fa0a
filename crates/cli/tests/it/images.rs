//! Where the files of containers come from.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::objects::{With, c, pod};
use crate::run::{Run, program};

crate::tests! {
    an_image_that_is_not_mapped_is_not_pulled,
    a_source_that_is_missing_is_not_pulled,
    a_root_directory,
    an_executable,
    an_archive_with_layers,
    a_map_in_a_file,
    a_map_that_nothing_uses_is_noted,
    a_schedule_of_nothing_is_noted,
    the_hosts_files_need_a_command,
}

fn app(image: &str) -> Value {
    json!({ "name": "app", "image": image })
}

fn web(container: Value) -> Value {
    pod("web", "Never", vec![], vec![container])
}

fn an_image_that_is_not_mapped_is_not_pulled() {
    let done = Run::of(&[web(app("nginx:1.27"))]).args("--timeout 12s -o jsonl").start();
    // The second try comes after the back-off of 10 s; this waits for the first two states only.
    done.out("ImagePullBackOff");
    done.signal(nix::sys::signal::Signal::SIGINT);
    let done = done.done().code(130);
    let mut reasons: Vec<String> = done
        .events()
        .iter()
        .filter_map(|e| {
            let waiting = &e["object"]["status"]["containerStatuses"][0]["state"]["waiting"];
            Some(waiting["reason"].as_str()?.to_owned())
        })
        .collect();
    reasons.dedup();
    assert_eq!(reasons[..3], ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"]);
    assert!(done.said("--image nginx:1.27="), "it does not say how to map it: {done:#?}");
}

fn a_source_that_is_missing_is_not_pulled() {
    let run = Run::of(&[web(app("nginx"))]).args("--image nginx={DIR}/none --timeout 500ms");
    let done = run.done().code(124);
    let rows = done.rows("web");
    assert!(
        rows.iter().any(|r| r.contains("ErrImagePull") || r.contains("ImagePullBackOff")),
        "{rows:?}"
    );
    assert!(done.said(&format!("{}", done.path("none").display())), "{done:#?}");
}

fn a_root_directory() {
    let run = Run::of(&[web(app("web").with(json!({ "command": ["/bin/user", "1"] })))])
        .args("--image web={DIR}/root");
    std::fs::create_dir_all(run.path("root/bin")).unwrap();
    std::fs::copy(program("sidecar_user"), run.path("root/bin/user")).unwrap();
    let root = run.path("root");
    let done = run.done().code(1);
    assert!(done.said("[web/app] the sidecar does not answer"), "{done:#?}");
    let names: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["bin"], "the run wrote into the image");
}

fn an_executable() {
    let image = format!("user={}", program("sidecar_user").display());
    let done = Run::of(&[web(app("user").with(json!({ "args": ["1"] })))])
        .arg("--image")
        .arg(&image)
        .done()
        .code(1);
    assert!(done.said("[web/app] the sidecar does not answer"), "{done:#?}");
    // The whole host is not what an executable is mapped for, but it may read it.
    let exit = c("app", "exit 3");
    let done =
        Run::of(&[web(exit.with(json!({ "image": "user" })))]).arg("--image").arg(&image).done();
    assert_eq!(done.code, 1);
}

fn digest(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An OCI archive as `skopeo copy` writes it: two layers, the second takes a file of the first away.
fn archive(path: &Path, tag: &str) {
    let user = std::fs::read(program("sidecar_user")).unwrap();
    let layers = [
        tar(&[("bin/user", 0o755, &user), ("etc/gone", 0o644, b"x"), ("etc/kept", 0o644, b"x")]),
        tar(&[("etc/.wh.gone", 0o644, b"")]),
    ];
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |data: Vec<u8>| {
        let (digest, size) = (digest(&data), data.len());
        blobs.insert(format!("blobs/sha256/{digest}"), data);
        (format!("sha256:{digest}"), size)
    };
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/bin/user"], "Cmd": ["2"], "Env": ["PORT=1"] },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|l| format!("sha256:{}", digest(l))).collect::<Vec<_>>(),
        },
    });
    let descriptor = |kind: &str, (digest, size): (String, usize)| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size });
    let config = descriptor("config.v1+json", add(config.to_string().into_bytes()));
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(layer).unwrap();
            descriptor("layer.v1.tar+gzip", add(gzip.finish().unwrap()))
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers,
    });
    let manifest = descriptor("manifest.v1+json", add(manifest.to_string().into_bytes()))
        .with(json!({ "annotations": { "org.opencontainers.image.ref.name": tag } }));
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    blobs.insert("index.json".into(), index.to_string().into_bytes());
    blobs.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let files: Vec<(&str, u32, &[u8])> =
        blobs.iter().map(|(name, data)| (name.as_str(), 0o644, data.as_slice())).collect();
    std::fs::write(path, tar(&files)).unwrap();
}

fn an_archive_with_layers() {
    let user = |args: Value| app("example.org/user:1").with(args);
    let pods = [
        pod("plain", "Never", vec![], vec![user(json!({}))]),
        pod("args", "Never", vec![], vec![user(json!({ "args": ["3"] }))]),
        pod("gone", "Never", vec![], vec![user(json!({ "command": ["/etc/gone"] }))]),
        pod("kept", "Never", vec![], vec![user(json!({ "command": ["/etc/kept"] }))]),
    ];
    let run = Run::of(&pods).args("--image example.org/user:1={DIR}/user.tar -o json");
    archive(&run.path("user.tar"), "example.org/user:1");
    let done = run.done().code(1);
    assert!(done.said("[plain/app] the sidecar does not answer"), "{done:#?}");
    assert!(done.said("[args/app] the sidecar does not answer"), "{done:#?}");
    let items = done.json();
    let items = items["items"].as_array().unwrap();
    let end = |name: &str| {
        let item = items.iter().find(|i| i["metadata"]["name"] == name).unwrap();
        item["status"]["containerStatuses"][0]["state"]["terminated"].clone()
    };
    let message = |name: &str| end(name)["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (&end("gone")["reason"], &end("gone")["exitCode"]),
        (&json!("StartError"), &json!(128))
    );
    assert!(message("gone").contains("no such file"), "{}", message("gone"));
    assert!(message("kept").contains("ermission denied"), "{}", message("kept"));
}

fn a_map_in_a_file() {
    let text = "images:\n  shell: host\nnode:\n  name: ship\n  labels: {zone: here}\n";
    let app = c("app", "say $NODE").with(json!({
        "image": "shell",
        "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
    }));
    let here = Run::of(&[web(app.clone())]).with_file("holdfast.yaml", text);
    assert_eq!(here.done().code(0).log(), ["ship"]);
    let named =
        Run::of(&[web(app)]).with_file("other.yaml", text).args("--config {DIR}/other.yaml");
    assert_eq!(named.done().code(0).log(), ["ship"]);
}

fn the_hosts_files_need_a_command() {
    let done = Run::of(&[web(app("host"))]).args("--timeout 500ms").done();
    assert!(done.said("command"), "{done:#?}");
    assert_ne!(done.code, 0);
}

fn a_map_that_nothing_uses_is_noted() {
    let run = Run::of(&[web(c("app", "exit 0"))]);
    let done = run.args("--image nginx:1.27=host --image host=host").done().code(0);
    assert!(done.said("--image nginx:1.27: no container has this image"), "{done:#?}");
    assert!(!done.said("--image host:"), "{done:#?}");
}

fn a_schedule_of_nothing_is_noted() {
    let done = Run::of(&[web(c("app", "exit 0"))]).args("--schedule").done().code(0);
    assert!(done.said("--schedule: the manifests hold no CronJob"), "{done:#?}");
}
