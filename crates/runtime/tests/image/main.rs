//! Images from real files: layouts and archives made by a small writer.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod errors;
mod hostile;
mod layers;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_runtime::contract::RootFs;
use holdfast_runtime::image::{Image, ImageStore, LayerForm, PullError, PullPolicy, Source};
use serde_json::json;

use writer::{Layer, Layout, docker_save, gzip};

/// A store with one image `app` from `source`, in the form without privileges.
pub(crate) fn store(temp: &Path, source: Source) -> ImageStore {
    ImageStore::new(&temp.join("state"), vec![("app".into(), source)])
        .unwrap()
        .with_form(LayerForm::Flat)
}

pub(crate) fn pull(store: &ImageStore) -> Result<Image, PullError> {
    store.pull("app", PullPolicy::IfNotPresent)
}

pub(crate) fn root(image: &Image) -> PathBuf {
    match &image.root {
        RootFs::Layers(layers) if layers.len() == 1 => layers[0].clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn base_layer() -> Vec<u8> {
    Layer::new().dir("etc/", 0o755).file("etc/motd", "hello").file("etc/old", "old").finish()
}

#[test]
fn a_layout_gives_files_and_config() {
    let temp = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    let run = json!({
        "Entrypoint": ["/bin/app"], "Cmd": ["serve"], "Env": ["PATH=/bin", "EMPTY=", "A=b=c"],
        "WorkingDir": "/srv", "User": "web:www", "StopSignal": "SIGUSR1",
        "Volumes": {"/data": {}}, "Labels": {"x": "y"},
    });
    let upper = Layer::new().dir("etc", 0o700).file("etc/.wh.old", "").file("new", "new").finish();
    layout.tagged("latest", run, &[base_layer(), upper]);
    layout.write(&temp.path().join("layout"));
    let store = store(temp.path(), Source::Auto(temp.path().join("layout")));
    let image = pull(&store).unwrap();
    assert!(image.id.starts_with("sha256:"));
    let config = &image.config;
    assert_eq!(config.entrypoint, ["/bin/app"]);
    assert_eq!(config.cmd, ["serve"]);
    let env: Vec<String> = config.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["PATH=/bin", "EMPTY=", "A=b=c"]);
    assert_eq!(config.working_dir, Some("/srv".into()));
    assert_eq!(config.user, "web:www");
    assert_eq!(config.stop_signal.as_deref(), Some("SIGUSR1"));
    assert_eq!(config.volumes, [PathBuf::from("/data")]);
    let root = root(&image);
    assert_eq!(fs::read_to_string(root.join("etc/motd")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(root.join("new")).unwrap(), "new");
    assert!(!root.join("etc/old").exists() && !root.join("etc/.wh.old").exists());
}

#[test]
fn an_archive_may_be_compressed() {
    let temp = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), &[base_layer()]);
    fs::write(temp.path().join("a.tar"), layout.archive()).unwrap();
    fs::write(temp.path().join("b.tgz"), gzip(&layout.archive())).unwrap();
    let plain = pull(&store(temp.path(), Source::Auto(temp.path().join("a.tar")))).unwrap();
    let packed = pull(&store(temp.path(), Source::Auto(temp.path().join("b.tgz")))).unwrap();
    assert_eq!(plain, packed);
    assert_eq!(fs::read_to_string(root(&plain).join("etc/motd")).unwrap(), "hello");
}

#[test]
fn what_docker_save_wrote_before_oci() {
    let temp = tempfile::tempdir().unwrap();
    let archive = docker_save("app:latest", &json!({"Cmd": ["x"]}), &base_layer());
    fs::write(temp.path().join("a.tar"), archive).unwrap();
    let store = store(temp.path(), Source::Auto(temp.path().join("a.tar")));
    let image = pull(&store).unwrap();
    assert_eq!(image.config.cmd, ["x"]);
    assert!(root(&image).join("etc/motd").exists());
}

#[test]
fn layers_are_unpacked_once_and_again_when_the_image_changes() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("layout");
    let mut layout = Layout::default();
    layout.tagged("latest", json!({"Cmd": ["1"]}), &[base_layer()]);
    layout.write(&dir);
    let first_store = store(temp.path(), Source::Auto(dir.clone()));
    let first = pull(&first_store).unwrap();
    let inode = fs::metadata(root(&first)).unwrap().ino();
    let again = pull(&store(temp.path(), Source::Auto(dir.clone()))).unwrap();
    assert_eq!(again, first);
    assert_eq!(fs::metadata(root(&again)).unwrap().ino(), inode);
    let mut changed = Layout::default();
    changed.tagged("latest", json!({"Cmd": ["2"]}), &[Layer::new().file("f", "2").finish()]);
    changed.write(&dir);
    let second = pull(&first_store).unwrap();
    assert_eq!(second.config.cmd, ["2"]);
    assert!(root(&second).join("f").exists());
    fs::remove_dir_all(root(&second)).unwrap();
    assert!(root(&pull(&first_store).unwrap()).join("f").exists(), "a removed layer comes back");
}

#[test]
fn many_at_once_get_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), &[base_layer()]);
    layout.write(&temp.path().join("layout"));
    let source = Source::Auto(temp.path().join("layout"));
    let images: Vec<Image> = std::thread::scope(|scope| {
        let one = || pull(&store(temp.path(), source.clone())).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fs::read_to_string(root(&images[0]).join("etc/motd")).unwrap(), "hello");
    let left = fs::read_dir(temp.path().join("state/images/flat/sha256")).unwrap().count();
    assert_eq!(left, 1, "nothing is left half unpacked");
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let temp = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    let mut other = layout.image("sparc", json!({"Cmd": ["other"]}), &[base_layer()], true);
    other["platform"] = json!({"os": "linux", "architecture": "sparc"});
    let mut mine = layout.image(writer::arch(), json!({"Cmd": ["mine"]}), &[base_layer()], true);
    mine["platform"] = json!({"os": "linux", "architecture": writer::arch()});
    let attestation = json!({
        "digest": mine["digest"], "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    });
    let index = json!({"schemaVersion": 2, "manifests": [other, mine, attestation]});
    let digest = layout.blob(index.to_string().into_bytes());
    layout.manifests.push(json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest,
    }));
    layout.write(&temp.path().join("layout"));
    let image = pull(&store(temp.path(), Source::Auto(temp.path().join("layout")))).unwrap();
    assert_eq!(image.config.cmd, ["mine"]);
}

#[test]
fn one_of_several_images_is_chosen_by_tag_or_reference() {
    let temp = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    layout.tagged("v1", json!({"Cmd": ["1"]}), &[base_layer()]);
    layout.tagged("example.com/app:v2", json!({"Cmd": ["2"]}), &[base_layer()]);
    let dir = temp.path().join("layout");
    layout.write(&dir);
    let store = |text: &str| {
        let source = Source::parse(text, temp.path()).unwrap();
        let map = vec![("app".to_owned(), source.clone()), ("example.com/app".to_owned(), source)];
        ImageStore::new(&temp.path().join("state"), map).unwrap().with_form(LayerForm::Flat)
    };
    let cmd = |text: &str, image: &str| {
        store(text).pull(image, PullPolicy::Always).map(|image| image.config.cmd[0].clone())
    };
    assert_eq!(cmd("layout", "app:v1").unwrap(), "1");
    assert_eq!(cmd("layout", "example.com/app:v2").unwrap(), "2");
    assert_eq!(cmd("oci:layout:v1", "app").unwrap(), "1");
    assert_eq!(cmd("oci:layout:example.com/app:v2", "app").map_err(|e| e.message).unwrap(), "2");
    let error = cmd("layout", "app").unwrap_err().message;
    assert!(error.contains("several images (v1, example.com/app:v2)"), "{error}");
    let error = cmd("oci:layout:v3", "app").unwrap_err().message;
    assert!(error.contains("no image \"v3\", only v1"), "{error}");
}
