//! Archives that try to get out, or that are damaged.

use std::fs;

use holdfast_runtime::image::Source;
use serde_json::json;
use tar::EntryType;

use super::writer::{Layer, Layout, arch, docker_save, gzip, sha256};
use super::{base_layer, pull, store};

/// A directory in memory where there is one: some of these tests unpack hundreds of archives.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Unpacks one layer; the error's text, and whether anything was written outside.
fn unpack(layer: &[u8]) -> (Result<(), String>, bool) {
    let temp = scratch();
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), &[layer.to_vec()]);
    layout.write(&temp.path().join("layout"));
    let store = store(temp.path(), Source::Auto(temp.path().join("layout")));
    let result = pull(&store).map(|_| ()).map_err(|err| err.message);
    let images = temp.path().join("state/images");
    let mut evil = temp.path().join("evil").exists() || temp.path().join("state/evil").exists();
    for dir in ["", "tmp", "flat", "flat/sha256"] {
        evil |= images.join(dir).join("evil").exists();
    }
    (result, evil)
}

#[test]
fn dots_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil", "a/b/../evil"] {
        let (result, evil) = unpack(&Layer::new().file(name, "x").finish());
        let error = result.unwrap_err();
        assert!(error.contains("leads out of the image"), "{name}: {error}");
        assert!(!evil, "{name}");
    }
}

#[test]
fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    for link in [target, "../../../../../../../..", "/"] {
        let layer = Layer::new().symlink("out", link).file("out/evil", "x").finish();
        let (_, evil) = unpack(&layer);
        assert!(!evil, "{link}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
    }
    // A file over a link replaces the link, not what it points to.
    let file = outside.path().join("file");
    fs::write(&file, "mine").unwrap();
    let layer = Layer::new().symlink("f", file.to_str().unwrap()).file("f", "evil").finish();
    unpack(&layer).0.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    // A directory's mode is not set through a link.
    let layer = Layer::new().symlink("d", target).dir("d", 0o777).finish();
    let (result, _) = unpack(&layer);
    result.unwrap();
    // Removing does not reach out either.
    let layer = Layer::new().symlink("d", target).file("d/.wh.file", "").finish();
    let _ = unpack(&layer);
    let layer = Layer::new().symlink("d", target).file("d/.wh..wh..opq", "").finish();
    let _ = unpack(&layer);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn hard_links_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("secret");
    fs::write(&file, "mine").unwrap();
    let (result, _) = unpack(&Layer::new().hard_link("l", "../../secret").finish());
    assert!(result.unwrap_err().contains("leads out"));
    let (result, _) = unpack(&Layer::new().hard_link("l", file.to_str().unwrap()).finish());
    assert!(result.unwrap_err().contains("not in the layer"));
    let layer = Layer::new()
        .symlink("d", outside.path().to_str().unwrap())
        .hard_link("l", "d/secret")
        .finish();
    assert!(unpack(&layer).0.is_err());
}

#[test]
fn whiteouts_of_dots_are_refused() {
    for name in [".wh...", ".wh..", "a/.wh..."] {
        let (result, _) = unpack(&Layer::new().file("a/x", "").file(name, "").finish());
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn damage_is_found_and_nothing_stays() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("layout");
    let layer = base_layer();
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), std::slice::from_ref(&layer));
    let blob = format!("blobs/sha256/{}", &sha256(&gzip(&layer))[7..]);
    let cases: [(&str, Vec<u8>); 3] = [
        ("has digest", gzip(&Layer::new().file("other", "x").finish())),
        ("has digest", gzip(&layer)[..40].to_vec()),
        ("has digest", Vec::new()),
    ];
    for (words, data) in cases {
        layout.files.insert(blob.clone(), data);
        layout.write(&dir);
        let error = pull(&store(temp.path(), Source::Auto(dir.clone()))).unwrap_err();
        assert_eq!(error.reason, "ErrImagePull");
        assert!(error.message.contains(words), "{error}");
        let images = temp.path().join("state/images");
        assert_eq!(fs::read_dir(images.join("flat/sha256")).unwrap().count(), 0);
    }
    fs::remove_file(dir.join(&blob)).unwrap();
    let error = pull(&store(temp.path(), Source::Auto(dir.clone()))).unwrap_err().message;
    assert!(error.contains("cannot read layer"), "{error}");
}

#[test]
fn a_wrong_diff_id_config_or_manifest_is_found() {
    let temp = tempfile::tempdir().unwrap();
    // docker save has no digest of the file, only the config's.
    let archive = docker_save("app", &json!({}), &base_layer());
    let mut text = archive.clone();
    let at = text.windows(5).position(|w| w == b"hello").unwrap();
    text[at] = b'j';
    fs::write(temp.path().join("a.tar"), text).unwrap();
    let source = Source::Archive(temp.path().join("a.tar"), None);
    let error = pull(&store(temp.path(), source)).unwrap_err().message;
    assert!(error.contains("uncompressed content"), "{error}");
    let dir = temp.path().join("layout");
    let mut layout = Layout::default();
    layout.tagged("latest", json!({}), &[base_layer()]);
    let digest = layout.manifests[0]["digest"].as_str().unwrap()[7..].to_owned();
    layout.files.insert(format!("blobs/sha256/{digest}"), b"{}".to_vec());
    layout.write(&dir);
    let error = pull(&store(temp.path(), Source::Auto(dir))).unwrap_err().message;
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn nonsense_is_explained() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("layout");
    fs::create_dir(&dir).unwrap();
    let attempt = |index: &str| {
        fs::write(dir.join("index.json"), index).unwrap();
        pull(&store(temp.path(), Source::Oci(dir.clone(), None))).unwrap_err().message
    };
    for (index, words) in [
        ("", "index.json is not as it should be"),
        ("[]", "has no manifests"),
        ("7", "not as it should be"),
        (r#"{"manifests": []}"#, "lists no image"),
        (r#"{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}"#, "is malformed"),
        (r#"{"manifests": [{"digest": "md5:00"}]}"#, "is not sha256"),
        (
            r#"{"manifests": [{"digest": "x", "platform": {"os": "linux", "architecture": "z80"}}]}"#,
            "only for linux/z80",
        ),
    ] {
        let error = attempt(index);
        assert!(error.contains(words), "{index}: {error}");
    }
    // An index that contains itself cannot be written (digests), but a deep one can.
    let mut layout = Layout::default();
    let mut inner = layout.image(arch(), json!({}), &[], true);
    for _ in 0..10 {
        let index = json!({"manifests": [inner]}).to_string();
        inner = json!({"digest": layout.blob(index.into_bytes())});
    }
    layout.manifests.push(inner);
    layout.write(&dir);
    let error = pull(&store(temp.path(), Source::Oci(dir, None))).unwrap_err().message;
    assert!(error.contains("nested too deep"), "{error}");
    let file = temp.path().join("a.tar");
    fs::write(&file, Layer::new().file("readme", "x").finish()).unwrap();
    let error = pull(&store(temp.path(), Source::Auto(file.clone()))).unwrap_err().message;
    assert!(error.contains("it holds no image"), "{error}");
    fs::write(
        &file,
        &Layer::new().entry(EntryType::Regular, "x", 0, "", &[7; 5000]).finish()[..900],
    )
    .unwrap();
    let error = pull(&store(temp.path(), Source::Auto(file))).unwrap_err().message;
    assert!(error.contains("a.tar"), "{error}");
}

/// A small generator, so that a failure can be repeated.
fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 33).unwrap()
}

#[test]
fn random_damage_never_panics_or_leads_out() {
    let temp = scratch();
    let layer = Layer::new()
        .dir("d", 0o755)
        .file("d/f", "text")
        .symlink("d/l", "../x")
        .hard_link("h", "d/f")
        .file("d/.wh.gone", "")
        .xattr("user.x", b"y")
        .file("last", "end")
        .finish();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let archive = docker_save("app", &json!({"Env": ["A=b"]}), &layer);
    for round in 0..100 {
        let mut damaged = archive.clone();
        for _ in 0..=next(&mut seed) % 4 {
            let at = next(&mut seed) % damaged.len();
            damaged[at] = u8::try_from(next(&mut seed) % 256).unwrap();
        }
        if round % 5 == 0 {
            damaged.truncate(next(&mut seed) % damaged.len());
        }
        let file = temp.path().join("a.tar");
        fs::write(&file, &damaged).unwrap();
        // Damage in padding goes unnoticed; whatever else must be an error.
        let _ = pull(&store(temp.path(), Source::Archive(file, None)));
    }
    // The layer itself, with digests made to fit: only the unpacker stands in the way.
    for _ in 0..100 {
        let mut damaged = layer.clone();
        for _ in 0..=next(&mut seed) % 3 {
            let at = next(&mut seed) % damaged.len();
            damaged[at] = u8::try_from(next(&mut seed) % 256).unwrap();
        }
        // A header is taken only with the right sum.
        for header in damaged.chunks_mut(512).filter(|block| &block[257..262] == b"ustar") {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let (_, evil) = unpack(&damaged);
        assert!(!evil);
    }
}
