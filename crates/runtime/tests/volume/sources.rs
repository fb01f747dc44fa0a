//! Every kind of volume.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use holdfast_runtime::contract::{MountSource, PodTmpfs};
use serde_json::json;

use super::{Bench, pod, source_of};

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What a user sees in a volume.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| name(e.unwrap())).collect();
    names.retain(|name| !name.starts_with(".."));
    names.sort();
    names
}

#[test]
fn config_maps() {
    let bench = Bench::new();
    let (volumes, dir) = bench.one(json!({"configMap": {"name": "cm"}})).unwrap();
    assert_eq!(names(&dir), ["a", "b", "bin"]);
    assert_eq!(read(&dir, "a"), "1");
    assert_eq!(fs::read(dir.join("bin")).unwrap(), [0, 1, 2]);
    assert_eq!(mode(&dir.join("a")), 0o644);
    volumes.remove().unwrap();
    let source = json!({"configMap": {"name": "cm", "defaultMode": 0o400, "items": [
        {"key": "a", "path": "deep/er/file"}, {"key": "b", "path": "b", "mode": 0o755},
    ]}});
    let (volumes, dir) = bench.one(source).unwrap();
    assert_eq!(names(&dir), ["b", "deep"]);
    assert_eq!(read(&dir, "deep/er/file"), "1");
    assert_eq!((mode(&dir.join("deep/er/file")), mode(&dir.join("b"))), (0o400, 0o755));
    volumes.remove().unwrap();
}

#[test]
fn what_is_missing_is_said_in_kubernetes_words() {
    let bench = Bench::new();
    for (source, words) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}),
            "configmap references non-existent config key: z",
        ),
        (
            json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent secret key: z",
        ),
        (
            json!({"projected": {"sources": [
                {"configMap": {"name": "none"}}, {"secret": {"name": "none"}}]}}),
            "[configmap \"none\" not found, secret \"none\" not found]",
        ),
        (
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            "serviceAccountToken needs an API server to issue the token",
        ),
        (
            json!({"hostPath": {"path": "/no/such", "type": "File"}}),
            "hostPath type check failed: /no/such is not a file",
        ),
        (
            json!({"nfs": {"server": "x", "path": "/"}}),
            "nfs volumes need storage that is not on this machine; mount it here and use hostPath",
        ),
        (
            json!({"emptyDir": {"medium": "HugePages"}}),
            "medium \"HugePages\" is not supported, only Memory",
        ),
        (
            json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}}),
            "invalid path: must not contain '..': ../x",
        ),
    ] {
        let words = format!("MountVolume.SetUp failed for volume \"v\" : {words}");
        assert_eq!(bench.error(source), words);
    }
}

#[test]
fn optional_may_be_missing() {
    let bench = Bench::new();
    for source in [
        json!({"configMap": {"name": "none", "optional": true}}),
        json!({"secret": {"secretName": "none", "optional": true}}),
        json!({"configMap": {"name": "cm", "optional": true, "items": [{"key": "z", "path": "z"}]}}),
        json!({"projected": {"sources": [{"secret": {"name": "none", "optional": true}}]}}),
    ] {
        let (volumes, dir) = bench.one(source).unwrap();
        assert!(names(&dir).is_empty());
        assert!(dir.join("..data").is_dir());
        volumes.remove().unwrap();
    }
}

#[test]
fn secrets_downward_api_and_projections() {
    let bench = Bench::new();
    let source = json!({"secret": {"secretName": "s", "defaultMode": 0o400}});
    let (volumes, dir) = bench.one(source).unwrap();
    assert_eq!(read(&dir, "user"), "admin");
    assert_eq!(fs::read(dir.join("raw")).unwrap(), [0, 0xff]);
    assert_eq!(mode(&dir.join("user")), 0o400);
    volumes.remove().unwrap();
    let items = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o600},
        {"path": "cpu", "resourceFieldRef": {
            "containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
    ]);
    let (volumes, dir) = bench.one(json!({"downwardAPI": {"items": items}})).unwrap();
    assert_eq!(read(&dir, "labels"), "app=\"x\"");
    assert_eq!((read(&dir, "pod/name"), read(&dir, "cpu")), ("p".into(), "1500".into()));
    assert_eq!(mode(&dir.join("pod/name")), 0o600);
    volumes.remove().unwrap();
    let source = json!({"projected": {"defaultMode": 0o440, "sources": [
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "one"}]}},
        {"secret": {"name": "s", "items": [{"key": "user", "path": "two", "mode": 0o400}]}},
        {"downwardAPI": {"items": [{"path": "one", "fieldRef": {"fieldPath": "metadata.uid"}}]}},
    ]}});
    let (volumes, dir) = bench.one(source).unwrap();
    assert_eq!(names(&dir), ["one", "two"]);
    assert_eq!(read(&dir, "one"), "uid", "the later source wins");
    assert_eq!((mode(&dir.join("one")), mode(&dir.join("two"))), (0o440, 0o400));
    volumes.remove().unwrap();
}

#[test]
fn an_update_reaches_the_volume_whole() {
    let mut bench = Bench::new();
    let pod = pod(json!({"configMap": {"name": "cm"}}), json!({}), json!([]));
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &pod).unwrap();
    let dir = source_of(&volumes, &pod);
    let open = fs::File::open(dir.join("a")).unwrap();
    bench.config_map(json!({"a": "changed", "c": "3"}));
    bench.prepare(&mut volumes, &pod).unwrap();
    assert_eq!(source_of(&volumes, &pod), dir);
    assert_eq!(names(&dir), ["a", "bin", "c"]);
    assert_eq!(read(&dir, "a"), "changed");
    assert_eq!(std::io::read_to_string(open).unwrap(), "1", "an open file does not change");
    // Missing for a moment: the files stay.
    bench.objects.remove_config_map("ns", "cm");
    assert!(bench.prepare(&mut volumes, &pod).unwrap_err().contains("not found"));
    assert_eq!(read(&dir, "a"), "changed");
    volumes.remove().unwrap();
}

#[test]
fn empty_dirs_on_disk() {
    let bench = Bench::new();
    let (volumes, dir) = bench.one(json!({"emptyDir": {}})).unwrap();
    assert!(dir.starts_with(fs::canonicalize(bench.state.path()).unwrap()));
    assert_eq!(mode(&dir), 0o777);
    assert!(!volumes.has_limits());
    volumes.remove().unwrap();
    assert!(!dir.exists());
    let (volumes, dir) = bench.one(json!({"emptyDir": {"sizeLimit": "64Ki"}})).unwrap();
    assert!(volumes.has_limits());
    assert_eq!(volumes.over_limit(), None);
    fs::write(dir.join("big"), vec![1; 100 << 10]).unwrap();
    let words = "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ";
    assert_eq!(volumes.over_limit().as_deref(), Some(words));
    volumes.remove().unwrap();
    assert!(!dir.exists());
}

#[test]
fn empty_dirs_in_memory_are_the_runtimes() {
    let bench = Bench::new();
    let root = rustix::process::geteuid().is_root();
    let gid = if root { 4711 } else { rustix::process::getegid().as_raw() };
    let source = |limit: &str| json!({"emptyDir": {"medium": "Memory", "sizeLimit": limit}});
    let more = json!([{"name": "v", "mountPath": "/part", "subPath": "a/b", "readOnly": true}]);
    let pod = |source, more| pod(source, json!({"fsGroup": gid}), more);
    let all = pod(source("64Ki"), more);
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &all).unwrap();
    let mounts = volumes.mounts(&all.spec.containers[0], &[]).unwrap();
    let whole = PodTmpfs { name: "v".into(), size: Some(64 << 10), gid: Some(gid), sub_path: None };
    assert_eq!(mounts[0].source, MountSource::PodTmpfs(whole.clone()));
    let part = PodTmpfs { sub_path: Some("a/b".into()), ..whole };
    assert_eq!(mounts[1].source, MountSource::PodTmpfs(part));
    assert_eq!((mounts[0].read_only, mounts[1].read_only), (false, true));
    // The kernel keeps the limit.
    assert!(!volumes.has_limits());
    assert_eq!(volumes.over_limit(), None);
    for (field, value, expected) in [
        ("subPath", "/a", "error SubPath `/a` must not be an absolute path"),
        ("subPath", "a/../b", "unable to provision SubPath `a/../b`: must not contain '..'"),
        (
            "mountPropagation",
            "Bidirectional",
            "mountPropagation Bidirectional of volumeMount \"v\" of container \"c\" is not \
             supported on an emptyDir of medium Memory; leave the medium out",
        ),
    ] {
        let all = pod(source("1Gi"), json!([{"name": "v", "mountPath": "/w", field: value}]));
        bench.prepare(&mut volumes, &all).unwrap();
        let error = volumes.mounts(&all.spec.containers[0], &[]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    volumes.remove().unwrap();
}

#[test]
fn what_an_empty_dir_holds_survives_a_second_prepare() {
    let bench = Bench::new();
    let pod = pod(json!({"emptyDir": {}}), json!({}), json!([]));
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &pod).unwrap();
    let dir = source_of(&volumes, &pod);
    fs::write(dir.join("x"), "kept").unwrap();
    bench.prepare(&mut volumes, &pod).unwrap();
    assert_eq!(read(&dir, "x"), "kept");
    volumes.remove().unwrap();
}

#[test]
fn claims_outlive_the_pod() {
    let bench = Bench::new();
    let source = json!({"persistentVolumeClaim": {"claimName": "data"}});
    let (volumes, dir) = bench.one(source.clone()).unwrap();
    assert!(dir.ends_with("volumes/ns/data"));
    fs::write(dir.join("x"), "kept").unwrap();
    volumes.remove().unwrap();
    let (volumes, dir) = bench.one(source).unwrap();
    assert_eq!(read(&dir, "x"), "kept");
    volumes.remove().unwrap();
    let error = bench.error(json!({"persistentVolumeClaim": {"claimName": "../x"}}));
    assert!(error.contains("cannot be the name of a directory"), "{error}");
}

#[test]
fn host_paths_are_the_hosts() {
    let bench = Bench::new();
    let host = tempfile::tempdir().unwrap();
    let at = host.path().join("made/later");
    let (volumes, dir) = bench.one(json!({"hostPath": {"path": at}})).unwrap();
    // Without a type, containerd makes the directory.
    assert_eq!(dir, fs::canonicalize(&at).unwrap());
    fs::write(dir.join("x"), "").unwrap();
    volumes.remove().unwrap();
    assert!(dir.join("x").exists(), "the host's files stay");
}

#[test]
fn fs_group() {
    let bench = Bench::new();
    let root = rustix::process::geteuid().is_root();
    let gid = if root { 4711 } else { rustix::process::getegid().as_raw() };
    let secret = json!({"secret": {"secretName": "s", "defaultMode": 0o400}});
    for (source, file, file_mode, dir_mode) in [
        (json!({"emptyDir": {}}), None, 0, 0o2777),
        (json!({"persistentVolumeClaim": {"claimName": "c"}}), None, 0, 0o2777),
        (secret, Some("user"), 0o440, 0o2777),
    ] {
        let pod = pod(source, json!({"fsGroup": gid}), json!([]));
        let mut volumes = bench.volumes();
        bench.prepare(&mut volumes, &pod).unwrap();
        let dir = source_of(&volumes, &pod);
        assert_eq!(fs::metadata(&dir).unwrap().gid(), gid);
        assert_eq!(mode(&dir), dir_mode, "{dir:?}");
        if let Some(file) = file {
            assert_eq!(mode(&dir.join(file)), file_mode);
            assert_eq!(fs::metadata(dir.join(file)).unwrap().gid(), gid);
        }
        volumes.remove().unwrap();
    }
    // The host's files are not given away.
    let host = tempfile::tempdir().unwrap();
    let before = fs::metadata(host.path()).unwrap().gid();
    let pod = pod(json!({"hostPath": {"path": host.path()}}), json!({"fsGroup": gid}), json!([]));
    let mut volumes = bench.volumes();
    bench.prepare(&mut volumes, &pod).unwrap();
    assert_eq!(fs::metadata(host.path()).unwrap().gid(), before);
    volumes.remove().unwrap();
}
