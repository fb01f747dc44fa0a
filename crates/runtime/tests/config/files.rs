//! Mounts and the files in /etc.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_runtime::contract::{Mount, MountSource};
use serde_json::json;

use super::Bench;

fn at<'a>(mounts: &'a [Mount], target: &str) -> (&'a Path, &'a Mount) {
    let mount = mounts.iter().find(|mount| mount.target == Path::new(target)).unwrap();
    match &mount.source {
        MountSource::Bind(path) | MountSource::BindPart(path) => (path, mount),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_pod_has_its_etc_files() {
    let bench = Bench::new();
    let spec = json!({
        "hostname": "h", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]},
    });
    let (configured, volumes) = bench.configure_at(json!({}), spec).unwrap();
    let mounts = &configured.config.mounts;
    let read = |target: &str| fs::read_to_string(at(mounts, target).0).unwrap();
    let hosts = read("/etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n"), "{hosts}");
    assert!(hosts.contains("10.0.0.7\th\n") && hosts.ends_with("1.2.3.4\tx\ty\n"), "{hosts}");
    assert_eq!(read("/etc/hostname"), "h\n");
    assert_eq!(read("/etc/resolv.conf"), "nameserver 192.0.2.53\n");
    assert!(mounts.iter().all(|mount| !mount.read_only));
    let dir = volumes.directory().to_owned();
    assert!(at(mounts, "/etc/hosts").0.starts_with(&dir));
    volumes.remove().unwrap();
    assert!(!dir.exists());
}

#[test]
fn on_the_hosts_network_the_files_are_the_hosts() {
    let bench = Bench::new();
    let spec = json!({"hostNetwork": true});
    let (configured, volumes) = bench.configure_at(json!({}), spec).unwrap();
    let hosts = fs::read_to_string(at(&configured.config.mounts, "/etc/hosts").0).unwrap();
    let header = "# Kubernetes-managed hosts file (host network).\n";
    let node = fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert_eq!(hosts, format!("{header}{node}"));
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let env = &configured.config.env;
    assert!(env.contains(&("HOSTNAME".into(), name.trim_end().into())), "{env:?}");
    volumes.remove().unwrap();
}

#[test]
fn volumes_come_after_what_they_are_mounted_on() {
    let bench = Bench::new();
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm"}}]});
    let container = json!({
        "env": [{"name": "WHICH", "value": "one"}],
        "volumeMounts": [
            {"name": "v", "mountPath": "/data/deep/er", "subPathExpr": "d/$(WHICH)"},
            {"name": "c", "mountPath": "/etc/hosts", "subPath": "KEY"},
            {"name": "v", "mountPath": "/data"},
            {"name": "c", "mountPath": "/data/deep"},
        ],
    });
    let (configured, volumes) = bench.configure_at(container, spec).unwrap();
    let mounts = &configured.config.mounts;
    let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
    assert_eq!(
        targets,
        ["/data", "/etc/hostname", "/etc/resolv.conf", "/etc/hosts", "/data/deep", "/data/deep/er"]
    );
    assert_eq!(fs::read_to_string(at(mounts, "/etc/hosts").0).unwrap(), "value");
    assert!(at(mounts, "/data/deep/er").0.ends_with("d/one"));
    volumes.remove().unwrap();
}

#[test]
fn a_read_only_root_keeps_the_images_volumes_writable() {
    let mut bench = Bench::new();
    bench.image.config.volumes = vec![PathBuf::from("/cache"), PathBuf::from("/etc")];
    let container = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    let (configured, volumes) = bench.configure_at(container, json!({})).unwrap();
    let mounts = &configured.config.mounts;
    let (path, mount) = at(mounts, "/cache");
    assert!(path.is_dir() && !mount.read_only);
    assert!(at(mounts, "/etc/hostname").1.read_only && !at(mounts, "/etc/hosts").1.read_only);
    assert_eq!(configured.events.len(), 1, "{:?}", configured.events);
    assert!(configured.events[0].1.contains("its volume /etc is hidden"));
    volumes.remove().unwrap();
    let (configured, volumes) = bench.configure_at(json!({}), json!({})).unwrap();
    let mounts = &configured.config.mounts;
    assert!(!mounts.iter().any(|mount| mount.target == Path::new("/cache")));
    volumes.remove().unwrap();
}
