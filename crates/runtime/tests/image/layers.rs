//! What layers are turned into, in both forms.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use holdfast_runtime::contract::RootFs;
use holdfast_runtime::image::{ImageStore, LayerForm, PullPolicy, Source};
use serde_json::json;
use tar::EntryType;

use super::writer::{Layer, Layout};
use super::{pull, root, store};

fn layout(temp: &std::path::Path, layers: &[Vec<u8>]) -> Source {
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), layers);
    layout.write(&temp.join("layout"));
    Source::Auto(temp.join("layout"))
}

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 64];
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let got = rustix::fs::lgetxattr(path.as_c_str(), name, &mut value[..]).ok()?;
    value.truncate(got);
    Some(value)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn modes_links_times_and_attributes_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .entry(EntryType::Directory, "./", 0o711, "", b"")
        .entry(EntryType::Regular, "bin/su", 0o4755, "", b"su")
        .hard_link("bin/alias", "bin/su")
        .symlink("sh", "/bin/su")
        .symlink("lib", "usr/lib")
        .dir("usr/lib/", 0o755)
        .file("lib/libc.so", "elf")
        .entry(EntryType::Fifo, "pipe", 0o622, "", b"")
        .xattr("user.note", b"kept")
        .file("noted", "x")
        .xattr("user.overlay.opaque", b"y")
        .dir("plain", 0o1777)
        .finish();
    let image = pull(&store(temp.path(), layout(temp.path(), &[layer]))).unwrap();
    let root = root(&image);
    let mode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().permissions().mode();
    assert_eq!(mode("") & 0o7777, 0o711);
    assert_eq!(mode("bin/su") & 0o7777, 0o4755);
    assert_eq!(mode("plain") & 0o7777, 0o1777);
    let ino = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(ino("bin/su"), ino("bin/alias"));
    assert_eq!(fs::read_link(root.join("sh")).unwrap().to_str(), Some("/bin/su"));
    assert_eq!(fs::read_to_string(root.join("usr/lib/libc.so")).unwrap(), "elf");
    assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    for name in ["bin/su", "sh", "plain"] {
        let time = fs::symlink_metadata(root.join(name)).unwrap().mtime();
        assert_eq!(time, 1_000_000_000, "{name}");
    }
    if let Some(note) = xattr(&root.join("noted"), "user.note") {
        assert_eq!(note, b"kept");
    } else {
        assert!(!is_root(), "an extended attribute is lost");
    }
    assert_eq!(xattr(&root.join("plain"), "user.overlay.opaque"), None);
}

#[test]
fn flat_whiteouts_hide_only_what_is_below() {
    let temp = tempfile::tempdir().unwrap();
    let lower = Layer::new()
        .file("dir/a", "1")
        .file("dir/b", "1")
        .file("gone/deep/x", "1")
        .file("kept", "1")
        .file("replaced/old", "1")
        .finish();
    // The marks stand before, between and after what the layer itself brings.
    let upper = Layer::new()
        .file("dir/new", "2")
        .file("dir/.wh..wh..opq", "")
        .file("dir/sub/newer", "2")
        .file(".wh.gone", "")
        .file("replaced/new", "2")
        .file(".wh.replaced", "")
        .file(".wh..wh.plnk", "")
        .file(".wh.never-there", "")
        .finish();
    let image = pull(&store(temp.path(), layout(temp.path(), &[lower, upper]))).unwrap();
    let root = root(&image);
    let mut names: Vec<String> = Vec::new();
    let mut todo = vec![root.clone()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                names.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    assert_eq!(names, ["dir/new", "dir/sub/newer", "kept", "replaced/new"]);
}

#[test]
fn overlay_whiteouts_are_what_the_kernel_expects() {
    if !is_root() {
        eprintln!("skipped: overlay whiteouts need root");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let lower = Layer::new().file("dir/a", "1").file("gone", "1").file("back/old", "1").finish();
    let upper = Layer::new()
        .file("dir/.wh..wh..opq", "")
        .file("dir/new", "2")
        .file(".wh.gone", "")
        .file(".wh.back", "")
        .dir("back", 0o755)
        .finish();
    let source = layout(temp.path(), &[lower, upper]);
    let map = vec![("app".to_owned(), source)];
    let store = ImageStore::new(&temp.path().join("state"), map).unwrap();
    let store = store.with_form(LayerForm::Overlay);
    let image = store.pull("app", PullPolicy::Always).unwrap();
    let RootFs::Layers(layers) = &image.root else { panic!("{image:?}") };
    assert_eq!(layers.len(), 2);
    assert!(layers[0].join("gone").is_file(), "the lowest layer comes first");
    let gone = fs::symlink_metadata(layers[1].join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for dir in ["dir", "back"] {
        let opaque = xattr(&layers[1].join(dir), "trusted.overlay.opaque");
        assert_eq!(opaque.as_deref(), Some(&b"y"[..]), "{dir}");
    }
    assert_eq!(xattr(&layers[0].join("dir"), "trusted.overlay.opaque"), None);
}

#[test]
fn a_layer_is_shared_by_images_and_too_many_are_merged() {
    if !is_root() {
        eprintln!("skipped: layers are stacked only as root");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> =
        (0..40).map(|i| Layer::new().file(&format!("f{i}"), &i.to_string()).finish()).collect();
    let mut layout = Layout::default();
    layout.tagged("few", json!({"Cmd": ["few"]}), &layers[..2]);
    layout.tagged("more", json!({"Cmd": ["more"]}), &layers[..3]);
    layout.tagged("many", json!({}), &layers);
    layout.write(&temp.path().join("layout"));
    let source = Source::Auto(temp.path().join("layout"));
    let store = ImageStore::new(&temp.path().join("state"), vec![("app".to_owned(), source)])
        .unwrap()
        .with_form(LayerForm::Overlay);
    let layers = |tag: &str| match store.pull(tag, PullPolicy::Always).unwrap().root {
        RootFs::Layers(layers) => layers,
        RootFs::Host | RootFs::Image(_) => panic!("host"),
    };
    assert_eq!(layers("app:few")[..2], layers("app:more")[..2]);
    let many = layers("app:many");
    assert_eq!(many.len(), 1);
    assert!(many[0].join("f0").exists() && many[0].join("f39").exists());
}

#[test]
fn directories_that_may_not_be_written_to_are_filled_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let lower = Layer::new()
        .dir("./", 0o555)
        .dir("usr", 0o555)
        .dir("usr/bin", 0o555)
        .file("usr/bin/a", "1")
        .finish();
    let upper = Layer::new().file("usr/bin/b", "2").file("usr/bin/.wh.a", "").finish();
    let image = pull(&store(temp.path(), layout(temp.path(), &[lower, upper]))).unwrap();
    let bin = root(&image).join("usr/bin");
    assert_eq!(fs::metadata(&bin).unwrap().permissions().mode() & 0o7777, 0o555);
    assert!(bin.join("b").exists() && !bin.join("a").exists());
    // So that the directory can be removed by a test that is not root.
    for dir in [&root(&image), bin.parent().unwrap(), &bin] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
