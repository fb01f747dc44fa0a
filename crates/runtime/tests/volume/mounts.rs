//! What containers get of the volumes.

use std::fs;
use std::path::Path;

use holdfast_runtime::contract::Propagation;
use holdfast_runtime::volume::PodVolumes;
use serde_json::json;

use super::{Bench, bind, pod};

#[test]
fn mounts_say_how() {
    let bench = Bench::new();
    let mounts = json!([
        {"name": "v", "mountPath": "rel/path", "readOnly": true},
        {"name": "v", "mountPath": "/x", "mountPropagation": "HostToContainer"},
        {"name": "v", "mountPath": "/y", "mountPropagation": "Bidirectional"},
    ]);
    let pod = pod(json!({"emptyDir": {}}), json!({}), mounts);
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &pod).unwrap();
    let mounts = volumes.mounts(&pod.spec.containers[0], &[]).unwrap();
    assert_eq!(mounts[0].target, Path::new("/v"));
    assert_eq!(mounts[1].target, Path::new("/rel/path"));
    let read_only: Vec<bool> = mounts.iter().map(|mount| mount.read_only).collect();
    assert_eq!(read_only, [false, true, false, false]);
    let propagation: Vec<Propagation> = mounts.iter().map(|mount| mount.propagation).collect();
    use Propagation::{Bidirectional, HostToContainer, Private};
    assert_eq!(propagation, [Private, Private, HostToContainer, Bidirectional]);
    volumes.remove().unwrap();
}

#[test]
fn written_volumes_are_read_only() {
    let bench = Bench::new();
    let pod = pod(json!({"configMap": {"name": "cm"}}), json!({}), json!([]));
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &pod).unwrap();
    assert!(volumes.mounts(&pod.spec.containers[0], &[]).unwrap()[0].read_only);
    volumes.remove().unwrap();
}

#[test]
fn a_sub_path_is_looked_up_at_every_start() {
    let mut bench = Bench::new();
    let mounts = json!([
        {"name": "v", "mountPath": "/etc/a", "subPath": "a"},
        {"name": "v", "mountPath": "/logs", "subPathExpr": "$(WHICH)"},
    ]);
    let pod = pod(json!({"configMap": {"name": "cm"}}), json!({}), mounts);
    let container = &pod.spec.containers[0];
    let env = [("WHICH".to_owned(), "b".to_owned())];
    for keep in [false, true] {
        bench.config_map(json!({"a": "1", "b": "2"}));
        let mut volumes = PodVolumes::new(bench.state.path(), "uid", keep).unwrap();
        bench.prepare(&mut volumes, &pod).unwrap();
        let read = |volumes: &PodVolumes, index: usize| {
            let mounts = volumes.mounts(container, &env).unwrap();
            let path = bind(&mounts[index]);
            assert_eq!(path, fs::canonicalize(path).unwrap(), "no links to follow");
            fs::read_to_string(path).unwrap()
        };
        assert_eq!((read(&volumes, 1), read(&volumes, 2)), ("1".into(), "2".into()));
        bench.config_map(json!({"a": "new", "b": "2"}));
        bench.prepare(&mut volumes, &pod).unwrap();
        // An old kubelet kept the bind over restarts: the file of the first start.
        let expected = if keep { "1" } else { "new" };
        assert_eq!(read(&volumes, 1), expected, "keep_sub_paths: {keep}");
        volumes.remove().unwrap();
    }
}

#[test]
fn a_kept_file_survives_its_replacement() {
    let bench = Bench::new();
    let mounts = json!([{"name": "v", "mountPath": "/f", "subPath": "f"}]);
    let pod = pod(json!({"emptyDir": {}}), json!({}), mounts);
    let container = &pod.spec.containers[0];
    let mut volumes = PodVolumes::new(bench.state.path(), "uid", true).unwrap();
    bench.prepare(&mut volumes, &pod).unwrap();
    let dir =
        bind(&volumes.mounts(container, &[]).map_err(|e| e.to_string()).unwrap()[0]).to_owned();
    // The first look-up made a directory, as nothing was there.
    assert!(dir.join("f").is_dir());
    volumes.remove().unwrap();
    let mut volumes = PodVolumes::new(bench.state.path(), "uid", true).unwrap();
    bench.prepare(&mut volumes, &pod).unwrap();
    fs::write(dir.join("f"), "old").unwrap();
    let file = || {
        let mounts = volumes.mounts(container, &[]).unwrap();
        fs::read_to_string(bind(&mounts[1])).unwrap()
    };
    assert_eq!(file(), "old");
    fs::write(dir.join("f.new"), "new").unwrap();
    fs::rename(dir.join("f.new"), dir.join("f")).unwrap();
    assert_eq!(file(), "old");
    fs::remove_file(dir.join("f")).unwrap();
    assert_eq!(file(), "old");
    volumes.remove().unwrap();
}

#[test]
fn a_kept_directory_of_a_config_map_keeps_its_files() {
    let mut bench = Bench::new();
    let mounts = json!([{"name": "v", "mountPath": "/d", "subPath": "dir"}]);
    let source = json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "dir/a"}]}});
    let pod = pod(source, json!({}), mounts);
    let mut volumes = PodVolumes::new(bench.state.path(), "uid", true).unwrap();
    bench.prepare(&mut volumes, &pod).unwrap();
    let read = |volumes: &PodVolumes| {
        let mounts = volumes.mounts(&pod.spec.containers[0], &[]).unwrap();
        fs::read_to_string(bind(&mounts[1]).join("a")).unwrap()
    };
    assert_eq!(read(&volumes), "1");
    bench.config_map(json!({"a": "new"}));
    bench.prepare(&mut volumes, &pod).unwrap();
    assert_eq!(read(&volumes), "1");
    volumes.remove().unwrap();
}

#[test]
fn wrong_mounts_are_errors() {
    let bench = Bench::new();
    for (mount, words) in [
        (
            json!({"name": "w", "mountPath": "/w"}),
            "cannot find volume \"w\" to mount into container \"c\"",
        ),
        (
            json!({"name": "v", "mountPath": "/w", "subPath": "/abs"}),
            "error SubPath `/abs` must not be an absolute path",
        ),
        (
            json!({"name": "v", "mountPath": "/w", "subPathExpr": "$(NONE)"}),
            "missing value for \"NONE\"",
        ),
        (
            json!({"name": "v", "mountPath": "/w", "subPath": "out/x"}),
            "failed to prepare subPath for volumeMount \"v\" of container \"c\"",
        ),
        (
            json!({"name": "v", "mountPath": "/w", "mountPropagation": "Sideways"}),
            "invalid MountPropagation mode: \"Sideways\"",
        ),
    ] {
        let pod = pod(json!({"emptyDir": {}}), json!({}), json!([mount]));
        let mut volumes = bench.volumes();
        bench.prepare(&mut volumes, &pod).unwrap();
        let dir = bench.state.path().join("pods/uid/volumes/kubernetes.io~empty-dir/v");
        std::os::unix::fs::symlink("/", dir.join("out")).unwrap();
        let error = volumes.mounts(&pod.spec.containers[0], &[]).unwrap_err();
        assert_eq!(error.to_string(), words);
        volumes.remove().unwrap();
    }
}
