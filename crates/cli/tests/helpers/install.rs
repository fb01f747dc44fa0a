use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{HOLDFAST, done, holdfast, is_root, told};

#[test]
fn the_program_is_there_whole_and_once() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().join("a/b");
    let place = directory.join("holdfast");
    // What a killed install left.
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(".holdfast.holdfast-part"), "half").unwrap();
    std::fs::write(&place, "an older one").unwrap();
    let (code, said) = done(holdfast(&["install", directory.to_str().unwrap()]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(place.to_str().unwrap()), "{said}");
    let installed = std::fs::metadata(&place).unwrap();
    assert_eq!(installed.len(), std::fs::metadata(HOLDFAST).unwrap().len());
    assert_eq!(installed.permissions().mode() & 0o7777, 0o755);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    // A second time nothing is touched.
    assert_eq!(done(holdfast(&["install", directory.to_str().unwrap()])).0, 0);
    assert_eq!(std::fs::metadata(&place).unwrap().ino(), installed.ino());
    // It runs where there is nothing else.
    if is_root("a copy in an empty image") {
        let mut inside = std::process::Command::new("/usr/sbin/chroot");
        inside.arg(&directory).args(["/holdfast", "wait", "-q", "file:/holdfast", "interface:lo"]);
        inside.args(["--", "/holdfast", "--version"]);
        let (code, said) = done(inside);
        assert_eq!((code, said.starts_with("holdfast ")), (0, true), "{said}");
    }
}

#[test]
fn several_at_once_leave_one_whole_program() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("holdfast"), "an older one").unwrap();
    let all: Vec<_> = (0..6)
        .map(|_| holdfast(&["install", temp.path().to_str().unwrap()]).spawn().unwrap())
        .collect();
    for child in all {
        let (code, said) = told(&child.wait_with_output().unwrap());
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    let own = std::fs::read(HOLDFAST).unwrap();
    assert!(std::fs::read(temp.path().join("holdfast")).unwrap() == own, "it is not whole");
}

#[test]
fn where_it_cannot_be_is_said() {
    let (code, said) = done(holdfast(&["install", "/proc/nowhere"]));
    assert_eq!(code, 2);
    assert!(said.contains("cannot write /proc/nowhere: "), "{said}");
}
