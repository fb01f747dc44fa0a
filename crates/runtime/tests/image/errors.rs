//! Names, maps and pull policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdfast_runtime::contract::RootFs;
use holdfast_runtime::image::{ImageStore, PullPolicy, Source};

fn mapped(entries: &[(&str, Source)]) -> ImageStore {
    let map = entries.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect();
    ImageStore::new(Path::new("/nonexistent"), map).unwrap()
}

#[test]
fn the_host_is_an_image() {
    let store = mapped(&[("example/tools", Source::Host)]);
    for name in ["host", "example/tools:v3"] {
        let image = store.pull(name, PullPolicy::Never).unwrap();
        assert_eq!(image.root, RootFs::Host);
        assert!(image.is_bare_host());
    }
}

#[test]
fn an_unmapped_image_says_how_to_map_it() {
    let store = mapped(&[]);
    for policy in [PullPolicy::Always, PullPolicy::IfNotPresent] {
        let error = store.pull("nginx:1.27", policy).unwrap_err();
        assert_eq!(error.reason, "ErrImagePull");
        assert!(error.message.contains("--image nginx:1.27=SOURCE"), "{error}");
        assert!(error.message.contains("holdfast.yaml"), "{error}");
    }
    let error = store.pull("nginx:1.27", PullPolicy::Never).unwrap_err();
    assert_eq!(error.reason, "ErrImageNeverPull");
    let words = "Container image \"nginx:1.27\" is not present with pull policy of Never";
    assert_eq!(error.message, words);
}

#[test]
fn an_invalid_name_is_no_pull() {
    let error = mapped(&[]).pull("Bad Name", PullPolicy::Never).unwrap_err();
    assert_eq!(error.reason, "InvalidImageName");
    let words = "Failed to apply default image tag \"Bad Name\": couldn't parse image name \
                 \"Bad Name\": invalid reference format";
    assert!(error.message.starts_with(words), "{error}");
    let error = ImageStore::new(Path::new("/"), vec![("UP".into(), Source::Host)]).unwrap_err();
    assert!(error.to_string().contains("must be lowercase"), "{error}");
}

#[test]
fn a_missing_source_fails_until_it_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let store = mapped(&[("app", Source::Auto(root.clone()))]);
    let error = store.pull("app", PullPolicy::IfNotPresent).unwrap_err();
    assert_eq!(error.reason, "ErrImagePull");
    assert!(error.message.contains("does not exist"), "{error}");
    assert_eq!(store.pull("app", PullPolicy::Never).unwrap_err().reason, "ErrImageNeverPull");
    fs::create_dir(&root).unwrap();
    let image = store.pull("app", PullPolicy::Never).unwrap();
    assert_eq!(image.root, RootFs::Layers(vec![root]));
}

#[test]
fn an_executable_is_its_own_entrypoint() {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("server");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let store = mapped(&[("app", Source::Auto(program.clone()))]);
    let image = store.pull("app", PullPolicy::Always).unwrap();
    assert_eq!(image.root, RootFs::Host);
    assert_eq!(image.config.entrypoint, [program.to_str().unwrap()]);
    assert!(!image.is_bare_host());
}

#[test]
fn the_most_exact_then_the_last_entry_wins() {
    let dir = |name: &str| Source::Dir(Path::new("/").join(name));
    let store = mapped(&[
        ("app:v1", dir("usr")),
        ("app", dir("etc")),
        ("app", dir("proc")),
        ("host", dir("sys")),
    ]);
    let root = |name: &str| store.pull(name, PullPolicy::Always).unwrap().root;
    assert_eq!(root("app:v1"), RootFs::Layers(vec!["/usr".into()]));
    assert_eq!(root("docker.io/library/app"), RootFs::Layers(vec!["/proc".into()]));
    assert_eq!(root("host"), RootFs::Layers(vec!["/sys".into()]));
}
