//! How the program is linked.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A static program that may be loaded anywhere has a list of 40,000 places to be mended at its start: 1 MB,
    // of which 1% is left in this form. Only from 2.36 on glibc's own start code knows it.
    let glibc = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let glibc = glibc.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if glibc.is_ok_and(|text| version(&text).is_some_and(|version| version >= (2, 36))) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Of `glibc 2.36`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
